package virtualcard

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"tillbridge/emv"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
)

// Options of [New]. The zero value and nil are valid.
type Options struct {
	// Issuer are the issuer's master keys; zero means cryptogram.TestIssuer.
	Issuer cryptogram.Issuer
	// CA signs the issuer certificates; nil makes one, from Seed.
	CA *CA
	// Seed makes keys and numbers repeatable; 0 means random.
	Seed uint64
	// T0 answers as a T=0 card does at its interface: 61xx to a command whose
	// answer has to be fetched, 6Cxx to a wrong Le.
	T0 bool
}

// Card is a chip card. It is safe for use by several goroutines; commands are
// answered one after the other.
type Card struct {
	mu      sync.Mutex
	apps    []*application
	ca      *CA
	random  io.Reader
	pse     bool
	t0      bool
	dead    bool // CARD BLOCK was executed
	removed bool

	current  *application
	inPSE    bool
	lastName []byte // name of the last SELECT and which match it gave
	lastAt   int
	pending  []byte // T=0: waiting for GET RESPONSE
	chal     []byte
}

var _ emv.Transceiver = (*Card)(nil)

// ErrRemoved is returned by Transmit once [Card.Remove] was called.
var ErrRemoved = errors.New("virtualcard: no card: it was taken out")

// New makes a card with one application for each profile, in this order.
func New(o *Options, profiles ...Profile) (*Card, error) {
	if o == nil {
		o = &Options{}
	}
	if len(profiles) == 0 {
		return nil, errors.New("virtualcard: a card needs a profile; take one of Profiles")
	}
	c := &Card{ca: o.CA, t0: o.T0, random: crand.Reader}
	if o.Seed != 0 {
		c.random = seeded(o.Seed)
	}
	issuer := o.Issuer
	if issuer == (cryptogram.Issuer{}) {
		issuer = cryptogram.TestIssuer()
	}
	for _, p := range profiles {
		if p.ODA != ODANone && c.ca == nil {
			ca, err := NewCA(o.Seed)
			if err != nil {
				return nil, err
			}
			c.ca = ca
		}
		a, err := newApplication(p, issuer, c.ca, c.random)
		if err != nil {
			return nil, fmt.Errorf("make profile %s: %w", p.Name, err)
		}
		c.apps = append(c.apps, a)
		c.pse = c.pse || !p.NoPSE
	}
	return c, nil
}

// seeded is a repeatable source of bytes for simulators.
func seeded(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// ATR is the answer to reset: a legal EMV one, T=0 (or T=1 when the card is
// not made with Options.T0).
func (c *Card) ATR() []byte {
	if c.t0 {
		return []byte{0x3B, 0x60, 0x00, 0x00}
	}
	return []byte{0x3B, 0xE0, 0x00, 0x00, 0x81, 0x31, 0x20, 0x45, 0x00 ^ 0xE0 ^ 0x81 ^ 0x31 ^ 0x20 ^ 0x45}
}

// Reset is power off and on: the selection and the transaction are forgotten,
// counters and blocks stay. It also puts a removed card back.
func (c *Card) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed, c.current, c.inPSE, c.pending, c.chal, c.lastName = false, nil, false, nil, nil, nil
	for _, a := range c.apps {
		a.newTransaction()
	}
}

// Remove takes the card out: every further command is [ErrRemoved].
func (c *Card) Remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = true
}

// Profile is the profile of the first application.
func (c *Card) Profile() Profile { return c.apps[0].p }

// PAN is the number of the first application, a published test number.
func (c *Card) PAN() string { return c.apps[0].p.PAN }

// Expiry is YYMM.
func (c *Card) Expiry() string { return c.apps[0].p.Expiry }

// Track2 is the track 2 equivalent data of the first application as text with
// 'D' as separator and without the final F: what a PIN pad enciphers.
func (c *Card) Track2() string { return c.apps[0].p.track2() }

// Track1 is a track 1 that goes with it, without sentinels.
func (c *Card) Track1() string {
	p := c.apps[0].p
	return "B" + p.PAN + "^" + p.Cardholder + "^" + p.Expiry + p.ServiceCode + "0000000000"
}

// PIN is the PIN of the first application: a virtual PIN pad "types" it.
func (c *Card) PIN() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apps[0].pin
}

// CA is the certification authority of the card's chain, nil when no profile
// has one.
func (c *Card) CA() *CA { return c.ca }

// ATCNow is the application transaction counter of the first application.
func (c *Card) ATCNow() uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apps[0].atc
}

// Blocked reports whether the first application is blocked.
func (c *Card) Blocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apps[0].blocked || c.dead
}

// TriesLeft is the PIN try counter of the first application.
func (c *Card) TriesLeft() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apps[0].tries
}

// String names the first profile, without its number.
func (c *Card) String() string { return "virtual card " + c.apps[0].p.Name }

// GoString is String.
func (c *Card) GoString() string { return c.String() }

// Format prints String for every verb.
func (c *Card) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }

// Status words of ISO/IEC 7816-4 as the card uses them.
const (
	swOK          = 0x9000
	swWarning     = 0x6300
	swInvalidated = 0x6283
	swLength      = 0x6700
	swPINBlocked  = 0x6983
	swConditions  = 0x6985
	swMAC         = 0x6988
	swData        = 0x6A80
	swUnsupported = 0x6A81
	swNotFound    = 0x6A82
	swNoRecord    = 0x6A83
	swP1P2        = 0x6A86
	swReference   = 0x6A88
	swINS         = 0x6D00
	swCLA         = 0x6E00
)

// command is a parsed C-APDU (ISO/IEC 7816-4 section 5.1).
type command struct {
	cla, ins, p1, p2 byte
	data             []byte
	le               int // 0 none, 256 for 00, 65536 for 0000
}

func parse(b []byte) (command, bool) {
	if len(b) < 4 {
		return command{}, false
	}
	c := command{cla: b[0], ins: b[1], p1: b[2], p2: b[3]}
	b = b[4:]
	switch {
	case len(b) == 0:
	case len(b) == 1:
		c.le = int(b[0])
		if c.le == 0 {
			c.le = 256
		}
	case b[0] != 0:
		n := int(b[0])
		if len(b) < 1+n || len(b) > 2+n {
			return c, false
		}
		c.data = b[1 : 1+n]
		if len(b) == 2+n {
			if c.le = int(b[1+n]); c.le == 0 {
				c.le = 256
			}
		}
	case len(b) == 3:
		if c.le = int(b[1])<<8 | int(b[2]); c.le == 0 {
			c.le = 65536
		}
	case len(b) > 3:
		n := int(b[1])<<8 | int(b[2])
		if n == 0 || len(b) != 3+n && len(b) != 5+n {
			return c, false
		}
		c.data = b[3 : 3+n]
		if len(b) == 5+n {
			if c.le = int(b[3+n])<<8 | int(b[4+n]); c.le == 0 {
				c.le = 65536
			}
		}
	default:
		return c, false
	}
	return c, true
}

// Transmit answers one command APDU. It fails with the context's error, or
// with [ErrRemoved]; whatever bytes come in, the answer ends with SW1 SW2.
func (c *Card) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil, ErrRemoved
	}
	m, ok := parse(cmd)
	if !ok {
		return status(nil, swLength), nil
	}
	if c.t0 && m.ins == 0xC0 && m.cla == 0x00 {
		return c.getResponse(m), nil
	}
	c.pending = nil
	if c.t0 && len(m.data) > 0 && m.le == 0 {
		m.le = 256 // a TPDU has no Le behind data: the answer is fetched
	}
	data, sw := c.run(m)
	if c.t0 && len(data) > 0 && (sw == swOK || sw>>8 == 0x62 || sw>>8 == 0x63) {
		if len(m.data) > 0 { // case 4 of T=0: the answer is fetched
			c.pending = data
			return []byte{0x61, byte(len(data))}, nil
		}
		if m.le != len(data) {
			return []byte{0x6C, byte(len(data))}, nil
		}
	}
	return status(data, sw), nil
}

func (c *Card) getResponse(m command) []byte {
	switch {
	case len(c.pending) == 0:
		return status(nil, swConditions)
	case m.le != len(c.pending):
		return []byte{0x6C, byte(len(c.pending))}
	}
	out := status(c.pending, swOK)
	c.pending = nil
	return out
}

func status(data []byte, sw int) []byte {
	return append(append(make([]byte, 0, len(data)+2), data...), byte(sw>>8), byte(sw))
}

func (c *Card) run(m command) ([]byte, int) {
	if m.cla == 0x00 && m.ins == 0xA4 {
		return c.selectFile(m)
	}
	if c.dead {
		return nil, swUnsupported
	}
	if c.inPSE {
		if m.cla == 0x00 && m.ins == 0xB2 {
			return c.directory(m)
		}
		return nil, swINS
	}
	a := c.current
	if a == nil {
		return nil, swConditions
	}
	switch {
	case m.cla == 0x80 && m.ins == 0xA8:
		return a.getProcessingOptions(m)
	case m.cla == 0x00 && m.ins == 0xB2:
		return a.readRecord(m)
	case m.cla == 0x80 && m.ins == 0xCA:
		return a.getData(m)
	case m.cla == 0x00 && m.ins == 0x84:
		c.chal = make([]byte, 8)
		io.ReadFull(c.random, c.chal)
		return c.chal, swOK
	case m.cla == 0x00 && m.ins == 0x20:
		chal := c.chal
		c.chal = nil
		return nil, a.verify(m, chal)
	case m.cla == 0x00 && m.ins == 0x88:
		return a.internalAuthenticate(m, c.random)
	case m.cla == 0x80 && m.ins == 0xAE:
		return a.generateAC(m, c.random)
	case m.cla == 0x00 && m.ins == 0x82:
		return nil, a.externalAuthenticate(m)
	case m.cla == 0x84 || m.cla == 0x8C || m.cla == 0x04 || m.cla == 0x0C:
		sw := a.script(m)
		c.dead = c.dead || a.cardBlock
		return nil, sw
	case m.cla&0x7F != 0:
		return nil, swCLA
	}
	return nil, swINS
}

const pseName = "1PAY.SYS.DDF01"

// selectFile is SELECT by name, first or next occurrence (Book 1 section
// 11.3, 12.3).
func (c *Card) selectFile(m command) ([]byte, int) {
	if m.p1 != 0x04 || m.p2 != 0x00 && m.p2 != 0x02 {
		return nil, swP1P2
	}
	if len(m.data) < 5 || len(m.data) > 16 {
		return nil, swLength
	}
	if c.dead {
		return nil, swUnsupported
	}
	if string(m.data) == pseName {
		c.lastName = nil
		if !c.pse {
			return nil, swNotFound
		}
		c.current, c.inPSE = nil, true
		sw := swOK
		for _, a := range c.apps {
			if a.p.PSEBlocked {
				sw = swInvalidated
			}
		}
		return fci([]byte(pseName), tlv.Append(tlv.Append(nil, 0x88, []byte{1}), 0x5F2D, []byte(c.apps[0].p.Language))), sw
	}
	from := 0
	if m.p2 == 0x02 {
		if string(c.lastName) != string(m.data) {
			return nil, swConditions
		}
		from = c.lastAt + 1
	}
	for i := from; i < len(c.apps); i++ {
		a := c.apps[i]
		if len(m.data) <= len(a.aid) && string(a.aid[:len(m.data)]) == string(m.data) {
			c.lastName, c.lastAt = append([]byte(nil), m.data...), i
			c.current, c.inPSE = a, false
			a.newTransaction()
			if a.blocked {
				return a.fci(), swInvalidated
			}
			return a.fci(), swOK
		}
	}
	return nil, swNotFound
}

// directory is record 1.. of the PSE's file 1, one application a record.
func (c *Card) directory(m command) ([]byte, int) {
	if m.p2 != 1<<3|4 {
		return nil, swNotFound
	}
	if m.p1 == 0 || int(m.p1) > len(c.apps) {
		return nil, swNoRecord
	}
	a := c.apps[m.p1-1]
	entry := tlv.Append(nil, 0x4F, a.aid)
	entry = tlv.Append(entry, 0x50, []byte(a.p.Label))
	if a.p.Preferred != "" {
		entry = tlv.Append(entry, 0x9F12, []byte(a.p.Preferred))
	}
	entry = tlv.Append(entry, 0x87, []byte{a.priority()})
	return tlv.Append(nil, 0x70, tlv.Append(nil, 0x61, entry)), swOK
}

func fci(name, proprietary []byte) []byte {
	return tlv.Append(nil, 0x6F, tlv.Append(tlv.Append(nil, 0x84, name), 0xA5, proprietary))
}

func unhex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("a field of the profile is not hex: %w", err)
	}
	return b, nil
}
