package server

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

// eventPage is how many entries are read from the log at once.
const eventPage = 100

// events is GET /v1/events: one page of the log as JSON, or with Accept:
// text/event-stream a stream that goes on from Last-Event-ID or ?after=. Both
// name the last entry that the caller has; the id of a frame is its seq.
// Delivery is at least once; entries that concern other registers are left out.
func (s *Server) events(c *call) error {
	after, err := position(c.r)
	if err != nil {
		return err
	}
	if streams(c.r) {
		return s.stream(c, after)
	}
	changed := s.o.Engine.Changed()
	page, next, err := s.page(c, after)
	if err != nil {
		return err
	}
	if d := c.wait(s.o.MaxWait); d > 0 && len(page) == 0 {
		c.applied(d)
		t := time.NewTimer(d)
		defer t.Stop()
		for waiting := true; waiting && len(page) == 0; {
			select {
			case <-changed:
			case <-t.C:
				waiting = false
			case <-c.r.Context().Done():
				waiting = false
			}
			changed = s.o.Engine.Changed()
			if page, next, err = s.page(c, next); err != nil {
				return err
			}
		}
	}
	list := api.EventList{Events: make([]api.Event, 0, len(page)), Next: next}
	for _, e := range page {
		list.Events = append(list.Events, viewEvent(e))
	}
	return c.reply(http.StatusOK, list)
}

// position reads where the caller stands. Last-Event-ID is the newer word: a
// browser sends it when it connects again to the address with ?after=.
func position(r *http.Request) (uint64, error) {
	text, name := r.Header.Get("Last-Event-ID"), "Last-Event-ID"
	if text == "" {
		text, name = r.URL.Query().Get("after"), "after"
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &Error{ErrorCode: "request.query", Detail: name + " is the seq of the last event that you have, a whole number"}
	}
	return n, nil
}

func streams(r *http.Request) bool {
	for _, v := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(v, ",") {
			if kind, _, err := mime.ParseMediaType(one); err == nil && kind == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

// page reads from the log what the credential may see, and where to go on.
func (s *Server) page(c *call, after uint64) ([]payment.Event, uint64, error) {
	for {
		raw, err := s.o.Engine.Events(c.r.Context(), after, eventPage)
		if err != nil || len(raw) == 0 {
			return nil, after, err
		}
		var page []payment.Event
		for _, e := range raw {
			after = e.Seq
			if c.cred.sees(e.Data.Lane) || e.Data.Lane == "" {
				page = append(page, e)
			}
		}
		if len(page) > 0 {
			return page, after, nil
		}
	}
}

// writeTimeout ends a stream whose reader has stalled.
const writeTimeout = 10 * time.Second

func (s *Server) stream(c *call, after uint64) error {
	rc := http.NewResponseController(c.w)
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	c.w.WriteHeader(http.StatusOK)
	// Recorders and some proxies have no deadlines; the stream works without.
	deadline := func() { _ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) }
	deadline()
	fmt.Fprint(c.w, "retry: 2000\n\n")
	if rc.Flush() != nil {
		return nil
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	beat := time.NewTicker(s.o.Heartbeat)
	defer beat.Stop()
	for {
		changed := s.o.Engine.Changed() // before looking, so that nothing falls between
		for {
			page, next, err := s.page(c, after)
			if err != nil {
				s.o.Log.Error("api: event stream ends, the log cannot be read", "err", err)
				return nil // the client connects again from its last id
			}
			if len(page) == 0 {
				after = next
				break
			}
			for _, e := range page {
				body, err := json.Marshal(viewEvent(e))
				if err != nil {
					return nil
				}
				deadline()
				if _, err := fmt.Fprintf(c.w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, body); err != nil {
					return nil
				}
			}
			after = next
			if rc.Flush() != nil {
				return nil
			}
		}
		select {
		case <-changed:
		case <-beat.C:
			deadline()
			if _, err := fmt.Fprint(c.w, ": still here\n\n"); err != nil || rc.Flush() != nil {
				return nil
			}
		case <-c.r.Context().Done():
			return nil
		case <-s.base.Done():
			return nil
		}
	}
}
