package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/queue"
)

var bg = context.Background()

func TestSameKeyIsOnePayment(t *testing.T) {
	w, _, a := shop(t)
	p := a.pay("k1", sale(1000))
	again, replayed, err := a.StartPayment(bg, "till-1", "k1", "digest of k1", sale(1000))
	if err != nil || !replayed || again.ID != p.ID || again.State != p.State {
		t.Fatalf("%v, %v, %v", again.ID, replayed, err)
	}
	if _, _, err := a.StartPayment(bg, "till-1", "k1", "another digest", sale(2000)); !errors.Is(err, ErrKeyMismatch) {
		t.Fatalf("another body under the same key: %v", err)
	}
	if _, _, err := a.Refund(bg, "till-1", "k1", "digest of k1", OperationRequest{PaymentID: p.ID}); !errors.Is(err, ErrKeyMismatch) {
		t.Fatalf("a refund under a payment's key: %v", err)
	}
	other, replayed, err := a.StartPayment(bg, "till-2", "k1", "digest of k1", sale(1000))
	if err != nil || replayed || other.ID == p.ID {
		t.Fatalf("the key of another credential: %v, %v", replayed, err)
	}
	a.settle(other.ID)
	if w.host.requests != 2 {
		t.Fatalf("%d requests", w.host.requests)
	}
}

func TestSameKeyAtOnceIsOnePayment(t *testing.T) {
	w, pad, a := shop(t)
	pad.hold = make(chan struct{})
	ids := make(chan string, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
			if err != nil {
				t.Errorf("one of eight: %v", err)
				return
			}
			ids <- p.ID
		})
	}
	wg.Wait()
	close(pad.hold)
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("two payments under one key: %s and %s", first, id)
		}
	}
	a.settle(first)
	if w.host.requests != 1 {
		t.Fatalf("%d requests", w.host.requests)
	}
}

func TestBusyRegisterNamesTheBlockingPayment(t *testing.T) {
	_, pad, a := shop(t)
	pad.hold, pad.waiting = make(chan struct{}), make(chan struct{}, 4)
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-pad.waiting
	_, _, err = a.StartPayment(bg, "till-1", "k2", "d", sale(2000))
	var busy *BusyError
	if !errors.As(err, &busy) || busy.By.ID != p.ID || busy.By.Request.Amount.Total != 1000 || busy.Code() != "device.busy" {
		t.Fatalf("%v", err)
	}
	// nothing of the refused request is kept: its key is free
	if _, _, err := a.StartPayment(bg, "till-1", "k2", "another", sale(2000)); !errors.Is(err, ErrBusy) {
		t.Fatalf("the refused request left a claim: %v", err)
	}
	r := sale(2000)
	r.Supersede = true
	second, _, err := a.StartPayment(bg, "till-1", "k3", "d", r)
	if err != nil {
		t.Fatal(err)
	}
	if first, _ := a.Payment(bg, p.ID); first.State != (payment.State{Status: payment.Canceled, Stage: payment.StageByPOS}) {
		t.Fatalf("the superseded payment is %s", first.State)
	}
	close(pad.hold)
	wantState(t, a.settle(second.ID), payment.Succeeded, payment.StageNone)
	a.audit()
}

func TestCancelHasThreeOutcomes(t *testing.T) {
	w, pad, a := shop(t)
	// canceled
	pad.hold, pad.waiting = make(chan struct{}), make(chan struct{}, 4)
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-pad.waiting
	for range 2 {
		if _, err := a.Cancel(bg, "till-1", p.ID); err != nil {
			t.Fatal(err)
		}
	}
	wantState(t, a.settle(p.ID), payment.Canceled, payment.StageByPOS)
	if _, err := a.Cancel(bg, "till-1", p.ID); err != nil {
		t.Fatalf("cancel is idempotent: %v", err)
	}
	pad.hold, pad.waiting = nil, nil
	// too late: the request is with the host
	hold := make(chan struct{})
	w.host.arrived = make(chan string, 4)
	w.host.script = []answer{{outcome: acquirer.Approved, hold: hold}}
	p, _, err = a.StartPayment(bg, "till-1", "k2", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-w.host.arrived
	if _, err := a.Cancel(bg, "till-1", p.ID); !errors.Is(err, ErrTooLate) {
		t.Fatalf("cancel with the host asked: %v", err)
	}
	close(hold)
	wantState(t, a.settle(p.ID), payment.Succeeded, payment.StageNone)
	if _, err := a.Cancel(bg, "till-1", p.ID); !errors.Is(err, ErrTooLate) {
		t.Fatalf("cancel of a sale that is done: %v", err)
	}
	if _, err := a.Cancel(bg, "till-1", "pay_none"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("cancel of nothing: %v", err)
	}
	a.audit()
}

// TestCancelRacesTheHost: whatever wins, a canceled payment was never sent.
func TestCancelRacesTheHost(t *testing.T) {
	w, pad, a := shop(t)
	for i := range 20 {
		pad.hold, pad.waiting = make(chan struct{}), make(chan struct{}, 1)
		before := w.host.requests
		p, _, err := a.StartPayment(bg, "till-1", fmt.Sprint("k", i), "d", sale(1000))
		if err != nil {
			t.Fatal(err)
		}
		<-pad.waiting
		var wg sync.WaitGroup
		wg.Go(func() { a.Cancel(bg, "till-1", p.ID) })
		wg.Go(func() { close(pad.hold) })
		wg.Wait()
		p = a.settle(p.ID)
		if sent := w.host.requests - before; (p.State.Status == payment.Canceled) == (sent > 0) {
			t.Fatalf("%s with %d requests", p.State, sent)
		}
	}
	a.audit()
}

func TestVoidsAndRefundsNeverOverlap(t *testing.T) {
	w, _, a := shop(t)
	for i := range 6 {
		p := a.pay(fmt.Sprint("k", i), sale(1000))
		start := make(chan struct{})
		var mu sync.Mutex
		var accepted []string
		var wg sync.WaitGroup
		for j := range 8 {
			wg.Go(func() {
				<-start
				key := fmt.Sprint("o", i, j)
				var o payment.Operation
				var err error
				if j%2 == 0 {
					o, _, err = a.Void(bg, "till-1", key, "d", OperationRequest{PaymentID: p.ID})
				} else {
					o, _, err = a.Refund(bg, "till-1", key, "d", OperationRequest{PaymentID: p.ID, Amount: 700})
				}
				if err == nil {
					mu.Lock()
					accepted = append(accepted, o.ID)
					mu.Unlock()
				} else if !errors.Is(err, ErrNotAllowed) && !errors.Is(err, ErrAmountLimit) {
					t.Errorf("refused with %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		if len(accepted) != 1 {
			t.Fatalf("%d of eight voids and refunds of one payment were accepted", len(accepted))
		}
		a.settleOperation(accepted[0])
	}
	if w.host.requests != 12 {
		t.Fatalf("%d requests", w.host.requests)
	}
	a.audit()
}

func TestRefundsInParts(t *testing.T) {
	w, _, a := shop(t)
	p := a.pay("k1", sale(1000))
	refund := func(key string, amount int64) (payment.Operation, error) {
		o, _, err := a.Refund(bg, "till-1", key, "d"+key, OperationRequest{PaymentID: p.ID, Amount: amount})
		if err != nil {
			return o, err
		}
		return a.settleOperation(o.ID), nil
	}
	if o, err := refund("r1", 300); err != nil || o.State.Status != payment.Succeeded || o.MoneyMoved() != payment.MovedYes {
		t.Fatalf("%s, %v", o.State, err)
	}
	if _, err := refund("r2", 701); !errors.Is(err, ErrAmountLimit) {
		t.Fatalf("more than is left: %v", err)
	}
	w.host.script = []answer{{outcome: acquirer.Declined}}
	if o, err := refund("r3", 700); err != nil || o.State.Status != payment.Declined {
		t.Fatalf("%s, %v", o.State, err)
	}
	w.host.script = []answer{{outcome: acquirer.NotSent}}
	if o, err := refund("r4", 700); err != nil || o.State.Status != payment.Failed {
		t.Fatalf("%s, %v", o.State, err)
	}
	w.host.script = []answer{{book: true}} // lost: undone by a reversal
	if o, err := refund("r5", 700); err != nil || o.State.Status != payment.Declined {
		t.Fatalf("%s, %v", o.State, err)
	}
	w.host.script = []answer{{outcome: acquirer.Approved, amount: 5}} // not what was asked
	if o, err := refund("r6", 700); err != nil || o.State.Status != payment.Declined {
		t.Fatalf("%s, %v", o.State, err)
	}
	if o, err := refund("r7", 0); err != nil || o.State.Status != payment.Succeeded || o.Amount.Minor != 700 {
		t.Fatalf("all that is left: %+v, %v", o, err)
	}
	if _, err := refund("r8", 0); !errors.Is(err, ErrAmountLimit) {
		t.Fatalf("nothing is left: %v", err)
	}
	if _, _, err := a.Void(bg, "till-1", "v1", "d", OperationRequest{PaymentID: p.ID}); !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("a void after refunds: %v", err)
	}
	p, _ = a.Payment(bg, p.ID)
	if p.Refunded != 1000 || p.RefundsOpen != 0 || p.State.Status != payment.Succeeded {
		t.Fatalf("refunded %d, open %d, %s", p.Refunded, p.RefundsOpen, p.State)
	}
	a.audit()
	events, _ := a.Events(bg, 0, 1000)
	var sum int64
	for _, ev := range events {
		if ev.Type == payment.EventRefundSucceeded {
			sum += ev.Data.AmountMinor
			if ev.Data.RefundedMinor != sum || ev.Data.PaymentID != p.ID || ev.Data.CustomerKey == "" {
				t.Fatalf("event %+v", ev.Data)
			}
		}
	}
	if sum != 1000 {
		t.Fatalf("refund events say %d", sum)
	}
}

func TestVoidHasItsOwnRecord(t *testing.T) {
	for name, c := range map[string]struct {
		answer  answer
		inquiry bool
		op      payment.Status
		status  payment.Status
	}{
		"done":               {answer{outcome: acquirer.Approved}, false, payment.Succeeded, payment.Reversed},
		"declined":           {answer{outcome: acquirer.Declined}, false, payment.Declined, payment.Succeeded},
		"not sent":           {answer{outcome: acquirer.NotSent}, false, payment.Failed, payment.Succeeded},
		"lost, host can say": {answer{book: true}, true, payment.Succeeded, payment.Reversed},
		"lost, undone":       {answer{book: true}, false, payment.Declined, payment.Succeeded},
		"never arrived":      {answer{}, true, payment.Declined, payment.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, a := shop(t)
			p := a.pay("k1", sale(1000))
			w.host.script, w.host.inquiries = []answer{c.answer}, c.inquiry
			o, _, err := a.Void(bg, "till-1", "v1", "d", OperationRequest{PaymentID: p.ID})
			if err != nil {
				t.Fatal(err)
			}
			if again, replayed, err := a.Void(bg, "till-1", "v1", "d", OperationRequest{PaymentID: p.ID}); err != nil || !replayed || again.ID != o.ID {
				t.Fatalf("replay: %v %v", replayed, err)
			}
			if o = a.settleOperation(o.ID); o.State.Status != c.op {
				t.Fatalf("void is %s: %s", o.State, o.Reason)
			}
			if p, _ = a.Payment(bg, p.ID); p.State.Status != c.status {
				t.Fatalf("payment is %s", p.State)
			}
			if c.status == payment.Succeeded {
				o, _, err := a.Void(bg, "till-1", "v2", "d", OperationRequest{PaymentID: p.ID})
				if err != nil {
					t.Fatalf("a second void after the first had no effect: %v", err)
				}
				a.settleOperation(o.ID)
			}
			a.audit()
		})
	}
}

func TestAuthorisationAndCapture(t *testing.T) {
	w, _, a := shop(t)
	r := sale(1000)
	r.Intent = payment.IntentAuth
	p := a.pay("k1", r)
	wantState(t, p, payment.Authorized, payment.StageNone)
	if w.host.seen[0].Kind != acquirer.Authorization || p.MoneyMoved() != payment.MovedHeld {
		t.Fatalf("%v, %s", w.host.seen[0], p.MoneyMoved())
	}
	if _, _, err := a.Capture(bg, "till-1", "c0", "d", OperationRequest{PaymentID: p.ID, Amount: 1001}); !errors.Is(err, ErrAmountLimit) {
		t.Fatalf("capture of more: %v", err)
	}
	o, _, err := a.Capture(bg, "till-1", "c1", "d", OperationRequest{PaymentID: p.ID, Amount: 800})
	if err != nil {
		t.Fatal(err)
	}
	a.settleOperation(o.ID)
	p, _ = a.Payment(bg, p.ID)
	wantState(t, p, payment.Succeeded, payment.StageNone)
	if p.Taken() != 800 || p.Refundable() != 800 {
		t.Fatalf("taken %d", p.Taken())
	}
}

// TestACommitThatCannotBeToldApart: the store answers "unknown" at each commit
// in turn, once with the write there and once without. The payment must end as
// if nothing had been, and the books agree.
func TestACommitThatCannotBeToldApart(t *testing.T) {
	for _, there := range []bool{true, false} {
		for n := 1; n <= 6; n++ {
			t.Run(fmt.Sprintf("%d/%v", n, there), func(t *testing.T) {
				w, _, a := shop(t)
				w.disk.onCommit = func(i int, do func() error) error {
					if i != n {
						return do()
					}
					if there {
						if err := do(); err != nil {
							return err
						}
					}
					return queue.ErrUnknown
				}
				wantState(t, a.pay("k1", sale(1000)), payment.Succeeded, payment.StageNone)
				if w.host.requests != 1 {
					t.Fatalf("%d requests", w.host.requests)
				}
				wantState(t, a.pay("k2", sale(500)), payment.Succeeded, payment.StageNone)
				a.audit()
			})
		}
	}
}

// TestResultThatCannotBeStoredKeepsItsRegister: the disk fails after the
// host's approval. Until the result is stored the register takes nobody else,
// and the result is not lost.
func TestResultThatCannotBeStoredKeepsItsRegister(t *testing.T) {
	w, _, a := shop(t)
	w.host.arrived = make(chan string, 4)
	broken, failed := make(chan struct{}), make(chan struct{}, 1000)
	var once sync.Once
	w.disk.onCommit = func(i int, do func() error) error {
		w.host.mu.Lock()
		sent := w.host.requests > 0
		w.host.mu.Unlock()
		select {
		case <-broken:
			return do()
		default:
		}
		if !sent {
			return do()
		}
		failed <- struct{}{}
		return fmt.Errorf("disk: %w", queue.ErrNotStored)
	}
	given := a.lanes["R1"].freed()
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-w.host.arrived
	for range 3 {
		select {
		case <-failed:
		case <-given:
			t.Fatal("the register was given away with its result not stored")
		}
	}
	if got, err := a.Payment(bg, p.ID); err != nil || got.State.MoneyMoved() != payment.MovedUnknown {
		t.Fatalf("%s, %v", got.State, err)
	}
	if _, _, err := a.StartPayment(bg, "till-1", "k2", "d", sale(5)); !errors.Is(err, ErrBusy) {
		t.Fatalf("the register was given away: %v", err)
	}
	once.Do(func() { close(broken) })
	wantState(t, a.settle(p.ID), payment.Succeeded, payment.StageNone)
	a.audit()
}

// TestStartWithoutAnAnswerOfTheStore: the till gets an error that says nothing
// is known; the record, which proves durable later, never starts a card, and
// the register comes back.
func TestStartWithoutAnAnswerOfTheStore(t *testing.T) {
	w := newWorld(t)
	pad := newPad(w)
	w.pads["R1"] = newStation(pad)
	a := w.start()
	ctx, cancel := context.WithCancel(bg)
	w.disk.onCommit = func(i int, do func() error) error {
		if i != 1 {
			return do()
		}
		err := do()
		cancel() // the till hangs up; the store does not say
		if err != nil {
			return err
		}
		return queue.ErrUnknown
	}
	_, _, err := a.StartPayment(ctx, "till-1", "k1", "d", sale(1000))
	wantErr(t, err, ErrStore)
	id := err.(*Error).ID
	p := a.settle(id)
	wantState(t, p, payment.Failed, payment.StageStore)
	if pad.sessions != 0 || w.host.requests != 0 {
		t.Fatal("a payment that nobody waits for was started")
	}
	again, replayed, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil || !replayed || again.ID != id {
		t.Fatalf("%v, %v", replayed, err)
	}
	wantState(t, a.pay("k2", sale(10)), payment.Succeeded, payment.StageNone)
}

func TestUnreadableRecordClosesItsOwnRegisterOnly(t *testing.T) {
	w := newWorld(t)
	w.pads["R1"], w.pads["R2"] = newStation(newPad(w)), newStation(newPad(w))
	a := w.start()
	a.pay("k0", sale(10))
	a.stop()
	// an open record of R2 that does not open with the key
	if err := w.store.Commit(bg, func(tx *queue.Tx) error {
		_, err := tx.Put(queue.Record{ID: "pay_broken", Body: []byte("garbage"), Index: map[string]string{indexKind: kindPayment, indexOpen: "1", indexOpenLane: "R2", indexLane: "R2", indexRegister: "R2"}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b := w.start()
	wantState(t, b.pay("k1", sale(1000)), payment.Succeeded, payment.StageNone)
	r := sale(1000)
	r.RegisterID = "R2"
	_, _, err := b.StartPayment(bg, "till-1", "k2", "d", r)
	if !errors.Is(err, ErrClosedLane) || !strings.Contains(err.Error(), "pay_broken") {
		t.Fatalf("register with an unreadable record: %v", err)
	}
	if list, err := b.Payments(bg, Filter{Newest: true}); err != nil || len(list) != 2 {
		t.Fatalf("%d payments, %v", len(list), err)
	}
}

func TestClockSetBackDoesNotStopReversals(t *testing.T) {
	w := newWorld(t)
	w.pads["R1"] = newStation(newPad(w))
	var mu sync.Mutex
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	w.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	a := w.start()
	w.host.script = []answer{{book: true}}
	for range 5 {
		w.host.acks = append(w.host.acks, acquirer.AckUnknown)
	}
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.AddDate(-10, 0, 0)
	mu.Unlock()
	wantState(t, a.settle(p.ID), payment.Reversed, payment.StageNone)
	wantState(t, a.pay("k2", sale(5)), payment.Succeeded, payment.StageNone)
	a.audit()
}

// TestNoCardCiphertextOrPINStays: neither the pad's ciphertext nor the PIN
// block is in the store, not even sealed: the bodies are opened and looked at.
func TestNoCardCiphertextOrPINStays(t *testing.T) {
	w, _, a := shop(t)
	hold := make(chan struct{})
	w.host.arrived = make(chan string, 1)
	w.host.script = []answer{{outcome: acquirer.Approved, hold: hold}}
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-w.host.arrived
	if string(w.host.seen[0].Card.TLV57) != padCiphertext || string(w.host.seen[0].PIN.Block) != pinBlock {
		t.Fatal("the host did not get the card data")
	}
	look := func(when string) {
		var bodies [][]byte
		if err := w.store.View(bg, func(tx *queue.Tx) error {
			list, err := tx.List(queue.Query{})
			for _, r := range list {
				plain, err := w.seal.Unseal(r.ID, r.Body)
				if err != nil {
					return err
				}
				bodies = append(bodies, plain)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		messages, err := w.store.Read(bg, payment.Topic, 0, 1000)
		if err != nil || len(messages) == 0 {
			t.Fatal(err)
		}
		for _, m := range messages {
			plain, err := w.seal.Unseal(payment.Topic, m.Body)
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, plain)
		}
		file, err := os.ReadFile(w.path)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, file)
		for _, b := range bodies {
			for _, secret := range []string{padCiphertext, "UEFEQ0lQSEVSVEVYVC0", pinBlock, "UElOQkxPQ0s"} {
				if bytes.Contains(b, []byte(secret)) {
					t.Errorf("%s: the store holds %s", when, secret)
				}
			}
		}
		if bytes.Contains(file, []byte("order 17")) || bytes.Contains(file, []byte("541333")) {
			t.Errorf("%s: the store's file holds a record in clear", when)
		}
	}
	look("while the host is asked")
	close(hold)
	a.settle(p.ID)
	look("after the result")
}

func TestRestartGoesOnWithTheSameReversal(t *testing.T) {
	w, _, a := shop(t)
	w.host.script = []answer{{book: true}}
	for range 1000 {
		w.host.acks = append(w.host.acks, acquirer.AckUnknown)
	}
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	for {
		changed := a.Changed()
		w.host.mu.Lock()
		n := w.host.reversals
		w.host.mu.Unlock()
		if n >= 3 {
			break
		}
		<-changed
	}
	a.crash()
	w.host.mu.Lock()
	first, n := w.host.revs[0], len(w.host.revs)
	w.host.acks = nil
	w.host.mu.Unlock()
	b := w.start()
	wantState(t, b.settle(p.ID), payment.Reversed, payment.StageNone)
	for _, r := range w.host.revs[n:] {
		if r.STAN != first.STAN || r.Attempt < n-1 || !r.Time.Equal(first.Time) {
			t.Fatalf("after the restart the reversal is %v, it was %v", r, first)
		}
	}
	b.audit()
}

func TestStopCancelsWhatWaitsAndKeepsWhatWasSent(t *testing.T) {
	w := newWorld(t)
	pad := newPad(w)
	w.pads["R1"] = newStation(pad)
	w.tune = func(o *Options) { o.Grace = guard }
	a := w.start()
	pad.hold, pad.waiting = make(chan struct{}), make(chan struct{}, 1)
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-pad.waiting
	a.stop()
	wantState(t, mustPayment(t, a, p.ID), payment.Canceled, payment.StageByPOS)
	if _, _, err := a.StartPayment(bg, "till-1", "k2", "d", sale(1)); !errors.Is(err, ErrStopped) {
		t.Fatalf("started after the stop: %v", err)
	}
	pad.hold, pad.waiting = nil, nil

	b := w.start()
	hold := make(chan struct{})
	w.host.arrived = make(chan string, 1)
	w.host.script = []answer{{outcome: acquirer.Approved, hold: hold}}
	p, _, err = b.StartPayment(bg, "till-1", "k3", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-w.host.arrived
	b.cancel()
	close(hold)
	b.stop()
	wantState(t, mustPayment(t, b, p.ID), payment.Succeeded, payment.StageNone)
}

func mustPayment(t *testing.T, a *agent, id string) payment.Payment {
	t.Helper()
	p, err := a.Payment(bg, id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDeviceThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	st := newStation(newPad(w))
	st.absent = true
	w.pads["R1"] = st
	a := w.start()
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.Failed, payment.StageDevice)
	if p.Code != "device.absent" || p.Retry() != payment.RetrySafe {
		t.Fatalf("%s, %s", p.Code, p.Retry())
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	w, _, a := shop(t)
	for name, change := range map[string]func(r *payment.Request){
		"zero":             func(r *payment.Request) { r.Amount.Total = 0 },
		"negative":         func(r *payment.Request) { r.Amount.Total = -5 },
		"too long":         func(r *payment.Request) { r.Amount.Total = payment.MaxMinor + 1 },
		"unknown currency": func(r *payment.Request) { r.Amount.Currency = "XXX" },
		"unknown intent":   func(r *payment.Request) { r.Intent = "gift" },
		"unknown entry":    func(r *payment.Request) { r.Entry = []string{"telepathy"} },
		"forced offline":   func(r *payment.Request) { r.Offline = payment.OfflineForce },
		"long reference":   func(r *payment.Request) { r.Reference = strings.Repeat("x", 300) },
		"tender":           func(r *payment.Request) { r.Tender = &payment.Tender{Index: 3, Of: 2} },
		"deadline":         func(r *payment.Request) { r.DeadlineS = -1 },
	} {
		r := sale(100)
		change(&r)
		if _, _, err := a.StartPayment(bg, "till-1", name, "d", r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := sale(100)
	r.RegisterID = "R9"
	if _, _, err := a.StartPayment(bg, "till-1", "k", "d", r); !errors.Is(err, ErrRegister) {
		t.Errorf("unknown register: %v", err)
	}
	if _, _, err := a.StartPayment(bg, "till-1", "", "d", sale(1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("no key: %v", err)
	}
	if list, err := a.Payments(bg, Filter{}); err != nil || len(list) != 0 || w.host.requests != 0 {
		t.Fatalf("%d records, %v", len(list), err)
	}
}

func TestLookingThingsUp(t *testing.T) {
	_, _, a := shop(t)
	var ids []string
	for i := range 5 {
		ids = append(ids, a.pay(fmt.Sprint("k", i), sale(int64(100+i))).ID)
	}
	last, err := a.LastPayment(bg, "R1")
	if err != nil || last.ID != ids[4] {
		t.Fatalf("last is %s, %v", last.ID, err)
	}
	page, err := a.Payments(bg, Filter{Limit: 2})
	if err != nil || len(page) != 2 || page[0].ID != ids[0] {
		t.Fatalf("%v, %v", page, err)
	}
	page, err = a.Payments(bg, Filter{Limit: 10, After: page[1].ID, RegisterID: "R1"})
	if err != nil || len(page) != 3 || page[0].ID != ids[2] {
		t.Fatalf("%d, %v", len(page), err)
	}
	page, err = a.Payments(bg, Filter{Newest: true, After: ids[3], Limit: 2})
	if err != nil || len(page) != 2 || page[0].ID != ids[2] {
		t.Fatalf("newest first: %v, %v", page, err)
	}
	for name, f := range map[string]Filter{"key": {Credential: "till-1", Key: "k3"}, "key of anybody": {Key: "k3"}} {
		if page, err := a.Payments(bg, f); err != nil || len(page) != 1 || page[0].ID != ids[3] {
			t.Fatalf("%s: %v, %v", name, page, err)
		}
	}
	if page, err := a.Payments(bg, Filter{Reference: "order 17"}); err != nil || len(page) != 5 {
		t.Fatalf("by reference: %d, %v", len(page), err)
	}
	if page, err := a.Payments(bg, Filter{Status: "open"}); err != nil || len(page) != 0 {
		t.Fatalf("open: %d, %v", len(page), err)
	}
	if _, err := a.Payments(bg, Filter{After: "pay_none"}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("after nothing: %v", err)
	}
	if _, err := a.Payment(bg, strings.Repeat("x", 5000)); !errors.Is(err, ErrNotFound) {
		t.Fatalf("an id that is too long: %v", err)
	}
	if _, err := a.RefundByID(bg, ids[0]); !errors.Is(err, ErrNoRefund) {
		t.Fatalf("a payment as refund: %v", err)
	}
}

func TestWaitReturnsWhenThePaymentNoLongerRuns(t *testing.T) {
	_, pad, a := shop(t)
	pad.hold = make(chan struct{})
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(bg, time.Millisecond)
	defer cancel()
	if got, err := a.Wait(short, p.ID); err != nil || got.State.Final() {
		t.Fatalf("%s, %v", got.State, err)
	}
	close(pad.hold)
	if got, err := a.Wait(bg, p.ID); err != nil || got.State.Status != payment.Succeeded {
		t.Fatalf("%s, %v", got.State, err)
	}
}

func TestSealedBodiesCannotBeExchanged(t *testing.T) {
	k, err := NewKeySealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Seal("pay_1", []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Unseal("pay_1", sealed); err != nil || string(got) != "body" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := k.Unseal("pay_2", sealed); err == nil {
		t.Fatal("a body opens under another name")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Unseal("pay_1", bad); err == nil {
			t.Fatalf("byte %d is not authenticated", i)
		}
		if _, err := k.Unseal("pay_1", sealed[:i]); err == nil {
			t.Fatalf("a body of %d bytes opens", i)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", k, k, k); strings.Contains(s, "aead") {
		t.Fatalf("the sealer prints %s", s)
	}
	if _, err := NewKeySealer(make([]byte, 16)); err == nil {
		t.Fatal("a short key is taken")
	}
}

func FuzzUnreadableRecord(f *testing.F) {
	k, err := NewKeySealer(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	e := &Engine{o: Options{Sealer: k}}
	f.Add([]byte(`{"form":1,"payment":{"id":"pay_1"}}`), true)
	f.Add([]byte(`{"form":2}`), true)
	f.Add([]byte(`{"form":1,"operation":{"facts":["new"]}}`), true)
	f.Add([]byte("garbage"), false)
	f.Fuzz(func(t *testing.T, body []byte, seal bool) {
		if seal {
			body, _ = k.Seal("pay_1", body)
		}
		h, err := e.decode(queue.Record{ID: "pay_1", Body: body})
		if (h == nil) == (err == nil) {
			t.Fatal("neither a record nor an error")
		}
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
	})
}
