package engine

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/emv"
)

// scenario is a shop's moment that is run once undisturbed and then again with
// a crash at each of its commits, before and after the commit is durable.
type scenario struct {
	name string
	set  func(w *world, pad *fakePad)
	run  func(a *agent) // may be cut short at any commit
}

func scenarios() []scenario {
	pay := func(a *agent) { a.attempt("k1", sale(1000)) }
	return []scenario{
		{"sale", func(*world, *fakePad) {}, pay},
		{"tap", func(w *world, p *fakePad) { p.entry, p.earlyCrypto = emv.EntryContactless, true }, pay},
		{"tap with inquiries", func(w *world, p *fakePad) {
			p.entry, p.earlyCrypto = emv.EntryContactless, true
			w.host.inquiries = true
		}, pay},
		{"answer lost", func(w *world, p *fakePad) { w.host.script = []answer{{book: true}} }, pay},
		{"tap, answer lost, inquiries", func(w *world, p *fakePad) {
			p.entry, p.earlyCrypto = emv.EntryContactless, true
			w.host.script, w.host.inquiries = []answer{{book: true}}, true
		}, pay},
		{"card refuses", func(w *world, p *fakePad) { p.last = emv.Declined }, pay},
		{"reversal needs three", func(w *world, p *fakePad) {
			w.host.script = []answer{{book: true}}
			w.host.acks = []acquirer.AckState{acquirer.AckUnknown, acquirer.AckNotSent}
		}, pay},
		{"decline", func(w *world, p *fakePad) { w.host.script = []answer{{outcome: acquirer.Declined}} }, pay},
		{"void", func(*world, *fakePad) {}, func(a *agent) {
			if p := a.attempt("k1", sale(1000)); p.State.Status == payment.Succeeded {
				a.attemptOperation(a.Void, "v1", OperationRequest{PaymentID: p.ID})
			}
		}},
		{"void without answer", func(w *world, p *fakePad) {
			w.host.script = []answer{{outcome: acquirer.Approved}, {book: true}}
		}, func(a *agent) {
			if p := a.attempt("k1", sale(1000)); p.State.Status == payment.Succeeded {
				a.attemptOperation(a.Void, "v1", OperationRequest{PaymentID: p.ID})
			}
		}},
		{"refunds", func(*world, *fakePad) {}, func(a *agent) {
			if p := a.attempt("k1", sale(1000)); p.State.Status == payment.Succeeded {
				a.attemptOperation(a.Refund, "r1", OperationRequest{PaymentID: p.ID, Amount: 300})
				a.attemptOperation(a.Refund, "r2", OperationRequest{PaymentID: p.ID})
			}
		}},
		{"refund without answer, inquiries", func(w *world, p *fakePad) {
			w.host.inquiries = true
			w.host.script = []answer{{outcome: acquirer.Approved}, {book: true}}
		}, func(a *agent) {
			if p := a.attempt("k1", sale(1000)); p.State.Status == payment.Succeeded {
				a.attemptOperation(a.Refund, "r1", OperationRequest{PaymentID: p.ID, Amount: 300})
			}
		}},
	}
}

// attempt pays until the engine dies or the payment ends.
func (a *agent) attempt(key string, r payment.Request) payment.Payment {
	p, _, err := a.StartPayment(context.Background(), "till-1", key, "digest of "+key, r)
	if err != nil {
		return payment.Payment{}
	}
	for {
		changed := a.Changed()
		p, err := a.Payment(context.Background(), p.ID)
		if err != nil {
			return payment.Payment{}
		}
		if p.State.Final() || p.State.Stage == payment.StageHeld {
			return p
		}
		select {
		case <-changed:
		case <-a.w.disk.gone:
			return payment.Payment{}
		}
	}
}

type startOp func(ctx context.Context, credential, key, digest string, r OperationRequest) (payment.Operation, bool, error)

func (a *agent) attemptOperation(start startOp, key string, r OperationRequest) payment.Operation {
	o, _, err := start(context.Background(), "till-1", key, "digest of "+key, r)
	if err != nil {
		return payment.Operation{}
	}
	for {
		changed := a.Changed()
		o, err := a.Operation(context.Background(), o.ID)
		if err != nil {
			return payment.Operation{}
		}
		if o.State.Final() || o.State.Stage == payment.StageHeld {
			return o
		}
		select {
		case <-changed:
		case <-a.w.disk.gone:
			return payment.Operation{}
		}
	}
}

// TestCrashAtEveryCommit ends the process at each commit of each scenario. The
// next life must settle everything by itself, the books must agree, and the
// till's retry with the same key must never charge again.
func TestCrashAtEveryCommit(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			cuts := 0
			for n := 1; ; n++ {
				reached := false
				for _, before := range []bool{true, false} {
					t.Run(fmt.Sprintf("%d/%v", n, before), func(t *testing.T) {
						reached = crashAt(t, s, n, 0, before) || reached
					})
				}
				if !reached || t.Failed() {
					break
				}
				cuts++
			}
			if cuts < 4 {
				t.Fatalf("%d commits were cut; a payment has more", cuts)
			}
			t.Logf("%d commits, each cut before and after", cuts)
		})
	}
}

// TestCrashAgainWhileSettling ends also the second life, at each of its first
// commits: the third settles what two crashes left.
func TestCrashAgainWhileSettling(t *testing.T) {
	for _, s := range scenarios() {
		switch s.name {
		case "answer lost", "void without answer", "tap, answer lost, inquiries":
		default:
			if os.Getenv("TILLBRIDGE_LARGE") == "" {
				continue
			}
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for n, reached := 2, true; reached && !t.Failed(); n++ {
				for again := 1; again <= 4; again++ {
					reached = crashAt(t, s, n, again, again%2 == 0)
				}
			}
		})
	}
}

// crashAt reports whether the scenario has an nth commit. again ends the
// second life as well, at that commit of its own; 0 lets it live.
func crashAt(t *testing.T, s scenario, n, again int, before bool) bool {
	w := newWorld(t)
	pad := newPad(w)
	w.pads["R1"] = newStation(pad)
	s.set(w, pad)
	a := w.start()
	w.disk.mu.Lock()
	w.disk.dieAt, w.disk.before = n, before
	w.disk.mu.Unlock()
	s.run(a)
	died := !w.disk.alive()
	a.crash()
	if !died {
		return false
	}
	// the store's file goes through a close and an open, as after a kill
	w.store.Close()
	w.openStore()

	if again > 0 {
		mid := w.launchDying(again, before)
		for w.disk.alive() && !(mid.Ready() && len(mid.allOpen()) == 0) {
			select {
			case <-w.disk.gone:
			case <-mid.Changed():
			case <-time.After(20 * time.Millisecond):
			}
		}
		mid.crash()
		w.store.Close()
		w.openStore()
	}
	b := w.start()
	for _, id := range b.allOpen() {
		if id[:4] == "pay_" {
			b.settle(id)
		} else {
			b.settleOperation(id)
		}
	}
	b.audit()
	charged := len(w.host.charges)
	// the till asks again with the same key: it must get the same payment
	p, replayed, err := b.StartPayment(context.Background(), "till-1", "k1", "digest of k1", sale(1000))
	if err != nil {
		t.Fatalf("the till's retry: %v", err)
	}
	p = b.settle(p.ID)
	if replayed && len(w.host.charges) != charged {
		t.Fatalf("the till's retry was a replay and charged again")
	}
	if list, err := b.Payments(context.Background(), Filter{Credential: "till-1", Key: "k1"}); err != nil || len(list) != 1 {
		t.Fatalf("the key has %d payments, %v", len(list), err)
	}
	// and the register takes the next customer
	next := b.attempt("k9", sale(777))
	if !next.State.Final() {
		t.Fatalf("the register is stuck: %s", next.State)
	}
	b.audit()
	_ = p
	return true
}

func (a *agent) allOpen() []string {
	records, err := (&Engine{o: Options{Store: a.w.store, Sealer: a.w.seal}, log: a.log}).listOpen(context.Background(), indexOpen, "1")
	if err != nil {
		a.w.t.Fatal(err)
	}
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	return ids
}
