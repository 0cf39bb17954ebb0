package zvt

import (
	"fmt"
	"sync"
)

// Step is one thing that a customer does, or a fault. The fields are those of
// a command on standard input; see the package's comment.
type Step struct {
	Do      string `json:"do"`
	Card    string `json:"card,omitempty"`
	Entry   string `json:"entry,omitempty"`
	Code    int    `json:"code,omitempty"`
	AfterMS int    `json:"after_ms,omitempty"`
	Fault   string `json:"fault,omitempty"`
	N       int    `json:"n,omitempty"`
	MS      int    `json:"ms,omitempty"`
	Link    string `json:"link,omitempty"`
}

// card is a published test card.
type card struct {
	pan, name string
	kind      byte   // BMP 8A
	column    int    // of the totals of an end of day
	aid       []byte // tag 43
}

var cards = map[string]card{
	"visa":       {"4111111111111111", "VISA", 10, 4, []byte{0xA0, 0, 0, 0, 0x03, 0x10, 0x10}},
	"mastercard": {"5555555555554444", "Mastercard", 6, 2, []byte{0xA0, 0, 0, 0, 0x04, 0x10, 0x10}},
	"debit":      {"5204740000001002", "Debit Mastercard", 46, 6, []byte{0xA0, 0, 0, 0, 0x04, 0x10, 0x10}},
	"amex":       {"378282246310005", "American Express", 8, 3, []byte{0xA0, 0, 0, 0, 0x25, 0x01}},
}

// masked is BMP 22: all digits but the last four as nibble E.
func (c card) masked() []byte {
	n := len(c.pan)
	out := make([]byte, (n+1)/2)
	for i := range 2 * len(out) {
		x := byte(0xE)
		switch {
		case i >= n:
			x = 0xF
		case i >= n-4:
			x = c.pan[i] - '0'
		}
		out[i/2] |= x << (4 * (1 - i%2))
	}
	return out
}

func (c card) last4() string { return c.pan[len(c.pan)-4:] }

// customer holds the queued steps. It is used by the terminal and by whoever
// scripts it.
type customer struct {
	mu       sync.Mutex
	steps    []Step
	auto     *Step
	standing *Step // who paid last
	visit    int
	amount   int64 // that the one who stands there was asked for
	changed  chan struct{}
}

func newCustomer() *customer { return &customer{changed: make(chan struct{})} }

func (c *customer) do(s Step) error {
	if s.Card != "" {
		if _, ok := cards[s.Card]; !ok {
			return fmt.Errorf("there is no card %q", s.Card)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s.Do {
	case "forget":
		c.steps, c.standing = nil, nil
	case "auto":
		if c.auto = nil; s.Card != "" {
			c.auto = &s
		}
	case "insert", "tap", "swipe", "wrong-pin", "decline", "cancel", "walk-away":
		c.steps = append(c.steps, s)
	default:
		return fmt.Errorf("there is no command %q", s.Do)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// take returns who pays an amount, and the number of the visit.
func (c *customer) take(amount int64) (Step, int, bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.steps) > 0:
		s := c.steps[0]
		c.steps = c.steps[1:]
		c.visit++
		c.standing, c.amount = &s, amount
		if s.Do == "cancel" || s.Do == "walk-away" {
			c.standing = nil
		}
		return s, c.visit, true, nil
	case c.auto != nil:
		s := *c.auto
		if s.Do = s.Entry; s.Do == "" {
			s.Do = "tap"
		}
		if c.amount != amount {
			c.visit++
		}
		c.amount = amount
		return s, c.visit, true, nil
	case c.standing != nil && c.amount == amount:
		return *c.standing, c.visit, true, nil
	}
	return Step{}, 0, false, c.changed
}

// faults are what a terminal can do wrong; the package's comment says how.
var faults = []string{
	"lose-status", "drop-after-ack", "hang-up", "print-lost", "auto-reversal", "partial", "wrong-amount",
	"wrong-currency", "no-amount", "contradict", "late",

	"lose-reply", "stale", "busy", "garbage", "bad-crc", "nak", "drop-ack", "split", "duplicate", "stall",
}
