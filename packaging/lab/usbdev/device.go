package usbdev

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// Endpoint of an interface. Address has bit 7 set for IN; Type is 2 for bulk and
// 3 for interrupt; Packet is the longest packet in bytes, Interval its polling
// in milliseconds.
type Endpoint struct {
	Address, Type byte
	Packet        int
	Interval      byte
}

// Interface of a device.
type Interface struct {
	Class, SubClass, Protocol byte
	Endpoints                 []Endpoint
	// Extra are class descriptors that stand behind the interface's own.
	Extra []byte
	// Report is the HID report descriptor of an interface of class 3.
	Report []byte
}

// Options describe a device.
type Options struct {
	VID, PID               uint16
	Maker, Product, Serial string // ASCII
	Interfaces             []Interface
	// Out gets what the host wrote to an endpoint, and, under endpoint 0, what
	// it wrote with SET_REPORT. It is called by the device's own goroutine and
	// must not block.
	Out func(endpoint byte, data []byte)
	// Control answers class and vendor requests on the control endpoint that the
	// device does not know by itself. ok=false is a stall; so is a nil function.
	Control func(setup [8]byte, data []byte) (reply []byte, ok bool)
}

// Device is a USB device. It is safe for concurrent use. It outlives its
// connections: each Serve is one plug.
type Device struct {
	o Options

	mu      sync.Mutex
	conn    io.Writer
	reads   []urb             // IN transfers that wait, oldest first
	packets map[byte][][]byte // to be sent, by endpoint number
	stalls  map[byte]int      // transfers that will stall, by address
	halted  map[byte]bool     // by address
	deaf    bool
	mute    bool

	unlinks, clears int
}

// New makes a device.
func New(o Options) *Device {
	return &Device{o: o, packets: map[byte][][]byte{}, stalls: map[byte]int{}, halted: map[byte]bool{}}
}

// Serve answers transfers until conn ends or the host says something that is no
// URB. It closes conn. One Serve runs at a time.
func (d *Device) Serve(conn io.ReadWriteCloser) error {
	d.mu.Lock()
	d.conn, d.reads = conn, nil
	clear(d.halted)
	d.mu.Unlock()
	defer func() {
		conn.Close()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conn, d.reads = nil, nil
		clear(d.packets)
	}()
	for {
		u, err := readURB(conn)
		if err != nil {
			if errors.Is(err, errURB) {
				return err
			}
			return nil
		}
		if out := d.take(u); out != nil {
			out()
		}
	}
}

// take begins one transfer, and returns what is left to do without the lock.
func (d *Device) take(u urb) (after func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	address := u.endpoint
	if u.in {
		address |= 0x80
	}
	switch {
	case u.command == cmdUnlink:
		d.unlinks++
		if d.deaf {
			return nil
		}
		status := statusOK // it was over already
		if i := slices.IndexFunc(d.reads, func(r urb) bool { return r.seq == u.victim }); i >= 0 {
			d.reads, status = slices.Delete(d.reads, i, i+1), statusReset
		}
		d.write(unlinked(u, status))
	case u.endpoint == 0:
		return d.control(u)
	case d.mute:
		d.reads = append(d.reads, u) // it can be unlinked and is never answered
	case d.stall(address):
		d.write(answer(u, statusPipe, nil, 0))
	case u.in:
		d.reads = append(d.reads, u)
		d.fill(u.endpoint)
	default:
		d.write(answer(u, statusOK, nil, len(u.data)))
		if d.o.Out != nil {
			return func() { d.o.Out(u.endpoint, u.data) }
		}
	}
	return nil
}

// stall reports that a transfer stalls.
func (d *Device) stall(address byte) bool {
	if d.stalls[address] > 0 {
		d.stalls[address]--
		d.halted[address] = true
	}
	return d.halted[address]
}

func (d *Device) write(b []byte) {
	if d.conn != nil {
		_, _ = d.conn.Write(b) // a lost connection is seen by Serve
	}
}

// packet is the packet size of an IN endpoint.
func (d *Device) packet(number byte) int {
	for _, i := range d.o.Interfaces {
		for _, e := range i.Endpoints {
			if e.Address == number|0x80 {
				return e.Packet
			}
		}
	}
	return 8
}

// Send queues data for the host on an IN endpoint (number without bit 7), cut
// into packets. No data are one empty packet.
func (d *Device) Send(number byte, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size := d.packet(number)
	for first := true; first || len(data) > 0; first = false {
		n := min(size, len(data))
		d.packets[number] = append(d.packets[number], append([]byte(nil), data[:n]...))
		data = data[n:]
	}
	d.fill(number)
}

// fill gives queued packets to the transfers that wait: the oldest takes packets
// until its buffer is full or one is short.
func (d *Device) fill(number byte) {
	size := d.packet(number)
	for {
		i := slices.IndexFunc(d.reads, func(u urb) bool { return u.in && u.endpoint == number })
		if i < 0 {
			return
		}
		u := d.reads[i]
		if d.stall(number | 0x80) {
			d.reads = slices.Delete(d.reads, i, i+1)
			d.write(answer(u, statusPipe, nil, 0))
			continue
		}
		queue := d.packets[number]
		if len(queue) == 0 {
			return
		}
		p := queue[0]
		d.packets[number] = queue[1:]
		status := statusOK
		if len(u.data)+len(p) > u.length {
			p, status = p[:u.length-len(u.data)], statusOverflow
		}
		d.reads[i].data = append(u.data, p...)
		if n := len(d.reads[i].data); status != statusOK || len(p) < size || n == u.length {
			d.write(answer(u, status, d.reads[i].data, 0))
			d.reads = slices.Delete(d.reads, i, i+1)
		}
	}
}

// Stall makes the next n transfers of an endpoint (address with bit 7 for IN)
// stall; one that waits is the first. The endpoint is then halted.
func (d *Device) Stall(address byte, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalls[address] = n
	if address&0x80 != 0 {
		d.fill(address & 0x7F)
	}
}

// Deaf makes the device ignore requests to take a transfer back: what was
// cancelled never ends.
func (d *Device) Deaf(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = on
}

// Mute makes the device end no transfer but those of the control endpoint.
func (d *Device) Mute(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mute = on
}

// Unlinks is how many transfers the host took back, Clears how many halted
// endpoints it cleared.
func (d *Device) Unlinks() int { d.mu.Lock(); defer d.mu.Unlock(); return d.unlinks }

// Clears is how often the host cleared a halted endpoint.
func (d *Device) Clears() int { d.mu.Lock(); defer d.mu.Unlock(); return d.clears }
