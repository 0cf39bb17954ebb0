package abecs

import "sync"

// Step is one thing that a customer does, or that a fault does to the line.
// The fields are those of a command on standard input.
type Step struct {
	Do      string `json:"do"`
	Card    string `json:"card,omitempty"`
	Digits  string `json:"digits,omitempty"`
	At      string `json:"at,omitempty"`
	Key     string `json:"key,omitempty"`
	N       int    `json:"n,omitempty"`
	Entry   string `json:"entry,omitempty"`
	AfterMS int    `json:"after_ms,omitempty"`
	Fault   string `json:"fault,omitempty"`
	MS      int    `json:"ms,omitempty"`
	Link    string `json:"link,omitempty"`

	Use  string `json:"use,omitempty"`
	Slot int    `json:"slot,omitempty"`
	KSN  string `json:"ksn,omitempty"`
}

// String names the step, never digits or keys.
func (s Step) String() string { return "step " + s.Do }

// GoString is String.
func (s Step) GoString() string { return s.String() }

// need is what the pad waits for.
type need int

const (
	needCard need = iota
	needPIN
	needRemoval
	needKey
	needMenu
)

// fits reports whether a step answers a need.
func fits(s Step, n need) bool {
	switch s.Do {
	case "cancel", "walk-away":
		return n != needRemoval || s.Do == "walk-away"
	case "insert", "tap", "swipe":
		return n == needCard
	case "pin", "wrong-pin":
		return n == needPIN
	case "remove":
		return n == needRemoval
	case "key":
		return n == needKey
	case "choose":
		return n == needMenu
	}
	return false
}

// customer holds the queued steps. It is used by the pad and by whoever
// scripts it.
type customer struct {
	mu      sync.Mutex
	steps   []Step
	auto    *Step // what to do where no step is queued
	changed chan struct{}
}

func newCustomer() *customer { return &customer{changed: make(chan struct{})} }

func (c *customer) do(s Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s.Do {
	case "forget":
		c.steps = nil
	case "auto":
		if s.Card == "" {
			c.auto = nil
		} else {
			c.auto = &s
		}
	default:
		c.steps = append(c.steps, s)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// queued reports whether a step of this kind waits its turn.
func (c *customer) queued(do string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.steps {
		if s.Do == do {
			return true
		}
	}
	return false
}

// take returns the step for a need, if there is one, and a channel that is
// closed when something changes.
func (c *customer) take(n need) (Step, bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.steps {
		if s.Do == "pull" {
			continue
		}
		if fits(s, n) {
			c.steps = append(c.steps[:i:i], c.steps[i+1:]...)
			return s, true, c.changed
		}
		break
	}
	if c.auto != nil && (len(c.steps) == 0 || c.steps[0].Do == "pull") {
		s := Step{AfterMS: c.auto.AfterMS, Card: c.auto.Card}
		switch n {
		case needCard:
			s.Do = c.auto.Entry
			if s.Do == "" {
				s.Do = "insert"
			}
		case needPIN:
			s.Do = "pin"
		case needRemoval:
			s.Do = "remove"
		case needKey:
			s.Do, s.Key = "key", "ok"
		case needMenu:
			s.Do, s.N = "choose", 1
		}
		return s, true, c.changed
	}
	return Step{}, false, c.changed
}

// pulls reports, once, whether the card is taken out when command at begins.
func (c *customer) pulls(at string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.steps {
		if s.Do == "pull" && (s.At == at || s.At == "" && at == "GOX") {
			c.steps = append(c.steps[:i:i], c.steps[i+1:]...)
			return true
		}
	}
	return false
}

// faults are what a pad can do wrong; the package's comment says how.
var faults = []string{
	"drop-ack", "bad-crc", "nak", "split", "duplicate", "noise", "stall", "late", "drop-response", "hang-up",
	"card-declines",
}

// again puts a step back in front.
func (c *customer) again(s Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.AfterMS = 0
	c.steps = append([]Step{s}, c.steps...)
}
