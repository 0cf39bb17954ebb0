package neo2

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"tillbridge/drivers/virtual/port"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe/mask"
)

// Options describe a reader. The zero value is valid: a serial VP3300 with all
// profiles of virtualcard and nobody in front of it.
type Options struct {
	// Dir is where the link to the pty and the state file lie; empty means a
	// new directory under the system's temporary one (Serve only).
	Dir string
	// Link is the name of the link in Dir; empty means "reader0".
	Link string
	// Listen is a TCP address to serve on instead of a pty; Windows, and HID,
	// have no pty and use 127.0.0.1:0.
	Listen string
	// HID speaks HID reports of 64 bytes instead of bytes.
	HID bool
	// State is the file of the key's state; empty means Dir/reader-state.json
	// under Serve, and memory under New.
	State string
	// Serial is the controller's number, hex; empty means 0123456789ABCDEF.
	Serial string
	// Firmware is what 29-00 answers; empty means "VP3300 VIRTUAL 1.0".
	Firmware string
	// Key is loaded at the start. Without one Serve makes a random one.
	Key *InitialKey
	// Cards by the name that scripts use. Nil means every profile of
	// virtualcard under its own name.
	Cards map[string]*virtualcard.Card
	// Auto is a card name: a customer who always inserts it.
	Auto string
	// EncryptionOff starts the reader with SRED off; Locked makes it refuse to
	// turn it on.
	EncryptionOff, Locked bool
	// Old answers "unknown" to the commands about encryption and keys.
	Old bool
	// Plain does not mark masked and enciphered objects in their length.
	Plain bool
	// Asks sends a request to display (61-01) while 60-10 runs, and one for a
	// PIN (61-02) while 60-11 does, and fails where the host does not answer.
	Asks bool
}

// Reader is a card reader. It outlives its lines: [Reader.Run] is one power-on.
type Reader struct {
	o        Options
	uid      []byte
	vault    *vault
	customer *customer
	faults   *port.Faults
	running  sync.Mutex // one line at a time

	mu         sync.Mutex
	cards      map[string]*virtualcard.Card
	books      []Payment
	waiting    string
	encryption byte // bit 0 EMV, bit 1 stripes
}

// Payment is one line of the reader's own books. Amounts are minor units.
type Payment struct {
	N        int    `json:"n"`
	Card     string `json:"card"` // masked
	Entry    string `json:"entry"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"` // ISO 4217 number
	// First is what the card said to the first cryptogram ("approved",
	// "declined", "online"), Final to the host's answer: empty while none came,
	// and after a tap or swipe, where the host alone decides.
	First string `json:"first"`
	Final string `json:"final"`
	// Host is the response code that 60-12 brought, Asked what the card was
	// asked for then ("TC" or "AAC").
	Host       string `json:"host,omitempty"`
	Cryptogram string `json:"cryptogram,omitempty"`
}

// New makes a reader.
func New(o Options) (*Reader, error) {
	for _, d := range []struct {
		p *string
		v string
	}{{&o.Serial, "0123456789ABCDEF"}, {&o.Firmware, "VP3300 VIRTUAL 1.0"}, {&o.Link, "reader0"}} {
		if *d.p == "" {
			*d.p = d.v
		}
	}
	uid, err := hex.DecodeString(o.Serial)
	if err != nil {
		return nil, fmt.Errorf("the reader's serial number is hex digits")
	}
	v, err := openVault(o.State, o.Key)
	if err != nil {
		return nil, err
	}
	r := &Reader{o: o, uid: uid, vault: v, customer: newCustomer(), faults: port.NewFaults(faults...), cards: map[string]*virtualcard.Card{}, encryption: 0x03}
	if o.EncryptionOff {
		r.encryption = 0
	}
	maps.Copy(r.cards, o.Cards)
	if o.Auto != "" {
		return r, r.Do(Step{Do: "auto", Card: o.Auto})
	}
	return r, nil
}

// Do queues a step of the customer or a fault; see the package's comment.
// Steps of the port belong to [Serve].
func (r *Reader) Do(s Step) error {
	switch s.Do {
	case "insert", "tap", "swipe":
		if _, err := r.cardNamed(s.Card); err != nil {
			return err
		}
	case "auto":
		if s.Entry != "" && s.Entry != "insert" && s.Entry != "tap" && s.Entry != "swipe" {
			return fmt.Errorf("entry is insert, tap or swipe")
		}
		if s.Card != "" {
			if _, err := r.cardNamed(s.Card); err != nil {
				return err
			}
		}
	case "fault":
		return r.faults.Add(s.Fault, s.N, time.Duration(s.MS)*time.Millisecond)
	case "cancel", "walk-away", "pull", "forget":
	default:
		return fmt.Errorf("no such step; see the list in the package's comment")
	}
	r.customer.do(s)
	return nil
}

// Books returns the reader's own account of every payment that reached a card.
func (r *Reader) Books() []Payment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Payment{}, r.books...)
}

// Waiting says what the reader waits for: "card", or nothing.
func (r *Reader) Waiting() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

func (r *Reader) setWaiting(w string) {
	r.mu.Lock()
	r.waiting = w
	r.mu.Unlock()
}

// sred is what is encrypted: bit 0 EMV, bit 1 stripes.
func (r *Reader) sred() byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.encryption
}

func (r *Reader) setSRED(v byte) {
	r.mu.Lock()
	r.encryption = v & 0x03
	r.mu.Unlock()
}

func (r *Reader) enter(p Payment) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.N = len(r.books) + 1
	r.books = append(r.books, p)
	return p.N
}

func (r *Reader) settle(n int, final, host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > 0 && n <= len(r.books) {
		r.books[n-1].Final, r.books[n-1].Host = final, host
	}
}

// cardNamed returns a card; "visa" finds "visa-credit".
func (r *Reader) cardNamed(name string) (*virtualcard.Card, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.cards[name]; c != nil {
		return c, nil
	}
	if r.o.Cards == nil {
		for _, f := range virtualcard.Profiles() {
			if f.Name == name || name == "" || strings.HasPrefix(f.Name, name+"-") {
				c, err := virtualcard.New(&virtualcard.Options{}, f)
				if err != nil {
					return nil, err
				}
				r.cards[name] = c
				return c, nil
			}
		}
	}
	return nil, fmt.Errorf("no card of that name")
}

// CardNames lists the cards with their masked numbers.
func (r *Reader) CardNames() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	if r.o.Cards == nil {
		for _, f := range virtualcard.Profiles() {
			out[f.Name] = mask.PAN(f.PAN)
		}
	}
	for n, c := range r.o.Cards {
		out[n] = mask.PAN(c.PAN())
	}
	return out
}

// presented is a card in slot or field.
type presented struct {
	card   *virtualcard.Card
	entry  string // "contact", "contactless", "swipe"
	gone   bool
	kernel *kernel
	line   int // in the books
}

// Transmit answers as the card does, and not at all once it was taken away.
func (p *presented) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if p.gone {
		return nil, errCardGone
	}
	return p.card.Transmit(ctx, command)
}
