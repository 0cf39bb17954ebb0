//go:build unix

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Address returns the channel of an agent with this data directory.
func Address(dataDir string) string { return filepath.Join(dataDir, "control.sock") }

// maxPath is the longest socket path that every Unix takes, in bytes.
const maxPath = 103

// Listen opens the channel. A socket file that nobody answers at is a leftover
// of a kill and is replaced; one that is answered is [ErrInUse]. Closing the
// listener removes the file.
func Listen(address string) (net.Listener, error) {
	if len(address) > maxPath {
		return nil, fmt.Errorf("control channel: path has %d bytes, the system takes %d; choose a shorter data directory", len(address), maxPath)
	}
	if c, err := net.DialTimeout("unix", address, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("control channel %s: %w", address, ErrInUse)
	} else if st, serr := os.Lstat(address); serr == nil {
		if st.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("control channel: %s exists and is no socket; remove it or choose another data directory", address)
		}
		if err := os.Remove(address); err != nil {
			return nil, fmt.Errorf("control channel: %w", err)
		}
	}
	// Between bind and chmod the mode follows the umask; the peer check below
	// holds all the time.
	l, err := net.Listen("unix", address)
	if err != nil {
		return nil, fmt.Errorf("control channel: %w", err)
	}
	if err := os.Chmod(address, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control channel: %w", err)
	}
	return &listener{l, os.Geteuid()}, nil
}

type listener struct {
	net.Listener
	uid int
}

// Accept returns the next connection of a peer that may come in.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(c); err == nil && allowed(uid, l.uid) {
			return c, nil
		}
		c.Close()
	}
}

// allowed lets root and the agent's own user in.
func allowed(peer, own int) bool { return peer == 0 || peer == own }

// Dial connects to an agent.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", address)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("control channel %s: %w", address, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("control channel %s: %w", address, ErrRefused)
	}
	return nil, fmt.Errorf("control channel: %w", err)
}
