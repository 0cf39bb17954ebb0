package apdu

import (
	"errors"
	"fmt"
)

// T1Options set up [NewT1]. The zero value is an EMV terminal: node address 0,
// LRC, an own information field of 254 bytes announced before the first
// command.
type T1Options struct {
	NAD  byte // node address byte of sent blocks: source in the low nibble
	IFSC int  // the card's information field size, [ATR.IFSC]; 0 means 32
	// IFSD is the own information field size, 1 to 254; 0 means 254.
	IFSD int
	CRC  bool // [ATR.CRC]
	// NoIFS leaves out the announcement of IFSD (a reader that did it already,
	// or does T=1 itself): 32 bytes are then taken unless IFSD is set.
	NoIFS bool
}

// Errors of T=1.
var (
	// ErrBlock is a block that cannot be read.
	ErrBlock = errors.New("apdu: not a T=1 block")
	// ErrLost says that the dialogue broke down after the whole command was
	// sent: the card may have acted. It is not sent again.
	ErrLost = errors.New("apdu: T=1 lost the answer; the card may have acted")
	// ErrCard says that the card does not answer sensibly before it can have
	// acted: reset it, or ask for another one.
	ErrCard = errors.New("apdu: the card does not speak T=1")
	// ErrAborted says that the card ended the chain.
	ErrAborted = errors.New("apdu: the card aborted the exchange")
	// ErrT1Busy is a call out of order.
	ErrT1Busy = errors.New("apdu: T=1 call out of order")
)

// Kinds of PCB (ISO/IEC 7816-3 section 11.3.2.2).
const (
	pcbMore     = 0x20
	pcbSeq      = 0x40
	pcbR        = 0x80
	pcbRSeq     = 0x10
	pcbS        = 0xC0
	pcbResponse = 0x20

	sResynch = 0x00
	sIFS     = 0x01
	sAbort   = 0x02
	sWTX     = 0x03
)

// Block is a T=1 block without its check bytes.
type Block struct {
	NAD, PCB byte
	INF      []byte // 0 to 254 bytes
}

// String names addresses, control and length, never the data.
func (b Block) String() string {
	return fmt.Sprintf("NAD=%02X PCB=%02X LEN=%d", b.NAD, b.PCB, len(b.INF))
}

// GoString is String.
func (b Block) GoString() string { return b.String() }

// Format prints String for every verb.
func (b Block) Format(s fmt.State, _ rune) { fmt.Fprint(s, b.String()) }

// Append appends the block with LRC, or with CRC.
func (b Block) Append(dst []byte, crc bool) []byte {
	start := len(dst)
	dst = append(dst, b.NAD, b.PCB, byte(len(b.INF)))
	dst = append(dst, b.INF...)
	if crc {
		c := crc16(dst[start:])
		return append(dst, byte(c>>8), byte(c))
	}
	return append(dst, lrc(dst[start:]))
}

// ParseBlock reads one whole block; INF is a slice of raw. The error wraps
// [ErrBlock], and [ErrCheck] when only the check bytes are wrong.
func ParseBlock(raw []byte, crc bool) (Block, error) {
	tail := 1
	if crc {
		tail = 2
	}
	if len(raw) < 3+tail || len(raw) != 3+int(raw[2])+tail || raw[2] == 0xFF {
		return Block{}, fmt.Errorf("%w: the length does not fit %d bytes", ErrBlock, len(raw))
	}
	body := raw[:len(raw)-tail]
	if crc {
		if c := crc16(body); raw[len(raw)-2] != byte(c>>8) || raw[len(raw)-1] != byte(c) {
			return Block{}, ErrCheck
		}
	} else if lrc(raw) != 0 {
		return Block{}, ErrCheck
	}
	return Block{raw[0], raw[1], body[3:]}, nil
}

// ErrCheck says that the check bytes of a block are wrong.
var ErrCheck = fmt.Errorf("%w: wrong check bytes", ErrBlock)

func lrc(b []byte) (x byte) {
	for _, c := range b {
		x ^= c
	}
	return x
}

// crc16 is the CRC of ISO/IEC 13239 in the form that T=1 readers use: first
// value FFFF, bits reflected, not complemented, high byte first.
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8408
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

// Step is what [T1] asks of its caller.
type Step struct {
	// Send is the block to send; nil when the exchange is over.
	Send []byte
	// Response is the response APDU, when Done.
	Response []byte
	Done     bool
	// WTX multiplies the block waiting time for the answer to Send; 1 unless
	// the card asked for an extension.
	WTX int
}

type t1state int

const (
	t1Idle    t1state = iota
	t1IFS             // waiting for S(IFS response)
	t1Sending         // waiting for an acknowledgement or the answer
	t1Reading         // the answer comes in a chain
	t1Resync          // waiting for S(RESYNCH response)
	t1Broken
)

// T1 is the reader's side of T=1. Begin gives the first block; each block that
// comes from the card, or nil when none came in time or it had a parity error,
// goes to Receive, until the step is Done or an error comes. It is not safe
// for concurrent use.
type T1 struct {
	o          T1Options
	ifsc, ifsd int
	announced  bool

	state    t1state
	ns       byte // N(S) of the next I-block to send: 0 or 1
	nr       byte // N(S) expected from the card
	command  []byte
	sent     int  // bytes of command acknowledged
	inFlight int  // bytes in the last I-block
	whole    bool // the last I-block of the command has been sent
	answer   []byte
	last     []byte // last block sent, for retransmission
	errors   int    // consecutive bad receptions
	resyncs  int
	wtx      int
	rounds   int
}

// NewT1 makes the state for one card after its reset; nil options are valid.
func NewT1(o *T1Options) *T1 {
	t := &T1{}
	if o != nil {
		t.o = *o
	}
	t.ifsc, t.ifsd = t.o.IFSC, t.o.IFSD
	if t.ifsc <= 0 || t.ifsc > 254 {
		t.ifsc = 32
	}
	if t.ifsd <= 0 || t.ifsd > 254 {
		t.ifsd = 254
		if t.o.NoIFS {
			t.ifsd = 32
		}
	}
	t.announced = t.o.NoIFS
	return t
}

// Begin starts the exchange of one command APDU and returns the first block.
func (t *T1) Begin(command []byte) (Step, error) {
	if t.state == t1Broken {
		return Step{}, fmt.Errorf("%w: reset it", ErrCard)
	}
	if t.state != t1Idle {
		return Step{}, ErrT1Busy
	}
	if len(command) < 4 {
		return Step{}, ErrCommand
	}
	t.command = append([]byte(nil), command...)
	t.sent, t.inFlight, t.whole, t.answer = 0, 0, false, nil
	t.errors, t.resyncs, t.wtx, t.rounds = 0, 0, 1, 0
	if !t.announced {
		t.state = t1IFS
		return t.sendS(sIFS, []byte{byte(t.ifsd)}), nil
	}
	t.state = t1Sending
	return t.sendI(), nil
}

// Reset forgets everything: the card was reset. Numbers start at 0 and IFSD is
// announced again.
func (t *T1) Reset() {
	o := t.o
	*t = *NewT1(&o)
}

func (t *T1) sendI() Step {
	n := min(t.ifsc, len(t.command)-t.sent)
	pcb := t.ns * pcbSeq
	if t.sent+n < len(t.command) {
		pcb |= pcbMore
	} else {
		t.whole = true
	}
	t.inFlight = n
	return t.send(Block{t.o.NAD, pcb, t.command[t.sent : t.sent+n]})
}

func (t *T1) sendR(code byte) Step {
	return t.send(Block{t.o.NAD, pcbR | t.nr*pcbRSeq | code, nil})
}

func (t *T1) sendS(kind byte, inf []byte) Step {
	return t.send(Block{t.o.NAD, pcbS | kind, inf})
}

func (t *T1) send(b Block) Step {
	t.last = b.Append(nil, t.o.CRC)
	s := Step{Send: t.last, WTX: t.wtx}
	t.wtx = 1
	return s
}

// maxBlocks bounds an exchange: 65,536 bytes both ways in blocks of one byte
// are refused long before.
const maxBlocks = 5000

// Receive takes what came from the card. raw is one whole block, or nil when
// the waiting time ran out or a character was damaged. Errors end the exchange:
// [ErrLost] when the card may have acted, [ErrCard] when it cannot have. With
// [ErrAborted] a step comes along: its block is the polite answer.
func (t *T1) Receive(raw []byte) (Step, error) {
	if t.state == t1Idle || t.state == t1Broken {
		return Step{}, ErrT1Busy
	}
	if t.rounds++; t.rounds > maxBlocks {
		return t.broken("it sends blocks without end")
	}
	b, err := ParseBlock(raw, t.o.CRC)
	if raw == nil || err != nil {
		code := byte(2)
		if raw == nil || errors.Is(err, ErrCheck) {
			code = 1
		}
		return t.bad(code)
	}
	if b.NAD != t.o.NAD>>4|t.o.NAD<<4 || len(b.INF) > t.ifsd {
		return t.bad(2)
	}
	switch {
	case b.PCB&0x80 == 0:
		return t.gotI(b)
	case b.PCB&0x40 == 0:
		return t.gotR(b)
	}
	return t.gotS(b)
}

func (t *T1) gotI(b Block) (Step, error) {
	if t.state == t1Resync || t.state == t1IFS || b.PCB&0x1F != 0 {
		return t.bad(2)
	}
	if t.state == t1Sending && !t.whole {
		return t.bad(2) // an answer inside our chain
	}
	if b.PCB&pcbSeq != t.nr*pcbSeq {
		return t.bad(2)
	}
	if t.state == t1Sending { // the answer acknowledges our last block
		t.sent = len(t.command)
		t.ns ^= 1
		t.state = t1Reading
	}
	t.errors = 0
	t.nr ^= 1
	t.answer = append(t.answer, b.INF...)
	if len(t.answer) > LeExtended+2 {
		return t.broken("its answer has no end")
	}
	if b.PCB&pcbMore != 0 {
		return t.sendR(0), nil
	}
	t.state = t1Idle
	t.command = nil
	return Step{Response: t.answer, Done: true}, nil
}

func (t *T1) gotR(b Block) (Step, error) {
	if b.PCB&0x20 != 0 || len(b.INF) != 0 || b.PCB&0x0F > 2 {
		return t.bad(2)
	}
	n := b.PCB & pcbRSeq / pcbRSeq
	switch t.state {
	case t1Sending:
		if n != t.ns { // acknowledges: the card expects the next one
			if t.whole {
				// It has the whole command and asks for our next block: that is
				// a wrong answer.
				return t.bad(2)
			}
			t.errors = 0
			t.sent += t.inFlight
			t.ns ^= 1
			return t.sendI(), nil
		}
		return t.again() // it wants our last block once more
	case t1Reading:
		// It did not read our R-block, or asks for it again.
		return t.again()
	case t1IFS, t1Resync:
		return t.again()
	}
	return t.bad(2)
}

func (t *T1) gotS(b Block) (Step, error) {
	kind := b.PCB & 0x1F
	if b.PCB&pcbResponse != 0 {
		switch {
		case t.state == t1IFS && kind == sIFS && len(b.INF) == 1 && int(b.INF[0]) == t.ifsd:
			t.errors, t.announced = 0, true
			t.state = t1Sending
			return t.sendI(), nil
		case t.state == t1Resync && kind == sResynch && len(b.INF) == 0:
			return t.resynced()
		}
		return t.bad(2)
	}
	respond := func(inf []byte) Step {
		return t.send(Block{t.o.NAD, pcbS | pcbResponse | kind, inf})
	}
	switch kind {
	case sWTX:
		if len(b.INF) != 1 || b.INF[0] == 0 || t.state == t1Resync {
			return t.bad(2)
		}
		t.errors = 0
		t.wtx = int(b.INF[0])
		return respond(b.INF), nil
	case sIFS:
		if len(b.INF) != 1 || b.INF[0] == 0 || b.INF[0] == 0xFF || t.state == t1Resync {
			return t.bad(2)
		}
		t.errors = 0
		t.ifsc = int(b.INF[0])
		return respond(b.INF), nil
	case sAbort:
		if len(b.INF) != 0 || t.state == t1Resync {
			return t.bad(2)
		}
		t.state = t1Idle
		err := ErrAborted
		if t.whole {
			err = fmt.Errorf("%w: %w", ErrLost, ErrAborted)
		}
		return respond(nil), err
	}
	return t.bad(2) // RESYNCH comes from the reader alone
}

// again sends the last block once more, within the limit of errors.
func (t *T1) again() (Step, error) {
	if t.errors++; t.errors > 3 {
		return t.resync()
	}
	return Step{Send: t.last, WTX: 1}, nil
}

// bad answers a block that did not arrive or is wrong (ISO/IEC 7816-3 section
// 11.6.3.2): three R-blocks, then three resynchronisations, then the end.
func (t *T1) bad(code byte) (Step, error) {
	if t.errors++; t.errors > 3 {
		return t.resync()
	}
	if t.state == t1IFS || t.state == t1Resync {
		return Step{Send: t.last, WTX: 1}, nil // a request is repeated, not asked about
	}
	// An R-block is not what is repeated later: keep the I-block while sending.
	last := t.last
	s := t.sendR(code)
	if t.state == t1Sending {
		t.last = last
	}
	return s, nil
}

func (t *T1) resync() (Step, error) {
	if t.resyncs++; t.resyncs > 3 {
		return t.broken("it does not answer")
	}
	t.state = t1Resync
	t.errors = 3 // each further failure is the next request
	return t.sendS(sResynch, nil), nil
}

// resynced goes on after S(RESYNCH response): numbers are 0 again and the
// field size is the card's first. A command that was sent whole is not sent
// again: a card that made a cryptogram must not be asked for a second one.
func (t *T1) resynced() (Step, error) {
	t.ns, t.nr, t.errors = 0, 0, 0
	if t.ifsc = t.o.IFSC; t.ifsc <= 0 || t.ifsc > 254 {
		t.ifsc = 32
	}
	if t.whole {
		t.state = t1Idle
		t.command = nil
		return Step{}, ErrLost
	}
	t.sent, t.inFlight, t.answer = 0, 0, nil
	if !t.announced {
		t.state = t1IFS
		return t.sendS(sIFS, []byte{byte(t.ifsd)}), nil
	}
	t.state = t1Sending
	return t.sendI(), nil
}

func (t *T1) broken(why string) (Step, error) {
	whole := t.whole
	t.state, t.command = t1Broken, nil
	if whole {
		return Step{}, fmt.Errorf("%w: %s", ErrLost, why)
	}
	return Step{}, fmt.Errorf("%w: %s", ErrCard, why)
}
