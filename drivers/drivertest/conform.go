package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
)

// Subject is a driver before the conformance suite, with a healthy device to
// drive.
type Subject struct {
	Driver drivers.Driver
	// Config is what the driver is opened with. Its Log is replaced: the suite
	// reads what the driver logs.
	Config drivers.Config
	Port   drivers.Port
	// Messages is set for a message-oriented port (HID reports, USB transfers):
	// one Write of the device is one Read of the host, and the suite does not
	// chop or merge them.
	Messages bool
	// Peer plays the device's side on line until the line ends, and returns
	// only when all of its goroutines have ended. Each call is a device fresh
	// from power-on. One Write per frame lets the suite find the phases.
	Peer func(line io.ReadWriteCloser)
	// Want is compared with Identify where its fields are not empty.
	Want drivers.Identity
	// Operations are played in every fault. The suite adds "open" (Open and
	// Identify) and "health" by itself.
	Operations []Operation
	// Nak is what a device sends that refuses a frame. Nil leaves the case out.
	Nak []byte
	// Garbage is noise that is no frame of the protocol. Nil means 16 bytes
	// with the high bit set.
	Garbage []byte
	// Impostors are devices that this driver must not take for its own, beside
	// the suite's echo, modem and babbler.
	Impostors map[string]func(line io.ReadWriteCloser)
	// Secrets are the card numbers, tracks and PINs that Peer handles in the
	// clear. None of them may appear in an error or in the log.
	Secrets []string
	// Books is asked after every run, with what the driver said, and returns an
	// error when the device's own account disagrees: a wrong amount, a double
	// charge. May be nil.
	Books func(operation, outcome string, err error) error
	// Deadline is what each operation is given; zero means one minute. The
	// suite runs under testing/synctest: it costs no time.
	Deadline time.Duration
	// Opens is how many times the device is opened in the goroutine case; zero
	// means 200.
	Opens int
	// Reopens is set for a driver that closes a line whose state it has lost and
	// leaves it to the supervisor to open it again. After damage the suite then
	// takes drivers.ErrUnplugged on a closed transport for an answer.
	Reopens bool
	// Skip leaves cases out, by name with the reason, which is logged.
	Skip map[string]string
}

// Operation is one exchange with an open device.
type Operation struct {
	Name string
	// Run returns what the operation concluded, in words that hold result and
	// amount ("approved 1000 978"). A healthy device gives the same words each
	// time. An error says that there is no conclusion.
	Run func(ctx context.Context, d drivers.Device) (outcome string, err error)
}

// Case names one case of the suite.
type Case struct {
	Name string
	run  func(b *bench)
}

// Cases lists the suite in order.
func Cases() []Case {
	return []Case{
		{"identify", caseIdentify},
		{"health", caseHealth},
		{"operations", caseOperations},
		{"chopped and merged reads", caseChopped},
		{"second caller", caseSecondCaller},
		{"unplug in each phase", caseUnplug},
		{"silence in each phase", caseSilence},
		{"half a frame then silence", caseHalf},
		{"garbage before the answer", caseGarbage},
		{"answer to the previous command", caseStale},
		{"refusal for ever", caseNak},
		{"reset in each phase", caseReset},
		{"port vanishes in close", caseVanishClose},
		{"close twice and at once", caseClose},
		{"close during an operation", caseCloseDuring},
		{"goroutines", caseGoroutines},
		{"no clear card number", caseLeak},
		{"another device", caseImpostor},
	}
}

// Conform runs the suite. Every case is a subtest of its name and runs under
// testing/synctest.
func Conform(t *testing.T, s Subject) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if why, ok := s.Skip[c.Name]; ok {
				t.Skipf("left out: %s", why)
			}
			for _, p := range Check(t, s, c) {
				t.Error(p)
			}
		})
	}
}

// Check runs one case and returns what is wrong, instead of failing the test.
func Check(t *testing.T, s Subject, c Case) (problems []string) {
	t.Helper()
	if s.Deadline == 0 {
		s.Deadline = time.Minute
	}
	if s.Opens == 0 {
		s.Opens = 200
	}
	if s.Garbage == nil {
		for i := range 16 {
			s.Garbage = append(s.Garbage, byte(0x80+11*i)|0x80)
		}
	}
	if s.Config.Name == "" {
		s.Config.Name = "subject"
	}
	synctest.Test(t, func(t *testing.T) {
		b := &bench{s: s, ctx: t.Context()}
		s.Config.Log = slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
		b.s.Config = s.Config
		before := bubbleGoroutines()
		c.run(b)
		b.peers.Wait()
		synctest.Wait()
		if n := bubbleGoroutines(); n > before {
			b.fail("%d goroutines are left behind after every device was closed", n-before)
			for _, p := range b.problems { // synctest panics if they never end
				t.Log(p)
			}
			time.Sleep(24 * time.Hour)
		}
		b.scan()
		problems = b.problems
	})
	return problems
}

// bench is the state of one case.
type bench struct {
	s     Subject
	ctx   context.Context
	log   safeBuffer
	peers sync.WaitGroup

	mu       sync.Mutex
	problems []string
	said     []string // errors and outcomes, as a person would see them
}

func (b *bench) fail(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) < 20 {
		text := fmt.Sprintf(format, args...)
		for _, secret := range b.s.Secrets { // a failing test shows none either
			text = strings.ReplaceAll(text, secret, "***")
		}
		b.problems = append(b.problems, text)
	}
}

func (b *bench) saw(err error, texts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, texts...)
	for e := err; e != nil; e = errors.Unwrap(e) {
		b.said = append(b.said, fmt.Sprintf("%v %+v %#v", e, e, e))
	}
}

// operations are the subject's with the suite's own in front.
func (b *bench) operations() []Operation {
	return append([]Operation{{Name: "open"}, {Name: "health", Run: health}}, b.s.Operations...)
}

func health(ctx context.Context, d drivers.Device) (string, error) {
	h, err := d.Health(ctx)
	if err != nil {
		return "", err
	}
	if !h.OK {
		return "", fmt.Errorf("the device says that it is not healthy: %s", h.Detail)
	}
	return "ok", nil
}

// result is what one run gave.
type result struct {
	outcome string
	err     error
	hung    bool
	late    <-chan result // of a run that hung: what it gave in the end
	took    time.Duration
	events  []event
	writes  int
	device  drivers.Device // open when play was told to keep it
	wire    *wire
}

// play opens the subject on a new line, runs op with the damage d and closes
// it. For "open" the damage is there from the first byte.
func (b *bench) play(op Operation, d damage) result { return b.playOn(op, d, false) }

func (b *bench) playOn(op Operation, d damage, keep bool) result {
	w := b.newWire(d.merge)
	r := result{wire: w}
	var dev drivers.Device
	open := func(ctx context.Context) (string, error) {
		var err error
		if dev, err = b.s.Driver.Open(ctx, w, b.s.Config); err != nil {
			if dev != nil {
				b.fail("open returned a device together with an error")
			}
			dev = nil
			return "", err
		}
		id, err := dev.Identify(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %s %s %s", id.Vendor, id.Model, id.Serial, id.Firmware), nil
	}
	run := open
	if op.Name != "open" {
		if r2 := b.limited(open, b.s.Deadline); r2.err != nil || r2.hung {
			b.fail("%s: a healthy device could not be opened: %v", op.Name, r2.err)
			w.Close()
			w.end()
			r.err, r.hung = r2.err, r2.hung
			return r
		}
		run = func(ctx context.Context) (string, error) { return op.Run(ctx, dev) }
	}
	w.arm(d)
	within := b.s.Deadline
	if d.within > 0 {
		within = d.within
	}
	r2 := b.limited(run, within)
	r.outcome, r.err, r.hung, r.took = r2.outcome, r2.err, r2.hung, r2.took
	r.events, r.writes = w.log(), w.writeCount()
	b.saw(r.err, r.outcome)
	if r.hung {
		b.fail("%s with %s: not back %v after its deadline of %v", op.Name, d, grace, within)
		w.unplug()
		select {
		case <-r2.late:
		case <-time.After(grace): // not even now: its goroutine is lost
			w.Close()
			w.end()
			return r
		}
	}
	if op.Name == "open" && r.err != nil && dev == nil && w.closeCount() == 0 {
		b.fail("open with %s: failed and left the transport open", d)
	}
	b.judge(op, d, r)
	if keep && dev != nil && !r.hung {
		r.device = dev
		return r
	}
	b.shut(dev, w)
	return r
}

// judge asks the device's own books.
func (b *bench) judge(op Operation, d damage, r result) {
	if b.s.Books == nil {
		return
	}
	if err := b.s.Books(op.Name, r.outcome, r.err); err != nil {
		b.fail("%s with %s: the device's books: %v", op.Name, d, err)
	}
}

// shut closes device and line and sees that Close returns.
func (b *bench) shut(dev drivers.Device, w *wire) {
	if dev != nil {
		r := b.limited(func(context.Context) (string, error) { return "", dev.Close() }, b.s.Deadline)
		if r.hung {
			b.fail("close did not return")
		}
		b.saw(r.err)
		if w.closeCount() == 0 {
			b.fail("close left the transport open")
		}
	}
	w.Close()
	w.end()
}

// grace is what an operation may take beyond its deadline.
const grace = 5 * time.Second

// limited runs f with a deadline and waits a little longer.
func (b *bench) limited(f func(ctx context.Context) (string, error), within time.Duration) result {
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	start := time.Now()
	done := make(chan result, 1)
	go func() {
		o, err := f(ctx)
		done <- result{outcome: o, err: err}
	}()
	guard := time.NewTimer(within + grace)
	defer guard.Stop()
	select {
	case r := <-done:
		r.took = time.Since(start)
		return r
	case <-guard.C:
		return result{late: done, hung: true, took: time.Since(start), err: errors.New("hung")}
	}
}

// each plays op once healthy and then once for every event that want chooses,
// and gives healthy and damaged result to judge.
func (b *bench) each(kind damageKind, want func(event) bool, judge func(op Operation, k int, good, bad result)) {
	for _, op := range b.operations() {
		good := b.play(op, damage{})
		if good.err != nil {
			b.fail("%s: the healthy run failed: %v", op.Name, good.err)
			continue
		}
		if len(good.events) == 0 {
			b.fail("%s: not one byte passed: the operation does not reach the device", op.Name)
		}
		for k, e := range good.events {
			if want(e) {
				judge(op, k, good, b.play(op, damage{kind: kind, at: k}))
			}
		}
	}
}
