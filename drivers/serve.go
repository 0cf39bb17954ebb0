package drivers

import (
	"context"
	"errors"
	"time"
)

// serve runs requests and health checks until the device is lost. worked says
// that it did something well.
func (o *owner) serve(ctx context.Context, l *line) (worked bool, err error) {
	timer := time.NewTimer(jitter(o.s.o.KeepAlive))
	defer timer.Stop()
	unwell, was := 0, l.v.port
	for {
		changed := o.s.watch()
		if now, ok := o.s.sighted(l.key); !ok || now.Path != was.Path || now.Node != was.Node {
			// A scan may have met the port half built, or it left and came back
			// between two scans: the device itself decides.
			if ok {
				was = now
			}
			o.set(StateBusy, "is it still there?")
			if _, err := o.check(ctx, l); err != nil {
				return worked, ErrUnplugged
			}
			o.update(func(st *DeviceStatus) { st.Port.Path, st.Port.Node = was.Path, was.Node })
			o.set(StateReady, "")
		}
		select {
		case <-ctx.Done():
			return worked, ctx.Err()
		case <-changed:
		case r := <-o.box:
			if r.ctx.Err() != nil {
				st := o.status() // its caller has left
				r.reply <- &NotReadyError{Device: o.c.Name, State: st.State, Detail: st.Detail}
				continue
			}
			o.set(StateBusy, "")
			err, cut := o.operate(ctx, l, r.fn)
			var lost error
			switch {
			case cut:
				lost = errors.New("an operation did not end in its time and its line was closed")
			case err != nil:
				// Whether the line still lives decides what comes next; the caller
				// gets its own error either way.
				lost = o.alive(ctx, l, err)
			}
			if lost != nil {
				o.mu.Lock()
				o.owed = &debt{id: o.st.Identity, key: l.key}
				o.mu.Unlock()
				o.set(StateRecovering, o.plain(lost))
				r.reply <- err
				return worked, lost
			}
			worked = worked || err == nil
			o.set(StateReady, "")
			r.reply <- err
			timer.Reset(jitter(o.s.o.KeepAlive))
		case <-timer.C:
			o.set(StateBusy, "health check")
			h, err := o.check(ctx, l)
			switch {
			case err != nil:
				return worked, err
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

// alive returns why a device whose operation failed has to be opened anew, or
// nil.
func (o *owner) alive(ctx context.Context, l *line, err error) error {
	if errors.Is(err, ErrUnplugged) {
		return err
	}
	_, err = o.check(ctx, l)
	return err
}

// errOther: the line lives, and another device is at its end.
var errOther = errors.New("another device answers on the port")

// check asks the device how it is, and whether it is still the same: the line
// of a serial port does not break when the pad at its end is changed.
func (o *owner) check(ctx context.Context, l *line) (Health, error) {
	var said Health
	err := o.within(ctx, o.s.o.CheckTimeout, "a health check", l.v, func() { o.free(l) }, nil, func(ctx context.Context) (err error) {
		said, err = l.d.Health(ctx)
		return err
	})
	if err != nil {
		return Health{}, err
	}
	id, err := o.identify(ctx, l, o.s.o.CheckTimeout)
	if err == nil && !alike(id, o.status().Identity) {
		err = errOther
	}
	return said, err
}
