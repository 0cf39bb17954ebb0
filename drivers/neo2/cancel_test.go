package neo2

import (
	"context"
	"testing"
	"time"
)

// A step that ends gives the link back before it is no longer there to wait for:
// a cancel that meets its end is never told that the device is busy.
func TestCancelThatMeetsTheEndOfAStep(t *testing.T) {
	d := &device{busy: make(chan struct{}, 1)}
	s := &session{d: d}
	d.session = s
	begins, finish, ends := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ends <- s.step(t.Context(), opStart, begun, func(context.Context) error {
			close(begins)
			<-finish
			d.session = nil // nothing has to be told to the device
			return nil
		})
	}()
	<-begins
	s.mu.Lock() // the step cannot take itself away now
	close(finish)
	select {
	case d.busy <- struct{}{}:
		<-d.busy
	case <-time.After(10 * time.Second):
		t.Error("the step takes itself away while it still has the link")
	}
	s.mu.Unlock()
	if err := s.Cancel(t.Context()); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := <-ends; err != nil {
		t.Errorf("step: %v", err)
	}
}
