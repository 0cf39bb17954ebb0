package abecs

import (
	"testing"
	"testing/synctest"
)

// A card that stays in the slot pays again: every GCX begins a payment of its
// own.
func TestTheSameCardTwiceInTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPad(t, Options{Clear: true})
		h := join(t, p)
		h.ask([]byte("OPN"))
		p.Do(Step{Do: "insert", Card: "no-cvm"})
		for i, amount := range []string{"000000000700", "000000000800"} {
			if st, _, _ := h.ask(gcxOf(amount, "00000")); st != "GCX000" {
				t.Fatalf("payment %d: %s", i+1, st)
			}
			if st, _, _ := h.ask(goxOf(amount, "01000")); st != "GOX000" {
				t.Fatalf("payment %d: %s", i+1, st)
			}
			if st, _, _ := h.ask(with("FCX", txt(inFCXOpt, "0000"), txt(inARC, "00"))); st != "FCX000" {
				t.Fatalf("payment %d: %s", i+1, st)
			}
		}
		if b := p.Books(); len(b) != 2 || b[0].Amount != 700 || b[1].Amount != 800 || b[1].Final != "approved" || b[0].ATC == b[1].ATC {
			t.Errorf("books %+v", b)
		}
	})
}

// "remove" that is sent while a payment runs waits until the pad asks for it.
func TestRemoveWaitsForTheEndOfThePayment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPad(t, Options{Clear: true})
		h := join(t, p)
		h.ask([]byte("OPN"))
		p.Do(Step{Do: "insert", Card: "no-cvm"})
		if st, _, _ := h.ask(gcxOf("000000000700", "00000")); st != "GCX000" {
			t.Fatal(st)
		}
		p.Do(Step{Do: "remove"})
		if st, _, _ := h.ask(goxOf("000000000700", "01000")); st != "GOX000" {
			t.Fatalf("the card left in the middle of its payment: %s", st)
		}
		if st, _, _ := h.ask(with("FCX", txt(inFCXOpt, "0000"), txt(inARC, "00"))); st != "FCX000" {
			t.Fatal(st)
		}
		if st, _, _ := h.ask([]byte("RMC032REMOVE CARD                     ")); st != "RMC000" {
			t.Fatal(st)
		}
		// The step was used up: it does not take the next card.
		p.Do(Step{Do: "insert", Card: "no-cvm"})
		if st, _, _ := h.ask(gcxOf("000000000800", "00000")); st != "GCX000" {
			t.Fatal(st)
		}
		h.ask(goxOf("000000000800", "01000"))
		h.ask(with("FCX", txt(inFCXOpt, "0000"), txt(inARC, "00")))
		p.Do(Step{Do: "remove"}) // nobody asks: its payment is over
		if p.inSlot() != nil {
			t.Error("the card is still in the slot")
		}
	})
}
