//go:build linux

package zvt_test

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/serialport"
	virtual "tillbridge/drivers/virtual/zvt"
)

// onPTY puts a terminal behind a real serial line of the machine and returns
// how to open it.
func onPTY(t testing.TB, term *virtual.Terminal, wrap func(io.ReadWriteCloser) io.ReadWriteCloser) func(ctx context.Context) (drivers.Transport, error) {
	t.Helper()
	device, path := drivertest.PTY(t)
	if wrap != nil {
		device = wrap(device)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = term.Run(ctx, device, true) }()
	t.Cleanup(func() { cancel(); device.Close(); <-done })
	bus := serialport.New(&serialport.Options{Paths: []string{path}, NoUSB: true, LockDir: t.TempDir()})
	return func(ctx context.Context) (drivers.Transport, error) {
		return bus.Open(ctx, drivers.Port{Kind: drivers.KindSerial, Path: path, Explicit: true})
	}
}

// TestNoisyPTY: the same in real time on ptys; TILLBRIDGE_LARGE=1 plays 200.
func TestNoisyPTY(t *testing.T) {
	n := scale(20, 200)
	o := drivertest.Every(0.004)
	o.StallFor, o.MaxDelay = 200*time.Millisecond, 20*time.Millisecond
	var mu sync.Mutex
	approved, recovered := 0, 0
	var all sync.WaitGroup
	slots := make(chan struct{}, 20)
	for i := range n {
		slots <- struct{}{}
		term, err := virtual.New(virtual.Options{Auto: "visa"})
		if err != nil {
			t.Fatal(err)
		}
		open := onPTY(t, term, nil)
		all.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
			defer cancel()
			life, amount := uint64(0), int64(1000+16*i)
			e, err := sellKnowing(ctx, func(ctx context.Context) (drivers.Device, error) {
				l, err := open(ctx)
				if err != nil {
					return nil, err
				}
				life++
				return openOn(ctx, drivertest.Noise(l, uint64(i)+life<<32, o))
			}, amount, drivers.TerminalReference{})
			if err != nil && len(term.Books().Records) == 0 {
				return // the sale never reached it, and it has no record to say so
			}
			if err == nil {
				err = judge(term, e, amount, 0)
			}
			mu.Lock()
			defer mu.Unlock()
			recovered += e.asked
			if e.a.Result == drivers.Approved {
				approved++
			}
			if err != nil {
				t.Errorf("line %d: %v: %+v", i, err, term.Books().Records)
			}
		})
	}
	all.Wait()
	t.Logf("%d lines: %d approved, %d known by the terminal's record only", n, approved, recovered)
	if approved == 0 {
		t.Error("not one sale came through")
	}
}

// stopwatch notes how long the register takes from the terminal's last byte
// of an APDU to its own next APDU.
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
	s.sent = time.Time{}
	if len(p) > 1 {
		s.sent = time.Now()
	}
	s.mu.Unlock()
	return n, err
}

// BenchmarkOverheadPTY reports the time between the last byte of a frame of
// the terminal and the register's next byte, as the terminal sees it on a pty.
func BenchmarkOverheadPTY(b *testing.B) {
	term, err := virtual.New(virtual.Options{Auto: "visa"})
	if err != nil {
		b.Fatal(err)
	}
	var w *stopwatch
	open := onPTY(b, term, func(l io.ReadWriteCloser) io.ReadWriteCloser { w = &stopwatch{ReadWriteCloser: l}; return w })
	line, err := open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	dev, err := openOn(b.Context(), line)
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	amount := int64(0)
	for b.Loop() {
		amount++
		if a, err := dev.(drivers.PaymentTerminal).Perform(b.Context(), euros(drivers.OpSale, amount)); err != nil || a.Result != drivers.Approved {
			b.Fatalf("%+v, %v", a, err)
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
