package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tillbridge/agent/payment"
	virtual "tillbridge/drivers/virtual/ccid"
	"tillbridge/emv/contact"
	"tillbridge/p2pe"
	"tillbridge/p2pe/seal"
)

// noKey is an encryption without a key, at hand or in the end.
type noKey struct{ ready, encrypt error }

var errUsedUp = p2pe.NewFault("keys.exhausted", "dukpt: the key set is used up: load a new initial key")

func (n noKey) Ready(context.Context) error { return n.ready }

func (n noKey) Encrypt(c *seal.Clear) (p2pe.Envelope, error) { return p2pe.Envelope{}, n.encrypt }

// Without a key the card is not even powered; a key that fails after the card
// was read ends the payment before anything is sent. Both say which fault it is.
func TestPlainReaderWithoutKey(t *testing.T) {
	for name, c := range map[string]struct {
		n    noKey
		code string
		read bool
	}{
		"known before":      {noKey{ready: errUsedUp}, "keys.exhausted", false},
		"without a code":    {noKey{ready: errors.New("disk")}, "device.no_encrypter", false},
		"found out with it": {noKey{encrypt: errUsedUp}, "keys.exhausted", true},
	} {
		t.Run(name, func(t *testing.T) {
			kernel := sealing(t)
			kernel.Encrypter = SealedBy(c.n)
			w, a, v := readerShopOf(t, func(l *Lane) { l.Kernel, l.Encryption = kernel, c.n }, &virtual.Options{Level: virtual.TPDU, Card: chip(t)})
			id := a.begin("k1", sale(100))
			p := a.finish(id)
			wantState(t, p, payment.Failed, payment.StageConfig)
			if p.Code != c.code || !strings.Contains(p.Reason, "nothing was sent and nothing charged") {
				t.Errorf("code %s: %s", p.Code, p.Reason)
			}
			if p.MoneyMoved() != payment.MovedNo || p.Retry() != payment.RetrySafe || w.host.requests != 0 || (len(v.Executed()) > 0) != c.read {
				t.Errorf("money %s, retry %s, %d requests, %d commands", p.MoneyMoved(), p.Retry(), w.host.requests, len(v.Executed()))
			}
			for _, x := range v.Executed() {
				if x.Command[1] == 0xAE {
					t.Error("GENERATE AC reached the card")
				}
			}
			v.Remove()
			a.freed("R1", id)
		})
	}
}

var _ contact.Encrypter = SealedBy(noKey{})

// A plain reader shows no text: that a card is in the slot already is said to
// the cashier, and that card is not read.
func TestPlainReaderWithACardLeftInIt(t *testing.T) {
	w, a, v := readerShop(t, sealing(t), &virtual.Options{Level: virtual.TPDU, Card: chip(t)})
	a.lanes["R1"].cardLeft = true // as after a start
	id := a.begin("k1", sale(100))
	at := func(want payment.Stage) {
		t.Helper()
		for {
			changed := a.Changed()
			p, err := a.Payment(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			if p.State.Stage == want {
				return
			}
			if p.State.Final() || p.State.Stage == payment.StageWaitingCard {
				t.Fatalf("%s before %s", p.State, want)
			}
			<-changed
		}
	}
	at(payment.StageWaitingCustomer)
	v.Remove()
	at(payment.StageWaitingCard)
	if len(v.Executed()) != 0 {
		t.Error("the card that was left was read")
	}
	v.Insert(chip(t))
	p := a.finish(id)
	wantState(t, p, payment.Succeeded, payment.StageNone)
	if w.host.requests != 1 {
		t.Errorf("%d requests", w.host.requests)
	}
	v.Remove()
	a.freed("R1", id)
}
