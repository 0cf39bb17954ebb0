//go:build linux

package port

import (
	"io"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// HavePTY says whether OpenPTY works here.
const HavePTY = true

// OpenPTY opens a raw pty: the device's end, and the name of the host's.
// The device's end hears bytes only: that one host goes and another comes it
// does not see. Its reads end when it is closed.
func OpenPTY() (io.ReadWriteCloser, string, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, "", err
	}
	var own *os.File
	if err = onFD(slave, makeRaw); err == nil {
		err = onFD(master, func(fd int) error {
			own, err = polled(fd, master.Name())
			return err
		})
	}
	master.Close()
	if err != nil {
		slave.Close()
		return nil, "", err
	}
	return &ptyLine{File: own, slave: slave}, slave.Name(), nil
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

// ptyLine keeps the host's end open too: without it the device reads an error
// between two hosts.
type ptyLine struct {
	*os.File
	slave *os.File
}

func (p *ptyLine) Close() error {
	p.slave.Close()
	return p.File.Close()
}

func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CREAD
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
