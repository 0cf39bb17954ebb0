package crm

import (
	"context"
	"time"
)

// Item is one stored record on its way out.
type Item struct {
	ID       uint64 // of the outbox; grows
	Key      string // whose order it keeps
	Body     []byte
	Attempts int       // counted so far
	Recorded time.Time // when it was stored
}

// Outbox is what the [Forwarder] needs of the store.
type Outbox interface {
	// Lease hands out at most max items that are due, oldest first, and of
	// each key only the oldest one that is neither acknowledged nor dead; a key
	// with a leased item yields none. A lease lives in memory: after a restart
	// the item is handed out again. next is when the earliest item that is not
	// due becomes due (zero when there is none).
	Lease(ctx context.Context, max int) (items []Item, next time.Time, err error)
	// Ack records that the receiver has the item. It may become durable later:
	// losing it costs one more delivery of the same id.
	Ack(ctx context.Context, id uint64) error
	// Retry gives the lease back: not before at, with attempts counted. Both
	// are durable, so that a restart does not storm the receiver.
	Retry(ctx context.Context, id uint64, at time.Time, attempts int, reason string) error
	// Dead puts the item aside with its reason; the next of its key may go.
	Dead(ctx context.Context, id uint64, reason string) error
	// Changed returns a channel that is closed, or yields a value, when
	// something may have become leasable. It is taken before a look.
	Changed() <-chan struct{}
}
