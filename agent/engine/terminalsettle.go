package engine

import (
	"context"
	"errors"
	"strconv"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
)

// resumeTerminal takes up at start what a terminal left open. The register
// stays taken until the terminal or a person has said what happened.
func (e *Engine) resumeTerminal(l *lane, job *run, id string) {
	if l == nil {
		e.log.Error("a payment waits for a terminal whose register is no longer configured: resolve it by hand", "id", id)
		return
	}
	l.reserve(job)
	e.spawn(func() {
		defer l.release(job)
		e.settleTerminal(l, id)
	})
}

// Limits of what a terminal is asked.
const (
	maxUnsure   = 10 // answers that do not say
	maxTakeBack = 3  // reversals of one approval
)

// settleTerminal asks the terminal's own record until it has said what became
// of a payment or operation, or parks it for a person. It is never answered by
// sending the command again. The caller holds the lane.
func (e *Engine) settleTerminal(l *lane, id string) {
	if err := e.doubtTerminal(id); err != nil {
		e.unstorable(l, id, err)
		return
	}
	unsure := 0
	for try := 0; ; try++ {
		h, err := e.readOn(e.hard, id)
		if err != nil {
			if e.hard.Err() == nil {
				e.unstorable(l, id, err)
			}
			return
		}
		if s := h.state(); s.Final() || s.Stage == payment.StageHeld {
			return // settled, or a person did it
		}
		var last drivers.TerminalAnswer
		asked, can := false, true
		_, err = e.withDevice(e.hard, l, func(d drivers.Device) error {
			lt, ok := d.(drivers.LastTransaction)
			if !ok {
				can = false
				return nil
			}
			ctx, cancel := context.WithTimeout(e.hard, e.o.HostTimeout)
			defer cancel()
			var lerr error
			if last, lerr = lt.Last(ctx); lerr != nil {
				e.log.Warn("the terminal does not say what it did last", "id", id, "err", lerr)
				return lerr
			}
			asked = true
			return nil
		})
		switch {
		case e.hard.Err() != nil:
			return
		case !can:
			e.park(l, id, "the terminal has no query for its last transaction")
			return
		case asked && last.Result != drivers.Unknown && last.Result != "":
			if e.applyLast(l, h, last) {
				return
			}
		case asked:
			unsure++
		}
		if unsure >= maxUnsure {
			e.park(l, id, "the terminal answers and cannot say")
			return
		}
		if err != nil && try == 0 {
			e.log.Warn("a payment is in doubt and the terminal does not answer; asking until it does", "id", id, "err", err)
		}
		if !e.sleepUnlessSettled(id, min(e.o.RetryFirst<<min(try, 10), e.o.RetryMax)) {
			return
		}
	}
}

// sleepUnlessSettled waits; a person's decision about the record ends the wait,
// so that the register is free at once. It reports false when the engine stops.
func (e *Engine) sleepUnlessSettled(id string, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		changed := e.Changed()
		if h, err := e.read(e.hard, id); err == nil && h.state().Final() {
			return true
		}
		select {
		case <-e.hard.Done():
			return false
		case <-t.C:
			return true
		case <-changed:
		}
	}
}

// doubtTerminal shows the doubt, unless the record is already there or at its end.
func (e *Engine) doubtTerminal(id string) error {
	doubt := payment.State{Status: payment.InDoubt, Stage: payment.StageQueryingDevice}
	return e.keep(e.hard, id, func(w *work) error {
		h, err := w.get(id)
		if err != nil {
			return err
		}
		if s := h.state(); s.Final() || s.Status == payment.InDoubt {
			return nil
		}
		const why = "the terminal's answer is missing; it is being asked"
		if p := h.Payment; p != nil {
			p.Code, p.Reason = "device.no_answer", why
			if err := p.Move(doubt, 0, w.at, why); err != nil {
				return err
			}
			return w.put(h)
		}
		o := h.Operation
		o.Code, o.Reason = "device.no_answer", why
		if err := o.Move(doubt, 0, w.at, why); err != nil {
			return err
		}
		if err := e.mirrorDoubt(w, o, doubt, why); err != nil {
			return err
		}
		return w.put(h)
	})
}

// park leaves a record to a person and closes its register.
func (e *Engine) park(l *lane, id, why string) {
	err := e.keep(e.hard, id, func(w *work) error {
		h, err := w.get(id)
		if err != nil {
			return err
		}
		if s := h.state(); s.Final() || s.Stage == payment.StageHeld {
			return nil
		}
		if r := h.reversal(); r != nil {
			r.HeldWhy = why
		}
		return e.hold(w, h, why)
	})
	if err != nil {
		e.unstorable(l, id, err)
		return
	}
	if h, err := e.read(e.hard, id); err == nil && h.state().Stage == payment.StageHeld {
		l.holdFor(id)
	}
}

// whose says whether a terminal's last transaction is the one that a record is
// about.
type whose int

const (
	nobodyKnows whose = iota
	ours
	older    // the one before ours: ours never happened
	nothing  // the terminal has no transaction at all
	somebody // a later one that is not ours
)

// sameRef compares two references by trace number, else by receipt number;
// comparable is false when neither is known of both. Terminal ids that differ
// make them different.
func sameRef(a, b payment.TerminalRef) (same, comparable bool) {
	if a.TerminalID != "" && b.TerminalID != "" && a.TerminalID != b.TerminalID {
		return false, true
	}
	differs := func(x, y string) bool { return x != "" && y != "" && x != y }
	switch {
	case a.Trace != "" && b.Trace != "":
		return a.Trace == b.Trace && !differs(a.Receipt, b.Receipt) && !differs(a.Date, b.Date), true
	case a.Receipt != "" && b.Receipt != "":
		// A receipt number may be given twice in a row.
		return a.Receipt == b.Receipt && !differs(a.Date, b.Date) && !differs(a.Time, b.Time), true
	}
	return false, false
}

// stale reports whether a reference is that of the transaction before ours.
func stale(before *payment.TerminalRef, r drivers.TerminalReference) (same, comparable bool) {
	if before == nil {
		return false, false
	}
	return sameRef(*before, refOf(r))
}

// attribute decides whose a last transaction is: by the reference that the
// terminal gave us, else by what it had done before we began. An equal amount
// alone proves nothing, and another terminal's record less.
func attribute(v private, last terminalWord) whose {
	if last.Result == drivers.NotStarted {
		if v.BeforeNone && (v.Answer == nil || v.Answer.Result != drivers.Approved) {
			return nothing
		}
		return nobodyKnows // it had one and has none now, or it never said
	}
	if otherTerminal(v.Before, last.Reference) {
		return nobodyKnows
	}
	told := v.Answer != nil && (v.Answer.Reference.Trace != "" || v.Answer.Reference.Receipt != "")
	if told && v.Before != nil {
		if same, _ := sameRef(*v.Before, v.Answer.Reference); same {
			// What it told us names the transaction before.
			if v.Answer.Result == drivers.Approved {
				return nobodyKnows
			}
			told = false
		}
	}
	if told {
		switch same, ok := sameRef(v.Answer.Reference, last.Reference); {
		case same:
			return ours
		case ok:
			return somebody
		}
		return nobodyKnows
	}
	if v.BeforeNone {
		return ours
	}
	if v.Before == nil {
		return nobodyKnows
	}
	switch same, ok := sameRef(*v.Before, last.Reference); {
	case same:
		return older
	case ok && follows(*v.Before, last.Reference):
		return ours
	case ok:
		return somebody
	}
	return nobodyKnows
}

// told reports whether the terminal itself told us of its last transaction
// while ours ran.
func told(v private, last terminalWord) bool {
	if v.Answer == nil {
		return false
	}
	same, _ := sameRef(v.Answer.Reference, last.Reference)
	return same
}

func otherTerminal(before *payment.TerminalRef, last payment.TerminalRef) bool {
	return before != nil && before.TerminalID != "" && last.TerminalID != "" && before.TerminalID != last.TerminalID
}

// follows reports whether b can be the one transaction after a: its trace or
// receipt number is the next. Where more than one was made since, or the
// numbers went back, the last one need not be ours. References that do not
// count are taken as they are.
func follows(a, b payment.TerminalRef) bool {
	next := func(x, y string) (yes, counted bool) {
		n, err1 := strconv.ParseInt(x, 10, 64)
		m, err2 := strconv.ParseInt(y, 10, 64)
		if err1 != nil || err2 != nil || len(x) > 18 || len(y) > 18 {
			return false, false
		}
		return m == n+1 || m <= 1 && n == pow10(len(x))-1, true
	}
	trace, tc := next(a.Trace, b.Trace)
	receipt, rc := next(a.Receipt, b.Receipt)
	return trace || receipt || !tc && !rc
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// applyLast settles a record by the terminal's last transaction. It reports
// whether the record is settled or parked.
func (e *Engine) applyLast(l *lane, h *held, a drivers.TerminalAnswer) bool {
	word := wordOf(a)
	if h.Operation != nil {
		return e.applyLastToOperation(l, h, a, word)
	}
	p := *h.Payment
	if p.Facts.Has(payment.ReversalDurable) {
		return e.takeBackAtTerminal(l, h, word)
	}
	switch attribute(h.Private, word) {
	case nothing, older:
		e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageDevice}, payment.NotStarted, func(p *payment.Payment) {
			p.Code, p.Reason = "device.not_started", "the terminal's own record shows that it did not begin"
		})
		return true
	case ours:
	case somebody:
		e.park(l, p.ID, "the terminal's last transaction is another one; it cannot say what became of this payment")
		return true
	default:
		e.park(l, p.ID, "the terminal's last transaction carries no reference that tells whether it is this payment")
		return true
	}
	if word.Original != "" {
		e.park(l, p.ID, "the terminal's last transaction takes an older one back; it cannot say what became of this payment")
		return true
	}
	if word.Op != "" && word.Op != saleOp(p.Request.Intent) {
		e.park(l, p.ID, "the terminal's last transaction is a "+string(word.Op)+"; it cannot say what became of this payment")
		return true
	}
	switch a.Result {
	case drivers.Approved:
		c, err := payment.LookupCurrency(p.Request.Amount.Currency)
		if err != nil || word.Amount <= 0 || word.Amount > p.Request.Amount.Total || word.Currency != 0 && word.Currency != c.Numeric {
			e.park(l, p.ID, "the terminal's last transaction has another amount or currency than this payment")
			return true
		}
		if word.Amount != p.Request.Amount.Total && !told(h.Private, word) {
			// Only its number says that it is ours. It may be a sale that someone
			// keyed in meanwhile, which must not be kept here nor taken back.
			e.park(l, p.ID, "the terminal's last transaction has a smaller amount than this payment, and the terminal never told it to us")
			return true
		}
		e.terminalApproved(l, p, word, func(p *payment.Payment) { fillTerminal(p, a) })
		h, err := e.read(e.hard, p.ID)
		return err != nil || h.state().Final() // a part that is refused goes on as a reversal
	default:
		e.end(l, p.ID, payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, func(p *payment.Payment) {
			fillTerminal(p, a)
			p.DeclineGroup, p.Code, p.Reason = payment.DeclineOther, "host.declined", "the terminal's own record shows that nothing was taken"
		})
		return true
	}
}

// applyLastToOperation settles a void, refund or capture. An approval counts
// only if the terminal says which operation it was, now or when it answered our
// command, and it is newer than what it had done before: an older approval of
// the same amount is the sale itself.
func (e *Engine) applyLastToOperation(l *lane, h *held, a drivers.TerminalAnswer, word terminalWord) bool {
	o := *h.Operation
	to, learn, why := payment.State{}, payment.Facts(0), ""
	switch attribute(h.Private, word) {
	case nothing, older:
		to, learn, why = payment.State{Status: payment.Failed, Stage: payment.StageDevice}, payment.NotStarted, "the terminal's own record shows that it did not begin"
	case ours:
		p, err := e.Payment(e.hard, o.PaymentID)
		switch {
		case err != nil:
			return false
		case !word.does(terminalOp(o.Kind, &p), p.Terminal) && !(word.Op == "" && told(h.Private, word) && word.mayBeAbout(p.Terminal)):
			e.park(l, o.ID, "the terminal's last transaction is not known to be this "+string(o.Kind))
			return true
		case a.Result == drivers.Approved && o.Kind != payment.KindRefund && otherCard(p.Card.Last4, a.Last4):
			e.park(l, o.ID, "the terminal's last transaction names another card than that of the payment: see its receipt")
			return true
		case a.Result == drivers.Approved && !wholeOf(o.Amount, word):
			e.park(l, o.ID, "the terminal's last transaction has another amount or currency")
			return true
		case a.Result == drivers.Approved:
			to, learn = payment.State{Status: payment.Succeeded}, payment.Approved
		default:
			to, learn, why = payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, "the terminal's own record shows that it was not done"
		}
	default:
		e.park(l, o.ID, "the terminal's last transaction does not tell what became of this "+string(o.Kind))
		return true
	}
	_, err := e.changeOperation(e.hard, o.ID, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if o.State.Final() {
			return nil
		}
		o.Reason = why
		if learn == payment.Approved {
			o.Terminal, o.Host.ApprovalCode = word.Reference, safeText(a.AuthCode, 16)
		}
		if err := o.Move(to, learn, w.at, why); err != nil {
			return err
		}
		return book(o, p, w.at)
	})
	e.operationUnstorable(o.ID, err)
	e.unstorable(l, o.ID, err)
	return true
}

// takeBackAtTerminal reverses an approval that may not be kept. last is what
// the terminal did last: the approval itself (the reversal has not happened
// and may be sent), its reversal (done), or something that cannot be told.
// Each sending is counted in the record before it begins.
func (e *Engine) takeBackAtTerminal(l *lane, h *held, last terminalWord) bool {
	p := *h.Payment
	if p.Terminal.Trace == "" && p.Terminal.Receipt == "" {
		e.park(l, p.ID, "the approval has to be taken back and the terminal gave no reference for it: reverse it at the terminal")
		return true
	}
	if otherTerminal(&p.Terminal, last.Reference) {
		e.park(l, p.ID, "the approval has to be taken back and another terminal stands at this register: reverse it at the one that took it")
		return true
	}
	same, ok := sameRef(p.Terminal, last.Reference)
	op := drivers.OpReversal
	if p.Request.Intent == payment.IntentAuth {
		op = drivers.OpRelease
	}
	its := last.does(op, p.Terminal) // the reversal: it says so, or it was told to us as that
	if t := h.Private.TakenBack; t != nil && last.Op == "" && last.mayBeAbout(p.Terminal) {
		answered, _ := sameRef(t.Reference, last.Reference)
		its = its || answered
	}
	switch {
	case ok && !same && its && last.Result == drivers.Approved && h.Private.Tries > 0 && h.Private.Answer != nil && last.Amount == h.Private.Answer.Amount:
		e.ackTerminalReversal(l, p.ID)
		return true
	case same && h.Private.Tries < maxTakeBack:
	case ok && its && (last.Result == drivers.Declined || last.Result == drivers.Cancelled) && h.Private.Tries > 0 && h.Private.Tries < maxTakeBack:
		// Its reversal, which the terminal did not do or took back itself.
	default:
		e.park(l, p.ID, "the approval has to be taken back and the terminal did not do it: reverse it at the terminal")
		return true
	}
	amount := p.Request.Amount.Total
	if h.Private.Answer != nil {
		amount = h.Private.Answer.Amount
	}
	c, _ := payment.LookupCurrency(p.Request.Amount.Currency)
	settled := false
	err := e.keep(e.hard, p.ID, func(w *work) error {
		h, err := w.get(p.ID)
		if err != nil {
			return err
		}
		if settled = h.state().Final(); settled {
			return nil // a person did it meanwhile
		}
		h.Private.Tries++
		h.Payment.Reversal.Attempts++
		return w.put(h)
	})
	if settled {
		return true
	}
	if err != nil {
		e.unstorable(l, p.ID, err)
		return true
	}
	var answer drivers.TerminalAnswer
	begun, _ := e.withDevice(e.hard, l, func(d drivers.Device) error {
		t, ok := d.(drivers.PaymentTerminal)
		if !ok {
			return nil
		}
		ctx, cancel := context.WithTimeout(e.hard, e.o.TerminalTimeout)
		defer cancel()
		var perr error
		answer, perr = t.Perform(ctx, drivers.TerminalRequest{Op: op, Amount: amount, Currency: c.Code, CurrencyNumeric: c.Numeric, Original: referenceOf(p.Terminal),
			Persist: func(ctx context.Context, a drivers.TerminalAnswer) error {
				word := wordOf(a)
				return e.keep(ctx, p.ID, func(w *work) error {
					h, err := w.get(p.ID)
					if err != nil {
						return err
					}
					h.Private.TakenBack = &word
					return w.put(h)
				})
			}})
		if perr != nil {
			e.log.Warn("a terminal's reversal ended with an error", "payment", p.ID, "err", perr)
		}
		return perr
	})
	if begun && answer.Result == drivers.Approved && (answer.Op == "" || answer.Op == op) && (answer.Amount == 0 || answer.Amount == amount) {
		e.ackTerminalReversal(l, p.ID)
		return true
	}
	return false // its own record says next
}

func (e *Engine) ackTerminalReversal(l *lane, id string) {
	_, err := e.change(e.hard, id, func(w *work, h *held, p *payment.Payment) error {
		if p.State.Final() {
			return nil
		}
		if p.Reversal == nil {
			return errors.New("engine: no reversal in the record")
		}
		p.Reversal.AckedAt = w.at
		return p.Move(p.Reversal.Then, payment.ReversalAcked, w.at, "the terminal reversed it")
	})
	e.unstorable(l, id, err)
}
