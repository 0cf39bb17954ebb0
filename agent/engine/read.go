package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"tillbridge/agent/payment"
	"tillbridge/queue"
)

// Filter selects payments for [Engine.Payments]. Empty fields select nothing;
// at most one of Reference, Key, RegisterID and Status is looked up by index
// and the others filter.
type Filter struct {
	Reference  string
	Credential string // with Key: its scope; empty means any
	Key        string
	RegisterID string
	Status     string // a status, or "open"
	After      string // id of the last payment of the page before
	Limit      int    // 0 means 50, at most 200
	Newest     bool   // newest first
}

// Payment returns a payment.
func (e *Engine) Payment(ctx context.Context, id string) (payment.Payment, error) {
	h, err := e.read(ctx, id)
	if err != nil {
		return payment.Payment{}, err
	}
	if h.Payment == nil {
		return payment.Payment{}, refuse(ErrNotFound, "", "%.40q is not a payment", id)
	}
	return *h.Payment, nil
}

// Operation returns a refund, void or capture.
func (e *Engine) Operation(ctx context.Context, id string) (payment.Operation, error) {
	h, err := e.read(ctx, id)
	if err != nil {
		return payment.Operation{}, err
	}
	if h.Operation == nil {
		return payment.Operation{}, refuse(ErrNotFound, "", "%.40q is not an operation", id)
	}
	return *h.Operation, nil
}

// RefundByID returns a refund; an operation of another kind is ErrNotFound.
func (e *Engine) RefundByID(ctx context.Context, id string) (payment.Operation, error) {
	o, err := e.Operation(ctx, id)
	if err == nil && o.Kind != payment.KindRefund || errors.Is(err, ErrNotFound) {
		return payment.Operation{}, refuse(ErrNoRefund, "", "%.40q is not a refund", id)
	}
	return o, err
}

func (e *Engine) read(ctx context.Context, id string) (*held, error) {
	var h *held
	err := e.o.Store.View(ctx, func(tx *queue.Tx) error {
		r, err := tx.Get(id)
		if err != nil {
			return err
		}
		h, err = e.decode(r)
		return err
	})
	return h, e.readError(id, err)
}

func (e *Engine) readError(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrInvalid):
		return refuse(ErrNotFound, "", "no record %.40q", id)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Err: ErrStore, ID: id, Detail: err.Error(), Moved: payment.MovedUnknown, Again: payment.RetryWait}
}

// Payments lists payments in order of creation. A record that cannot be read
// is left out and logged.
func (e *Engine) Payments(ctx context.Context, f Filter) ([]payment.Payment, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 200)
	q := queue.Query{Index: indexKind, Value: kindPayment, Reverse: f.Newest, Limit: 100}
	switch {
	case f.Key != "":
		q.Index, q.Value = indexKey, hashIndex(f.Key)
	case f.Reference != "":
		q.Index, q.Value = indexReference, hashIndex(f.Reference)
	case f.Status == "open":
		q.Index, q.Value = indexOpen, "1"
	case f.RegisterID != "":
		q.Index, q.Value = indexRegister, f.RegisterID
	case f.Status != "":
		q.Index, q.Value = indexStatus, f.Status
	}
	out := []payment.Payment{}
	err := e.o.Store.View(ctx, func(tx *queue.Tx) error {
		if f.After != "" {
			r, err := tx.Get(f.After)
			if err != nil {
				return err
			}
			q.After = r.Number
		}
		for len(out) < f.Limit {
			page, err := tx.List(q)
			if err != nil {
				return err
			}
			for _, r := range page {
				q.After = r.Number
				h, err := e.decode(r)
				if err != nil {
					e.log.Error("a record is left out of a list", "id", r.ID, "err", err)
					continue
				}
				if h.Payment != nil && f.matches(h.Payment) && len(out) < f.Limit {
					out = append(out, *h.Payment)
				}
			}
			if len(page) < q.Limit {
				return nil
			}
		}
		return nil
	})
	return out, e.readError(f.After, err)
}

func (f Filter) matches(p *payment.Payment) bool {
	return (f.Reference == "" || p.Request.Reference == f.Reference) &&
		(f.Key == "" || p.Key == f.Key && (f.Credential == "" || p.Credential == f.Credential)) &&
		(f.RegisterID == "" || p.Request.RegisterID == f.RegisterID) &&
		(f.Status == "" || f.Status == "open" && p.State.Open() || f.Status == string(p.State.Status))
}

// LastPayment returns the newest payment of a register: what a till asks after
// a power cut.
func (e *Engine) LastPayment(ctx context.Context, register string) (payment.Payment, error) {
	if e.lanes[register] == nil {
		return payment.Payment{}, refuse(ErrRegister, "", "no register %.40q is configured", register)
	}
	list, err := e.Payments(ctx, Filter{RegisterID: register, Newest: true, Limit: 1})
	if err != nil {
		return payment.Payment{}, err
	}
	if len(list) == 0 {
		return payment.Payment{}, refuse(ErrNotFound, "", "register %s has no payment", register)
	}
	return list[0], nil
}

// Operations lists the operations under a payment, oldest first.
func (e *Engine) Operations(ctx context.Context, paymentID string) ([]payment.Operation, error) {
	p, err := e.Payment(ctx, paymentID)
	if err != nil {
		return nil, err
	}
	out := []payment.Operation{}
	for _, id := range p.Operations {
		o, err := e.Operation(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// Events returns up to limit events after a sequence number, in order. Event
// consumers dedupe on ID. An event that cannot be read is left out and logged.
func (e *Engine) Events(ctx context.Context, after uint64, limit int) ([]payment.Event, error) {
	if limit <= 0 {
		limit = 100
	}
	out := []payment.Event{}
	for {
		messages, err := e.o.Store.Read(ctx, payment.Topic, after, limit)
		if err != nil {
			return nil, e.readError("", err)
		}
		for _, m := range messages {
			after = m.Seq
			ev, err := DecodeEvent(e.o.Sealer, m)
			if err != nil {
				e.log.Error("an event is left out", "seq", m.Seq, "err", err)
				continue
			}
			out = append(out, ev)
		}
		if len(out) > 0 || len(messages) < limit {
			return out, nil
		}
	}
}

// Wait returns a payment once it no longer runs (it is final, in doubt and
// parked, or waits for a person), or as it is when ctx ends. It holds no lock.
func (e *Engine) Wait(ctx context.Context, id string) (payment.Payment, error) {
	for {
		changed := e.Changed()
		p, err := e.Payment(context.WithoutCancel(ctx), id)
		if err != nil {
			return p, err
		}
		switch p.State.Status {
		case payment.Pending, payment.InProgress:
		default:
			return p, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p, nil
		}
	}
}

// RegisterStatus is a register at work, for status screens.
type RegisterStatus struct {
	RegisterID string
	DeviceID   string
	Holder     string // id of the payment or operation that holds it, or empty
	Closed     string // why nothing may run here, or empty
}

// Registers returns a picture of every register, ordered by id.
func (e *Engine) Registers() []RegisterStatus {
	var out []RegisterStatus
	for id, l := range e.lanes {
		l.mu.Lock()
		s := RegisterStatus{RegisterID: id, DeviceID: l.DeviceID}
		if why, ok := errors.AsType[*Error](l.closed()); ok {
			s.Closed = why.Detail
		}
		if l.current != nil {
			s.Holder = l.current.id
		}
		l.mu.Unlock()
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b RegisterStatus) int { return strings.Compare(a.RegisterID, b.RegisterID) })
	return out
}
