package usbdev

import (
	"io"
	"sync"
)

// Pad is a HID device whose reports are a line: each Read gives one report that
// the host wrote, each Write sends one. Reports have 64 bytes with their id, in
// packets of 64.
type Pad struct {
	*Device
	reports chan []byte
	once    sync.Once
	done    chan struct{}
}

// PadOptions describe a [Pad].
type PadOptions struct {
	VID, PID               uint16
	Maker, Product, Serial string
	// NoOut leaves out the endpoint for what the host writes: it has to use
	// SET_REPORT.
	NoOut bool
	// Keyboard puts a boot keyboard before the pad, as interface 0.
	Keyboard bool
}

// Endpoints of a pad.
const (
	PadIn       = 0x81
	PadOut      = 0x02
	KeyboardIn  = 0x83
	ReportBytes = 64
)

// NewPad makes a pad.
func NewPad(o PadOptions) *Pad {
	p := &Pad{reports: make(chan []byte, 256), done: make(chan struct{})}
	pad := Interface{Class: classHID, Report: padReports(), Endpoints: []Endpoint{{PadIn, 3, 64, 1}}}
	if !o.NoOut {
		pad.Endpoints = append(pad.Endpoints, Endpoint{PadOut, 3, 64, 1})
	}
	list := []Interface{pad}
	if o.Keyboard {
		keys := Interface{Class: classHID, SubClass: 1, Protocol: 1, Report: keyboardReports(), Endpoints: []Endpoint{{KeyboardIn, 3, 8, 10}}}
		list = []Interface{keys, pad}
	}
	p.Device = New(Options{VID: o.VID, PID: o.PID, Maker: o.Maker, Product: o.Product, Serial: o.Serial, Interfaces: list,
		Out: func(_ byte, data []byte) {
			if len(data) != ReportBytes {
				return
			}
			select {
			case p.reports <- data:
			case <-p.done:
			}
		}})
	return p
}

// Line is the pad's side of the reports. Its Close ends the reading, not the
// device.
func (p *Pad) Line() io.ReadWriteCloser { return padLine{p} }

type padLine struct{ p *Pad }

func (l padLine) Read(b []byte) (int, error) {
	select {
	case r := <-l.p.reports:
		return copy(b, r), nil
	case <-l.p.done:
		return 0, io.EOF
	}
}

func (l padLine) Write(b []byte) (int, error) {
	l.p.Send(PadIn&0x7F, b)
	return len(b), nil
}

func (l padLine) Close() error {
	l.p.once.Do(func() { close(l.p.done) })
	return nil
}

// padReports describes four reports, ids 1 to 4, of 63 bytes both ways.
func padReports() []byte {
	out := []byte{0x06, 0x00, 0xFF, 0x09, 0x01, 0xA1, 0x01, 0x15, 0x00, 0x26, 0xFF, 0x00, 0x75, 0x08, 0x95, 63}
	for id := range byte(4) {
		out = append(out, 0x85, id+1, 0x09, 0x01, 0x81, 0x02, 0x09, 0x01, 0x91, 0x02)
	}
	return append(out, 0xC0)
}

// keyboardReports is the boot keyboard of HID 1.11 appendix B.1, without lamps.
func keyboardReports() []byte {
	return []byte{0x05, 0x01, 0x09, 0x06, 0xA1, 0x01, 0x05, 0x07, 0x19, 0xE0, 0x29, 0xE7, 0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02,
		0x95, 0x01, 0x75, 0x08, 0x81, 0x01, 0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x25, 0x65, 0x05, 0x07, 0x19, 0x00, 0x29, 0x65, 0x81, 0x00, 0xC0}
}
