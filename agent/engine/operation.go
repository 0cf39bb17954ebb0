package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
)

// OperationRequest is what a till asks for about a payment.
type OperationRequest struct {
	PaymentID string `json:"payment_id"`
	// Amount in minor units of the payment's currency: of a refund or capture;
	// 0 means all that is left. A void takes none.
	Amount    int64  `json:"amount,omitempty"`
	Currency  string `json:"currency,omitempty"` // empty means the payment's
	Reference string `json:"reference,omitempty"`
	Why       string `json:"why,omitempty"`
}

// Void undoes a payment before settlement. It returns once record and key are
// durable; [Engine.WaitOperation] waits for the answer. Two voids, or a void
// and a refund, of one payment are never both accepted: the check is made in
// the commit that stores the operation.
func (e *Engine) Void(ctx context.Context, credential, key, digest string, r OperationRequest) (payment.Operation, bool, error) {
	if r.Amount != 0 {
		return payment.Operation{}, false, refuse(ErrInvalid, r.PaymentID, "a void takes no amount: it undoes the whole payment; use a refund for a part")
	}
	return e.startOperation(ctx, payment.KindVoid, credential, key, digest, r)
}

// Refund gives money of a payment back, in one or several parts that together
// never exceed what was taken.
func (e *Engine) Refund(ctx context.Context, credential, key, digest string, r OperationRequest) (payment.Operation, bool, error) {
	return e.startOperation(ctx, payment.KindRefund, credential, key, digest, r)
}

// Capture collects an authorised payment, once.
func (e *Engine) Capture(ctx context.Context, credential, key, digest string, r OperationRequest) (payment.Operation, bool, error) {
	return e.startOperation(ctx, payment.KindCapture, credential, key, digest, r)
}

func (e *Engine) startOperation(ctx context.Context, kind payment.Kind, credential, key, digest string, r OperationRequest) (payment.Operation, bool, error) {
	switch {
	case credential == "" || key == "" || len(credential) > 255 || len(key) > 255:
		return payment.Operation{}, false, refuse(ErrInvalid, "", "credential and idempotency key have 1 to 255 bytes")
	case r.PaymentID == "":
		return payment.Operation{}, false, refuse(ErrInvalid, "", "payment_id is needed: a refund without its payment is not offered")
	case r.Amount < 0 || r.Amount > payment.MaxMinor:
		return payment.Operation{}, false, refuse(ErrInvalid, r.PaymentID, "amount is not accepted")
	case len(r.Reference) > maxText || len(r.Why) > maxText:
		return payment.Operation{}, false, refuse(ErrInvalid, r.PaymentID, "texts have at most %d bytes", maxText)
	}
	until, cancel := context.WithTimeout(ctx, e.o.StoreTimeout)
	defer cancel()
	if h, err := e.replay(until, credential, key, digest); err != nil || h != nil {
		return replayedOperation(h, err)
	}
	if !e.Ready() {
		return payment.Operation{}, false, refuse(ErrStopped, "", "the agent is starting or stopping: try again")
	}
	prefix := "op_"
	if kind == payment.KindRefund {
		prefix = "ref_"
	}
	at := e.now()
	id := e.newID(prefix, at)

	first, err := e.Payment(until, r.PaymentID)
	if err != nil {
		return payment.Operation{}, false, err
	}
	terminal, err := e.atTerminal(until, r.PaymentID)
	if err != nil {
		return payment.Operation{}, false, err
	}
	l := e.lanes[first.Request.RegisterID]
	if l == nil {
		return payment.Operation{}, false, refuse(ErrRegister, r.PaymentID, "the register of this payment is no longer configured")
	}
	job := &run{id: id, credential: credential, key: key, amount: payment.Money{Minor: r.Amount, Currency: first.Request.Amount.Currency}, started: make(chan struct{})}
	switch {
	case terminal:
		// the terminal itself has to do it: the operation holds the register
		blocking, closed := l.reserve(job)
		if closed != nil {
			return payment.Operation{}, false, closed
		}
		if blocking != nil {
			if blocking.credential == credential && blocking.key == key {
				select {
				case <-blocking.started:
				case <-until.Done():
				}
				if h, err := e.replay(until, credential, key, digest); err != nil || h != nil {
					return replayedOperation(h, err)
				}
			}
			return payment.Operation{}, false, e.busy(ctx, l.RegisterID, blocking)
		}
	case e.o.Link == nil:
		return payment.Operation{}, false, refuse(ErrInvalid, r.PaymentID, "no acquirer is configured")
	}
	giveBack := func() {
		if terminal {
			l.release(job)
		}
	}

	var o payment.Operation
	existing := ""
	err = e.keep(until, id, func(w *work) error {
		if err := w.tx.Admit(); err != nil {
			return refuse(ErrFull, "", "%v", err)
		}
		if h, gerr := w.get(id); gerr == nil { // the commit before was there after all
			o = *h.Operation
			return nil
		}
		var err error
		if existing, err = w.tx.Claim(credential, key, digestOf(digest), id); err != nil {
			return err
		}
		h, p, err := w.payment(r.PaymentID)
		if err != nil {
			return err
		}
		amount, err := admitOperation(kind, p, r)
		if err != nil {
			return err
		}
		o = payment.NewOperation(id, kind, p.ID, credential, key, digest, p.Request.RegisterID, payment.Money{Minor: amount, Currency: p.Request.Amount.Currency}, at)
		o.Reference, o.Why, o.DeviceID = r.Reference, r.Why, l.DeviceID
		o.BusinessDate = at.In(l.Zone).Format(time.DateOnly)
		o.Host.TerminalID, o.Host.MerchantID = p.Host.TerminalID, p.Host.MerchantID
		p.Operations = append(p.Operations, id)
		switch kind {
		case payment.KindRefund:
			p.RefundsOpen += amount
		default:
			p.VoidID = id
		}
		if err := w.put(h); err != nil {
			return err
		}
		return w.put(&held{id: id, fresh: true, stored: stored{Operation: &o, Private: private{TerminalKind: terminal}}})
	})
	close(job.started)
	switch {
	case err == nil:
		started := e.spawn(func() {
			defer giveBack()
			if terminal {
				e.runAtTerminal(l, job, o)
			} else {
				e.runOperation(o)
			}
		})
		if !started {
			giveBack()
		}
		return o, false, nil
	case errors.Is(err, errUnsettled):
		if !e.spawn(func() { defer giveBack(); e.adoptOperation(id) }) {
			giveBack()
		}
		return payment.Operation{}, false, e.storeError(id, err)
	}
	giveBack()
	if existing != "" {
		h, rerr := e.replay(until, credential, key, digest)
		if rerr != nil || h != nil {
			return replayedOperation(h, rerr)
		}
	}
	return payment.Operation{}, false, err
}

// atTerminal reports whether a payment was taken by a terminal that authorises
// by itself.
func (e *Engine) atTerminal(ctx context.Context, id string) (bool, error) {
	h, err := e.read(ctx, id)
	if err != nil {
		return false, err
	}
	return h.Private.TerminalKind, nil
}

// admitOperation checks, inside the commit that stores the operation, that the
// payment allows it, and returns its amount.
func admitOperation(kind payment.Kind, p *payment.Payment, r OperationRequest) (int64, error) {
	no := func(format string, args ...any) error {
		return &Error{Err: ErrNotAllowed, ID: p.ID, Detail: fmt.Sprintf(format, args...), Moved: p.MoneyMoved(), Again: p.Retry()}
	}
	if r.Currency != "" && r.Currency != p.Request.Amount.Currency {
		return 0, refuse(ErrInvalid, p.ID, "the payment is in %s", p.Request.Amount.Currency)
	}
	if p.State.Status == payment.InDoubt {
		return 0, no("the payment is in doubt and is being settled: wait, or let a manager resolve it")
	}
	switch kind {
	case payment.KindVoid:
		if !p.Voidable() {
			return 0, no("a %s payment with refunds or another void under way cannot be voided", p.State.Status)
		}
		if p.State.Status == payment.Authorized {
			return p.Approved, nil
		}
		return p.Taken(), nil
	case payment.KindCapture:
		if p.State.Status != payment.Authorized || p.VoidID != "" {
			return 0, no("only an authorized payment without a void under way can be captured")
		}
		amount := r.Amount
		if amount == 0 {
			amount = p.Approved
		}
		if amount > p.Approved {
			return 0, &Error{Err: ErrAmountLimit, ID: p.ID, Detail: "a capture cannot exceed what was authorised", Moved: p.MoneyMoved(), Again: p.Retry()}
		}
		return amount, nil
	case payment.KindRefund:
		left := p.Refundable()
		amount := r.Amount
		if amount == 0 {
			amount = left
		}
		switch {
		case p.State.Status != payment.Succeeded:
			return 0, no("a %s payment has nothing to give back", p.State.Status)
		case left == 0, amount > left:
			return 0, &Error{Err: ErrAmountLimit, ID: p.ID, Detail: fmt.Sprintf("at most %s can still be given back", payment.Money{Minor: left, Currency: p.Request.Amount.Currency}), Moved: p.MoneyMoved(), Again: payment.RetrySafe}
		}
		return amount, nil
	}
	return 0, no("not offered")
}

// adoptOperation ends an operation whose commit had no answer in time.
func (e *Engine) adoptOperation(id string) {
	_, err := e.changeOperationEnd(e.hard, id, payment.State{Status: payment.Failed, Stage: payment.StageStore}, 0, "the store answered too late; nothing was sent", func(o *payment.Operation) bool {
		return o.State.Status == payment.Pending
	})
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errUnsettled) {
		e.log.Error("an operation whose commit had no answer could not be ended", "operation", id, "err", err)
	}
}

// runOperation asks the host.
func (e *Engine) runOperation(o payment.Operation) {
	var request acquirer.Request
	o, err := e.changeOperation(e.hard, o.ID, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if err := o.Move(payment.State{Status: payment.InProgress, Stage: payment.StageWaitingCustomer}, 0, w.at, ""); err != nil {
			return err
		}
		if err := e.armOperation(w, o, p); err != nil {
			return err
		}
		original := (&held{stored: stored{Payment: p}}).original()
		request = acquirer.Request{Kind: acquirerKind(o.Kind), Reference: o.ID, STAN: stanOf(o.Host), Time: o.Host.Sent,
			TerminalID: o.Host.TerminalID, MerchantID: o.Host.MerchantID, Amounts: operationAmounts(o), PANSequence: -1,
			Token: p.Card.Token, Original: &original}
		return nil
	})
	if err != nil {
		e.operationUnstorable(o.ID, err)
		return
	}
	hostCtx, cancel := context.WithTimeout(e.hard, e.o.HostTimeout)
	res, err := e.o.Link.Authorize(hostCtx, request)
	cancel()
	if err != nil {
		e.log.Warn("the host gave no usable answer", "operation", o.ID, "err", err)
	}
	e.applyOperation(o.ID, res)
}

// armOperation is R1 for an operation: STAN and time are durable before it is
// sent, and the payment knows that it may change.
func (e *Engine) armOperation(w *work, o *payment.Operation, p *payment.Payment) error {
	n, err := w.stan(o.Host.TerminalID)
	if err != nil {
		return err
	}
	o.Host.STAN = sixDigits(n)
	zone := time.UTC
	if l := e.lanes[o.RegisterID]; l != nil {
		zone = l.Zone
	}
	o.Host.Sent = w.at.In(zone).Truncate(time.Second)
	if o.Kind != payment.KindRefund && p != nil {
		p.BeginChange()
	}
	return o.Move(payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Armed|payment.Sent, w.at, "authorizing recorded, STAN "+o.Host.STAN)
}

// WaitOperation returns an operation once it no longer runs, or as it is when
// ctx ends.
func (e *Engine) WaitOperation(ctx context.Context, id string) (payment.Operation, error) {
	for {
		changed := e.Changed()
		o, err := e.Operation(context.WithoutCancel(ctx), id)
		if err != nil {
			return o, err
		}
		switch o.State.Status {
		case payment.Pending, payment.InProgress:
		default:
			return o, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return o, nil
		}
	}
}

func acquirerKind(k payment.Kind) acquirer.Kind {
	switch k {
	case payment.KindVoid:
		return acquirer.Void
	case payment.KindCapture:
		return acquirer.Capture
	}
	return acquirer.Refund
}

func sixDigits(n int) string { return fmt.Sprintf("%06d", n) }

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
