//go:build linux

package abecs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/serialport"
	"tillbridge/emv"
)

// ptyPad puts a virtual pad behind a pty and returns the open port.
func ptyPad(t testing.TB, s *shelf, wrap func(io.ReadWriteCloser) io.ReadWriteCloser) drivers.Transport {
	t.Helper()
	device, path := drivertest.PTY(t)
	if wrap != nil {
		device = wrap(device)
	}
	p := s.pad()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx, device) }()
	t.Cleanup(func() { cancel(); device.Close(); <-done })
	bus := serialport.New(&serialport.Options{Paths: []string{path}, NoUSB: true, LockDir: t.TempDir()})
	ports, err := bus.Scan(t.Context())
	if err != nil || len(ports) != 1 {
		t.Fatalf("scan: %v, %v", ports, err)
	}
	port, err := bus.Open(t.Context(), ports[0])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestNoisyPTY runs sales over a real serial line of the machine.
func TestNoisyPTY(t *testing.T) {
	exchanges, rate := 28, 0.002
	if os.Getenv("TILLBRIDGE_LARGE") == "1" {
		exchanges, rate = 200, 0.01
	}
	s := &shelf{auto: true}
	noise := drivertest.Every(rate)
	noise.StallFor, noise.MaxDelay = 300*time.Millisecond, 50*time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	dev, err := driver.Open(ctx, drivertest.Noise(ptyPad(t, s, nil), 7, noise), drivers.Config{Params: params})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	approved, failed := 0, 0
	for n := 0; n < exchanges; n += 7 {
		before := len(s.last.Books())
		limit, cancel := context.WithTimeout(ctx, 2*time.Minute)
		out, err := sale(limit, dev, emv.EntryContact)
		cancel()
		lines := s.last.Books()[before:]
		for _, l := range lines {
			if l.Amount != 1000 || l.Currency != "978" {
				t.Errorf("the card was asked for %d %s", l.Amount, l.Currency)
			}
		}
		if len(lines) > 1 {
			t.Errorf("%d cryptograms for one sale", len(lines))
		}
		if err != nil {
			failed++
			continue
		}
		if strings.HasPrefix(out, "approved") {
			approved++
			if len(lines) != 1 || lines[0].Final != "approved" {
				t.Errorf("the driver says approved, the pad %+v", lines)
			}
		}
	}
	if approved == 0 {
		t.Errorf("nothing was approved, %d failed", failed)
	}
	t.Logf("%d exchanges, %d sales approved, %d gave no result", exchanges, approved, failed)
}

// stopwatch notes how long the host takes from the pad's last byte to its own
// next byte.
type stopwatch struct {
	io.ReadWriteCloser
	mu    sync.Mutex
	sent  time.Time
	times []time.Duration
}

func (s *stopwatch) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	s.mu.Lock()
	if !s.sent.IsZero() && n > 1 {
		s.times = append(s.times, time.Since(s.sent))
		s.sent = time.Time{}
	}
	s.mu.Unlock()
	return n, err
}

func (s *stopwatch) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	s.mu.Lock()
	if len(p) > 1 {
		s.sent = time.Now()
	}
	s.mu.Unlock()
	return n, err
}

// BenchmarkOverheadPTY reports the time between the last byte of an answer and
// the first of the next command, as the pad sees it on a pty.
func BenchmarkOverheadPTY(b *testing.B) {
	var w *stopwatch
	port := ptyPad(b, &shelf{}, func(l io.ReadWriteCloser) io.ReadWriteCloser { w = &stopwatch{ReadWriteCloser: l}; return w })
	dev, err := driver.Open(b.Context(), port, drivers.Config{Params: params})
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	screen := dev.(drivers.Display)
	for b.Loop() {
		if err := screen.Display(b.Context(), "HELLO\nWORLD"); err != nil {
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

// TestReplugOnAnotherPTY unplugs a pad in the middle of a sale and brings it
// back under another path of the configured glob.
func TestReplugOnAnotherPTY(t *testing.T) {
	dir := t.TempDir()
	s := &shelf{auto: true}
	plug := func(name string) (unplug func()) {
		device, path := drivertest.PTY(t)
		p := s.pad()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx, device) }()
		link := filepath.Join(dir, name)
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		off := sync.OnceFunc(func() { os.Remove(link); cancel(); device.Close(); <-done })
		t.Cleanup(off)
		return off
	}
	glob := filepath.Join(dir, "pad-*")
	recovered := make(chan string, 8)
	sup, err := drivers.NewSupervisor(drivers.SupervisorOptions{
		Buses:   []drivers.Bus{serialport.New(&serialport.Options{Paths: []string{glob}, NoUSB: true, LockDir: t.TempDir()})},
		Drivers: []drivers.Driver{driver},
		Devices: []drivers.DeviceConfig{{Name: "till-1", Protocol: "abecs", Ports: []string{glob}, Params: params}},
		Poll:    20 * time.Millisecond, Debounce: 10 * time.Millisecond,
		Recover: func(ctx context.Context, name string, d drivers.Device) error {
			id, err := d.Identify(ctx)
			recovered <- id.Serial
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- sup.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	pay := func(d drivers.Device) error {
		out, err := sale(ctx, d, emv.EntryContact)
		if err == nil && !strings.HasPrefix(out, "approved") {
			t.Errorf("sale: %q", out)
		}
		return err
	}
	unplug := plug("pad-0")
	if err := sup.Do(ctx, "till-1", pay); err != nil {
		t.Fatal(err)
	}
	err = sup.Do(ctx, "till-1", func(d drivers.Device) error { unplug(); return pay(d) })
	if !errors.Is(err, drivers.ErrUnplugged) {
		t.Fatalf("unplugged in a sale: %v", err)
	}
	plug("pad-1")
	if err := sup.Do(ctx, "till-1", pay); err != nil {
		t.Fatalf("after the replug: %v", err)
	}
	if len(recovered) != 1 || <-recovered != "VP000001" {
		t.Error("the operation that was cut off was not settled before the next")
	}
	if st := sup.Devices()[0]; st.Replugs != 1 || st.Identity.Serial != "VP000001" {
		t.Errorf("status %+v", st)
	}
}
