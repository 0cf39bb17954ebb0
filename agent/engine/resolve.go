package engine

import (
	"context"
	"slices"
	"strings"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
)

// Resolve closes a payment or operation in doubt by a person's decision, with
// the evidence that they saw (a line of the acquirer's portal, the terminal's
// receipt). It is written into the record. Outcomes of a payment: succeeded,
// authorized, declined, failed, reversed; of an operation: succeeded, declined,
// failed. Once a reversal is durable the only outcome is reversed (R3): the
// host may still execute it.
func (e *Engine) Resolve(ctx context.Context, credential, id string, outcome payment.Status, evidence string) (payment.Payment, error) {
	if strings.TrimSpace(evidence) == "" || len(evidence) > 1024 {
		return payment.Payment{}, refuse(ErrInvalid, id, "evidence is needed, at most 1024 bytes: what was seen, and where")
	}
	h, err := e.read(ctx, id)
	if err != nil {
		return payment.Payment{}, err
	}
	target := id
	if p := h.Payment; p != nil && p.Facts.Has(payment.Changing) && p.VoidID != "" {
		// the doubt is about its void or capture
		target = p.VoidID
		o, err := e.Operation(ctx, target)
		if err != nil {
			return payment.Payment{}, err
		}
		if outcome, err = outcomeOfChange(&o, p, outcome); err != nil {
			return payment.Payment{}, err
		}
	} else if p != nil {
		return e.resolvePayment(ctx, credential, id, outcome, evidence)
	}
	o, err := e.resolveOperation(ctx, credential, target, outcome, evidence)
	if err != nil || o.PaymentID == "" {
		return payment.Payment{}, err
	}
	e.reopen(o.RegisterID, target)
	return e.Payment(ctx, o.PaymentID)
}

// outcomeOfChange says what a person's word about a payment means for the void
// or capture that is in doubt: the payment is either as the change would leave
// it, or as it was before. Any other word would be a guess.
func outcomeOfChange(o *payment.Operation, p *payment.Payment, said payment.Status) (payment.Status, error) {
	done, before := payment.Reversed, payment.Succeeded
	if o.Kind == payment.KindCapture {
		done = payment.Succeeded
	}
	if p.Request.Intent == payment.IntentAuth && p.Captured == 0 {
		before = payment.Authorized
	}
	switch said {
	case done:
		return payment.Succeeded, nil
	case before:
		return payment.Declined, nil
	}
	return "", refuse(ErrInvalid, p.ID, "its %s is in doubt: the outcome is %s (it was done) or %s (it was not)", o.Kind, done, before)
}

func (e *Engine) resolvePayment(ctx context.Context, credential, id string, outcome payment.Status, evidence string) (payment.Payment, error) {
	out, err := e.change(ctx, id, func(w *work, h *held, p *payment.Payment) error {
		if p.State.Status != payment.InDoubt {
			return &Error{Err: ErrNotAllowed, ID: id, Detail: "only a payment in doubt is resolved by a person", Moved: p.MoneyMoved(), Again: p.Retry()}
		}
		to := payment.State{Status: outcome}
		switch outcome {
		case payment.Succeeded, payment.Authorized, payment.Reversed:
		case payment.Declined:
			to.Stage = payment.StageByRule
		case payment.Failed:
			to.Stage = payment.StageDevice
		default:
			return refuse(ErrInvalid, id, "outcome %.20q: use succeeded, authorized, declined, failed or reversed", string(outcome))
		}
		p.Decision = &payment.Decision{Outcome: outcome, By: credential, Evidence: evidence, At: w.at, From: p.State}
		if (outcome == payment.Succeeded || outcome == payment.Authorized) && p.Approved == 0 {
			p.Approved = p.Request.Amount.Total
			if a := h.Private.Answer; a != nil && a.Result == drivers.Approved && a.Amount > 0 && a.Amount < p.Approved {
				p.Approved = a.Amount // a part is never taken as the whole
			}
		}
		p.Reason, p.Code = "closed by a person", "payment.resolved"
		if err := p.Move(to, payment.Decided, w.at, "closed by a person"); err != nil {
			return &Error{Err: ErrNotAllowed, ID: id, Detail: "the record does not allow this outcome: with a reversal on its way only reversed is possible", Moved: payment.MovedUnknown, Again: payment.RetryForbidden}
		}
		return nil
	})
	if err == nil {
		e.reopen(out.Request.RegisterID, id)
	}
	return out, err
}

func (e *Engine) resolveOperation(ctx context.Context, credential, id string, outcome payment.Status, evidence string) (payment.Operation, error) {
	return e.changeOperation(ctx, id, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if o.State.Status != payment.InDoubt {
			return &Error{Err: ErrNotAllowed, ID: id, Detail: "only an operation in doubt is resolved by a person", Moved: o.MoneyMoved(), Again: o.Retry()}
		}
		to := payment.State{Status: outcome}
		switch outcome {
		case payment.Succeeded:
		case payment.Declined:
			to.Stage = payment.StageByRule
		case payment.Failed:
			to.Stage = payment.StageDevice
		default:
			return refuse(ErrInvalid, id, "outcome %.20q: use succeeded, declined or failed", string(outcome))
		}
		o.Decision = &payment.Decision{Outcome: outcome, By: credential, Evidence: evidence, At: w.at, From: o.State}
		o.Reason, o.Code = "closed by a person", "payment.resolved"
		if err := o.Move(to, payment.Decided, w.at, "closed by a person"); err != nil {
			return &Error{Err: ErrNotAllowed, ID: id, Detail: "the record does not allow this outcome", Moved: payment.MovedUnknown, Again: payment.RetryForbidden}
		}
		return book(o, p, w.at)
	})
}

// reopen lets a register work again whose held record was closed.
func (e *Engine) reopen(register, id string) {
	l := e.lanes[register]
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heldBy = slices.DeleteFunc(l.heldBy, func(held string) bool { return held == id })
}
