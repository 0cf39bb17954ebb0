package port

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Faults are what a device shall do wrong, counted down as it is played. A
// device asks for one by name at the place where it can go wrong. It is safe
// for concurrent use.
type Faults struct {
	known []string

	mu   sync.Mutex
	left map[string]*fault
}

type fault struct {
	n int
	d time.Duration
}

// NewFaults makes an empty list that takes these names, and "clear".
func NewFaults(known ...string) *Faults {
	return &Faults{known: known, left: map[string]*fault{}}
}

// Add asks for the next n (at least one) of a fault; d is a time that goes
// with it. Asked again, the later word holds. "clear" takes all back. A name
// that is not known is an error.
func (f *Faults) Add(name string, n int, d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case name == "clear":
		clear(f.left)
	case slices.Contains(f.known, name):
		f.left[name] = &fault{n: max(n, 1), d: d}
	default:
		return fmt.Errorf("there is no fault %q", name)
	}
	return nil
}

// Play takes one of a fault if it is due, and its time.
func (f *Faults) Play(name string) (d time.Duration, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.left[name]
	if x == nil {
		return 0, false
	}
	if x.n--; x.n <= 0 {
		delete(f.left, name)
	}
	return x.d, true
}

// Pause waits for d, or returns early with the error of ctx.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Due reports whether one of these faults is due, and takes none.
func (f *Faults) Due(names ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(names, func(n string) bool { return f.left[n] != nil })
}
