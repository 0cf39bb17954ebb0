package ccid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tillbridge/drivers"
)

// Controller is a transport that also reaches the device's control endpoint.
type Controller interface {
	// Control does one control transfer (USB 2.0 section 9.3). data is read into
	// when bit 7 of requestType is set, else sent.
	Control(ctx context.Context, requestType, request byte, value, index uint16, data []byte) (int, error)
}

// Ends of an exchange.
var (
	// ErrNoAnswer: the reader said nothing in time. The card may have acted.
	ErrNoAnswer = errors.New("ccid: the reader does not answer")
	// ErrMute: the card did not answer the reader. It may have acted.
	ErrMute = errors.New("ccid: the card does not answer")
	// ErrPower: the card has to be powered first: it never was, or an answer of
	// it is missing.
	ErrPower = errors.New("ccid: the card has to be powered first")
	// ErrFailed: the reader says that the command failed.
	ErrFailed = errors.New("ccid: the reader could not do it")
	errBabble = errors.New("ccid: it sends what belongs to no command")
)

// Waiting times. A reader that needs longer asks for it.
const (
	waitAnswer = 10 * time.Second
	waitAbort  = 2 * time.Second
	waitStatus = 3 * time.Second
	// maxWait bounds one exchange with all its extensions.
	maxWait = 5 * time.Minute
	// maxStrays is how many messages that are no answer one exchange skips.
	maxStrays = 256
)

// link exchanges messages with one slot. It is not safe for concurrent use.
type link struct {
	t       drivers.Transport
	control Controller // or nil
	iface   uint16
	slot    byte
	seq     byte // of the next command
	in, out []byte
	lost    bool // an answer is missing: abort before the next command
	strays  uint64
	// change is called for each notification about the slot.
	change func(present bool)
}

// failure is a command that the reader answered with failure.
type failure struct {
	code byte
	icc  ICC
}

func (f *failure) Error() string { return ErrorText(f.code) }

func (f *failure) Is(target error) bool {
	switch target {
	case ErrFailed:
		return true
	case drivers.ErrCardGone:
		return f.icc == Absent
	case ErrMute:
		return f.code == 0xFE && f.icc != Absent
	}
	return false
}

// exchange sends one command and waits for its answer of type want, which is
// valid until the next call. A time extension starts wait anew. After an error other than *failure an answer may be missing.
func (l *link) exchange(ctx context.Context, m Message, want byte, wait time.Duration) (Message, error) {
	if l.lost && m.Type != Abort {
		if err := l.abort(ctx); err != nil {
			return Message{}, err
		}
	}
	m.Slot, m.Seq = l.slot, l.seq
	l.seq++
	l.out = m.Append(l.out[:0])
	end := time.Now().Add(maxWait)
	wctx, cancel := context.WithTimeout(ctx, min(wait, waitAnswer))
	_, err := l.t.Write(wctx, l.out)
	cancel()
	clear(l.out)
	if err != nil {
		l.lost = true
		return Message{}, l.give(ctx, err)
	}
	until := time.Now().Add(wait)
	for range maxStrays {
		if until.After(end) {
			until = end
		}
		answer, err := l.read(ctx, until)
		if err != nil {
			l.lost = true
			return Message{}, l.give(ctx, err)
		}
		refused := answer.Type == SlotStatus && answer.Failed()
		if answer.Type == 0 || answer.Seq != m.Seq || answer.Slot != m.Slot || answer.Type != want && !refused {
			continue
		}
		if answer.TimeExtension() {
			until = time.Now().Add(wait * time.Duration(max(1, answer.P2)))
			continue
		}
		if answer.Failed() {
			return answer, &failure{answer.P2, answer.ICC()}
		}
		return answer, nil
	}
	l.lost = true
	return Message{}, errBabble
}

// give turns the end of a wait into the caller's error.
func (l *link) give(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, drivers.ErrUnplugged) {
		return fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrNoAnswer
	}
	return err
}

// read returns the next message; one of type 0 is none of the bulk endpoint.
func (l *link) read(ctx context.Context, until time.Time) (Message, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	n, err := l.t.Read(ctx, l.in)
	if err != nil {
		return Message{}, err
	}
	if n < headerLen {
		if e, err := ParseNotification(l.in[:n]); err == nil {
			if present, changed := e.Present(int(l.slot)); changed && l.change != nil {
				l.change(present)
			}
			return Message{}, nil
		}
	}
	m, err := ParseMessage(l.in[:n])
	if err != nil || !m.FromReader() {
		l.strays++
		return Message{}, nil
	}
	return m, nil
}

// abort brings the reader back to where both sides wait for a command (section
// 5.3.1): the request on the control endpoint and the message carry the same
// slot and sequence number.
func (l *link) abort(ctx context.Context) error {
	if l.control != nil {
		if _, err := l.control.Control(ctx, 0x21, 0x01, uint16(l.seq)<<8|uint16(l.slot), l.iface, nil); errors.Is(err, drivers.ErrUnplugged) {
			return err
		}
	}
	_, err := l.exchange(ctx, Message{Type: Abort}, SlotStatus, waitAbort)
	if _, answered := errors.AsType[*failure](err); err == nil || answered {
		l.lost = false
		return nil
	}
	return err
}
