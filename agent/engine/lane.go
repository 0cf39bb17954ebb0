package engine

import (
	"context"
	"fmt"
	"sync"

	"tillbridge/agent/payment"
	"tillbridge/emv"
)

// lane is a register at work: one operation at a time holds its device.
type lane struct {
	Lane

	mu      sync.Mutex
	current *run
	broken  string        // why nothing may run here until a restart, or empty
	heldBy  []string      // records that a person must resolve before the lane opens
	free    chan struct{} // closed and replaced when the lane is released

	// cardLeft: the last payment's card was not taken out. It belongs to whoever
	// has the device.
	cardLeft bool
}

// run is an operation that holds a lane.
type run struct {
	id, credential, key string
	amount              payment.Money
	started             chan struct{} // closed once the record is stored or refused

	mu       sync.Mutex
	session  emv.Session
	abort    func(context.Context) error // of a terminal
	stop     context.CancelFunc          // ends the wait for device and card
	canceled payment.Stage               // why the card part was given up, or empty
	sent     bool                        // past the point of no cancel
}

// reserve takes the lane for r, or says who holds it.
func (l *lane) reserve(r *run) (blocking *run, closed error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.closed(); err != nil {
		return nil, err
	}
	if l.current != nil {
		return l.current, nil
	}
	l.current = r
	return nil, nil
}

// closed says why nothing may run here, or nil. The caller holds the lock. A
// till must not take the sale to another register while its payment is in
// doubt: such an answer forbids the retry.
func (l *lane) closed() error {
	switch {
	case len(l.heldBy) > 0:
		id := l.heldBy[0]
		return &Error{Err: ErrClosedLane, ID: id, Again: payment.RetryForbidden,
			Detail: fmt.Sprintf("%s is in doubt and can be settled by a person only: do not run the card again; see `tillbridge tx show %s`, then resolve it", id, id)}
	case l.broken != "":
		return &Error{Err: ErrClosedLane, Detail: l.broken, Again: payment.RetryForbidden}
	}
	return nil
}

func (l *lane) release(r *run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == r {
		l.current = nil
		close(l.free)
		l.free = make(chan struct{})
	}
}

func (l *lane) close(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = why
}

func (l *lane) holder() *run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

func (l *lane) freed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free
}

// begin makes the wait for device and card stoppable. It returns a context
// that ends when the card part is given up.
func (r *run) begin(ctx context.Context) context.Context {
	ctx, stop := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = stop
	if r.canceled != "" {
		stop()
	}
	return ctx
}

// giveUp asks the card part to end, unless something was sent. It reports
// false when it is too late.
func (r *run) giveUp(why payment.Stage) (emv.Session, func(context.Context) error, context.CancelFunc, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent && r.abort == nil {
		return nil, nil, nil, false
	}
	if r.canceled == "" {
		r.canceled = why
	}
	return r.session, r.abort, r.stop, true
}

// send marks the point of no cancel, unless the payment was given up before.
func (r *run) send() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.canceled != "" {
		return false
	}
	r.sent = true
	return true
}

func (r *run) whyCanceled() payment.Stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.canceled
}

func (r *run) setSession(s emv.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.session = s
}

func (r *run) setAbort(abort func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abort = abort
}
