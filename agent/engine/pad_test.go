package engine

import (
	"context"
	"errors"
	"testing"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/emv"
)

func shop(t testing.TB) (*world, *fakePad, *agent) {
	w := newWorld(t)
	pad := newPad(w)
	w.pads["R1"] = newStation(pad)
	return w, pad, w.start()
}

func TestSaleWithTheCardInThePad(t *testing.T) {
	w, pad, a := shop(t)
	pad.checkArmed = func() { checkArmed(w, a) }
	p := a.pay("k1", sale(1250))
	wantState(t, p, payment.Succeeded, payment.StageNone)
	if p.Approved != 1250 || p.Card.Token != "tok_1" || p.Card.PAR == "" || p.Host.STAN == "" || p.MoneyMoved() != payment.MovedYes || p.Retry() != payment.RetryNever {
		t.Fatalf("record is %+v", p)
	}
	if pad.open != 0 {
		t.Fatal("the pad's session is left open")
	}
	events, err := a.Events(context.Background(), 0, 100)
	if err != nil || len(events) < 3 || events[0].Type != payment.EventCreated || events[len(events)-1].Type != payment.EventSucceeded {
		t.Fatalf("events %v, %v", events, err)
	}
	d := events[len(events)-1].Data
	if d.AmountMinor != 1250 || d.Currency != "EUR" || d.Exponent != 2 || d.PAR == "" || d.CardToken == "" || d.CardMasked == "" || d.Lane != "R1" {
		t.Fatalf("event %+v", d)
	}
	a.audit()
}

// checkArmed: at the first byte after which money may move, R1's record is on disk.
func checkArmed(w *world, a *agent) {
	job := a.lanes["R1"].holder()
	if rec := w.durable(job.id); rec == nil || !rec.facts().Has(payment.Armed) || rec.Payment.Host.STAN == "" {
		w.errorf("R1: the card was asked for a cryptogram before the authorizing record was durable")
	}
}

func TestTapIsArmedBeforeTheRead(t *testing.T) {
	w, pad, a := shop(t)
	pad.entry, pad.earlyCrypto = emv.EntryContactless, true
	pad.checkArmed = func() { checkArmed(w, a) }
	wantState(t, a.pay("k1", sale(500)), payment.Succeeded, payment.StageNone)
	pad.lateWord = true
	wantState(t, a.pay("k2", sale(600)), payment.Succeeded, payment.StageNone)
	a.audit()
}

func TestHowACardEndsAPayment(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(p *fakePad)
		status payment.Status
		stage  payment.Stage
	}{
		"customer cancels":                      {func(p *fakePad) { p.readErr = emv.ErrCancelled }, payment.Canceled, payment.StageByCustomer},
		"customer cancels, as a driver says it": {func(p *fakePad) { p.readErr = drivers.ErrCancelled }, payment.Canceled, payment.StageByCustomer},
		"customer walks away":                   {func(p *fakePad) { p.readErr = emv.ErrNoCard }, payment.Canceled, payment.StageTimedOut},
		"pad unplugged":                         {func(p *fakePad) { p.readErr = drivers.ErrUnplugged }, payment.Failed, payment.StageDevice},
		"card cannot be used":                   {func(p *fakePad) { p.readErr = emv.ErrCardUnusable }, payment.Declined, payment.StageByCard},
		"card pulled at PIN":                    {func(p *fakePad) { p.authErr = emv.ErrCardRemoved }, payment.Failed, payment.StageDevice},
		"PIN cancelled":                         {func(p *fakePad) { p.authErr = emv.ErrCancelled }, payment.Canceled, payment.StageByCustomer},
		"card declines":                         {func(p *fakePad) { p.decision = emv.Declined }, payment.Declined, payment.StageByCard},
		"card approves offline":                 {func(p *fakePad) { p.decision = emv.Approved }, payment.Declined, payment.StageByRule},
		"try another interface":                 {func(p *fakePad) { p.decision = emv.TryOtherInterface }, payment.Failed, payment.StageDevice},
	} {
		t.Run(name, func(t *testing.T) {
			w, pad, a := shop(t)
			c.set(pad)
			p := a.pay("k1", sale(100))
			wantState(t, p, c.status, c.stage)
			if p.MoneyMoved() != payment.MovedNo || p.Retry() != payment.RetrySafe {
				t.Fatalf("money_moved %s, retry %s", p.MoneyMoved(), p.Retry())
			}
			if w.host.requests != 0 || pad.open != 0 {
				t.Fatalf("%d requests, %d open sessions", w.host.requests, pad.open)
			}
			a.audit()
		})
	}
}

func TestHowAHostEndsAPayment(t *testing.T) {
	for name, c := range map[string]struct {
		tap      bool
		answer   answer
		partial  bool // the till accepts parts
		inquiry  bool
		refuses  bool // the card refuses after approval
		lost     bool // the pad is lost at the completion
		status   payment.Status
		stage    payment.Stage
		approved int64
	}{
		"declines":                              {answer: answer{outcome: acquirer.Declined}, status: payment.Declined, stage: payment.StageByIssuer},
		"out of reach":                          {answer: answer{outcome: acquirer.NotSent}, status: payment.Failed, stage: payment.StageHost},
		"silent, request lost":                  {answer: answer{}, status: payment.Reversed},
		"silent, answer lost":                   {answer: answer{book: true}, status: payment.Reversed},
		"silent, answer lost, inquiry, contact": {answer: answer{book: true}, inquiry: true, status: payment.Reversed},
		"silent, answer lost, inquiry, tap":     {answer: answer{book: true}, inquiry: true, tap: true, status: payment.Succeeded, approved: 1000},
		"silent, request lost, inquiry, tap":    {answer: answer{}, inquiry: true, tap: true, status: payment.Reversed},
		"silent, answer lost, no inquiry, tap":  {answer: answer{book: true}, tap: true, status: payment.Reversed},
		"part approved, not accepted":           {answer: answer{outcome: acquirer.Approved, amount: 400}, status: payment.Declined, stage: payment.StageByRule},
		"part approved, accepted":               {answer: answer{outcome: acquirer.Approved, amount: 400}, partial: true, status: payment.Succeeded, approved: 400},
		"more approved than asked":              {answer: answer{outcome: acquirer.Approved, amount: 4000}, partial: true, status: payment.Declined, stage: payment.StageByRule},
		"part booked, answer lost, tap":         {answer: answer{book: true, amount: 400}, inquiry: true, tap: true, status: payment.Declined, stage: payment.StageByRule},
		"approves and the card refuses":         {answer: answer{outcome: acquirer.Approved}, refuses: true, status: payment.Declined, stage: payment.StageByCard},
		"approves and the pad is lost":          {answer: answer{outcome: acquirer.Approved}, lost: true, status: payment.Declined, stage: payment.StageByCard},
		"says 94, duplicate":                    {answer: answer{code: "94"}, status: payment.Reversed},
	} {
		t.Run(name, func(t *testing.T) {
			w, pad, a := shop(t)
			if c.tap {
				pad.entry, pad.earlyCrypto = emv.EntryContactless, true
			}
			if c.refuses {
				pad.last = emv.Declined
			}
			if c.lost {
				pad.completeErr = drivers.ErrUnplugged
			}
			w.host.script, w.host.inquiries = []answer{c.answer}, c.inquiry
			r := sale(1000)
			r.AcceptPartial = c.partial
			p := a.pay("k1", r)
			wantState(t, p, c.status, c.stage)
			if p.Approved != c.approved {
				t.Fatalf("approved %d, want %d", p.Approved, c.approved)
			}
			if w.host.requests != 1 {
				t.Fatalf("%d requests: nothing is ever sent again blindly", w.host.requests)
			}
			if pad.open != 0 {
				t.Fatal("the pad's session is left open")
			}
			for _, h := range pad.completes {
				if !h.Reached && (!h.Sent || h.Approved) {
					t.Fatal("R5: a silent host must lead to AAC")
				}
			}
			a.audit()
		})
	}
}

func TestReversalIsRepeatedUntilAcknowledged(t *testing.T) {
	w, _, a := shop(t)
	w.host.script = []answer{{book: true}}
	w.host.acks = []acquirer.AckState{acquirer.AckNotSent, acquirer.AckUnknown, acquirer.AckRefused, acquirer.AckUnknown}
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.Reversed, payment.StageNone)
	if len(w.host.revs) != 5 {
		t.Fatalf("%d reversals, want 5", len(w.host.revs))
	}
	for i, r := range w.host.revs {
		if r.Attempt != i || r.STAN != w.host.revs[0].STAN || r.Original.STAN != stanOf(p.Host) || !r.Time.Equal(w.host.revs[0].Time) {
			t.Fatalf("reversal %d is %v", i, r)
		}
	}
	a.audit()
}

func TestReversalRefusedTooOftenIsHeldForAPerson(t *testing.T) {
	w := newWorld(t)
	w.pads["R1"] = newStation(newPad(w))
	w.tune = func(o *Options) { o.Refusals = 3 }
	a := w.start()
	w.host.script = []answer{{book: true}}
	w.host.acks = []acquirer.AckState{acquirer.AckRefused, acquirer.AckRefused, acquirer.AckRefused}
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.InDoubt, payment.StageHeld)
	ctx := context.Background()
	if _, err := a.Resolve(ctx, "boss", p.ID, payment.Succeeded, "portal shows it"); !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("R3: a reversal is durable, and succeeded was accepted: %v", err)
	}
	p, err := a.Resolve(ctx, "boss", p.ID, payment.Reversed, "portal shows the reversal")
	if err != nil || p.State.Status != payment.Reversed || p.Decision == nil || p.Decision.By != "boss" || p.Decision.Evidence == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	// the register works on meanwhile: a durable reversal parks the payment
	wantState(t, a.pay("k2", sale(500)), payment.Succeeded, payment.StageNone)
}

func TestLateApprovalIsRecordedAndNeverHonoured(t *testing.T) {
	w := newWorld(t)
	w.pads["R1"] = newStation(newPad(w))
	w.tune = func(o *Options) { o.Refusals = 1 }
	a := w.start()
	w.host.script, w.host.acks = []answer{{book: true}}, []acquirer.AckState{acquirer.AckRefused}
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.InDoubt, payment.StageHeld)
	if err := a.LateAnswer(context.Background(), p.ID, acquirer.Result{Outcome: acquirer.Approved, ResponseCode: "00", RRN: "1"}); err != nil {
		t.Fatal(err)
	}
	p = a.settle(p.ID)
	wantState(t, p, payment.InDoubt, payment.StageHeld)
	if !p.Facts.Has(payment.LateApproval) {
		t.Fatal("the late approval is not in the record")
	}
}

func TestRegisterIsFreeWhileAReversalIsOnItsWay(t *testing.T) {
	w, _, a := shop(t)
	w.host.script = []answer{{book: true}}
	for range 50 {
		w.host.acks = append(w.host.acks, acquirer.AckUnknown)
	}
	p, _, err := a.StartPayment(context.Background(), "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	a.freed("R1", p.ID)
	wantState(t, a.pay("k2", sale(700)), payment.Succeeded, payment.StageNone)
	wantState(t, a.settle(p.ID), payment.Reversed, payment.StageNone)
	a.audit()
}
