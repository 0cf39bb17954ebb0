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

	mu sync.Mutex
	st DeviceStatus
	// owed is the serial number of the device that an operation was cut off on
	// and that Recover is due for. Empty means none, or that it has no number.
	owed   string
	waived bool // a person gave owed up
}

func newOwner(s *Supervisor, c DeviceConfig, d Driver) *owner {
	return &owner{s: s, c: c, driver: d, box: make(chan request), st: DeviceStatus{Name: c.Name, Protocol: c.Protocol, State: StateAbsent, Since: time.Now()}}
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
	failures, opened, recovering := 0, false, false
	serial := "" // of the device that was Ready last
	ill := false // the last failure was that of an open device: ask its health before Ready
	for ctx.Err() == nil {
		changed := o.s.watch()
		v, ok := o.s.claim(o)
		if !ok {
			o.set(StateAbsent, o.absent())
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		key := v.port.Key()
		d, err := o.open(ctx, v, key, failures >= o.s.o.FaultAfter)
		if err == nil && ill {
			err = o.well(ctx, d)
		}
		if err == nil && recovering {
			err = o.recover(ctx, d, key)
		}
		if err != nil {
			if d != nil {
				_ = d.Close()
			}
			o.s.release(key)
			failures++
			if failures == resetAfter && ctx.Err() == nil {
				o.reset(ctx, v)
			}
			o.pause(ctx, failures, key, err)
			continue
		}
		if opened {
			o.update(func(st *DeviceStatus) { st.Replugs++ })
		}
		opened, recovering, ill = true, false, false
		o.lastKey = key
		detail, now := "", o.status().Identity.Serial
		if serial != "" && now != serial {
			detail = fmt.Sprintf("device %q stands in the place of %q", now, serial)
		}
		serial = now
		o.set(StateReady, detail)
		worked, busy, err := o.serve(ctx, d, key, v.port)
		_ = d.Close()
		o.s.release(key)
		if ctx.Err() != nil {
			break
		}
		recovering = recovering || busy
		if worked {
			failures = 0
		}
		failures++
		ill = !errors.Is(err, ErrUnplugged)
		o.update(func(st *DeviceStatus) { st.Port = Port{} })
		if errors.Is(err, ErrUnplugged) && failures < o.s.o.FaultAfter {
			o.set(StateRecovering, "the port is gone")
			continue // the port's own absence is the pause
		}
		o.pause(ctx, failures, key, err)
	}
	o.set(StateAbsent, "the agent has stopped")
}

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
func (o *owner) well(ctx context.Context, d Device) error {
	h, err := o.check(ctx, d)
	if err == nil && !h.OK {
		err = fmt.Errorf("the device is not well: %s", h.Detail)
	}
	return err
}

// recover settles the operation that was cut off, on the device that it was
// cut off on: another one knows nothing of it, and its last transaction would
// be taken for ours.
func (o *owner) recover(ctx context.Context, d Device, key string) error {
	o.mu.Lock()
	owed, serial := o.owed, o.st.Identity.Serial
	o.mu.Unlock()
	if owed != "" && serial != owed {
		why := fmt.Sprintf("device %q stands here and an operation on %q is not settled: connect that one, or rescan to take this one in its place", serial, owed)
		o.s.refuse(o, key, why)
		return errors.New(why)
	}
	if o.s.o.Recover == nil || owed == "" && o.replaced() {
		return nil
	}
	o.set(StateRecovering, "settling the last operation")
	return o.s.o.Recover(ctx, o.c.Name, d)
}

// replaced reports, once, that a person took another device in place of the
// one whose operation is not settled.
func (o *owner) replaced() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.waived
	o.waived = false
	return was
}

// waive forgets which device an operation was cut off on.
func (o *owner) waive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.owed != "" && o.st.Identity.Serial != o.owed {
		o.owed, o.waived = "", true
	}
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
	ctx, cancel := context.WithTimeout(ctx, o.s.o.CheckTimeout)
	defer cancel()
	o.set(StateRecovering, "resetting the port")
	if err := r.Reset(ctx, v.port); err != nil {
		o.s.o.Log.Warn("the port could not be reset", "device", o.c.Name, "port", v.port.Path, "err", err)
	}
}

// open opens port and protocol and checks who answers. A faulted device stays
// Faulted meanwhile: it is tried again, and nothing changed yet.
func (o *owner) open(ctx context.Context, v sighting, key string, faulted bool) (Device, error) {
	p := v.port
	p.Explicit = p.Explicit || len(o.c.Ports) > 0
	o.update(func(st *DeviceStatus) { st.Port = p })
	if !faulted {
		o.set(StateOpening, "")
	}
	openCtx, cancel := context.WithTimeout(ctx, o.s.o.OpenTimeout)
	defer cancel()
	t, err := v.bus.Open(openCtx, p)
	if err != nil {
		return nil, err
	}
	if o.s.o.Wrap != nil {
		t = o.s.o.Wrap(o.c.Name, t)
	}
	d, err := o.driver.Open(openCtx, t, Config{Name: o.c.Name, Log: o.s.o.Log, Params: o.c.Params})
	if err != nil {
		return nil, err
	}
	if !faulted {
		o.set(StateProbing, "")
	}
	idCtx, cancel := context.WithTimeout(ctx, o.s.o.OpenTimeout)
	defer cancel()
	id, err := d.Identify(idCtx)
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	if o.c.Serial != "" && id.Serial != o.c.Serial {
		_ = d.Close()
		why := fmt.Sprintf("the device there has serial number %q, and %q is configured", id.Serial, o.c.Serial)
		o.s.refuse(o, key, why)
		return nil, errors.New(why)
	}
	if other := o.s.pinned(o, id.Serial); other != "" {
		_ = d.Close()
		why := fmt.Sprintf("the device there has serial number %q, which is configured for %s", id.Serial, other)
		o.s.refuse(o, key, why)
		return nil, errors.New(why)
	}
	o.update(func(st *DeviceStatus) { st.Identity = id })
	return d, nil
}

// serve runs requests and health checks until the device is lost. worked says
// that it did something well, busy that an operation was cut off.
func (o *owner) serve(ctx context.Context, d Device, key string, was Port) (worked, busy bool, err error) {
	timer := time.NewTimer(jitter(o.s.o.KeepAlive))
	defer timer.Stop()
	unwell := 0
	for {
		changed := o.s.watch()
		if now, ok := o.s.sighted(key); !ok || now.Path != was.Path || now.Node != was.Node {
			// A scan may have met the port half built, or it left and came back
			// between two scans: the device itself decides.
			if ok {
				was = now
			}
			o.set(StateBusy, "is it still there?")
			if _, err := o.check(ctx, d); err != nil {
				return worked, false, ErrUnplugged
			}
			o.set(StateReady, "")
		}
		select {
		case <-ctx.Done():
			return worked, false, ctx.Err()
		case <-changed:
		case r := <-o.box:
			o.set(StateBusy, "")
			err := r.fn(d)
			if err != nil {
				// Whether the line still lives decides what comes next; the caller
				// gets its own error either way.
				if lost := o.alive(ctx, d, err); lost != nil {
					o.mu.Lock()
					o.owed = o.st.Identity.Serial
					o.mu.Unlock()
					o.set(StateRecovering, lost.Error())
					r.reply <- err
					return worked, true, lost
				}
			} else {
				worked = true
			}
			o.set(StateReady, "")
			r.reply <- err
			timer.Reset(jitter(o.s.o.KeepAlive))
		case <-timer.C:
			o.set(StateBusy, "health check")
			h, err := o.check(ctx, d)
			switch {
			case err != nil:
				return worked, false, err
			case h.OK:
				worked, unwell = true, 0
				o.set(StateReady, "")
			default:
				unwell++
				if unwell >= o.s.o.FaultAfter {
					o.set(StateFaulted, h.Detail)
				} else {
					o.set(StateReady, h.Detail)
				}
			}
			timer.Reset(jitter(o.s.o.KeepAlive))
		}
	}
}

func (o *owner) check(ctx context.Context, d Device) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, o.s.o.CheckTimeout)
	defer cancel()
	return d.Health(ctx)
}

// alive returns why a device whose operation failed has to be opened anew, or
// nil.
func (o *owner) alive(ctx context.Context, d Device, err error) error {
	if errors.Is(err, ErrUnplugged) {
		return err
	}
	if _, err := o.check(ctx, d); err != nil {
		return err
	}
	return nil
}

// pause waits before the next attempt, longer after each failure, and ends
// early when the ports change. A port that left needs no patience.
func (o *owner) pause(ctx context.Context, failures int, key string, err error) {
	state := StateRecovering
	if failures >= o.s.o.FaultAfter {
		state = StateFaulted
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	o.update(func(st *DeviceStatus) { st.Failures = failures })
	o.set(state, text)
	d := o.s.o.BackoffFirst
	for i := 1; i < failures && d < o.s.o.BackoffMax; i++ {
		d *= 2
	}
	timer := time.NewTimer(jitter(min(d, o.s.o.BackoffMax)))
	defer timer.Stop()
	for {
		changed := o.s.watch()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-changed:
			if !o.s.present(key) {
				return
			}
		}
	}
}
