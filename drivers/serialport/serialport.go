// Package serialport is the bus of serial ports: RS-232, USB CDC, USB serial
// adapters and, for tests and the demo, ptys.
//
// Start with [New]: the returned [Bus] lists ports without opening any and
// opens one of them as a drivers.Transport. No other package knows the library
// underneath (go.bug.st/serial v1.8.0); its traps are handled here once:
//
//   - a read that timed out returns 0 and no error there; here it returns
//     context.DeadlineExceeded and never 0, nil;
//   - a write there has no timeout on any system; here it ends by the
//     context's deadline, and the port then has to be closed;
//   - its list of ports opens every ttyS* to look whether it is real, which
//     pulses DTR; the scan here reads sysfs and opens nothing;
//   - it reports the same error for an unplugged port and for our own Close;
//     here the first is drivers.ErrUnplugged and the second os.ErrClosed;
//   - it closes the descriptor before pending reads have left, so that another
//     file may get its number; here Close waits for the read first;
//   - exclusive access does not hold against root; here a lock file per port
//     does, and a port that another process has open is reported as held.
//
// What this package does not do: it knows no protocol, starts no probe and
// keeps no port open that is not asked for.
package serialport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"tillbridge/drivers"
)

// Options of a Bus. The zero value lists USB serial ports only.
type Options struct {
	// Paths are ports that the configuration names: device paths
	// ("/dev/ttyS0", "COM4"), links ("/dev/serial/by-id/…") or globs
	// ("/run/till/pad-*"). They become Explicit.
	Paths []string
	// NoUSB leaves out ports that were found and not named.
	NoUSB bool
	// Mode is set at open; a driver may change it. Default 19200 8N1.
	Mode drivers.LineMode
	// LockDir holds the lock files. Default /run/lock, or the directory for
	// temporary files where that is not writable. Unused on Windows, where the
	// system opens a port once.
	LockDir string
}

// Bus lists and opens serial ports.
type Bus struct {
	o Options
}

var _ drivers.Bus = (*Bus)(nil)

// New returns a bus. A nil Options is the zero value.
func New(o *Options) *Bus {
	b := &Bus{}
	if o != nil {
		b.o = *o
	}
	if b.o.Mode.Baud == 0 {
		b.o.Mode.Baud = 19200
	}
	return b
}

// Scan lists the ports that are there now, by path. It opens none. A port that
// disappears during the walk is left out.
func (b *Bus) Scan(ctx context.Context) ([]drivers.Port, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found, err := scanUSB()
	if err != nil {
		return nil, fmt.Errorf("scan serial ports: %w", err)
	}
	byPath := make(map[string]drivers.Port)
	for _, p := range found {
		byPath[p.Path] = p
	}
	explicit := make(map[string]bool)
	for _, named := range b.o.Paths {
		for _, path := range expand(named) {
			p, ok := byPath[path]
			if !ok {
				p = drivers.Port{Kind: drivers.KindSerial, Path: path}
				describe(&p)
			}
			p.Explicit = true
			if p.Named == "" {
				p.Named = named
			}
			byPath[path], explicit[path] = p, true
		}
	}
	ports := make([]drivers.Port, 0, len(byPath))
	for path, p := range byPath {
		if explicit[path] || !b.o.NoUSB {
			p.Node = nodeOf(path)
			ports = append(ports, p)
		}
	}
	sort.Slice(ports, func(i, j int) bool { return ports[i].Path < ports[j].Path })
	return ports, nil
}

// Named reports for each configured path that names no port now why not, for
// people who look for their device.
func (b *Bus) Missing() map[string]string {
	missing := make(map[string]string)
	for _, named := range b.o.Paths {
		if len(expand(named)) > 0 {
			continue
		}
		switch {
		case isGlob(named):
			missing[named] = "no port matches: check that the device is plugged in and its power is on"
		default:
			missing[named] = "no such port: check the cable, or name the port by its link under /dev/serial/by-id"
		}
	}
	return missing
}

// Open opens a port. It fails with drivers.ErrNoPort when the port is not
// there and with drivers.ErrPortHeld when another program, or another open of
// this one, has it.
func (b *Bus) Open(ctx context.Context, p drivers.Port) (drivers.Transport, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := resolve(p.Path)
	if err != nil {
		return nil, openError(p.Path, drivers.ErrNoPort, err.Error())
	}
	lock, err := lockPort(b.o.LockDir, path)
	if err != nil {
		return nil, &drivers.DeviceError{Op: "open", Device: p.Path, Err: err}
	}
	port, out, err := openPort(path, b.o.Mode)
	if err != nil {
		lock.release()
		return nil, &drivers.DeviceError{Op: "open", Device: p.Path, Err: err}
	}
	p.Kind = drivers.KindSerial
	return newTransport(port, out, lock, p), nil
}

func openError(device string, state error, detail string) error {
	return &drivers.DeviceError{Op: "open", Device: device, Err: fmt.Errorf("%w (%s)", state, detail)}
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?[") }

// expand returns the device paths that a configured path names now.
func expand(named string) []string {
	paths := []string{named}
	if isGlob(named) {
		var err error
		if paths, err = filepath.Glob(named); err != nil {
			return nil // refused by the configuration's own check
		}
	}
	var out []string
	for _, p := range paths {
		if real, err := resolve(p); err == nil {
			out = append(out, real)
		}
	}
	return out
}

// errNotThere is the text of a path that leads nowhere.
var errNotThere = errors.New("nothing is there")

// resolve follows links to the device.
func resolve(path string) (string, error) {
	if isCOM(path) {
		return path, nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", errNotThere
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", errNotThere
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return "", errors.New("this is a file and not a port")
	}
	return real, nil
}
