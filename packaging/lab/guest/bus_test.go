//go:build lab && usb && linux

package guest

import (
	"context"
	"errors"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/usbport"
)

// A machine without USB says so, and an open fails without a panic: where the
// library cannot even begin, it panics itself.
func TestNoSubsystem(t *testing.T) {
	begin(t)
	for _, c := range []struct {
		glance
		scan, open error
	}{{none, usbport.ErrNoSubsystem, usbport.ErrNoSubsystem}, {empty, usbport.ErrNoSubsystem, drivers.ErrNoPort}} {
		if len(c.ports) != 0 || !errors.Is(c.glance.scanned, c.scan) {
			t.Errorf("scan: %v, %v", c.ports, c.scanned)
		}
		if !errors.Is(c.glance.open, c.open) {
			t.Errorf("open: %v, not %v", c.glance.open, c.open)
		}
	}
}

// find waits for the port that fits on a bus.
func find(ctx context.Context, t *testing.T, bus drivers.Bus, fits func(drivers.Port) bool) drivers.Port {
	t.Helper()
	var found drivers.Port
	eventually(ctx, t, "a port that fits", func() bool {
		ports, err := bus.Scan(ctx)
		if err != nil {
			t.Logf("scan: %v", err)
		}
		for _, p := range ports {
			if fits(p) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

func isReader(p drivers.Port) bool { return p.Class == 0x0B }

// The bus sees QEMU's reader and says what it is.
func TestReaderIsSeen(t *testing.T) {
	ctx := begin(t)
	p := find(ctx, t, usbport.New(nil), isReader)
	if p.Kind != drivers.KindUSB || p.VID != 0x08E6 || p.PID != 0x4433 || p.Location == "" {
		t.Errorf("%+v", p)
	}
	t.Logf("%+v", p)
}
