package zvt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
)

// Timers of the protocol (PA00P016 sections 3.4 and 5.2).
const (
	timerT1 = 200 * time.Millisecond // between two bytes of a frame
	timerT2 = 5 * time.Second        // frame to ACK or NAK
	timerT3 = 5 * time.Second        // command to its reply
	timerT4 = 180 * time.Second      // reply to completion, restarted by 04 FF and 04 0F
	sends   = 3                      // of one frame, the first among them
)

// Errors of the line.
var (
	errNotAcknowledged = errors.New("zvt: the terminal does not acknowledge")
	errGarbled         = errors.New("zvt: nothing readable came after three requests to repeat")
	errOutOfTurn       = errors.New("zvt: the terminal said something out of turn")
)

// link moves APDUs over a transport: framed and acknowledged on a serial line,
// bare on TCP.
type link struct {
	t      drivers.Transport
	serial bool
	dec    frame.DLE
	asm    Reassembler
	queue  [][]byte // whole APDUs that came while an ACK was waited for
	rest   []byte   // read and not decoded yet
	out    []byte   // the frame under way
	buf    [4096]byte
	naks   int
}

func newLink(t drivers.Transport) *link {
	return &link{t: t, serial: t.Info().Kind != drivers.KindTCP}
}

// write sends all of b.
func (l *link) write(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		n, err := l.t.Write(ctx, b)
		if err != nil {
			return err
		}
		if n <= 0 {
			return fmt.Errorf("zvt: the port took nothing")
		}
		b = b[n:]
	}
	return nil
}

// send sends one APDU. acked is false when something else came instead of the
// ACK: the frame was probably read, and what came may be older than it. A
// command that moves money is not sent again when no ACK comes: the terminal
// may have it, and would carry it out twice. A NAK says that it has not.
func (l *link) send(ctx context.Context, apdu []byte, money bool) (acked bool, err error) {
	if !l.serial {
		return true, l.write(ctx, apdu)
	}
	l.out = frame.AppendDLE(l.out[:0], apdu)
	l.naks = 0
	for range sends {
		if err := l.write(ctx, l.out); err != nil {
			return false, err
		}
		switch answer, err := l.acknowledged(ctx); {
		case err == nil && answer != refusedFrame:
			return answer == readFrame, nil
		case err == nil:
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !money:
		default:
			return false, err
		}
	}
	return false, errNotAcknowledged
}

// How the terminal took a frame.
type taken int

const (
	readFrame    taken = iota // ACK
	refusedFrame              // NAK
	spokeInstead              // an APDU came
)

// acknowledged waits T2 for ACK or NAK.
func (l *link) acknowledged(ctx context.Context) (taken, error) {
	ctx, cancel := context.WithTimeout(ctx, timerT2)
	defer cancel()
	for {
		ev, err := l.event(ctx)
		if err != nil {
			return 0, err
		}
		switch ev {
		case frame.ACK:
			return readFrame, nil
		case frame.NAK:
			return refusedFrame, nil
		case frame.Message:
			l.queue = append(l.queue, bytes.Clone(l.dec.Payload()))
			return spokeInstead, l.write(ctx, []byte{frame.ByteACK})
		}
	}
}

// lull is how long a line has to be silent before a command of ours: what
// comes without having been asked for is older than the command.
const lull = 5 * time.Millisecond

// drain throws away what came before a command of ours. Frames are
// acknowledged, so that the terminal does not repeat them.
func (l *link) drain(ctx context.Context) error {
	l.queue = nil
	for range 64 {
		if l.serial {
			for len(l.rest) > 0 {
				n, ev, err := l.dec.Feed(l.rest)
				l.rest = l.rest[n:]
				if err != nil {
					l.dec.Reset()
				}
				if ev == frame.Message {
					if err := l.write(ctx, []byte{frame.ByteACK}); err != nil {
						return err
					}
				}
			}
		} else {
			for {
				if _, ok := l.asm.Next(); !ok {
					break
				}
			}
		}
		wait := lull
		if l.serial && l.dec.Partial() {
			wait = timerT1
		}
		short, cancel := context.WithTimeout(ctx, wait)
		n, err := l.t.Read(short, l.buf[:])
		cancel()
		switch {
		case err == nil && l.serial:
			l.rest = l.buf[:n]
		case err == nil:
			l.asm.Feed(l.buf[:n])
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			l.dec.Reset()
			if !l.serial && l.asm.Partial() {
				return errOutOfTurn
			}
			return nil
		default:
			return err
		}
	}
	return errOutOfTurn // it never falls silent
}

// partial reports whether the beginning of an APDU has come and its end not.
func (l *link) partial() bool {
	if l.serial {
		return l.dec.Partial() || len(l.rest) > 0
	}
	return l.asm.Partial()
}

// receive returns the next APDU. Its data are valid until the next call.
func (l *link) receive(ctx context.Context) (APDU, error) {
	if !l.serial {
		for {
			if a, ok := l.asm.Next(); ok {
				return a, nil
			}
			n, err := l.t.Read(ctx, l.buf[:])
			if err != nil {
				return APDU{}, err
			}
			l.asm.Feed(l.buf[:n])
		}
	}
	if len(l.queue) > 0 {
		b := l.queue[0]
		l.queue = l.queue[1:]
		return scanWhole(b)
	}
	l.naks = 0
	for {
		ev, err := l.event(ctx)
		if err != nil {
			return APDU{}, err
		}
		if ev != frame.Message {
			continue // a stray ACK or NAK
		}
		a, err := scanWhole(l.dec.Payload())
		if err != nil {
			if err := l.nak(ctx); err != nil {
				return APDU{}, err
			}
			continue
		}
		return a, l.write(ctx, []byte{frame.ByteACK})
	}
}

// scanWhole reads the APDU of a frame. Bytes behind it are ignored: terminals
// exist that send zeros there.
func scanWhole(b []byte) (APDU, error) {
	a, _, err := Scan(b)
	return a, err
}

// event returns the next event of the serial line, asking for a repeat after
// damage and after a gap inside a frame.
func (l *link) event(ctx context.Context) (frame.Event, error) {
	for {
		for len(l.rest) > 0 {
			n, ev, err := l.dec.Feed(l.rest)
			l.rest = l.rest[n:]
			if err != nil {
				if err := l.nak(ctx); err != nil {
					return 0, err
				}
				continue
			}
			if ev != frame.None {
				return ev, nil
			}
		}
		n, err := l.read(ctx)
		if err != nil {
			return 0, err
		}
		if n == 0 { // T1 over inside a frame
			l.dec.Reset()
			if err := l.nak(ctx); err != nil {
				return 0, err
			}
			continue
		}
		l.rest = l.buf[:n]
	}
}

// read reads, for at most T1 when a frame has begun; zero bytes and no error
// mean that T1 is over.
func (l *link) read(ctx context.Context) (int, error) {
	if !l.dec.Partial() {
		return l.t.Read(ctx, l.buf[:])
	}
	short, cancel := context.WithTimeout(ctx, timerT1)
	defer cancel()
	n, err := l.t.Read(short, l.buf[:])
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return 0, nil
	}
	return n, err
}

// nak asks for a repeat, three times for one APDU at most.
func (l *link) nak(ctx context.Context) error {
	if l.naks++; l.naks > sends {
		return errGarbled
	}
	return l.write(ctx, []byte{frame.ByteNAK})
}
