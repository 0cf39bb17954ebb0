package queue

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func open(t testing.TB, o *Options) *Store {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	if o.Consumers == nil {
		o.Consumers = []Consumer{{"crm", "events"}}
	}
	o.Reserve = -1
	s, err := Open(filepath.Join(t.TempDir(), "store.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// again closes the store and opens it from the same file.
func again(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := Open(s.path, &s.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func commit1(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Commit(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func sound(t testing.TB, s *Store) Report {
	t.Helper()
	r, err := s.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Error("verify:", p)
	}
	return r
}

func TestRecordVersionsAndIndexes(t *testing.T) {
	s := open(t, nil)
	var r Record
	commit1(t, s, func(tx *Tx) (err error) {
		r, err = tx.Put(Record{ID: "pay_1", Body: []byte("a"), Index: map[string]string{"status": "pending", "open": "yes"}})
		if err != nil {
			return err
		}
		if got, err := tx.Get("pay_1"); err != nil || got.Version != 1 || string(got.Body) != "a" {
			t.Errorf("own write not read: %+v %v", got, err)
		}
		if l, err := tx.List(Query{Index: "open", Value: "yes"}); err != nil || len(l) != 1 {
			t.Errorf("own index not read: %v %v", l, err)
		}
		return nil
	})
	r.Body, r.Index = []byte("b"), map[string]string{"status": "succeeded"}
	stale := r
	commit1(t, s, func(tx *Tx) (err error) { r, err = tx.Put(r); return err })
	if err := s.Commit(t.Context(), func(tx *Tx) error { _, err := tx.Put(stale); return err }); !errors.Is(err, ErrConflict) {
		t.Errorf("stale put: %v", err)
	}
	s = again(t, s)
	if l, _ := s.List(t.Context(), Query{Index: "open", Value: "yes"}); len(l) != 0 {
		t.Errorf("index entry left behind: %v", l)
	}
	if l, _ := s.List(t.Context(), Query{Index: "status", Value: "succeeded"}); len(l) != 1 || string(l[0].Body) != "b" || l[0].Version != 2 {
		t.Errorf("list by status: %+v", l)
	}
	sound(t, s)
}

func TestListPagesInOrderOfCreationBothWays(t *testing.T) {
	s := open(t, nil)
	for i := range 25 {
		commit1(t, s, func(tx *Tx) error {
			_, err := tx.Put(Record{ID: fmt.Sprintf("pay_%d", 100-i), Index: map[string]string{"reg": "1"}})
			return err
		})
	}
	for _, index := range []string{"", "reg"} {
		for _, reverse := range []bool{false, true} {
			var got []uint64
			for q := (Query{Index: index, Value: "1", Limit: 10, Reverse: reverse}); ; {
				page, err := s.List(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					got = append(got, r.Number)
				}
				if len(page) < 10 {
					break
				}
				q.After = page[9].Number
			}
			if len(got) != 25 {
				t.Fatalf("index %q reverse %v: %v", index, reverse, got)
			}
			for i, n := range got {
				want := uint64(i + 1)
				if reverse {
					want = uint64(25 - i)
				}
				if n != want {
					t.Fatalf("index %q reverse %v: %v", index, reverse, got)
				}
			}
		}
	}
}

// together runs fn(0) to fn(n-1) so that all their commits wait for the same turn.
func together(s *Store, n int, fn func(i int)) {
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Commit(context.Background(), func(*Tx) error { close(inside); <-release; return nil })
	})
	<-inside
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		s.qmu.Lock()
		waiting = len(s.waiting)
		s.qmu.Unlock()
	}
	close(release)
	wg.Wait()
}

func TestErrorOfOneFunctionDiscardsItsOwnWritesOnly(t *testing.T) {
	s := open(t, nil)
	bad := errors.New("no")
	together(s, 64, func(i int) {
		err := s.Commit(context.Background(), func(tx *Tx) error {
			if _, err := tx.Put(Record{ID: fmt.Sprint("r", i)}); err != nil {
				return err
			}
			if _, err := tx.Append("events", "", []byte{byte(i)}); err != nil {
				return err
			}
			if i%2 == 1 {
				return bad
			}
			return nil
		})
		if (i%2 == 1) != errors.Is(err, bad) {
			t.Error(i, err)
		}
	})
	l, err := s.List(t.Context(), Query{Limit: 1000})
	if err != nil || len(l) != 32 {
		t.Fatalf("%d records, want 32: %v", len(l), err)
	}
	if r := sound(t, s); r.Messages != 32 || r.Last != 32 {
		t.Errorf("log: %+v", r)
	}
}

func TestOneClaimWinsAmongConcurrentFunctions(t *testing.T) {
	s := open(t, nil)
	var won, replay, mismatch atomic.Int64
	together(s, 60, func(i int) {
		id, digest := fmt.Sprint("pay_", i), []byte{byte(i % 2)}
		var existing string
		err := s.Commit(context.Background(), func(tx *Tx) (err error) {
			if existing, err = tx.Claim("reg", "key", digest, id); err != nil {
				return err
			}
			_, err = tx.Put(Record{ID: id})
			return err
		})
		switch {
		case err == nil:
			won.Add(1)
		case errors.Is(err, ErrClaimed):
			replay.Add(1)
		case errors.Is(err, ErrClaimMismatch):
			mismatch.Add(1)
		default:
			t.Error(err)
		}
		if err != nil {
			if _, err := s.Get(context.Background(), existing); err != nil {
				t.Errorf("claim names %q: %v", existing, err)
			}
		}
	})
	if won.Load() != 1 || replay.Load() != 29 || mismatch.Load() != 30 {
		t.Errorf("won %d, replays %d, mismatches %d", won.Load(), replay.Load(), mismatch.Load())
	}
}

func TestOrderPerKeyAndNoKeyBlocksAnother(t *testing.T) {
	s := open(t, nil)
	commit1(t, s, func(tx *Tx) error {
		for i := range 3 {
			for _, k := range []string{"a", "b", "long key"} {
				if _, err := tx.Append("events", k, fmt.Append(nil, k, i)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	lease := func(n int) map[string]Delivery {
		t.Helper()
		ds, err := s.Lease(t.Context(), "crm", n)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]Delivery{}
		for _, d := range ds {
			m[string(d.Body)] = d
		}
		return m
	}
	got := lease(10)
	if len(got) != 3 || got["a0"].Seq == 0 || got["b0"].Seq == 0 || got["long key0"].Seq == 0 {
		t.Fatalf("heads: %v", got)
	}
	if more := lease(10); len(more) != 0 {
		t.Fatalf("leased twice: %v", more)
	}
	if err := s.Retry(t.Context(), got["a0"], time.Now().Add(time.Hour), "down"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ack(got["b0"]); err != nil {
		t.Fatal(err)
	}
	if err := s.Dead(t.Context(), got["long key0"], "refused"); err != nil {
		t.Fatal(err)
	}
	for _, d := range got {
		if err := s.Ack(d); !errors.Is(err, ErrStale) {
			t.Errorf("settled twice: %v", err)
		}
	}
	got = lease(10)
	if len(got) != 2 || got["b1"].Seq == 0 || got["long key1"].Seq == 0 {
		t.Fatalf("after retry, ack and dead: %v", got)
	}
	s = again(t, s) // leases are gone, the rest is not
	got = lease(10)
	if len(got) != 2 || got["b1"].Seq == 0 || got["long key1"].Seq == 0 {
		t.Fatalf("after restart: %v", got)
	}
	d, err := s.Depth(t.Context(), "crm")
	if err != nil || d.Pending != 7 || d.Dead != 1 || d.Oldest.IsZero() {
		t.Errorf("depth %+v %v", d, err)
	}
	commit1(t, s, func(tx *Tx) error {
		l, err := tx.DeadList("crm", 0, 0)
		if err != nil || len(l) != 1 || string(l[0].Body) != "long key0" || l[0].Reason != "refused" {
			t.Errorf("dead list %+v %v", l, err)
		}
		return tx.Release("crm", l[0].Seq)
	})
	sound(t, s)
}
