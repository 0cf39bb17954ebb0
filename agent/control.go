package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/api/server"
	"tillbridge/agent/engine"
	"tillbridge/agent/payment"
	"tillbridge/queue"
)

// control answers the command line.
type control struct{ a *running }

var _ server.Control = control{}

// Status is the one screen.
func (c control) Status(ctx context.Context) (api.Status, error) {
	a := c.a
	s := api.Status{
		Schema: "status/1", Version: a.o.Version, PID: os.Getpid(), StartedAt: a.started, RSSMB: residentMB(),
		StartMS: a.startMS(), Listen: a.listen, DataDir: a.o.Config.Agent.Data, Config: a.o.ConfigPath,
		InDoubt: []string{}, Alerts: []api.Alert{}, Devices: []api.Device{},
	}
	var err error
	if s.Devices, err = c.Devices(ctx); err != nil {
		return s, err
	}
	if leg := a.acquirerLeg(); leg != nil {
		s.Acquirer, s.Online = leg, leg.State == "online"
	}
	q, err := c.QueueSummary(ctx)
	if err != nil {
		return s, err
	}
	s.Queue = &q
	if q.Sink != "" {
		s.CRM = &api.Leg{Name: q.Sink, State: q.State, Detail: q.Reason, Waiting: q.Count, NextTry: q.NextAt}
	}
	if err := c.payments(ctx, &s); err != nil {
		return s, err
	}
	c.alerts(&s)
	for _, d := range s.Devices {
		if d.Encryption != "software" {
			continue
		}
		if _, fault := a.encrypt.text(ctx); fault != nil {
			s.Alerts = append(s.Alerts, notEncrypted(fault))
		}
		s.Alerts = append(s.Alerts, a.encrypt.warnings()...)
		break
	}
	return s, nil
}

// payments fills what concerns today's payments and those in doubt.
func (c control) payments(ctx context.Context, s *api.Status) error {
	doubt, err := c.a.engine.Payments(ctx, engine.Filter{Status: string(payment.InDoubt), Limit: 200})
	if err != nil {
		return err
	}
	for _, p := range doubt {
		s.InDoubt = append(s.InDoubt, p.ID)
	}
	now := time.Now()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	today := api.Today{}
	after := ""
	for {
		list, err := c.a.engine.Payments(ctx, engine.Filter{Newest: true, After: after, Limit: 200})
		if err != nil {
			return err
		}
		for _, p := range list {
			if after == "" && s.Last == nil {
				last := server.PaymentOf(p)
				s.Last = &last
			}
			if p.Created.Before(midnight) {
				list = nil
				break
			}
			count(&today, p.State.Status)
		}
		if len(list) < 200 {
			break
		}
		after = list[len(list)-1].ID
	}
	s.Payments = &today
	return nil
}

func count(t *api.Today, s payment.Status) {
	t.Total++
	switch s {
	case payment.Succeeded, payment.Authorized, payment.AcceptedOffline:
		t.Succeeded++
	case payment.Declined:
		t.Declined++
	case payment.Canceled:
		t.Canceled++
	case payment.Failed:
		t.Failed++
	case payment.Reversed:
		t.Reversed++
	case payment.InDoubt:
		t.InDoubt++
	}
}

func (c control) alerts(s *api.Status) {
	if n := len(s.InDoubt); n > 0 {
		s.Alerts = append(s.Alerts, api.Alert{Code: "tx.in_doubt", Severity: "critical",
			Text:   fmt.Sprintf("%d payment(s) in doubt: do not run the card again", n),
			Remedy: "tillbridge tx show " + s.InDoubt[0]})
	}
	for _, d := range s.Devices {
		if d.State == "absent" || d.State == "not answering" {
			s.Alerts = append(s.Alerts, api.Alert{Code: "device." + d.ID, Severity: "critical",
				Text: d.ID + " " + d.State + ": " + d.Detail, Remedy: "tillbridge devices info " + d.ID})
		}
	}
	if s.Acquirer != nil && !s.Online {
		s.Alerts = append(s.Alerts, api.Alert{Code: "path.host", Severity: "critical", Text: "the acquirer is out of reach: " + s.Acquirer.Detail,
			Remedy: "check the network and acquirer.addr in the configuration"})
	}
	if s.Queue != nil && s.Queue.Dead > 0 {
		s.Alerts = append(s.Alerts, api.Alert{Code: "queue.dead", Severity: "warn",
			Text: fmt.Sprintf("%d event(s) were refused by the CRM and put aside", s.Queue.Dead), Remedy: "tillbridge queue list --state dead"})
	}
	if s.CRM != nil && s.CRM.State != "online" && s.Queue.Count > 0 {
		s.Alerts = append(s.Alerts, api.Alert{Code: "path.crm", Severity: "warn",
			Text: fmt.Sprintf("the CRM does not take events (%d waiting): %s", s.Queue.Count, s.CRM.Detail), Remedy: "tillbridge queue summary"})
	}
}

// Operations lists what was done about a payment.
func (c control) Operations(ctx context.Context, id string) ([]payment.Operation, error) {
	return c.a.engine.Operations(ctx, id)
}

// QueueSummary says what waits for the CRM.
func (c control) QueueSummary(ctx context.Context) (api.QueueSummary, error) {
	q := api.QueueSummary{Schema: "queue.summary/1", Totals: map[string]int64{}}
	if c.a.forwarder == nil {
		return q, nil
	}
	d, err := c.a.store.Depth(ctx, crmConsumer)
	if err != nil {
		return q, err
	}
	st := c.a.forwarder.Status()
	q.Count, q.Dead, q.Sink, q.State, q.Reason = d.Pending, d.Dead, st.Sink, st.State, st.Reason
	q.Online = st.State == "online"
	if !d.Oldest.IsZero() && d.Pending > 0 {
		q.OldestAt = &d.Oldest
	}
	if next, err := c.a.store.NextDue(ctx, crmConsumer); err == nil && !next.IsZero() {
		q.NextAt = &next
	}
	if !st.PausedUntil.IsZero() && (q.NextAt == nil || st.PausedUntil.After(*q.NextAt)) {
		until := st.PausedUntil
		q.NextAt = &until
	}
	return q, nil
}

// QueueItems lists what waits or was put aside, oldest first.
func (c control) QueueItems(ctx context.Context, state string, limit int) ([]api.QueueItem, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	items := []api.QueueItem{}
	if state != "dead" {
		waiting, err := c.a.store.Waiting(ctx, crmConsumer, limit)
		if err != nil {
			return nil, err
		}
		for _, w := range waiting {
			item := c.item(w.Message, "waiting", w.Attempts, w.Reason)
			if w.Attempts > 0 {
				item.State = "retry"
			}
			if !w.NotBefore.IsZero() {
				at := w.NotBefore
				item.NextAt = &at
			}
			items = append(items, item)
		}
	}
	if state != "waiting" {
		err := c.a.store.View(ctx, func(tx *queue.Tx) error {
			dead, err := tx.DeadList(crmConsumer, 0, limit)
			for _, m := range dead {
				items = append(items, c.item(m.Message, "dead", m.Attempts, m.Reason))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(items) > limit {
		items = items[:limit]
	}
	return items, nil
}

// QueueItem is one item with its event.
func (c control) QueueItem(ctx context.Context, id uint64) (api.QueueItem, error) {
	for _, state := range []string{"waiting", "dead"} {
		items, err := c.QueueItems(ctx, state, 1000)
		if err != nil {
			return api.QueueItem{}, err
		}
		for _, item := range items {
			if item.ID != id {
				continue
			}
			err := c.a.store.View(ctx, func(tx *queue.Tx) error {
				m, err := tx.Message(id)
				if err != nil {
					return err
				}
				body, err := c.a.event(m)
				if err != nil {
					return err
				}
				item.Event = json.RawMessage(body)
				return nil
			})
			return item, err
		}
	}
	return api.QueueItem{}, &server.Error{ErrorCode: "control.not_found", Detail: fmt.Sprintf("no event %d waits or was put aside", id)}
}

func (c control) item(m queue.Message, state string, attempts int, reason string) api.QueueItem {
	item := api.QueueItem{ID: m.Seq, State: state, OrderKey: m.OrderKey, Attempts: attempts, Recorded: m.Time, Reason: reason, BodyBytes: len(m.Body)}
	if e, err := engine.DecodeEvent(c.a.sealer, m); err == nil {
		item.Type, item.Subject = string(e.Type), e.Subject
	}
	return item
}

// ResumeSink ends a pause of the CRM sink.
func (c control) ResumeSink(context.Context) error {
	if c.a.forwarder == nil {
		return errors.New("no CRM is configured")
	}
	c.a.forwarder.Resume()
	return nil
}
