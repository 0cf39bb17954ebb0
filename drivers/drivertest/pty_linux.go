//go:build linux

package drivertest

import (
	"io"
	"os"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// PTY opens a real serial line of the machine: device is the device's side,
// path is what the host opens. The line is raw from the start (no echo, no
// translation). It is closed at the end of the test; closing device earlier is
// an unplug for the host. The test is skipped where the machine has no ptys.
//
// Modem lines do not exist on a pty, and neither does a speed.
func PTY(t testing.TB) (device io.ReadWriteCloser, path string) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("this machine opens no pty: %v", err)
	}
	var own *os.File
	if err = onFD(slave, raw); err == nil {
		err = onFD(master, func(fd int) error {
			own, err = polled(fd, master.Name())
			return err
		})
	}
	master.Close()
	if err != nil {
		slave.Close()
		t.Fatalf("set the pty up: %v", err)
	}
	// The slave stays open here: without it the master reads EIO between two
	// hosts.
	p := &ptyDevice{master: own, slave: slave}
	t.Cleanup(func() { p.Close() })
	return p, slave.Name()
}

// onFD runs f on the descriptor of a file without changing its mode.
func onFD(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// polled returns a file on the same pty whose reads end when it is closed: one
// that does not block is watched by the runtime.
func polled(fd int, name string) (*os.File, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(n, true); err != nil {
		unix.Close(n)
		return nil, err
	}
	return os.NewFile(uintptr(n), name), nil
}

type ptyDevice struct{ master, slave io.ReadWriteCloser }

func (p *ptyDevice) Read(b []byte) (int, error)  { return p.master.Read(b) }
func (p *ptyDevice) Write(b []byte) (int, error) { return p.master.Write(b) }

func (p *ptyDevice) Close() error {
	p.slave.Close()
	return p.master.Close()
}

func raw(fd int) error {
	s, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	s.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	s.Oflag &^= unix.OPOST
	s.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	s.Cflag &^= unix.CSIZE | unix.PARENB
	s.Cflag |= unix.CS8
	s.Cc[unix.VMIN], s.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, s)
}
