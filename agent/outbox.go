package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"tillbridge/agent/crm"
	"tillbridge/agent/engine"
	"tillbridge/queue"
)

// crmConsumer is the name under which the CRM's cursor is kept in the store.
const crmConsumer = "crm"

// outbox is the store's log as the CRM side sees it: opened events and no
// card type. It satisfies crm.Outbox.
type outbox struct {
	store  *queue.Store
	sealer engine.Sealer

	mu   sync.Mutex
	lent map[uint64]queue.Delivery

	wake chan struct{}
}

func newOutbox(s *queue.Store, sealer engine.Sealer) *outbox {
	return &outbox{store: s, sealer: sealer, lent: map[uint64]queue.Delivery{}, wake: make(chan struct{}, 1)}
}

// watch turns the store's broadcast into the outbox's channel until ctx ends.
func (o *outbox) watch(ctx context.Context) {
	for {
		changed := o.store.Changed()
		select {
		case o.wake <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (o *outbox) Changed() <-chan struct{} { return o.wake }

func (o *outbox) Lease(ctx context.Context, max int) ([]crm.Item, time.Time, error) {
	list, err := o.store.Lease(ctx, crmConsumer, max)
	if err != nil {
		return nil, time.Time{}, err
	}
	items := make([]crm.Item, 0, len(list))
	for _, d := range list {
		body, err := o.open(d.Message)
		if err != nil {
			// Nobody will ever read it; it must not block what follows.
			if err := o.store.Dead(ctx, d, "the stored event cannot be opened"); err != nil {
				return nil, time.Time{}, err
			}
			continue
		}
		o.mu.Lock()
		o.lent[d.Seq] = d
		o.mu.Unlock()
		items = append(items, crm.Item{ID: d.Seq, Key: d.OrderKey, Body: body, Attempts: d.Attempts, Recorded: d.Time})
	}
	next, err := o.store.NextDue(ctx, crmConsumer)
	return items, next, err
}

// open returns the event of a message as JSON.
func (o *outbox) open(m queue.Message) ([]byte, error) {
	e, err := engine.DecodeEvent(o.sealer, m)
	if err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

func (o *outbox) take(id uint64) (queue.Delivery, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, ok := o.lent[id]
	if !ok {
		return d, fmt.Errorf("settle event %d: %w", id, queue.ErrStale)
	}
	delete(o.lent, id)
	return d, nil
}

func (o *outbox) Ack(_ context.Context, id uint64) error {
	d, err := o.take(id)
	if err != nil {
		return err
	}
	return o.store.Ack(d)
}

func (o *outbox) Retry(ctx context.Context, id uint64, at time.Time, attempts int, reason string) error {
	d, err := o.take(id)
	if err != nil {
		return err
	}
	if attempts <= d.Attempts { // a pause that the receiver asked for
		return o.store.Postpone(ctx, d, at, reason)
	}
	return o.store.Retry(ctx, d, at, reason)
}

func (o *outbox) Dead(ctx context.Context, id uint64, reason string) error {
	d, err := o.take(id)
	if err != nil {
		return err
	}
	return o.store.Dead(ctx, d, reason)
}

var (
	_ crm.Outbox = (*outbox)(nil)
)
