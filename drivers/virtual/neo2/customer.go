package neo2

import "sync"

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

// faults are what a reader can do wrong; the package's comment says how.
var faults = []string{
	"bad-crc", "split", "duplicate", "noise", "late", "drop-answer", "hang-up", "card-declines",
	"encryption-off", "clear-data", "no-attribution", "wrong-attribution", "no-ksn", "wrong-amount",
	"wrong-currency", "odd-result",
}
