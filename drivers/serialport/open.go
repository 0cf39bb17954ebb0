package serialport

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.bug.st/serial"

	"tillbridge/drivers"
)

// openPort opens the port, and once more for writing where the system has
// that (see openWriter); the file is nil elsewhere.
func openPort(path string, m drivers.LineMode) (library, *os.File, error) {
	mode, err := libraryMode(m)
	if err != nil {
		return nil, nil, err
	}
	out := openWriter(path)
	port, err := openLibrary(path, mode)
	if err != nil && out != nil {
		out.Close()
		out = nil
	}
	return port, out, err
}

func openLibrary(path string, mode *serial.Mode) (library, error) {
	// No InitialStatusBits: a pty has no modem lines and the library then
	// refuses to open it; on the others they only add a second pulse.
	port, err := serial.Open(path, mode)
	if err == nil {
		return port, nil
	}
	if pe, ok := errors.AsType[*serial.PortError](err); ok {
		switch pe.Code() {
		case serial.PortBusy:
			return nil, fmt.Errorf("%w (the system refuses a second open)", drivers.ErrPortHeld)
		case serial.PortNotFound:
			return nil, fmt.Errorf("%w (%s)", drivers.ErrNoPort, path)
		case serial.PermissionDenied:
			return nil, fmt.Errorf("permission denied: the service account needs the group of the port (dialout on Debian): usermod -aG dialout ACCOUNT, then restart the agent: %w", err)
		}
	}
	if isGone(err) {
		return nil, fmt.Errorf("%w (%v)", drivers.ErrNoPort, err)
	}
	return nil, err
}

func libraryMode(m drivers.LineMode) (*serial.Mode, error) {
	mode := &serial.Mode{BaudRate: m.Baud, DataBits: m.DataBits}
	if mode.DataBits == 0 {
		mode.DataBits = 8
	}
	switch m.Parity {
	case 0, 'N':
	case 'E':
		mode.Parity = serial.EvenParity
	case 'O':
		mode.Parity = serial.OddParity
	default:
		return nil, fmt.Errorf("parity %q: it is N, E or O", m.Parity)
	}
	switch m.StopBits {
	case 0, 1:
	case 2:
		mode.StopBits = serial.TwoStopBits
	default:
		return nil, fmt.Errorf("%d stop bits: there are 1 or 2", m.StopBits)
	}
	return mode, nil
}

// isCOM reports a Windows port name, which is no path of a file.
func isCOM(path string) bool {
	name := strings.TrimPrefix(strings.ToUpper(path), `\\.\`)
	if !strings.HasPrefix(name, "COM") || len(name) < 4 {
		return false
	}
	for _, c := range name[3:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
