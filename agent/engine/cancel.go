package engine

import (
	"context"
	"errors"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/emv"
)

// Cancel asks to cancel a payment. It is a request, and idempotent. The three
// outcomes: the payment becomes canceled (perhaps after this call returned:
// see [Engine.Wait]); it is too late (ErrTooLate; a void can undo it); or the
// payment is in doubt and is settled by itself (the payment is returned, its
// money_moved says unknown).
func (e *Engine) Cancel(ctx context.Context, credential, id string) (payment.Payment, error) {
	p, err := e.Payment(ctx, id)
	if err != nil {
		return p, err
	}
	switch p.State.Status {
	case payment.Canceled, payment.Failed, payment.Declined, payment.Reversed, payment.InDoubt:
		return p, nil
	case payment.Succeeded, payment.Authorized, payment.AcceptedOffline:
		return p, &Error{Err: ErrTooLate, ID: id, Detail: "the payment is done: use void", Moved: p.MoneyMoved(), Again: p.Retry()}
	}
	job := e.jobOf(id)
	if job == nil {
		// ended between the read and here
		if p, err = e.Payment(ctx, id); err == nil && p.State.Open() && p.State.Status != payment.InDoubt {
			return p, &Error{Err: ErrTooLate, ID: id, Detail: "the payment is being settled", Moved: p.MoneyMoved(), Again: p.Retry()}
		}
		return p, err
	}
	if !e.stopJob(job, payment.StageByPOS) {
		return p, &Error{Err: ErrTooLate, ID: id, Detail: "the request is with the acquirer: wait for its answer, then void", Moved: payment.MovedUnknown, Again: payment.RetryForbidden}
	}
	return p, nil
}

// stopJob asks the card part of a run to end. It reports false when something
// that can approve was sent and the device cannot be asked to stop.
func (e *Engine) stopJob(job *run, why payment.Stage) bool {
	session, abort, stop, ok := job.giveUp(why)
	if !ok {
		return false
	}
	e.spawn(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.hard), 10*time.Second)
		defer cancel()
		var err error
		switch {
		case abort != nil:
			err = abort(ctx) // only asks: the terminal's answer decides
		case session != nil:
			err = session.Cancel(ctx)
		}
		if err != nil && !errors.Is(err, emv.ErrCancelled) {
			e.log.Warn("the device did not confirm a cancel", "id", job.id, "err", err)
		}
		if abort == nil && stop != nil {
			stop()
		}
	})
	return true
}

func (e *Engine) jobOf(id string) *run {
	for _, l := range e.lanes {
		if job := l.holder(); job != nil && job.id == id {
			return job
		}
	}
	return nil
}

// cancelUnarmed gives up, at a stop, what has not gone past the point of no
// cancel.
func (e *Engine) cancelUnarmed() {
	for _, l := range e.lanes {
		job := l.holder()
		if job == nil {
			continue
		}
		if session, abort, stop, ok := job.giveUp(payment.StageByPOS); ok {
			e.wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(e.hard), 10*time.Second)
				defer cancel()
				switch {
				case abort != nil:
					_ = abort(ctx)
				case session != nil:
					_ = session.Cancel(ctx)
				}
				if abort == nil && stop != nil {
					stop()
				}
			})
		}
	}
}
