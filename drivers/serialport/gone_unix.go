//go:build unix

package serialport

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isGone reports an error of open that means that nothing is there any more.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EIO)
}
