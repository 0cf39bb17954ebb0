package drivers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// ErrStopped: the supervisor is not running any more.
var ErrStopped = errors.New("drivers: the supervisor has stopped")

// State is where a device is in its life.
type State string

// States of a device. Loss of the line while Busy always passes Recovering.
const (
	StateAbsent     State = "absent"     // no port that fits
	StateOpening    State = "opening"    // opening port and protocol
	StateProbing    State = "probing"    // asking who it is
	StateReady      State = "ready"      // idle
	StateBusy       State = "busy"       // runs an operation or a health check
	StateRecovering State = "recovering" // waits for the next attempt, or settles the last operation
	StateFaulted    State = "faulted"    // several attempts failed; still tried, slowly
)

// DeviceConfig is one device of the configuration.
type DeviceConfig struct {
	Name     string
	Protocol string
	// Ports are the ports it may stand on, as the configuration writes them.
	// Empty means any port that its driver recognises.
	Ports []string
	// Serial, when set, is the only serial number that is accepted.
	Serial string
	Params map[string]string
}

// Event is a change that a person or a metric may want to know.
type Event struct {
	At       time.Time
	Device   string
	State    State
	Port     string
	Identity Identity
	Detail   string
}

// DeviceStatus is a picture of a device.
type DeviceStatus struct {
	Name     string
	Protocol string
	State    State
	Since    time.Time
	Port     Port
	Identity Identity
	Detail   string // plain words, and what to do next when something is wrong
	Replugs  int    // times it came back
	Failures int    // in a row, on that port since it was plugged in
	Stuck    int    // calls that did not end in their time and have not returned since
}

// SupervisorOptions are the settings of [NewSupervisor]. Buses and Drivers are
// needed.
type SupervisorOptions struct {
	Buses   []Bus
	Drivers []Driver
	Devices []DeviceConfig
	Log     *slog.Logger // nil: nothing is logged
	// Events, when set, gets every change of state. It must not block.
	Events func(Event)
	// Recover, when set, runs on a device that was lost during an operation,
	// after its identity was checked and before it is Ready again.
	Recover func(ctx context.Context, name string, d Device) error

	// Wrap, when set, is put around the transport of a device as it is opened (a
	// trace).
	Wrap func(device string, t Transport) Transport

	Poll         time.Duration // between two scans; 0 means 2 s
	Debounce     time.Duration // how long a new port has to stay; 0 means 1 s
	OpenTimeout  time.Duration // of open and of identify; 0 means 20 s
	KeepAlive    time.Duration // between health checks of an idle device; 0 means 60 s
	CheckTimeout time.Duration // of one health check; 0 means 10 s
	OpLimit      time.Duration // of one function of Do and of Recover; 0 means 15 min
	BackoffFirst time.Duration // 0 means 0.5 s
	BackoffMax   time.Duration // 0 means 30 s
	FaultAfter   int           // failures in a row; 0 means 5
}

func (o *SupervisorOptions) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Poll, 2*time.Second)
	def(&o.Debounce, time.Second)
	def(&o.OpenTimeout, 20*time.Second)
	def(&o.KeepAlive, time.Minute)
	def(&o.CheckTimeout, 10*time.Second)
	def(&o.OpLimit, 15*time.Minute)
	def(&o.BackoffFirst, 500*time.Millisecond)
	def(&o.BackoffMax, 30*time.Second)
	if o.FaultAfter <= 0 {
		o.FaultAfter = 5
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Supervisor finds the configured devices, keeps them open and brings them
// back. Each device has one owner goroutine; everything that is done with it
// goes through [Supervisor.Do].
type Supervisor struct {
	o      SupervisorOptions
	owners []*owner
	done   chan struct{}  // closed when Run has ended
	kick   chan struct{}  // asks for a scan now
	scans  []chan scanned // by bus: the scan that runs; used by Run alone

	mu      sync.Mutex
	faults  []error             // by bus: why its last scan failed, or nil
	seen    map[string]sighting // by key
	lives   uint64              // given to ports so far
	claims  map[string]string   // key -> device
	refused map[string]refusal  // device + key
	changed chan struct{}       // closed when seen, claims or refused change
}

// NewSupervisor checks the options. [Supervisor.Run] starts the work.
func NewSupervisor(o SupervisorOptions) (*Supervisor, error) {
	o.defaults()
	s := &Supervisor{o: o, done: make(chan struct{}), kick: make(chan struct{}, 1), seen: map[string]sighting{},
		scans: make([]chan scanned, len(o.Buses)), faults: make([]error, len(o.Buses)), claims: map[string]string{}, refused: map[string]refusal{}, changed: make(chan struct{})}
	names := map[string]bool{}
	for _, c := range o.Devices {
		if names[c.Name] {
			return nil, fmt.Errorf("drivers: two devices are named %q", c.Name)
		}
		names[c.Name] = true
		i := slices.IndexFunc(o.Drivers, func(d Driver) bool { return d.Name() == c.Protocol })
		if i < 0 {
			return nil, fmt.Errorf("drivers: device %q: there is no driver for protocol %q", c.Name, c.Protocol)
		}
		s.owners = append(s.owners, newOwner(s, c, o.Drivers[i]))
	}
	return s, nil
}

// Run works until ctx ends, then closes every device and returns nil. It runs
// once.
func (s *Supervisor) Run(ctx context.Context) error {
	defer close(s.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, o := range s.owners {
		wg.Go(func() { o.run(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.kick:
		}
		timer.Reset(s.scan(ctx, first))
	}
}

// Rescan asks for a scan now and forgets which ports were refused. It is a
// person's word: a device that stands in the place of one whose operation is
// not settled is taken, and Recover is not run on it; what failed is tried
// again at once; and no device has its place from before.
func (s *Supervisor) Rescan() {
	for _, o := range s.owners {
		o.anew()
	}
	s.mu.Lock()
	clear(s.refused)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
	s.notify()
}

// scan looks at every bus. A bus that fails keeps what it had: one bad scan
// proves nothing. Why it failed is kept for [Supervisor.BusFaults] and logged
// when it changes, not at every scan. It returns when the next scan is due: a new port is looked at
// again as soon as it has been there long enough.
func (s *Supervisor) scan(ctx context.Context, first bool) (next time.Duration) {
	next = s.o.Poll
	found := map[string]sighting{}
	var list []sighting
	now := time.Now()
	told := false
	for i, b := range s.o.Buses {
		ports, err := s.look(ctx, i)
		if ctx.Err() == nil && s.fault(i, err) {
			told = true
			if err != nil {
				s.o.Log.Warn("ports of one kind cannot be looked for; those known are kept", "err", err)
			} else {
				s.o.Log.Info("ports of that kind can be looked for again")
			}
		}
		if err != nil {
			s.mu.Lock()
			for key, v := range s.seen {
				if v.bus == b {
					found[key] = v
				}
			}
			s.mu.Unlock()
			continue
		}
		for _, p := range ports {
			list = append(list, sighting{port: p, bus: b, first: now, settle: first})
		}
	}
	s.mu.Lock()
	s.name(found, list)
	same := !told && len(found) == len(s.seen)
	for key, v := range found {
		old, ok := s.seen[key]
		if ok {
			v.first, v.settle, v.life = old.first, old.settle, old.life
		}
		if !ok || old.port.Node != v.port.Node || old.port.Path != v.port.Path {
			s.lives++
			v.life = s.lives
			s.forget(key)
		}
		if !v.settle {
			if left := s.o.Debounce - now.Sub(v.first); left > 0 {
				next = min(next, left)
			} else {
				v.settle = true
			}
		}
		same = same && ok && old.settle == v.settle && old.port == v.port
		found[key] = v
	}
	for key := range s.seen {
		if _, ok := found[key]; !ok {
			s.forget(key)
		}
	}
	for at, why := range s.refused {
		if !why.until.IsZero() && !now.Before(why.until) {
			delete(s.refused, at)
			same = false
		}
	}
	s.seen = found
	s.mu.Unlock()
	if !same {
		s.notify()
	}
	return next
}

// scanned is what a bus answered.
type scanned struct {
	ports []Port
	err   error
}

// errScan is a bus that does not answer.
var errScan = errors.New("drivers: the scan of a bus has not returned")

// look scans one bus. One that hangs must not keep the others' devices away:
// after its time it is left alone until it returns.
func (s *Supervisor) look(ctx context.Context, i int) ([]Port, error) {
	scanCtx, cancel := context.WithTimeout(ctx, s.o.OpenTimeout)
	running := s.scans[i]
	if running == nil {
		running = make(chan scanned, 1)
		s.scans[i] = running
		go func() {
			defer cancel()
			ports, err := s.o.Buses[i].Scan(scanCtx)
			running <- scanned{ports, err}
		}()
	} else {
		cancel() // it had its time
		select {
		case r := <-running:
			s.scans[i] = nil
			return r.ports, r.err
		default:
			return nil, errScan
		}
	}
	select {
	case r := <-running:
		s.scans[i] = nil
		return r.ports, r.err
	case <-scanCtx.Done():
	}
	// A bus that heeds its context returns now.
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case r := <-running:
		s.scans[i] = nil
		return r.ports, r.err
	case <-grace.C:
		return nil, errScan
	}
}

// notify wakes every owner that waits for a port.
func (s *Supervisor) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// watch returns a channel that is closed at the next change of the ports.
func (s *Supervisor) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Do runs fn alone with the open device. It waits for the device as long as ctx
// lets it; without one the error is a *NotReadyError. fn's error is returned as
// it is. fn has to end by its own deadline: one that is not back after
// OpLimit finds its device closed, and if that does not end it either it is
// abandoned: Do returns [ErrStuck] and the device is opened anew.
func (s *Supervisor) Do(ctx context.Context, name string, fn func(Device) error) error {
	i := slices.IndexFunc(s.owners, func(o *owner) bool { return o.c.Name == name })
	if i < 0 {
		return fmt.Errorf("drivers: no device is named %q", name)
	}
	return s.owners[i].do(ctx, fn)
}

// Devices returns a picture of every device, in the order of the
// configuration.
func (s *Supervisor) Devices() []DeviceStatus {
	var out []DeviceStatus
	for _, o := range s.owners {
		out = append(out, o.status())
	}
	return out
}

// jitter varies a pause by a quarter, so that devices that left together do
// not come back together.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}
