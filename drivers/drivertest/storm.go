package drivertest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
)

// Tally is what a [Storm] came to.
type Tally struct {
	Exchanges int           // operations begun on an open device
	Through   int           // of these, concluded as on a clean line
	GaveUp    int           // of these, ended with an error
	NotOpened int           // runs whose open failed; no operation was begun
	Faults    map[Fault]int // damage played
}

// Storm opens a device on a noisy line and runs one operation after the other,
// until n operations were begun (or ten times as many opens were tried). Seed
// is the first of a row: exchange i is played with seed+i, and a failure names
// its own. It fails the test where an operation concludes something else than
// on a clean line, hangs, or where Subject.Books disagrees.
func Storm(t *testing.T, s Subject, n int, seed uint64, o NoiseOptions) Tally {
	t.Helper()
	if s.Deadline == 0 {
		s.Deadline = time.Minute
	}
	s.Config.Log = slog.New(slog.DiscardHandler)
	if s.Config.Name == "" {
		s.Config.Name = "subject"
	}
	tally := Tally{Faults: map[Fault]int{}}
	synctest.Test(t, func(t *testing.T) {
		b := &bench{s: s, ctx: t.Context()}
		good := make([]result, len(s.Operations))
		for i, op := range s.Operations {
			if good[i] = b.play(op, damage{}); good[i].err != nil {
				t.Fatalf("%s on a clean line: %v", op.Name, good[i].err)
			}
		}
		for i := 0; tally.Exchanges < n && i < 10*n; i++ {
			op := s.Operations[i%len(s.Operations)]
			b.gust(op, good[i%len(s.Operations)].outcome, seed+uint64(i), o, &tally)
			if len(b.problems) >= 5 {
				break
			}
		}
		for _, p := range b.problems {
			t.Error(p)
		}
	})
	if tally.Exchanges < n && !t.Failed() {
		t.Errorf("only %d of %d exchanges could be begun: %d opens failed", tally.Exchanges, n, tally.NotOpened)
	}
	return tally
}

// gust is one noisy exchange.
func (b *bench) gust(op Operation, want string, seed uint64, o NoiseOptions, tally *Tally) {
	host, device := Pipe(PipeOptions{Port: b.s.Port})
	b.peers.Go(func() {
		line := device.Stream()
		defer line.Close()
		b.s.Peer(line)
	})
	noise := Noise(host, seed, o)
	var dev drivers.Device
	r := b.limited(func(ctx context.Context) (_ string, err error) {
		dev, err = b.s.Driver.Open(ctx, noise, b.s.Config)
		return "", err
	}, b.s.Deadline)
	switch {
	case r.hung:
		b.fail("seed %d: open hung", seed)
	case r.err != nil:
		tally.NotOpened++
	default:
		tally.Exchanges++
		r = b.limited(func(ctx context.Context) (string, error) { return op.Run(ctx, dev) }, b.s.Deadline)
		switch {
		case r.hung:
			b.fail("seed %d: %s hung", seed, op.Name)
		case r.err != nil:
			tally.GaveUp++
		case r.outcome != want:
			b.fail("seed %d: %s concluded %q; the device said %q (%s)", seed, op.Name, r.outcome, want, noise)
		default:
			tally.Through++
		}
		if c := b.limited(func(context.Context) (string, error) { return "", dev.Close() }, b.s.Deadline); c.hung {
			b.fail("seed %d: close hung", seed)
		}
	}
	host.Close()
	b.peers.Wait()
	if b.s.Books != nil {
		if err := b.s.Books(op.Name, r.outcome, r.err); err != nil {
			b.fail("seed %d: %s: the device's books: %v (%s)", seed, op.Name, err, noise)
		}
	}
	for f, k := range noise.Injected() {
		tally.Faults[f] += k
	}
}

// String is one line for a test's log.
func (t Tally) String() string {
	return fmt.Sprintf("%d exchanges: %d through, %d gave up, %d opens failed, faults %v", t.Exchanges, t.Through, t.GaveUp, t.NotOpened, t.Faults)
}
