//go:build !linux

package port

import (
	"errors"
	"io"
)

// HavePTY says whether OpenPTY works here.
const HavePTY = false

// OpenPTY fails: a device is reached over TCP here.
func OpenPTY() (io.ReadWriteCloser, string, error) {
	return nil, "", errors.New("this system has no pty known here: use a TCP address")
}
