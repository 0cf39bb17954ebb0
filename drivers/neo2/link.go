package neo2

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"tillbridge/drivers"
)

// Timers of the link.
const (
	answerWait  = 2 * time.Second // command sent, until its answer or the word that more follows
	cardWait    = 30 * time.Second
	interByte   = 500 * time.Millisecond // between two pieces of a frame
	writeWait   = 5 * time.Second
	quietWait   = 60 * time.Millisecond // a line that says nothing for so long is silent
	abandonWait = time.Second           // for 05-01 once the caller's time is over
	tries       = 3
	margin      = 5 * time.Second // beyond the time that the reader was told to wait
)

// Errors of the link. After each of them the next command begins with 05-01.
var (
	// ErrNoAnswer: the reader did not answer in time. It may have acted.
	ErrNoAnswer = errors.New("neo2: the reader does not answer; check its cable and power")
	// ErrNoise: an answer cannot be read. The reader acted.
	ErrNoise = errors.New("neo2: the reader's answer cannot be read; check the cable")
)

var errQuiet = errors.New("neo2: quiet")

// link exchanges frames. It has one user at a time.
type link struct {
	t       drivers.Transport
	log     *slog.Logger
	reports bool // HID
	message bool // one Read is one report

	buf    [4096]byte
	part   []byte // of a report, on a stream
	dec    Decoder
	join   Reports
	wire   []byte
	out    []byte
	last   []byte // status and data of the last answer, to know its double
	lastOp op
	dirty  bool
}

func newLink(t drivers.Transport, log *slog.Logger, reports bool) *link {
	return &link{t: t, log: log, reports: reports, message: t.Info().Kind == drivers.KindHID || t.Info().Kind == drivers.KindUSB,
		dec: Decoder{Dir: FromReader}, dirty: true}
}

func (l *link) partial() bool {
	if l.reports {
		return l.join.Partial() || len(l.part) > 0
	}
	return l.dec.Partial()
}

// drop gives up a half frame whose sender stopped.
func (l *link) drop() {
	if l.reports {
		l.join.Reset()
		l.part = l.part[:0]
	}
	l.dec.Drop()
}

// discard forgets what was received and not looked at.
func (l *link) discard() {
	l.dec.Reset()
	l.join.Reset()
	l.part = l.part[:0]
}

// feed takes what a Read brought.
func (l *link) feed(p []byte) {
	if !l.reports {
		l.dec.Feed(p)
		return
	}
	if !l.message {
		l.part = append(l.part, p...)
		p = l.part
	}
	for len(p) >= ReportSize {
		if wire, ok := l.join.Feed(p[:ReportSize]); ok {
			l.dec.Reset() // a report's frame is whole, or it is none
			l.dec.Feed(wire)
			p = p[ReportSize:]
			break
		}
		p = p[ReportSize:]
	}
	if !l.message {
		l.part = l.part[:copy(l.part, p)]
	}
}

// next returns the next frame, errQuiet when until passes, or a frame's damage
// as bad.
func (l *link) next(ctx context.Context, until time.Time) (f Frame, bad, err error) {
	for {
		for {
			f, ok, bad := l.dec.Next()
			if ok {
				return f, nil, nil
			}
			if errors.Is(bad, ErrChecksum) {
				return Frame{}, bad, nil
			}
			if bad == nil {
				break
			}
		}
		if l.reports {
			l.dec.Reset()
			if len(l.part) >= ReportSize {
				l.feed(nil)
				continue
			}
		}
		limit := until
		if l.partial() {
			if w := time.Now().Add(interByte); w.Before(limit) {
				limit = w
			}
		}
		if err := l.read(ctx, limit); err != nil {
			if errors.Is(err, errQuiet) && limit.Before(until) {
				l.drop()
				continue
			}
			return Frame{}, nil, err
		}
	}
}

func (l *link) read(ctx context.Context, until time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	size := len(l.buf)
	if l.reports && l.message {
		size = ReportSize
	}
	n, err := l.t.Read(limited, l.buf[:size])
	if n > 0 {
		l.feed(l.buf[:n])
		return nil
	}
	if err == nil {
		return errQuiet
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errQuiet
	}
	return err
}

func (l *link) write(ctx context.Context, f Frame) error {
	var err error
	if l.wire, err = Append(l.wire[:0], ToReader, f); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	out := l.wire
	if l.reports {
		l.out = AppendReports(l.out[:0], l.wire)
		out = l.out
	}
	for len(out) > 0 {
		piece := out
		if l.reports {
			piece = out[:ReportSize]
		}
		if _, err := l.t.Write(limited, piece); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		out = out[len(piece):]
	}
	return nil
}

// settle waits until the line is silent, for at most answerWait.
func (l *link) settle(ctx context.Context) error {
	end := time.Now().Add(answerWait)
	for {
		l.discard()
		err := l.read(ctx, time.Now().Add(quietWait))
		if errors.Is(err, errQuiet) {
			l.discard()
			return nil
		}
		if err != nil {
			return err
		}
		if time.Now().After(end) {
			return ErrNoise
		}
	}
}

// resync brings reader and host to where neither waits for the other: cancel,
// its answer, silence.
func (l *link) resync(ctx context.Context, n int) error {
	err := ErrNoAnswer
	for range n {
		if err = l.write(ctx, Frame{Command: opCancel.command, Code: opCancel.sub}); err != nil {
			return err
		}
		// Whatever it says to a cancel, it listens again.
		if _, err = l.await(ctx, opCancel, answerWait, 0, nil); err == nil {
			if err = l.settle(ctx); err == nil {
				l.dirty, l.last = false, nil
				return nil
			}
		}
		if !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrNoise) {
			return err
		}
	}
	return err
}

// exchange sends a command and returns its last answer. more is how long that
// may take after the reader said 63; on serves requests of the reader. The
// frame's data are valid until the next exchange.
//
// When ctx ends, the reader is told to stop.
func (l *link) exchange(ctx context.Context, o op, data []byte, first, more time.Duration, on func(Frame) Frame) (Frame, error) {
	if l.dirty {
		if err := l.resync(ctx, tries); err != nil {
			return Frame{}, err
		}
	}
	n := 1
	if o.retriable() {
		n = tries
	}
	var f Frame
	var err error
	for range n {
		l.discard()
		if err = l.write(ctx, Frame{Command: o.command, Code: o.sub, Data: data}); err == nil {
			f, err = l.await(ctx, o, first, more, on)
		}
		again := err == nil && Status(f.Code) == BadCRC
		if err == nil && !again {
			return f, nil
		}
		if err != nil && !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrNoise) {
			break
		}
	}
	if err == nil {
		return f, nil // it refuses the checksum for ever
	}
	l.dirty = true
	if ctx.Err() == nil {
		return Frame{}, err
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonWait)
	defer cancel()
	l.resync(stop, 1) // still dirty where it fails
	return Frame{}, ctx.Err()
}

// await returns the answer to o. Frames of other commands are late answers and
// dropped; so is the double of the answer before.
func (l *link) await(ctx context.Context, o op, first, more time.Duration, on func(Frame) Frame) (Frame, error) {
	limit := time.Now().Add(first)
	served, accepted := 0, false
	for {
		f, bad, err := l.next(ctx, limit)
		switch {
		case errors.Is(err, errQuiet):
			return Frame{}, ErrNoAnswer
		case err != nil:
			return Frame{}, err
		case bad != nil:
			if o.command == opCancel.command {
				continue // the answer of what was cancelled, perhaps
			}
			return Frame{}, ErrNoise
		case f.Command == fromReader && on != nil:
			if served++; served > 64 {
				return Frame{}, ErrNoise
			}
			if err := l.write(ctx, on(f)); err != nil {
				return Frame{}, err
			}
			limit = later(limit, time.Now().Add(more))
		case f.Command != o.command:
			l.log.Debug("answer to another command dropped", "command", o.name, "answer", f.String())
		case l.double(o, f):
			l.log.Debug("answer that came twice dropped", "command", o.name)
		case Status(f.Code) == Accepted && more > 0:
			if !accepted { // said again it gives no more time
				accepted, limit = true, time.Now().Add(more)
			}
		default:
			l.lastOp, l.last = o, append(append(l.last[:0], f.Code), f.Data...)
			return f, nil
		}
	}
}

// double reports that f is the answer to the sub-command before, once more:
// answers name the command and not the sub-command.
func (l *link) double(o op, f Frame) bool {
	return len(l.last) > 0 && l.lastOp.command == o.command && l.lastOp.sub != o.sub && l.last[0] == f.Code &&
		(len(f.Data) > 0 || Status(f.Code) == OK) && bytes.Equal(l.last[1:], f.Data)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clean is a text of the reader without what does not print.
func clean(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c >= 0x20 && c < 0x7F {
			out = append(out, c)
		}
	}
	return string(bytes.TrimSpace(out))
}
