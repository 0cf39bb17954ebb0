package abecs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
)

// Timers of the link (protocol section 2.2).
const (
	ackWait      = 2 * time.Second         // command sent, until ACK or NAK
	interByte    = 2 * time.Second         // between two bytes of a packet
	answerWait   = 10 * time.Second        // ACK, until the answer of a command that waits for nobody
	eotWait      = 2500 * time.Millisecond // CAN, until EOT: 2 s, and half a second more (see resync)
	quietWait    = 500 * time.Millisecond  // silence before a NAK
	tries        = 3                       // of a command, a NAK and a CAN
	writeWait    = 5 * time.Second         // to hand a packet to the port
	settleWait   = 50 * time.Millisecond   // silence after EOT on a line that carried more than EOT
	abandonWait  = time.Second             // for CAN and EOT once the caller's time is over
	customerWait = 15 * time.Minute        // for a customer when the caller gives no deadline
)

// Errors of the link. After each of them the next command begins with CAN.
var (
	// ErrNoAnswer: the pad did not acknowledge, or did not answer in time. It
	// may have acted.
	ErrNoAnswer = errors.New("abecs: the pad does not answer; check its cable and power")
	// ErrNoise: what the pad sends cannot be read, also after it was asked to
	// repeat it.
	ErrNoise = errors.New("abecs: the pad's answer cannot be read; check the cable")
	// ErrNAK: the pad refused the packet three times. It did not act.
	ErrNAK = errors.New("abecs: the pad does not accept the packet; check the cable")
)

// errQuiet is a timer of the link that ran out.
var errQuiet = errors.New("abecs: quiet")

// link exchanges packets. It has one user at a time.
type link struct {
	t       drivers.Transport
	log     *slog.Logger
	dec     frame.DC3
	buf     [1024]byte
	pending []byte // read and not yet decoded
	out     []byte
	clear   []byte

	channel *Channel // nil before OPN
	lost    bool     // the pad said that the channel is gone: OPN is due
	dirty   bool     // begin with CAN
	heard   bool     // the pad answered a CAN
}

func newLink(t drivers.Transport, log *slog.Logger) *link {
	return &link{t: t, log: log, dirty: true}
}

// event returns the next event of the line, or errQuiet when until passes.
// bad is a broken packet.
func (l *link) event(ctx context.Context, until time.Time) (ev frame.Event, bad, err error) {
	for {
		for len(l.pending) > 0 {
			n, ev, bad := l.dec.Feed(l.pending)
			l.pending = l.pending[n:]
			if errors.Is(bad, frame.ErrChecksum) {
				l.dec.Reset() // the packet's end is known: what follows is between packets
			}
			if bad != nil || ev != frame.None {
				return ev, bad, nil
			}
		}
		if err := l.read(ctx, until); err != nil {
			return frame.None, nil, err
		}
	}
}

func (l *link) read(ctx context.Context, until time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	n, err := l.t.Read(limited, l.buf[:])
	if n > 0 {
		l.pending = l.buf[:n]
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

func (l *link) write(ctx context.Context, p []byte) error {
	limited, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	_, err := l.t.Write(limited, p)
	return err
}

// discard decodes what was read before and drops it. Half a packet stays in
// the decoder, so that its rest is not taken for control bytes.
func (l *link) discard() {
	for len(l.pending) > 0 {
		n, _, bad := l.dec.Feed(l.pending)
		l.pending = l.pending[n:]
		if errors.Is(bad, frame.ErrChecksum) {
			l.dec.Reset()
		}
	}
}

// resync sends CAN until EOT comes. Whatever arrives before is dropped, but
// late, when not nil, is asked of every packet whether it is the one that was
// waited for; then resync returns true.
//
// A pad that lost a part of our last packet takes CAN for data of it and waits
// 2 s for the next byte. CAN repeated every 2 s would keep it waiting for ever.
func (l *link) resync(ctx context.Context, n int, wait time.Duration, late func(packet []byte) bool) (bool, error) {
	found, noisy := false, false
	for range n {
		l.discard()
		l.dec.Reset()
		if err := l.write(ctx, []byte{frame.ByteCAN}); err != nil {
			return found, err
		}
		until := time.Now().Add(wait)
		for {
			ev, bad, err := l.event(ctx, until)
			if errors.Is(err, errQuiet) {
				break
			}
			if err != nil {
				return found, err
			}
			if ev == frame.EOT {
				if noisy {
					if err := l.settle(ctx); err != nil {
						return found, err
					}
				}
				l.dirty, l.heard = false, true
				return found, nil
			}
			if ev == frame.Message && late != nil && !found {
				found = late(l.dec.Payload())
			}
			noisy = noisy || ev != frame.None || bad != nil
		}
		noisy = true
	}
	return found, ErrNoAnswer
}

// settle waits until the line is silent.
func (l *link) settle(ctx context.Context) error {
	end := time.Now().Add(eotWait)
	for {
		l.discard()
		err := l.read(ctx, time.Now().Add(settleWait))
		if errors.Is(err, errQuiet) {
			l.dec.Reset()
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

// exchange sends a command and returns its answer. A blocking command waits
// for the customer as long as ctx lets it. The answer refers to the link's
// buffer and is valid until the next exchange.
//
// When ctx ends, the pad is told to stop; an answer that was already on its
// way is still returned.
func (l *link) exchange(ctx context.Context, command []byte, blocking bool, notify func(text string)) (Response, error) {
	var name Name
	copy(name[:], command)
	if l.dirty {
		if _, err := l.resync(ctx, tries, eotWait, nil); err != nil {
			return Response{}, err
		}
	}
	r, err := l.try(ctx, name, command, blocking, notify)
	if err == nil {
		return r, nil
	}
	l.dirty = true
	if ctx.Err() == nil {
		return Response{}, err
	}
	// The caller's time is over, and the pad may still wait for a customer.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonWait)
	defer cancel()
	found, _ := l.resync(stop, 1, abandonWait, func(packet []byte) bool {
		got, kind := l.classify(packet, name)
		if kind == isAnswer {
			r = keep(got)
		}
		return kind == isAnswer
	})
	if found {
		return r, nil
	}
	return Response{}, ctx.Err()
}

// keep copies an answer out of the buffers.
func keep(r Response) Response {
	r.blocks = append([]byte(nil), r.blocks...)
	return r
}

func (l *link) try(ctx context.Context, name Name, command []byte, blocking bool, notify func(text string)) (Response, error) {
	payload := command
	if l.channel != nil {
		l.clear = l.channel.AppendSealed(l.clear[:0], command)
		payload = l.clear
	}
	if len(payload) > MaxPacket {
		return Response{}, ErrTooLong
	}
	l.out = frame.AppendDC3(l.out[:0], payload)
	if err := l.send(ctx, name); err != nil {
		return Response{}, err
	}
	limit := time.Now().Add(answerWait)
	if blocking {
		limit = time.Now().Add(customerWait)
	}
	naks := 0
	for {
		until := limit
		if l.dec.Partial() {
			until = time.Now().Add(interByte)
		}
		ev, bad, err := l.event(ctx, until)
		if errors.Is(err, errQuiet) {
			if !l.dec.Partial() {
				return Response{}, ErrNoAnswer
			}
			bad, err = errQuiet, nil // a packet that stopped half-way
		}
		if err != nil {
			return Response{}, err
		}
		if bad != nil {
			if naks++; naks > tries {
				return Response{}, ErrNoise
			}
			if err := l.again(ctx); err != nil {
				return Response{}, err
			}
			limit = later(limit, time.Now().Add(answerWait))
			continue
		}
		if ev != frame.Message {
			continue // a late EOT or ACK of something earlier
		}
		r, kind := l.classify(l.dec.Payload(), name)
		switch kind {
		case isAnswer:
			return r, nil
		case isNotification:
			if notify != nil {
				notify(cleanText(r.Block(0)))
			}
			if !blocking {
				limit = time.Now().Add(answerWait)
			}
		case isChannelError:
			return Response{}, ErrChannel
		case isError:
			return Response{}, r.Status
		default:
			l.log.Debug("answer to another command dropped", "command", name.String())
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// send writes the packet in l.out until the pad acknowledges it. Packets that
// arrive before the acknowledgement answer something earlier.
func (l *link) send(ctx context.Context, name Name) error {
	l.discard()
	for range tries {
		if err := l.write(ctx, l.out); err != nil {
			return err
		}
		until := time.Now().Add(ackWait)
	wait:
		for {
			ev, _, err := l.event(ctx, until)
			switch {
			case errors.Is(err, errQuiet):
				return ErrNoAnswer
			case err != nil:
				return err
			case ev == frame.ACK:
				return nil
			case ev == frame.NAK:
				break wait
			case ev == frame.Message:
				l.log.Debug("packet before the acknowledgement dropped", "command", name.String())
			}
		}
	}
	return ErrNAK
}

// again waits for silence and asks the pad to repeat its answer.
func (l *link) again(ctx context.Context) error {
	end := time.Now().Add(answerWait)
	for {
		l.pending = nil
		err := l.read(ctx, time.Now().Add(quietWait))
		if errors.Is(err, errQuiet) {
			break
		}
		if err != nil {
			return err
		}
		if time.Now().After(end) {
			return ErrNoise // it never stops
		}
	}
	l.dec.Reset()
	return l.write(ctx, []byte{frame.ByteNAK})
}

// packetKind is what a packet is to the command that waits.
type packetKind int

const (
	isOther packetKind = iota // an answer to something else
	isAnswer
	isNotification
	isError        // ERR with a status
	isChannelError // encrypted and unreadable, or clear where that is not allowed
)

// Names that stand alone.
var (
	nameNTM = NameOf("NTM")
	nameERR = NameOf("ERR")
	nameCLO = NameOf("CLO")
)

// classify opens and parses a packet that arrived while name waits.
func (l *link) classify(packet []byte, name Name) (Response, packetKind) {
	sealed := len(packet) > 0 && packet[0] == secureMark
	if sealed {
		if l.channel == nil {
			return Response{}, isOther
		}
		var err error
		if l.clear, err = l.channel.AppendOpened(l.clear[:0], packet); err != nil {
			return Response{}, isChannelError
		}
		packet = l.clear
	}
	r, err := Parse(packet)
	if err != nil {
		return Response{}, isOther
	}
	switch {
	case r.Name == nameERR:
		if r.Status == NoChannel || r.Status == ChannelError {
			l.channel, l.lost = nil, true
		}
		return r, isError
	case r.Name != name && r.Name != nameNTM:
		return r, isOther
	case l.channel != nil && !sealed && name != nameCLO:
		// A device between us and the pad, or a pad that was exchanged.
		return r, isChannelError
	case r.Name == nameNTM:
		return r, isNotification
	}
	return r, isAnswer
}

// cleanText is a text of the pad without what does not print.
func cleanText(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c >= 0x20 && c < 0x7F {
			out = append(out, c)
		}
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}
