// Package drivers holds the seams between the agent and the devices at the
// counter: a [Bus] finds ports and opens a [Transport], a [Driver] recognises
// what stands behind it and opens a [Device], whose capabilities are found by
// type assertion.
//
// Start with [Device] and the capability interfaces in capability.go; the
// supervisor (supervisor.go) owns discovery, hot-plug and recovery.
//
// Buses are the packages serialport, usbport and netport; drivers are abecs,
// zvt, neo2 and ccid. The agent passes both lists in; there is no registry.
// This package does no I/O of its own.
package drivers

import (
	"context"
	"errors"
	"fmt"
)

// States that callers branch on.
var (
	// ErrUnplugged: the port is gone. Nothing more can be read or written.
	ErrUnplugged = errors.New("drivers: device unplugged")
	// ErrBusy: another operation owns the device.
	ErrBusy = errors.New("drivers: device busy")
	// ErrPortHeld: another program has the port open.
	ErrPortHeld = errors.New("drivers: port held by another program")
	// ErrNoPort: the port does not exist.
	ErrNoPort = errors.New("drivers: no such port")
	// ErrCancelled: the customer pressed cancel on the device.
	ErrCancelled = errors.New("drivers: the customer cancelled")
	// ErrTimeout: the customer did nothing in the time the device gives.
	ErrTimeout = errors.New("drivers: the customer did nothing in time")
	// ErrCardGone: the card was taken out before its time.
	ErrCardGone = errors.New("drivers: the card was taken out")
	// ErrRefused: the driver refuses a command that would return clear card data.
	ErrRefused = errors.New("drivers: refused: the command would return clear card data")
)

// DeviceError is an error of an operation on a device. Err never holds card
// data.
type DeviceError struct {
	Op     string // "open", "read", "GOX", "06 01", ...
	Device string // port path or device id
	Raw    string // the device's own result code, or empty
	Err    error
}

// Error names operation, device and the device's own code.
func (e *DeviceError) Error() string {
	if e.Raw != "" {
		return fmt.Sprintf("%s on %s: device answered %s: %v", e.Op, e.Device, e.Raw, e.Err)
	}
	return fmt.Sprintf("%s on %s: %v", e.Op, e.Device, e.Err)
}

// Unwrap returns Err.
func (e *DeviceError) Unwrap() error { return e.Err }

// PortKind is the kind of a port.
type PortKind string

// Kinds of port.
const (
	KindSerial PortKind = "serial"
	KindUSB    PortKind = "usb"
	KindHID    PortKind = "hid"
	KindTCP    PortKind = "tcp"
)

// Port is a place where a device may stand.
type Port struct {
	Kind PortKind
	// Path is how to open it: "/dev/ttyACM0", "COM4", "127.0.0.1:20007".
	Path string
	// Location is the bus location, stable over renumbering ("1-2.3"), or empty.
	Location string
	VID, PID uint16 // 0 when unknown
	Serial   string // USB serial number, or empty
	Product  string
	// Class is the USB interface class that matched (0x0B for CCID), or 0.
	Class byte
	// Node changes with every plug where the system tells (the device file's
	// number and time), so that a port that left and came back between two scans
	// is seen; empty elsewhere. It is no part of the identity.
	Node string
	// Explicit is set when the configuration names the port: invasive probes
	// are allowed only there.
	Explicit bool
	// Named is the path, link or glob of the configuration that named the
	// port, as written there, or empty.
	Named string
}

// Key identifies the port for the diff of two scans: location, ids and serial
// number, or the path where nothing better is known.
func (p Port) Key() string {
	if p.Location == "" && p.Serial == "" {
		return string(p.Kind) + ":" + p.Path
	}
	return fmt.Sprintf("%s:%s:%04x:%04x:%s", p.Kind, p.Location, p.VID, p.PID, p.Serial)
}

// Bus finds and opens ports of one kind.
type Bus interface {
	// Scan lists the ports that are there now. It opens none.
	Scan(ctx context.Context) ([]Port, error)
	// Open opens one of them, or fails with ErrNoPort or ErrPortHeld.
	Open(ctx context.Context, p Port) (Transport, error)
}

// Transport is an open port. Read and Write end by the context's deadline and
// then return an error matching context.DeadlineExceeded; after an unplug they
// return ErrUnplugged. A Transport has one reader and one writer at a time.
type Transport interface {
	// Read returns at least one byte, or one whole message where the port is
	// message-oriented (HID report, USB bulk transfer).
	Read(ctx context.Context, p []byte) (int, error)
	Write(ctx context.Context, p []byte) (int, error)
	// Close releases the port; a pending Read or Write returns. It is safe to
	// call twice.
	Close() error
	Info() Port
}

// LineMode is how bytes travel on a serial line. Zero fields mean 8 data bits,
// no parity, 1 stop bit.
type LineMode struct {
	Baud     int  // bits per second; 0 leaves the line as it is
	DataBits int  // 7 or 8
	Parity   byte // 'N', 'E' or 'O'
	StopBits int  // 1 or 2
}

// LineSetter is a Transport on a serial line. A driver sets the mode of its
// protocol when it opens; a port without modem lines (a pty) takes any.
type LineSetter interface {
	SetLine(LineMode) error
}
