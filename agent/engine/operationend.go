package engine

import (
	"context"
	"errors"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
)

// applyOperation keeps the host's answer to an operation.
func (e *Engine) applyOperation(id string, res acquirer.Result) {
	var err error
	switch res.Outcome {
	case acquirer.Approved:
		h, rerr := e.readOn(e.hard, id)
		if rerr != nil {
			e.operationUnstorable(id, rerr) // the next start finds it in doubt
			return
		}
		if !whole(h.Operation, res) {
			e.undoOperation(id, "the host approved another amount; the operation is undone")
			return
		}
		_, err = e.changeOperationHost(id, res, payment.State{Status: payment.Succeeded}, payment.Approved, "")
	case acquirer.Declined:
		_, err = e.changeOperationHost(id, res, payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, "the host declined, code "+res.ResponseCode)
	case acquirer.NotSent:
		_, err = e.changeOperationHost(id, res, payment.State{Status: payment.Failed, Stage: payment.StageHost}, payment.NotStarted, "the acquirer cannot be reached and nothing was sent")
	default:
		doubt := payment.State{Status: payment.InDoubt, Stage: payment.StageQueryingHost}
		_, err = e.changeOperation(e.hard, id, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
			o.Reason, o.Code = "the host did not answer; it is being asked", "host.no_answer"
			if err := o.Move(doubt, 0, w.at, o.Reason); err != nil {
				return err
			}
			return mirror(o, p, doubt, w.at, o.Reason)
		})
		if err == nil {
			e.settleOperation(id)
		}
	}
	e.operationUnstorable(id, err)
}

func (e *Engine) changeOperationHost(id string, res acquirer.Result, to payment.State, learn payment.Facts, reason string) (payment.Operation, error) {
	return e.changeOperation(e.hard, id, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if o.State.Final() {
			return nil
		}
		o.Host.ResponseCode, o.Host.ApprovalCode, o.Host.RRN = res.ResponseCode, res.ApprovalCode, res.RRN
		o.Reason, o.Code = reason, ""
		if to.Status == payment.Declined {
			o.DeclineGroup, o.Code = groupOf(res.Class), "host.declined"
		}
		if err := o.Move(to, learn, w.at, reason); err != nil {
			return err
		}
		return book(o, p, w.at)
	})
}

// settleOperation asks the host what became of an operation in doubt; where it
// cannot say, the operation is undone by a reversal (R3): the payment is then
// as it was before.
func (e *Engine) settleOperation(id string) {
	ctx := e.hard
	for try := range e.o.Inquiries {
		h, err := e.readOn(ctx, id)
		if err != nil || h.Operation == nil || h.Operation.State.Status != payment.InDoubt || h.Operation.State.Stage != payment.StageQueryingHost {
			return
		}
		finding := e.inquire(ctx, h)
		switch finding.State {
		case acquirer.FoundApproved:
			if !whole(h.Operation, finding.Result) {
				e.undoOperation(id, "the host approved another amount; the operation is undone")
				return
			}
			_, err := e.changeOperationHost(id, finding.Result, payment.State{Status: payment.Succeeded}, payment.Approved, "")
			e.operationUnstorable(id, err)
			return
		case acquirer.FoundDeclined:
			_, err := e.changeOperationHost(id, finding.Result, payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, "the host had declined, code "+finding.Result.ResponseCode)
			e.operationUnstorable(id, err)
			return
		case acquirer.FoundNothing:
			if try+1 < e.o.Inquiries && e.sleep(ctx, min(e.o.RetryFirst<<try, e.o.RetryMax)) {
				continue
			}
		}
		break
	}
	if ctx.Err() == nil {
		e.undoOperation(id, "the host did not answer; the operation is undone")
	}
}

// whole reports whether an approval is for the operation's whole amount: a
// part is never taken as the whole.
func whole(o *payment.Operation, res acquirer.Result) bool {
	return !res.Partial && (res.ApprovedAmount == 0 || res.ApprovedAmount == o.Amount.Minor)
}

// undoOperation records the reversal of an operation and starts its repeats.
func (e *Engine) undoOperation(id, why string) {
	doubt := payment.State{Status: payment.InDoubt, Stage: payment.StageReversing}
	_, err := e.changeOperation(e.hard, id, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if o.State.Final() || o.Facts.Has(payment.ReversalDurable) {
			return nil
		}
		n, err := w.stan(o.Host.TerminalID)
		if err != nil {
			return err
		}
		o.Reversal = newReversal(n, acquirer.NoAnswer, payment.State{Status: payment.Declined, Stage: payment.StageByRule}, w.at)
		o.Reason, o.Code = why, "host.no_answer"
		if err := o.Move(doubt, payment.ReversalDurable, w.at, "reversal recorded"); err != nil {
			return err
		}
		return mirror(o, p, doubt, w.at, "its "+string(o.Kind)+" is undone")
	})
	if err != nil {
		e.operationUnstorable(id, err)
		return
	}
	e.spawn(func() { e.repeatReversal(id) })
}

func (e *Engine) operationUnstorable(id string, err error) {
	if err != nil && !errors.Is(err, errUnsettled) {
		e.log.Error("an operation could not be recorded; it stays open for the next start", "operation", id, "err", err)
	}
}

// mirror shows a void or capture in doubt in its payment.
func mirror(o *payment.Operation, p *payment.Payment, to payment.State, at time.Time, note string) error {
	if o.Kind == payment.KindRefund || p == nil {
		return nil
	}
	return p.Move(to, 0, at, note)
}

func (e *Engine) mirrorDoubt(w *work, o *payment.Operation, to payment.State, note string) error {
	if o.Kind == payment.KindRefund || o.PaymentID == "" {
		return nil
	}
	h, p, err := w.payment(o.PaymentID)
	if err != nil {
		return err
	}
	if err := mirror(o, p, to, w.at, note); err != nil {
		return err
	}
	return w.put(h)
}

// finishOperation moves an operation to its end and books it, in one commit.
func (e *Engine) finishOperation(w *work, h *held, o *payment.Operation, to payment.State, learn payment.Facts, reason string) error {
	o.Reason = reason
	if err := o.Move(to, learn, w.at, reason); err != nil {
		return err
	}
	if o.PaymentID != "" {
		hp, p, err := w.payment(o.PaymentID)
		if err != nil {
			return err
		}
		if err := book(o, p, w.at); err != nil {
			return err
		}
		if err := w.put(hp); err != nil {
			return err
		}
	}
	return w.put(h)
}

// changeOperationEnd ends an operation when cond holds.
func (e *Engine) changeOperationEnd(ctx context.Context, id string, to payment.State, learn payment.Facts, reason string, cond func(o *payment.Operation) bool) (payment.Operation, error) {
	return e.changeOperation(ctx, id, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if !cond(o) {
			return nil
		}
		o.Reason = reason
		if err := o.Move(to, learn, w.at, reason); err != nil {
			return err
		}
		return book(o, p, w.at)
	})
}

// book adds the end of an operation to its payment, once.
func book(o *payment.Operation, p *payment.Payment, at time.Time) error {
	if o.Booked || !o.State.Final() || p == nil {
		return nil
	}
	o.Booked = true
	done := o.State.Status == payment.Succeeded
	before := payment.State{Status: payment.Succeeded}
	if p.Request.Intent == payment.IntentAuth && p.Captured == 0 {
		before.Status = payment.Authorized
	}
	back := func() error {
		p.EndChange()
		p.VoidID = ""
		if p.State.Status == payment.InDoubt {
			return p.Move(before, 0, at, string(o.Kind)+" ended without effect")
		}
		return nil
	}
	switch o.Kind {
	case payment.KindRefund:
		p.RefundsOpen -= o.Amount.Minor
		if done {
			p.Refunded += o.Amount.Minor
		}
	case payment.KindVoid:
		if !done {
			return back()
		}
		return p.Move(payment.State{Status: payment.Reversed}, payment.ReversalAcked|payment.Changing, at, "voided")
	case payment.KindCapture:
		if !done {
			return back()
		}
		p.EndChange()
		p.VoidID, p.Captured = "", o.Amount.Minor
		p.Terminal = o.Terminal // a terminal takes back the booking; the reservation's receipt is closed
		return p.Move(payment.State{Status: payment.Succeeded}, 0, at, "captured")
	}
	return nil
}
