package usbport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"tillbridge/drivers"
)

// transport is an open interface. Two pumps read its endpoints all the time, so
// that a deadline of Read cancels no transfer: a cancel can lose a message.
type transport struct {
	port   drivers.Port
	number int
	p      pipe
	o      Options

	// left is told of a device that does not close; closed is closed when it
	// does. May be nil.
	left func(closed <-chan struct{})

	messages chan []byte
	ctx      context.Context // of the pumps and of transfers
	cancel   context.CancelFunc
	pumps    sync.WaitGroup

	mu     sync.Mutex
	err    error         // why it ended
	ended  chan struct{} // closed with err set
	first  sync.Once
	closed chan struct{} // closed when the device is, with failed set
	failed error         // of closing
}

func newTransport(port drivers.Port, number int, p pipe, o Options) *transport {
	t := &transport{port: port, number: number, p: p, o: o, messages: make(chan []byte, 16), ended: make(chan struct{}), closed: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	longest := o.MaxMessage
	if n := p.message(); n > 0 {
		longest = n
	}
	t.pumps.Go(func() { t.pump(p.read, roundUp(longest, p.packet())) })
	if n := p.eventSize(); n > 0 {
		t.pumps.Go(func() { t.pump(p.readEvent, n) })
	}
	return t
}

// maxErrors is how many transfers in a row may fail before the line is given up.
const maxErrors = 3

func (t *transport) pump(read func(context.Context, []byte) (int, error), size int) {
	buf := make([]byte, size)
	failures := 0
	for t.ctx.Err() == nil {
		n, err := read(t.ctx, buf)
		if err != nil {
			if failures++; failures >= maxErrors || errors.Is(err, drivers.ErrUnplugged) || t.ctx.Err() != nil {
				t.end(err)
				return
			}
			continue
		}
		failures = 0
		if n == 0 {
			continue // a transfer of length zero ends a message that filled its packets
		}
		m := append([]byte(nil), buf[:n]...)
		clear(buf[:n])
		select {
		case t.messages <- m:
		case <-t.ctx.Done():
			return
		}
	}
}

// end keeps the first reason why the line is over.
func (t *transport) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	if !errors.Is(err, drivers.ErrUnplugged) && !errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("%w: %w", drivers.ErrUnplugged, err)
	}
	t.err = err
	close(t.ended)
}

func (t *transport) reason() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Read returns one message of the interface. A message longer than p is an
// error and is lost.
func (t *transport) Read(ctx context.Context, p []byte) (int, error) {
	select {
	case <-t.ended:
		if errors.Is(t.reason(), os.ErrClosed) {
			return 0, os.ErrClosed
		}
	default:
	}
	take := func(m []byte) (int, error) {
		if len(m) > len(p) {
			return 0, fmt.Errorf("usbport: a message of %d bytes where %d are expected", len(m), len(p))
		}
		return copy(p, m), nil
	}
	select {
	case m := <-t.messages: // what came before the end is read first
		return take(m)
	default:
	}
	select {
	case m := <-t.messages:
		return take(m)
	case <-t.ended:
		return 0, t.reason()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Write sends p as one transfer. A transfer that does not come back after its
// deadline costs the line: the device is closed.
func (t *transport) Write(ctx context.Context, p []byte) (int, error) {
	select {
	case <-t.ended:
		return 0, t.reason()
	default:
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(t.ctx, cancel)
	defer stop()
	data := append([]byte(nil), p...) // an abandoned transfer keeps its bytes
	n, err, back := abandon(own, t.o.Abandon, func() (int, error) { return t.p.write(own, data) })
	switch {
	case !back:
		t.end(errors.New("usbport: a transfer does not come back"))
		go t.Close() // returns by its own deadlines
		return 0, t.reason()
	case err == nil:
		return n, nil
	case t.ctx.Err() != nil:
		return 0, os.ErrClosed
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case errors.Is(err, drivers.ErrUnplugged):
		t.end(err)
	}
	return n, err
}

// abandon runs f, which may ignore its context, and gives it up some time after
// the context has ended. back says whether f returned.
func abandon(ctx context.Context, grace time.Duration, f func() (int, error)) (n int, err error, back bool) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := f()
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err, true
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.n, r.err, true
	case <-timer.C:
		return 0, ctx.Err(), false
	}
}

// Control does one control transfer. libusb bounds it by Options.ControlTimeout
// and knows no context: it is abandoned after that.
func (t *transport) Control(ctx context.Context, requestType, request byte, value, index uint16, data []byte) (int, error) {
	select {
	case <-t.ended:
		return 0, t.reason()
	default:
	}
	own := append([]byte(nil), data...)
	n, err, back := abandon(ctx, t.o.Abandon, func() (int, error) { return t.p.control(requestType, request, value, index, own) })
	if !back {
		t.end(errors.New("usbport: a control transfer does not come back"))
		return 0, t.reason()
	}
	if err == nil && requestType&0x80 != 0 {
		n = copy(data, own[:min(n, len(own))])
	}
	return n, err
}

// Close cancels what runs, waits for it a while, and closes the device.
func (t *transport) Close() error {
	mine := false
	t.first.Do(func() { mine = true })
	if !mine {
		<-t.closed
		return t.failed
	}
	defer close(t.closed)
	t.end(os.ErrClosed)
	t.cancel()
	expired, stop := context.WithCancel(context.Background())
	stop()
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		t.pumps.Wait()
	}()
	// Whatever hangs in the system ends when the device is pulled, at the latest:
	// this goroutine closes the device then.
	closed := make(chan struct{})
	var err error
	go func() {
		defer close(closed)
		_, _, _ = abandon(expired, t.o.Abandon, func() (int, error) { <-waited; return 0, nil })
		t.p.release()
		<-waited
		err = t.p.close()
	}()
	_, _, back := abandon(expired, 2*t.o.Abandon, func() (int, error) { <-closed; return 0, nil })
	if back {
		t.failed = err
		return err
	}
	if t.left != nil {
		t.left(closed)
	}
	t.failed = ErrStuck
	return t.failed
}

// Info is the port, with the names that the device gave when it was opened.
func (t *transport) Info() drivers.Port { return t.port }

// InterfaceNumber is the number of the interface within the device.
func (t *transport) InterfaceNumber() int { return t.number }

var _ drivers.Transport = (*transport)(nil)
