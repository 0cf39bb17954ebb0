package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/emv"
)

// arm is the record of R1: amount, STAN and device are in the record.
func (e *Engine) arm(w *work, p *payment.Payment) error {
	n, err := w.stan(p.Host.TerminalID)
	if err != nil {
		return err
	}
	p.Host.STAN = fmt.Sprintf("%06d", n)
	zone := time.UTC
	if l := e.lanes[p.Request.RegisterID]; l != nil {
		zone = l.Zone
	}
	p.Host.Sent = w.at.In(zone).Truncate(time.Second)
	return p.Move(payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Armed, w.at, "authorizing recorded, STAN "+p.Host.STAN)
}

// authorizeOnline sends the request and gives the answer to the card.
func (e *Engine) authorizeOnline(l *lane, job *run, p payment.Payment, session emv.Session, card emv.Card, outcome emv.Outcome, amounts emv.Amounts, cardAt time.Time, completed *bool) (fault error) {
	if !job.send() {
		e.end(l, p.ID, payment.State{Status: payment.Canceled, Stage: job.whyCanceled()}, 0, nil)
		return fault
	}
	p, err := e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
		fillOutcome(p, outcome)
		return p.Move(payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Sent, w.at, "request goes to the host")
	})
	if err != nil {
		e.unstorable(l, p.ID, err)
		return fault
	}
	request := acquirer.Request{
		Kind: kindOf(p.Request.Intent), Reference: p.ID, STAN: stanOf(p.Host), Time: p.Host.Sent,
		TerminalID: p.Host.TerminalID, MerchantID: p.Host.MerchantID, Amounts: amounts, Entry: card.Entry,
		PANSequence: card.PANSequence, Card: card.Data, PIN: outcome.PIN, Field55: outcome.Field55,
		AcceptPartial: p.Request.AcceptPartial,
	}
	sentAt := e.now()
	hostCtx, cancel := context.WithTimeout(e.hard, e.o.HostTimeout)
	res, err := e.o.Link.Authorize(hostCtx, request)
	cancel()
	request, card.Data = acquirer.Request{}, emv.Card{}.Data
	hostAt := e.now()
	if err != nil {
		e.log.Warn("the host gave no usable answer", "payment", p.ID, "err", err)
	}
	times := func(p *payment.Payment) {
		p.Timings.CardMS, p.Timings.HostMS = sentAt.Sub(cardAt).Milliseconds(), hostAt.Sub(sentAt).Milliseconds()
	}

	doneCtx, cancel := context.WithTimeout(e.hard, e.o.CardTimeout)
	defer cancel()
	complete := func(h emv.HostResponse) (emv.Outcome, error) {
		*completed = true
		out, err := session.Complete(doneCtx, h)
		if err != nil {
			*completed, fault = false, err
		}
		return out, err
	}

	switch res.Outcome {
	case acquirer.NotSent:
		// Proof that no byte left. The card is asked for AAC all the same: an
		// offline approval would have nobody to forward it.
		_, _ = complete(emv.HostResponse{Sent: true})
		e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageHost}, payment.NotStarted, func(p *payment.Payment) {
			times(p)
			p.Code, p.Reason = "host.unreachable", "the acquirer cannot be reached and nothing was sent: `tillbridge status` shows why"
		})
	case acquirer.Declined:
		last, cerr := complete(emv.HostResponse{Reached: true, Sent: true, ARC: res.ARC, IssuerAuth: res.IssuerAuth, Scripts: res.Scripts})
		e.end(l, p.ID, payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, payment.Denied, func(p *payment.Payment) {
			times(p)
			fillHost(p, res)
			if cerr == nil {
				fillOutcome(p, last)
			}
			p.DeclineGroup, p.Code, p.Reason = groupOf(res.Class), "host.declined", "the issuer declined, code "+res.ResponseCode
		})
	case acquirer.Approved:
		approved, refusal := approvedAmount(p, res)
		if refusal != "" {
			_, _ = complete(emv.HostResponse{Reached: true, Sent: true, ARC: "05"})
			e.takeBack(l, p.ID, payment.Approved|payment.Refused, acquirer.PartialAmount, payment.State{Status: payment.Declined, Stage: payment.StageByRule}, func(p *payment.Payment) {
				times(p)
				fillHost(p, res)
				p.DeclineGroup, p.Code, p.Reason = payment.DeclineOther, "host.partial", refusal
			})
			return fault
		}
		last, cerr := complete(emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: res.ARC, IssuerAuth: res.IssuerAuth, Scripts: res.Scripts})
		if cerr != nil || last.Decision != emv.Approved || last.ReversalNeeded {
			e.takeBack(l, p.ID, payment.Approved|payment.Refused, acquirer.CardRefused, payment.State{Status: payment.Declined, Stage: payment.StageByCard}, func(p *payment.Payment) {
				times(p)
				fillHost(p, res)
				p.DeclineGroup, p.Code, p.Reason = payment.DeclineCard, "card.refused_after_approval", "the host approved and the card did not confirm; the approval is taken back"
				if cerr == nil {
					fillOutcome(p, last)
				}
			})
			return fault
		}
		to := payment.State{Status: payment.Succeeded}
		if p.Request.Intent == payment.IntentAuth {
			to.Status = payment.Authorized
		}
		e.end(l, p.ID, to, payment.Approved, func(p *payment.Payment) {
			times(p)
			fillHost(p, res)
			fillOutcome(p, last)
			p.Approved = approved
		})
	default:
		_, _ = complete(emv.HostResponse{Sent: true})
		e.hostSilent(l, job, p, times)
	}
	return fault
}

// hostSilent is R5: a byte may have gone and no answer came. A contact card
// was asked for AAC, so no approval can be kept: the reversal is recorded at
// once. Where no second cryptogram is due, the host is asked first.
func (e *Engine) hostSilent(l *lane, job *run, p payment.Payment, times func(*payment.Payment)) {
	oneTap := p.Card.Entry == string(emv.EntryContactless) || p.Card.Entry == string(emv.EntrySwipe)
	if !oneTap {
		e.takeBack(l, p.ID, 0, acquirer.NoAnswer, payment.State{Status: payment.Reversed}, func(p *payment.Payment) {
			times(p)
			p.Code, p.Reason = "host.no_answer", "the host did not answer; the payment is taken back"
		})
		return
	}
	_, err := e.change(e.hard, p.ID, func(w *work, h *held, p *payment.Payment) error {
		times(p)
		p.Code, p.Reason = "host.no_answer", "the host did not answer; it is being asked"
		return p.Move(payment.State{Status: payment.InDoubt, Stage: payment.StageQueryingHost}, 0, w.at, "no answer from the host")
	})
	if err != nil {
		e.unstorable(l, p.ID, err)
		return
	}
	e.settleHost(l, p.ID)
}

// approvedAmount says what of a host's approval may be kept, or why it must be
// taken back: a part is never taken as the whole.
func approvedAmount(p payment.Payment, res acquirer.Result) (int64, string) {
	asked := p.Request.Amount.Total
	got := res.ApprovedAmount
	if got == 0 && !res.Partial {
		return asked, ""
	}
	switch {
	case got == asked:
		return asked, ""
	case got <= 0 || got > asked:
		return 0, "the host approved an amount that was not asked for; it is taken back"
	case !p.Request.AcceptPartial:
		return 0, "the host approved only a part; the till does not accept parts, it is taken back"
	}
	return got, ""
}

func amountsOf(a payment.Amounts) (emv.Amounts, error) {
	c, err := payment.LookupCurrency(a.Currency)
	if err != nil {
		return emv.Amounts{}, err
	}
	return emv.Amounts{Amount: a.Total, Other: a.Cashback, Currency: a.Currency, CurrencyNumeric: c.Numeric, Exponent: c.Exponent}, nil
}

func kindOf(i payment.Intent) acquirer.Kind {
	if i == payment.IntentAuth {
		return acquirer.Authorization
	}
	return acquirer.Sale
}

func mayBeContactless(entries []string) bool {
	if slices.Contains(entries, string(emv.EntryContactless)) {
		return true
	}
	return len(entries) == 0
}

func stanOf(h payment.HostRef) int {
	n, _ := strconv.Atoi(h.STAN)
	return n
}
