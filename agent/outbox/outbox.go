// Package outbox is the store's log as the CRM forwarder sees it: it joins
// [queue.Store] to the interface that package crm declares, so that neither
// knows the other.
//
// [New] takes an open store, the name of its consumer, and how to open a sealed
// body. The store's lease must be longer than the forwarder's SendTimeout,
// else a slow delivery is given to a second worker.
package outbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tillbridge/agent/crm"
	"tillbridge/queue"
)

// Outbox satisfies [crm.Outbox].
type Outbox struct {
	store    *queue.Store
	consumer string
	open     func(queue.Message) ([]byte, error)

	mu   sync.Mutex
	lent map[uint64]queue.Delivery
}

var _ crm.Outbox = (*Outbox)(nil)

// New joins the consumer of the store. open unseals the body of a message to
// the JSON of a payment event.
func New(store *queue.Store, consumer string, open func(queue.Message) ([]byte, error)) *Outbox {
	return &Outbox{store: store, consumer: consumer, open: open, lent: map[uint64]queue.Delivery{}}
}

// Lease implements [crm.Outbox]. A body that does not open is lent empty: no
// mapper reads it, so that it is put aside and kept.
func (o *Outbox) Lease(ctx context.Context, max int) ([]crm.Item, time.Time, error) {
	lent, err := o.store.Lease(ctx, o.consumer, max)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("lease from the store: %w", err)
	}
	items := make([]crm.Item, 0, len(lent))
	for _, d := range lent {
		body, err := o.open(d.Message)
		if err != nil {
			body = nil
		}
		o.mu.Lock()
		o.lent[d.Seq] = d
		o.mu.Unlock()
		items = append(items, crm.Item{ID: d.Seq, Key: d.OrderKey, Body: body, Attempts: d.Attempts, Recorded: d.Time})
	}
	next, err := o.store.NextDue(ctx, o.consumer)
	if err != nil { // what is lent goes out; the next look tells again
		next = time.Now().Add(time.Second)
	}
	return items, next, nil
}

func (o *Outbox) take(id uint64) (queue.Delivery, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, ok := o.lent[id]
	if !ok {
		return d, fmt.Errorf("settle message %d: %w", id, queue.ErrStale)
	}
	delete(o.lent, id)
	return d, nil
}

// Ack implements [crm.Outbox].
func (o *Outbox) Ack(_ context.Context, id uint64) error {
	d, err := o.take(id)
	if err != nil {
		return err
	}
	return o.store.Ack(d)
}

// Retry implements [crm.Outbox]. The store counts attempts itself, so that
// attempts only says whether this one counts.
func (o *Outbox) Retry(ctx context.Context, id uint64, at time.Time, attempts int, reason string) error {
	d, err := o.take(id)
	if err != nil {
		return err
	}
	if attempts > d.Attempts {
		return o.store.Retry(ctx, d, at, reason)
	}
	return o.store.Postpone(ctx, d, at, reason)
}

// Dead implements [crm.Outbox].
func (o *Outbox) Dead(ctx context.Context, id uint64, reason string) error {
	d, err := o.take(id)
	if err != nil {
		return err
	}
	return o.store.Dead(ctx, d, reason)
}

// Changed implements [crm.Outbox].
func (o *Outbox) Changed() <-chan struct{} { return o.store.Changed() }
