package zvt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"time"

	"tillbridge/drivers"
)

// ErrRecoverFirst: the outcome of the last operation is not known. Last has to
// be asked before anything else is run on the terminal.
var ErrRecoverFirst = errors.New("zvt: the last operation's outcome is unknown: ask the terminal for it first")

// Driver opens ZVT terminals. The zero value is ready.
//
// Parameters ([drivers.Config].Params): "password" six digits (000000),
// "currency" ISO 4217 number (978), "receipts" terminal or ecr (terminal:
// the terminal prints), "baud" of a serial line (9600).
type Driver struct{}

var (
	_ drivers.Driver          = Driver{}
	_ drivers.PaymentTerminal = (*device)(nil)
	_ drivers.LastTransaction = (*device)(nil)
	_ drivers.Settler         = (*device)(nil)
	_ drivers.Display         = (*device)(nil)
)

// Name returns "zvt".
func (Driver) Name() string { return "zvt" }

// Match takes ports that the configuration names: ZVT has no ids of its own,
// and its registration would disturb another device.
func (Driver) Match(p drivers.Port) drivers.Match {
	switch {
	case p.Kind != drivers.KindTCP && p.Kind != drivers.KindSerial:
		return drivers.Match{Why: "ZVT terminals stand on serial ports and TCP"}
	case !p.Explicit:
		return drivers.Match{Cost: drivers.CostInvasive, Why: "a ZVT terminal is recognised only on a port that the configuration names"}
	}
	return drivers.Match{OK: true, Priority: 10, Cost: drivers.CostInvasive, Why: "named in the configuration"}
}

// settings are the checked parameters.
type settings struct {
	password []byte // 3 bytes BCD
	currency []byte // 2 bytes BCD
	ecr      bool   // we print
	baud     int
}

func (s settings) currencyNumber() int {
	n, _ := BCD(s.currency)
	return int(n)
}

var sixDigits = regexp.MustCompile(`^\d{6}$`)

func parseSettings(params map[string]string) (settings, error) {
	s := settings{password: []byte{0, 0, 0}, currency: []byte{0x09, 0x78}, baud: 9600}
	for key, v := range params {
		switch key {
		case "password":
			if !sixDigits.MatchString(v) {
				return s, fmt.Errorf("zvt: parameter password has six digits")
			}
			n, _ := strconv.ParseInt(v, 10, 64)
			s.password, _ = AppendBCD(nil, n, 3)
		case "currency":
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n <= 0 || n > 999 {
				return s, fmt.Errorf("zvt: parameter currency is an ISO 4217 number such as 978, not %q", v)
			}
			s.currency, _ = AppendBCD(nil, n, 2)
		case "receipts":
			if v != "terminal" && v != "ecr" {
				return s, fmt.Errorf("zvt: parameter receipts is terminal or ecr, not %q", v)
			}
			s.ecr = v == "ecr"
		case "baud":
			n, err := strconv.Atoi(v)
			if err != nil || n < 1200 || n > 921600 {
				return s, fmt.Errorf("zvt: parameter baud is a speed such as 9600 or 115200, not %q", v)
			}
			s.baud = n
		default:
			return s, fmt.Errorf("zvt: unknown parameter %q: password, currency, receipts, baud", key)
		}
	}
	return s, nil
}

// device is an open terminal. Its methods run on its owner's goroutine; Abort
// and Close may be called from others.
type device struct {
	port drivers.Port
	name string
	log  *slog.Logger
	set  settings
	link *link
	info Completion // of the registration

	doubt bool // the last operation's outcome is unknown
	owed  int  // replies to aborts of ours that have not come

	mu     sync.Mutex
	broken error              // why the line was given up
	wake   context.CancelFunc // of the wait of a running operation
	abort  bool               // an abort was asked for
	inside bool               // an operation runs
}

// Open registers at the terminal, and does the initialisation or diagnosis
// that the terminal asks for.
func (Driver) Open(ctx context.Context, t drivers.Transport, c drivers.Config) (drivers.Device, error) {
	set, err := parseSettings(c.Params)
	if err != nil {
		t.Close()
		return nil, err
	}
	if ls, ok := t.(drivers.LineSetter); ok && t.Info().Kind == drivers.KindSerial {
		if err := ls.SetLine(drivers.LineMode{Baud: set.baud, DataBits: 8, Parity: 'N', StopBits: 2}); err != nil {
			t.Close()
			return nil, &drivers.DeviceError{Op: "set line", Device: t.Info().Path, Err: err}
		}
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &device{port: t.Info(), name: c.Name, log: log, set: set, link: newLink(t)}
	if err := d.register(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Configuration byte of the registration (06 00).
const (
	configPaymentReceipts = 0x02 // the ECR prints receipts of payments
	configAdminReceipts   = 0x04 // and of administration
	configIntermediate    = 0x08 // send 04 FF
	configAmountLocked    = 0x10 // no amount entry at the terminal
	configPrintLines      = 0x80 // send print lines
)

func (d *device) register(ctx context.Context) error {
	config := byte(configIntermediate | configAmountLocked)
	if d.set.ecr {
		config |= configPaymentReceipts | configAdminReceipts | configPrintLines
	}
	data := append(append(append([]byte{}, d.set.password...), config), d.set.currency...)
	// A container makes the terminal use containers. It may send whole blocks
	// of print lines.
	wishes := AppendElement(nil, tagPrintWidth, []byte{40})
	if d.set.ecr {
		wishes = AppendElement(wishes, tagCommands, AppendElement(nil, tagCommand, []byte{byte(CmdPrintBlock >> 8), byte(CmdPrintBlock & 0xFF)}))
	}
	data, err := AppendField(append(data, bmpServiceByte, 0x00), bmpContainer, wishes)
	if err != nil {
		return err
	}
	e := d.run(ctx, exchange{cmd: CmdRegistration, data: data})
	if err := e.failed("06 00", d.port.Path); err != nil {
		return err
	}
	c, err := ParseCompletion(e.completion, false)
	if err == nil && !c.HasStatus && c.TerminalID == "" && c.Currency == 0 {
		err = fmt.Errorf("%w: an end without status byte and terminal id", ErrMalformed)
	}
	if err == nil && c.Currency != 0 && c.Currency != d.set.currencyNumber() {
		err = fmt.Errorf("the terminal counts in currency %03d, not %03d: set the device's parameter currency", c.Currency, d.set.currencyNumber())
	}
	if err != nil {
		return &drivers.DeviceError{Op: "06 00", Device: d.port.Path, Err: err}
	}
	d.info = c
	if c.StatusByte&0x01 != 0 {
		e = d.run(ctx, exchange{cmd: CmdInitialisation, data: d.set.password})
		if err := e.failed("06 93", d.port.Path); err != nil {
			return err
		}
	}
	if c.StatusByte&0x02 != 0 {
		e = d.run(ctx, exchange{cmd: CmdDiagnosis})
		if err := e.failed("06 70", d.port.Path); err != nil {
			return err
		}
	}
	return nil
}

// Info returns what is known without asking.
func (d *device) Info() drivers.Info { return drivers.Info{Protocol: "zvt", Port: d.port} }

// Identify returns terminal id and software version.
func (d *device) Identify(ctx context.Context) (drivers.Identity, error) {
	c, err := d.enquire(ctx)
	if err != nil {
		return drivers.Identity{}, err
	}
	return drivers.Identity{Model: "ZVT terminal", Serial: d.info.TerminalID, Firmware: c.Software}, nil
}

// Health asks for the terminal's status (05 01).
func (d *device) Health(ctx context.Context) (drivers.Health, error) {
	c, err := d.enquire(ctx)
	if err != nil {
		return drivers.Health{}, err
	}
	h := drivers.Health{OK: true, Detail: "ready", Checked: time.Now()}
	if c.HasState && c.State != 0 {
		h.OK = c.State == 0x9C || c.State == 0xDC || c.State == 0xE1 || c.State == 0xCC // busy, card in, printer: it lives
		h.Detail = ResultText(c.State)
	}
	return h, nil
}

func (d *device) enquire(ctx context.Context) (Completion, error) {
	e := d.run(ctx, exchange{cmd: CmdStatusEnquiry, data: d.set.password})
	if err := e.failed("05 01", d.port.Path); err != nil {
		return Completion{}, err
	}
	c, err := ParseCompletion(e.completion, true)
	if err != nil {
		return Completion{}, &drivers.DeviceError{Op: "05 01", Device: d.port.Path, Err: err}
	}
	return c, nil
}

// Display shows up to eight lines until the next text (06 E0).
func (d *device) Display(ctx context.Context, text string) error {
	data, err := displayData(text, d.info.Charset)
	if err != nil {
		return err
	}
	e := d.run(ctx, exchange{cmd: CmdDisplayText, data: data, short: true})
	return e.failed("06 E0", d.port.Path)
}

// Close releases the port. A running operation returns.
func (d *device) Close() error { return d.link.t.Close() }

// giveUp gives the line up: what comes on it later cannot be told apart. The
// supervisor opens it again.
func (d *device) giveUp(err error) {
	d.mu.Lock()
	first := d.broken == nil
	if first {
		d.broken = err
	}
	d.mu.Unlock()
	if first {
		_ = d.link.t.Close()
	}
}

func (d *device) gone() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}
