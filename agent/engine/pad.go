package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/emv"
)

// runPayment takes a stored payment to its end. It owns the lane until it
// returns.
func (e *Engine) runPayment(l *lane, job *run, p payment.Payment) {
	defer l.release(job)
	ctx := job.begin(e.hard)
	defer job.stop()
	doubt := false
	begun, err := e.withDevice(ctx, l, func(d drivers.Device) (fault error) {
		if ch, ok := d.(drivers.APDUChannel); ok && !resident(d) {
			reader, refused := l.kernelOf(ctx, d, ch)
			if refused != nil {
				e.end(l, job.id, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, because(refused.code, refused.text))
				return nil
			}
			d = reader
		}
		switch t := d.(type) {
		case drivers.PaymentTerminal:
			doubt, fault = e.payAtTerminal(l, job, p, d, t)
		case drivers.CardSession:
			if e.o.Link == nil {
				e.end(l, job.id, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, because("config.no_acquirer", "no acquirer is configured for this register"))
				return nil
			}
			fault = e.payAtPad(ctx, l, job, p, d, t)
			l.release(job)
			l.removeCard(e.hard, d)
		default:
			e.end(l, job.id, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, because("device.no_payments", "the device of this register cannot take payments"))
		}
		return fault
	})
	if doubt {
		// the terminal's own record decides before anything else runs here
		e.settleTerminal(l, p.ID)
		return
	}
	if begun {
		return
	}
	e.log.Warn("a register's device is not there", "register", l.RegisterID, "err", err)
	if why := job.whyCanceled(); why != "" {
		e.end(l, job.id, payment.State{Status: payment.Canceled, Stage: why}, 0, nil)
		return
	}
	e.end(l, job.id, payment.State{Status: payment.Failed, Stage: payment.StageDevice}, 0,
		because("device.absent", "the device of this register does not answer: check power and cable, then `tillbridge devices list`"))
}

// resident reports whether a device runs payments by itself or by a kernel of
// its own.
func resident(d drivers.Device) bool {
	switch d.(type) {
	case drivers.PaymentTerminal, drivers.CardSession:
		return true
	}
	return false
}

// withDevice calls fn with the lane's device and returns when fn has. begun
// says whether fn was called. fn returns a fault of the device, so that who
// owns the device looks whether it still lives; what became of the payment is
// recorded by fn itself.
func (e *Engine) withDevice(ctx context.Context, l *lane, fn func(d drivers.Device) (fault error)) (begun bool, err error) {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(e.o.DeviceTimeout, cancel)
	defer late.Stop()
	entered, done := make(chan struct{}), make(chan struct{})
	err = l.Device.Do(wait, func(d drivers.Device) error {
		late.Stop()
		close(entered)
		defer close(done)
		return fn(d)
	})
	select {
	case <-entered:
		<-done // also where Do gave up earlier
		return true, err
	default:
	}
	if err == nil {
		err = errors.New("engine: the device was not given")
	}
	return false, err
}

// because fills in why a payment ended.
func because(code, text string) func(p *payment.Payment) {
	return func(p *payment.Payment) { p.Code, p.Reason = code, text }
}

// end keeps the end of a payment. A payment whose end the records refuse
// closes its register: that is a defect, and a person must see it.
func (e *Engine) end(l *lane, id string, to payment.State, learn payment.Facts, fill func(p *payment.Payment)) {
	_, err := e.change(e.hard, id, func(w *work, h *held, p *payment.Payment) error {
		if p.State.Final() {
			return nil
		}
		if p.State.Status == payment.Pending && to.Status != payment.Canceled && to.Status != payment.Failed {
			if err := p.Move(payment.State{Status: payment.InProgress, Stage: payment.StageWaitingCard}, 0, w.at, ""); err != nil {
				return err
			}
		}
		if fill != nil {
			fill(p)
		}
		p.Timings.TotalMS = w.at.Sub(p.Created).Milliseconds()
		return p.Move(to, learn, w.at, p.Reason)
	})
	e.unstorable(l, id, err)
}

// unstorable closes a lane whose record could not be changed. An error that
// means the end of the process does not: the next start settles.
func (e *Engine) unstorable(l *lane, id string, err error) {
	if err == nil || errors.Is(err, errUnsettled) {
		return
	}
	e.log.Error("a result could not be recorded; the register is closed", "id", id, "err", err)
	if l != nil {
		l.close(fmt.Sprintf("the result of %s could not be recorded: `tillbridge tx show %s`, then restart the agent", id, id))
	}
}

// payAtPad runs a payment on a pad with a kernel, or on our own kernel.
func (e *Engine) payAtPad(ctx context.Context, l *lane, job *run, p payment.Payment, dev drivers.Device, d drivers.CardSession) (fault error) {
	began := e.now()
	amounts, err := amountsOf(p.Request.Amount)
	if err != nil {
		e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, because("request.invalid", "the currency is not known"))
		return nil
	}
	// A device that may run a contactless card to its cryptogram inside Read
	// needs R1's record before Read.
	early := !l.ContactOnly && mayBeContactless(p.Request.Entry)
	stage, note := payment.StageWaitingCard, "device ready"
	if _, plain := dev.(*hostReader); plain {
		early = false // a slot for chips alone
		if l.cardLeft {
			// It shows no text: the cashier has to say it.
			stage, note = payment.StageWaitingCustomer, "the slot must be empty first: take out the card that is in it"
		}
	}
	if _, err := e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
		if err := p.Move(payment.State{Status: payment.InProgress, Stage: stage}, 0, w.at, note); err != nil {
			return err
		}
		if early {
			return e.arm(w, p)
		}
		return nil
	}); err != nil {
		e.unstorable(l, p.ID, err)
		return nil
	}

	timeout := e.o.CardTimeout
	if p.Request.DeadlineS > 0 {
		timeout = time.Duration(p.Request.DeadlineS) * time.Second
	}
	cardCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := l.clearSlot(cardCtx, dev); err != nil {
		if stage == payment.StageWaitingCustomer && errors.Is(cardCtx.Err(), context.DeadlineExceeded) {
			e.end(l, p.ID, payment.State{Status: payment.Canceled, Stage: payment.StageTimedOut}, 0, because("card.left", "the card that was in the slot stayed there: take it out and start again"))
			return nil
		}
		return e.endOfCard(cardCtx, l, job, p.ID, err)
	}
	if stage == payment.StageWaitingCustomer {
		if _, err := e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
			return p.Move(payment.State{Status: payment.InProgress, Stage: payment.StageWaitingCard}, 0, w.at, "device ready")
		}); err != nil {
			e.unstorable(l, p.ID, err)
			return nil
		}
	}
	session, err := d.Begin(cardCtx)
	if err != nil {
		return e.endOfCard(cardCtx, l, job, p.ID, err)
	}
	job.setSession(session)
	completed := false
	defer func() {
		job.setSession(nil)
		if !completed {
			e.closeSession(session)
		}
	}()

	terms := emv.Terms{Amounts: amounts, Type: emv.Purchase, Time: e.now().In(l.Zone)}
	if amounts.Other > 0 {
		terms.Type = emv.Cashback
	}
	for _, entry := range p.Request.Entry {
		terms.Entries = append(terms.Entries, emv.Entry(entry))
	}
	deviceMS := e.now().Sub(began).Milliseconds()
	card, err := session.Read(cardCtx, terms)
	if err != nil {
		return e.endOfCard(cardCtx, l, job, p.ID, err)
	}
	cardAt := e.now()

	// Contact: the record of R1, before the first GENERATE AC.
	now, err := e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
		fillCard(p, card)
		p.Timings.DeviceMS = deviceMS
		h.Private.OneTap = card.Entry == emv.EntryContactless || card.Entry == emv.EntrySwipe
		if p.Facts.Has(payment.Armed) {
			return nil
		}
		return e.arm(w, p)
	})
	if err != nil {
		e.unstorable(l, p.ID, err)
		return nil
	}
	p = now

	outcome := card.Outcome
	if outcome.Decision == "" {
		// A pad that made the cryptogram in its read may still give the decision
		// here only (ABECS GOX).
		if outcome, err = session.Authorize(cardCtx, amounts); err != nil {
			return e.endOfCard(cardCtx, l, job, p.ID, err)
		}
	}
	switch outcome.Decision {
	case emv.OnlineRequest, emv.Deferred:
	case emv.Declined:
		e.end(l, p.ID, payment.State{Status: payment.Declined, Stage: payment.StageByCard}, 0, func(p *payment.Payment) {
			fillOutcome(p, outcome)
			p.DeclineGroup, p.Code, p.Reason = payment.DeclineCard, "card.declined", "the card declined"+reasonOf(outcome)
		})
		return nil
	case emv.Approved:
		// A cryptogram of approval that nobody forwards moves nothing: offline
		// acceptance is not part of this engine.
		e.end(l, p.ID, payment.State{Status: payment.Declined, Stage: payment.StageByRule}, 0, func(p *payment.Payment) {
			fillOutcome(p, outcome)
			p.DeclineGroup, p.Code, p.Reason = payment.DeclineSetup, "card.offline_approval", "the card approved without asking the issuer; this register takes no offline approvals: check the terminal's floor limits"
		})
		return nil
	default:
		e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageDevice}, 0, func(p *payment.Payment) {
			fillOutcome(p, outcome)
			p.Code, p.Reason = "card.not_read", "the card could not be used here"+reasonOf(outcome)
		})
		return nil
	}

	return e.authorizeOnline(l, job, p, session, card, outcome, amounts, cardAt, &completed)
}

// endOfCard ends a payment whose card part failed; nothing was sent. It returns
// err where the device itself is at fault, and nil where a person was.
func (e *Engine) endOfCard(ctx context.Context, l *lane, job *run, id string, err error) (fault error) {
	to, fill := payment.State{Status: payment.Failed, Stage: payment.StageDevice}, because("device.fault", "the device reported a fault before anything was sent: "+faultText(err))
	fault = err
	unsealed, _ := errors.AsType[*encryptError](err)
	switch why := job.whyCanceled(); {
	case why != "":
		fault = nil
		to, fill = payment.State{Status: payment.Canceled, Stage: why}, nil
	case errors.Is(err, emv.ErrCancelled), errors.Is(err, drivers.ErrCancelled):
		fault = nil
		to, fill = payment.State{Status: payment.Canceled, Stage: payment.StageByCustomer}, nil
	case errors.Is(err, emv.ErrNoCard), errors.Is(err, drivers.ErrTimeout), errors.Is(ctx.Err(), context.DeadlineExceeded):
		fault = nil
		to, fill = payment.State{Status: payment.Canceled, Stage: payment.StageTimedOut}, because("card.timeout", "nobody presented a card in time")
	case unsealed != nil:
		fault = nil
		why := notEncrypted(unsealed.err)
		to, fill = payment.State{Status: payment.Failed, Stage: payment.StageConfig}, because(why.code, why.text)
	case errors.Is(err, emv.ErrCardRemoved), errors.Is(err, drivers.ErrCardGone):
		fault = nil
		fill = because("card.removed", "the card was pulled too early: insert it again and leave it in")
	case errors.Is(err, emv.ErrCardUnusable):
		fault = nil
		to, fill = payment.State{Status: payment.Declined, Stage: payment.StageByCard}, func(p *payment.Payment) {
			p.DeclineGroup, p.Code, p.Reason = payment.DeclineCard, "card.unusable", "this card cannot be used here"
		}
	}
	e.end(l, id, to, 0, fill)
	return fault
}

// faultText keeps a device's words: drivers promise that errors hold no card
// data; the length is bounded all the same.
func faultText(err error) string {
	if de, ok := errors.AsType[*drivers.DeviceError](err); ok && de.Raw != "" {
		return fmt.Sprintf("%s, code %s", de.Op, safeText(de.Raw, 16))
	}
	if errors.Is(err, drivers.ErrUnplugged) {
		return "it was unplugged"
	}
	return safeText(drivers.Plain(err), 160)
}

// closeSession ends a session that was not completed, so that the pad does not
// wait for the next customer with the old amount.
func (e *Engine) closeSession(s emv.Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.hard), 10*time.Second)
	defer cancel()
	if err := s.Cancel(ctx); err != nil {
		e.log.Warn("the device did not confirm the end of a session", "err", err)
	}
}
