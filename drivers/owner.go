package drivers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// NotReadyError says why a device could not be used in time.
type NotReadyError struct {
	Device string
	State  State
	Detail string
}

// Error names device, state and what is known about it.
func (e *NotReadyError) Error() string {
	s := fmt.Sprintf("device %s is %s", e.Device, e.State)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Is matches ErrBusy for a device that works on something else, and
// ErrUnplugged for one that is not there.
func (e *NotReadyError) Is(target error) bool {
	switch target {
	case ErrBusy:
		return e.State == StateBusy
	case ErrUnplugged:
		return e.State == StateAbsent
	}
	return false
}

// Code is the stable code of design/technician.md.
func (e *NotReadyError) Code() string {
	if e.State == StateBusy {
		return "device.busy"
	}
	return "device.absent"
}

// request is one call of Do on its way to the owner.
type request struct {
	ctx   context.Context
	fn    func(Device) error
	reply chan error
}

// owner is the one goroutine that touches a device.
type owner struct {
	s      *Supervisor
	c      DeviceConfig
	driver Driver
	box    chan request

	lastKey string // of the port it had

	mu       sync.Mutex
	st       DeviceStatus
	tries    map[string]try // by key of the port
	hung     map[uint64]int // by life of the port: calls that have not returned
	owed     *debt          // an operation that was cut off and is not settled
	stranger string         // key of the port where another device stands than the one that is owed
	was      string         // serial number of the device that was Ready last
}

func newOwner(s *Supervisor, c DeviceConfig, d Driver) *owner {
	return &owner{s: s, c: c, driver: d, box: make(chan request), tries: map[string]try{}, hung: map[uint64]int{}, st: DeviceStatus{Name: c.Name, Protocol: c.Protocol, State: StateAbsent, Since: time.Now()}}
}

func (o *owner) status() DeviceStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.st
}

// set changes the state and tells who listens. A detail is kept until the next
// change.
func (o *owner) set(state State, detail string) {
	o.mu.Lock()
	if o.st.State == state && o.st.Detail == detail {
		o.mu.Unlock()
		return
	}
	if o.st.State != state {
		o.st.Since = time.Now()
	}
	o.st.State, o.st.Detail = state, detail
	e := Event{At: time.Now(), Device: o.c.Name, State: state, Port: o.st.Port.Path, Identity: o.st.Identity, Detail: detail}
	o.mu.Unlock()
	o.s.o.Log.Debug("device", "name", o.c.Name, "state", string(state), "port", e.Port, "detail", detail)
	if o.s.o.Events != nil {
		o.s.o.Events(e)
	}
}

func (o *owner) update(fn func(*DeviceStatus)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fn(&o.st)
}

func (o *owner) do(ctx context.Context, fn func(Device) error) error {
	r := request{ctx: ctx, fn: fn, reply: make(chan error, 1)}
	select {
	case <-o.s.done:
		return ErrStopped
	default:
	}
	select {
	case o.box <- r:
	case <-ctx.Done():
		st := o.status()
		return &NotReadyError{Device: o.c.Name, State: st.State, Detail: st.Detail}
	case <-o.s.done:
		return ErrStopped
	}
	// The owner has it and answers, also while the supervisor stops.
	return <-r.reply
}

// resetAfter is how many failures in a row make the owner reset the port, where
// its bus can: opening again was tried, and Faulted is next.
const resetAfter = 3

// run is the life of a device.
func (o *owner) run(ctx context.Context) {
	opened := false
	was := Identity{} // of the device that was Ready last
	ill := false      // the last failure was that of an open device: ask its health before Ready
	for ctx.Err() == nil {
		changed := o.s.watch()
		key, v, next := o.s.claim(o)
		if key == "" {
			o.idle(ctx, changed, next)
			continue
		}
		l, err := o.open(ctx, key, v)
		if err == nil && ill {
			err = o.well(ctx, l)
		}
		if err == nil {
			err = o.recover(ctx, l)
		}
		if err != nil {
			if l != nil {
				o.shut(l)
			}
			o.failed(ctx, key, v, err)
			o.s.release(key)
			continue
		}
		detail, now := "", o.status().Identity
		if opened {
			o.update(func(st *DeviceStatus) { st.Replugs++ })
			if now.Serial != was.Serial {
				detail = describe(now) + " stands in the place of " + strings.TrimPrefix(describe(was), "device ")
			}
		}
		opened, ill, was, o.lastKey = true, false, now, key
		o.mu.Lock()
		o.was, o.st.Failures = now.Serial, o.tries[key].failures
		o.mu.Unlock()
		o.set(StateReady, detail)
		worked, err := o.serve(ctx, l)
		o.shut(l)
		if ctx.Err() == nil {
			ill = !errors.Is(err, ErrUnplugged)
			if worked {
				o.forgive(key)
			}
			o.failed(ctx, key, v, err)
		}
		o.s.release(key)
	}
	o.update(func(st *DeviceStatus) { st.Port = Port{} })
	o.set(StateAbsent, "the agent has stopped")
}

// idle waits for a port, or until one that failed is due again.
func (o *owner) idle(ctx context.Context, changed <-chan struct{}, next time.Time) {
	var due <-chan time.Time
	if next.IsZero() {
		state, why := StateFaulted, o.s.hangs(o)
		if why == "" {
			state, why = StateAbsent, o.absent()
		}
		o.update(func(st *DeviceStatus) { st.Port, st.Failures = Port{}, 0 })
		o.set(state, why)
	} else {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-due:
	}
}

// refusedError is why a device is not this owner's.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// absent says what is looked for.
func (o *owner) absent() string {
	if why := o.s.refusal(o); why != "" {
		return why
	}
	why := "no port was recognised: connect it, or name its port in the configuration"
	if len(o.c.Ports) > 0 {
		why = "none of its ports is there: " + strings.Join(o.c.Ports, ", ")
	}
	// A device on a bus that cannot be looked at is not to be sought in its cable.
	for _, fault := range o.s.BusFaults() {
		why += "; " + fault
	}
	return why
}

// well asks a device that failed before whether it is well now: one that opens
// and never answers must not look Ready between two failures.
func (o *owner) well(ctx context.Context, l *line) error {
	h, err := o.check(ctx, l)
	if err == nil && !h.OK {
		err = fmt.Errorf("the device is not well: %s", h.Detail)
	}
	return err
}

// home is the serial number of the device that was Ready last.
func (o *owner) home() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.was
}

// Resetter is a Bus that can reset a port (a USB port reset): the step between
// opening again and giving up.
type Resetter interface {
	Reset(ctx context.Context, p Port) error
}

func (o *owner) reset(ctx context.Context, v sighting) {
	r, ok := v.bus.(Resetter)
	if !ok {
		return
	}
	o.set(StateRecovering, "resetting the port")
	err := o.within(ctx, o.s.o.CheckTimeout, "resetting the port", v, nil, nil, func(ctx context.Context) error { return r.Reset(ctx, v.port) })
	if err != nil {
		o.s.o.Log.Warn("the port could not be reset", "device", o.c.Name, "port", v.port.Path, "err", err)
	}
}

// open opens port and protocol and checks who answers. A line that is returned
// with an error is the caller's to shut. A faulted device stays Faulted
// meanwhile: it is tried again, and nothing changed yet.
func (o *owner) open(ctx context.Context, key string, v sighting) (*line, error) {
	p := v.port
	p.Explicit = p.Explicit || len(o.c.Ports) > 0
	failures, _ := o.tried(key, v.life)
	faulted := failures >= o.s.o.FaultAfter
	o.update(func(st *DeviceStatus) { st.Port = p })
	if !faulted {
		o.set(StateOpening, "")
	}
	l := &line{key: key, v: v}
	opened := l // what a call that is abandoned may still fill in
	err := o.within(ctx, o.s.o.OpenTimeout, "opening the port", v, nil, func() {
		if opened.t != nil {
			_ = opened.t.Close()
		}
	}, func(ctx context.Context) (err error) {
		opened.t, err = v.bus.Open(ctx, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.s.o.Wrap != nil {
		l.t = o.s.o.Wrap(o.c.Name, l.t)
	}
	err = o.within(ctx, o.s.o.OpenTimeout, "opening the device", v, func() { _ = l.t.Close() }, func() {
		if l.d != nil {
			_ = l.d.Close()
		}
	}, func(ctx context.Context) (err error) {
		l.d, err = o.driver.Open(ctx, l.t, Config{Name: o.c.Name, Log: o.s.o.Log, Params: o.c.Params})
		return err
	})
	if err != nil {
		return nil, err
	}
	l.close = sync.OnceFunc(func() { _ = l.d.Close() })
	if !faulted {
		o.set(StateProbing, "")
	}
	id, err := o.identify(ctx, l, o.s.o.OpenTimeout)
	if err != nil {
		return l, err
	}
	if why := o.unwanted(key, v, id.Serial); why != "" {
		o.s.refuse(o, key, v, why)
		return l, refusedError(why)
	}
	o.update(func(st *DeviceStatus) { st.Identity = id })
	return l, nil
}

// unwanted says why a device is not this owner's, or is empty.
func (o *owner) unwanted(key string, v sighting, serial string) string {
	if o.c.Serial != "" && serial != o.c.Serial {
		return fmt.Sprintf("the device there has serial number %q, and %q is configured", serial, o.c.Serial)
	}
	if other := o.s.pinned(o, serial); other != "" {
		return fmt.Sprintf("the device there has serial number %q, which is configured for %s", serial, other)
	}
	if other := o.s.elsewhere(o, key, v, serial); other != "" {
		return fmt.Sprintf("device %q was at %s before, which may take this port and waits for it: rescan to take it here", serial, other)
	}
	return ""
}

// identify asks the device who it is.
func (o *owner) identify(ctx context.Context, l *line, limit time.Duration) (id Identity, err error) {
	var said Identity // of a call that may be abandoned
	err = o.within(ctx, limit, "asking the device who it is", l.v, func() { o.free(l) }, nil, func(ctx context.Context) (err error) {
		said, err = l.d.Identify(ctx)
		return err
	})
	if err != nil {
		return id, err
	}
	return said, nil
}
