package serialport

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"tillbridge/drivers"
)

// sysTTY lists every terminal device of the machine.
const sysTTY = "/sys/class/tty"

// scanUSB lists the serial ports behind USB from sysfs.
func scanUSB() ([]drivers.Port, error) { return scanTTY(sysTTY, "/dev") }

func scanTTY(class, dev string) ([]drivers.Port, error) {
	entries, err := os.ReadDir(class)
	if os.IsNotExist(err) {
		return nil, nil // a container without sysfs: named ports still work
	}
	if err != nil {
		return nil, err
	}
	var ports []drivers.Port
	for _, e := range entries {
		p := drivers.Port{Kind: drivers.KindSerial, Path: filepath.Join(dev, e.Name())}
		if describeFrom(filepath.Join(class, e.Name()), &p) {
			ports = append(ports, p)
		}
	}
	return ports, nil
}

// describe adds what sysfs knows of a port.
func describe(p *drivers.Port) {
	describeFrom(filepath.Join(sysTTY, filepath.Base(p.Path)), p)
}

// describeFrom reports whether the port is behind USB. A port that vanishes
// during the walk is not.
func describeFrom(class string, p *drivers.Port) bool {
	device, err := filepath.EvalSymlinks(filepath.Join(class, "device"))
	if err != nil {
		return false
	}
	// CDC: device is the interface; adapters: device is a port below it.
	for range 3 {
		if _, err := os.Stat(filepath.Join(device, "bInterfaceNumber")); err == nil {
			break
		}
		device = filepath.Dir(device)
	}
	usb := filepath.Dir(device)
	vid, ok1 := hex16(usb, "idVendor")
	pid, ok2 := hex16(usb, "idProduct")
	if !ok1 || !ok2 {
		return false
	}
	p.VID, p.PID = vid, pid
	p.Location = filepath.Base(device) // "1-2.3:1.0": with the interface
	// Several ports behind one interface differ by their number only.
	if n := line(filepath.Join(class, "device"), "port_number"); n != "" && n != "0" {
		p.Location += ":" + n
	}
	p.Serial = line(usb, "serial")
	p.Product = strings.TrimSpace(line(usb, "manufacturer") + " " + line(usb, "product"))
	return true
}

func line(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	s, _, _ := strings.Cut(string(b), "\n")
	// A device writes these itself; they end on a person's terminal.
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
}

func hex16(dir, name string) (uint16, bool) {
	v, err := strconv.ParseUint(line(dir, name), 16, 16)
	return uint16(v), err == nil
}

// user looks for another process that has the port open. It sees the
// processes of the same user, or all as root; 0 means none seen. A pty is left
// out: its other half keeps it open.
func user(path string) (pid int, name string) {
	if strings.HasPrefix(path, "/dev/pts/") {
		return 0, ""
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, ""
	}
	for _, e := range procs {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if target, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && target == path {
				return pid, line(filepath.Join("/proc", e.Name()), "comm")
			}
		}
	}
	return 0, ""
}

// openWriter opens the port a second time, without blocking: the runtime's
// poller then gives writes a deadline, which the library does not, and a write
// that flow control holds needs no goroutine that nothing could free. It also
// clears HUPCL, so that closing does not drop DTR and the next open does not
// raise it: some pads restart on that edge. A nil file means that the system
// refused; the library then reports why, or writes instead.
func openWriter(path string) *os.File {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if s, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil && s.Cflag&unix.HUPCL != 0 {
		s.Cflag &^= unix.HUPCL
		unix.IoctlSetTermios(fd, unix.TCSETS, s) // a pty may refuse; it has no DTR
	}
	f := os.NewFile(uintptr(fd), path)
	if f.SetWriteDeadline(time.Time{}) != nil {
		f.Close()
		return nil
	}
	return f
}
