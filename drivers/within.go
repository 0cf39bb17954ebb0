package drivers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrStuck: a call did not end in its time, nor when its port was closed. It
// was abandoned; the device is opened anew.
var ErrStuck = errors.New("drivers: the call has not returned and was abandoned")

// giveUp is how long a call may take to return after its context ended, and
// once more after its port was closed. The transports need up to 3 s.
const giveUp = 5 * time.Second

// stopWait is how long a function of Do goes on when the supervisor ends.
const stopWait = 10 * time.Second

// maxStuck is how many calls may hang on one plug of a device. Each holds a
// goroutine and perhaps the port; after that only a replug, its return or a
// person's word brings another attempt.
const maxStuck = 3

// line is an open port with the device on it.
type line struct {
	key   string
	v     sighting
	t     Transport
	d     Device
	close func() // the device, once
}

// within runs fn, whose context ends after limit, and returns when fn has. What
// does not heed its context is freed by free (nil: nothing), and what does not
// return then either is abandoned: late runs when it does.
func (o *owner) within(ctx context.Context, limit time.Duration, what string, v sighting, free, late func(), fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	done := start(func() error { defer cancel(); return fn(ctx) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if err, ok := wait(done, giveUp); ok {
		return err
	}
	if free != nil {
		go free() // it may hang as well
		if err, ok := wait(done, giveUp); ok {
			return err
		}
	}
	o.abandon(what, v, true, done, late)
	return fmt.Errorf("%s: %w", what, ErrStuck)
}

// operate runs a function of Do. cut says that the line was closed under it.
func (o *owner) operate(ctx context.Context, l *line, fn func(Device) error) (err error, cut bool) {
	done := start(func() error { return fn(l.d) })
	limit := time.NewTimer(o.s.o.OpLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		return err, false
	case <-limit.C:
	case <-ctx.Done():
		if err, ok := wait(done, stopWait); ok {
			return err, false
		}
	}
	go o.free(l)
	if err, ok := wait(done, giveUp); ok {
		return err, true
	}
	o.abandon("an operation", l.v, false, done, nil)
	return fmt.Errorf("an operation: %w", ErrStuck), true
}

// free closes a line under a call that does not return.
func (o *owner) free(l *line) {
	if l.t != nil {
		_ = l.t.Close()
	}
	l.close()
}

// shut closes a line at the end of its use.
func (o *owner) shut(l *line) {
	_ = o.within(context.Background(), giveUp, "closing the device", l.v, nil, nil, func(context.Context) error { l.close(); return nil })
}

// start runs fn in a goroutine of its own. One that ends its goroutine (a
// failing test) counts as returned.
func start(fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("drivers: the call ended its goroutine")
		defer func() { done <- err }()
		err = fn()
	}()
	return done
}

func wait(done <-chan error, d time.Duration) (error, bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}

// abandon leaves a call to itself and counts it until it returns. device says
// that the device or its port is at fault, and not a function of Do.
func (o *owner) abandon(what string, v sighting, device bool, done <-chan error, late func()) {
	o.mu.Lock()
	o.st.Stuck++
	stuck := o.st.Stuck
	if device {
		o.hung[v.life]++
	}
	o.mu.Unlock()
	o.s.o.Log.Error("a call has not returned and is abandoned", "device", o.c.Name, "port", v.port.Path, "call", what, "abandoned", stuck)
	go func() {
		<-done
		if late != nil {
			late()
		}
		o.mu.Lock()
		o.st.Stuck--
		if n := o.hung[v.life]; device && n > 1 {
			o.hung[v.life] = n - 1
		} else if device {
			delete(o.hung, v.life)
		}
		o.mu.Unlock()
		o.s.o.Log.Info("an abandoned call has returned", "device", o.c.Name, "call", what)
		o.s.notify()
	}()
}

// blocked says why a port gets no further attempt, or is empty.
func (o *owner) blocked(life uint64) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := o.hung[life]; n >= maxStuck {
		return fmt.Sprintf("%d calls to it have not returned: unplug the device and plug it in again, or restart the agent", n)
	}
	return ""
}
