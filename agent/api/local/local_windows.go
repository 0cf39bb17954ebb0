package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// Address returns the channel of an agent with this data directory. The name
// is a hash, for a pipe's name has no directories.
func Address(dataDir string) string {
	h := sha256.Sum256([]byte(strings.ToLower(filepath.Clean(dataDir))))
	return `\\.\pipe\tillbridge-` + hex.EncodeToString(h[:8])
}

// Listen opens the channel for SYSTEM, Administrators and the user that runs
// the agent. The first instance of the name is demanded, so that nobody else
// can have made the pipe before.
func Listen(address string) (net.Listener, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("control channel: who runs the agent: %w", err)
	}
	sddl := "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + user.User.Sid.String() + ")"
	l, err := winio.ListenPipe(address, &winio.PipeConfig{SecurityDescriptor: sddl})
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_PIPE_BUSY) {
		return nil, fmt.Errorf("control channel %s: %w", address, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("control channel: %w", err)
	}
	return l, nil
}

// Dial connects to an agent.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := winio.DialPipeContext(ctx, address)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("control channel %s: %w", address, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("control channel %s: %w", address, ErrRefused)
	}
	return nil, fmt.Errorf("control channel: %w", err)
}
