package neo2

import (
	"sync"
	"time"
)

// Step is one thing that a customer does, or that a fault does. The fields are
// those of a command on standard input.
type Step struct {
	Do      string `json:"do"`
	Card    string `json:"card,omitempty"`
	At      string `json:"at,omitempty"`
	N       int    `json:"n,omitempty"`
	Entry   string `json:"entry,omitempty"`
	AfterMS int    `json:"after_ms,omitempty"`
	Fault   string `json:"fault,omitempty"`
	MS      int    `json:"ms,omitempty"`
	Link    string `json:"link,omitempty"`
	KSN     string `json:"ksn,omitempty"`
}

// String names the step.
func (s Step) String() string { return "step " + s.Do }

// customer holds the queued steps.
type customer struct {
	mu      sync.Mutex
	steps   []Step
	auto    *Step
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
		c.auto = nil
		if s.Card != "" {
			c.auto = &s
		}
	default:
		c.steps = append(c.steps, s)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// take returns the next step, if there is one, and a channel that is closed
// when something changes.
func (c *customer) take() (Step, bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.steps {
		if s.Do != "pull" {
			c.steps = append(c.steps[:i:i], c.steps[i+1:]...)
			return s, true, c.changed
		}
	}
	if c.auto == nil {
		return Step{}, false, c.changed
	}
	s := Step{Do: c.auto.Entry, AfterMS: c.auto.AfterMS, Card: c.auto.Card}
	if s.Do == "" {
		s.Do = "insert"
	}
	return s, true, c.changed
}

// pulls reports, once, whether the card is taken away when a command begins.
func (c *customer) pulls(at string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.steps {
		if s.Do == "pull" && (s.At == at || s.At == "" && at == "60-11") {
			c.steps = append(c.steps[:i:i], c.steps[i+1:]...)
			return true
		}
	}
	return false
}

// faults are counted down as they are played.
type faults struct {
	mu   sync.Mutex
	left map[string]*Step
}

var knownFaults = map[string]bool{
	"bad-crc": true, "split": true, "duplicate": true, "noise": true, "late": true, "drop-answer": true, "hang-up": true,
	"card-declines": true, "encryption-off": true, "clear-data": true, "no-attribution": true, "wrong-attribution": true,
	"no-ksn": true, "wrong-amount": true, "wrong-currency": true, "odd-result": true, "clear": true,
}

func (f *faults) add(s Step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == nil || s.Fault == "clear" {
		f.left = map[string]*Step{}
	}
	if s.Fault == "clear" {
		return
	}
	s.N = max(s.N, 1)
	f.left[s.Fault] = &s
}

// play takes one of a fault, and its time.
func (f *faults) play(name string) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.left[name]
	if s == nil {
		return 0, false
	}
	if s.N--; s.N <= 0 {
		delete(f.left, name)
	}
	return time.Duration(s.MS) * time.Millisecond, true
}
