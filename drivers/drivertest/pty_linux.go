//go:build linux

package drivertest

import (
	"io"
	"testing"

	"tillbridge/drivers/virtual/port"
)

// PTY opens a real serial line of the machine: device is the device's side,
// path is what the host opens. The line is raw from the start (no echo, no
// translation). It is closed at the end of the test; closing device earlier is
// an unplug for the host. The test is skipped where the machine has no ptys.
//
// Modem lines do not exist on a pty, and neither does a speed.
func PTY(t testing.TB) (device io.ReadWriteCloser, path string) {
	t.Helper()
	device, path, err := port.OpenPTY()
	if err != nil {
		t.Skipf("this machine opens no pty: %v", err)
	}
	t.Cleanup(func() { device.Close() })
	return device, path
}
