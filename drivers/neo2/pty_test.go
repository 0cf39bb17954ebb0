//go:build linux

package neo2_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/neo2"
	"tillbridge/drivers/serialport"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// onPTY puts a reader behind a real serial line of the machine and returns how
// to open it.
func onPTY(t testing.TB, r *virtual.Reader, wrap func(io.ReadWriteCloser) io.ReadWriteCloser) func(ctx context.Context) (drivers.Transport, error) {
	t.Helper()
	device, path := drivertest.PTY(t)
	if wrap != nil {
		device = wrap(device)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx, device) }()
	t.Cleanup(func() { cancel(); device.Close(); <-done })
	bus := serialport.New(&serialport.Options{Paths: []string{path}, NoUSB: true, LockDir: t.TempDir()})
	return func(ctx context.Context) (drivers.Transport, error) {
		return bus.Open(ctx, drivers.Port{Kind: drivers.KindSerial, Path: path, Explicit: true})
	}
}

// TestNoisyPTY runs payments over real serial lines of the machine, each line
// with its own seed; TILLBRIDGE_LARGE=1 plays 200 with more noise.
func TestNoisyPTY(t *testing.T) {
	n, rate := 20, 0.01
	if scale(0, 1) == 1 {
		n, rate = 200, 0.02
	}
	noise := drivertest.Every(rate)
	noise.StallFor, noise.MaxDelay = 200*time.Millisecond, 20*time.Millisecond
	var mu sync.Mutex
	approved, failed, faults := 0, 0, 0
	var all sync.WaitGroup
	slots := make(chan struct{}, 20)
	for i := range n {
		slots <- struct{}{}
		entry, entries := "insert", []emv.Entry{emv.EntryContact}
		if i%2 == 1 {
			entry, entries = "tap", []emv.Entry{emv.EntryContactless}
		}
		c := newCounter(entry, false)
		// A card of its own: one card cannot lie on twenty readers at a time.
		c.o.Cards = map[string]*virtualcard.Card{"visa": newCard()}
		r, err := virtual.New(c.o)
		if err != nil {
			t.Fatal(err)
		}
		steps(t, r, virtual.Step{Do: "auto", Card: "visa", Entry: entry, AfterMS: 1})
		c.readers = append(c.readers, r)
		open := onPTY(t, r, nil)
		all.Go(func() {
			defer func() { <-slots }()
			// A till gives up where an answer is lost. The first two lines are
			// clean and have all the time of a slow machine.
			limit, o := time.Duration(scale(4, 60))*time.Second, noise
			if i < 2 {
				limit, o = 2*time.Minute, drivertest.NoiseOptions{}
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			amount := int64(1000 + 16*i)
			outcome, played, err := noisySale(ctx, open, uint64(i), o, amount, entries)
			wrong := c.books(fmt.Sprintf("sale %d", amount), outcome, err)
			mu.Lock()
			defer mu.Unlock()
			faults += played
			switch {
			case wrong != nil:
				t.Errorf("line %d: %v", i, wrong)
			case err != nil && i < 2:
				t.Errorf("line %d without noise: %v", i, err)
			case err != nil:
				failed++
			case strings.HasPrefix(outcome, "approved"):
				approved++
			}
		})
	}
	all.Wait()
	t.Logf("%d lines: %d approved, %d gave no result, %d faults played", n, approved, failed, faults)
	if approved == 0 {
		t.Error("not one payment came through")
	}
}

// noisySale opens the reader behind noise and pays once. The driver is closed
// before it returns, so that the books are final.
func noisySale(ctx context.Context, open func(context.Context) (drivers.Transport, error), seed uint64, o drivertest.NoiseOptions, amount int64, entries []emv.Entry) (outcome string, played int, err error) {
	line, err := open(ctx)
	if err != nil {
		return "", 0, err
	}
	proxy := drivertest.Noise(line, seed, o)
	defer func() {
		for _, k := range proxy.Injected() {
			played += k
		}
	}()
	dev, err := neo2.New().Open(ctx, proxy, drivers.Config{Name: "reader", Log: slog.New(slog.DiscardHandler), Params: map[string]string{"baud": "115200", "customer_wait": "5"}})
	if err != nil {
		return "", 0, err
	}
	defer dev.Close()
	outcome, err = saleOf(amount, entries...).Run(ctx, dev)
	return outcome, 0, err
}

// stopwatch notes how long the host takes from the reader's last byte to its
// own next byte.
type stopwatch struct {
	io.ReadWriteCloser
	mu    sync.Mutex
	sent  time.Time
	times []time.Duration
}

func (s *stopwatch) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	s.mu.Lock()
	if !s.sent.IsZero() {
		s.times = append(s.times, time.Since(s.sent))
		s.sent = time.Time{}
	}
	s.mu.Unlock()
	return n, err
}

func (s *stopwatch) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	s.mu.Lock()
	s.sent = time.Now()
	s.mu.Unlock()
	return n, err
}

// BenchmarkOverheadPTY reports the time between the last byte of an answer and
// the first of the next command, as the reader sees it on a pty.
func BenchmarkOverheadPTY(b *testing.B) {
	r, err := virtual.New(virtual.Options{Key: newKey()})
	if err != nil {
		b.Fatal(err)
	}
	var w *stopwatch
	open := onPTY(b, r, func(l io.ReadWriteCloser) io.ReadWriteCloser { w = &stopwatch{ReadWriteCloser: l}; return w })
	line, err := open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	dev, err := neo2.New().Open(b.Context(), line, drivers.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	w.mu.Lock()
	w.times = nil // opening waits for a silent line
	w.mu.Unlock()
	for b.Loop() {
		if _, err := dev.Health(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.times)
	if n := len(w.times); n > 0 {
		b.ReportMetric(float64(w.times[n/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(w.times[n*99/100].Microseconds()), "p99-µs")
	}
}
