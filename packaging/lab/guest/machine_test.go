//go:build lab && usb && linux

package guest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tillbridge/packaging/lab/usbdev"
)

// The other ends of the machine's serial lines (package main of packaging/lab).
const (
	monitorLine = "/dev/ttyS1"
	cardLine    = "/dev/ttyS2"
	padLine     = "/dev/ttyS3"
)

// openLine opens a serial line of the machine, raw.
func openLine(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	mode := unix.Termios{Iflag: unix.IGNBRK | unix.IGNPAR, Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200, Ispeed: unix.B115200, Ospeed: unix.B115200}
	mode.Cc[unix.VMIN] = 1
	raw, err := f.SyscallConn()
	if err == nil {
		var set error
		if err = raw.Control(func(fd uintptr) { set = unix.IoctlSetTermios(int(fd), unix.TCSETS, &mode) }); err == nil {
			err = set
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// monitor is QEMU's machine protocol (QMP) on a serial line: the hand that pulls
// and plugs QEMU's own devices.
type monitor struct {
	f     *os.File
	lines *bufio.Scanner
	id    int
	out   map[string]bool // devices that were pulled
}

// theMonitor is opened once: the protocol begins once.
var theMonitor = sync.OnceValues(func() (*monitor, error) {
	f, err := openLine(monitorLine)
	if err != nil {
		return nil, err
	}
	m := &monitor{f: f, lines: bufio.NewScanner(f), out: map[string]bool{}}
	m.lines.Buffer(nil, 1<<20)
	// Until it was raw the line echoed: QEMU may be in the middle of its own
	// greeting. This byte begins its parser anew.
	if _, err := f.Write([]byte{0xFF, '\n'}); err != nil {
		return nil, err
	}
	return m, m.do("qmp_capabilities", nil)
})

func qemu(t *testing.T) *monitor {
	t.Helper()
	m, err := theMonitor()
	if err != nil {
		t.Fatalf("QEMU's monitor: %v", err)
	}
	return m
}

// do runs a command. Lines that are no answer to it are events, or the rest of a
// greeting that was sent before the line was open.
func (m *monitor) do(command string, arguments map[string]any) error {
	m.id++
	if arguments == nil {
		arguments = map[string]any{}
	}
	b, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments, "id": m.id})
	if err != nil {
		return err
	}
	m.f.SetDeadline(time.Now().Add(time.Minute))
	if _, err := m.f.Write(append(b, '\n')); err != nil {
		return err
	}
	said := ""
	for m.lines.Scan() {
		said = m.lines.Text()
		var a struct {
			ID    int
			Error *struct{ Desc string }
		}
		if json.Unmarshal(m.lines.Bytes(), &a) != nil || a.ID != m.id {
			continue
		}
		if a.Error != nil {
			return fmt.Errorf("%s: %s", command, a.Error.Desc)
		}
		return nil
	}
	return fmt.Errorf("%s: no answer: %v; the last line was %q", command, m.lines.Err(), said)
}

// pull unplugs one of QEMU's devices.
func (m *monitor) pull(t *testing.T, id string) {
	t.Helper()
	if err := m.do("device_del", map[string]any{"id": id}); err != nil {
		t.Fatal(err)
	}
	m.out[id] = true
}

// plug plugs one in. A device that was pulled a moment ago may still hold its
// other side.
func (m *monitor) plug(t *testing.T, device map[string]any) {
	t.Helper()
	var err error
	for range 200 {
		if err = m.do("device_add", device); err == nil {
			delete(m.out, device["id"].(string))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(err)
}

// adapter is QEMU's FTDI serial adapter, on a port of the hub.
func adapter(port string) map[string]any {
	return map[string]any{"driver": "usb-serial", "id": "adapter", "bus": "xhci.0", "port": port, "chardev": "pad", "serial": "LAB0001", "always-plugged": true}
}

const vhci = "/sys/devices/platform/vhci_hcd.0"

// attach plugs a device of package usbdev into a port of the virtual host
// controller. The returned function pulls it; the end of the test does so too.
func attach(t *testing.T, d *usbdev.Device, port int) (pull func()) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0]) // the controller takes a reference of its own
	f := os.NewFile(uintptr(fds[1]), "device")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(conn)
	}()
	pull = sync.OnceFunc(func() { conn.Close(); <-done })
	t.Cleanup(pull)
	const full = 2 // enum usb_device_speed
	line := fmt.Sprintf("%d %d %d %d", port, fds[0], port+1, full)
	// A port that was just left is busy until the controller has closed it.
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err = os.WriteFile(filepath.Join(vhci, "attach"), []byte(line), 0o200)
		if err == nil || time.Since(start) > time.Minute {
			break
		}
	}
	if err != nil {
		t.Fatalf("attach to the virtual host controller: %v", err)
	}
	return pull
}

// bound names the kernel's driver of a USB interface ("3-1:1.0"), or nothing.
func bound(name string) string {
	to, err := os.Readlink("/sys/bus/usb/devices/" + name + "/driver")
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// inSysfs is the interface of a path that usbport made ("usb:3-1:0").
func inSysfs(path string) string {
	at := strings.TrimPrefix(path, "usb:")
	i := strings.LastIndexByte(at, ':')
	return at[:i] + ":1." + at[i+1:]
}

// files counts the open files of this process.
func files() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}
