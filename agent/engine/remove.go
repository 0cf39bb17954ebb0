package engine

import (
	"context"
	"errors"
	"time"

	"tillbridge/drivers"
)

// removeWait is how long a customer may take to pull the card out after the
// payment has ended. The next payment waits for it meanwhile.
const removeWait = 12 * time.Second

// removeCard asks for the card after a payment. A card that stays is asked for
// again before the next payment: it must not be read as the next customer's.
func (l *lane) removeCard(ctx context.Context, d drivers.Device) {
	r, ok := d.(drivers.CardRemover)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	err := r.RemoveCard(ctx, "REMOVE CARD")
	l.cardLeft = errors.Is(err, context.DeadlineExceeded)
}

// clearSlot asks for a card that the last payment left in the slot.
func (l *lane) clearSlot(ctx context.Context, d drivers.Device) error {
	r, ok := d.(drivers.CardRemover)
	if !ok || !l.cardLeft {
		return nil
	}
	if err := r.RemoveCard(ctx, "REMOVE CARD"); err != nil {
		return err
	}
	l.cardLeft = false
	return nil
}
