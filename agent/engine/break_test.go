package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/queue"
)

// TestAPersonClosesAPaymentByItsCaptureOrVoid: the payment's doubt is about an
// operation under it, and a person's word about the payment decides that.
func TestAPersonClosesAPaymentByItsCaptureOrVoid(t *testing.T) {
	for name, c := range map[string]struct {
		auth, capture, void bool
		said                payment.Status
		op, status          payment.Status // empty op: the word is refused
	}{
		"capture done":          {auth: true, capture: true, said: payment.Succeeded, op: payment.Succeeded, status: payment.Succeeded},
		"capture not done":      {auth: true, capture: true, said: payment.Authorized, op: payment.Declined, status: payment.Authorized},
		"capture, reversed":     {auth: true, capture: true, said: payment.Reversed, status: payment.InDoubt},
		"capture, failed":       {auth: true, capture: true, said: payment.Failed, status: payment.InDoubt},
		"void done":             {void: true, said: payment.Reversed, op: payment.Succeeded, status: payment.Reversed},
		"void not done":         {void: true, said: payment.Succeeded, op: payment.Declined, status: payment.Succeeded},
		"void, declined":        {void: true, said: payment.Declined, status: payment.InDoubt},
		"void, nonsense":        {void: true, said: "maybe", status: payment.InDoubt},
		"void of auth done":     {auth: true, void: true, said: payment.Reversed, op: payment.Succeeded, status: payment.Reversed},
		"void of auth not done": {auth: true, void: true, said: payment.Authorized, op: payment.Declined, status: payment.Authorized},
	} {
		t.Run(name, func(t *testing.T) {
			_, d, a := terminalShop(t)
			r := sale(1000)
			if c.auth {
				r.Intent = payment.IntentAuth
			}
			p := a.pay("k1", r)
			d.script, d.forget = []command{{result: drivers.Approved, lost: true}}, true
			start := startOp(a.Void)
			if c.capture {
				start = a.Capture
			}
			o, _, err := start(bg, "till-1", "o1", "d", OperationRequest{PaymentID: p.ID})
			if err != nil {
				t.Fatal(err)
			}
			if o = a.settleOperation(o.ID); o.State.Stage != payment.StageHeld {
				t.Fatalf("operation is %s", o.State)
			}
			_, err = a.Resolve(bg, "boss", p.ID, c.said, "the terminal's journal")
			if c.op == "" {
				wantErr(t, err, ErrInvalid)
			} else if err != nil {
				t.Fatal(err)
			}
			o, _ = a.Operation(bg, o.ID)
			p, _ = a.Payment(bg, p.ID)
			if c.op != "" && o.State.Status != c.op || p.State.Status != c.status {
				t.Fatalf("operation %s, payment %s", o.State, p.State)
			}
		})
	}
}

// TestAPaymentClosedAsAuthorizedIsCaptured: a person's word stands for the
// host's in all that follows.
func TestAPaymentClosedAsAuthorizedIsCaptured(t *testing.T) {
	w, pad, a := shop(t)
	pad.entry, pad.earlyCrypto = emv.EntryContactless, true
	w.tune = nil
	w.host.script = []answer{{book: true}}
	w.host.onInquiry = make(chan chan struct{})
	r := sale(1000)
	r.Intent = payment.IntentAuth
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", r)
	if err != nil {
		t.Fatal(err)
	}
	asked := <-w.host.onInquiry
	if p, err = a.Resolve(bg, "boss", p.ID, payment.Authorized, "the acquirer's portal"); err != nil {
		t.Fatal(err)
	}
	close(asked)
	wantState(t, a.settle(p.ID), payment.Authorized, payment.StageNone)
	o, _, err := a.Capture(bg, "till-1", "c1", "d", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	if o = a.settleOperation(o.ID); o.State.Status != payment.Succeeded {
		t.Fatalf("capture is %s: %s", o.State, o.Reason)
	}
	if p, _ = a.Payment(bg, p.ID); p.State.Status != payment.Succeeded {
		t.Fatalf("payment is %s", p.State)
	}
	// The decision came while the host was being asked: the register works on.
	pad.earlyCrypto = false
	wantState(t, a.pay("k2", sale(500)), payment.Succeeded, payment.StageNone)
	if w.host.reversals != 0 {
		t.Fatal("what a person had closed was reversed")
	}
}

// TestAPartClosedByAPersonIsAPart: refunds never exceed what was taken.
func TestAPartClosedByAPersonIsAPart(t *testing.T) {
	_, d, a := terminalShop(t)
	d.script = []command{{result: drivers.Approved, amount: 400, lostAck: true, then: func() { d.forget = true }}}
	r := sale(1000)
	r.AcceptPartial = true
	p := a.pay("k1", r)
	wantState(t, p, payment.InDoubt, payment.StageHeld)
	p, err := a.Resolve(bg, "boss", p.ID, payment.Succeeded, "the terminal's receipt")
	if err != nil {
		t.Fatal(err)
	}
	if p.Approved != 400 || p.Refundable() != 400 {
		t.Fatalf("approved %d, refundable %d of a part of 400", p.Approved, p.Refundable())
	}
}

// TestEachReasonKeepsARegisterClosed: a person's decision takes away its own
// reason and no other.
func TestEachReasonKeepsARegisterClosed(t *testing.T) {
	w := newWorld(t)
	w.pads["R1"] = newStation(newPad(w))
	a := w.start()
	l := a.lanes["R1"]
	closed := func() error {
		_, _, err := a.StartPayment(bg, "till-1", "k", "d", sale(5))
		return err
	}
	l.holdFor("pay_1")
	l.holdFor("pay_2")
	l.close("a damaged record")
	a.reopen("R1", "pay_2")
	err := closed()
	wantErr(t, err, ErrClosedLane)
	if e := err.(*Error); e.ID != "pay_1" || e.Retry() != payment.RetryForbidden {
		t.Fatalf("%v, retry %s: the till would run the card at another register", e, e.Retry())
	}
	a.reopen("R1", "pay_1")
	wantErr(t, closed(), ErrClosedLane)
	if s := a.Registers()[0]; s.Closed != "a damaged record" {
		t.Fatalf("register %+v", s)
	}
}

// TestSupersedeOfAPaymentThatIsApprovedAllTheSame: the customer has paid; the
// new payment must not charge again.
func TestSupersedeOfAPaymentThatIsApprovedAllTheSame(t *testing.T) {
	_, d, a := terminalShop(t)
	hold := make(chan struct{})
	d.script, d.wait, d.onAbort = []command{{result: drivers.Approved, hold: hold}}, make(chan struct{}, 9), func() { close(hold) }
	first, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-d.wait
	r := sale(1000)
	r.Supersede = true
	_, _, err = a.StartPayment(bg, "till-1", "k2", "d", r)
	wantErr(t, err, ErrTooLate)
	if e := err.(*Error); e.ID != first.ID || e.MoneyMoved() != payment.MovedYes || e.Retry() != payment.RetryNever {
		t.Fatalf("%v %s %s", e, e.MoneyMoved(), e.Retry())
	}
	wantState(t, a.settle(first.ID), payment.Succeeded, payment.StageNone)
	if d.net() != 1000 || d.sales != 1 {
		t.Fatalf("the terminal took %d in %d sales", d.net(), d.sales)
	}
	// And where it could be stopped the new one runs.
	hold = make(chan struct{})
	d.script = []command{{result: drivers.Cancelled, hold: hold}}
	if _, _, err = a.StartPayment(bg, "till-1", "k3", "d", sale(300)); err != nil {
		t.Fatal(err)
	}
	<-d.wait
	wantState(t, a.pay("k4", r), payment.Succeeded, payment.StageNone)
}

// TestCancelWhileTheRecordIsWritten: no command goes to the terminal any more.
func TestCancelWhileTheRecordIsWritten(t *testing.T) {
	w, d, a := terminalShop(t)
	var id atomic.Value
	w.disk.onCommit = func(n int, do func() error) error {
		if n == 2 { // of the authorizing record
			if _, err := a.Cancel(bg, "till-1", id.Load().(string)); err != nil {
				t.Error(err)
			}
		}
		err := do()
		if n == 1 {
			list, _ := a.Payments(bg, Filter{RegisterID: "R1"})
			id.Store(list[0].ID)
		}
		return err
	}
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.Canceled, payment.StageByPOS)
	if d.sales != 0 {
		t.Fatal("the sale was sent after its cancel")
	}
}

// flaky fails some looks into the store.
type flaky struct {
	Store
	fail atomic.Int32
}

func (f *flaky) View(ctx context.Context, fn func(*queue.Tx) error) error {
	if f.fail.Load() > 0 && f.fail.Add(-1) >= 0 {
		return errors.New("disk: read failed")
	}
	return f.Store.View(ctx, fn)
}

// TestReversalOutlivesAStoreThatFailsForAMoment: an approval that has to be
// taken back does not wait for a restart.
func TestReversalOutlivesAStoreThatFailsForAMoment(t *testing.T) {
	w := newWorld(t)
	pad := newPad(w)
	pad.last = emv.Declined
	w.pads["R1"] = newStation(pad)
	f := &flaky{}
	w.tune = func(o *Options) { f.Store = o.Store; o.Store = f }
	a := w.start()
	w.disk.onCommit = func(n int, do func() error) error {
		err := do()
		if list, _ := a.Payments(bg, Filter{RegisterID: "R1"}); err == nil && len(list) == 1 && list[0].Facts.Has(payment.ReversalDurable) {
			w.disk.mu.Lock()
			w.disk.onCommit = nil
			w.disk.mu.Unlock()
			f.fail.Store(2)
		}
		return err
	}
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	id := p.ID
	ctx, cancel := context.WithTimeout(bg, guard)
	defer cancel()
	for {
		changed := a.Changed()
		if p, err = a.Payment(ctx, id); err == nil && p.State.Final() {
			break
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond): // our own look may have been the one that failed
		case <-ctx.Done():
			t.Fatalf("the reversal is not sent any more: %s, %v", p.State, err)
		}
	}
	wantState(t, p, payment.Declined, payment.StageByCard)
	a.audit()
}

// TestStopDoesNotWaitForTheNextAttempt: a reversal that waits for its next
// attempt does not use up the grace of a stop.
func TestStopDoesNotWaitForTheNextAttempt(t *testing.T) {
	w := newWorld(t)
	w.pads["R1"] = newStation(newPad(w))
	w.tune = func(o *Options) { o.RetryFirst, o.RetryMax, o.Grace = 4*guard, 4*guard, 4*guard }
	w.host.script = []answer{{book: true}}
	w.host.acks = []acquirer.AckState{acquirer.AckNotSent}
	a := w.start()
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(bg, guard)
	defer cancel()
	for {
		changed := a.Changed()
		if p, err = a.Payment(ctx, p.ID); err != nil {
			t.Fatal(err)
		}
		if p.Reversal != nil && p.Reversal.Attempts == 1 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("no attempt")
		}
	}
	a.stop() // fails the test after guard
	w.tune, w.now = nil, func() time.Time { return time.Now().Add(time.Hour) }
	wantState(t, w.start().settle(p.ID), payment.Reversed, payment.StageNone)
}

// TestDeviceTextsAreRedactedBeforeTheyAreCut: a cut number is no longer known
// as one.
func TestDeviceTextsAreRedactedBeforeTheyAreCut(t *testing.T) {
	const pan = "4111111111111111"
	for pad := range 90 {
		got := safeText(strings.Repeat("x", pad)+" "+pan, 80)
		if strings.Contains(got, pan[:10]) || len(got) > 80 {
			t.Fatalf("%d: shows more than six digits of a number", pad)
		}
	}
	_, d, a := terminalShop(t)
	d.script = []command{{result: drivers.Declined, raw: pan, brand: "VISA " + pan}}
	p := a.pay("k1", sale(1000))
	for _, text := range []string{p.Reason, p.Host.ResponseCode, p.Card.Brand, p.Steps[len(p.Steps)-1].Note} {
		if strings.Contains(text, pan) {
			t.Fatal("a device's text shows a card number")
		}
	}
}

// slotPad is a pad that asks for the card.
type slotPad struct {
	*fakePad
	asked atomic.Int32
	errs  chan error
}

func (s *slotPad) RemoveCard(ctx context.Context, text string) error {
	s.asked.Add(1)
	select {
	case err := <-s.errs:
		return err
	default:
		return nil
	}
}

// TestACardThatMayBeInTheSlotIsAskedForAgain before the next payment reads it
// as the next customer's; a device that refuses to ask closes nothing.
func TestACardThatMayBeInTheSlotIsAskedForAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		asked int32 // at the second payment
	}{
		"taken":       {nil, 1},
		"left":        {context.DeadlineExceeded, 2},
		"unplugged":   {drivers.ErrUnplugged, 2},
		"pad refuses": {&drivers.DeviceError{Op: "RMC", Raw: "010", Err: errors.New("invalid call")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := &slotPad{fakePad: newPad(w), errs: make(chan error, 2)}
			w.pads["R1"] = newStation(s)
			a := w.start()
			s.errs <- nil // at the first payment: a crash may have left one
			s.errs <- c.err
			wantState(t, a.pay("k1", sale(1000)), payment.Succeeded, payment.StageNone)
			wantState(t, a.pay("k2", sale(1000)), payment.Succeeded, payment.StageNone)
			a.stop()
			if got := s.asked.Load() - 2; got != c.asked {
				t.Fatalf("asked %d times at the second payment, want %d", got, c.asked)
			}
		})
	}
}

// TestAnApprovalAfterNotFoundIsTakenBack: the host knew nothing when the
// reversal came, and approved afterwards. The record says reversed: the money
// must go back, also over a restart, until the host says that it did.
func TestAnApprovalAfterNotFoundIsTakenBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w, _, a := shop(t)
		w.host.script = []answer{{}} // silent, and nothing booked
		p := a.pay("k1", sale(1000))
		wantState(t, p, payment.Reversed, payment.StageNone)
		w.host.mu.Lock()
		w.host.charges[p.ID] = &charge{kind: acquirer.Sale, amount: 1000, times: 1}
		before := w.host.reversals
		w.host.acks = []acquirer.AckState{acquirer.AckNotSent, acquirer.AckRefused}
		w.host.mu.Unlock()
		if restart {
			dying := w.disk
			dying.mu.Lock()
			dying.dieAt = dying.commits + 1
			dying.mu.Unlock()
		}
		err := a.LateAnswer(bg, p.ID, acquirer.Result{Outcome: acquirer.Approved, ResponseCode: "00"})
		if restart {
			a.crash()
			a = w.start()
		} else if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(bg, guard)
		defer cancel()
		for {
			changed := a.Changed()
			if p, err = a.Payment(ctx, p.ID); err != nil {
				t.Fatal(err)
			}
			if p.Facts.Has(payment.LateApproval) && !p.Reversal.Again {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("the approval stands: %+v", p.Reversal)
			}
		}
		wantState(t, p, payment.Reversed, payment.StageNone)
		a.audit()
		if w.host.reversals-before != 3 || p.Reversal.STAN != sixDigits(w.host.revs[len(w.host.revs)-1].STAN) {
			t.Fatalf("%d reversals", w.host.reversals-before)
		}
	}
}

// TestEventsOfAPaymentDoNotOvertakeItsDoubt: the card becomes known only by the
// host's answer to the inquiry; what follows the doubt keeps the doubt's key.
func TestEventsOfAPaymentDoNotOvertakeItsDoubt(t *testing.T) {
	w, pad, a := shop(t)
	pad.entry, pad.earlyCrypto = emv.EntryContactless, true
	w.host.script, w.host.inquiries = []answer{{book: true}}, true
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.Succeeded, payment.StageNone)
	if p.Card.Token == "" {
		t.Fatal("the test needs a card that is known at the end")
	}
	o, _, err := a.Refund(bg, "till-1", "r1", "d", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	a.settleOperation(o.ID)
	messages, err := w.store.Read(bg, payment.Topic, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{}
	for _, m := range messages {
		ev, err := DecodeEvent(w.seal, m)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type != payment.EventCreated && ev.Type != payment.EventUpdated {
			keys[m.OrderKey] = append(keys[m.OrderKey], string(ev.Type))
		}
	}
	if len(keys) != 1 {
		t.Fatalf("one payment's events under several keys: %v", keys)
	}
}

// TestTheTillsDeadlineReachesTheTerminal: it is asked to stop; what it answers
// decides.
func TestTheTillsDeadlineReachesTheTerminal(t *testing.T) {
	_, d, a := terminalShop(t)
	hold := make(chan struct{})
	d.script, d.onAbort = []command{{result: drivers.Cancelled, hold: hold}}, func() { close(hold) }
	r := sale(1000)
	r.DeadlineS = 1
	wantState(t, a.pay("k1", r), payment.Canceled, payment.StageTimedOut)
	if d.aborts != 1 {
		t.Fatalf("%d aborts", d.aborts)
	}
}

// TestARegisterClosedForWantOfAnAcquirerIsReopenedByAPerson: no restart is
// needed for it.
func TestARegisterClosedForWantOfAnAcquirerIsReopenedByAPerson(t *testing.T) {
	w, _, a := shop(t)
	w.host.arrived = make(chan string, 1)
	w.host.script = []answer{{book: true, hold: make(chan struct{})}}
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-w.host.arrived
	a.crash()
	w.tune = func(o *Options) { o.Link = nil }
	b := w.start()
	_, _, err = b.StartPayment(bg, "till-1", "k2", "d", sale(5))
	wantErr(t, err, ErrClosedLane)
	if _, err := b.Resolve(bg, "boss", p.ID, payment.Reversed, "the acquirer's portal"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.StartPayment(bg, "till-1", "k3", "d", sale(5)); err != nil {
		t.Fatalf("the register stays closed: %v", err)
	}
}
