package zvt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"tillbridge/drivers/virtual/port"
	"time"
)

// Options describe a terminal. The zero value is valid: euro, nobody in front
// of it, books in memory, on TCP.
type Options struct {
	// Books is the file of the books; empty means memory.
	Books string
	// Listen is the TCP address of Serve; empty means 127.0.0.1:0.
	Listen string
	// Serial serves a pty with the serial protocol instead (Linux). Dir is
	// where the link to it lies, a temporary one when empty; Link is its name,
	// "terminal0" when empty.
	Serial    bool
	Dir, Link string
	// TerminalID has eight digits, 52000001 when empty.
	TerminalID string
	// Currency is an ISO 4217 number, 978 when 0. Nothing else is accepted.
	Currency int
	// Password has six digits, 000000 when empty.
	Password string
	// Software is what a status enquiry names.
	Software string
	// Init makes the first registration ask for an initialisation.
	Init bool
	// Auto is a card: a customer who taps it whenever asked.
	Auto string
	// Patience is how long the terminal waits for a customer, 90 s when 0.
	Patience time.Duration
	// Now is the terminal's clock, time.Now when nil.
	Now func() time.Time
}

// Terminal is a ZVT terminal. It outlives its lines.
type Terminal struct {
	o        Options
	ledger   *ledger
	customer *customer
	faults   *port.Faults
	running  sync.Mutex // one line at a time

	mu       sync.Mutex
	reg      registration
	shown    string
	waiting  string
	offset   time.Duration
	needInit bool
}

// registration is what the register asked for with 06 00.
type registration struct {
	done      bool
	config    byte
	tlv       bool
	blocks    bool // 06 D3 is permitted
	latin1    bool
	charByte  byte
	echoChars bool
}

// New makes a terminal and reads its books.
func New(o Options) (*Terminal, error) {
	text := func(p *string, standard string) {
		if *p == "" {
			*p = standard
		}
	}
	text(&o.TerminalID, "52000001")
	text(&o.Password, "000000")
	text(&o.Software, "VIRTUAL-ZVT 1.0")
	text(&o.Link, "terminal0")
	if o.Currency == 0 {
		o.Currency = 978
	}
	if o.Patience == 0 {
		o.Patience = waitPerson
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.TerminalID) != 8 || len(o.Password) != 6 {
		return nil, errors.New("a terminal id has eight digits, a password six")
	}
	l, err := openLedger(o.Books)
	if err != nil {
		return nil, err
	}
	t := &Terminal{o: o, ledger: l, customer: newCustomer(), faults: port.NewFaults(faults...), needInit: o.Init}
	if o.Auto != "" {
		if err := t.customer.do(Step{Do: "auto", Card: o.Auto}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Do queues a step of the customer or a fault.
func (t *Terminal) Do(s Step) error {
	switch s.Do {
	case "fault":
		return t.faults.Add(s.Fault, s.N, time.Duration(s.MS)*time.Millisecond)
	case "clock":
		t.mu.Lock()
		defer t.mu.Unlock()
		t.offset = time.Duration(s.MS) * time.Millisecond
		return nil
	}
	return t.customer.do(s)
}

// Books returns the terminal's own account.
func (t *Terminal) Books() Books { return t.ledger.books() }

// Shown returns what a display command put on the display.
func (t *Terminal) Shown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown
}

// Waiting returns what the terminal waits for: "command", "customer", "reply".
func (t *Terminal) Waiting() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting
}

func (t *Terminal) wait(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = what
}

func (t *Terminal) now() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.o.Now().Add(t.offset)
}

func (t *Terminal) registered() registration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reg
}

// restart is a power cycle: the registration is lost.
func (t *Terminal) restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reg = registration{}
}

// Run plays the terminal on a line until the line ends, ctx does, or a fault
// drops it. It closes the line and waits for its own reader. framed is for a
// serial line: DLE framing and acknowledgements; TCP has bare APDUs.
func (t *Terminal) Run(ctx context.Context, line io.ReadWriteCloser, framed bool) error {
	t.running.Lock()
	defer t.running.Unlock()
	err := port.Play(ctx, line, port.Pieces(line), func(ctx context.Context, in <-chan []byte) error {
		s := &session{t: t, ctx: ctx, line: line, framed: framed, in: in}
		return s.serve()
	})
	t.wait("")
	return err
}

// serve answers commands while the register is master.
func (s *session) serve() error {
	for {
		s.t.wait("command")
		a, err := s.receive(nil)
		if err != nil {
			return err
		}
		if a.reply() {
			continue // to something older
		}
		s.cmd, s.abort = encode(a.cmd, a.data), false
		err = s.do(a)
		switch {
		case err == nil || errors.Is(err, errSilent):
		default:
			return err
		}
	}
}

// do carries out one command.
func (s *session) do(a apdu) error {
	if _, ok := s.t.faults.Play("busy"); ok {
		return s.reply(0x8400 | codeBusy)
	}
	if !s.t.registered().done && a.cmd != cRegister && a.cmd != cStatusEnq && a.cmd != cAbort {
		return s.reply(0x8400 | codeNotRegistered)
	}
	switch a.cmd {
	case cRegister:
		return s.register(a)
	case cAuthorise, cRefund, cReserve:
		return s.pay(a)
	case cReverse, cPartRelease, cBookTotal, cRelease:
		return s.correct(a)
	case cEndOfDay:
		return s.endOfDay(a)
	case cRepeat:
		return s.repeat(a)
	case cStatusEnq:
		return s.enquiry(a)
	case cDiagnosis, cInitialise:
		return s.service(a)
	case cLogOff:
		s.t.mu.Lock()
		s.t.reg = registration{config: 0x86}
		s.t.mu.Unlock()
		return s.reply(cReply)
	case cAbort:
		return s.reply(cReply)
	case cSetTime:
		return s.setTime(a)
	case cDisplay:
		r, ok := bitmaps(a.data)
		if !ok || len(r.lines) == 0 {
			return s.reply(0x8400 | codeProtocol)
		}
		var text strings.Builder
		for i, l := range r.lines {
			if i > 0 {
				text.WriteString("\n")
			}
			text.WriteString(s.t.text([]byte(l)))
		}
		s.t.mu.Lock()
		s.t.shown = text.String()
		s.t.mu.Unlock()
		return s.reply(cReply)
	case cReadCard:
		return s.reply(0x8400 | codeSecurity)
	case cBaud:
		return s.reply(0x8400 | codeBaud)
	}
	return s.reply(0x8400 | codeFunction)
}

// password takes the password from the front of a command.
func (s *session) password(a apdu) (rest []byte, ok bool) {
	want := bcdText(s.t.o.Password)
	if len(a.data) < 3 || string(a.data[:3]) != string(want) {
		return nil, false
	}
	return a.data[3:], true
}

// register takes 06 00.
func (s *session) register(a apdu) error {
	rest, ok := s.password(a)
	if !ok || len(rest) < 1 {
		return s.reply(0x8400 | codeProtocol)
	}
	reg := registration{done: true, config: rest[0]}
	rest = rest[1:]
	if len(rest) >= 2 {
		cc, good := fromBCD(rest[:2])
		if !good || int(cc) != s.t.o.Currency {
			return s.reply(0x841E, append([]byte{codeCurrency}, toBCD(int64(s.t.o.Currency), 2)...)...)
		}
		rest = rest[2:]
	} else if len(rest) > 0 {
		return s.reply(0x8400 | codeProtocol)
	}
	r, ok := bitmaps(rest)
	if !ok {
		return s.reply(0x8400 | codeProtocol)
	}
	if r.hasTLV {
		reg.tlv = true
		if v, ok := object(r.tlv, 0x14); ok && len(v) == 1 && (v[0] == 1 || v[0] == 0xFF) {
			reg.charByte, reg.echoChars, reg.latin1 = v[0], true, v[0] == 1
		}
		if v, ok := object(r.tlv, 0x26); ok {
			for len(v) >= 4 {
				reg.blocks = reg.blocks || v[0] == 0x0A && v[1] == 2 && v[2] == 0x06 && v[3] == 0xD3
				v = v[4:]
			}
		}
	}
	s.t.mu.Lock()
	s.t.reg = reg
	need := s.t.needInit
	s.t.mu.Unlock()
	if err := s.reply(cReply); err != nil {
		return err
	}
	var w writer
	state := byte(0)
	if need {
		state = 1
	}
	w.put(0x19, state)
	w.put(0x29, bcdText(s.t.o.TerminalID)...)
	w.put(0x49, toBCD(int64(s.t.o.Currency), 2)...)
	if reg.echoChars {
		var c writer
		c.tlv(0x14, []byte{reg.charByte})
		w.tlv(0x06, c.b)
	}
	_, err := s.command(cCompletion, w.b)
	return err
}

// enquiry takes 05 01: software version and state. The service byte can ask
// for the state alone; of its bits only a whole is known from outside: a
// captured terminal, asked with 03 07, answered with one byte.
func (s *session) enquiry(a apdu) error {
	if err := s.reply(cReply); err != nil {
		return err
	}
	var data []byte
	short := false
	if rest, ok := s.password(a); ok {
		r, ok := bitmaps(rest)
		short = ok && r.service&0x07 == 0x07
	}
	if v := s.t.o.Software; !short {
		data = append([]byte{0xF0 | byte(len(v)/100), 0xF0 | byte(len(v)/10%10), 0xF0 | byte(len(v)%10)}, v...)
	}
	state := byte(0)
	s.t.mu.Lock()
	if s.t.needInit {
		state = 0x51
	}
	s.t.mu.Unlock()
	_, err := s.command(cCompletion, append(data, state))
	return err
}

// service takes diagnosis and initialisation: the host is called.
func (s *session) service(a apdu) error {
	if a.cmd == cInitialise {
		if _, ok := s.password(a); !ok {
			return s.reply(0x8400 | codeProtocol)
		}
	}
	if err := s.reply(cReply); err != nil {
		return err
	}
	if err := s.intermediate(0x0E, ""); err != nil {
		return err
	}
	s.t.mu.Lock()
	if a.cmd == cInitialise {
		s.t.needInit = false
	}
	s.t.mu.Unlock()
	var w writer
	w.put(0x19, 0)
	w.put(0x29, bcdText(s.t.o.TerminalID)...)
	w.put(0x49, toBCD(int64(s.t.o.Currency), 2)...)
	_, err := s.command(cCompletion, w.b)
	return err
}

// setTime takes 06 91.
func (s *session) setTime(a apdu) error {
	r, ok := bitmaps(a.data)
	if !ok || r.time == nil || r.date == nil {
		return s.reply(0x8400 | codeProtocol)
	}
	want, err := time.ParseInLocation("060102150405", fmt.Sprintf("%X%X", r.date, r.time), s.t.o.Now().Location())
	if err != nil {
		return s.reply(0x8400 | codeProtocol)
	}
	s.t.mu.Lock()
	s.t.offset = want.Sub(s.t.o.Now())
	s.t.mu.Unlock()
	return s.reply(cReply)
}

// intermediate sends 04 FF when the register wants it.
func (s *session) intermediate(code byte, text string) error {
	reg := s.t.registered()
	if reg.config&0x08 == 0 {
		return nil
	}
	data := []byte{code}
	if reg.tlv && text != "" {
		var line, block, w writer
		line.tlv(0x07, s.t.bytes(text))
		block.tlv(0x24, line.b)
		w.tlv(0x06, block.b)
		data = append(append(data, 0x02), w.b...) // two minutes from here
	}
	_, err := s.command(cIntermediate, data)
	return err
}
