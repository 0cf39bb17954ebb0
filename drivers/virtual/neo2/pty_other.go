//go:build !linux

package neo2

import (
	"errors"
	"io"
)

// havePTY says whether openPTY works here.
const havePTY = false

func openPTY() (io.ReadWriteCloser, string, error) {
	return nil, "", errors.New("this system has no pty that the reader knows: use a TCP address")
}
