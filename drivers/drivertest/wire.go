package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"tillbridge/drivers"
)

// damageKind is what happens to one event of a run.
type damageKind string

const (
	clean        damageKind = "a clean line"
	cut          damageKind = "an unplug"
	silence      damageKind = "silence"
	half         damageKind = "half a frame"
	garbage      damageKind = "garbage"
	stale        damageKind = "a stale answer"
	refuse       damageKind = "refusals"
	reset        damageKind = "a reset"
	hold         damageKind = "a pause"
	flipped      damageKind = "a flipped bit"
	chopped      damageKind = "single bytes"
	failingClose damageKind = "a failing close"
)

// damage is a kind at one event. The zero value is a clean line.
type damage struct {
	kind   damageKind
	at     int
	extra  []byte // what garbage and stale bring
	merge  bool
	held   chan struct{} // hold waits for it
	within time.Duration // the operation's deadline; 0: the subject's
}

func (d damage) String() string {
	if d.kind == "" {
		return string(clean)
	}
	return fmt.Sprintf("%s at event %d", d.kind, d.at)
}

// event is one piece that passed: read by the host, or written.
type event struct {
	read bool
	data []byte
}

// wire is the transport that a subject gets. It counts what passes and damages
// one event. Behind it is a device that it can replace.
type wire struct {
	b     *bench
	merge bool

	mu      sync.Mutex
	host    *End
	d       damage
	armed   bool
	seen    []event
	silent  bool
	pending [][]byte
	arrived chan struct{} // closed and replaced when pending grows
	closes  int
	writes  int
	shut    bool
	gone    bool // unplugged: what was under way is lost too
}

func (b *bench) newWire(merge bool) *wire {
	w := &wire{b: b, merge: merge, arrived: make(chan struct{})}
	w.connect()
	return w
}

// connect starts a device fresh from power-on. The caller holds mu or is alone.
func (w *wire) connect() {
	host, device := Pipe(PipeOptions{Port: w.b.s.Port, Merge: w.merge && !w.b.s.Messages})
	w.host = host
	w.b.peers.Go(func() {
		line := device.Stream()
		defer line.Close()
		w.b.s.Peer(line)
	})
}

func (w *wire) arm(d damage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.d, w.armed, w.seen, w.writes = d, true, nil, 0
	switch d.kind {
	case stale:
		if d.at < 0 { // there before the operation began
			w.push(d.extra)
		}
	case refuse:
		w.silent = true
	}
}

// push queues bytes as if the device had sent them. The caller holds mu.
func (w *wire) push(p []byte) {
	w.pending = append(w.pending, append([]byte(nil), p...))
	close(w.arrived)
	w.arrived = make(chan struct{})
}

func (w *wire) log() []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]event(nil), w.seen...)
}

func (w *wire) writeCount() int { w.mu.Lock(); defer w.mu.Unlock(); return w.writes }
func (w *wire) closeCount() int { w.mu.Lock(); defer w.mu.Unlock(); return w.closes }

func (w *wire) current() *End { w.mu.Lock(); defer w.mu.Unlock(); return w.host }

func (w *wire) unplug() { w.current().Unplug() }

// end takes the line away for good, so that the peer ends.
func (w *wire) end() { w.current().Close() }

// meets reports whether this event is the damaged one, and counts it.
func (w *wire) meets(read bool, p []byte) (damage, bool) {
	k := len(w.seen)
	w.seen = append(w.seen, event{read, append([]byte(nil), p...)})
	return w.d, w.armed && w.d.kind != "" && k == w.d.at
}

func (w *wire) Read(ctx context.Context, p []byte) (int, error) {
	for {
		w.mu.Lock()
		if w.shut {
			w.mu.Unlock()
			return 0, os.ErrClosed
		}
		if w.gone {
			w.mu.Unlock()
			return 0, drivers.ErrUnplugged
		}
		if len(w.pending) > 0 {
			n := w.hand(p)
			w.mu.Unlock()
			return n, nil
		}
		host, arrived := w.host, w.arrived
		w.mu.Unlock()

		// Wait for bytes of the device or for injected ones.
		inner, cancel := context.WithCancel(ctx)
		stop := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			select {
			case <-arrived:
				cancel()
			case <-stop:
			}
		})
		buf := make([]byte, 8192)
		n, err := host.Read(inner, buf)
		close(stop)
		watch.Wait()
		cancel()
		if err != nil {
			w.mu.Lock()
			moved, injected, shut := w.host != host, len(w.pending) > 0, w.shut
			w.mu.Unlock()
			switch {
			case shut:
				return 0, os.ErrClosed
			case moved, injected:
				continue
			case ctx.Err() != nil:
				return 0, ctx.Err()
			case errors.Is(err, context.Canceled):
				continue
			}
			return 0, err
		}
		if err := w.received(ctx, buf[:n]); err != nil {
			return 0, err
		}
	}
}

// hand gives out pending bytes. The caller holds mu.
func (w *wire) hand(p []byte) int {
	q := p
	if w.d.kind == chopped && w.armed && !w.b.s.Messages && len(q) > 1 {
		q = q[:1]
	}
	n := copy(q, w.pending[0])
	if n < len(w.pending[0]) {
		w.pending[0] = w.pending[0][n:]
	} else {
		w.pending = w.pending[1:]
	}
	return n
}

// received takes one piece of the device.
func (w *wire) received(ctx context.Context, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent {
		return nil
	}
	d, hit := w.meets(true, data)
	if !hit {
		w.push(data)
		return nil
	}
	switch d.kind {
	case cut:
		w.gone = true
		w.host.Unplug()
	case silence:
		w.silent = true
	case half:
		w.push(data[:len(data)/2])
		w.silent = true
	case garbage, stale:
		w.push(d.extra)
		w.push(data)
	case flipped:
		data = append([]byte(nil), data...)
		data[len(data)/2] ^= 0x04
		w.push(data)
	case reset:
		w.host.Close()
		w.connect()
	case hold:
		w.mu.Unlock()
		select {
		case <-d.held:
		case <-ctx.Done():
		}
		w.mu.Lock()
		w.push(data)
	default:
		w.push(data)
	}
	return nil
}

func (w *wire) Write(ctx context.Context, p []byte) (int, error) {
	w.mu.Lock()
	if w.shut {
		w.mu.Unlock()
		return 0, os.ErrClosed
	}
	w.writes++
	if w.armed && w.d.kind == refuse {
		if w.writes <= 500 { // time stands still while a driver spins
			w.push(w.b.s.Nak)
		}
		w.mu.Unlock()
		return len(p), nil
	}
	if w.silent {
		w.mu.Unlock()
		return len(p), nil
	}
	d, hit := w.meets(false, p)
	if hit {
		switch d.kind {
		case cut:
			w.gone = true
			w.host.Unplug()
		case silence:
			w.silent = true
			w.mu.Unlock()
			return len(p), nil
		case reset:
			w.host.Close()
			w.connect()
			w.mu.Unlock()
			return len(p), nil
		}
	}
	host := w.host
	w.mu.Unlock()
	return host.Write(ctx, p)
}

var errClose = errors.New("close failed: the port is gone")

func (w *wire) Close() error {
	w.mu.Lock()
	w.closes++
	w.shut = true
	host, failing := w.host, w.armed && w.d.kind == failingClose
	w.mu.Unlock()
	host.Close()
	if failing {
		return errClose
	}
	return nil
}

func (w *wire) Info() drivers.Port { return w.current().Info() }

var _ drivers.Transport = (*wire)(nil)

// bubbleGoroutines counts the goroutines of the synctest bubble that the
// caller runs in.
func bubbleGoroutines() int {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	dump := string(buf)
	head, _, _ := strings.Cut(dump, "\n") // the caller is first
	at := strings.Index(head, "synctest bubble ")
	if at < 0 {
		return runtime.NumGoroutine()
	}
	mark := strings.TrimRight(head[at:], "]:")
	count := 0
	for line := range strings.SplitSeq(dump, "\n") {
		if strings.HasPrefix(line, "goroutine ") && (strings.Contains(line, mark+"]") || strings.Contains(line, mark+",")) {
			count++
		}
	}
	return count
}

// safeBuffer is a buffer for a logger.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
