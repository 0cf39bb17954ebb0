//go:build unix

package serialport

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tillbridge/drivers"
)

// portLock is a lock file in the manner of UUCP (LCK..ttyACM0, holding the
// process number), held by flock as well: a killed process leaves no lock.
type portLock struct {
	file *os.File
}

func lockPort(dir, path string) (*portLock, error) {
	if dir == "" {
		dir = "/run/lock"
		if unix.Access(dir, unix.W_OK) != nil {
			dir = os.TempDir()
		}
	}
	if pid, name := user(path); pid != 0 {
		return nil, fmt.Errorf("%w (process %d, %s)", drivers.ErrPortHeld, pid, name)
	}
	// "/dev/pts/7" and "/dev/ttyS7" need different names.
	name := "LCK.." + strings.ReplaceAll(strings.TrimPrefix(path, "/dev/"), "/", "_")
	file := filepath.Join(dir, name)
	for range 8 {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock file: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w (%s)", drivers.ErrPortHeld, file)
			}
			return nil, fmt.Errorf("lock file %s: %w", file, err)
		}
		mine, err1 := f.Stat()
		there, err2 := os.Stat(file)
		if err1 != nil || err2 != nil || !os.SameFile(mine, there) {
			f.Close() // its owner removed it between our open and our lock
			continue
		}
		// A program that knows only the process number in the file.
		text, _ := io.ReadAll(io.LimitReader(f, 64))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 0 && pid != os.Getpid() && alive(pid) {
			f.Close()
			return nil, fmt.Errorf("%w (process %d by %s)", drivers.ErrPortHeld, pid, file)
		}
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "%10d\n", os.Getpid()), 0)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock file %s: %w", file, err)
		}
		return &portLock{file: f}, nil
	}
	return nil, fmt.Errorf("%w (%s changes hands)", drivers.ErrPortHeld, file)
}

func (l *portLock) release() {
	if l == nil || l.file == nil {
		return
	}
	os.Remove(l.file.Name())
	l.file.Close()
	l.file = nil
}

func alive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
