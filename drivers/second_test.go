package drivers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// add puts a plug that a test has prepared.
func (b *shelf) add(p *plug) *plug {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.gone = make(chan struct{})
	if p.port.Kind == "" {
		p.port.Kind = KindSerial
	}
	b.ports[p.port.Path] = p
	return p
}

// A plug is a second chance: what failed before on that port says nothing of
// what stands there now, and nobody waits for a backoff that the old one earned.
func TestReplugBetweenTwoScansIsASecondChance(t *testing.T) {
	const socket = "1-2:1.0"
	for _, c := range []struct {
		name          string
		device        DeviceConfig
		first, second *plug
	}{
		{"a faulted device", DeviceConfig{Ports: []string{"/dev/pad0"}}, &plug{serial: "A1", identify: func() (Identity, error) { return Identity{}, errors.New("no answer") }}, &plug{serial: "A1"}},
		{"a stranger", DeviceConfig{Ports: []string{"/dev/pad0"}, Serial: "A1"}, &plug{serial: "B2"}, &plug{serial: "A1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.device.Name, c.device.Protocol = "pad", "toy"
			supervised(t, SupervisorOptions{Devices: []DeviceConfig{c.device}}, func(t *testing.T, b *shelf, s *Supervisor) {
				c.first.port = Port{Path: "/dev/pad0", Location: socket, Node: "1"}
				c.second.port = Port{Path: "/dev/pad0", Location: socket, Node: "2"}
				b.add(c.first)
				time.Sleep(20 * time.Minute)
				if st := s.Devices()[0]; st.State == StateReady {
					t.Fatalf("%+v", st)
				}
				// Just after an attempt, so that the next one is far away.
				n := c.first.opens.Load()
				for range 60 {
					if c.first.opens.Load() != n {
						break
					}
					time.Sleep(time.Second)
				}
				time.Sleep(time.Second)
				b.take("/dev/pad0")
				b.add(c.second)
				if err := use(s, 5*time.Second); err != nil {
					t.Errorf("after the replug: %v", err)
				}
			})
		})
	}
}

// Idle replugs are no failures of the device.
func TestIdleReplugsNeverEndInFaulted(t *testing.T) {
	supervised(t, SupervisorOptions{Events: func(e Event) {
		if e.State == StateFaulted {
			t.Errorf("faulted: %s", e.Detail)
		}
	}}, func(t *testing.T, b *shelf, s *Supervisor) {
		for i := range 20 {
			b.put("/dev/pad0", "A1")
			time.Sleep(6 * time.Second)
			if st := s.Devices()[0]; st.State != StateReady {
				t.Fatalf("replug %d: %s, %s", i, st.State, st.Detail)
			}
			b.take("/dev/pad0")
			time.Sleep(5 * time.Second)
		}
	})
}

// A gadget that fits the pattern and never answers does not hold the owner off
// the port where the pad is.
func TestAMuteGadgetDoesNotHideThePad(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		b.add(&plug{port: Port{Path: "/dev/pad0"}, identify: func() (Identity, error) { return Identity{}, errors.New("no answer") }})
		b.put("/dev/pad1", "A1")
		if err := use(s, time.Minute); err != nil {
			t.Fatal(err)
		}
		if st := s.Devices()[0]; st.Port.Path != "/dev/pad1" || st.Failures != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A line without plug detection (RS-232) shows a stranger once more after a
// while: somebody may have put the right one there.
func TestAStrangerOnASerialLineIsLookedAtAgain(t *testing.T) {
	o := SupervisorOptions{Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/ttyS0"}, Serial: "A1"}}}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		var mu sync.Mutex
		serial := "B2"
		p := &plug{port: Port{Path: "/dev/ttyS0"}}
		p.identify = func() (Identity, error) { mu.Lock(); defer mu.Unlock(); return Identity{Serial: serial}, nil }
		b.add(p)
		time.Sleep(10 * time.Minute)
		if n := p.opens.Load(); n > 12 {
			t.Errorf("the stranger was opened %d times in 10 minutes", n)
		}
		mu.Lock()
		serial = "A1"
		mu.Unlock()
		if err := use(s, 2*time.Minute); err != nil {
			t.Error(err)
		}
	})
}

func TestRescanTriesAFaultedDeviceAtOnce(t *testing.T) {
	supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
		p := b.put("/dev/pad0", "A1")
		p.sick.Store(true)
		time.Sleep(20 * time.Minute)
		n := p.opens.Load()
		for p.opens.Load() == n {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		p.sick.Store(false)
		s.Rescan()
		if err := use(s, time.Second); err != nil {
			t.Error(err)
		}
	})
}

// Two devices of one make that call themselves the same are two ports, and a
// port keeps its name when its twin comes or goes.
func TestTwinsAreTwoPorts(t *testing.T) {
	devices := []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"COM3"}}, {Name: "other", Protocol: "toy", Ports: []string{"COM4"}}}
	supervised(t, SupervisorOptions{Devices: devices}, func(t *testing.T, b *shelf, s *Supervisor) {
		twin := func(path, serial string) *plug {
			return &plug{port: Port{Path: path, VID: 0x1234, PID: 0x5678, Serial: "0001"}, serial: serial}
		}
		b.add(twin("COM4", "D4"))
		time.Sleep(10 * time.Second)
		b.add(twin("COM3", "C3"))
		time.Sleep(time.Minute)
		check := func(when string, ready ...bool) {
			t.Helper()
			for i, st := range s.Devices() {
				if (st.State == StateReady) != ready[i] || st.Replugs != 0 {
					t.Errorf("%s: %s is %s (%s), %d replugs", when, st.Name, st.State, st.Detail, st.Replugs)
				}
			}
		}
		check("both", true, true)
		b.take("COM4")
		time.Sleep(time.Minute)
		check("one left", true, false)
	})
}

// What a function of Do does, its end is the owner's to see to.
func TestAFunctionThatNeverEndsIsAbandoned(t *testing.T) {
	o := SupervisorOptions{OpLimit: 5 * time.Minute}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		never := make(chan struct{})
		p := b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		began := time.Now()
		go func() { ended <- s.Do(context.Background(), "pad", func(Device) error { <-never; return nil }) }()
		err := <-ended
		if took := time.Since(began); !errors.Is(err, ErrStuck) || took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		if err := use(s, 30*time.Second); err != nil {
			t.Errorf("the next one: %v", err)
		}
		if st := s.Devices()[0]; st.Stuck != 1 || p.closes.Load() != 1 {
			t.Errorf("%d stuck, closed %d times", st.Stuck, p.closes.Load())
		}
		close(never)
		synctest.Wait()
		if st := s.Devices()[0]; st.Stuck != 0 {
			t.Errorf("%d stuck after it returned", st.Stuck)
		}
	})
}

// One that waits for the line is freed by closing it: nothing is stuck.
func TestAFunctionThatWaitsForTheLineIsFreed(t *testing.T) {
	var recovered []string
	o := SupervisorOptions{OpLimit: time.Minute, Recover: func(_ context.Context, _ string, d Device) error {
		recovered = append(recovered, d.(*toyDevice).w.p.serial)
		return nil
	}}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		freed := make(chan struct{})
		b.add(&plug{port: Port{Path: "/dev/pad0"}, serial: "A1", shut: sync.OnceFunc(func() { close(freed) })})
		mine := errors.New("mine")
		if err := s.Do(context.Background(), "pad", func(Device) error { <-freed; return mine }); !errors.Is(err, mine) {
			t.Error(err)
		}
		if err := use(s, 30*time.Second); err != nil || s.Devices()[0].Stuck != 0 || !slices.Equal(recovered, []string{"A1"}) {
			t.Errorf("%v, recovered %v, %+v", err, recovered, s.Devices()[0])
		}
	})
}

// A call that hangs in open, identify, health or close keeps neither the owner
// nor the end of the supervisor, and is not repeated without end.
func TestCallsThatHangAreAbandoned(t *testing.T) {
	for _, where := range []string{"open", "identify", "health", "close"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				never := make(chan struct{})
				hang := func() { <-never }
				p := &plug{port: Port{Path: "/dev/pad0"}, serial: "A1"}
				switch where {
				case "open":
					p.open = hang
				case "identify":
					p.identify = func() (Identity, error) { hang(); return Identity{}, nil }
				case "health":
					p.health = hang
				case "close":
					p.shut = hang
					p.sick.Store(true) // it is closed now and then
				}
				b := newShelf()
				b.add(p)
				s, err := NewSupervisor(SupervisorOptions{Buses: []Bus{b}, Drivers: []Driver{toy{}}, Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad0"}}}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx) }()
				time.Sleep(3 * time.Hour)
				st := s.Devices()[0]
				if st.State != StateFaulted || st.Stuck == 0 || st.Stuck > maxStuck || !strings.Contains(st.Detail, "not returned") {
					t.Errorf("after three hours: %s, %d stuck: %s", st.State, st.Stuck, st.Detail)
				}
				// It returns at last: what it brought is given back, and the device is used.
				b.mu.Lock()
				p.sick.Store(false)
				b.mu.Unlock()
				close(never)
				if err := use(s, time.Minute); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				synctest.Wait()
				if st := s.Devices()[0]; st.Stuck != 0 || p.opens.Load()-p.closes.Load() != 1 {
					t.Errorf("%d stuck, %d opened, %d closed", st.Stuck, p.opens.Load(), p.closes.Load())
				}
				cancel()
				<-ended
			})
		})
	}
}

func TestTheEndDoesNotWaitForAProbeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		b := newShelf()
		b.add(&plug{port: Port{Path: "/dev/pad0"}, identify: func() (Identity, error) { <-never; return Identity{}, nil }})
		s, err := NewSupervisor(SupervisorOptions{Buses: []Bus{b}, Drivers: []Driver{toy{}}, Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad0"}}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(5 * time.Second)
		cancel()
		began := time.Now()
		if err := <-ended; err != nil || time.Since(began) > 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(never)
	})
}

// A device without a serial number, or with one that two devices share, is
// settled in its own socket only.
func TestADeviceWithoutANumberIsSettledWhereItWas(t *testing.T) {
	for _, serial := range []string{"", "0000"} {
		t.Run(fmt.Sprintf("%q", serial), func(t *testing.T) {
			recovered := 0
			devices := []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad*"}}, {Name: "other", Protocol: "toy", Ports: []string{"/dev/else*"}}}
			o := SupervisorOptions{Devices: devices, Recover: func(context.Context, string, Device) error { recovered++; return nil }}
			supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
				b.put("/dev/pad0", serial)
				b.put("/dev/else0", serial)
				if err := use(s, 10*time.Second); err != nil {
					t.Fatal(err)
				}
				cutOff(t, b, s, "/dev/pad0")
				b.put("/dev/pad1", "B2") // a stranger with a number
				if err := use(s, 30*time.Second); err == nil || recovered != 0 {
					t.Fatalf("a stranger: %v, %d recovered", err, recovered)
				}
				b.take("/dev/pad1")
				b.put("/dev/pad2", serial) // one like it, elsewhere
				if err := use(s, 30*time.Second); err == nil || recovered != 0 || !strings.Contains(err.Error(), "rescan") {
					t.Fatalf("its like elsewhere: %v, %d recovered", err, recovered)
				}
				b.take("/dev/pad2")
				b.put("/dev/pad0", serial)
				if err := use(s, 30*time.Second); err != nil || recovered != 1 {
					t.Errorf("in its place: %v, %d recovered", err, recovered)
				}
			})
		})
	}
}

// A rescan that had nothing to give up must not let a later recovery be skipped.
func TestRescanOfAnIdleDeviceGivesNothingUp(t *testing.T) {
	recovered := 0
	o := SupervisorOptions{Recover: func(context.Context, string, Device) error { recovered++; return nil }}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1")
		if err := use(s, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		cutOff(t, b, s, "/dev/pad0")
		b.put("/dev/pad0", "A1")
		if err := use(s, 30*time.Second); err != nil || recovered != 1 {
			t.Fatal(err, recovered)
		}
		b.take("/dev/pad0")
		time.Sleep(5 * time.Second)
		b.put("/dev/pad0", "") // replaced while idle by one without a number
		if err := use(s, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		s.Rescan()
		cutOff(t, b, s, "/dev/pad0")
		b.put("/dev/pad0", "")
		if err := use(s, 30*time.Second); err != nil || recovered != 2 {
			t.Errorf("%v, recovered %d times, want 2", err, recovered)
		}
	})
}

// The line of a serial port does not break when the pad behind it is changed.
func TestAnotherDeviceOnALivingLineIsSeen(t *testing.T) {
	for _, when := range []string{"busy", "idle"} {
		t.Run(when, func(t *testing.T) {
			var recovered []string
			o := SupervisorOptions{Recover: func(_ context.Context, _ string, d Device) error {
				id, _ := d.Identify(context.Background())
				recovered = append(recovered, id.Serial)
				return nil
			}}
			supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
				var mu sync.Mutex
				serial := "A1"
				change := func(to string) { mu.Lock(); serial = to; mu.Unlock() }
				p := &plug{port: Port{Path: "/dev/pad0"}}
				p.identify = func() (Identity, error) { mu.Lock(); defer mu.Unlock(); return Identity{Serial: serial}, nil }
				b.add(p)
				if err := use(s, 10*time.Second); err != nil {
					t.Fatal(err)
				}
				if when == "idle" {
					change("B2")
					time.Sleep(77 * time.Second) // one health check, and not yet the next
					if st := s.Devices()[0]; st.State != StateReady || st.Identity.Serial != "B2" || !strings.Contains(st.Detail, "A1") {
						t.Errorf("%+v", st)
					}
					return
				}
				_ = s.Do(t.Context(), "pad", func(Device) error { change("B2"); return errors.New("no answer") })
				if err := use(s, 30*time.Second); err == nil || len(recovered) != 0 {
					t.Errorf("a stranger was taken (%v) or asked about our operation (%v)", err, recovered)
				}
				change("A1")
				if err := use(s, 2*time.Minute); err != nil || !slices.Equal(recovered, []string{"A1"}) {
					t.Errorf("the right one: %v, %v", err, recovered)
				}
			})
		})
	}
}

// Two pads that the system renumbers go back to their counters by what they say
// of themselves.
func TestPadsOfTwoCountersFindTheirPlaces(t *testing.T) {
	devices := []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad*"}}, {Name: "other", Protocol: "toy", Ports: []string{"/dev/pad*"}}}
	supervised(t, SupervisorOptions{Devices: devices}, func(t *testing.T, b *shelf, s *Supervisor) {
		b.put("/dev/pad0", "A1")
		b.put("/dev/pad1", "B2")
		time.Sleep(time.Minute)
		before := s.Devices()
		for i := range 10 {
			b.take("/dev/pad0")
			b.take("/dev/pad1")
			time.Sleep(10 * time.Second)
			b.put("/dev/pad0", []string{"B2", "A1"}[i%2])
			b.put("/dev/pad1", []string{"A1", "B2"}[i%2])
			time.Sleep(time.Minute)
			for i, st := range s.Devices() {
				if st.State != StateReady || st.Identity.Serial != before[i].Identity.Serial {
					t.Fatalf("%s is %s with %q, it had %q: %s", st.Name, st.State, st.Identity.Serial, before[i].Identity.Serial, st.Detail)
				}
			}
		}
	})
}

// People read these.
func TestDetailsArePlainWords(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&DeviceError{Op: "open", Device: "/dev/ttyS0", Err: ErrNoPort}, "open on /dev/ttyS0: the port is not there"},
		{fmt.Errorf("%w (process 12, minicom)", ErrPortHeld), "another program has the port open (process 12, minicom)"},
		{&DeviceError{Op: "GIX", Device: "COM4", Err: context.DeadlineExceeded}, "GIX on COM4: no answer in time"},
		{ErrUnplugged, "the device was unplugged"},
		{errors.New("drivers: something"), "something"},
		{nil, ""},
	} {
		if got := Plain(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
	o := SupervisorOptions{Events: func(e Event) {
		if strings.Contains(e.Detail, "drivers:") || strings.Contains(e.Detail, "toy:") {
			t.Errorf("a person reads %q", e.Detail)
		}
	}}
	supervised(t, o, func(t *testing.T, b *shelf, s *Supervisor) {
		b.add(&plug{port: Port{Path: "/dev/pad0"}, identify: func() (Identity, error) { return Identity{}, fmt.Errorf("toy: open: %w", ErrNoPort) }})
		time.Sleep(20 * time.Minute)
		if st := s.Devices()[0]; st.Detail != "open: the port is not there" {
			t.Errorf("%q", st.Detail)
		}
		why := s.Ports()[0].Why
		if len(why) != 1 || !strings.Contains(why[0], "tried again") || !strings.Contains(why[0], "the port is not there") {
			t.Errorf("why not taken: %v", why)
		}
	})
}

// A port that vanishes at any moment of its opening is no trouble.
func TestPortThatVanishesWhileItIsOpened(t *testing.T) {
	for _, where := range []string{"open", "identify", "health", "close"} {
		t.Run(where, func(t *testing.T) {
			supervised(t, SupervisorOptions{}, func(t *testing.T, b *shelf, s *Supervisor) {
				for range 30 {
					p := &plug{port: Port{Path: "/dev/pad0"}, serial: "A1"}
					leave := sync.OnceFunc(func() { b.take("/dev/pad0") })
					switch where {
					case "open":
						p.open = leave
					case "identify":
						p.identify = func() (Identity, error) { leave(); return Identity{}, ErrUnplugged }
					case "health":
						p.health = leave
					case "close":
						p.shut = leave
						p.sick.Store(true)
					}
					b.add(p)
					time.Sleep(3 * time.Minute)
					b.mu.Lock()
					n := len(b.ports)
					b.mu.Unlock()
					if n > 0 {
						t.Fatal("it did not vanish")
					}
					if st := s.Devices()[0]; st.State != StateAbsent || st.Stuck != 0 || st.Port != (Port{}) {
						t.Fatalf("%+v", st)
					}
					if p.opens.Load() != p.closes.Load() {
						t.Fatalf("%d opened, %d closed", p.opens.Load(), p.closes.Load())
					}
				}
				b.put("/dev/pad1", "A1")
				if err := use(s, 5*time.Second); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
