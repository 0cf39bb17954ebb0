package neo2

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tillbridge/drivers"
)

// vendor is the USB vendor id of ID TECH.
const vendor = 0x0ACD

// models by USB product id.
var models = map[uint16]string{0x3530: "VP3300"}

// Errors of opening.
var (
	// ErrEncryption: the reader says that it does not encrypt, also after it
	// was told to.
	ErrEncryption error = &fault{"device.encryption_off", "neo2: the reader's encryption is off and cannot be turned on: have its SRED keys and settings loaded"}
	// ErrKeys: the reader has no key for card data, or used it up.
	ErrKeys error = &fault{"device.no_key", "neo2: the reader has no usable DUKPT key for card data: have one injected"}
	// ErrTampered: the reader's own tamper detection acted.
	ErrTampered error = &fault{"device.tampered", "neo2: the reader says that it was tampered with: take it out of service and call its maker"}
	// ErrOther: another reader than the one that was opened.
	ErrOther = errors.New("neo2: another reader answers on this port; it has to be opened anew")
)

// fault is an error with a stable code.
type fault struct{ code, text string }

func (f *fault) Error() string { return f.text }

// Code is the dotted code of `tillbridge explain`.
func (f *fault) Code() string { return f.code }

// Driver opens NEO 2 readers. Make it with [New].
type Driver struct{}

var (
	_ drivers.Driver    = Driver{}
	_ drivers.Redactor  = Driver{}
	_ drivers.Describer = Driver{}
)

// New returns the driver.
func New() Driver { return Driver{} }

// Name is "neo2".
func (Driver) Name() string { return "neo2" }

// Match takes HID ports of ID TECH, serial ports, and TCP ports that the
// configuration names.
func (Driver) Match(p drivers.Port) drivers.Match {
	switch {
	case p.VID == vendor && (p.Kind == drivers.KindHID || p.Kind == drivers.KindSerial):
		return drivers.Match{OK: true, Priority: 30, Cost: drivers.CostSafe, Why: "a port of an ID TECH reader"}
	case p.Kind == drivers.KindHID && p.Explicit:
		return drivers.Match{OK: true, Priority: 5, Cost: drivers.CostInvasive, Why: "HID port named by the configuration"}
	case p.Kind == drivers.KindSerial && p.VID == 0:
		return drivers.Match{OK: true, Priority: 5, Cost: drivers.CostSafe, Why: "serial port: a ping asks whether a NEO 2 reader is there"}
	case p.Kind == drivers.KindSerial:
		return drivers.Match{OK: true, Priority: 4, Cost: drivers.CostSafe, Why: "serial port of another maker: a ping asks whether a NEO 2 reader is there"}
	case p.Kind == drivers.KindTCP && p.Explicit:
		return drivers.Match{OK: true, Priority: 5, Cost: drivers.CostSafe, Why: "address named by the configuration"}
	}
	return drivers.Match{Why: "NEO 2 readers stand on HID and serial ports"}
}

// device is an open reader.
type device struct {
	set  Settings
	log  *slog.Logger
	info drivers.Info
	l    *link

	busy   chan struct{} // one token: who holds it uses the link
	closed atomic.Bool
	once   sync.Once
	err    error // of Close

	id      drivers.Identity
	session *session
	ksn     map[string]uint32 // last counter of each key for card data
}

var (
	_ drivers.Device      = (*device)(nil)
	_ drivers.CardSession = (*device)(nil)
)

// Open finds the line's speed with pings, identifies the reader and sees that
// it encrypts.
func (d Driver) Open(ctx context.Context, t drivers.Transport, c drivers.Config) (drivers.Device, error) {
	port := t.Info()
	fail := func(err error) (drivers.Device, error) {
		t.Close()
		return nil, &drivers.DeviceError{Op: "open", Device: port.Path, Err: err}
	}
	set, err := ParseSettings(c.Params)
	if err != nil {
		return fail(err)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	reports := port.Kind == drivers.KindHID
	if set.Reports != nil {
		reports = *set.Reports
	}
	dev := &device{set: set, log: log, l: newLink(t, log, reports), busy: make(chan struct{}, 1), ksn: map[string]uint32{},
		info: drivers.Info{Protocol: d.Name(), Port: port}}
	if err := dev.meet(ctx, t); err != nil {
		return fail(err)
	}
	if dev.id, err = dev.identify(ctx); err != nil {
		return fail(err)
	}
	if err := dev.secure(ctx); err != nil {
		return fail(err)
	}
	return dev, nil
}

// speeds are tried where none is configured.
var speeds = []int{115200, 57600, 38400, 19200, 9600}

// meet finds the reader on the line.
func (d *device) meet(ctx context.Context, t drivers.Transport) error {
	ls, ok := t.(drivers.LineSetter)
	list := speeds
	switch {
	case !ok || d.l.reports:
		list = []int{0}
	case d.set.Baud != 0:
		list = []int{d.set.Baud}
	}
	var err error
	for _, baud := range list {
		if ok && baud != 0 {
			if err = ls.SetLine(drivers.LineMode{Baud: baud}); err != nil {
				return err
			}
		}
		n := tries
		if len(list) > 1 {
			n = 1
		}
		for range n {
			l := d.l
			l.dirty = true
			if err = l.resync(ctx, 1); err == nil {
				err = d.ping(ctx)
			}
			if err == nil {
				return nil
			}
			if ctx.Err() != nil || errors.Is(err, drivers.ErrUnplugged) || errors.Is(err, os.ErrClosed) {
				return err
			}
		}
	}
	return err
}

func (d *device) ping(ctx context.Context) error {
	f, err := d.l.exchange(ctx, opPing, nil, answerWait, 0, nil)
	if err != nil {
		return err
	}
	if s := Status(f.Code); s != OK {
		return s
	}
	return nil
}

// ask exchanges a short command.
func (d *device) ask(ctx context.Context, o op, data []byte) (Frame, error) {
	return d.l.exchange(ctx, o, data, answerWait, 0, nil)
}

// begin takes the link for one operation. Another one that holds it makes it
// drivers.ErrBusy.
func (d *device) begin(op string) (unlock func(), err error) {
	if d.closed.Load() {
		return nil, d.fail(op, os.ErrClosed)
	}
	select {
	case d.busy <- struct{}{}:
	default:
		return nil, d.fail(op, drivers.ErrBusy)
	}
	unlock = func() { <-d.busy }
	if d.closed.Load() {
		unlock()
		return nil, d.fail(op, os.ErrClosed)
	}
	return unlock, nil
}

// fail wraps an error with operation, port and the reader's own code.
func (d *device) fail(op string, err error) error {
	if d.closed.Load() && !errors.Is(err, drivers.ErrUnplugged) {
		err = os.ErrClosed
	}
	e := &drivers.DeviceError{Op: op, Device: d.info.Port.Path, Err: err}
	if s, ok := errors.AsType[Status](err); ok {
		e.Raw = fmt.Sprintf("%02X", byte(s))
	}
	if r, ok := errors.AsType[Result](err); ok {
		e.Raw = fmt.Sprintf("%04X", uint16(r))
	}
	if f, ok := errors.AsType[Failure](err); ok {
		e.Raw = fmt.Sprintf("FFEE1F %02X", byte(f))
	}
	if inner, ok := errors.AsType[*drivers.DeviceError](err); ok {
		e.Op, e.Raw, e.Err = inner.Op, inner.Raw, inner.Err
	}
	return e
}

// Info is the port that the reader was opened on.
func (d *device) Info() drivers.Info { return d.info }

// Identify asks the reader who it is.
func (d *device) Identify(ctx context.Context) (drivers.Identity, error) {
	unlock, err := d.begin(opUID.name)
	if err != nil {
		return drivers.Identity{}, err
	}
	defer unlock()
	id, err := d.identify(ctx)
	if err != nil {
		return drivers.Identity{}, d.fail(opUID.name, err)
	}
	if id.Serial != d.id.Serial {
		return drivers.Identity{}, d.fail(opUID.name, ErrOther)
	}
	d.id = id
	return id, nil
}

// identify asks for the firmware and the unique number of the controller,
// which serves as serial number. A reader that has no such command is known by
// its USB serial number.
func (d *device) identify(ctx context.Context) (drivers.Identity, error) {
	id := drivers.Identity{Vendor: "ID TECH", Model: models[d.info.Port.PID], Serial: d.info.Port.Serial}
	f, err := d.ask(ctx, opFirmware, nil)
	switch s := Status(f.Code); {
	case err != nil:
		return id, err
	case s == OK:
		id.Firmware = clean(f.Data)
	case !s.unsupported():
		return id, s
	}
	if id.Model == "" {
		if name, _, _ := strings.Cut(id.Firmware, " "); strings.HasPrefix(name, "VP") {
			id.Model = name
		}
	}
	if id.Serial, err = d.number(ctx); err != nil {
		return id, err
	}
	if id.Serial == "" && id.Firmware == "" {
		return id, fmt.Errorf("%w: it says neither firmware nor number", ErrMalformed)
	}
	return id, nil
}

// number asks for the unique number, or takes that of USB.
func (d *device) number(ctx context.Context) (string, error) {
	f, err := d.ask(ctx, opUID, nil)
	switch s := Status(f.Code); {
	case err != nil:
		return "", err
	case s == OK && len(f.Data) > 0:
		return strings.ToUpper(hex.EncodeToString(f.Data)), nil
	case s != OK && !s.unsupported():
		return "", s
	}
	return d.info.Port.Serial, nil
}

// same asks whether this is still the reader that was opened: a serial cable
// does not tell when its far end is put on another one, whose ciphertext would
// then be booked under the number of this one.
func (d *device) same(ctx context.Context) error {
	switch number, err := d.number(ctx); {
	case err != nil:
		return err
	case number != d.id.Serial:
		return ErrOther
	}
	return nil
}

// secure sees that encryption is on and that there is a key. A reader that
// cannot be asked is judged by the attribution of each answer alone.
func (d *device) secure(ctx context.Context) error {
	f, err := d.ask(ctx, opKeys, nil)
	if err != nil {
		return err
	}
	switch s := Status(f.Code); {
	case s == Tampered:
		return ErrTampered
	case s == OK && len(f.Data) > 0 && (f.Data[0] == 0x00 || f.Data[0] == 0xFF):
		return ErrKeys
	case s != OK:
		d.log.Debug("the reader cannot be asked for its keys", "status", s.Error())
	}
	for range 2 {
		f, err := d.ask(ctx, opGetSRED, nil)
		if err != nil {
			return err
		}
		if Status(f.Code) != OK || len(f.Data) == 0 {
			d.log.Debug("the reader cannot be asked for its encryption: each answer is judged by its attribution")
			return nil
		}
		if f.Data[0]&sredOn == sredOn {
			return nil
		}
		if f, err = d.ask(ctx, opSetSRED, []byte{sredOn}); err != nil {
			return err
		}
		if s := Status(f.Code); s != OK {
			return fmt.Errorf("%w (%w)", ErrEncryption, s)
		}
	}
	return ErrEncryption
}

// Health pings the reader and asks for its number.
func (d *device) Health(ctx context.Context) (drivers.Health, error) {
	unlock, err := d.begin(opPing.name)
	if err != nil {
		return drivers.Health{}, err
	}
	defer unlock()
	if d.l.dirty {
		d.session = nil // what was under way is over
	}
	if err := d.ping(ctx); err != nil {
		return drivers.Health{Detail: "the reader does not answer", Checked: time.Now()}, d.fail(opPing.name, err)
	}
	if err := d.same(ctx); err != nil {
		return drivers.Health{Detail: "the reader does not say who it is, or is another one", Checked: time.Now()}, d.fail(opUID.name, err)
	}
	return drivers.Health{OK: true, Detail: "the reader answers", Checked: time.Now()}, nil
}

// closeTime bounds the last cancel.
const closeTime = time.Second

// Close cancels a payment that is under way and closes the port. An operation
// that is running ends with an error first.
func (d *device) Close() error {
	d.once.Do(func() {
		d.closed.Store(true)
		select {
		case d.busy <- struct{}{}:
			if d.session != nil {
				ctx, cancel := context.WithTimeout(context.Background(), closeTime)
				d.l.resync(ctx, 1) // closing goes on without it
				cancel()
			}
			d.err = d.l.t.Close()
		default:
			d.err = d.l.t.Close() // ends the operation that holds the link
			d.busy <- struct{}{}
		}
	})
	return d.err
}
