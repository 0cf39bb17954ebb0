package ccid_test

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/contact"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
)

type discard struct{}

func (discard) Encrypt(c *contact.Clear) (p2pe.Envelope, error) {
	defer c.Erase()
	if len(c.PAN) < 12 {
		return p2pe.Envelope{}, errors.New("not card data")
	}
	return p2pe.Envelope{Scheme: "test"}, nil
}

// The contact kernel reads a card through the reader at every level, and the
// issuer accepts the cryptogram.
func TestKernelThroughTheReader(t *testing.T) {
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			profile, err := virtualcard.Named("no-pse")
			if err != nil {
				t.Fatal(err)
			}
			card, err := virtualcard.New(&virtualcard.Options{Seed: 1, T0: name == "tpdu T=0"}, profile)
			if err != nil {
				t.Fatal(err)
			}
			o.Card = card
			r, _ := plug(t, &o)
			if _, err := r.Power(within(t)); err != nil {
				t.Fatal(err)
			}
			aid, _ := hex.DecodeString(profile.AID)
			k, err := contact.New(r, contact.Config{Country: 840, Encrypter: discard{}, Applications: []contact.Application{{AID: aid, Version: [2]byte{0, 0x96}}}})
			if err != nil {
				t.Fatal(err)
			}
			terms := emv.Terms{Amounts: emv.Amounts{Amount: 1000, Currency: "USD", CurrencyNumeric: 840, Exponent: 2}, Time: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
			got, err := k.Read(within(t), terms)
			if err != nil || got.Last4 != card.PAN()[12:] {
				t.Fatalf("read: %v", err)
			}
			out, err := k.Authorize(within(t), terms.Amounts)
			if err != nil || out.Decision != emv.OnlineRequest {
				t.Fatalf("authorize: %s, %v", out.Decision, err)
			}
			if _, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: card.PAN(), PSN: profile.PSN, AID: aid, Data: out.Field55}); err != nil {
				t.Errorf("the issuer refuses the cryptogram: %v", err)
			}
		})
	}
}
