//go:build lab && usb && linux

package guest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/usbport"
	"tillbridge/packaging/lab/usbdev"
)

// mirror is a HID device that sends back each report that it gets.
func mirror(keyboard, noOut bool) *usbdev.Pad {
	p := usbdev.NewPad(usbdev.PadOptions{VID: 0x1209, PID: 0x0001, Maker: "Lab", Product: "Mirror", Serial: "M1", Keyboard: keyboard, NoOut: noOut})
	line := p.Line()
	go func() {
		b := make([]byte, usbdev.ReportBytes)
		for {
			n, err := line.Read(b)
			if err != nil {
				return
			}
			line.Write(b[:n])
		}
	}()
	return p
}

func isMirror(p drivers.Port) bool { return p.VID == 0x1209 && p.PID == 0x0001 }

// report is one with a number that can be told from others.
func report(n int) []byte {
	b := make([]byte, usbdev.ReportBytes)
	b[0], b[1], b[2] = 1, byte(n), byte(n>>8)
	for i := 3; i < len(b); i++ {
		b[i] = byte(n * i)
	}
	return b
}

// exchange sends a report and reads it back.
func exchange(ctx context.Context, t *testing.T, tr drivers.Transport, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if k, err := tr.Write(ctx, report(n)); err != nil || k != usbdev.ReportBytes {
		t.Fatalf("report %d: wrote %d, %v", n, k, err)
	}
	b := make([]byte, 256)
	k, err := tr.Read(ctx, b)
	if err != nil || !bytes.Equal(b[:k], report(n)) {
		t.Fatalf("report %d: read %d bytes, %v", n, k, err)
	}
}

// open plugs a mirror in and opens it.
func open(ctx context.Context, t *testing.T, p *usbdev.Pad, port int) (tr drivers.Transport, pull func()) {
	t.Helper()
	t.Cleanup(func() { p.Line().Close() })
	pull = attach(t, p.Device, port)
	bus := usbport.New(nil)
	at := find(ctx, t, bus, isMirror)
	if at.Kind != drivers.KindHID {
		t.Errorf("%+v", at)
	}
	tr, err := bus.Open(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr, pull
}

// Reports that fill their packet go both ways, one Read each.
func TestHIDReports(t *testing.T) {
	ctx := begin(t)
	tr, _ := open(ctx, t, mirror(false, false), 0)
	if p := tr.Info(); p.Serial != "M1" || p.Product != "Mirror" {
		t.Errorf("%+v", p)
	}
	start := time.Now()
	for n := range 200 {
		exchange(ctx, t, tr, n)
	}
	say(t, "200 exchanges in %v", time.Since(start).Round(time.Millisecond))
	// Several that wait come one by one, in order.
	for n := range 5 {
		if _, err := tr.Write(ctx, report(n)); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 256)
	for n := range 5 {
		if k, err := tr.Read(ctx, b); err != nil || !bytes.Equal(b[:k], report(n)) {
			t.Errorf("report %d: %d bytes, %v", n, k, err)
		}
	}
}

// Without an OUT endpoint reports go by SET_REPORT.
func TestHIDWithoutOutEndpoint(t *testing.T) {
	ctx := begin(t)
	tr, _ := open(ctx, t, mirror(false, true), 0)
	for n := range 20 {
		exchange(ctx, t, tr, n)
	}
}

// A read that ends by its deadline costs nothing: the report that comes later is
// not lost.
func TestHIDDeadline(t *testing.T) {
	ctx := begin(t)
	p := mirror(false, false)
	tr, _ := open(ctx, t, p, 0)
	b := make([]byte, 256)
	for n := range 5 {
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		if _, err := tr.Read(short, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("read: %v", err)
		}
		cancel()
		exchange(ctx, t, tr, n)
	}
	// A write that the device does not take ends too, and the next one works.
	p.Mute(true)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := tr.Write(short, report(9)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	if p.Unlinks() == 0 {
		t.Error("nothing was cancelled")
	}
	p.Mute(false)
	exchange(ctx, t, tr, 10)
}

// A stalled endpoint is cleared, and the line lives on.
func TestHIDStall(t *testing.T) {
	ctx := begin(t)
	p := mirror(false, false)
	tr, _ := open(ctx, t, p, 0)
	exchange(ctx, t, tr, 1)
	p.Stall(usbdev.PadIn, 1)
	exchange(ctx, t, tr, 2)
	p.Stall(usbdev.PadOut, 1)
	if _, err := tr.Write(ctx, report(3)); err == nil || errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("write to a stalled endpoint: %v", err)
	}
	exchange(ctx, t, tr, 4)
	if p.Clears() < 2 {
		t.Errorf("the host cleared %d endpoints", p.Clears())
	}
}

// Pulled in a read, the read ends; plugged in elsewhere, it is found there.
func TestHIDUnplug(t *testing.T) {
	ctx := begin(t)
	p := mirror(false, false)
	tr, pull := open(ctx, t, p, 0)
	exchange(ctx, t, tr, 1)
	first := tr.Info()
	read := make(chan error, 1)
	go func() {
		_, err := tr.Read(ctx, make([]byte, 256))
		read <- err
	}()
	pull()
	if err := <-read; !errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("read: %v", err)
	}
	if _, err := tr.Write(ctx, report(1)); !errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("write: %v", err)
	}
	if err := tr.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	bus := usbport.New(nil)
	eventually(ctx, t, "the port leaves", func() bool {
		ports, err := bus.Scan(ctx)
		for _, p := range ports {
			if isMirror(p) {
				return false
			}
		}
		return err == nil
	})
	if _, err := bus.Open(ctx, first); !errors.Is(err, drivers.ErrNoPort) {
		t.Errorf("open what is gone: %v", err)
	}
	tr, _ = open(ctx, t, p, 3)
	if tr.Info().Location == first.Location {
		t.Errorf("found at %s again", first.Location)
	}
	exchange(ctx, t, tr, 2)
}

// One interface of a device has one owner, and the others are left alone: the
// keyboard beside the pad stays the kernel's, before and after.
func TestHIDHeldAndShared(t *testing.T) {
	ctx := begin(t)
	p := mirror(true, false)
	tr, _ := open(ctx, t, p, 0)
	pad := inSysfs(tr.Info().Path)
	keyboard := pad[:len(pad)-1] + "0"
	if got := bound(keyboard); got != "usbhid" {
		t.Errorf("the keyboard has the driver %q", got)
	}
	if got := bound(pad); got != "usbfs" {
		t.Errorf("the pad has the driver %q", got)
	}
	exchange(ctx, t, tr, 1)
	if _, err := usbport.New(nil).Open(ctx, tr.Info()); !errors.Is(err, drivers.ErrPortHeld) {
		t.Errorf("opened twice: %v", err)
	}
	exchange(ctx, t, tr, 2)
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	eventually(ctx, t, "the kernel takes the pad back", func() bool { return bound(pad) == "usbhid" })
}

// Openings, and plugs, leave no goroutine and no file behind.
func TestHIDOpenings(t *testing.T) {
	ctx := begin(t)
	p := mirror(false, false)
	tr, pull := open(ctx, t, p, 0)
	at := tr.Info()
	tr.Close()
	bus := usbport.New(nil)
	before, was := runtime.NumGoroutine(), files()
	for n := range 8 {
		tr, err := bus.Open(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		exchange(ctx, t, tr, n)
		if n%2 == 0 { // every other time it is closed by being pulled
			if err := tr.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		pull()
		if _, err := tr.Read(ctx, make([]byte, 256)); !errors.Is(err, drivers.ErrUnplugged) {
			t.Errorf("read: %v", err)
		}
		tr.Close()
		pull = attach(t, p.Device, n%4)
		at = find(ctx, t, bus, isMirror)
	}
	eventually(ctx, t, "no goroutine and no file more", func() bool { return runtime.NumGoroutine() <= before && files() <= was })
}
