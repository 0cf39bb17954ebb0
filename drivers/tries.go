package drivers

import (
	"context"
	"errors"
	"maps"
	"time"
)

// try is what came of a port.
type try struct {
	life     uint64
	failures int       // in a row
	due      time.Time // of the next attempt
	why      string
}

// tried says how often a port failed in a row in that life, and when it is due
// again.
func (o *owner) tried(key string, life uint64) (failures int, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.tries[key]; t.life == life {
		return t.failures, t.due
	}
	return 0, time.Time{}
}

// prune forgets ports that left.
func (o *owner) prune(seen map[string]sighting) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.tries, func(key string, t try) bool { v, ok := seen[key]; return !ok || v.life != t.life })
}

// forgive: the device on that port did something well.
func (o *owner) forgive(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.tries, key)
}

// failed keeps what came of a port: the next attempt waits longer after each
// failure. A device that was unplugged needs no pause, its port is gone; one
// that was refused is no failure.
func (o *owner) failed(ctx context.Context, key string, v sighting, err error) {
	if _, ok := errors.AsType[refusedError](err); ok {
		o.set(StateRecovering, o.plain(err))
		return
	}
	failures, _ := o.tried(key, v.life)
	failures++
	t := try{life: v.life, failures: failures, why: o.plain(err)}
	state := StateRecovering
	if failures >= o.s.o.FaultAfter {
		state = StateFaulted
	}
	if !errors.Is(err, ErrUnplugged) || failures >= o.s.o.FaultAfter {
		d := o.s.o.BackoffFirst
		for i := 1; i < failures && d < o.s.o.BackoffMax; i++ {
			d *= 2
		}
		t.due = time.Now().Add(jitter(min(d, o.s.o.BackoffMax)))
	}
	if failures == resetAfter && ctx.Err() == nil {
		o.reset(ctx, v)
	}
	o.mu.Lock()
	o.tries[key] = t
	o.st.Failures = failures
	o.mu.Unlock()
	o.set(state, t.why)
}
