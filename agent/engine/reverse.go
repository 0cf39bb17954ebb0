package engine

import (
	"context"
	"errors"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/emv"
)

// takeBack records a reversal (R3: before it is sent) and starts its repeats.
func (e *Engine) takeBack(l *lane, id string, learn payment.Facts, why acquirer.Reason, then payment.State, fill func(p *payment.Payment)) {
	_, err := e.change(e.hard, id, func(w *work, h *held, p *payment.Payment) error {
		if p.State.Final() || p.Facts.Has(payment.ReversalDurable) {
			return nil // a person closed it while the host was being asked
		}
		if fill != nil {
			fill(p)
		}
		return e.order(w, p, learn, why, then)
	})
	if err != nil {
		e.unstorable(l, id, err)
		return
	}
	e.spawn(func() { e.repeatReversal(id) })
}

// order puts a reversal into the payment's record.
func (e *Engine) order(w *work, p *payment.Payment, learn payment.Facts, why acquirer.Reason, then payment.State) error {
	n, err := w.stan(p.Host.TerminalID)
	if err != nil {
		return err
	}
	p.Reversal = newReversal(n, why, then, w.at)
	return p.Move(payment.State{Status: payment.InDoubt, Stage: payment.StageReversing}, learn|payment.ReversalDurable, w.at, "reversal recorded: "+string(why))
}

func newReversal(stan int, why acquirer.Reason, then payment.State, at time.Time) *payment.Reversal {
	return &payment.Reversal{STAN: sixDigits(stan), Reason: string(why), Then: then, Recorded: at}
}

// repeatReversal sends the reversal of a payment or operation until it is
// acknowledged, refused too often, or taken over by a person. Attempts and the
// time of the next are stored before each sending, so that a restart goes on
// where it stopped.
func (e *Engine) repeatReversal(id string) {
	ctx := e.hard
	for {
		h, err := e.readOn(ctx, id)
		if err != nil {
			if ctx.Err() == nil {
				e.log.Error("a reversal cannot be read", "id", id, "err", err)
			}
			return
		}
		r := h.reversal()
		if r == nil || !h.reversing() {
			return
		}
		if !e.sleepUntil(ctx, id, r) {
			return
		}
		if h, err = e.noteAttempt(ctx, id); err != nil || h == nil {
			if err != nil && !errors.Is(err, errUnsettled) {
				e.log.Error("a reversal could not be recorded", "id", id, "err", err)
			}
			return
		}
		r = h.reversal()
		hostCtx, cancel := context.WithTimeout(ctx, e.o.HostTimeout)
		ack, err := e.o.Link.Reverse(hostCtx, acquirer.Reversal{
			STAN: atoi(r.STAN), Time: r.Recorded.In(h.original().Time.Location()).Truncate(time.Second),
			Original: h.original(), Reason: acquirer.Reason(r.Reason), Attempt: r.Attempts - 1,
		})
		cancel()
		if err != nil {
			e.log.Warn("a reversal has no answer yet; it is repeated", "id", id, "attempt", r.Attempts, "err", err)
		}
		if ack.Ended() || ack.State == acquirer.AckRefused {
			if err := e.noteAck(ctx, id, ack); err != nil {
				if !errors.Is(err, errUnsettled) {
					e.log.Error("an acknowledged reversal could not be recorded", "id", id, "err", err)
				}
				return
			}
		}
	}
}

// readOn reads a record until the store answers: a store that fails for a
// moment must not end what settles a payment. It gives up when ctx ends, and
// where the record is not there or cannot be read at all.
func (e *Engine) readOn(ctx context.Context, id string) (*held, error) {
	for try := 0; ; try++ {
		h, err := e.read(ctx, id)
		if err == nil || !errors.Is(err, ErrStore) {
			return h, err
		}
		if try == 0 {
			e.log.Warn("the store does not answer; asking on", "id", id, "err", err)
		}
		if !e.sleep(ctx, e.backoff(try)) {
			return nil, err
		}
	}
}

func (h *held) reversal() *payment.Reversal {
	if h.Payment != nil {
		return h.Payment.Reversal
	}
	return h.Operation.Reversal
}

// reversing reports whether the reversal has to go on.
func (h *held) reversing() bool {
	s, r := h.state(), h.reversal()
	return s.Status == payment.InDoubt && s.Stage == payment.StageReversing || r != nil && r.Again
}

// sleepUntil waits for the next attempt. The stored delay bounds the wait: a
// clock that was set back must not stop the repeats. It reports false when the
// engine stops: a stop does not wait for the next attempt.
func (e *Engine) sleepUntil(ctx context.Context, id string, r *payment.Reversal) bool {
	if r.NextAt.IsZero() {
		return ctx.Err() == nil
	}
	wait := min(r.NextAt.Sub(e.now()), time.Duration(r.Delay)*time.Millisecond)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-e.soft:
		return false // the next start goes on with it
	case <-t.C:
		return true
	}
}

// noteAttempt stores that one more attempt begins. nil without an error means
// that the reversal has ended meanwhile.
func (e *Engine) noteAttempt(ctx context.Context, id string) (*held, error) {
	var out *held
	err := e.keep(ctx, id, func(w *work) error {
		out = nil
		h, err := w.get(id)
		if err != nil {
			return err
		}
		r := h.reversal()
		if r == nil || !h.reversing() {
			return nil
		}
		delay := e.o.RetryFirst
		if r.Attempts > 0 {
			delay = min(time.Duration(r.Delay)*time.Millisecond*2, e.o.RetryMax)
		}
		r.Attempts++
		r.Delay, r.NextAt = delay.Milliseconds(), w.at.Add(delay)
		out = h
		return w.put(h)
	})
	return out, err
}

// noteAck stores what the host said of a reversal.
func (e *Engine) noteAck(ctx context.Context, id string, ack acquirer.Ack) error {
	return e.keep(ctx, id, func(w *work) error {
		h, err := w.get(id)
		if err != nil {
			return err
		}
		r := h.reversal()
		if r == nil || !h.reversing() {
			return nil
		}
		r.LastCode = ack.ResponseCode
		if r.Again {
			return e.noteAckAgain(w, h, r, ack)
		}
		if ack.Ended() {
			r.NotFound = ack.State == acquirer.AckNotFound
			r.AckedAt, r.NextAt = w.at, time.Time{}
			return e.reversalAcked(w, h)
		}
		r.Refusals++
		if r.Refusals < e.o.Refusals {
			return w.put(h)
		}
		r.HeldWhy = "the host refused the reversal too often, last code " + ack.ResponseCode
		return e.hold(w, h, r.HeldWhy)
	})
}

// noteAckAgain keeps the answer to a reversal that is sent again after its end.
// The record stays as it is. Only "done" ends it: the host has the approval.
func (e *Engine) noteAckAgain(w *work, h *held, r *payment.Reversal, ack acquirer.Ack) error {
	if ack.State == acquirer.AckDone {
		r.Again, r.NotFound, r.AckedAt, r.NextAt = false, false, w.at, time.Time{}
		return w.put(h)
	}
	if r.Refusals++; r.Refusals >= e.o.Refusals {
		r.Again, r.HeldWhy = false, "a late approval stands at the host, and it refused the reversal too often, last code "+ack.ResponseCode
		e.log.Error("a late approval could not be taken back: reverse it at the acquirer", "id", h.id, "code", ack.ResponseCode)
	}
	return w.put(h)
}

// reversalAcked moves a payment or operation whose reversal has ended.
func (e *Engine) reversalAcked(w *work, h *held) error {
	if p := h.Payment; p != nil {
		if err := p.Move(p.Reversal.Then, payment.ReversalAcked, w.at, "reversal acknowledged, code "+p.Reversal.LastCode); err != nil {
			return err
		}
		p.Timings.TotalMS = w.at.Sub(p.Created).Milliseconds()
		return w.put(h)
	}
	o := h.Operation
	return e.finishOperation(w, h, o, o.Reversal.Then, payment.ReversalAcked, "its answer was lost and it was undone: reversal acknowledged, code "+o.Reversal.LastCode)
}

// hold parks a payment or operation for a person.
func (e *Engine) hold(w *work, h *held, why string) error {
	to := payment.State{Status: payment.InDoubt, Stage: payment.StageHeld}
	if p := h.Payment; p != nil {
		p.Reason, p.Code = why, "payment.held"
		if err := p.Move(to, 0, w.at, why); err != nil {
			return err
		}
		return w.put(h)
	}
	o := h.Operation
	o.Reason, o.Code = why, "payment.held"
	if err := o.Move(to, 0, w.at, why); err != nil {
		return err
	}
	if err := e.mirrorDoubt(w, o, to, why); err != nil {
		return err
	}
	return w.put(h)
}

// settleHost asks the host what became of a payment in doubt, and records the
// reversal when the host cannot say (R3). "Not found" is no proof. It returns
// once the payment is settled or its reversal is durable: until then it keeps
// its register.
func (e *Engine) settleHost(l *lane, id string) {
	ctx := e.hard
	for try := range e.o.Inquiries {
		h, err := e.readOn(ctx, id)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil || h.Payment == nil || h.Payment.State.Status != payment.InDoubt || h.Payment.State.Stage != payment.StageQueryingHost {
			e.unstorable(l, id, err)
			return
		}
		finding := e.inquire(ctx, h)
		switch finding.State {
		case acquirer.FoundApproved:
			if !h.Private.OneTap {
				// The card's own word is missing (R6): the approval is taken back.
				e.takeBack(l, id, payment.Approved|payment.Refused, acquirer.CardRefused, payment.State{Status: payment.Reversed}, func(p *payment.Payment) {
					fillHost(p, finding.Result)
					p.Code, p.Reason = "card.no_confirmation", "the host had approved, the card never confirmed; the approval is taken back"
				})
				return
			}
			approved, refusal := approvedAmount(*h.Payment, finding.Result)
			if refusal != "" {
				e.takeBack(l, id, payment.Approved|payment.Refused, acquirer.PartialAmount, payment.State{Status: payment.Declined, Stage: payment.StageByRule}, func(p *payment.Payment) {
					fillHost(p, finding.Result)
					p.Code, p.Reason = "host.partial", refusal
				})
				return
			}
			to := payment.State{Status: payment.Succeeded}
			if h.Payment.Request.Intent == payment.IntentAuth {
				to.Status = payment.Authorized
			}
			e.end(l, id, to, payment.Approved, func(p *payment.Payment) {
				fillHost(p, finding.Result)
				p.Approved, p.Code, p.Reason = approved, "", ""
			})
			return
		case acquirer.FoundDeclined:
			e.end(l, id, payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, func(p *payment.Payment) {
				fillHost(p, finding.Result)
				p.DeclineGroup, p.Code, p.Reason = groupOf(finding.Result.Class), "host.declined", "the issuer had declined, code "+finding.Result.ResponseCode
			})
			return
		case acquirer.FoundNothing:
			if try+1 < e.o.Inquiries && e.sleep(ctx, min(e.o.RetryFirst<<try, e.o.RetryMax)) {
				continue
			}
		}
		break
	}
	if ctx.Err() != nil {
		return
	}
	e.takeBack(l, id, 0, acquirer.NoAnswer, payment.State{Status: payment.Reversed}, func(p *payment.Payment) {
		p.Code, p.Reason = "host.no_answer", "the host did not answer; the payment is taken back"
	})
}

// inquire asks once. Its number is drawn from the store; without one nothing
// is asked and nothing found.
func (e *Engine) inquire(ctx context.Context, h *held) acquirer.Finding {
	original := h.original()
	n := 0
	err := e.once(ctx, "", func(w *work) (err error) {
		n, err = w.stan(original.TerminalID)
		return err
	})
	if err != nil {
		return acquirer.Finding{}
	}
	hostCtx, cancel := context.WithTimeout(ctx, e.o.HostTimeout)
	defer cancel()
	f, err := e.o.Link.Inquire(hostCtx, acquirer.Inquiry{STAN: n, Time: e.now().In(original.Time.Location()).Truncate(time.Second), Original: original})
	if err != nil {
		e.log.Warn("the host did not answer an inquiry", "id", h.id, "err", err)
	}
	return f
}

// original names a record's request for reversals, inquiries and voids.
func (h *held) original() acquirer.Original {
	if p := h.Payment; p != nil {
		amounts, _ := amountsOf(p.Request.Amount)
		return acquirer.Original{Kind: kindOf(p.Request.Intent), STAN: stanOf(p.Host), Time: p.Host.Sent, TerminalID: p.Host.TerminalID,
			MerchantID: p.Host.MerchantID, Amounts: amounts, Reference: p.ID, RRN: p.Host.RRN, ApprovalCode: p.Host.ApprovalCode, Token: p.Card.Token}
	}
	o := h.Operation
	return acquirer.Original{Kind: acquirerKind(o.Kind), STAN: stanOf(o.Host), Time: o.Host.Sent, TerminalID: o.Host.TerminalID,
		MerchantID: o.Host.MerchantID, Amounts: operationAmounts(o), Reference: o.ID, RRN: o.Host.RRN, ApprovalCode: o.Host.ApprovalCode}
}

func operationAmounts(o *payment.Operation) emv.Amounts {
	a, _ := amountsOf(payment.Amounts{Total: o.Amount.Minor, Currency: o.Amount.Currency})
	return a
}

// LateAnswer records an answer of the host that came after the engine had
// stopped waiting; id is the Reference of the request. An approval is never
// honoured once the reversal is durable (R3); it is written into the record so
// that a person can see it. Where the host had answered the reversal with "not
// found", the approval came after it and stands: the reversal is sent again.
// Before a reversal is durable the inquiry decides, and the late answer is left
// alone.
func (e *Engine) LateAnswer(ctx context.Context, id string, res acquirer.Result) error {
	if res.Outcome != acquirer.Approved {
		return nil
	}
	note := "late approval from the host, not honoured; code " + res.ResponseCode
	again := false
	err := e.keep(ctx, id, func(w *work) error {
		again = false
		h, err := w.get(id)
		if err != nil {
			return err
		}
		if r := h.reversal(); r != nil && h.state().Final() && r.NotFound && !r.Again {
			again, r.Again, r.Refusals, r.NextAt = true, true, 0, time.Time{}
		}
		switch p, o := h.Payment, h.Operation; {
		case p != nil && p.Facts.Has(payment.ReversalDurable) && !p.Facts.Has(payment.LateApproval):
			p.NoteLate(w.at, note)
		case o != nil && o.Facts.Has(payment.ReversalDurable) && !o.Facts.Has(payment.LateApproval):
			o.NoteLate(w.at, note)
		case !again:
			return nil
		}
		return w.put(h)
	})
	if err == nil && again && e.o.Link != nil {
		e.spawn(func() { e.repeatReversal(id) })
	}
	return err
}
