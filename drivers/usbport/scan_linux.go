//go:build usb && cgo

package usbport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tillbridge/drivers"
)

// Where Linux shows USB devices, and where it lets programs at them.
const (
	sysDevices = "/sys/bus/usb/devices"
	devDevices = "/dev/bus/usb"
)

// Scan lists the interfaces that are there. It opens none. On a machine without
// USB it fails with [ErrNoSubsystem].
//
// It reads what the kernel shows and does not ask the library: that waits for
// the lock of every device, so that one device that hangs would hide the others.
// For the same reason it reads no strings.
func (b *Bus) Scan(context.Context) ([]drivers.Port, error) {
	for _, dir := range []string{sysDevices, devDevices} {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoSubsystem, err)
		}
	}
	entries, err := os.ReadDir(sysDevices)
	if err != nil {
		return nil, err
	}
	var out []drivers.Port
	for _, e := range entries {
		if strings.Contains(e.Name(), ":") { // an interface
			continue
		}
		list, err := readDevice(filepath.Join(sysDevices, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it left during the walk
		}
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			if p, ok := s.port(); ok {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// readDevice reads one device of sysfs. Whatever fails as a device leaves is
// fs.ErrNotExist.
func readDevice(dir string) ([]seen, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "descriptors"))
	if err != nil {
		return nil, gone(dir, err)
	}
	list := described(raw)
	if len(list) == 0 {
		return nil, nil
	}
	var number [2]int
	for i, name := range []string{"busnum", "devnum"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, gone(dir, err)
		}
		if number[i], err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "devpath"))
	if err != nil {
		return nil, gone(dir, err)
	}
	var path []int // a root hub has "0"
	for _, s := range strings.Split(strings.TrimSpace(string(text)), ".") {
		if n, err := strconv.Atoi(s); err == nil && n > 0 {
			path = append(path, n)
		}
	}
	for i := range list {
		list[i].bus, list[i].address, list[i].path = number[0], number[1], path
	}
	return list, nil
}

func gone(dir string, err error) error {
	if _, missing := os.Stat(dir); missing != nil {
		return fs.ErrNotExist
	}
	return err
}
