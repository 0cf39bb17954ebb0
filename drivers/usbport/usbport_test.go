package usbport

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
)

// fake is an interface whose transfers obey their context, or do not.
type fake struct {
	in, event chan []byte
	gone      chan struct{}
	stuck     chan struct{} // not nil: transfers return only when it is closed
	writes    [][]byte
	longest   int
	closes    atomic.Int32
	released  atomic.Int32
	asked     int  // length of the last read
	letGo     bool // release ends what is stuck
}

func newFake() *fake {
	return &fake{in: make(chan []byte, 8), event: make(chan []byte, 8), gone: make(chan struct{})}
}

func (f *fake) transfer(ctx context.Context, from chan []byte, p []byte) (int, error) {
	done := ctx.Done()
	if f.stuck != nil {
		done = f.stuck
	}
	select {
	case m := <-from:
		return copy(p, m), nil
	case <-f.gone:
		return 0, drivers.ErrUnplugged
	case <-done:
		return 0, errors.New("transfer was cancelled")
	}
}

func (f *fake) read(ctx context.Context, p []byte) (int, error) {
	f.asked = len(p)
	if len(p)%64 != 0 {
		return 0, errors.New("overflow: the buffer is no whole number of packets")
	}
	return f.transfer(ctx, f.in, p)
}
func (f *fake) readEvent(ctx context.Context, p []byte) (int, error) {
	return f.transfer(ctx, f.event, p)
}
func (f *fake) write(ctx context.Context, p []byte) (int, error) {
	if f.stuck != nil {
		<-f.stuck
		return 0, errors.New("transfer was cancelled")
	}
	f.writes = append(f.writes, append([]byte(nil), p...))
	return len(p), nil
}
func (f *fake) control(_, _ byte, _, _ uint16, data []byte) (int, error) {
	return copy(data, "abc"), nil
}
func (f *fake) packet() int    { return 64 }
func (f *fake) message() int   { return f.longest }
func (f *fake) eventSize() int { return 8 }
func (f *fake) release() {
	f.released.Add(1)
	if f.letGo {
		close(f.stuck)
	}
}
func (f *fake) close() error { f.closes.Add(1); return nil }

var place = drivers.Port{Kind: drivers.KindUSB, Path: "usb:1-2:0"}

func TestMessagesOfBothEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		tr := newTransport(place, 0, f, (&Options{MaxMessage: 271}).normal())
		f.in <- []byte{} // a transfer of length zero
		f.in <- []byte{0x81, 1}
		synctest.Wait()
		f.event <- []byte{0x50, 3}
		buf := make([]byte, 271)
		for _, want := range []byte{0x81, 0x50} {
			if n, err := tr.Read(t.Context(), buf); err != nil || n != 2 || buf[0] != want {
				t.Fatalf("% X, %v", buf[:n], err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tr.Read(ctx, buf); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing came: %v", err)
		}
		f.in <- []byte{0x82} // a deadline cancels no transfer: nothing is lost
		if n, err := tr.Read(t.Context(), buf); err != nil || n != 1 || buf[0] != 0x82 {
			t.Errorf("%d, %v", n, err)
		}
		f.in <- make([]byte, 200)
		if _, err := tr.Read(t.Context(), make([]byte, 100)); err == nil {
			t.Error("a message was cut")
		}
		if n, err := tr.Write(t.Context(), []byte{1, 2}); n != 2 || err != nil || len(f.writes) != 1 {
			t.Errorf("%d, %v", n, err)
		}
		data := make([]byte, 8)
		if n, err := tr.Control(t.Context(), 0x80, 6, 0x200, 0, data); err != nil || string(data[:n]) != "abc" {
			t.Errorf("%q, %v", data[:n], err)
		}
		if err := tr.Close(); err != nil || f.closes.Load() != 1 {
			t.Error(err)
		}
		if tr.Close() != nil || f.closes.Load() != 1 {
			t.Error("closed twice")
		}
		if _, err := tr.Read(t.Context(), buf); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestUnplug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		tr := newTransport(place, 0, f, (&Options{}).normal())
		f.in <- []byte{1}
		synctest.Wait()
		close(f.gone)
		synctest.Wait()
		buf := make([]byte, 8)
		if n, err := tr.Read(t.Context(), buf); n != 1 || err != nil {
			t.Errorf("what came before: %d, %v", n, err)
		}
		if _, err := tr.Read(t.Context(), buf); !errors.Is(err, drivers.ErrUnplugged) {
			t.Errorf("read: %v", err)
		}
		if _, err := tr.Write(t.Context(), buf); !errors.Is(err, drivers.ErrUnplugged) {
			t.Errorf("write: %v", err)
		}
		tr.Close()
	})
}

// A cancelled transfer that never comes back costs the device, not a goroutine
// that waits: the interface is given back, which ends it; where even that does
// not, the device is left, and closed when the system lets go.
func TestStuckCancelIsAbandoned(t *testing.T) {
	for _, helps := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.stuck = make(chan struct{})
			f.letGo = helps
			tr := newTransport(place, 0, f, (&Options{}).normal())
			bus := New(nil)
			tr.left = func(closed <-chan struct{}) { bus.leave(place.Path, closed) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if _, err := tr.Write(ctx, []byte{1}); !errors.Is(err, drivers.ErrUnplugged) {
				t.Errorf("write: %v", err)
			}
			err := tr.Close()
			if took := time.Since(start); took > 10*time.Second || f.released.Load() != 1 {
				t.Errorf("after %v, released %d times", took, f.released.Load())
			}
			if helps {
				if err != nil || f.closes.Load() != 1 || bus.held(place.Path) {
					t.Errorf("%v, closed %d times", err, f.closes.Load())
				}
				return
			}
			if !errors.Is(err, ErrStuck) || f.closes.Load() != 0 || !bus.held("usb:1-2:7") || bus.held("usb:1-3:0") {
				t.Errorf("%v, closed %d times", err, f.closes.Load())
			}
			close(f.stuck)
			synctest.Wait()
			if f.closes.Load() != 1 || bus.held(place.Path) {
				t.Errorf("the system let go: closed %d times", f.closes.Load())
			}
		})
	}
}

// A transfer is as long as the longest report, or as the longest message.
func TestLengthOfTransfers(t *testing.T) {
	for _, c := range []struct{ longest, want int }{{0, 320}, {64, 64}, {65, 128}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.longest = c.longest
			tr := newTransport(place, 0, f, (&Options{MaxMessage: 271}).normal())
			synctest.Wait()
			if f.asked != c.want {
				t.Errorf("longest %d: %d bytes asked for, not %d", c.longest, f.asked, c.want)
			}
			tr.Close()
		})
	}
}

func TestPorts(t *testing.T) {
	base := seen{bus: 1, path: []int{2, 3}, vid: 0x08E6, pid: 0x4433, number: 1, class: classCCID, in: true, out: true}
	with := func(f func(*seen)) seen { s := base; f(&s); return s }
	for _, c := range []struct {
		s    seen
		kind drivers.PortKind
	}{
		{base, drivers.KindUSB},
		{with(func(s *seen) { s.out = false }), ""},
		{with(func(s *seen) { s.class = classHID; s.out = false }), drivers.KindHID},
		{with(func(s *seen) { s.class = classHID; s.sub = 1 }), ""},
		{with(func(s *seen) { s.class = 8 }), ""},
	} {
		p, ok := c.s.port()
		if ok != (c.kind != "") || p.Kind != c.kind {
			t.Errorf("%+v: %+v", c.s, p)
		}
		if ok {
			if n, found := interfaceOf(p); !found || n != 1 || p.Path != "usb:1-2.3:1" {
				t.Errorf("%s: interface %d", p.Path, n)
			}
		}
	}
	if _, ok := interfaceOf(drivers.Port{Path: "/dev/ttyS0"}); ok {
		t.Error("a serial port has an interface number")
	}
	for _, c := range [][3]int{{271, 64, 320}, {64, 64, 64}, {1, 8, 8}, {5, 0, 5}} {
		if got := roundUp(c[0], c[1]); got != c[2] {
			t.Errorf("%d in packets of %d: %d", c[0], c[1], got)
		}
	}
}

// Whatever this program was built with, a scan of this machine is no panic.
func TestScanHere(t *testing.T) {
	if _, err := New(nil).Scan(t.Context()); err != nil {
		t.Log(err)
	}
	if _, err := New(nil).Open(t.Context(), place); err == nil {
		t.Skip("a device stands there")
	}
}
