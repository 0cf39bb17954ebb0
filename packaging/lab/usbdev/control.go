package usbdev

import "encoding/binary"

// Standard requests (USB 2.0 table 9-4) and those of HID (1.11 section 7.2).
const (
	getStatus        = 0x00
	clearFeature     = 0x01
	setFeature       = 0x03
	getDescriptor    = 0x06
	getConfiguration = 0x08
	setConfiguration = 0x09
	getInterface     = 0x0A
	setInterface     = 0x0B

	hidGetReport = 0x01
	hidSetReport = 0x09
	hidSetIdle   = 0x0A
)

// Kinds of descriptor.
const (
	kindDevice        = 1
	kindConfiguration = 2
	kindString        = 3
	kindInterface     = 4
	kindEndpoint      = 5
	kindHID           = 0x21
	kindReport        = 0x22
)

const classHID = 3

// control answers a transfer of the control endpoint. The caller holds mu.
func (d *Device) control(u urb) (after func()) {
	index := binary.LittleEndian.Uint16(u.setup[4:])
	if u.setup[0] == 0x21 && u.setup[1] == hidSetReport && d.hid(index) {
		d.write(answer(u, statusOK, nil, len(u.data)))
		if d.o.Out != nil {
			return func() { d.o.Out(0, u.data) }
		}
		return nil
	}
	reply, ok := d.standard(u.setup)
	if !ok && d.o.Control != nil {
		reply, ok = d.o.Control(u.setup, u.data)
	}
	if !ok {
		d.write(answer(u, statusPipe, nil, 0))
		return nil
	}
	if u.in {
		d.write(answer(u, statusOK, reply[:min(len(reply), u.length)], 0))
		return nil
	}
	d.write(answer(u, statusOK, nil, len(u.data)))
	return nil
}

func (d *Device) hid(number uint16) bool {
	return int(number) < len(d.o.Interfaces) && d.o.Interfaces[number].Class == classHID
}

// standard answers what every device and every HID interface knows.
func (d *Device) standard(setup [8]byte) (reply []byte, ok bool) {
	value, index := binary.LittleEndian.Uint16(setup[2:]), binary.LittleEndian.Uint16(setup[4:])
	switch setup[0] {
	case 0x00, 0x01, 0x02: // to the device, an interface, an endpoint
		switch setup[1] {
		case clearFeature:
			if setup[0] == 2 && value == 0 {
				d.clears++
				delete(d.halted, byte(index))
			}
		case setFeature, setConfiguration, setInterface:
		default:
			return nil, false
		}
		return nil, true
	case 0x80, 0x81, 0x82:
		switch setup[1] {
		case getStatus:
			return []byte{0, 0}, true
		case getConfiguration:
			return []byte{1}, true
		case getInterface:
			return []byte{0}, true
		case getDescriptor:
			return d.descriptor(byte(value>>8), byte(value), index)
		}
	case 0x21: // to a HID interface
		return nil, setup[1] == hidSetIdle && d.hid(index)
	case 0xA1:
		if setup[1] == hidGetReport && d.hid(index) {
			return make([]byte, 8), true
		}
	}
	return nil, false
}

func (d *Device) descriptor(kind, number byte, index uint16) ([]byte, bool) {
	switch kind {
	case kindDevice:
		out := []byte{18, kindDevice, 0x00, 0x02, 0, 0, 0, 64}
		out = binary.LittleEndian.AppendUint16(out, d.o.VID)
		out = binary.LittleEndian.AppendUint16(out, d.o.PID)
		return append(out, 0x00, 0x01, 1, 2, 3, 1), true
	case kindConfiguration:
		return d.configuration(), number == 0
	case kindString:
		if number == 0 {
			return []byte{4, kindString, 0x09, 0x04}, true
		}
		if int(number) > 3 {
			return nil, false
		}
		text := []string{d.o.Maker, d.o.Product, d.o.Serial}[number-1]
		out := []byte{byte(2 + 2*len(text)), kindString}
		for _, c := range []byte(text) {
			out = append(out, c, 0)
		}
		return out, true
	case kindReport:
		if d.hid(index) {
			return d.o.Interfaces[index].Report, true
		}
	}
	return nil, false
}

func (d *Device) configuration() []byte {
	out := []byte{9, kindConfiguration, 0, 0, byte(len(d.o.Interfaces)), 1, 0, 0x80, 50}
	for n, i := range d.o.Interfaces {
		out = append(out, 9, kindInterface, byte(n), 0, byte(len(i.Endpoints)), i.Class, i.SubClass, i.Protocol, 0)
		if i.Class == classHID {
			out = append(out, 9, kindHID, 0x11, 0x01, 0, 1, kindReport)
			out = binary.LittleEndian.AppendUint16(out, uint16(len(i.Report)))
		}
		out = append(out, i.Extra...)
		for _, e := range i.Endpoints {
			out = append(out, 7, kindEndpoint, e.Address, e.Type)
			out = binary.LittleEndian.AppendUint16(out, uint16(e.Packet))
			out = append(out, e.Interval)
		}
	}
	binary.LittleEndian.PutUint16(out[2:], uint16(len(out)))
	return out
}
