package drivers

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is a bus whose ports a test puts and takes.
type shelf struct {
	mu    sync.Mutex
	ports map[string]*plug
	bad   bool
}

type plug struct {
	port   Port
	serial string
	sick   atomic.Bool
	slow   atomic.Int64 // nanoseconds that a health check takes
	gone   chan struct{}
	opens  atomic.Int64
	closes atomic.Int64
	// open, identify, health and shut, when set, run inside those calls.
	open, shut func()
	identify   func() (Identity, error)
	health     func()
}

func newShelf() *shelf { return &shelf{ports: map[string]*plug{}} }

func (b *shelf) put(path, serial string) *plug {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &plug{port: Port{Kind: KindSerial, Path: path}, serial: serial, gone: make(chan struct{})}
	b.ports[path] = p
	return p
}

func (b *shelf) take(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ports[path].gone)
	delete(b.ports, path)
}

func (b *shelf) Scan(context.Context) ([]Port, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bad {
		return nil, errors.New("bus is ill")
	}
	var out []Port
	for _, p := range b.ports {
		out = append(out, p.port)
	}
	return out, nil
}

func (b *shelf) Open(_ context.Context, p Port) (Transport, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pl, ok := b.ports[p.Path]
	if !ok {
		return nil, ErrNoPort
	}
	if pl.open != nil {
		b.mu.Unlock()
		pl.open()
		b.mu.Lock()
	}
	pl.opens.Add(1)
	return &wire{p: pl}, nil
}

type wire struct {
	p    *plug
	once sync.Once
}

func (w *wire) Read(ctx context.Context, _ []byte) (int, error) {
	select {
	case <-w.p.gone:
		return 0, ErrUnplugged
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
func (w *wire) Write(context.Context, []byte) (int, error) { return 0, nil }
func (w *wire) Close() error                               { w.once.Do(func() { w.p.closes.Add(1) }); return nil }
func (w *wire) Info() Port                                 { return w.p.port }

// toy is a driver and its device.
type toy struct{}

func (toy) Name() string { return "toy" }
func (toy) Match(p Port) Match {
	return Match{OK: true, Cost: CostInvasive, Why: "any port"}
}
func (toy) Open(_ context.Context, t Transport, _ Config) (Device, error) {
	return &toyDevice{t.(*wire)}, nil
}

type toyDevice struct{ w *wire }

func (d *toyDevice) Info() Info { return Info{Protocol: "toy", Port: d.w.p.port} }
func (d *toyDevice) Identify(context.Context) (Identity, error) {
	if d.w.p.identify != nil {
		return d.w.p.identify()
	}
	return Identity{Serial: d.w.p.serial}, nil
}
func (d *toyDevice) Health(context.Context) (Health, error) {
	select {
	case <-d.w.p.gone:
		return Health{}, ErrUnplugged
	default:
	}
	time.Sleep(time.Duration(d.w.p.slow.Load()))
	if d.w.p.health != nil {
		d.w.p.health()
	}
	if d.w.p.sick.Load() {
		return Health{}, errors.New("no answer")
	}
	return Health{OK: true}, nil
}
func (d *toyDevice) Close() error {
	if d.w.p.shut != nil {
		d.w.p.shut()
	}
	return d.w.Close()
}

// supervised runs body with a supervisor of one device that may stand on
// /dev/pad*.
func supervised(t *testing.T, o SupervisorOptions, body func(t *testing.T, b *shelf, s *Supervisor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newShelf()
		o.Buses, o.Drivers = []Bus{b}, []Driver{toy{}}
		if o.Devices == nil {
			o.Devices = []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad*"}}}
		}
		s, err := NewSupervisor(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		body(t, b, s)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Do(context.Background(), "pad", func(Device) error { return nil }); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func use(s *Supervisor, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return s.Do(ctx, "pad", func(Device) error { return nil })
}

func TestSupervisorFollowsADeviceToAnotherPort(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		if err := use(s, 10*time.Second); !errors.Is(err, ErrUnplugged) || !strings.Contains(err.Error(), "/dev/pad*") {
			t.Errorf("without a device: %v", err)
		}
		b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatalf("with a device: %v", err)
		}
		b.take("/dev/pad0")
		b.put("/dev/pad7", "A1")
		time.Sleep(5 * time.Second) // the next scan
		if err := use(s, 20*time.Second); err != nil {
			t.Fatalf("after a replug: %v", err)
		}
		st := s.Devices()[0]
		if st.State != StateReady || st.Port.Path != "/dev/pad7" || st.Replugs != 1 || st.Identity.Serial != "A1" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestSupervisorComparesTheSerialNumberBeforeRecovery(t *testing.T) {
	recovered := 0
	o := SupervisorOptions{
		Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad*"}, Serial: "A1"}},
		Recover: func(_ context.Context, _ string, d Device) error {
			recovered++
			if d.(*toyDevice).w.p.serial != "A1" {
				t.Error("recovery ran on a stranger")
			}
			return nil
		},
	}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		err := s.Do(t.Context(), "pad", func(Device) error {
			b.take("/dev/pad0")
			return ErrUnplugged
		})
		if !errors.Is(err, ErrUnplugged) {
			t.Fatalf("cut off: %v", err)
		}
		b.put("/dev/pad1", "B2")
		if err := use(s, 30*time.Second); err == nil {
			t.Fatal("a stranger was taken")
		}
		if recovered != 0 {
			t.Fatal("recovered before the right device was there")
		}
		why := s.Ports()[0].Why
		if len(why) != 1 || !strings.Contains(why[0], `"B2"`) {
			t.Errorf("why not taken: %v", why)
		}
		b.put("/dev/pad2", "A1")
		if err := use(s, 30*time.Second); err != nil || recovered != 1 {
			t.Errorf("the right one: %v, recovered %d times", err, recovered)
		}
	})
}

func TestSupervisorKeepsADeviceThroughABadScan(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		b.bad = true
		b.mu.Unlock()
		time.Sleep(20 * time.Second)
		if st := s.Devices()[0]; st.State != StateReady || st.Replugs != 0 {
			t.Errorf("after bad scans: %+v", st)
		}
	})
}

func TestSupervisorIsFaultedWhenHealthNeverReturns(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1").sick.Store(true)
		time.Sleep(20 * time.Minute)
		if st := s.Devices()[0]; st.Failures < 5 || st.State != StateFaulted {
			t.Errorf("never faulted: %+v", st)
		}
	})
}

func TestSupervisorIsBusyWithAHealthCheck(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		hold := make(chan struct{})
		go s.Do(t.Context(), "pad", func(Device) error { <-hold; return nil })
		synctest.Wait()
		if err := use(s, time.Second); !errors.Is(err, ErrBusy) || errors.Is(err, ErrUnplugged) {
			t.Errorf("while another works: %v", err)
		}
		close(hold)
		if err := use(s, time.Second); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestSupervisorStormLeavesNothingBehind(t *testing.T) {
	cycles := 1000
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		for i := range cycles {
			path := []string{"/dev/pad0", "/dev/pad1"}[i%2]
			b.put(path, "A1")
			if err := use(s, time.Minute); err != nil {
				t.Fatalf("cycle %d: %v", i, err)
			}
			b.take(path)
			time.Sleep(5 * time.Second)
		}
		if st := s.Devices()[0]; st.Replugs != cycles-1 {
			t.Errorf("came back %d times", st.Replugs)
		}
		// synctest itself fails the test when a goroutine is left.
	})
}
