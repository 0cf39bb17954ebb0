// Package usbport opens USB interfaces as message-oriented transports: bulk
// interfaces of chip card readers (class 0B) with their interrupt endpoint, and
// HID pads (class 03) by reports.
//
// Start with [New]; [Bus] is a drivers.Bus and a drivers.Resetter. It is built
// on libusb only with `-tags usb` and cgo; otherwise [Bus.Scan] finds nothing
// and [Bus.Open] says so ([ErrNotBuilt]).
//
// One Read is one transfer of the bulk IN or interrupt IN endpoint; empty
// transfers are skipped. One Write is one transfer. Transports also do control
// transfers (Control) and name their interface (InterfaceNumber).
//
// Lessons of the library that live here: making a context panics on a machine
// without USB; a cancelled transfer may never come back, so it is waited for a
// while and then abandoned with its device, which is not opened again
// ([ErrStuck]) until the system has let go of it; read buffers are multiples of
// the endpoint's packet size, and those of HID as long as the longest report,
// because a report that fills its packets ends no longer transfer; an endpoint
// that stalled is cleared; only the interface that is opened is taken from the
// kernel's driver; a hot-plugged device may be seen by a new context alone, so
// each opening has its own; and the library's list waits for a device that hangs,
// so that on Linux a scan reads sysfs itself. While a device hangs, the opening
// of another one may hang too: it is given up by its deadline.
//
// What it does not do: hot-plug events (the supervisor polls), isochronous
// transfers, keyboards and mice.
package usbport

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"tillbridge/drivers"
)

// ErrNotBuilt says that this program was built without USB.
var ErrNotBuilt = errors.New("USB cannot be used: this program was built without it; install a build with the tag usb (make build-usb)")

// ErrNoSubsystem says that the machine has no USB.
var ErrNoSubsystem = errors.New("USB cannot be used: this machine shows no USB subsystem; in a container or guest, pass /dev/bus/usb and /sys/bus/usb through")

// ErrStuck says that the device was given up with a transfer that does not come
// back, and that the system still holds it.
var ErrStuck = errors.New("usbport: the device does not let go of a transfer: unplug it and plug it in again")

// Options of [New]. The zero value and nil are valid.
type Options struct {
	// MaxMessage is the longest message that is read; 0 means 65,556 bytes.
	MaxMessage int
	// ControlTimeout bounds a control transfer; 0 means 2 s. libusb's own
	// default is without end.
	ControlTimeout time.Duration
	// Abandon is how long a transfer that was cancelled may take to come back;
	// 0 means 2 s.
	Abandon time.Duration
}

func (o *Options) normal() Options {
	n := Options{}
	if o != nil {
		n = *o
	}
	if n.MaxMessage <= 0 {
		n.MaxMessage = 65556
	}
	if n.ControlTimeout <= 0 {
		n.ControlTimeout = 2 * time.Second
	}
	if n.Abandon <= 0 {
		n.Abandon = 2 * time.Second
	}
	return n
}

// Bus finds and opens USB interfaces.
type Bus struct {
	o Options

	mu    sync.Mutex
	stuck map[string]<-chan struct{} // closed when the device of that path is closed at last
}

var (
	_ drivers.Bus      = (*Bus)(nil)
	_ drivers.Resetter = (*Bus)(nil)
)

// New makes the bus; it touches nothing.
func New(o *Options) *Bus { return &Bus{o: o.normal(), stuck: map[string]<-chan struct{}{}} }

// device is a path without its interface: what hangs is a device.
func device(path string) string { return path[:max(0, strings.LastIndexByte(path, ':'))] }

// leave remembers a device that does not close.
func (b *Bus) leave(path string, closed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stuck[device(path)] = closed
}

// held reports that a device was left and has not closed yet. Every further
// attempt would hang as well, and leave a thread behind.
func (b *Bus) held(path string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	closed, ok := b.stuck[device(path)]
	if !ok {
		return false
	}
	select {
	case <-closed:
		delete(b.stuck, device(path))
		return false
	default:
		return true
	}
}

// Classes that are listed.
const (
	classHID  = 0x03
	classCCID = 0x0B
)

// seen is one interface of one device, without the library's types.
type seen struct {
	bus        int
	path       []int // ports from the root hub
	vid, pid   uint16
	number     int
	class, sub byte
	address    int  // new with every plug
	in, out    bool // endpoints of the kind that its class needs
}

// port is how an interface is called, or ok=false for one that is not for us.
func (s seen) port() (p drivers.Port, ok bool) {
	kind := drivers.KindUSB
	switch {
	case !s.in:
		return p, false
	case s.class == classHID && s.sub != 1: // 1 is the boot protocol: keyboards and mice
		kind = drivers.KindHID
	case s.class == classCCID && s.out:
	default:
		return p, false
	}
	parts := make([]string, len(s.path))
	for i, n := range s.path {
		parts[i] = strconv.Itoa(n)
	}
	at := fmt.Sprintf("%d-%s", s.bus, strings.Join(parts, "."))
	return drivers.Port{Kind: kind, Path: fmt.Sprintf("usb:%s:%d", at, s.number), Location: fmt.Sprintf("%s:%d", at, s.number),
		VID: s.vid, PID: s.pid, Class: s.class, Node: strconv.Itoa(s.address)}, true
}

// interfaceOf is the interface number in a path that port made.
func interfaceOf(p drivers.Port) (number int, ok bool) {
	i := strings.LastIndexByte(p.Path, ':')
	if i < 0 || !strings.HasPrefix(p.Path, "usb:") {
		return 0, false
	}
	n, err := strconv.Atoi(p.Path[i+1:])
	return n, err == nil && n >= 0 && n < 256
}

// roundUp makes a buffer a whole number of packets.
func roundUp(n, packet int) int {
	if packet <= 0 {
		return n
	}
	return (n + packet - 1) / packet * packet
}

// pipe is an open interface, as the library gives it. Reads and writes may come
// back long after their context ended, or never.
type pipe interface {
	read(ctx context.Context, p []byte) (int, error)
	readEvent(ctx context.Context, p []byte) (int, error) // nil event endpoint: eventSize is 0
	write(ctx context.Context, p []byte) (int, error)
	control(requestType, request byte, value, index uint16, data []byte) (int, error)
	packet() int
	// message is the longest message that read can bring, or 0 where the device
	// does not say.
	message() int
	eventSize() int
	// release gives the interface back to the system, which ends the transfers
	// that are under way on it. close closes what is left.
	release()
	close() error
}
