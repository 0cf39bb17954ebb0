package abecs

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
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

// Driver opens ABECS pads. Make it with [New]; one serves any number of pads.
type Driver struct {
	once sync.Once
	key  *rsa.PrivateKey
	err  error
}

var _ drivers.Driver = (*Driver)(nil)

// New returns the driver.
func New() *Driver { return &Driver{} }

// Name is "abecs".
func (*Driver) Name() string { return "abecs" }

// Match takes serial ports, and TCP ports that the configuration names. The
// probe begins with CAN, which devices of other kinds ignore, and goes on only
// after EOT.
func (*Driver) Match(p drivers.Port) drivers.Match {
	switch {
	case p.Kind == drivers.KindSerial && known(p.VID):
		return drivers.Match{OK: true, Priority: 20, Cost: drivers.CostSafe, Why: "serial port of a maker of ABECS pads"}
	case p.Kind == drivers.KindSerial:
		return drivers.Match{OK: true, Priority: 10, Cost: drivers.CostSafe, Why: "serial port: CAN asks whether an ABECS pad is there"}
	case p.Kind == drivers.KindTCP && p.Explicit:
		return drivers.Match{OK: true, Priority: 10, Cost: drivers.CostSafe, Why: "address named by the configuration"}
	}
	return drivers.Match{Why: "ABECS pads stand on serial ports"}
}

// rsaKey is the key pair for the secure channels of this process. Each channel
// has a session key of its own, which the pad chooses.
func (d *Driver) rsaKey() (*rsa.PrivateKey, error) {
	d.once.Do(func() { d.key, d.err = rsa.GenerateKey(rand.Reader, 2048) })
	return d.key, d.err
}

// device is an open pad.
type device struct {
	set  Settings
	key  *rsa.PrivateKey
	log  *slog.Logger
	info drivers.Info
	l    *link

	busy   chan struct{} // one token: who holds it uses the link
	closed atomic.Bool
	once   sync.Once
	err    error // of Close

	id      drivers.Identity
	session *session // the payment under way, or nil
}

var (
	_ drivers.Device       = (*device)(nil)
	_ drivers.CardSession  = (*device)(nil)
	_ drivers.SecureReader = (*device)(nil)
	_ drivers.Display      = (*device)(nil)
	_ drivers.Input        = (*device)(nil)
	_ drivers.TableLoader  = (*device)(nil)
	_ drivers.CardRemover  = (*device)(nil)
)

// Open begins with CAN, opens the secure channel and identifies the pad.
func (d *Driver) Open(ctx context.Context, t drivers.Transport, c drivers.Config) (drivers.Device, error) {
	port := t.Info()
	fail := func(err error) (drivers.Device, error) {
		t.Close()
		return nil, &drivers.DeviceError{Op: "open", Device: port.Path, Err: err}
	}
	set, err := ParseSettings(c.Params)
	if err != nil {
		return fail(err)
	}
	key, err := d.rsaKey()
	if err != nil {
		return fail(fmt.Errorf("make the key of the secure channel: %w", err))
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if ls, ok := t.(drivers.LineSetter); ok {
		if err := ls.SetLine(drivers.LineMode{Baud: set.Baud}); err != nil {
			return fail(err)
		}
	}
	dev := &device{set: set, key: key, log: log, l: newLink(t, log), busy: make(chan struct{}, 1),
		info: drivers.Info{Protocol: d.Name(), Port: port}}
	if err = dev.connect(ctx); err != nil && dev.l.heard && ctx.Err() == nil && lineTrouble(err) {
		// A pad is there and the line spoilt a packet of 1 kB: once more.
		log.Debug("open failed; once more", "device", port.Path, "err", err)
		dev.l.dirty = true
		err = dev.connect(ctx)
	}
	if err != nil {
		return fail(err)
	}
	if err := dev.updateTables(ctx); err != nil {
		return fail(err)
	}
	return dev, nil
}

// connect opens the channel and asks who is there. It may be repeated: nothing
// that it sends moves money.
func (d *device) connect(ctx context.Context) (err error) {
	if err = d.openChannel(ctx); err == nil {
		d.id, err = d.identify(ctx)
	}
	return err
}

// lineTrouble are the errors that another attempt may not meet.
func lineTrouble(err error) bool {
	for _, e := range []error{ErrNoAnswer, ErrNoise, ErrNAK, ErrChannel, ErrMalformed, NoChannel, ChannelError} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// openChannel opens the pad. The caller has the link.
func (d *device) openChannel(ctx context.Context) error {
	packet, err := AppendCommand(nil, "OPN", openBlock(&d.key.PublicKey))
	if err != nil {
		return err
	}
	d.l.channel = nil // OPN itself is clear
	r, err := d.l.exchange(ctx, packet, false, nil)
	if err != nil {
		return err
	}
	if r.Status != OK {
		return r.Status
	}
	if d.l.channel, err = openedChannel(r, d.key); err != nil {
		d.l.dirty = true
		return err
	}
	d.l.lost = false
	return nil
}

// ErrOther is another pad than the one that was opened.
var ErrOther = errors.New("abecs: another pad answers on this port; it has to be opened anew")

// begin takes the link for one operation. Another one that holds it makes it
// drivers.ErrBusy.
func (d *device) begin(ctx context.Context, op string) (unlock func(), err error) {
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
	if d.l.lost {
		if err := d.reopen(ctx); err != nil {
			unlock()
			return nil, d.fail(op, err)
		}
	}
	return unlock, nil
}

// reopen opens the channel again after the pad lost it. A payment that was
// under way is over.
func (d *device) reopen(ctx context.Context) error {
	d.session = nil
	d.l.dirty = true
	if err := d.openChannel(ctx); err != nil {
		return err
	}
	id, err := d.identify(ctx)
	if err != nil {
		d.l.lost = true
		return err
	}
	if id.Serial != d.id.Serial {
		d.l.lost = true
		return ErrOther
	}
	d.id = id
	return nil
}

// send exchanges a command that passed the guard. The caller has the link. A
// status other than 000 is an error.
func (d *device) send(ctx context.Context, packet []byte, blocking bool) (Response, error) {
	op := Name(packet[:3]).String()
	if err := CheckCommand(packet); err != nil {
		return Response{}, d.fail(op, err)
	}
	if d.l.channel == nil && op != "OPN" {
		return Response{}, d.fail(op, ErrChannel)
	}
	r, err := d.l.exchange(ctx, packet, blocking, func(text string) {
		d.log.Debug("pad shows", "device", d.info.Port.Path, "command", op)
	})
	if err == nil && r.Status != OK {
		err = r.Status
	}
	if err != nil {
		return r, d.fail(op, err)
	}
	return r, nil
}

// params builds and sends a command with parameters.
func (d *device) params(ctx context.Context, name string, blocking bool, p ...Param) (Response, error) {
	packet, err := AppendParams(nil, name, p...)
	if err != nil {
		return Response{}, d.fail(name, err)
	}
	return d.send(ctx, packet, blocking)
}

// fail wraps an error with operation, port and the pad's own code.
func (d *device) fail(op string, err error) error {
	if d.closed.Load() && !errors.Is(err, drivers.ErrUnplugged) {
		err = os.ErrClosed
	}
	e := &drivers.DeviceError{Op: op, Device: d.info.Port.Path, Err: err}
	if s, ok := errors.AsType[Status](err); ok {
		e.Raw = s.digits()
	}
	if inner, ok := errors.AsType[*drivers.DeviceError](err); ok {
		e.Raw, e.Err = inner.Raw, inner.Err
	}
	return e
}

// Info is the port that the pad was opened on.
func (d *device) Info() drivers.Info { return d.info }

// Identify asks the pad who it is.
func (d *device) Identify(ctx context.Context) (drivers.Identity, error) {
	unlock, err := d.begin(ctx, "GIX")
	if err != nil {
		return drivers.Identity{}, err
	}
	defer unlock()
	id, err := d.identify(ctx)
	if err != nil {
		return drivers.Identity{}, d.fail("GIX", err)
	}
	if id.Serial != d.id.Serial {
		return drivers.Identity{}, d.fail("GIX", ErrOther)
	}
	d.id = id
	return id, nil
}

// identify asks for identity and keys. The caller has the link.
func (d *device) identify(ctx context.Context) (drivers.Identity, error) {
	ids := []ID{Serial, PartNumber, Model, Maker, OSVersion, SpecVersion, Kernel, KSNPIN(d.set.PINSlot), KSNData(d.set.DataSlot)}
	r, err := d.params(ctx, "GIX", false, Param{IDList, appendIDs(nil, ids...)})
	if err != nil {
		return drivers.Identity{}, err
	}
	id := drivers.Identity{Vendor: r.text(Maker), Model: r.text(Model), Serial: r.text(Serial),
		Firmware: r.text(OSVersion), Kernel: r.text(Kernel), Keys: map[string]string{}}
	if id.Model, _, _ = strings.Cut(id.Model, ";"); id.Model == "" {
		id.Model = r.text(PartNumber)
	}
	if id.Serial == "" {
		return drivers.Identity{}, fmt.Errorf("%w: the pad has no serial number", ErrMalformed)
	}
	for name, key := range map[string]ID{
		fmt.Sprintf("pin %02d", d.set.PINSlot):   KSNPIN(d.set.PINSlot),
		fmt.Sprintf("data %02d", d.set.DataSlot): KSNData(d.set.DataSlot),
	} {
		if v, ok := r.Find(key); ok && len(v) == 10 {
			// The last 21 bits count transactions.
			id.Keys[name] = fmt.Sprintf("%X%02X", v[:7], v[7]&0xE0)
		}
	}
	return id, nil
}

func appendIDs(dst []byte, ids ...ID) []byte {
	for _, id := range ids {
		dst = append(dst, byte(id>>8), byte(id))
	}
	return dst
}

// Health asks for the serial number and compares it.
func (d *device) Health(ctx context.Context) (drivers.Health, error) {
	unlock, err := d.begin(ctx, "GIX")
	if err != nil {
		return drivers.Health{}, err
	}
	defer unlock()
	r, err := d.params(ctx, "GIX", false, Param{IDList, appendIDs(nil, Serial)})
	if err != nil {
		return drivers.Health{Detail: "the pad does not answer", Checked: time.Now()}, err
	}
	if got := r.text(Serial); got != d.id.Serial {
		d.l.lost = true
		return drivers.Health{Detail: "another pad answers", Checked: time.Now()}, d.fail("GIX", ErrOther)
	}
	return drivers.Health{OK: true, Detail: "the pad answers", Checked: time.Now()}, nil
}

// closeTime bounds CLO.
const closeTime = time.Second

// Close shows the idle text, ends the channel and closes the port. An
// operation that is running ends with an error first.
func (d *device) Close() error {
	d.once.Do(func() {
		d.closed.Store(true)
		select {
		case d.busy <- struct{}{}:
			ctx, cancel := context.WithTimeout(context.Background(), closeTime)
			if d.l.channel != nil && !d.l.dirty {
				if packet, err := AppendCommand(nil, "CLO", s32(d.set.IdleText)); err == nil {
					d.l.exchange(ctx, packet, false, nil) // closing goes on without it
				}
			}
			cancel()
			d.err = d.l.t.Close()
		default:
			d.err = d.l.t.Close() // ends the operation that holds the link
			d.busy <- struct{}{}
		}
		d.l.channel = nil
	})
	return d.err
}
