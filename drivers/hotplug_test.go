package drivers

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// cutOff runs an operation during which the device is unplugged.
func cutOff(t *testing.T, b *shelf, s *Supervisor, path string) {
	t.Helper()
	err := s.Do(t.Context(), "pad", func(Device) error { b.take(path); return ErrUnplugged })
	if !errors.Is(err, ErrUnplugged) {
		t.Fatalf("cut off: %v", err)
	}
}

func TestSupervisorRecoversOnTheDeviceThatWasCutOff(t *testing.T) {
	var recovered []string
	o := SupervisorOptions{Recover: func(_ context.Context, _ string, d Device) error {
		recovered = append(recovered, d.(*toyDevice).w.p.serial)
		return nil
	}}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) { // no serial number is configured
		b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		cutOff(t, b, s, "/dev/pad0")
		b.put("/dev/pad1", "B2")
		err := use(s, 30*time.Second)
		if err == nil || len(recovered) != 0 {
			t.Fatalf("a stranger was taken (%v) or asked about our operation (%v)", err, recovered)
		}
		if !strings.Contains(err.Error(), "B2") || !strings.Contains(err.Error(), "A1") {
			t.Errorf("the error does not name the two: %v", err)
		}
		b.take("/dev/pad1")
		b.put("/dev/pad0", "A1")
		if err := use(s, 30*time.Second); err != nil || !slices.Equal(recovered, []string{"A1"}) {
			t.Errorf("the right one: %v, recovered %v", err, recovered)
		}
		// A person may give up on it.
		cutOff(t, b, s, "/dev/pad0")
		b.put("/dev/pad2", "C3")
		if err := use(s, 30*time.Second); err == nil {
			t.Error("a stranger was taken without a person's word")
		}
		s.Rescan()
		if err := use(s, 30*time.Second); err != nil || len(recovered) != 1 {
			t.Errorf("after a rescan: %v, recovered %v", err, recovered)
		}
	})
}

func TestSupervisorDoesNotCallASickDeviceReady(t *testing.T) {
	var mu sync.Mutex
	var events []Event
	o := SupervisorOptions{Events: func(e Event) { mu.Lock(); events = append(events, e); mu.Unlock() }}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		p := b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		p.sick.Store(true)
		time.Sleep(5 * time.Minute)
		mu.Lock()
		events = nil
		mu.Unlock()
		time.Sleep(time.Hour)
		mu.Lock()
		for _, e := range events {
			if e.State != StateFaulted {
				t.Errorf("a device that never answers became %s: %s", e.State, e.Detail)
			}
		}
		mu.Unlock()
		st := s.Devices()[0]
		if st.State != StateFaulted || !strings.Contains(st.Detail, "no answer") {
			t.Errorf("after an hour: %+v", st)
		}
		var nr *NotReadyError
		if err := use(s, time.Second); !errors.As(err, &nr) || nr.State != StateFaulted {
			t.Errorf("Do: %v", err)
		}
		p.sick.Store(false)
		if err := use(s, time.Minute); err != nil {
			t.Errorf("well again: %v", err)
		}
	})
}

func TestSupervisorIsBusyInALongHealthCheck(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1").slow.Store(int64(8 * time.Second))
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		for n := 0; s.Devices()[0].State != StateBusy; n++ {
			if time.Sleep(time.Second); n > 600 {
				t.Fatal("never busy with a health check")
			}
		}
		if err := use(s, 100*time.Millisecond); !errors.Is(err, ErrBusy) || errors.Is(err, ErrUnplugged) {
			t.Errorf("in a health check: %v, want ErrBusy", err)
		}
		if err := use(s, 20*time.Second); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// resettable is a bus whose ports work only after a reset.
type resettable struct {
	*shelf
	resets int
}

func (r *resettable) Open(ctx context.Context, p Port) (Transport, error) {
	if r.resets == 0 {
		return nil, errors.New("stuck")
	}
	return r.shelf.Open(ctx, p)
}

func (r *resettable) Reset(context.Context, Port) error { r.resets++; return nil }

func TestSupervisorResetsAPortBeforeItGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resettable{shelf: newShelf()}
		r.put("/dev/pad0", "A1")
		s, err := NewSupervisor(SupervisorOptions{Buses: []Bus{r}, Drivers: []Driver{toy{}},
			Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad0"}}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		if err := use(s, time.Minute); err != nil || r.resets != 1 {
			t.Errorf("%v, %d resets", err, r.resets)
		}
		cancel()
		<-ended
	})
}

// TestReplugToReadyInFiveSeconds measures in the time of the bubble how long a
// device is away after it was plugged in at a random moment.
func TestReplugToReadyInFiveSeconds(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		rng := rand.New(rand.NewPCG(3, 4))
		var times []time.Duration
		for i := range 300 {
			path := []string{"/dev/pad0", "/dev/pad1"}[i%2]
			time.Sleep(time.Duration(rng.Int64N(int64(7 * time.Second))))
			b.put(path, "A1")
			from := time.Now()
			if err := use(s, time.Minute); err != nil {
				t.Fatal(err)
			}
			times = append(times, time.Since(from))
			time.Sleep(time.Duration(rng.Int64N(int64(90 * time.Second))))
			b.take(path)
		}
		slices.Sort(times)
		p50, p99 := times[len(times)/2], times[len(times)*99/100]
		t.Logf("replug to Ready: p50 %v, p99 %v", p50, p99)
		if p99 > 5*time.Second {
			t.Errorf("p99 is %v", p99)
		}
	})
}

func TestSupervisorNeverProbesInvasivelyUnasked(t *testing.T) {
	o := SupervisorOptions{Devices: []DeviceConfig{{Name: "pad", Protocol: "toy"}}} // no port named; toy's probe is invasive
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/ttyS0", "A1")
		if err := use(s, 30*time.Second); err == nil {
			t.Error("a port that nobody named was probed")
		}
		if why := s.Ports()[0].Why; len(why) != 1 || !strings.Contains(why[0], "could disturb") {
			t.Errorf("why not: %v", why)
		}
	})
}

func TestSupervisorTakesTheConfiguredSerialNumberOnly(t *testing.T) {
	o := SupervisorOptions{Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad*"}, Serial: "A1"}}}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "B2")
		if err := use(s, 30*time.Second); err == nil || !strings.Contains(err.Error(), `"B2"`) {
			t.Errorf("a stranger on the device's path: %v", err)
		}
		b.put("/dev/pad9", "A1")
		if err := use(s, 30*time.Second); err != nil || s.Devices()[0].Port.Path != "/dev/pad9" {
			t.Errorf("the device on another path: %v", err)
		}
	})
}
