package engine

import (
	"context"
	"io"
	"log/slog"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/drivers"
	"tillbridge/emv/contact"
	"tillbridge/queue"
)

// Store is what the engine needs of the durable store; *queue.Store is one.
type Store interface {
	Commit(ctx context.Context, fn func(*queue.Tx) error) error
	View(ctx context.Context, fn func(*queue.Tx) error) error
	Read(ctx context.Context, topic string, after uint64, limit int) ([]queue.Message, error)
}

var _ Store = (*queue.Store)(nil)

// Station is the device of a register. Do calls fn with the open device, alone:
// no two calls of Do overlap. It waits for the device as long as ctx lets it
// and returns an error without calling fn when there is none. An error of fn is
// returned as it is.
type Station interface {
	Do(ctx context.Context, fn func(d drivers.Device) error) error
}

// Supervised is a device of the drivers' supervisor as a [Station].
type Supervised struct {
	Supervisor *drivers.Supervisor
	Name       string // of the device in the configuration
}

// Do runs fn alone with the open device.
func (s Supervised) Do(ctx context.Context, fn func(d drivers.Device) error) error {
	return s.Supervisor.Do(ctx, s.Name, fn)
}

var _ Station = Supervised{}

// Lane is a register with its device.
type Lane struct {
	RegisterID string // as the till names it
	DeviceID   string // as the configuration names it
	TerminalID string // as the acquirer knows this register (DE41), at most 8 characters
	MerchantID string // DE42, at most 15 characters
	// Device is the pad or terminal.
	Device Station
	// ContactOnly says that the device never runs a contactless card to its
	// cryptogram in its read. Without it the authorizing record of a payment
	// that allows a tap comes before the read (R1). Ignored for terminals.
	ContactOnly bool
	// Kernel is what the terminal is for readers without a kernel of their own.
	// Without it, or without its Encrypter, such a reader takes no payments.
	Kernel *contact.Config
	// Encryption, when set, is asked before each payment on such a reader.
	Encryption Encryption
	// Zone is the shop's zone, for dates of records and messages; nil means UTC.
	Zone *time.Location
}

// Options of Open. Store, Sealer and at least one lane are needed; Link is
// needed for registers whose device does not authorise by itself.
type Options struct {
	Store  Store
	Sealer Sealer
	Link   acquirer.Link
	Lanes  []Lane

	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Log receives progress without card data; nil discards it.
	Log *slog.Logger
	// Random is for ids; nil means crypto/rand.
	Random io.Reader

	// CardTimeout is how long a cardholder may take where the request names no
	// deadline; 0 means 90 s.
	CardTimeout time.Duration
	// DeviceTimeout is how long to wait for a device to be there; 0 means 15 s.
	DeviceTimeout time.Duration
	// HostTimeout is how long the host may take; 0 means 40 s.
	HostTimeout time.Duration
	// TerminalTimeout is how long a terminal may take for a whole operation; 0
	// means 200 s.
	TerminalTimeout time.Duration
	// StoreTimeout is how long a till's request waits for the store before it is
	// answered with an error; 0 means 10 s.
	StoreTimeout time.Duration
	// RetryFirst and RetryMax bound the delays between repeats of a reversal, an
	// inquiry or a query: doubled from the first to the last. 0 means 5 s and 5 min.
	RetryFirst, RetryMax time.Duration
	// Inquiries is how often the host is asked before the reversal; 0 means 3,
	// negative that the host has no inquiry.
	Inquiries int
	// Refusals is how often the host may refuse a reversal before it is held for
	// a person; 0 means 20.
	Refusals int
	// Grace is how long Run waits, once its context ended, for payments past the
	// authorizing record; 0 means 45 s. Negative means none.
	Grace time.Duration
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.CardTimeout, 90*time.Second)
	def(&o.DeviceTimeout, 15*time.Second)
	def(&o.HostTimeout, 40*time.Second)
	def(&o.TerminalTimeout, 200*time.Second)
	def(&o.StoreTimeout, 10*time.Second)
	def(&o.RetryFirst, 5*time.Second)
	def(&o.RetryMax, 5*time.Minute)
	def(&o.Grace, 45*time.Second)
	if o.Grace < 0 {
		o.Grace = 0
	}
	if o.Inquiries == 0 {
		o.Inquiries = 3
	}
	if o.Refusals == 0 {
		o.Refusals = 20
	}
	return o
}
