package transcript

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"tillbridge/drivers"
)

// ErrPlayback is matched when the host sends something else than the
// transcript has.
var ErrPlayback = errors.New("transcript: not what the transcript has")

// PlaybackOptions say how strict a playback is. The zero value compares every
// byte that was not cut out.
type PlaybackOptions struct {
	// AnyWrite takes whatever the host sends for the transcript's turn: for a
	// recording of another host.
	AnyWrite bool
	// Refit may change a turn of the device before it is read: a frame whose
	// bytes were cut out needs a new checksum.
	Refit func(turn []byte) []byte
	Port  drivers.Port
}

// Playback returns a transport on which the recorded device answers: a turn
// that was read is given out once the turn before it was written in full. At
// the end reads wait, until the context ends or Close.
func Playback(entries []Entry, o PlaybackOptions) *Player {
	p := &Player{o: o, changed: make(chan struct{})}
	if p.o.Port.Kind == "" {
		p.o.Port = drivers.Port{Kind: drivers.KindSerial, Path: "playback"}
	}
	for _, e := range entries {
		if e.Dir == Ended || len(e.Data) == 0 {
			continue
		}
		e.Data = append([]byte(nil), e.Data...)
		if e.Dir == Read && o.Refit != nil {
			if e.Data = o.Refit(e.Data); len(e.Data) == 0 {
				continue
			}
			e.Pieces = nil
		}
		p.left = append(p.left, e)
	}
	return p
}

// Player is a transport that plays a transcript. See [Playback].
type Player struct {
	o PlaybackOptions

	mu      sync.Mutex
	left    []Entry
	done    int // bytes of left[0] already written or read
	err     error
	closed  bool
	changed chan struct{}
}

// Rest returns what was not played: nothing after a complete run.
func (p *Player) Rest() []Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Entry(nil), p.left...)
}

func (p *Player) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Player) advance() {
	p.left, p.done = p.left[1:], 0
	p.signal()
}

// Read gives out the device's turn, in the pieces in which it came.
func (p *Player) Read(ctx context.Context, b []byte) (int, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return 0, os.ErrClosed
		}
		if p.err != nil {
			defer p.mu.Unlock()
			return 0, p.err
		}
		if len(p.left) > 0 && p.left[0].Dir == Read {
			e := p.left[0]
			end, sum := len(e.Data), 0
			for _, k := range e.Pieces {
				if sum += k; sum > p.done {
					end = min(end, sum)
					break
				}
			}
			n := copy(b, e.Data[p.done:end])
			if p.done += n; p.done == len(e.Data) {
				p.advance()
			}
			p.mu.Unlock()
			return n, nil
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Write compares b with the host's turn of the transcript.
func (p *Player) Write(ctx context.Context, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if p.closed {
		return 0, os.ErrClosed
	}
	if p.err != nil {
		return 0, p.err
	}
	if len(p.left) == 0 || p.left[0].Dir != Wrote {
		p.err = fmt.Errorf("%w: the host sends %d bytes where the device speaks or nothing follows", ErrPlayback, len(b))
		p.signal()
		return 0, p.err
	}
	if p.o.AnyWrite {
		p.advance()
		return len(b), nil
	}
	e := p.left[0]
	for i, c := range b {
		at := p.done + i
		if at >= len(e.Data) || e.Data[at] != c && !e.cutAt(at) {
			p.err = fmt.Errorf("%w: byte %d of a turn of %d bytes", ErrPlayback, at, len(e.Data))
			p.signal()
			return 0, p.err
		}
	}
	if p.done += len(b); p.done == len(e.Data) {
		p.advance()
	}
	return len(b), nil
}

// cutAt reports whether byte i was cut out.
func (e Entry) cutAt(i int) bool {
	for _, c := range e.Cut {
		if i >= c.At && i < c.At+c.Len {
			return true
		}
	}
	return false
}

// Close ends the playback; a pending Read returns.
func (p *Player) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.signal()
	}
	return nil
}

// Info returns the port given in the options.
func (p *Player) Info() drivers.Port { return p.o.Port }

var _ drivers.Transport = (*Player)(nil)
