package abecs

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"tillbridge/drivers/virtual/port"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe/mask"
)

// Options describe a pad. The zero value is valid: a pad with keys of its own
// making, all profiles of virtualcard, and nobody in front of it.
type Options struct {
	// Dir is where the link to the pty and the state file lie; empty means a
	// new directory under the system's temporary one (Serve only).
	Dir string
	// Link is the name of the link in Dir; empty means "pad0".
	Link string
	// Listen is a TCP address to serve on instead of a pty; Windows has no pty
	// and uses 127.0.0.1:0.
	Listen string
	// State is the file of KSN counters and tables; empty means
	// Dir/pad-state.json under Serve, and memory under New.
	State string
	// Serial, Model and Maker are what GIX answers; empty means VP000001,
	// VIRTUAL-1 and TILLBRIDGE.
	Serial, Model, Maker string
	// Keys are loaded at the start. With none, and none in the state, Serve
	// makes random ones in slot 0.
	Keys []InitialKey
	// Cards by the name that scripts use. Nil means every profile of
	// virtualcard under its own name, made when first used.
	Cards map[string]*virtualcard.Card
	// Auto is a card name: a customer who inserts it, knows the PIN and takes
	// it back. Empty means nobody.
	Auto string
	// Clear accepts Abecs commands without a secure channel, as the pad of a
	// log that was taken above the channel.
	Clear bool
	// Old is a pad from before the secure channel: it answers a secure OPN
	// with 000 alone and refuses Abecs commands.
	Old bool
}

// Pad is a PIN pad. It outlives its lines: [Pad.Run] is one power-on.
type Pad struct {
	o        Options
	vault    *vault
	customer *customer
	faults   *port.Faults
	running  sync.Mutex // one line at a time

	mu      sync.Mutex
	cards   map[string]*virtualcard.Card
	slot    *inserted // the card in the slot or on the antenna
	books   []Payment
	shown   string
	waiting string
}

// Payment is one line of the pad's own books. Amounts are minor units.
type Payment struct {
	N        int    `json:"n"`
	Card     string `json:"card"` // masked
	Entry    string `json:"entry"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"` // ISO 4217 number
	Type     int    `json:"type"`     // 0 sale, 32 refund
	// First is what the card said to the first cryptogram, Final to the host's
	// answer: "approved", "declined", "online" or, for Final, empty while no
	// answer came.
	First string `json:"first"`
	Final string `json:"final"`
	ATC   int    `json:"atc"`
	// Cryptogram is tag 9F26 of the first cryptogram.
	Cryptogram string `json:"cryptogram,omitempty"`
}

// New makes a pad. The state file is read, or begun.
func New(o Options) (*Pad, error) {
	for _, d := range []struct {
		p *string
		v string
	}{{&o.Serial, "VP000001"}, {&o.Model, "VIRTUAL-1"}, {&o.Maker, "TILLBRIDGE"}, {&o.Link, "pad0"}} {
		if *d.p == "" {
			*d.p = d.v
		}
	}
	v, err := openVault(o.State, o.Keys)
	if err != nil {
		return nil, err
	}
	p := &Pad{o: o, vault: v, customer: newCustomer(), faults: port.NewFaults(faults...), cards: map[string]*virtualcard.Card{}}
	maps.Copy(p.cards, o.Cards)
	if o.Auto != "" {
		if _, err := p.cardNamed(o.Auto); err != nil {
			return nil, err
		}
		p.customer.do(Step{Do: "auto", Card: o.Auto})
	}
	return p, nil
}

// Do queues a step of the customer or a fault of the line; see the package's
// comment for what there is. Steps of the port belong to [Serve].
func (p *Pad) Do(s Step) error {
	switch s.Do {
	case "insert", "tap", "swipe":
		if _, err := p.cardNamed(s.Card); err != nil {
			return err
		}
	case "auto":
		if s.Card != "" {
			if _, err := p.cardNamed(s.Card); err != nil {
				return err
			}
		}
		if s.Entry != "" && s.Entry != "insert" && s.Entry != "tap" && s.Entry != "swipe" {
			return fmt.Errorf("entry is insert, tap or swipe")
		}
	case "fault":
		return p.faults.Add(s.Fault, s.N, time.Duration(s.MS)*time.Millisecond)
	case "remove":
		// After the payment nobody has to ask; before, and behind the removal of
		// an earlier customer, the step waits its turn.
		earlier := p.customer.queued("remove")
		p.mu.Lock()
		taken := !earlier && p.slot != nil && p.slot.over && p.waiting != "removal"
		if taken {
			p.slot.gone = true
		}
		p.mu.Unlock()
		if taken {
			return nil
		}
	case "pin", "wrong-pin", "cancel", "walk-away", "pull", "key", "choose", "forget":
	default:
		return fmt.Errorf("no such step; see the list in the package's comment")
	}
	p.customer.do(s)
	return nil
}

// Books returns the pad's own account of every payment that reached a card.
func (p *Pad) Books() []Payment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Payment(nil), p.books...)
}

// Shown returns what stands on the display.
func (p *Pad) Shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown
}

// Waiting says what the pad waits for: "card", "pin", "removal", "key",
// "menu", or nothing.
func (p *Pad) Waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}

func (p *Pad) show(text string) {
	p.mu.Lock()
	p.shown = text
	p.mu.Unlock()
}

func (p *Pad) setWaiting(w string) {
	p.mu.Lock()
	p.waiting = w
	p.mu.Unlock()
}

// cardNamed returns a card; an empty name is the first profile.
func (p *Pad) cardNamed(name string) (*virtualcard.Card, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.cards[name]; c != nil {
		return c, nil
	}
	if p.o.Cards != nil {
		if name == "" && len(p.o.Cards) == 1 {
			for _, c := range p.o.Cards {
				return c, nil
			}
		}
		return nil, fmt.Errorf("no card of that name")
	}
	for _, f := range virtualcard.Profiles() {
		if f.Name == name || name == "" || strings.HasPrefix(f.Name, name+"-") {
			c, err := virtualcard.New(&virtualcard.Options{}, f)
			if err != nil {
				return nil, err
			}
			p.cards[name] = c
			return c, nil
		}
	}
	return nil, fmt.Errorf("no card of that name")
}

// CardNames lists the cards of the pad with their masked numbers.
func (p *Pad) CardNames() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]string{}
	if p.o.Cards == nil {
		for _, f := range virtualcard.Profiles() {
			out[f.Name] = mask.PAN(f.PAN)
		}
	}
	for n, c := range p.o.Cards {
		out[n] = mask.PAN(c.PAN())
	}
	return out
}

// inserted is a card in use.
type inserted struct {
	pad   *Pad
	card  *virtualcard.Card
	entry string // "contact", "contactless", "swipe"
	gone  bool   // guarded by Pad.mu
	over  bool   // its payment is; guarded by Pad.mu

	kernel *kernel
	read   bool // data may be fetched by GTK, once
	pin    *pinBlock
	pan    string
	track1 string
	track2 string
	first  outcome
	began  bool // GOX was done
	done   bool // FCX was done, or none is due
	line   int  // index in the books, from 1
}

// Transmit answers as the card does, and not at all once it was taken out.
func (c *inserted) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if c.pad.isGone(c) {
		return nil, errCardGone
	}
	return c.card.Transmit(ctx, command)
}

func (p *Pad) isGone(c *inserted) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.gone
}

// takeOut removes the card from slot or antenna.
func (p *Pad) takeOut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slot != nil {
		p.slot.gone = true
		p.slot = nil
	}
}

// put brings a card into slot or field.
func (p *Pad) put(s Step) (*inserted, error) {
	c, err := p.cardNamed(s.Card)
	if err != nil {
		return nil, err
	}
	in := &inserted{pad: p, card: c, entry: map[string]string{"insert": "contact", "tap": "contactless", "swipe": "swipe"}[s.Do]}
	c.Reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.entry == "contact" {
		p.slot = in
	}
	return in, nil
}

// finish ends the payment of a card.
func (p *Pad) finish(in *inserted) {
	in.done = true
	p.mu.Lock()
	in.over = true
	p.mu.Unlock()
}

// again makes a card that stayed in the slot ready for another payment.
func (p *Pad) again(in *inserted) {
	in.card.Reset()
	in.kernel, in.pin, in.read, in.began, in.done, in.line = nil, nil, false, false, false, 0
	p.mu.Lock()
	in.over = false
	p.mu.Unlock()
}

// inSlot returns the chip card that is in the slot.
func (p *Pad) inSlot() *inserted {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slot != nil && p.slot.gone {
		p.slot = nil
	}
	return p.slot
}

// enter writes a line into the books.
func (p *Pad) enter(l Payment) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.N = len(p.books) + 1
	p.books = append(p.books, l)
	return l.N
}

func (p *Pad) settle(n int, final string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > 0 && n <= len(p.books) {
		p.books[n-1].Final = final
	}
}

// ask waits for the customer: it returns the step that answers need, a
// "timeout" step after limit without one, or errCancel when the host gave up.
func (s *session) ask(n need, limit time.Duration) (Step, error) {
	p := s.pad
	p.setWaiting([]string{"card", "pin", "removal", "key", "menu"}[n])
	defer p.setWaiting("")
	expired := make(chan struct{})
	if limit > 0 {
		t := time.AfterFunc(limit, func() { close(expired) })
		defer t.Stop()
	}
	for {
		step, ok, changed := p.customer.take(n)
		if ok {
			if step.Do != "walk-away" {
				d := time.Duration(step.AfterMS) * time.Millisecond
				if d > 0 {
					if err := s.sleep(d); err != nil {
						return Step{}, err
					}
				}
				return step, nil
			}
			changed = make(chan struct{}) // nobody comes back
		}
		alarm := make(chan struct{})
		stop := make(chan struct{})
		var watch sync.WaitGroup
		late := false
		watch.Go(func() {
			defer close(alarm)
			select {
			case <-changed:
			case <-expired:
				late = true
			case <-stop:
			}
		})
		err := s.await(alarm)
		close(stop)
		watch.Wait()
		if err != nil {
			return Step{}, err
		}
		if late {
			return Step{Do: "timeout"}, nil
		}
	}
}
