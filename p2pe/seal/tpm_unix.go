//go:build !windows

package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// wire is a TPM's device file or the unix socket of an emulator.
type wire interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// dialChip opens a device file or a unix socket.
func dialChip(ctx context.Context, device string) (chip, error) {
	info, err := os.Stat(device)
	if err != nil {
		return chip{}, err
	}
	var w wire
	if info.Mode()&os.ModeSocket != 0 {
		var d net.Dialer
		w, err = d.DialContext(ctx, "unix", device)
	} else {
		w, err = os.OpenFile(device, os.O_RDWR, 0)
	}
	if err != nil {
		return chip{}, err
	}
	// A device whose driver cannot be polled has no deadline here; the kernel
	// ends its commands itself.
	if err := w.SetDeadline(deadline(ctx)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return chip{}, errors.Join(err, w.Close())
	}
	return chip{TPM: commands{w}, close: w.Close}, nil
}

// commands sends one command after the other.
type commands struct{ w wire }

// Send implements transport.TPM. A response begins with its tag (2 bytes) and
// length (4 bytes, big endian); a device gives it in one read.
func (c commands) Send(command []byte) ([]byte, error) {
	if _, err := c.w.Write(command); err != nil {
		return nil, err
	}
	buf := make([]byte, 8192)
	n := 0
	for {
		m, err := c.w.Read(buf[n:])
		n += m
		if n >= 10 {
			size := int(binary.BigEndian.Uint32(buf[2:]))
			if size > len(buf) || size < 10 {
				return nil, fmt.Errorf("a response of %d bytes", size)
			}
			if n >= size {
				return buf[:size], nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
}
