package drivers

import (
	"context"
	"fmt"
)

// debt is the device that an operation was cut off on, and that Recover is due
// for.
type debt struct {
	id  Identity
	key string // of the port it stood on
}

// recover settles the operation that was cut off, on the device that it was
// cut off on: another one knows nothing of it, and its last transaction would
// be taken for ours.
func (o *owner) recover(ctx context.Context, l *line) error {
	o.mu.Lock()
	owed, id := o.owed, o.st.Identity
	o.mu.Unlock()
	if owed == nil {
		return nil
	}
	if why := o.stands(*owed, id, l.key); why != "" {
		o.s.refuse(o, l.key, l.v, why)
		o.mu.Lock()
		o.stranger = l.key
		o.mu.Unlock()
		return refusedError(why)
	}
	if o.s.o.Recover != nil {
		o.set(StateRecovering, "settling the last operation")
		err := o.within(ctx, o.s.o.OpLimit, "settling the last operation", l.v, func() { o.free(l) }, nil, func(ctx context.Context) error { return o.s.o.Recover(ctx, o.c.Name, l.d) })
		if err != nil {
			return err
		}
	}
	o.mu.Lock()
	o.owed, o.stranger = nil, ""
	o.mu.Unlock()
	return nil
}

// stands says why a device may not be the one that is owed, or is empty. A
// serial number that says nothing leaves make, model and the place.
func (o *owner) stands(owed debt, id Identity, key string) string {
	const how = "connect that one, or rescan to take this one in its place"
	if owed.id.Serial != "" && !o.s.shared(o, owed.id.Serial) {
		if id.Serial == owed.id.Serial {
			return ""
		}
		return fmt.Sprintf("%s stands here and an operation on %q is not settled: %s", describe(id), owed.id.Serial, how)
	}
	if !alike(id, owed.id) {
		return fmt.Sprintf("%s stands here and an operation on %s is not settled: %s", describe(id), describe(owed.id), how)
	}
	if key != owed.key {
		return fmt.Sprintf("%s stands here and an operation on one like it is not settled: connect it where it was, or rescan to take it here", describe(id))
	}
	return ""
}

// alike compares what two devices say of themselves. Firmware and keys change
// in the life of a device.
func alike(a, b Identity) bool {
	return a.Serial == b.Serial && a.Vendor == b.Vendor && a.Model == b.Model
}

// anew is a person's word: nothing that failed counts, and a device that stands
// where another is owed may take its place.
func (o *owner) anew() {
	o.mu.Lock()
	stranger := o.stranger
	clear(o.tries)
	clear(o.hung)
	o.was = ""
	o.mu.Unlock()
	if _, ok := o.s.sighted(stranger); ok {
		o.mu.Lock()
		o.owed, o.stranger = nil, ""
		o.mu.Unlock()
	}
}
