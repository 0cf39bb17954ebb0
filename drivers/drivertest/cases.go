package drivertest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
)

func every(event) bool { return true }

// sameOrError is the rule of every fault that leaves the line alive: the
// driver may give up, and it may come through, but it never concludes
// something else.
func (b *bench) sameOrError(op Operation, d damage, good, bad result) {
	if bad.err == nil && bad.outcome != good.outcome {
		b.fail("%s with %s: concluded %q; the device said %q", op.Name, d, bad.outcome, good.outcome)
	}
}

func caseIdentify(b *bench) {
	w := b.newWire(false)
	ctx, cancel := context.WithTimeout(b.ctx, b.s.Deadline)
	defer cancel()
	dev, err := b.s.Driver.Open(ctx, w, b.s.Config)
	if err != nil {
		b.fail("open: %v", err)
		w.Close()
		w.end()
		return
	}
	defer b.shut(dev, w)
	if got := dev.Info().Protocol; got != b.s.Driver.Name() {
		b.fail("Info says protocol %q, the driver is %q", got, b.s.Driver.Name())
	}
	if got, want := dev.Info().Port.Path, w.Info().Path; got != want {
		b.fail("Info says port %q, the transport is %q", got, want)
	}
	for range 2 {
		id, err := dev.Identify(ctx)
		if err != nil {
			b.fail("identify: %v", err)
			return
		}
		if id.Serial == "" && id.Model == "" && id.Vendor == "" {
			b.fail("identify knows neither maker, model nor serial number")
		}
		for _, f := range []struct{ name, got, want string }{
			{"vendor", id.Vendor, b.s.Want.Vendor}, {"model", id.Model, b.s.Want.Model}, {"serial", id.Serial, b.s.Want.Serial},
			{"firmware", id.Firmware, b.s.Want.Firmware}, {"kernel", id.Kernel, b.s.Want.Kernel},
		} {
			if f.want != "" && f.got != f.want {
				b.fail("identify: %s %q, the device has %q", f.name, f.got, f.want)
			}
		}
	}
}

func caseHealth(b *bench) {
	if r := b.play(Operation{Name: "health", Run: health}, damage{}); r.err != nil {
		b.fail("health of a healthy device: %v", r.err)
	}
}

func caseOperations(b *bench) {
	for _, op := range b.operations() {
		first, second := b.play(op, damage{}), b.play(op, damage{})
		if first.err != nil || second.err != nil {
			b.fail("%s on a healthy device: %v, %v", op.Name, first.err, second.err)
		}
		if first.outcome != second.outcome {
			b.fail("%s: a healthy device gave %q and then %q: the suite cannot compare", op.Name, first.outcome, second.outcome)
		}
	}
}

func caseChopped(b *bench) {
	for _, op := range b.operations() {
		good := b.play(op, damage{})
		for _, d := range []damage{{kind: chopped, at: -1}, {merge: true}} {
			bad := b.play(op, d)
			if bad.err != nil || bad.outcome != good.outcome {
				b.fail("%s with %s (merged: %v): %q, %v; whole frames gave %q", op.Name, d, d.merge, bad.outcome, bad.err, good.outcome)
			}
		}
	}
}

func caseSecondCaller(b *bench) {
	for _, op := range b.operations()[1:] {
		good := b.play(op, damage{})
		w := b.newWire(false)
		ctx, cancel := context.WithTimeout(b.ctx, b.s.Deadline)
		dev, err := b.s.Driver.Open(ctx, w, b.s.Config)
		cancel()
		if err != nil {
			b.fail("open: %v", err)
			w.Close()
			w.end()
			continue
		}
		first := firstRead(good.events)
		held := make(chan struct{})
		w.arm(damage{kind: hold, at: first, held: held})
		var run, ask result
		var both sync.WaitGroup
		both.Go(func() {
			run = b.limited(func(ctx context.Context) (string, error) { return op.Run(ctx, dev) }, b.s.Deadline)
		})
		synctest.Wait()
		both.Go(func() {
			ask = b.limited(func(ctx context.Context) (string, error) { return health(ctx, dev) }, b.s.Deadline)
		})
		synctest.Wait()
		close(held)
		both.Wait()
		b.saw(run.err, run.outcome)
		b.saw(ask.err)
		b.judge(op, damage{}, run)
		if run.hung || run.err != nil || run.outcome != good.outcome {
			b.fail("%s while another goroutine asked for health: %q, %v; alone it gave %q", op.Name, run.outcome, run.err, good.outcome)
		}
		if ask.hung || ask.err != nil && !errors.Is(ask.err, drivers.ErrBusy) {
			b.fail("health during %s: %v; want an answer or ErrBusy", op.Name, ask.err)
		}
		b.shut(dev, w)
	}
}

func firstRead(events []event) int {
	for k, e := range events {
		if e.read {
			return k
		}
	}
	return 0
}

func caseUnplug(b *bench) {
	b.each(cut, every, func(op Operation, k int, good, bad result) {
		d := damage{kind: cut, at: k}
		switch {
		case bad.hung:
		case bad.err == nil && k == len(good.events)-1 && bad.outcome == good.outcome && !good.events[k].read:
			// The last thing was a confirmation of ours; the answer was there.
		case bad.err == nil:
			b.fail("%s with %s: no error; concluded %q", op.Name, d, bad.outcome)
		case !errors.Is(bad.err, drivers.ErrUnplugged):
			b.fail("%s with %s: %v; want an error matching drivers.ErrUnplugged", op.Name, d, bad.err)
		case bad.took > good.took+10*time.Second:
			b.fail("%s with %s: noticed after %v", op.Name, d, bad.took)
		}
	})
}

func caseSilence(b *bench) {
	b.each(silence, every, func(op Operation, k int, good, bad result) {
		b.sameOrError(op, damage{kind: silence, at: k}, good, bad)
		if bad.err == nil && (good.events[k].read || k < len(good.events)-1) {
			b.fail("%s with silence from event %d on: no error; concluded %q", op.Name, k, bad.outcome)
		}
	})
	// A deadline that is shorter than every timer of the protocol holds too.
	const short = 700 * time.Millisecond
	for _, op := range b.operations() {
		good := b.play(op, damage{})
		for k := range good.events {
			bad := b.play(op, damage{kind: silence, at: k, within: short})
			if !bad.hung && bad.took > short+2*time.Second {
				b.fail("%s: a deadline of %v was kept after %v (silence from event %d on)", op.Name, short, bad.took, k)
			}
		}
	}
}

func caseHalf(b *bench) {
	if b.s.Messages {
		return // a report comes whole or not at all
	}
	b.each(half, func(e event) bool { return e.read && len(e.data) > 1 }, func(op Operation, k int, good, bad result) {
		if bad.err == nil {
			b.fail("%s with half a frame at event %d and then silence: no error; concluded %q", op.Name, k, bad.outcome)
		}
	})
}

func caseGarbage(b *bench) {
	for _, op := range b.operations() {
		good := b.play(op, damage{})
		for k, e := range good.events {
			if !e.read {
				continue
			}
			d := damage{kind: garbage, at: k, extra: b.s.Garbage}
			b.thenHealthy(op, d, good)
		}
		for k, e := range good.events {
			if e.read {
				b.sameOrError(op, damage{kind: flipped, at: k}, good, b.play(op, damage{kind: flipped, at: k}))
			}
		}
	}
}

// thenHealthy plays op with d, judges it, and expects the device to answer
// again within three tries.
func (b *bench) thenHealthy(op Operation, d damage, good result) {
	bad := b.playOn(op, d, true)
	b.sameOrError(op, d, good, bad)
	if bad.device == nil {
		return
	}
	bad.wire.arm(damage{})
	var last error
	for range 3 {
		r := b.limited(func(ctx context.Context) (string, error) { return health(ctx, bad.device) }, b.s.Deadline)
		if last = r.err; last == nil {
			break
		}
		b.saw(last)
	}
	if b.s.Reopens && errors.Is(last, drivers.ErrUnplugged) && bad.wire.closeCount() > 0 {
		last = nil
	}
	if last != nil {
		b.fail("%s with %s: the device does not come back: %v", op.Name, d, last)
	}
	b.shut(bad.device, bad.wire)
}

func caseStale(b *bench) {
	ops := b.operations()
	goods := make([]result, len(ops))
	for i, op := range ops {
		goods[i] = b.play(op, damage{})
	}
	for i, op := range ops {
		for j := range ops {
			if i == j && len(ops) > 1 {
				continue
			}
			old := lastAnswer(goods[j].events)
			if len(old) < 2 {
				continue
			}
			if op.Name != "open" {
				b.thenHealthy(op, damage{kind: stale, at: -1, extra: old}, goods[i])
			}
			for k, e := range goods[i].events {
				// The answer to the same command cannot be told apart on the
				// wire; only others are played here.
				if e.read && !bytes.Equal(prefix(e.data), prefix(old)) {
					b.thenHealthy(op, damage{kind: stale, at: k, extra: old}, goods[i])
				}
			}
		}
	}
}

func lastAnswer(events []event) []byte {
	for k := len(events) - 1; k >= 0; k-- {
		if events[k].read && len(events[k].data) > 1 {
			return events[k].data
		}
	}
	return nil
}

func prefix(p []byte) []byte { return p[:min(len(p), 4)] }

func caseNak(b *bench) {
	if b.s.Nak == nil {
		return
	}
	for _, op := range b.operations() {
		bad := b.play(op, damage{kind: refuse, at: -1})
		if bad.err == nil {
			b.fail("%s refused for ever: no error; concluded %q", op.Name, bad.outcome)
		}
		if bad.writes > 64 {
			b.fail("%s refused for ever: sent %d times", op.Name, bad.writes)
		}
	}
}

func caseReset(b *bench) {
	b.each(reset, every, func(op Operation, k int, good, bad result) {
		b.sameOrError(op, damage{kind: reset, at: k}, good, bad)
	})
}

func caseVanishClose(b *bench) {
	for _, op := range b.operations() {
		b.play(op, damage{kind: failingClose, at: -1})
	}
}

func caseClose(b *bench) {
	r := b.playOn(Operation{Name: "health", Run: health}, damage{}, true)
	if r.device == nil {
		b.fail("health of a healthy device: %v", r.err)
		return
	}
	c := b.limited(func(context.Context) (string, error) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { b.saw(r.device.Close()) })
		}
		all.Wait()
		b.saw(r.device.Close())
		return "", nil
	}, b.s.Deadline)
	if c.hung {
		b.fail("closing from eight goroutines did not return")
	}
	if r.wire.closeCount() == 0 {
		b.fail("close left the transport open")
	}
	if o := b.limited(func(ctx context.Context) (string, error) { return health(ctx, r.device) }, b.s.Deadline); o.err == nil {
		b.fail("health of a closed device: no error")
	}
	b.shut(r.device, r.wire)
}

func caseCloseDuring(b *bench) {
	for _, op := range b.operations()[1:] {
		w := b.newWire(false)
		ctx, cancel := context.WithTimeout(b.ctx, b.s.Deadline)
		dev, err := b.s.Driver.Open(ctx, w, b.s.Config)
		cancel()
		if err != nil {
			b.fail("open: %v", err)
			w.Close()
			w.end()
			continue
		}
		w.arm(damage{kind: silence, at: 0})
		var run result
		var both sync.WaitGroup
		start := time.Now()
		both.Go(func() {
			run = b.limited(func(ctx context.Context) (string, error) { return op.Run(ctx, dev) }, b.s.Deadline)
		})
		synctest.Wait()
		b.shut(dev, w)
		both.Wait()
		b.saw(run.err, run.outcome)
		b.judge(op, damage{kind: silence}, run)
		if run.err == nil {
			b.fail("%s whose device was closed: no error; concluded %q", op.Name, run.outcome)
		}
		if took := time.Since(start); took > 5*time.Second {
			b.fail("%s whose device was closed: ended after %v", op.Name, took)
		}
	}
}

func caseGoroutines(b *bench) {
	synctest.Wait()
	before := bubbleGoroutines()
	for range b.s.Opens {
		b.play(Operation{Name: "health", Run: health}, damage{})
		b.play(Operation{Name: "open"}, damage{kind: cut, at: 1})
	}
	b.peers.Wait()
	synctest.Wait()
	if n := bubbleGoroutines() - before; n > 0 {
		b.fail("%d goroutines more after %d opens", n, 2*b.s.Opens)
	}
}

func caseLeak(b *bench) {
	for _, op := range b.operations() {
		good := b.play(op, damage{})
		for k, e := range good.events {
			if e.read {
				for _, kind := range []damageKind{flipped, half} {
					b.play(op, damage{kind: kind, at: k})
				}
				b.play(op, damage{kind: garbage, at: k, extra: e.data[:len(e.data)-len(e.data)/3]})
			}
		}
	}
}

// scan looks for the subject's secrets in all that was said and logged.
func (b *bench) scan() {
	b.mu.Lock()
	all := strings.Join(b.said, "\n")
	b.mu.Unlock()
	for where, text := range map[string]string{"an error or an outcome": all, "the log": b.log.String()} {
		text = strings.ToLower(text)
		for i, secret := range b.s.Secrets {
			for _, form := range forms(secret) {
				if strings.Contains(text, form) {
					b.fail("secret %d of the subject stands in %s", i, where)
					break
				}
			}
		}
	}
}

// forms are the ways in which a secret could be printed, in lower case. Of a
// card number the middle is enough: first six and last four may be shown.
func forms(secret string) []string {
	core := secret
	if len(core) >= 13 {
		if len(core) <= 19 {
			core = core[:len(core)-4]
		}
		core = core[6:]
	}
	list := []string{strings.ToLower(secret)}
	if len(core) >= 5 {
		core = strings.ToLower(core)
		list = append(list, core, hex.EncodeToString([]byte(core)), strings.Trim(fmt.Sprint([]byte(core)), "[]"))
	}
	return list
}

func caseImpostor(b *bench) {
	others := map[string]func(io.ReadWriteCloser){"an echo": echo, "a modem": modem, "a babbler": babbler}
	maps.Copy(others, b.s.Impostors)
	for name, peer := range others {
		fake := &bench{s: b.s, ctx: b.ctx}
		fake.s.Peer = peer
		fake.s.Books = nil
		r := fake.play(Operation{Name: "open"}, damage{})
		fake.peers.Wait()
		b.saw(r.err)
		for _, p := range fake.problems {
			b.fail("%s: %s", name, p)
		}
		if r.err == nil {
			b.fail("%s was taken for a device of protocol %s: %q", name, b.s.Driver.Name(), r.outcome)
		}
	}
}

func echo(line io.ReadWriteCloser) { io.Copy(line, struct{ io.Reader }{line}) }

func modem(line io.ReadWriteCloser) {
	b := make([]byte, 4096)
	for {
		if _, err := line.Read(b); err != nil {
			return
		}
		line.Write([]byte("\r\nERROR\r\n"))
	}
}

func babbler(line io.ReadWriteCloser) {
	b := make([]byte, 4096)
	x := uint32(1)
	for {
		if _, err := line.Read(b); err != nil {
			return
		}
		out := make([]byte, 700)
		for i := range out {
			x = x*1664525 + 1013904223
			out[i] = byte(x >> 24)
		}
		line.Write(out)
	}
}
