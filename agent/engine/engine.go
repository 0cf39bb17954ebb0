package engine

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/queue"
)

// Engine runs the operations of all registers. Its methods may be called from
// several goroutines.
type Engine struct {
	o     Options
	log   *slog.Logger
	lanes map[string]*lane

	// hard ends when the process must: device, host and store calls of running
	// operations are bound to it. soft ends earlier: nothing new starts.
	hard     context.Context
	stopHard context.CancelFunc

	mu      sync.Mutex
	state   int           // 0 opened, 1 running, 2 stopping
	changed chan struct{} // closed and replaced at each commit
	soft    chan struct{} // closed when stopping
	wg      sync.WaitGroup
}

const (
	opened = iota
	running
	stopping
)

// Open checks the options and reads nothing yet: [Engine.Run] settles what was
// open and then lets operations in.
func Open(o Options) (*Engine, error) {
	o = o.withDefaults()
	switch {
	case o.Store == nil:
		return nil, errors.New("engine: no store given")
	case o.Sealer == nil:
		return nil, errors.New("engine: no sealer given")
	case len(o.Lanes) == 0:
		return nil, errors.New("engine: no register given: name at least one in the configuration")
	}
	e := &Engine{o: o, log: o.Log, lanes: map[string]*lane{}, changed: make(chan struct{}), soft: make(chan struct{})}
	for _, l := range o.Lanes {
		switch {
		case l.RegisterID == "":
			return nil, errors.New("engine: a register has no id")
		case e.lanes[l.RegisterID] != nil:
			return nil, fmt.Errorf("engine: register %q is named twice", l.RegisterID)
		case l.Device == nil:
			return nil, fmt.Errorf("engine: register %q has no device", l.RegisterID)
		case len(l.TerminalID) > 8 || len(l.MerchantID) > 15:
			return nil, fmt.Errorf("engine: register %q: terminal id has at most 8 characters, merchant id at most 15", l.RegisterID)
		}
		if l.Zone == nil {
			l.Zone = time.UTC
		}
		// A crash may have left a card in the slot.
		e.lanes[l.RegisterID] = &lane{Lane: l, free: make(chan struct{}), cardLeft: true}
	}
	e.hard, e.stopHard = context.WithCancel(context.Background())
	return e, nil
}

// Run settles what a crash left open, then takes operations until ctx ends. It
// returns once every goroutine of the engine has ended: payments that have not
// reached the authorizing record are cancelled, the others are given
// Options.Grace. It runs once. Its error is about records that could not be
// listed at start; a single unreadable record closes its register and no other.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.state != opened {
		e.mu.Unlock()
		return refuse(ErrStopped, "", "an engine runs once")
	}
	e.mu.Unlock()
	defer e.stopHard()
	if err := e.recover(ctx); err != nil {
		e.stopHard()
		e.wg.Wait()
		return err
	}
	e.mu.Lock()
	e.state = running
	e.mu.Unlock()
	e.notify()
	<-ctx.Done()
	e.mu.Lock()
	e.state = stopping
	close(e.soft)
	e.mu.Unlock()
	e.cancelUnarmed()
	idle := make(chan struct{})
	go func() { e.wg.Wait(); close(idle) }()
	grace := time.NewTimer(e.o.Grace)
	defer grace.Stop()
	select {
	case <-idle:
	case <-grace.C:
	}
	e.stopHard()
	<-idle
	return nil
}

// Ready reports whether operations are taken.
func (e *Engine) Ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state == running
}

// spawn starts a goroutine that Run waits for. It reports false when the
// engine is stopping.
func (e *Engine) spawn(fn func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == stopping {
		return false
	}
	e.wg.Go(fn)
	return true
}

// Changed returns a channel that is closed at the next commit of the engine.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

func (e *Engine) notify() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *Engine) now() time.Time { return e.o.Now() }

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// newID draws an id: 48 bits of milliseconds and 80 random bits, so that ids
// sort by time as long as the clock does.
func (e *Engine) newID(prefix string, at time.Time) string {
	var b [16]byte
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	var err error
	if e.o.Random != nil {
		_, err = io.ReadFull(e.o.Random, b[6:])
	} else {
		_, err = rand.Read(b[6:])
	}
	if err != nil {
		panic("engine: no randomness: " + err.Error()) // crypto/rand does not fail
	}
	return prefix + crockford.EncodeToString(b[:])
}

// errUnsettled: the process ends before the store said what became of a write.
var errUnsettled = errors.New("engine: stopping before the store answered")

// keep runs fn in a commit until the commit is known to be durable, or fn
// itself refuses. fn may run again after a commit that is known not to be
// there, so it reads what it changes. id is a record that fn puts; its mark
// tells after a doubtful commit whether this write is there. keep gives up
// only when ctx ends.
func (e *Engine) keep(ctx context.Context, id string, fn func(w *work) error) error {
	for try := 0; ; try++ {
		mark := e.newID("w", e.now())
		err := e.once(ctx, mark, fn)
		own, isOwn := errors.AsType[*ownError](err)
		switch {
		case err == nil:
			e.notify()
			return nil
		case isOwn:
			return own.err
		case errors.Is(err, queue.ErrNotStored):
		default:
			there, serr := e.findMark(ctx, id, mark)
			if serr != nil {
				return fmt.Errorf("%w: %w", errUnsettled, err)
			}
			if there {
				e.notify()
				return nil
			}
		}
		if try == 0 {
			e.log.Warn("the store did not take a record; trying again", "id", id, "err", err)
		}
		if !e.sleep(ctx, e.backoff(try)) {
			return fmt.Errorf("%w: %w", errUnsettled, err)
		}
	}
}

// ownError carries an error of fn through Commit.
type ownError struct{ err error }

func (o *ownError) Error() string { return o.err.Error() }

func (e *Engine) once(ctx context.Context, mark string, fn func(w *work) error) error {
	return e.o.Store.Commit(ctx, func(tx *queue.Tx) error {
		if err := fn(&work{e: e, tx: tx, mark: mark, at: e.now()}); err != nil {
			return &ownError{err}
		}
		return nil
	})
}

// findMark looks until the store answers whether the write is there.
func (e *Engine) findMark(ctx context.Context, id, mark string) (bool, error) {
	for try := 0; ; try++ {
		there := false
		err := e.o.Store.View(ctx, func(tx *queue.Tx) error {
			r, err := tx.Get(id)
			if errors.Is(err, queue.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			h, err := e.decode(r)
			if err != nil {
				return err
			}
			there = h.Mark == mark
			return nil
		})
		if err == nil {
			return there, nil
		}
		if errors.Is(err, queue.ErrClosed) || !e.sleep(ctx, e.backoff(try)) {
			return false, err
		}
	}
}

// backoff of the store's repeats: short, it is a local disk.
func (e *Engine) backoff(try int) time.Duration {
	return min(20*time.Millisecond<<min(try, 8), 2*time.Second)
}

// sleep waits and reports false when ctx ended first.
func (e *Engine) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// change keeps a change of one payment and returns it as stored.
func (e *Engine) change(ctx context.Context, id string, fn func(w *work, h *held, p *payment.Payment) error) (payment.Payment, error) {
	var out payment.Payment
	err := e.keep(ctx, id, func(w *work) error {
		h, p, err := w.payment(id)
		if err != nil {
			return err
		}
		if err := fn(w, h, p); err != nil {
			return err
		}
		out = *p
		return w.put(h)
	})
	return out, err
}

// changeOperation keeps a change of one operation and its payment. p is nil
// for an operation without one. The payment is put first, so that the
// operation's event carries it as it is after the commit.
func (e *Engine) changeOperation(ctx context.Context, id string, fn func(w *work, o *payment.Operation, h *held, p *payment.Payment) error) (payment.Operation, error) {
	var out payment.Operation
	err := e.keep(ctx, id, func(w *work) error {
		ho, o, err := w.operation(id)
		if err != nil {
			return err
		}
		var hp *held
		var p *payment.Payment
		if o.PaymentID != "" {
			if hp, p, err = w.payment(o.PaymentID); err != nil {
				return err
			}
		}
		if err := fn(w, o, ho, p); err != nil {
			return err
		}
		out = *o
		if hp != nil {
			if err := w.put(hp); err != nil {
				return err
			}
		}
		return w.put(ho)
	})
	return out, err
}
