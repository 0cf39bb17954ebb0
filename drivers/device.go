package drivers

import (
	"context"
	"log/slog"
	"time"
)

// Cost says what probing a port does to it.
type Cost int

// Costs of a probe.
const (
	CostNone     Cost = iota // recognised without opening
	CostPassive              // open and listen
	CostSafe                 // a ping that any device ignores or answers
	CostInvasive             // bytes that may disturb a device of another kind
)

// Match says whether a driver wants a port, how sure it is and what a probe
// costs.
type Match struct {
	OK bool
	// Priority orders drivers that want the same port; higher first.
	Priority int
	Cost     Cost
	// Why is for `devices list`: why the port was taken or not.
	Why string
}

// Config is what a driver is told about its device, from the configuration.
type Config struct {
	Name   string            // name of the device in the configuration
	Log    *slog.Logger      // never nil
	Params map[string]string // protocol parameters, already validated by the driver's own rules
}

// Driver opens devices of one protocol.
type Driver interface {
	// Name is the protocol: "abecs", "zvt", "neo2", "ccid".
	Name() string
	Match(p Port) Match
	// Open takes the transport over and brings the device to where Identify
	// works. On error the transport is closed.
	Open(ctx context.Context, t Transport, c Config) (Device, error)
}

// Span is a range [Start, End) of bytes.
type Span struct{ Start, End int }

// Redactor is a Driver that knows where card data stands in its protocol's
// bytes, for traces. fromDevice says who sent them; the bytes are one or
// several frames as they stood on the wire, perhaps cut off.
type Redactor interface {
	CardData(fromDevice bool, wire []byte) []Span
}

// Describer is a Driver that says what recorded bytes mean, one line a frame,
// without card data. Bytes that cannot be read are named as such.
type Describer interface {
	Describe(fromDevice bool, wire []byte) []string
}

// Info is what is known of a device without asking it.
type Info struct {
	Protocol string
	Port     Port
}

// Identity is what the device says of itself. Serial wins over the path as
// the device's identity.
type Identity struct {
	Vendor, Model, Serial, Firmware string
	// Kernel is the device's own EMV kernel version, or empty.
	Kernel string
	// Keys names key slots and their KSN without counter, for people.
	Keys map[string]string
}

// Health is the answer to a keep-alive.
type Health struct {
	OK      bool
	Detail  string // plain words
	Checked time.Time
}

// Device is an open device. Methods are called by one goroutine at a time,
// its owner in the supervisor; only Close may be called from elsewhere.
type Device interface {
	Info() Info
	Identify(ctx context.Context) (Identity, error)
	Health(ctx context.Context) (Health, error)
	Close() error
}
