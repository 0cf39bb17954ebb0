//go:build !usb || !cgo

package usbport

import (
	"context"

	"tillbridge/drivers"
)

// Built reports whether this program can use USB.
const Built = false

// Scan fails with [ErrNotBuilt].
func (b *Bus) Scan(context.Context) ([]drivers.Port, error) { return nil, ErrNotBuilt }

// Open fails with [ErrNotBuilt].
func (b *Bus) Open(context.Context, drivers.Port) (drivers.Transport, error) {
	return nil, ErrNotBuilt
}

// Reset fails with [ErrNotBuilt].
func (b *Bus) Reset(context.Context, drivers.Port) error { return ErrNotBuilt }
