package server

import (
	"net/http"
	"sort"
	"strconv"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

// controlRoutes are served on the control channel only.
var controlRoutes = []route{
	{"GET /control/status", read, controlled(func(s *Server, c *call) (any, error) { return s.o.Control.Status(c.r.Context()) })},
	{"GET /control/devices", read, controlled(func(s *Server, c *call) (any, error) {
		list, err := s.o.Control.Devices(c.r.Context())
		return map[string]any{"schema": "devices.list/1", "devices": list}, err
	})},
	{"GET /control/devices/{id}", read, controlled(func(s *Server, c *call) (any, error) {
		return s.o.Control.DeviceInfo(c.r.Context(), c.r.PathValue("id"))
	})},
	{"POST /control/devices/{id}/test", read, controlled(func(s *Server, c *call) (any, error) {
		return s.o.Control.DeviceTest(c.r.Context(), c.r.PathValue("id"))
	})},
	{"POST /control/rescan", read, controlled(func(s *Server, c *call) (any, error) {
		return map[string]any{"schema": "devices.rescan/1", "ok": true}, s.o.Control.Rescan(c.r.Context())
	})},
	{"GET /control/queue", read, controlled(func(s *Server, c *call) (any, error) { return s.o.Control.QueueSummary(c.r.Context()) })},
	{"GET /control/queue/items", read, controlled(func(s *Server, c *call) (any, error) {
		limit, err := limitOf(c.r)
		if err != nil {
			return nil, err
		}
		list, err := s.o.Control.QueueItems(c.r.Context(), c.r.URL.Query().Get("state"), limit)
		return map[string]any{"schema": "queue.list/1", "items": list}, err
	})},
	{"GET /control/queue/items/{id}", read, controlled(func(s *Server, c *call) (any, error) {
		id, err := strconv.ParseUint(c.r.PathValue("id"), 10, 64)
		if err != nil {
			return nil, &Error{ErrorCode: "control.not_found", Detail: "the id of a queue item is a whole number"}
		}
		return s.o.Control.QueueItem(c.r.Context(), id)
	})},
	{"GET /control/tx/{id}", read, (*Server).getPayment},
	{"GET /control/tx/{id}/timeline", read, (*Server).timeline},
	{"POST /control/crm/resume", read, controlled(func(s *Server, c *call) (any, error) {
		return map[string]any{"schema": "crm.resume/1", "ok": true}, s.o.Control.ResumeSink(c.r.Context())
	})},
	{"GET /control/trace", read, controlled(func(s *Server, c *call) (any, error) {
		return s.o.Control.Trace(c.r.Context(), api.TraceRequest{})
	})},
	{"POST /control/trace", read, controlled(func(s *Server, c *call) (any, error) {
		var r api.TraceRequest
		if err := c.decode(&r, false); err != nil {
			return nil, err
		}
		if r.Action != "start" && r.Action != "stop" {
			return nil, &api.FieldError{ErrorCode: "request.invalid_field", Field: "action", Problem: "must be start or stop"}
		}
		return s.o.Control.Trace(c.r.Context(), r)
	})},
}

// controlled wraps a control route: its answer is one object.
func controlled(f func(*Server, *call) (any, error)) func(*Server, *call) error {
	return func(s *Server, c *call) error {
		if s.o.Control == nil {
			return &Error{ErrorCode: "request.not_supported", Detail: "this agent has no control channel"}
		}
		body, err := f(s, c)
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, body)
	}
}

func limitOf(r *http.Request) (int, error) {
	v := r.URL.Query().Get("limit")
	if v == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > longestPage {
		return 0, &Error{ErrorCode: "request.query", Detail: "limit is 1 to " + strconv.Itoa(longestPage)}
	}
	return n, nil
}

// timeline merges the steps of a payment and its operations.
func (s *Server) timeline(c *call) error {
	p, err := s.find(c)
	if err != nil {
		return err
	}
	t := api.Timeline{Schema: "tx.timeline/1", PaymentID: p.ID, Steps: []api.TimelineStep{}}
	add := func(steps []payment.Step, subject string) {
		for _, st := range steps {
			t.Steps = append(t.Steps, api.TimelineStep{At: st.At, Where: where(st.State), Status: string(st.State.Status), Stage: string(st.State.Stage), Note: st.Note, Subject: subject})
		}
	}
	add(p.Steps, "")
	if s.o.Control != nil && len(p.Operations) > 0 {
		ops, err := s.o.Control.Operations(c.r.Context(), p.ID)
		if err != nil {
			return err
		}
		for i := range ops {
			add(ops[i].Steps, ops[i].ID)
		}
	}
	sort.SliceStable(t.Steps, func(i, j int) bool { return t.Steps[i].At.Before(t.Steps[j].At) })
	for i := range t.Steps {
		t.Steps[i].OffsetMS = t.Steps[i].At.Sub(t.Steps[0].At).Milliseconds()
	}
	return c.reply(http.StatusOK, t)
}

// where says which part of the way a stage belongs to.
func where(st payment.State) string {
	switch st.Stage {
	case payment.StageQueued:
		return "pos"
	case payment.StageWakingDevice:
		return "device"
	case payment.StageWaitingCard, payment.StageReading, payment.StageWaitingPIN, payment.StageWaitingSignature, payment.StageWaitingCustomer:
		return "card"
	case payment.StageAuthorizing, payment.StageQueryingHost, payment.StageReversing, payment.StageByIssuer:
		return "host"
	}
	return "state"
}
