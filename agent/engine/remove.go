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

// removeCard asks for the card after a payment. A card that stays, or of which
// the device could not say, is asked for again before the next payment: it must
// not be read as the next customer's.
func (l *lane) removeCard(ctx context.Context, d drivers.Device) {
	r, ok := d.(drivers.CardRemover)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	err := r.RemoveCard(ctx, "REMOVE CARD")
	l.cardLeft = err != nil && !refusedRemoval(err)
}

// refusedRemoval: the device answered and will not ask for a card; asking again
// before each payment would close the register for good.
func refusedRemoval(err error) bool {
	de, ok := errors.AsType[*drivers.DeviceError](err)
	return ok && de.Raw != "" && !errors.Is(err, drivers.ErrTimeout) && !errors.Is(err, drivers.ErrCancelled)
}

// clearSlot asks for a card that the last payment left in the slot.
func (l *lane) clearSlot(ctx context.Context, d drivers.Device) error {
	r, ok := d.(drivers.CardRemover)
	if !ok || !l.cardLeft {
		return nil
	}
	if err := r.RemoveCard(ctx, "REMOVE CARD"); err != nil && (ctx.Err() != nil || !refusedRemoval(err)) {
		return err
	}
	l.cardLeft = false
	return nil
}
