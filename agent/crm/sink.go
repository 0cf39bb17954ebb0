package crm

import (
	"context"
	"errors"
	"slices"
	"time"
)

// ErrUnsupported is what a Sink returns for what its system cannot do.
var ErrUnsupported = errors.New("not supported by this sink")

// Sink is one receiving system.
type Sink interface {
	// Name is short and stable; it appears in status and metrics.
	Name() string
	Caps() Caps
	// Deliver sends the batch, in which no two events have the same partition
	// key. It returns one Result per event at the same index. An error means
	// that nothing is known about any of them.
	Deliver(ctx context.Context, batch []Event) ([]Result, error)
	// Lookup reads what the system knows of a customer, or ErrUnsupported.
	Lookup(ctx context.Context, k CustomerKey) (CustomerContext, error)
	// Probe checks address, credentials and schema, and writes nothing.
	Probe(ctx context.Context) error
}

// Caps says what a Sink can do.
type Caps struct {
	MaxBatch       int // events in one Deliver; 0 means 1
	MaxBytes       int // bytes of one event; 0 means no limit
	NativeUpsert   bool
	PartialResults bool
	ReadsContext   bool
	Kinds          []string // event types it takes; nil means all
}

// Takes reports whether the sink wants events of the type.
func (c Caps) Takes(kind string) bool {
	if c.Kinds == nil {
		return true
	}
	return slices.Contains(c.Kinds, kind)
}

// CustomerKey names a customer by one of the identifiers, tried in this order.
type CustomerKey struct {
	LoyaltyID, Token, PAR, Phone, Email string
}

// CustomerContext is what a till may show. Its text comes from outside.
type CustomerContext struct {
	Ref, DisplayName, Tier string
	PointsMinor            int64
}

// Class is what became of one event.
type Class int

// The classes of a [Result].
const (
	// Unknown: sent, and no answer. Sent again under the same id; never taken
	// for a failure.
	Unknown Class = iota
	// Accepted: the receiver has it.
	Accepted
	// Duplicate: the receiver had it already, and named its id.
	Duplicate
	// Retry: the receiver cannot take it now.
	Retry
	// Throttled: the receiver asks for a pause. The whole sink pauses, and no
	// attempt is counted.
	Throttled
	// AuthFailed: our credentials were refused. The whole sink pauses; nothing
	// is put aside and no attempt is counted, for the events are sound.
	AuthFailed
	// Stopped: the receiver asks that nothing more be sent (HTTP 410). Like
	// AuthFailed.
	Stopped
	// Conflict: somebody else changed the receiver's record; read and applied
	// again, like Retry.
	Conflict
	// Rejected: the receiver will never take this event. It is put aside.
	Rejected
)

func (c Class) String() string {
	switch c {
	case Unknown:
		return "unknown"
	case Accepted:
		return "accepted"
	case Duplicate:
		return "duplicate"
	case Retry:
		return "retry"
	case Throttled:
		return "throttled"
	case AuthFailed:
		return "auth_failed"
	case Stopped:
		return "stopped"
	case Conflict:
		return "conflict"
	case Rejected:
		return "rejected"
	}
	return "class?"
}

// Result is what became of one event of a batch.
type Result struct {
	Class      Class
	RemoteID   string
	RetryAfter time.Duration // what the receiver asked for; 0 when it did not
	Code       string        // dotted, e.g. "http.422"
	Reason     string        // bounded, without card data and control characters
}
