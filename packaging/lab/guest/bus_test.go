//go:build lab && usb && linux

package guest

import (
	"context"
	"errors"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/usbport"
)

// A machine without USB: where the library cannot even begin it panics, and
// elsewhere it finds nothing. A scan finds nothing either way, and an open says
// why.
func TestNoSubsystem(t *testing.T) {
	begin(t)
	for _, c := range []struct {
		glance
		want error
	}{{none, usbport.ErrNoSubsystem}, {empty, drivers.ErrNoPort}} {
		if len(c.ports) != 0 || c.scanned != nil {
			t.Errorf("scan: %v, %v", c.ports, c.scanned)
		}
		if !errors.Is(c.open, c.want) {
			t.Errorf("open: %v, not %v", c.open, c.want)
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
