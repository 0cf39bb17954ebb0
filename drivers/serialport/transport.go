package serialport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.bug.st/serial"

	"tillbridge/drivers"
)

// slice is how long one read of the library waits. It bounds how late Close
// and a cancelled context are noticed; bytes are noticed at once.
const slice = 50 * time.Millisecond

// chunk is how much one write of the library takes. A write that is being
// abandoned is freed by emptying the driver's queue, and what is left of its
// chunk has to fit there.
const chunk = 512

// Bounds of Close and of a write that is being abandoned.
const (
	closeWait = 3 * time.Second
	flushWait = 200 * time.Millisecond
)

// library is what is used of serial.Port. Tests put a stuck one in its place.
type library interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetMode(*serial.Mode) error
	SetReadTimeout(time.Duration) error
	ResetOutputBuffer() error
	Close() error
}

// transport is an open port.
type transport struct {
	port library
	out  *os.File // the same port for writing, or nil: then the library writes
	lock *portLock
	info drivers.Port

	closing atomic.Bool   // "I closed it"
	closed  chan struct{} // closed when Close began
	once    sync.Once
	err     error // of Close

	reading sync.Mutex // held while the library reads
	timeout time.Duration

	writing chan struct{} // holds one token while a write of the library runs
	stuck   atomic.Bool   // a write passed its deadline: the port is to be closed
}

var (
	_ drivers.Transport  = (*transport)(nil)
	_ drivers.LineSetter = (*transport)(nil)
)

func newTransport(port library, out *os.File, lock *portLock, info drivers.Port) *transport {
	return &transport{port: port, out: out, lock: lock, info: info, timeout: -2,
		closed: make(chan struct{}), writing: make(chan struct{}, 1)}
}

// Info is the port as it was scanned.
func (t *transport) Info() drivers.Port { return t.info }

// Read returns at least one byte or an error.
func (t *transport) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	for {
		if t.closing.Load() {
			return 0, t.fail("read", os.ErrClosed)
		}
		wait := slice
		if err := ctx.Err(); err != nil {
			return 0, t.fail("read", err)
		}
		if deadline, ok := ctx.Deadline(); ok {
			wait = min(wait, max(time.Until(deadline), time.Millisecond))
		}
		if wait != t.timeout {
			if err := t.port.SetReadTimeout(wait); err != nil {
				return 0, t.fail("read", t.gone(err))
			}
			t.timeout = wait
		}
		n, err := t.port.Read(p)
		switch {
		case n > 0:
			return n, nil
		case err != nil:
			return 0, t.fail("read", t.gone(err))
		}
	}
}

// Write writes all of p, or fails. A write that did not end by its deadline
// may have sent a part; every later write fails until the port is closed.
func (t *transport) Write(ctx context.Context, p []byte) (int, error) {
	if t.closing.Load() {
		return 0, t.fail("write", os.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return 0, t.fail("write", err)
	}
	if t.stuck.Load() {
		return 0, t.fail("write", fmt.Errorf("an earlier write never ended; close the port: %w", drivers.ErrBusy))
	}
	select {
	case t.writing <- struct{}{}:
	default:
		return 0, t.fail("write", drivers.ErrBusy)
	}
	if t.out != nil {
		defer func() { <-t.writing }()
		return t.writeFile(ctx, p)
	}
	return t.writeLibrary(ctx, p)
}

// writeFile writes through the second descriptor, which takes deadlines.
func (t *transport) writeFile(ctx context.Context, p []byte) (int, error) {
	deadline, _ := ctx.Deadline() // zero: none
	if err := t.out.SetWriteDeadline(deadline); err != nil {
		return 0, t.fail("write", t.gone(err))
	}
	if ctx.Done() != nil {
		done := make(chan struct{})
		after := context.AfterFunc(ctx, func() {
			defer close(done)
			t.out.SetWriteDeadline(time.Unix(1, 0))
		})
		defer func() {
			if !after() {
				<-done
			}
		}()
	}
	n, err := t.out.Write(p)
	switch {
	case err == nil:
		return n, nil
	case t.closing.Load():
		return n, t.fail("write", os.ErrClosed)
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.stuck.Store(true)
		if err = ctx.Err(); err == nil {
			err = context.DeadlineExceeded // the poller's clock was a little earlier
		}
		return n, t.fail("write", err)
	}
	return n, t.fail("write", t.gone(err))
}

// writeLibrary writes through the library, whose writes have no end of their
// own. The caller holds the token of t.writing.
func (t *transport) writeLibrary(ctx context.Context, p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	own := append([]byte(nil), p...) // the caller may reuse p after a deadline
	go func() {
		var r result
		for r.n < len(own) && r.err == nil {
			var n int
			n, r.err = t.port.Write(own[r.n:min(len(own), r.n+chunk)])
			r.n += n
			if n == 0 && r.err == nil {
				r.err = errors.New("the port takes no bytes")
			}
			if t.stuck.Load() || t.closing.Load() {
				break
			}
		}
		<-t.writing
		done <- r
	}()
	select {
	case r := <-done:
		switch {
		case r.err != nil:
			return r.n, t.fail("write", t.gone(r.err))
		case r.n < len(p):
			return r.n, t.fail("write", os.ErrClosed)
		}
		return r.n, nil
	case <-ctx.Done():
		t.stuck.Store(true)
		// Dropping what waits in the driver's queue is what frees a write that
		// flow control holds; closing the descriptor does not.
		t.port.ResetOutputBuffer()
		select {
		case <-done:
		case <-time.After(flushWait):
		}
		return 0, t.fail("write", ctx.Err())
	case <-t.closed:
		return 0, t.fail("write", os.ErrClosed)
	}
}

// SetLine changes speed and format.
func (t *transport) SetLine(m drivers.LineMode) error {
	if m.Baud == 0 {
		return nil
	}
	mode, err := libraryMode(m)
	if err != nil {
		return t.fail("set line", err)
	}
	if err := t.port.SetMode(mode); err != nil {
		return t.fail("set line", err)
	}
	return nil
}

// Close releases the port and its lock. A pending Read ends within a slice, a
// pending Write at once.
func (t *transport) Close() error {
	t.once.Do(func() {
		t.closing.Store(true)
		close(t.closed)
		done := make(chan error, 1)
		go func() {
			if t.out != nil {
				t.out.SetWriteDeadline(time.Unix(1, 0)) // frees a pending write
			}
			t.reading.Lock()
			defer t.reading.Unlock()
			select {
			case t.writing <- struct{}{}:
			default: // a write is inside the library
				t.stuck.Store(true)
			}
			if t.stuck.Load() {
				t.port.ResetOutputBuffer() // or the system waits for it to drain
			}
			if t.out != nil {
				t.out.Close()
			}
			err := t.port.Close()
			t.lock.release()
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.err = t.fail("close", err)
			}
		case <-time.After(closeWait):
			t.err = t.fail("close", errors.New("the system does not release the port; unplug the device"))
		}
	})
	return t.err
}

// gone turns an error of the library into one that callers branch on: the
// library has one error for our own Close and for an unplug, and Windows has
// many for the latter.
func (t *transport) gone(err error) error {
	if t.closing.Load() {
		return os.ErrClosed
	}
	return fmt.Errorf("%w (%v)", drivers.ErrUnplugged, err)
}

func (t *transport) fail(op string, err error) error {
	return &drivers.DeviceError{Op: op, Device: t.info.Path, Err: err}
}
