//go:build lab && usb && linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tillbridge/drivers"
	"tillbridge/drivers/usbport"
)

// nonce marks what this run prints for the judge.
var nonce = os.Getenv("LAB_NONCE")

// glance is what the bus said of a machine that is not yet complete.
type glance struct {
	ports         []drivers.Port
	scanned, open error
}

// none is the machine where libusb cannot begin (in a container it has no
// netlink; here it gets no file descriptor), empty the one without a USB
// subsystem.
var none, empty glance

// starved runs f where no file can be opened.
func starved(f func()) error {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		return err
	}
	free, err := unix.Dup(0)
	if err != nil {
		return err
	}
	unix.Close(free)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: was.Max}); err != nil {
		return err
	}
	f()
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
}

func look() (g glance) {
	bus := usbport.New(nil)
	g.ports, g.scanned = bus.Scan(context.Background())
	_, g.open = bus.Open(context.Background(), drivers.Port{Kind: drivers.KindUSB, Path: "usb:1-1:0"})
	return g
}

// TestMain is init of the guest: it makes the machine, runs the tests and stops
// the machine. Elsewhere it only lists tests.
func TestMain(m *testing.M) {
	if os.Getpid() != 1 {
		if nonce == "" {
			os.Exit(m.Run())
		}
		fmt.Println("guest: not the first process of a machine")
		os.Exit(2)
	}
	code := 2
	if err := setUp(); err != nil {
		fmt.Println("guest: ", err)
	} else {
		code = m.Run()
	}
	mark("DONE %d", code)
	unix.Sync()
	time.Sleep(200 * time.Millisecond) // the console's own buffer
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func setUp() error {
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sys", "/sys", "sysfs"}, {"dev", "/dev", "devtmpfs"}, {"tmp", "/tmp", "tmpfs"}, {"run", "/run", "tmpfs"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	os.MkdirAll("/run/lock", 0o755)
	os.Setenv("PATH", "/")
	if err := starved(func() { none = look() }); err != nil {
		return fmt.Errorf("limit the files: %w", err)
	}
	empty = look()
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil || len(files) == 0 {
		return errors.New("no modules")
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

var printing sync.Mutex

// mark prints a line for the judge, in one write so that nothing comes between.
func mark(format string, args ...any) {
	printing.Lock()
	defer printing.Unlock()
	os.Stdout.WriteString("\nLAB " + nonce + " " + fmt.Sprintf(format, args...) + "\n")
}

// say reports a figure in the lab's output.
func say(t *testing.T, format string, args ...any) {
	t.Helper()
	mark("SAY %s: %s", t.Name(), fmt.Sprintf(format, args...))
}

// begin opens a test: its end will be marked, and it gets a generous time.
func begin(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(func() {
		cancel()
		how := "PASS"
		switch {
		case t.Failed():
			how = "FAIL"
		case t.Skipped():
			how = "SKIP"
		}
		mark("%s %s", how, t.Name())
	})
	return ctx
}

// eventually waits for something that the machine does in its own time.
func eventually(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	start := time.Now()
	for !ok() {
		if ctx.Err() != nil || time.Since(start) > 90*time.Second {
			t.Fatalf("%s: not in %v", what, time.Since(start).Round(time.Second))
		}
		time.Sleep(20 * time.Millisecond)
	}
}
