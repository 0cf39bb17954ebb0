package virtualcard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Control bytes of the vpcd framing: a message of length one.
const (
	vpcdOff   = 0x00
	vpcdOn    = 0x01
	vpcdReset = 0x02
	vpcdATR   = 0x04
)

// ServeOptions of [Serve]. The zero value and nil are valid.
type ServeOptions struct {
	// Idle ends the connection when no message came for so long; 0 means ten
	// minutes.
	Idle time.Duration
	// Delay waits before each answer to a command, for tests of a slow card.
	Delay time.Duration
}

// Serve answers on conn in the framing of vsmartcard's vpcd: two bytes of
// length, big-endian, then the message. A message of one byte is a control
// code (00 off, 01 on, 02 reset, 04 ATR; only the last is answered), a longer
// one a command APDU. An empty message is an error.
//
// It ends when the peer closes the connection (nil), when ctx is done, on an
// error, or when the card was removed ([ErrRemoved]). It closes conn.
func Serve(ctx context.Context, conn net.Conn, c *Card, o *ServeOptions) error {
	if o == nil {
		o = &ServeOptions{}
	}
	idle := o.Idle
	if idle == 0 {
		idle = 10 * time.Minute
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	buf := make([]byte, 65535)
	for {
		// A pipe whose other end is closed refuses deadlines: reading says it better.
		if err := setDeadline(conn, idle); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return ended(ctx, err)
		}
		n, err := readFrame(conn, buf)
		switch {
		case err == io.EOF && ctx.Err() == nil:
			return nil
		case err != nil:
			return ended(ctx, err)
		}
		answer, err := c.vpcd(ctx, buf[:n])
		if err != nil {
			return err
		}
		if answer == nil {
			continue
		}
		if n > 1 && o.Delay > 0 {
			t := time.NewTimer(o.Delay)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
		}
		if err := WriteFrame(conn, answer); err != nil {
			return ended(ctx, err)
		}
	}
}

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// vpcd answers one message; nil is no answer.
func (c *Card) vpcd(ctx context.Context, m []byte) ([]byte, error) {
	if len(m) > 1 {
		return c.Transmit(ctx, m)
	}
	switch m[0] {
	case vpcdOff, vpcdOn, vpcdReset:
		c.mu.Lock()
		removed := c.removed
		c.mu.Unlock()
		if removed {
			return nil, ErrRemoved
		}
		c.Reset()
		return nil, nil
	case vpcdATR:
		return c.ATR(), nil
	}
	return nil, fmt.Errorf("%w: control code %02X", ErrFrame, m[0])
}

// ErrFrame says that a message is not one of the vpcd framing.
var ErrFrame = errors.New("virtualcard: not a vpcd message")

func readFrame(r io.Reader, buf []byte) (int, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n == 0 || n > len(buf) {
		return 0, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	return n, nil
}

// WriteFrame writes one message of 1 to 65,535 bytes.
func WriteFrame(w io.Writer, m []byte) error {
	if len(m) == 0 || len(m) > 65535 {
		return fmt.Errorf("%w: length %d", ErrFrame, len(m))
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(m)), uint16(len(m)))
	if _, err := w.Write(append(b, m...)); err != nil {
		return fmt.Errorf("write vpcd message: %w", err)
	}
	return nil
}

// Reader is the other end of the framing: a reader with a card in it, and an
// emv.Transceiver. It serves tests that run a kernel against a card behind a
// connection, and is not safe for concurrent use.
type Reader struct {
	Conn net.Conn
	// Timeout bounds each exchange without a deadline in its context; 0 means
	// 30 seconds.
	Timeout time.Duration
}

// Power sends on, then asks for the ATR.
func (r *Reader) Power(ctx context.Context) (atr []byte, err error) {
	if err := r.write(ctx, []byte{vpcdOn}); err != nil {
		return nil, err
	}
	return r.exchange(ctx, []byte{vpcdATR})
}

// Transmit sends one command APDU.
func (r *Reader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) < 4 {
		return nil, fmt.Errorf("%w: a command of %d bytes", ErrFrame, len(command))
	}
	return r.exchange(ctx, command)
}

func (r *Reader) write(ctx context.Context, m []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	if err := setDeadline(r.Conn, timeout); err != nil {
		return err
	}
	if t, ok := ctx.Deadline(); ok {
		if err := r.Conn.SetDeadline(t); err != nil {
			return err
		}
	}
	return WriteFrame(r.Conn, m)
}

func (r *Reader) exchange(ctx context.Context, m []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { r.Conn.Close() })
	defer stop()
	if err := r.write(ctx, m); err != nil {
		return nil, ended(ctx, err)
	}
	buf := make([]byte, 65535)
	n, err := readFrame(r.Conn, buf)
	if err != nil {
		return nil, ended(ctx, fmt.Errorf("read vpcd message: %w", err))
	}
	return buf[:n], nil
}
