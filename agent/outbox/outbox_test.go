package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tillbridge/agent/crm"
	"tillbridge/agent/crm/webhook"
	"tillbridge/agent/outbox"
	"tillbridge/agent/payment"
	sandbox "tillbridge/agent/sandbox/crm"
	"tillbridge/queue"
)

const secret = "whsec_dGlsbGJyaWRnZSB0ZXN0IHNlY3JldCAwMDAwMDE=" // of this test

func openStore(t *testing.T, path string) *queue.Store {
	t.Helper()
	s, err := queue.Open(path, &queue.Options{Consumers: []queue.Consumer{{Name: "crm", Topic: payment.Topic}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func appendEvents(t *testing.T, s *queue.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		at := time.Now()
		p := payment.New(fmt.Sprintf("pay_%d", i), "c", fmt.Sprint("k", i), "", payment.Request{Amount: payment.Amounts{Total: 100, Currency: "EUR"}, RegisterID: "lane1"}, at)
		p.State, p.Approved = payment.State{Status: payment.Succeeded}, 100
		ev := payment.EventOf(fmt.Sprintf("evt_%d", i), payment.EventSucceeded, &p, at)
		body, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), func(tx *queue.Tx) error {
			_, err := tx.Append(payment.Topic, fmt.Sprintf("tok:%d", i%4), body)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func forward(t *testing.T, s *queue.Store, url string, until func() bool) {
	t.Helper()
	key, err := webhook.ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := webhook.New(webhook.Options{URL: url, Keys: []webhook.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	out := outbox.New(s, "crm", func(m queue.Message) ([]byte, error) {
		if string(m.Body) == "damaged" {
			return nil, errors.New("does not open")
		}
		return m.Body, nil
	})
	f := crm.NewForwarder(out, sink, crm.MapPayment(crm.Identity{Source: "/test"}), &crm.ForwardOptions{Pace: crm.Pace{First: 10 * time.Millisecond, Max: 50 * time.Millisecond}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	guard := time.Now().Add(60 * time.Second)
	for !until() {
		if time.Now().After(guard) {
			t.Fatalf("not done: %+v", f.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	wg.Wait()
}

// TestBacklogReachesTheCRMOnceInOrder drains a real store into a receiver that
// fails in every way, over a restart of the agent's side.
func TestBacklogReachesTheCRMOnceInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openStore(t, path)
	appendEvents(t, s, 0, 20)
	if err := s.Commit(t.Context(), func(tx *queue.Tx) error {
		_, err := tx.Append(payment.Topic, "tok:0", []byte("damaged"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	appendEvents(t, s, 20, 40)
	srv, err := sandbox.Start(sandbox.Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	srv.Command([]byte(`{"cmd":"forgetful","count":4}`))
	forward(t, s, srv.URL(), func() bool { return srv.Ledger().Delivered >= 10 })
	srv.Command([]byte(`{"cmd":"error","status":500,"count":3}`))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	defer s.Close()
	srv.Command([]byte(`{"cmd":"down"}`))
	go func() {
		time.Sleep(100 * time.Millisecond)
		srv.Command([]byte(`{"cmd":"up"}`))
	}()
	forward(t, s, srv.URL(), func() bool {
		d, err := s.Depth(t.Context(), "crm")
		// The depth may count an acknowledgement twice while it is being
		// stored, so that it alone does not say that nothing waits.
		return err == nil && d.Pending == 0 && srv.Ledger().Delivered >= 40
	})
	l := srv.Ledger()
	if l.Delivered != 40 || l.Duplicates != 0 || l.OutOfOrder != 0 || l.Net["EUR"] != 4000 || l.Redelivered < 4 {
		t.Errorf("books: %+v", l)
	}
	if d, err := s.Depth(t.Context(), "crm"); err != nil || d.Dead != 1 {
		t.Errorf("%d dead, %v; want the damaged one", d.Dead, err)
	}
}

// TestPauseBurnsNoAttempt: Retry with the same count defers.
func TestPauseBurnsNoAttempt(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	appendEvents(t, s, 0, 1)
	o := outbox.New(s, "crm", func(m queue.Message) ([]byte, error) { return m.Body, nil })
	for i, c := range []struct{ give, want int }{{0, 0}, {1, 0}, {1, 1}, {2, 1}, {2, 2}} {
		items, _, err := o.Lease(t.Context(), 1)
		if err != nil || len(items) != 1 {
			t.Fatalf("step %d: %d items, %v", i, len(items), err)
		}
		if items[0].Attempts != c.want {
			t.Errorf("step %d: %d attempts, want %d", i, items[0].Attempts, c.want)
		}
		if err := o.Retry(t.Context(), items[0].ID, time.Now().Add(-time.Second), c.give, "test"); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Ack(t.Context(), 1); !errors.Is(err, queue.ErrStale) {
		t.Errorf("ack of what is not lent: %v", err)
	}
}
