package drivertest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"tillbridge/drivers"
)

// Fault names one kind of damage of a [NoiseProxy].
type Fault string

// The faults. Every one is counted by [NoiseProxy.Injected].
const (
	FaultFlip      Fault = "flip"      // one bit of a byte turned
	FaultDrop      Fault = "drop"      // one byte lost
	FaultDuplicate Fault = "duplicate" // the whole piece twice
	FaultSplit     Fault = "split"     // the piece in two, with a pause
	FaultDelay     Fault = "delay"     // the piece late
	FaultStall     Fault = "stall"     // nothing passes for a while
	FaultBabble    Fault = "babble"    // random bytes before the piece
	FaultHangUp    Fault = "hang up"   // half the piece, then unplugged
)

var faults = []Fault{FaultFlip, FaultDrop, FaultDuplicate, FaultSplit, FaultDelay, FaultStall, FaultBabble, FaultHangUp}

// NoiseOptions say how bad the line is. The zero value is a clean line.
type NoiseOptions struct {
	// Rate is how likely each fault is, from 0 to 1, for each piece: what one
	// Write was given or one Read received.
	Rate map[Fault]float64
	// MaxDelay bounds a delay and the pause of a split; zero means 250 ms.
	MaxDelay time.Duration
	// StallFor is the length of a stall; zero means 3 s.
	StallFor time.Duration
	// Quiet exempts a direction: only damage what the host reads, or writes.
	QuietReads, QuietWrites bool
}

// Every returns NoiseOptions with the same rate for every fault but hanging
// up, which ends a line and has to be asked for.
func Every(rate float64) NoiseOptions {
	o := NoiseOptions{Rate: map[Fault]float64{}}
	for _, f := range faults {
		if f != FaultHangUp {
			o.Rate[f] = rate
		}
	}
	return o
}

// Noise puts a seeded proxy in front of a transport. The same seed and the
// same pieces give the same faults; print the seed when a test fails.
func Noise(t drivers.Transport, seed uint64, o NoiseOptions) *NoiseProxy {
	if o.MaxDelay == 0 {
		o.MaxDelay = 250 * time.Millisecond
	}
	if o.StallFor == 0 {
		o.StallFor = 3 * time.Second
	}
	return &NoiseProxy{
		t: t, o: o, counts: map[Fault]int{},
		in:  rand.New(rand.NewPCG(seed, 1)),
		out: rand.New(rand.NewPCG(seed, 2)),
	}
}

// NoiseProxy is a transport that damages what passes. See [Noise].
type NoiseProxy struct {
	t       drivers.Transport
	o       NoiseOptions
	in, out *rand.Rand // reader and writer have their own, so that order does not matter

	mu     sync.Mutex
	counts map[Fault]int

	pieces []piece // read and not yet handed out; owned by the reader
}

type piece struct {
	after time.Duration
	data  []byte
	end   bool
	due   time.Time // when after is over, once a Read has waited for it
}

// Injected returns how often each fault was played.
func (n *NoiseProxy) Injected() map[Fault]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := make(map[Fault]int, len(n.counts))
	maps.Copy(c, n.counts)
	return c
}

// String lists the faults played, for a failing test.
func (n *NoiseProxy) String() string { return fmt.Sprint(n.Injected()) }

// Read hands out what the line brought, damaged.
func (n *NoiseProxy) Read(ctx context.Context, p []byte) (int, error) {
	for {
		if len(n.pieces) > 0 {
			q := &n.pieces[0]
			if q.after > 0 {
				// A read that gives up earlier must not begin the pause anew.
				if q.due.IsZero() {
					q.due = time.Now().Add(q.after)
				}
				if err := pause(ctx, time.Until(q.due)); err != nil {
					return 0, err
				}
				q.after = 0
			}
			if q.end {
				n.t.Close()
				return 0, drivers.ErrUnplugged
			}
			k := copy(p, q.data)
			if q.data = q.data[k:]; len(q.data) == 0 {
				n.pieces = n.pieces[1:]
			}
			if k > 0 {
				return k, nil
			}
			continue
		}
		b := make([]byte, 4096)
		k, err := n.t.Read(ctx, b)
		if err != nil {
			return 0, err
		}
		if n.o.QuietReads {
			n.pieces = []piece{{data: b[:k]}}
			continue
		}
		n.pieces = n.damage(n.in, b[:k])
	}
}

// Write sends p, damaged, and reports it as written.
func (n *NoiseProxy) Write(ctx context.Context, p []byte) (int, error) {
	if n.o.QuietWrites {
		return n.t.Write(ctx, p)
	}
	for _, q := range n.damage(n.out, p) {
		if q.after > 0 {
			if err := pause(ctx, q.after); err != nil {
				return 0, err
			}
		}
		if q.end {
			n.t.Close()
			return 0, drivers.ErrUnplugged
		}
		if len(q.data) == 0 {
			continue
		}
		if _, err := n.t.Write(ctx, q.data); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close closes the line behind.
func (n *NoiseProxy) Close() error { return n.t.Close() }

// Info returns the port of the line behind.
func (n *NoiseProxy) Info() drivers.Port { return n.t.Info() }

// damage turns one piece into what the other side gets. Every fault draws its
// number whether it is played or not, so that a rate does not shift the rest.
func (n *NoiseProxy) damage(r *rand.Rand, p []byte) []piece {
	play := map[Fault]bool{}
	for _, f := range faults {
		if r.Float64() < n.o.Rate[f] {
			play[f] = true
		}
	}
	where, bit, span := r.IntN(max(len(p), 1)), r.IntN(8), time.Duration(1+r.Int64N(int64(n.o.MaxDelay)))
	babble := make([]byte, 1+r.IntN(24))
	for i := range babble {
		babble[i] = byte(r.Uint32())
	}
	data := append([]byte(nil), p...)
	var after time.Duration
	if len(data) == 0 {
		return []piece{{data: data}}
	}
	if play[FaultFlip] {
		data[where] ^= 1 << bit
	}
	if play[FaultDrop] {
		data = append(data[:where], data[where+1:]...)
	}
	if play[FaultDuplicate] {
		data = append(data, data...)
	}
	if play[FaultBabble] {
		data = append(babble, data...)
	}
	if play[FaultDelay] {
		after += span
	}
	if play[FaultStall] {
		after += n.o.StallFor
	}
	n.mu.Lock()
	for f := range play {
		n.counts[f]++
	}
	n.mu.Unlock()
	switch {
	case play[FaultHangUp]:
		return []piece{{after: after, data: data[:len(data)/2]}, {end: true}}
	case play[FaultSplit] && len(data) > 1:
		cut := 1 + where%(len(data)-1)
		return []piece{{after: after, data: data[:cut]}, {after: span, data: data[cut:]}}
	}
	return []piece{{after: after, data: data}}
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var _ drivers.Transport = (*NoiseProxy)(nil)
