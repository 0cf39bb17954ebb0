// Package netport is the bus of devices on the network: a terminal that
// listens on TCP, or a virtual device of the demo.
//
// Start with [New]. There is nothing to discover: Scan returns the configured
// addresses, and whether something listens shows when one is opened.
//
// What this package does not do: it knows no protocol, and it does not listen.
package netport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tillbridge/drivers"
)

// Options of a Bus.
type Options struct {
	// Addresses are "host:port".
	Addresses []string
	// TLS wraps every connection when it is set.
	TLS *tls.Config
	// KeepAlive is the interval of TCP keep-alive. Default 15 s; negative
	// turns it off.
	KeepAlive time.Duration
	// DialTimeout bounds Open when the context has no earlier deadline.
	// Default 10 s.
	DialTimeout time.Duration
}

// Bus opens TCP connections.
type Bus struct{ o Options }

var _ drivers.Bus = (*Bus)(nil)

// New returns a bus. A nil Options has no addresses.
func New(o *Options) *Bus {
	b := &Bus{}
	if o != nil {
		b.o = *o
	}
	if b.o.DialTimeout == 0 {
		b.o.DialTimeout = 10 * time.Second
	}
	if b.o.KeepAlive == 0 {
		b.o.KeepAlive = 15 * time.Second
	}
	return b
}

// Scan returns the configured addresses.
func (b *Bus) Scan(ctx context.Context) ([]drivers.Port, error) {
	ports := make([]drivers.Port, 0, len(b.o.Addresses))
	for _, a := range b.o.Addresses {
		ports = append(ports, drivers.Port{Kind: drivers.KindTCP, Path: a, Explicit: true, Named: a})
	}
	return ports, ctx.Err()
}

// Open connects. It fails with drivers.ErrNoPort when nobody listens there.
func (b *Bus) Open(ctx context.Context, p drivers.Port) (drivers.Transport, error) {
	ctx, cancel := context.WithTimeout(ctx, b.o.DialTimeout)
	defer cancel()
	d := net.Dialer{KeepAlive: b.o.KeepAlive}
	c, err := d.DialContext(ctx, "tcp", p.Path)
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w (%v)", drivers.ErrNoPort, err)
		}
		return nil, &drivers.DeviceError{Op: "open", Device: p.Path, Err: err}
	}
	if b.o.TLS != nil {
		config := b.o.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(p.Path)
		}
		s := tls.Client(c, config)
		if err := s.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, &drivers.DeviceError{Op: "open", Device: p.Path, Err: fmt.Errorf("TLS: %w", err)}
		}
		c = s
	}
	p.Kind = drivers.KindTCP
	return Wrap(c, p), nil
}

// Wrap makes a transport of a connection that is already open, for a device
// that calls us.
func Wrap(c net.Conn, p drivers.Port) drivers.Transport { return &transport{conn: c, info: p} }

type transport struct {
	conn    net.Conn
	info    drivers.Port
	closing atomic.Bool
	torn    atomic.Bool // a write was cut off half-way
	once    sync.Once
	err     error
}

// Info is the port that was opened.
func (t *transport) Info() drivers.Port { return t.info }

// Read returns at least one byte or an error.
func (t *transport) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	stop, err := until(ctx, t.conn.SetReadDeadline)
	if err != nil {
		return 0, t.fail(ctx, "read", err)
	}
	n, err := t.conn.Read(p)
	stop()
	if n > 0 {
		return n, nil
	}
	return 0, t.fail(ctx, "read", err)
}

// Write writes all of p or fails. After one that sent a part every later one
// fails with drivers.ErrUnplugged: its bytes would be taken for the rest of the
// first, an amount for instance.
func (t *transport) Write(ctx context.Context, p []byte) (int, error) {
	if t.torn.Load() {
		return 0, t.fail(ctx, "write", errTorn)
	}
	stop, err := until(ctx, t.conn.SetWriteDeadline)
	if err != nil {
		return 0, t.fail(ctx, "write", err)
	}
	n, err := t.conn.Write(p)
	stop()
	if err != nil {
		if n > 0 {
			t.torn.Store(true)
		}
		return n, t.fail(ctx, "write", err)
	}
	return n, nil
}

var errTorn = errors.New("an earlier message was cut off: connect again")

// until sets the deadline of the context and moves it to now when the context
// is cancelled. A call of the previous operation's cancellation cannot reach
// into this one: stop waits for it.
func until(ctx context.Context, set func(time.Time) error) (stop func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline() // zero: none
	if err := set(deadline); err != nil {
		return nil, err
	}
	if ctx.Done() == nil {
		return func() {}, nil
	}
	done := make(chan struct{})
	after := context.AfterFunc(ctx, func() {
		defer close(done)
		set(time.Unix(1, 0))
	})
	return func() {
		if !after() {
			<-done
		}
	}, nil
}

// Close hangs up.
func (t *transport) Close() error {
	t.once.Do(func() {
		t.closing.Store(true)
		if err := t.conn.Close(); err != nil {
			t.err = &drivers.DeviceError{Op: "close", Device: t.info.Path, Err: err}
		}
	})
	return t.err
}

func (t *transport) fail(ctx context.Context, op string, err error) error {
	switch {
	case t.closing.Load():
		err = os.ErrClosed
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = context.DeadlineExceeded // the clock of the socket was a little earlier
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		err = fmt.Errorf("%w (the other side hung up)", drivers.ErrUnplugged)
	default:
		err = fmt.Errorf("%w (%v)", drivers.ErrUnplugged, err)
	}
	return &drivers.DeviceError{Op: op, Device: t.info.Path, Err: err}
}
