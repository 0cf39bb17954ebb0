//go:build lab && usb && linux

package guest

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"tillbridge/drivers/usbport"
)

// A device that does not give a cancelled transfer back hangs whoever asks the
// kernel for it. It is left to the system, and attempts to open it again are
// refused and leave nothing behind; when it is pulled all of it ends.
func TestStuckCancel(t *testing.T) {
	ctx := begin(t)
	bus := usbport.New(&usbport.Options{Abandon: time.Second})
	p := mirror(false, false)
	t.Cleanup(func() { p.Line().Close() })
	before, was := runtime.NumGoroutine(), files()
	pull := attach(t, p.Device, 2)
	at := find(ctx, t, bus, isMirror)
	tr, err := bus.Open(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	exchange(ctx, t, tr, 1)
	p.Deaf(true)
	closed := make(chan error, 1)
	go func() { closed <- tr.Close() }()
	select {
	case err := <-closed:
		if !errors.Is(err, usbport.ErrStuck) {
			t.Errorf("close: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("close hangs")
	}
	if _, err := tr.Read(ctx, make([]byte, 256)); err == nil {
		t.Error("read after close")
	}
	held, open := runtime.NumGoroutine(), files()
	for range 20 {
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		if _, err := bus.Open(short, at); !errors.Is(err, usbport.ErrStuck) {
			t.Errorf("opened again: %v", err)
		}
		if err := bus.Reset(short, at); !errors.Is(err, usbport.ErrStuck) {
			t.Errorf("reset: %v", err)
		}
		cancel()
	}
	if runtime.NumGoroutine() > held || files() > open {
		t.Errorf("20 attempts left %d goroutines and %d files", runtime.NumGoroutine()-held, files()-open)
	}
	// The other devices are seen meanwhile.
	scanned := make(chan error, 1)
	go func() {
		ports, err := bus.Scan(ctx)
		if err == nil && len(ports) == 0 {
			err = errors.New("no port is seen")
		}
		scanned <- err
	}()
	select {
	case err := <-scanned:
		if err != nil {
			t.Errorf("scan: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("a scan hangs on the device")
	}
	pull()
	eventually(ctx, t, "all of it has ended", func() bool {
		return runtime.NumGoroutine() <= before+1 && files() <= was // one is the mirror's own
	})
	p.Deaf(false)
	attach(t, p.Device, 2)
	eventually(ctx, t, "it opens again", func() bool {
		tr, err = bus.Open(ctx, at)
		return err == nil
	})
	defer tr.Close()
	exchange(ctx, t, tr, 2)
}
