package queue

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

// What a function may do that never returns, and what the store does afterwards.
func TestFunctionThatEndsItsGoroutineDoesNotStallTheStore(t *testing.T) {
	s := open(t, nil)
	ctx := context.Background()
	entered, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Commit(ctx, func(tx *Tx) error {
			_, _ = tx.Put(Record{ID: "gone", Body: []byte("x")})
			close(entered)
			<-leave
			runtime.Goexit()
			return nil
		})
	}()
	<-entered
	beside := make(chan error, 1)
	go func() {
		beside <- s.Commit(ctx, func(tx *Tx) error {
			_, err := tx.Put(Record{ID: "kept", Body: []byte("x")})
			return err
		})
	}()
	close(leave)
	<-ended
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case err := <-beside:
		if err != nil {
			t.Fatalf("the commit behind it: %v", err)
		}
	case <-limit.Done():
		t.Fatal("the commit behind it waits for ever")
	}
	if _, err := s.Get(ctx, "gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what the ended function wrote: %v", err)
	}
	if _, err := s.Get(ctx, "kept"); err != nil {
		t.Errorf("what the other one wrote: %v", err)
	}
}

// An acknowledgement that a commit has stored stays in the set for a moment; it must not be subtracted from totals that
// know it already.
func TestDepthCountsAStoredAcknowledgementOnce(t *testing.T) {
	s := open(t, &Options{AckDelay: time.Hour})
	appendN(t, s, "", 3)
	d := leaseOne(t, s)
	if err := s.Ack(d); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	// The moment between the commit and dropAcks.
	s.omu.Lock()
	s.out[s.consumers["crm"].id].acked[d.Seq] = struct{}{}
	s.omu.Unlock()
	got, err := s.Depth(ctx, "crm")
	if err != nil || got.Pending != 2 {
		t.Errorf("pending %d %v, want 2", got.Pending, err)
	}
}
