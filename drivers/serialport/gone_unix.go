//go:build unix

package serialport

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// isGone reports an error of open that means that nothing is there any more.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EIO)
}

// nodeOf tells one life of a device file from the next. The system makes the
// file anew with every plug.
func nodeOf(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d", st.Ino, st.Rdev, unix.TimespecToNsec(st.Ctim))
}
