package queue

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func appendN(t testing.TB, s *Store, key string, n int) {
	t.Helper()
	commit1(t, s, func(tx *Tx) error {
		for i := range n {
			if _, err := tx.Append("events", key, fmt.Append(nil, key, i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func leaseOne(t testing.TB, s *Store) Delivery {
	t.Helper()
	d, err := s.Lease(context.Background(), "crm", 1)
	if err != nil || len(d) != 1 {
		t.Fatalf("lease: %d, %v", len(d), err)
	}
	return d[0]
}

// bubble runs fn with a store on the bubble's clock.
func bubble(t *testing.T, o *Options, fn func(s *Store)) {
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) {
		if o == nil {
			o = &Options{}
		}
		o.Consumers, o.Reserve = []Consumer{{"crm", "events"}}, -1
		s, err := Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fn(s)
	})
}

func TestReceiptOfAnOldLeaseChangesNothing(t *testing.T) {
	bubble(t, &Options{Lease: time.Second}, func(s *Store) {
		ctx := context.Background()
		appendN(t, s, "k", 2)
		old := leaseOne(t, s)
		time.Sleep(2 * time.Second)
		cur := leaseOne(t, s)
		if cur.Seq != old.Seq {
			t.Fatalf("lease ran out on %d, got %d", old.Seq, cur.Seq)
		}
		for what, err := range map[string]error{"ack": s.Ack(old), "retry": s.Retry(ctx, old, time.Now(), ""), "dead": s.Dead(ctx, old, "")} {
			if !errors.Is(err, ErrStale) {
				t.Errorf("%s by the old holder: %v", what, err)
			}
		}
		if d, err := s.Depth(ctx, "crm"); err != nil || d.Pending != 2 || d.Dead != 0 {
			t.Errorf("depth %+v %v", d, err)
		}
		if err := s.Ack(cur); err != nil {
			t.Errorf("ack by the holder: %v", err)
		}
		if d := leaseOne(t, s); d.Seq != 2 || d.Attempts != 0 {
			t.Errorf("next: %+v", d)
		}
	})
}

func TestRetryWaitsForItsTimeAndOutlivesARestart(t *testing.T) {
	bubble(t, nil, func(s *Store) {
		ctx := context.Background()
		appendN(t, s, "k", 1)
		at := time.Now().Add(time.Hour)
		if err := s.Retry(ctx, leaseOne(t, s), at, "503"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		n, err := Open(s.path, &s.o)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if d, _ := n.Lease(ctx, "crm", 1); len(d) != 0 {
			t.Fatalf("lent %v before its time", time.Until(at))
		}
		if err := n.Wait(ctx, "crm"); err != nil {
			t.Fatal(err)
		}
		if wait := time.Since(at); wait < 0 || wait > time.Second {
			t.Errorf("wait ended %v after the time", wait)
		}
		if d := leaseOne(t, n); d.Attempts != 1 {
			t.Errorf("attempts %d", d.Attempts)
		}
	})
}

func TestClockSetBackDoesNotHoldAMessage(t *testing.T) {
	now := time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, &Options{Now: func() time.Time { return now }})
	appendN(t, s, "k", 1)
	if err := s.Retry(t.Context(), leaseOne(t, s), now.Add(time.Minute), ""); err != nil {
		t.Fatal(err)
	}
	now = now.AddDate(-10, 0, 0)
	leaseOne(t, s)
}

func TestAcknowledgementsAreStoredAfterTheirDelay(t *testing.T) {
	bubble(t, nil, func(s *Store) {
		appendN(t, s, "", 3)
		for range 3 {
			if err := s.Ack(leaseOne(t, s)); err != nil {
				t.Fatal(err)
			}
		}
		if n := stored(t, s); n != 3 {
			t.Errorf("%d pending in the file at once, want 3", n)
		}
		if d, _ := s.Depth(context.Background(), "crm"); d.Pending != 0 || !d.Oldest.IsZero() {
			t.Errorf("depth %+v", d)
		}
		time.Sleep(60 * time.Millisecond)
		synctest.Wait()
		if n := stored(t, s); n != 0 {
			t.Errorf("%d pending in the file after the delay, want 0", n)
		}
		sound(t, s)
	})
}

func TestAcknowledgementIsNotStoredBeforeItsDelay(t *testing.T) {
	bubble(t, &Options{AckDelay: time.Hour}, func(s *Store) {
		appendN(t, s, "", 1)
		if err := s.Ack(leaseOne(t, s)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if n := stored(t, s); n != 1 {
			t.Errorf("%d pending in the file before the delay, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := stored(t, s); n != 0 {
			t.Errorf("%d pending in the file after the delay, want 0", n)
		}
	})
}

func TestAcknowledgementDuringACommitIsStoredAfterItsDelay(t *testing.T) {
	bubble(t, nil, func(s *Store) {
		appendN(t, s, "", 2)
		entered, leave := make(chan bool), make(chan bool)
		block := func(*Tx) error { entered <- true; <-leave; return nil }
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { _ = s.Commit(context.Background(), block) })
		<-entered // this commit has taken no acknowledgement
		if err := s.Ack(leaseOne(t, s)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(60 * time.Millisecond) // the flush waits behind it,
		wg.Go(func() { _ = s.Commit(context.Background(), block) })
		synctest.Wait()
		leave <- true
		<-entered // and is under way
		if err := s.Ack(leaseOne(t, s)); err != nil {
			t.Fatal(err)
		}
		leave <- true
		wg.Wait()
		if n := stored(t, s); n != 1 {
			t.Errorf("%d pending in the file, want 1", n)
		}
		time.Sleep(60 * time.Millisecond)
		synctest.Wait()
		if n := stored(t, s); n != 0 {
			t.Errorf("%d pending in the file after the delay, want 0", n)
		}
	})
}

// stored is what the file itself says is pending.
func stored(t testing.TB, s *Store) (n uint64) {
	t.Helper()
	if err := s.view(func(tx *Tx) error {
		v, err := tx.totals(s.consumers["crm"].id)
		n = v.pending
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAcknowledgementRidesOnTheNextCommit(t *testing.T) {
	s := open(t, &Options{AckDelay: time.Hour})
	appendN(t, s, "k", 2)
	if err := s.Ack(leaseOne(t, s)); err != nil {
		t.Fatal(err)
	}
	commit1(t, s, func(tx *Tx) error { _, err := tx.Add("n", 1); return err })
	if n := stored(t, s); n != 1 {
		t.Errorf("%d pending after the commit, want 1", n)
	}
}

func TestWaitWakesOnAppend(t *testing.T) {
	bubble(t, nil, func(s *Store) {
		woken := make(chan error)
		go func() { woken <- s.Wait(context.Background(), "crm") }()
		synctest.Wait()
		appendN(t, s, "k", 1)
		if err := <-woken; err != nil {
			t.Error(err)
		}
	})
}

func TestSeveralConsumersReadOneLog(t *testing.T) {
	s := open(t, &Options{Consumers: []Consumer{{"crm", "events"}, {"workflow", "events"}, {"printer", "slips"}}})
	appendN(t, s, "k", 3)
	for _, name := range []string{"crm", "workflow"} {
		for range 2 {
			d, err := s.Lease(t.Context(), name, 1)
			if err != nil || len(d) != 1 || d[0].Topic != "events" {
				t.Fatalf("%s: %v %v", name, d, err)
			}
			if name == "workflow" {
				if err := s.Ack(d[0]); err != nil {
					t.Fatal(err)
				}
			} else {
				break
			}
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"crm": 3, "workflow": 1, "printer": 0} {
		if d, err := s.Depth(t.Context(), name); err != nil || d.Pending != want {
			t.Errorf("%s: %+v %v, want %d", name, d, err, want)
		}
	}
	// A consumer that comes later receives what the log still holds.
	s.o.Consumers = append(s.o.Consumers, Consumer{"insight", "events"})
	s = again(t, s)
	if d, err := s.Depth(t.Context(), "insight"); err != nil || d.Pending != 3 {
		t.Errorf("late consumer: %+v %v", d, err)
	}
	if m, err := s.Read(t.Context(), "events", 1, 10); err != nil || len(m) != 2 || m[0].Seq != 2 {
		t.Errorf("read after 1: %v %v", m, err)
	}
	sound(t, s)
}

func TestKeysTakeTurns(t *testing.T) {
	s := open(t, nil)
	appendN(t, s, "a", 50)
	appendN(t, s, "", 50)
	appendN(t, s, "b", 50)
	seen := map[string]int{}
	for range 30 {
		d := leaseOne(t, s)
		seen[d.OrderKey]++
		if err := s.Ack(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"a", "", "b"} {
		if seen[k] == 0 {
			t.Errorf("key %q was never served: %v", k, seen)
		}
	}
}
