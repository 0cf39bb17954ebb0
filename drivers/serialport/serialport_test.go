//go:build linux

package serialport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.bug.st/serial"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
)

// guard bounds what must end by itself.
const guard = 30 * time.Second

func open(t *testing.T) (*transport, io.ReadWriteCloser, *Bus, drivers.Port) {
	t.Helper()
	device, path := drivertest.PTY(t)
	bus := New(&Options{Paths: []string{path}, LockDir: t.TempDir()})
	port := only(t, bus, path)
	tr, err := bus.Open(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr.(*transport), device, bus, port
}

func only(t *testing.T, bus *Bus, path string) drivers.Port {
	t.Helper()
	ports, err := bus.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		if p.Path == path {
			if !p.Explicit || p.Named == "" || p.Kind != drivers.KindSerial {
				t.Fatalf("port %+v: it was named by the configuration", p)
			}
			return p
		}
	}
	t.Fatalf("%s is not in %v", path, ports)
	return drivers.Port{}
}

func TestEveryByteTravelsBothWays(t *testing.T) {
	tr, device, _, _ := open(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	if n, err := tr.Write(ctx, all); n != 256 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	got := make([]byte, 256)
	if _, err := io.ReadFull(device, got); err != nil || !bytes.Equal(got, all) {
		t.Fatalf("device read %X, %v", got, err)
	}
	if _, err := device.Write(all); err != nil {
		t.Fatal(err)
	}
	var back []byte
	buf := make([]byte, 100)
	for len(back) < 256 {
		n, err := tr.Read(ctx, buf)
		if err != nil || n == 0 {
			t.Fatalf("Read: %d, %v", n, err)
		}
		back = append(back, buf[:n]...)
	}
	if !bytes.Equal(back, all) {
		t.Fatalf("host read %X", back)
	}
}

func TestReadEndsByItsDeadline(t *testing.T) {
	tr, device, _, _ := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	n, err := tr.Read(ctx, make([]byte, 10))
	if n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Read: %d, %v; want the deadline and never 0, nil", n, err)
	}
	if _, err := device.Write([]byte{0x06}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), guard)
	defer cancel()
	if n, err := tr.Read(ctx, make([]byte, 10)); n != 1 || err != nil {
		t.Fatalf("Read after a deadline: %d, %v", n, err)
	}
}

func TestCancelEndsARead(t *testing.T) {
	tr, _, _, _ := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := tr.Read(ctx, make([]byte, 10)); done <- err }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Read: %v", err)
		}
	case <-time.After(guard):
		t.Fatal("the cancelled read never ended")
	}
}

func TestWriteEndsByItsDeadline(t *testing.T) {
	tr, _, _, _ := open(t)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := tr.Write(ctx, make([]byte, 4<<20)) // nobody reads at the other end
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Write: %v", err)
		}
	case <-time.After(guard):
		t.Fatal("the write never ended")
	}
	if _, err := tr.Write(t.Context(), []byte{1}); err == nil {
		t.Fatal("a write after an unfinished one succeeded: it would follow half a frame")
	}
	if err := tr.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	await(t, "the write left its goroutine", func() bool { return runtime.NumGoroutine() <= before })
}

func TestCloseEndsAReadAndSaysThatWeDid(t *testing.T) {
	tr, _, _, _ := open(t)
	done := make(chan error, 1)
	go func() { _, err := tr.Read(context.Background(), make([]byte, 10)); done <- err }()
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrClosed) || errors.Is(err, drivers.ErrUnplugged) {
			t.Fatalf("Read: %v, want os.ErrClosed alone", err)
		}
	case <-time.After(guard):
		t.Fatal("the read outlived Close")
	}
	if err := tr.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	if _, err := tr.Write(t.Context(), []byte{1}); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("Write after Close: %v", err)
	}
}

func TestUnplugIsNotOurClose(t *testing.T) {
	tr, device, _, _ := open(t)
	done := make(chan error, 1)
	go func() { _, err := tr.Read(context.Background(), make([]byte, 10)); done <- err }()
	device.Close()
	select {
	case err := <-done:
		if !errors.Is(err, drivers.ErrUnplugged) || errors.Is(err, os.ErrClosed) {
			t.Fatalf("Read: %v, want ErrUnplugged", err)
		}
	case <-time.After(guard):
		t.Fatal("the read outlived the device")
	}
	if _, err := tr.Write(t.Context(), []byte{1}); !errors.Is(err, drivers.ErrUnplugged) {
		t.Fatalf("Write: %v, want ErrUnplugged", err)
	}
	if err := tr.Close(); err != nil {
		t.Fatalf("Close after an unplug: %v", err)
	}
}

func TestSecondOpenIsHeldUntilTheFirstCloses(t *testing.T) {
	tr, _, bus, port := open(t)
	if _, err := bus.Open(t.Context(), port); !errors.Is(err, drivers.ErrPortHeld) {
		t.Fatalf("second Open: %v, want ErrPortHeld", err)
	}
	tr.Close()
	again, err := bus.Open(t.Context(), port)
	if err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	again.Close()
	left, _ := filepath.Glob(filepath.Join(bus.o.LockDir, "*"))
	if len(left) != 0 {
		t.Errorf("lock files left: %v", left)
	}
}

func TestLockOfAnotherProgram(t *testing.T) {
	_, path := drivertest.PTY(t)
	dir := t.TempDir()
	bus := New(&Options{Paths: []string{path}, LockDir: dir})
	port := only(t, bus, path)
	file := filepath.Join(dir, "LCK.."+strings.ReplaceAll(strings.TrimPrefix(path, "/dev/"), "/", "_"))
	write := func(pid int) {
		if err := os.WriteFile(file, fmt.Appendf(nil, "%10d\n", pid), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(os.Getppid())
	if _, err := bus.Open(t.Context(), port); !errors.Is(err, drivers.ErrPortHeld) || !strings.Contains(err.Error(), fmt.Sprint(os.Getppid())) {
		t.Fatalf("Open: %v, want ErrPortHeld with the process number", err)
	}
	write(1 << 30) // no such process
	tr, err := bus.Open(t.Context(), port)
	if err != nil {
		t.Fatalf("a lock left by a killed program: %v", err)
	}
	tr.Close()
}

func TestGlobsLinksAndWhatIsMissing(t *testing.T) {
	_, path := drivertest.PTY(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "usb-Gertec_PPC930-if00")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/gone", filepath.Join(dir, "usb-gone")); err != nil {
		t.Fatal(err)
	}
	bus := New(&Options{Paths: []string{filepath.Join(dir, "usb-*"), "/dev/nothing-here"}, NoUSB: true, LockDir: dir})
	ports, err := bus.Scan(t.Context())
	if err != nil || len(ports) != 1 || ports[0].Path != path || ports[0].Named != filepath.Join(dir, "usb-*") {
		t.Fatalf("Scan: %+v, %v", ports, err)
	}
	if m := bus.Missing(); len(m) != 1 || m["/dev/nothing-here"] == "" {
		t.Errorf("Missing: %v", m)
	}
	tr, err := bus.Open(t.Context(), drivers.Port{Path: link})
	if err != nil {
		t.Fatalf("Open by link: %v", err)
	}
	tr.Close()
}

func TestNoPort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/nothing-here", file} {
		if _, err := New(nil).Open(t.Context(), drivers.Port{Path: path}); !errors.Is(err, drivers.ErrNoPort) {
			t.Errorf("Open %s: %v, want ErrNoPort", path, err)
		}
	}
}

func TestLineModes(t *testing.T) {
	tr, _, _, _ := open(t)
	for _, m := range []drivers.LineMode{{}, {Baud: 9600, StopBits: 2}, {Baud: 115200}, {Baud: 19200, DataBits: 7, Parity: 'E'}} {
		if err := tr.SetLine(m); err != nil {
			t.Errorf("SetLine(%+v): %v", m, err)
		}
	}
	for _, m := range []drivers.LineMode{{Baud: 9600, StopBits: 3}, {Baud: 9600, Parity: 'X'}} {
		if err := tr.SetLine(m); err == nil {
			t.Errorf("SetLine(%+v) succeeded", m)
		}
	}
}

// TestScanReadsSysfs lays out what the kernel shows for a CDC pad, an adapter
// and a port of the mainboard.
func TestScanReadsSysfs(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(tty, device string) {
		t.Helper()
		dir := filepath.Join(root, "class", tty)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, device), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, device), filepath.Join(dir, "device")); err != nil {
			t.Fatal(err)
		}
	}
	write("usb/1-2/idVendor", "1753\n")
	write("usb/1-2/idProduct", "c902\n")
	write("usb/1-2/serial", "7200032211005539\n")
	write("usb/1-2/manufacturer", "GERTEC\n")
	write("usb/1-2/product", "PPC-930\x1b\x07\n") // what a device writes ends on a terminal
	write("usb/1-2/1-2:1.0/bInterfaceNumber", "00\n")
	link("ttyACM0", "usb/1-2/1-2:1.0")
	write("usb/1-3.1/idVendor", "0403\n")
	write("usb/1-3.1/idProduct", "6001\n")
	write("usb/1-3.1/1-3.1:1.0/bInterfaceNumber", "00\n")
	link("ttyUSB0", "usb/1-3.1/1-3.1:1.0/ttyUSB0")
	write("usb/1-3.1/1-3.1:1.0/ttyUSB1/port_number", "1\n") // the second behind one interface
	link("ttyUSB1", "usb/1-3.1/1-3.1:1.0/ttyUSB1")
	link("ttyS0", "platform/serial8250")
	link("ttyUSB9", "usb/gone")
	os.RemoveAll(filepath.Join(root, "usb/gone"))

	ports, err := scanTTY(filepath.Join(root, "class"), "/dev")
	if err != nil || len(ports) != 3 {
		t.Fatalf("%+v, %v", ports, err)
	}
	want := drivers.Port{Kind: drivers.KindSerial, Path: "/dev/ttyACM0", Location: "1-2:1.0", VID: 0x1753, PID: 0xC902,
		Serial: "7200032211005539", Product: "GERTEC PPC-930"}
	if ports[0] != want {
		t.Errorf("got %+v, want %+v", ports[0], want)
	}
	if p := ports[1]; p.Path != "/dev/ttyUSB0" || p.VID != 0x0403 || p.Location != "1-3.1:1.0" || p.Serial != "" {
		t.Errorf("got %+v", p)
	}
	if ports[1].Key() == ports[2].Key() {
		t.Errorf("two ports of one adapter are taken for one: %s", ports[2].Key())
	}
}

// stuckPort is a port whose write never comes back, as a driver that waits for
// flow control for ever.
type stuckPort struct {
	writing, flushed, closed atomic.Bool
	free                     chan struct{}
}

func (s *stuckPort) Read([]byte) (int, error) { time.Sleep(time.Millisecond); return 0, nil }
func (s *stuckPort) Write([]byte) (int, error) {
	s.writing.Store(true)
	<-s.free
	return 0, io.ErrClosedPipe
}
func (s *stuckPort) SetMode(*serial.Mode) error         { return nil }
func (s *stuckPort) SetReadTimeout(time.Duration) error { return nil }
func (s *stuckPort) ResetOutputBuffer() error           { s.flushed.Store(true); return nil }
func (s *stuckPort) Close() error                       { s.closed.Store(true); return nil }

func TestAWriteThatNeverReturnsIsAbandoned(t *testing.T) {
	s := &stuckPort{free: make(chan struct{})}
	defer close(s.free)
	tr := newTransport(s, nil, nil, drivers.Port{Path: "stuck"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := tr.Write(ctx, []byte{1}); done <- err }()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Write: %v", err)
		}
	case <-time.After(guard):
		t.Fatal("the write was waited for")
	}
	if err := tr.Close(); err != nil || !s.closed.Load() || !s.flushed.Load() {
		t.Fatalf("Close: %v, closed %t, flushed %t", err, s.closed.Load(), s.flushed.Load())
	}
}

func TestCloseFromManyGoroutines(t *testing.T) {
	tr, _, _, _ := open(t)
	before := runtime.NumGoroutine()
	for range 8 {
		go tr.Close()
	}
	tr.Close()
	await(t, "goroutines of Close end", func() bool { return runtime.NumGoroutine() <= before })
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(guard); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s", guard, what)
		}
	}
}
