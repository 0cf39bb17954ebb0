package engine

import (
	"context"
	"errors"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
)

// terminalWord is a terminal's answer as the record keeps it.
type terminalWord struct {
	Result    drivers.Result      `json:"result"`
	Op        drivers.TerminalOp  `json:"op,omitempty"`
	Amount    int64               `json:"amount,omitempty"`
	Currency  int                 `json:"currency,omitempty"` // ISO 4217 number; 0 when it did not say
	Reference payment.TerminalRef `json:"reference,omitzero"`
	Original  string              `json:"original,omitempty"` // trace of what it is about
}

func wordOf(a drivers.TerminalAnswer) terminalWord {
	return terminalWord{Result: a.Result, Op: a.Op, Amount: a.Amount, Currency: a.CurrencyNumeric, Reference: refOf(a.Reference), Original: a.Original}
}

// does reports whether a terminal's record is an operation on a payment: it
// says so, or it names the payment as what it takes back. A sale cannot be
// captured or released, so that what takes it back is its reversal.
func (w terminalWord) does(op drivers.TerminalOp, of payment.TerminalRef) bool {
	if !w.mayBeAbout(of) {
		return false
	}
	return w.Op == op || w.Op == "" && op == drivers.OpReversal && w.Original != "" && w.Original == of.Trace
}

// mayBeAbout reports whether a terminal's record names no other payment than
// this one as what it is about.
func (w terminalWord) mayBeAbout(of payment.TerminalRef) bool {
	return w.Original == "" || of.Trace == "" || w.Original == of.Trace
}

func refOf(r drivers.TerminalReference) payment.TerminalRef {
	return payment.TerminalRef{TerminalID: r.TerminalID, Receipt: r.Receipt, Trace: r.Trace, Date: r.Date, Time: r.Time}
}

func referenceOf(r payment.TerminalRef) drivers.TerminalReference {
	return drivers.TerminalReference{TerminalID: r.TerminalID, Receipt: r.Receipt, Trace: r.Trace, Date: r.Date, Time: r.Time}
}

// baseline asks what the terminal did last before we start something: a lost
// answer is later told from an older transaction of the same amount. It is
// asked each time: someone may have used the terminal's own keys since, and a
// terminal may leave out of its record what it told us of a decline.
func (e *Engine) baseline(l *lane, d drivers.Device) (before *payment.TerminalRef, none bool) {
	lt, ok := d.(drivers.LastTransaction)
	if !ok {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(e.hard, e.o.HostTimeout)
	a, err := lt.Last(ctx)
	cancel()
	if err != nil || a.Result == drivers.Unknown || a.Result == "" {
		e.log.Warn("the terminal did not say what it did last; a lost answer would need a person", "register", l.RegisterID, "err", err)
		return nil, false
	}
	if a.Result == drivers.NotStarted {
		return nil, true
	}
	last := refOf(a.Reference)
	if last.Trace == "" && last.Receipt == "" {
		return nil, false
	}
	return &last, false
}

// payAtTerminal runs a payment on a terminal that authorises by itself. It
// reports true when the terminal's own record has to decide.
func (e *Engine) payAtTerminal(l *lane, job *run, p payment.Payment, d drivers.Device, t drivers.PaymentTerminal) (doubt bool, fault error) {
	amounts, err := amountsOf(p.Request.Amount)
	if err != nil {
		e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, because("request.invalid", "the currency is not known"))
		return false, nil
	}
	before, none := e.baseline(l, d)
	job.setAbort(t.Abort)
	defer job.setAbort(nil)
	if !job.send() {
		e.end(l, p.ID, payment.State{Status: payment.Canceled, Stage: job.whyCanceled()}, 0, nil)
		return false, nil
	}
	// R1: from the first byte of the command on the terminal may take money.
	if _, err := e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
		h.Private.TerminalKind, h.Private.Before, h.Private.BeforeNone = true, before, none
		if err := p.Move(payment.State{Status: payment.InProgress, Stage: payment.StageWaitingCard}, 0, w.at, "terminal ready"); err != nil {
			return err
		}
		return p.Move(payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Armed|payment.Sent, w.at, "authorizing recorded; the terminal takes over")
	}); err != nil {
		e.unstorable(l, p.ID, err)
		return false, nil
	}
	if why := job.whyCanceled(); why != "" {
		// The cancel came while the record was written: no byte has left, and the
		// terminal has nothing yet that an abort could stop.
		e.end(l, p.ID, payment.State{Status: payment.Canceled, Stage: why}, payment.NotStarted, nil)
		return false, nil
	}
	if p.Request.DeadlineS > 0 {
		// Only asks: the terminal's answer decides.
		late := time.AfterFunc(time.Duration(p.Request.DeadlineS)*time.Second, func() { e.stopJob(job, payment.StageTimedOut) })
		defer late.Stop()
	}
	op := saleOp(p.Request.Intent)
	began := e.now()
	answer, fault := e.perform(t, p.ID, "", drivers.TerminalRequest{Op: op, Amount: amounts.Amount, Currency: amounts.Currency,
		CurrencyNumeric: amounts.CurrencyNumeric, AcceptPartial: p.Request.AcceptPartial})
	took := e.now().Sub(began).Milliseconds()
	if same, _ := stale(before, answer.Reference); same && answer.Result != drivers.Unknown {
		e.log.Warn("the terminal answered with the transaction before ours", "payment", p.ID)
		answer.Result = drivers.Unknown
	}
	return e.terminalSaid(l, job, p, answer, took), fault
}

// perform runs one command. Its answer is durable before the terminal is told
// that we have it, and an error is Unknown unless the terminal said otherwise.
// card is the card that the command is about, its last four digits, or empty:
// an approval for another one gets no answer, and so the terminal undoes it.
func (e *Engine) perform(t drivers.PaymentTerminal, id, card string, r drivers.TerminalRequest) (drivers.TerminalAnswer, error) {
	ctx, cancel := context.WithTimeout(e.hard, e.o.TerminalTimeout)
	defer cancel()
	var told *terminalWord
	r.Persist = func(ctx context.Context, a drivers.TerminalAnswer) error {
		if a.Result == drivers.Approved && otherCard(card, a.Last4) {
			return errOtherCard
		}
		word := wordOf(a)
		told = &word
		return e.keep(ctx, id, func(w *work) error {
			h, err := w.get(id)
			if err != nil {
				return err
			}
			h.Private.Answer = &word
			return w.put(h)
		})
	}
	answer, err := t.Perform(ctx, r)
	switch answer.Result {
	case drivers.Approved, drivers.Declined, drivers.Cancelled, drivers.NotStarted:
	default:
		answer.Result = drivers.Unknown
	}
	if err != nil {
		e.log.Warn("a terminal's command ended with an error", "id", id, "result", string(answer.Result), "err", err)
	}
	if answer.Op != "" && answer.Op != r.Op {
		e.log.Warn("the terminal answered for another operation", "id", id, "asked", string(r.Op), "answered", string(answer.Op))
		answer.Result = drivers.Unknown
	}
	if told != nil && answer.Result != drivers.Unknown && (told.Result != answer.Result || answer.Result == drivers.Approved && told.Amount != answer.Amount) {
		e.log.Warn("the terminal gave two results for one command", "id", id, "first", string(told.Result), "then", string(answer.Result))
		answer.Result = drivers.Unknown
	}
	return answer, err
}

// errOtherCard: receipt numbers begin again, so that a terminal may take back
// the payment of somebody else.
var errOtherCard = errors.New("engine: the terminal names another card than that of the payment")

// otherCard compares last four digits, where both are known.
func otherCard(ours, said string) bool {
	return len(ours) == 4 && len(said) >= 4 && ours != said[len(said)-4:]
}

func saleOp(i payment.Intent) drivers.TerminalOp {
	if i == payment.IntentAuth {
		return drivers.OpReservation
	}
	return drivers.OpSale
}

// terminalSaid keeps the terminal's answer to a sale; true means that its own
// record has to decide.
func (e *Engine) terminalSaid(l *lane, job *run, p payment.Payment, a drivers.TerminalAnswer, tookMS int64) (doubt bool) {
	fill := func(p *payment.Payment) {
		fillTerminal(p, a)
		if tookMS > 0 {
			p.Timings.CardMS = tookMS
		}
	}
	switch a.Result {
	case drivers.Approved:
		if a.Amount == 0 {
			return true // it does not say how much: ask
		}
		e.terminalApproved(l, p, wordOf(a), fill)
		// a refused part is taken back by the terminal before anything else
		return true
	case drivers.Declined:
		e.end(l, p.ID, payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, func(p *payment.Payment) {
			fill(p)
			p.DeclineGroup, p.Code, p.Reason = payment.DeclineOther, "host.declined", "the terminal declined, code "+safeText(a.Raw, 16)
		})
	case drivers.Cancelled:
		stage := payment.StageByCustomer
		if why := job.whyCanceled(); why != "" {
			stage = why
		}
		e.end(l, p.ID, payment.State{Status: payment.Canceled, Stage: stage}, payment.Denied, fill)
	case drivers.NotStarted:
		if why := job.whyCanceled(); why != "" {
			e.end(l, p.ID, payment.State{Status: payment.Canceled, Stage: why}, payment.NotStarted, fill)
			return false
		}
		e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageDevice}, payment.NotStarted, func(p *payment.Payment) {
			fill(p)
			p.Code, p.Reason = "device.not_started", "the terminal did not begin, code "+safeText(a.Raw, 16)
		})
	default:
		return true
	}
	return false
}

// terminalApproved keeps an approval that is ours: whole, in part as the till
// accepts, or to be taken back. A part is never taken as the whole.
func (e *Engine) terminalApproved(l *lane, p payment.Payment, word terminalWord, fill func(*payment.Payment)) {
	asked := p.Request.Amount.Total
	c, err := payment.LookupCurrency(p.Request.Amount.Currency)
	currencyOK := err == nil && (word.Currency == 0 || word.Currency == c.Numeric)
	switch {
	case currencyOK && word.Amount == asked, currencyOK && word.Amount > 0 && word.Amount < asked && p.Request.AcceptPartial:
		to := payment.State{Status: payment.Succeeded}
		if p.Request.Intent == payment.IntentAuth {
			to.Status = payment.Authorized
		}
		e.end(l, p.ID, to, payment.Approved, func(p *payment.Payment) {
			fill(p)
			p.Approved, p.Code, p.Reason = word.Amount, "", ""
			if p.Terminal == (payment.TerminalRef{}) {
				p.Terminal = word.Reference
			}
		})
		return
	}
	why := "the terminal approved only a part; the till does not accept parts, it is taken back"
	if !currencyOK || word.Amount > asked {
		why = "the terminal approved an amount or currency that was not asked for; it is taken back"
	}
	_, err = e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
		if p.State.Final() || p.Facts.Has(payment.ReversalDurable) {
			return nil // also where a person closed it meanwhile
		}
		fill(p)
		if p.Terminal == (payment.TerminalRef{}) {
			p.Terminal = word.Reference
		}
		h.Private.Answer = &word
		p.Code, p.Reason = "host.partial", why
		p.Reversal = &payment.Reversal{Reason: "partial_refuse", Then: payment.State{Status: payment.Declined, Stage: payment.StageByRule}, Recorded: w.at}
		return p.Move(payment.State{Status: payment.InDoubt, Stage: payment.StageReversing}, payment.Approved|payment.Refused|payment.ReversalDurable, w.at, "reversal recorded: "+why)
	})
	e.unstorable(l, p.ID, err)
}

// maxReceipt bounds the lines that a record keeps of a terminal's receipt.
const maxReceipt = 80

func receiptOf(a drivers.TerminalAnswer) []string {
	var lines []string
	for _, line := range a.Receipt[:min(len(a.Receipt), maxReceipt)] {
		lines = append(lines, safeText(line, 80))
	}
	return lines
}

func fillTerminal(p *payment.Payment, a drivers.TerminalAnswer) {
	if r := refOf(a.Reference); r != (payment.TerminalRef{}) {
		p.Terminal = r
	}
	if a.Entry != "" {
		p.Card.Entry = string(a.Entry)
	}
	if m := checkedMask(a.MaskedPAN); m != "" {
		p.Card.Masked = m
	}
	if a.Last4 != "" {
		p.Card.Last4 = a.Last4[max(0, len(a.Last4)-4):]
	}
	if a.Brand != "" {
		p.Card.Brand = safeText(a.Brand, 40)
	}
	if a.CVM != "" {
		p.EMV.CVMText = safeText(a.CVM, 40)
	}
	p.Host.ApprovalCode, p.Host.ResponseCode = safeText(a.AuthCode, 16), safeText(a.Raw, 16)
	p.Receipt = receiptOf(a)
}

// terminalOps says what a terminal is asked for an operation on a payment.
func terminalOp(k payment.Kind, p *payment.Payment) drivers.TerminalOp {
	switch k {
	case payment.KindVoid:
		if p.State.Status == payment.Authorized || p.Request.Intent == payment.IntentAuth && p.Captured == 0 {
			return drivers.OpRelease
		}
		return drivers.OpReversal
	case payment.KindCapture:
		return drivers.OpCapture
	}
	return drivers.OpRefund
}

// runAtTerminal runs a void, refund or capture on the terminal that took the
// payment. It holds the lane.
func (e *Engine) runAtTerminal(l *lane, job *run, o payment.Operation) {
	ctx := job.begin(e.hard)
	defer job.stop()
	doubt := false
	begun, _ := e.withDevice(ctx, l, func(d drivers.Device) (fault error) {
		t, ok := d.(drivers.PaymentTerminal)
		if !ok {
			e.endOperation(o.ID, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, "the register's device is no longer the terminal that took the payment")
			return nil
		}
		before, none := e.baseline(l, d)
		var original payment.TerminalRef
		card := ""
		var op drivers.TerminalOp
		o, err := e.changeOperation(e.hard, o.ID, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
			original, op = p.Terminal, terminalOp(o.Kind, p)
			if op != drivers.OpRefund {
				card = p.Card.Last4
			}
			if original.Trace == "" && original.Receipt == "" && op != drivers.OpRefund {
				// without the terminal's own reference it would undo whatever it likes
				o.Reason, o.Code = "the terminal gave no receipt or trace number for this payment: use its own menu, or a refund", "device.no_reference"
				if err := o.Move(payment.State{Status: payment.Failed, Stage: payment.StageDevice}, 0, w.at, o.Reason); err != nil {
					return err
				}
				return book(o, p, w.at)
			}
			if before != nil && op != drivers.OpRefund && otherTerminal(&original, *before) {
				// its receipt numbers are other payments
				o.Reason, o.Code = "another terminal stands at this register: do it at the one that took the payment, or use a refund", "device.other_terminal"
				if err := o.Move(payment.State{Status: payment.Failed, Stage: payment.StageDevice}, 0, w.at, o.Reason); err != nil {
					return err
				}
				return book(o, p, w.at)
			}
			h.Private.TerminalKind, h.Private.Before, h.Private.BeforeNone = true, before, none
			if err := o.Move(payment.State{Status: payment.InProgress, Stage: payment.StageWaitingCustomer}, 0, w.at, ""); err != nil {
				return err
			}
			if o.Kind != payment.KindRefund {
				p.BeginChange()
			}
			return o.Move(payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Armed|payment.Sent, w.at, "authorizing recorded; the terminal takes over")
		})
		if err != nil || o.State.Final() {
			e.operationUnstorable(o.ID, err)
			return nil
		}
		amounts := operationAmounts(&o)
		answer, fault := e.perform(t, o.ID, card, drivers.TerminalRequest{Op: op, Amount: amounts.Amount, Currency: amounts.Currency,
			CurrencyNumeric: amounts.CurrencyNumeric, Original: referenceOf(original)})
		if same, _ := stale(before, answer.Reference); same && answer.Result != drivers.Unknown {
			answer.Result = drivers.Unknown
		}
		doubt = e.terminalSaidOfOperation(l, o, answer)
		return fault
	})
	switch {
	case doubt:
		e.settleTerminal(l, o.ID)
	case !begun:
		e.endOperation(o.ID, payment.State{Status: payment.Failed, Stage: payment.StageDevice}, 0, "the device of this register does not answer: check power and cable")
	}
}

// terminalSaidOfOperation keeps a terminal's answer; true means that its own
// record has to decide.
func (e *Engine) terminalSaidOfOperation(l *lane, o payment.Operation, a drivers.TerminalAnswer) (doubt bool) {
	word := wordOf(a)
	to, learn, why := payment.State{}, payment.Facts(0), ""
	switch a.Result {
	case drivers.Approved:
		if !wholeOf(o.Amount, word) {
			return true
		}
		to, learn = payment.State{Status: payment.Succeeded}, payment.Approved
	case drivers.Declined:
		to, learn, why = payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, "the terminal declined, code "+safeText(a.Raw, 16)
	case drivers.Cancelled:
		to, learn, why = payment.State{Status: payment.Canceled, Stage: payment.StageByCustomer}, payment.Denied, "cancelled at the terminal"
	case drivers.NotStarted:
		to, learn, why = payment.State{Status: payment.Failed, Stage: payment.StageDevice}, payment.NotStarted, "the terminal did not begin, code "+safeText(a.Raw, 16)
	default:
		return true
	}
	_, err := e.changeOperation(e.hard, o.ID, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		if o.State.Final() {
			return nil
		}
		o.Terminal, o.Reason = word.Reference, why
		o.Host.ApprovalCode, o.Host.ResponseCode = safeText(a.AuthCode, 16), safeText(a.Raw, 16)
		o.Receipt = receiptOf(a)
		if err := o.Move(to, learn, w.at, why); err != nil {
			return err
		}
		return book(o, p, w.at)
	})
	e.operationUnstorable(o.ID, err)
	if err != nil && l != nil {
		e.unstorable(l, o.ID, err)
	}
	return false
}

// wholeOf reports whether a terminal's word is about exactly this amount.
func wholeOf(m payment.Money, word terminalWord) bool {
	c, err := payment.LookupCurrency(m.Currency)
	return err == nil && word.Amount == m.Minor && (word.Currency == 0 || word.Currency == c.Numeric)
}

func (e *Engine) endOperation(id string, to payment.State, learn payment.Facts, why string) {
	_, err := e.changeOperationEnd(e.hard, id, to, learn, why, func(o *payment.Operation) bool { return !o.State.Final() })
	e.operationUnstorable(id, err)
}
