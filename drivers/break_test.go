package drivers

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// running runs a supervisor in a bubble until body returns.
func running(t *testing.T, o SupervisorOptions, body func(s *Supervisor)) {
	t.Helper()
	s, err := NewSupervisor(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	body(s)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Two counters: a pad that the configuration gives to one is never taken by the
// other, whichever looks first.
func TestSupervisorLeavesANamedPortToItsOwner(t *testing.T) {
	for _, c := range []struct {
		name    string
		devices []DeviceConfig
	}{
		{"exact before glob", []DeviceConfig{{Name: "any", Protocol: "toy", Ports: []string{"/dev/pad*"}}, {Name: "mine", Protocol: "toy", Ports: []string{"/dev/pad1"}}}},
		{"serial number before none", []DeviceConfig{{Name: "any", Protocol: "toy", Ports: []string{"/dev/pad*"}}, {Name: "mine", Protocol: "toy", Ports: []string{"/dev/pad*"}, Serial: "M1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for range 20 { // the owners start in any order
					b := newShelf()
					b.put("/dev/pad1", "M1")
					running(t, SupervisorOptions{Buses: []Bus{b}, Drivers: []Driver{toy{}}, Devices: c.devices}, func(s *Supervisor) {
						time.Sleep(time.Minute)
						ds := s.Devices()
						if ds[0].State == StateReady || ds[1].State != StateReady {
							t.Fatalf("any is %s, mine is %s (%s)", ds[0].State, ds[1].State, ds[1].Detail)
						}
					})
				}
			})
		})
	}
}

// Two devices without any difference share nothing: one port, one of them.
func TestSupervisorGivesAPortToOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newShelf()
		b.put("/dev/pad0", "A1")
		devices := []DeviceConfig{{Name: "a", Protocol: "toy", Ports: []string{"/dev/pad*"}}, {Name: "b", Protocol: "toy", Ports: []string{"/dev/pad*"}}}
		running(t, SupervisorOptions{Buses: []Bus{b}, Drivers: []Driver{toy{}}, Devices: devices}, func(s *Supervisor) {
			time.Sleep(time.Minute)
			ready := 0
			for _, d := range s.Devices() {
				if d.State == StateReady {
					ready++
				}
			}
			if ready != 1 {
				t.Errorf("%d devices have the one port", ready)
			}
		})
	})
}

// A pad that leaves and comes back between two scans stands on the same path
// and is another open: it is opened anew at the next scan, before a payment
// meets the dead port.
func TestSupervisorSeesAReplugBetweenTwoScans(t *testing.T) {
	for _, path := range []string{"/dev/pad0", "/dev/pad1"} {
		supervised(t, SupervisorOptions{KeepAlive: time.Hour}, func(t *testing.T, b *shelf, s *Supervisor) {
			first := b.put("/dev/pad0", "A1")
			b.mu.Lock()
			first.port.Location, first.port.Node = "1-2:1.0", "1"
			b.mu.Unlock()
			if err := use(s, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			b.take("/dev/pad0")
			second := b.put(path, "A1")
			b.mu.Lock()
			second.port.Location, second.port.Node = "1-2:1.0", "2"
			b.mu.Unlock()
			time.Sleep(10 * time.Second)
			err := s.Do(t.Context(), "pad", func(d Device) error {
				if d.(*toyDevice).w.p != second {
					t.Error("the device of before is still open")
				}
				return nil
			})
			if err != nil || s.Devices()[0].Replugs != 1 {
				t.Errorf("%v, %+v", err, s.Devices()[0])
			}
		})
	}
}

// hung is a bus whose scan does not return and does not heed its context.
type hung struct {
	*shelf
	mu   sync.Mutex
	free chan struct{} // nil: it answers
}

func (h *hung) Scan(ctx context.Context) ([]Port, error) {
	h.mu.Lock()
	free := h.free
	h.mu.Unlock()
	if free != nil {
		<-free
	}
	return h.shelf.Scan(ctx)
}

func TestSupervisorLivesWithABusThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := &hung{shelf: newShelf(), free: make(chan struct{})}, newShelf()
		bad.put("/dev/pad9", "B1")
		devices := []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad0"}}, {Name: "other", Protocol: "toy", Ports: []string{"/dev/pad9"}}}
		running(t, SupervisorOptions{Buses: []Bus{bad, good}, Drivers: []Driver{toy{}}, Devices: devices}, func(s *Supervisor) {
			time.Sleep(30 * time.Second)
			good.put("/dev/pad0", "A1")
			if err := use(s, 20*time.Second); err != nil {
				t.Fatalf("a device of the other bus: %v", err)
			}
			bad.mu.Lock()
			close(bad.free)
			bad.free = nil
			bad.mu.Unlock()
			time.Sleep(20 * time.Second)
			if st := s.Devices()[1]; st.State != StateReady {
				t.Errorf("the bus answers again and its device is %s: %s", st.State, st.Detail)
			}
		})
		// And one that hangs for ever does not keep the supervisor from ending.
		never := &hung{shelf: newShelf(), free: make(chan struct{})}
		running(t, SupervisorOptions{Buses: []Bus{never}, Drivers: []Driver{toy{}}, Devices: devices[:1]}, func(s *Supervisor) {
			if err := use(s, time.Minute); !errors.Is(err, ErrUnplugged) || !strings.Contains(err.Error(), "/dev/pad0") {
				t.Error(err)
			}
		})
		close(never.free)
	})
}
