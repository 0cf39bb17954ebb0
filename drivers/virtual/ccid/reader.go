package ccid

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"tillbridge/emv/virtualcard"
)

// Card is what stands in the slot; *virtualcard.Card is one.
type Card interface {
	ATR() []byte
	Reset()
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

var _ Card = (*virtualcard.Card)(nil)

// Exchange levels as dwFeatures bits.
const (
	Character uint32 = 0x00000000
	TPDU      uint32 = 0x00010000
	Short     uint32 = 0x00020000
	Extended  uint32 = 0x00040000
)

// Options of [New]. The zero value is a reader of the short APDU level with a
// T=1 card of one test profile.
type Options struct {
	// Level is one of the constants above.
	Level uint32
	// Character makes a reader of the character level, whose Level is 0.
	Character bool
	// Features are the other dwFeatures bits; 0 means automatic parameters,
	// activation, voltage, clock, baud rate and PPS (00BE).
	Features uint32
	// Protocols is dwProtocols; 0 means both.
	Protocols uint32
	// MaxMessage is dwMaxCCIDMessageLength; 0 means 271.
	MaxMessage int
	// MaxIFSD is dwMaxIFSD; 0 means 254.
	MaxIFSD int
	// Card is in the slot from the start; nil means a card of profile
	// visa-credit. Empty leaves the slot empty.
	Card  Card
	Empty bool
}

// Fault is what goes wrong in the next XfrBlock.
type Fault string

// Faults.
const (
	TimeExtension Fault = "time extension" // three of them, then the answer
	WrongSeq      Fault = "wrong sequence" // the answer under another number, never the right one
	Late          Fault = "late"           // the answer comes before that to the next command
	Silent        Fault = "silent"         // no answer at all
	Double        Fault = "double"         // the answer twice
	Mute          Fault = "mute"           // the card does not answer the reader
	Parity        Fault = "parity"         // a damaged character
	Removed       Fault = "removed"        // the card is pulled after it acted
	Overlong      Fault = "overlong"       // the length field says more than comes
	WTX           Fault = "wtx"            // T=1: the card asks for time first
	BadLRC        Fault = "bad lrc"        // T=1: a damaged block
)

// Executed is one command that reached the card.
type Executed struct{ Command, Answer []byte }

// Reader is the virtual reader. It is safe for concurrent use.
type Reader struct {
	o Options

	mu       sync.Mutex
	line     io.Writer
	card     Card
	powered  bool
	protocol byte
	params   []byte
	began    []byte // of a chain
	answer   []byte // rest of a chained answer
	t0       cardT0
	t1       *cardT1
	faults   []Fault
	late     [][]byte
	abort    int // sequence number of an ABORT request, or -1
	done     []Executed
}

// New makes a reader.
func New(o *Options) (*Reader, error) {
	r := &Reader{abort: -1}
	if o != nil {
		r.o = *o
	}
	if r.o.Level == 0 && !r.o.Character {
		r.o.Level = Short
	}
	if r.o.Features == 0 {
		r.o.Features = 0x00BE
	}
	if r.o.Protocols == 0 {
		r.o.Protocols = 3
	}
	if r.o.MaxMessage == 0 {
		r.o.MaxMessage = 271
	}
	if r.o.MaxIFSD == 0 {
		r.o.MaxIFSD = 254
	}
	if r.o.MaxMessage < 15 {
		return nil, errors.New("virtual ccid: a message holds at least a command header")
	}
	if !r.o.Empty {
		r.card = r.o.Card
		if r.card == nil {
			p, err := virtualcard.Named("visa-credit")
			if err != nil {
				return nil, err
			}
			if r.card, err = virtualcard.New(&virtualcard.Options{Seed: 1}, p); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// Do queues faults; each spoils one XfrBlock that reaches a powered card.
func (r *Reader) Do(f ...Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, f...)
}

// Executed returns what reached the card, in order.
func (r *Reader) Executed() []Executed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Executed(nil), r.done...)
}

// Powered reports whether the card has power.
func (r *Reader) Powered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.powered
}

// Insert puts a card in and tells the host.
func (r *Reader) Insert(c Card) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.card, r.powered = c, false
	r.notify(3)
}

// Remove pulls the card and tells the host.
func (r *Reader) Remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pull()
}

func (r *Reader) pull() {
	r.card, r.powered, r.t1, r.answer, r.began = nil, false, nil, nil, nil
	r.notify(2)
}

// notify is RDR_to_PC_NotifySlotChange (6.3.1). The caller holds mu.
func (r *Reader) notify(bits byte) {
	if r.line != nil {
		_, _ = r.line.Write([]byte{0x50, bits})
	}
}

// Serve answers on line until it ends, or ctx does. One Read is one message.
func (r *Reader) Serve(ctx context.Context, line io.ReadWriteCloser) error {
	stop := context.AfterFunc(ctx, func() { line.Close() })
	defer stop()
	r.mu.Lock()
	r.line = line
	if r.card != nil {
		r.notify(3)
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.line = nil
		r.mu.Unlock()
	}()
	buf := make([]byte, 1<<17)
	for {
		n, err := line.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := r.take(ctx, line, buf[:n]); err != nil {
			return err
		}
	}
}

func (r *Reader) take(ctx context.Context, line io.Writer, m []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	answers := r.bulk(ctx, m)
	late := r.late
	r.late = nil
	for _, a := range answers {
		if string(a) == string(hold) {
			continue
		}
		for _, l := range late {
			if _, err := line.Write(l); err != nil {
				return err
			}
		}
		late = nil
		if _, err := line.Write(a); err != nil {
			return err
		}
	}
	r.late = append(late, r.late...)
	return nil
}

// Control answers a request on the control endpoint: GET_DESCRIPTOR of the
// configuration, ABORT, GET_CLOCK_FREQUENCIES, GET_DATA_RATES (5.3). Others
// stall.
func (r *Reader) Control(requestType, request byte, value, index uint16, data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case requestType == 0x80 && request == 6 && value == 0x0200:
		return copy(data, r.configuration()), nil
	case requestType == 0x21 && request == 1:
		if value&0xFF != 0 {
			return 0, errors.New("virtual ccid: stall: there is one slot")
		}
		r.abort = int(value >> 8)
		return 0, nil
	case requestType == 0xA1 && request == 2:
		return copy(data, []byte{0xA0, 0x0F, 0, 0}), nil
	case requestType == 0xA1 && request == 3:
		return copy(data, []byte{0x80, 0x25, 0, 0}), nil
	}
	return 0, errors.New("virtual ccid: stall")
}

// configuration is the raw configuration descriptor.
func (r *Reader) configuration() []byte {
	le := binary.LittleEndian
	class := []byte{0x36, 0x21, 0x10, 0x01, 0, 7}
	class = le.AppendUint32(class, r.o.Protocols)
	class = append(class, 0xA0, 0x0F, 0, 0, 0xA0, 0x0F, 0, 0, 0, 0x80, 0x25, 0, 0, 0x00, 0xC2, 1, 0, 0)
	class = le.AppendUint32(class, uint32(r.o.MaxIFSD))
	class = append(class, 0, 0, 0, 0, 0, 0, 0, 0)
	class = le.AppendUint32(class, r.o.Level|r.o.Features)
	class = le.AppendUint32(class, uint32(r.o.MaxMessage))
	class = append(class, 0xFF, 0xFF, 0, 0, 0, 1)
	body := append([]byte{9, 4, 0, 0, 3, 0x0B, 0, 0, 0}, class...)
	body = append(body, 7, 5, 0x81, 3, 0x40, 0, 0xFF, 7, 5, 0x82, 2, 0x40, 0, 0, 7, 5, 0x03, 2, 0x40, 0, 0)
	head := []byte{9, 2, 0, 0, 1, 1, 0, 0xE0, 50}
	le.PutUint16(head[2:], uint16(len(head)+len(body)))
	return append(head, body...)
}
