package ccid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
)

// Driver opens CCID readers. The zero value is ready.
//
// Parameters ([drivers.Config].Params), needed only where the port has no
// control endpoint to read the descriptor from: "level" short, extended or
// tpdu, "message" the longest message in bytes (271), "protocols" 0, 1 or 01
// (01).
type Driver struct{}

var (
	_ drivers.Driver      = Driver{}
	_ drivers.Redactor    = Driver{}
	_ drivers.Describer   = Driver{}
	_ drivers.APDUChannel = (*Reader)(nil)
	_ emv.Transceiver     = (*Reader)(nil)
)

// Name returns "ccid".
func (Driver) Name() string { return "ccid" }

// Match takes USB interfaces of the class 0B, whatever maker and product.
func (Driver) Match(p drivers.Port) drivers.Match {
	switch {
	case p.Kind != drivers.KindUSB:
		return drivers.Match{Why: "chip card readers of the class CCID stand on USB"}
	case p.Class != 0x0B && !p.Explicit:
		return drivers.Match{Why: fmt.Sprintf("its interface class is %02X, a chip card reader has 0B", p.Class)}
	case p.Class != 0x0B:
		return drivers.Match{OK: true, Priority: 5, Cost: drivers.CostSafe, Why: "named in the configuration"}
	}
	return drivers.Match{OK: true, Priority: 50, Cost: drivers.CostNone, Why: "interface class 0B, a chip card reader"}
}

// Reader is an open reader and its first slot. Its methods run one after the
// other; one that finds another running returns drivers.ErrBusy. Only Close may
// be called at any time.
type Reader struct {
	port       drivers.Port
	log        *slog.Logger
	link       *link
	descriptor Descriptor
	level      Level

	use     sync.Mutex // held by the running method
	card    *card      // powered, or nil
	changed bool       // a notification came since the last look
	gone    bool       // the card that had power was taken out

	closing sync.Once
	closed  chan struct{}
	err     error // of closing the transport
}

// Open reads the descriptor and asks for the slot's state. Readers of the
// character level are refused.
func (Driver) Open(ctx context.Context, t drivers.Transport, c drivers.Config) (drivers.Device, error) {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Reader{port: t.Info(), log: log, closed: make(chan struct{})}
	r.link = &link{t: t, change: r.notified}
	if err := r.start(ctx, c.Params); err != nil {
		t.Close()
		return nil, r.fault("open", err)
	}
	return r, nil
}

// notified takes a notification of the slot. A card that was taken out is not
// the one that is there now, also where the reader gave that one power.
func (r *Reader) notified(present bool) {
	r.changed = true
	if !present && r.card != nil {
		r.card, r.gone = nil, true
	}
}

// ErrCharacterLevel says why a reader is refused.
var ErrCharacterLevel = errors.New("ccid: the reader exchanges single characters with the card, which cannot be timed over USB from here: use a reader of the TPDU or APDU level")

func (r *Reader) start(ctx context.Context, params map[string]string) error {
	r.descriptor = Descriptor{Protocols: 3, Voltages: 7, MaxIFSD: 254, MaxMessage: 271,
		Features: AutoParameters | AutoActivate | AutoVoltage | AutoClock | AutoBaud | AutoPPS}
	if c, ok := r.link.t.(Controller); ok {
		if err := r.describe(ctx, c); err != nil {
			return err
		}
	} else if params["level"] == "" {
		return errors.New("ccid: the port has no control endpoint to read the descriptor from: set the parameter level")
	}
	if err := r.configure(params); err != nil {
		return err
	}
	if r.level == LevelCharacter {
		return ErrCharacterLevel
	}
	size := min(int(r.descriptor.MaxMessage), MaxMessage)
	r.link.in = make([]byte, max(size, 512))
	r.link.lost = true // who had it before may have left an answer under way
	_, err := r.status(ctx)
	return err
}

// describe reads the configuration descriptor.
func (r *Reader) describe(ctx context.Context, c Controller) error {
	buf := make([]byte, 4096)
	n, err := c.Control(ctx, 0x80, 0x06, 0x0200, 0, buf)
	if err != nil {
		return fmt.Errorf("read the configuration descriptor: %w", err)
	}
	list, err := ParseConfiguration(buf[:n])
	if err != nil {
		return err
	}
	choice := list[0]
	if i, ok := r.link.t.(interface{ InterfaceNumber() int }); ok {
		at := slices.IndexFunc(list, func(one Interface) bool { return int(one.Number) == i.InterfaceNumber() })
		if at < 0 {
			return fmt.Errorf("%w: interface %d is no chip card reader", ErrMessage, i.InterfaceNumber())
		}
		choice = list[at]
	}
	r.link.control, r.link.iface = c, uint16(choice.Number)
	r.descriptor = choice.Descriptor
	return nil
}

// configure lets the parameters overrule the descriptor.
func (r *Reader) configure(params map[string]string) error {
	d := &r.descriptor
	for key, v := range params {
		switch key {
		case "level":
			mask, ok := map[string]uint32{"tpdu": 0x10000, "short": 0x20000, "extended": 0x40000}[v]
			if !ok {
				return fmt.Errorf("ccid: parameter level is short, extended or tpdu, not %q", v)
			}
			d.Features = d.Features&^0x70000 | mask
		case "message":
			n, err := strconv.Atoi(v)
			if err != nil || n < headerLen+5 || n > MaxMessage {
				return fmt.Errorf("ccid: parameter message is a number of bytes such as 271, not %q", v)
			}
			d.MaxMessage = uint32(n)
		case "protocols":
			bits, ok := map[string]uint32{"0": 1, "1": 2, "01": 3}[v]
			if !ok {
				return fmt.Errorf("ccid: parameter protocols is 0, 1 or 01, not %q", v)
			}
			d.Protocols = bits
		default:
			return fmt.Errorf("ccid: unknown parameter %q: level, message, protocols", key)
		}
	}
	if d.MaxMessage < headerLen+5 {
		d.MaxMessage = 271 // readers exist that leave the field empty
	}
	r.level = d.Level()
	return nil
}

// Info is the protocol and the port.
func (r *Reader) Info() drivers.Info { return drivers.Info{Protocol: "ccid", Port: r.port} }

// Descriptor is what the reader says of itself.
func (r *Reader) Descriptor() Descriptor { return r.descriptor }

// Level is how the reader exchanges bytes with the card.
func (r *Reader) Level() Level { return r.level }

// Identify asks for the slot's state and answers with what USB says of the
// reader: the class knows no other name.
func (r *Reader) Identify(ctx context.Context) (drivers.Identity, error) {
	release, err := r.enter()
	if err != nil {
		return drivers.Identity{}, err
	}
	defer release()
	if _, err := r.status(ctx); err != nil {
		return drivers.Identity{}, r.fault("identify", err)
	}
	id := drivers.Identity{Model: r.port.Product, Serial: r.port.Serial}
	if r.port.VID != 0 {
		id.Vendor = fmt.Sprintf("USB %04X:%04X", r.port.VID, r.port.PID)
	}
	if id.Model == "" {
		id.Model = fmt.Sprintf("chip card reader (%s)", r.level)
	}
	return id, nil
}

// Health asks for the slot's state.
func (r *Reader) Health(ctx context.Context) (drivers.Health, error) {
	release, err := r.enter()
	if err != nil {
		return drivers.Health{}, err
	}
	defer release()
	icc, err := r.status(ctx)
	if err != nil {
		return drivers.Health{}, r.fault("health", err)
	}
	return drivers.Health{OK: true, Detail: icc.String(), Checked: time.Now()}, nil
}

// status is GetSlotStatus.
func (r *Reader) status(ctx context.Context) (ICC, error) {
	r.changed = false
	var m Message
	var err error
	for range 3 { // it changes nothing and may be asked again
		m, err = r.link.exchange(ctx, Message{Type: GetSlotStatus}, SlotStatus, waitStatus)
		if !errors.Is(err, ErrNoAnswer) || ctx.Err() != nil {
			break
		}
	}
	// A failure that names the card's state is an answer too: an empty slot is
	// reported that way by many readers.
	if f, ok := errors.AsType[*failure](err); ok && f.code != 0xFB && f.code != 0xE0 {
		err = nil
	}
	if err != nil {
		return 0, err
	}
	if m.ICC() != Active {
		r.card = nil
	}
	return m.ICC(), nil
}

// pollEvery is how often WaitCard asks a reader that does not tell.
const pollEvery = 500 * time.Millisecond

// WaitCard returns when a card is present, or absent. It listens to the
// reader's notifications and asks twice a second beside.
func (r *Reader) WaitCard(ctx context.Context, present bool) error {
	release, err := r.enter()
	if err != nil {
		return err
	}
	defer release()
	for {
		icc, err := r.status(ctx)
		if err != nil {
			if ctx.Err() != nil && !errors.Is(err, drivers.ErrUnplugged) {
				err = fmt.Errorf("%w: %w", drivers.ErrTimeout, ctx.Err())
			}
			return r.fault("wait for a card", err)
		}
		if (icc == Active || icc == Inactive) == present {
			return nil
		}
		until := time.Now().Add(pollEvery)
		for range maxStrays {
			if r.changed {
				break
			}
			if _, err := r.link.read(ctx, until); err != nil {
				if ctx.Err() != nil {
					return r.fault("wait for a card", fmt.Errorf("%w: %w", drivers.ErrTimeout, ctx.Err()))
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					return r.fault("wait for a card", err)
				}
				break
			}
		}
		r.changed = false
	}
}

// enter takes the reader for one method.
func (r *Reader) enter() (release func(), err error) {
	select {
	case <-r.closed:
		return nil, r.fault("use", errClosed)
	default:
	}
	if !r.use.TryLock() {
		return nil, r.fault("use", drivers.ErrBusy)
	}
	return r.use.Unlock, nil
}

var errClosed = errors.New("ccid: the reader is closed")

// Close takes the power off the card, if nothing runs, and releases the port.
func (r *Reader) Close() error {
	r.closing.Do(func() {
		close(r.closed)
		if r.use.TryLock() {
			if r.card != nil {
				ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
				_, _ = r.link.exchange(ctx, Message{Type: IccPowerOff}, SlotStatus, 300*time.Millisecond)
				cancel()
				r.card = nil
			}
			r.use.Unlock()
		}
		r.err = r.link.t.Close()
	})
	return r.err
}

// fault wraps an error for people, with the reader's own code.
func (r *Reader) fault(op string, err error) error {
	e := &drivers.DeviceError{Op: op, Device: r.port.Path, Err: err}
	if f, ok := errors.AsType[*failure](err); ok {
		e.Raw = fmt.Sprintf("%02X", f.code)
		if f.icc == Absent {
			e.Err = fmt.Errorf("%w: %w", drivers.ErrCardGone, err)
		}
	}
	return e
}
