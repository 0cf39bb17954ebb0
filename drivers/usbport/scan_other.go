//go:build usb && cgo && !linux

package usbport

import (
	"context"

	"github.com/google/gousb"

	"tillbridge/drivers"
)

// Scan lists the interfaces that are there. It opens none. On a machine without
// USB it fails with [ErrNoSubsystem].
func (b *Bus) Scan(context.Context) ([]drivers.Port, error) {
	c, err := library()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []drivers.Port
	_, err = c.OpenDevices(func(d *gousb.DeviceDesc) bool {
		list, _, _ := interfaces(d)
		for _, s := range list {
			if p, ok := s.port(); ok {
				out = append(out, p)
			}
		}
		return false
	})
	if err != nil && len(out) > 0 {
		err = nil // one device that left during the walk
	}
	return out, err
}
