//go:build usb && cgo

package usbport

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/gousb"

	"tillbridge/drivers"
)

// Built reports whether this program can use USB.
const Built = true

// library makes a context; on a machine without USB that panics.
func library() (c *gousb.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fmt.Errorf("%w: %v", ErrNoSubsystem, r)
		}
	}()
	return gousb.NewContext(), nil
}

// interfaces lists what a device descriptor offers.
func interfaces(d *gousb.DeviceDesc) (out []seen, settings []gousb.InterfaceSetting, configs []int) {
	for number, c := range d.Configs {
		for _, i := range c.Interfaces {
			if len(i.AltSettings) == 0 {
				continue
			}
			a := i.AltSettings[0]
			s := seen{bus: d.Bus, path: d.Path, vid: uint16(d.Vendor), pid: uint16(d.Product), number: i.Number, address: d.Address, class: byte(a.Class), sub: byte(a.SubClass)}
			want := gousb.TransferTypeBulk
			if s.class == classHID {
				want = gousb.TransferTypeInterrupt
			}
			for _, e := range a.Endpoints {
				if e.TransferType == want {
					s.in = s.in || e.Direction == gousb.EndpointDirectionIn
					s.out = s.out || e.Direction == gousb.EndpointDirectionOut
				}
			}
			out, settings, configs = append(out, s), append(settings, a), append(configs, number)
		}
	}
	return out, settings, configs
}

// find opens the device of a port.
func (b *Bus) find(c *gousb.Context, p drivers.Port) (dev *gousb.Device, setting gousb.InterfaceSetting, config int, err error) {
	taken := false
	list, err := c.OpenDevices(func(d *gousb.DeviceDesc) bool {
		found, settings, configs := interfaces(d)
		for i, s := range found {
			if q, ok := s.port(); ok && !taken && q.Path == p.Path && q.VID == p.VID && q.PID == p.PID {
				setting, config, taken = settings[i], configs[i], true
				return true
			}
		}
		return false
	})
	if len(list) == 0 {
		if err == nil || errors.Is(err, gousb.ErrorNotFound) {
			err = drivers.ErrNoPort
		}
		return nil, setting, 0, translate(err)
	}
	return list[0], setting, config, nil
}

// Open claims the interface of a port; a kernel driver is detached meanwhile. A
// device that hangs in it is left to the system when ctx ends, and not opened
// again ([ErrStuck]) before it has let go.
func (b *Bus) Open(ctx context.Context, p drivers.Port) (drivers.Transport, error) {
	number, ok := interfaceOf(p)
	if !ok {
		return nil, drivers.ErrNoPort
	}
	u := &usb{}
	err := b.guarded(ctx, p, func() error {
		c, err := library()
		if err != nil {
			return err
		}
		u.c = c
		return u.open(b, &p, number)
	}, u.end)
	if err != nil {
		if errors.Is(err, ErrNoSubsystem) {
			return nil, err
		}
		return nil, &drivers.DeviceError{Op: "open", Device: p.Path, Err: err}
	}
	t := newTransport(p, number, u, b.o)
	t.left = func(closed <-chan struct{}) { b.leave(p.Path, closed) }
	return t, nil
}

// guarded runs f, which may hang, and undo where f failed or came too late.
func (b *Bus) guarded(ctx context.Context, p drivers.Port, f func() error, undo func()) error {
	if b.held(p.Path) {
		return ErrStuck
	}
	done, late := make(chan struct{}), make(chan struct{})
	var err error
	_, _, back := abandon(ctx, b.o.Abandon, func() (int, error) {
		defer close(done)
		if err = f(); err != nil {
			undo()
		}
		return 0, nil
	})
	if back {
		return err
	}
	go func() {
		defer close(late)
		<-done
		if err == nil {
			undo()
		}
	}()
	b.leave(p.Path, late)
	return fmt.Errorf("%w: %w", ErrStuck, ctx.Err())
}

// Reset resets the port of a device.
func (b *Bus) Reset(ctx context.Context, p drivers.Port) error {
	return b.guarded(ctx, p, func() error {
		c, err := library()
		if err != nil {
			return err
		}
		defer c.Close()
		dev, _, _, err := b.find(c, p)
		if err != nil {
			return err
		}
		defer dev.Close()
		return translate(dev.Reset())
	}, func() {})
}

// usb is an open interface of libusb.
type usb struct {
	c       *gousb.Context
	dev     *gousb.Device
	config  *gousb.Config
	iface   *gousb.Interface
	in      *gousb.InEndpoint
	event   *gousb.InEndpoint
	out     *gousb.OutEndpoint
	hid     bool
	number  uint16 // of the interface
	longest int    // report of HID, in bytes
}

// open opens the device of a port and claims its interface; it completes the
// port by what the device says.
func (u *usb) open(b *Bus, p *drivers.Port, number int) error {
	dev, setting, config, err := b.find(u.c, *p)
	if err != nil {
		return err
	}
	u.dev, u.hid, u.number = dev, setting.Class == classHID, uint16(number)
	dev.ControlTimeout = b.o.ControlTimeout
	// The configuration before the detaching: the library would take every
	// interface of the device from its driver, the keyboard beside the pad too.
	if u.config, err = dev.Config(config); err != nil {
		return translate(err)
	}
	if err := dev.SetAutoDetach(true); err != nil && !errors.Is(err, gousb.ErrorNotSupported) {
		return translate(err)
	}
	if u.iface, err = u.config.Interface(number, setting.Alternate); err != nil {
		return translate(err)
	}
	for _, e := range setting.Endpoints {
		in := e.Direction == gousb.EndpointDirectionIn
		main := gousb.TransferTypeBulk
		if u.hid {
			main = gousb.TransferTypeInterrupt
		}
		switch {
		case e.TransferType == main && in:
			u.in, err = u.iface.InEndpoint(e.Number)
		case e.TransferType == main:
			u.out, err = u.iface.OutEndpoint(e.Number)
		case e.TransferType == gousb.TransferTypeInterrupt && in:
			u.event, err = u.iface.InEndpoint(e.Number)
		}
		if err != nil {
			return translate(err)
		}
	}
	if u.in == nil || u.out == nil && !u.hid {
		return errors.New("usbport: the interface lacks an endpoint")
	}
	if u.hid {
		buf := make([]byte, 4096)
		if n, err := dev.Control(0x81, 6, 0x22<<8, u.number, buf); err == nil {
			u.longest = longestInput(buf[:n])
		}
		if u.longest == 0 {
			u.longest = u.packet() // a report in one packet, as most have
		}
	}
	if s, err := dev.SerialNumber(); err == nil {
		p.Serial = s
	}
	if s, err := dev.Product(); err == nil {
		p.Product = s
	}
	return nil
}

func (u *usb) read(ctx context.Context, p []byte) (int, error) {
	n, err := u.in.ReadContext(ctx, p)
	return n, u.unhalt(u.in.Desc, err)
}

func (u *usb) readEvent(ctx context.Context, p []byte) (int, error) {
	n, err := u.event.ReadContext(ctx, p)
	return n, u.unhalt(u.event.Desc, err)
}

func (u *usb) write(ctx context.Context, p []byte) (int, error) {
	if u.out == nil { // SET_REPORT, output, with the report's number
		id := uint16(0)
		if len(p) > 0 {
			id = uint16(p[0])
		}
		n, err := u.dev.Control(0x21, 9, 2<<8|id, u.number, p)
		return n, translate(err)
	}
	n, err := u.out.WriteContext(ctx, p)
	return n, u.unhalt(u.out.Desc, err)
}

// unhalt clears an endpoint that stalled (USB 2.0 section 9.4.5): until then
// every transfer on it stalls. The library offers no call for it. The message
// that was under way is lost; that is the protocol's affair.
func (u *usb) unhalt(e gousb.EndpointDesc, err error) error {
	if err != nil && is(err, gousb.TransferStall) {
		_, _ = u.dev.Control(0x02, 1, 0, uint16(e.Address), nil)
		return fmt.Errorf("usbport: the device refused the transfer: %w", err)
	}
	return translate(err)
}

func (u *usb) control(requestType, request byte, value, index uint16, data []byte) (int, error) {
	n, err := u.dev.Control(requestType, request, value, index, data)
	return n, translate(err)
}

func (u *usb) packet() int { return u.in.Desc.MaxPacketSize }

func (u *usb) message() int { return u.longest }

func (u *usb) eventSize() int {
	if u.event == nil {
		return 0
	}
	return roundUp(64, u.event.Desc.MaxPacketSize)
}

func (u *usb) release() {
	if u.iface != nil {
		u.iface.Close()
		u.iface = nil
	}
}

// end closes an interface that was not, or not wholly, opened.
func (u *usb) end() {
	u.release()
	_ = u.close()
}

// close closes in order; the library hangs or panics otherwise.
func (u *usb) close() error {
	var all []error
	if u.config != nil {
		all = append(all, u.config.Close())
	}
	if u.dev != nil {
		all = append(all, u.dev.Close())
	}
	if u.c != nil {
		all = append(all, u.c.Close())
	}
	return errors.Join(all...)
}

// is compares an error of the library also where it gave only the text on.
func is(err error, code error) bool {
	return errors.Is(err, code) || strings.HasSuffix(err.Error(), code.Error())
}

// translate turns the library's errors into the seam's.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case is(err, gousb.ErrorNoDevice), is(err, gousb.TransferNoDevice):
		return fmt.Errorf("%w: %w", drivers.ErrUnplugged, err)
	case is(err, gousb.ErrorBusy):
		return fmt.Errorf("%w: %w", drivers.ErrPortHeld, err)
	case is(err, gousb.ErrorAccess):
		return fmt.Errorf("usbport: no permission for the device: install the udev rules, then plug it again: %w", err)
	}
	return err
}
