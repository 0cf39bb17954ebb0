package ccid_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
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

// aCard is a card for the kernel.
func aCard(t *testing.T, t0 bool) *virtualcard.Card {
	t.Helper()
	profile, err := virtualcard.Named("no-pse")
	if err != nil {
		t.Fatal(err)
	}
	card, err := virtualcard.New(&virtualcard.Options{Seed: 1, T0: t0}, profile)
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// transact is a payment with the contact kernel and the card's issuer, from the
// slot's power to the second cryptogram.
func transact(ctx context.Context, r drivers.APDUChannel, card *virtualcard.Card, amount int64) (emv.Outcome, error) {
	var none emv.Outcome
	if _, err := r.Power(ctx); err != nil {
		return none, err
	}
	profile := card.Profile()
	aid, err := hex.DecodeString(profile.AID)
	if err != nil {
		return none, err
	}
	k, err := contact.New(r, contact.Config{Country: 840, Encrypter: discard{}, Applications: []contact.Application{{AID: aid, Version: [2]byte{0, 0x96}}}})
	if err != nil {
		return none, err
	}
	terms := emv.Terms{Amounts: emv.Amounts{Amount: amount, Currency: "USD", CurrencyNumeric: 840, Exponent: 2}, Time: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	got, err := k.Read(ctx, terms)
	if err != nil {
		return none, err
	}
	if got.Last4 != card.PAN()[12:] {
		return none, errors.New("another card was read")
	}
	out, err := k.Authorize(ctx, terms.Amounts)
	if err != nil {
		return none, err
	}
	if out.Decision != emv.OnlineRequest {
		return out, nil
	}
	v, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: card.PAN(), PSN: profile.PSN, AID: aid, Data: out.Field55})
	if err != nil {
		return none, fmt.Errorf("the issuer refuses the cryptogram: %w", err)
	}
	auth, err := v.Answer("00", true)
	if err != nil {
		return none, err
	}
	out, err = k.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00", IssuerAuth: auth})
	if err != nil {
		return out, err
	}
	return out, r.PowerOff(ctx)
}

// cryptograms are the GENERATE AC that reached the card, with what it made
// ("40" is an approval), and whether each carried the amount.
func cryptograms(v *virtual.Reader, amount int64) (made []string, err error) {
	want, _ := hex.DecodeString(fmt.Sprintf("%012d", amount))
	for _, e := range v.Executed() {
		if len(e.Command) < 5 || e.Command[1] != 0xAE {
			continue
		}
		if !bytes.Contains(e.Command, want) {
			err = errors.New("a cryptogram was asked for over another amount")
		}
		made = append(made, fmt.Sprintf("%02X", e.Command[2]&0xC0))
	}
	return made, err
}

// The contact kernel takes a payment through the reader at every level, to the
// card's second cryptogram, and the issuer accepts the first.
func TestKernelThroughTheReader(t *testing.T) {
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			card := aCard(t, name == "tpdu T=0")
			o.Card = card
			r, v := plug(t, &o)
			out, err := transact(within(t), r, card, 1000)
			if err != nil || out.Decision != emv.Approved || out.ReversalNeeded || out.CID != "40" {
				t.Fatalf("%s, CID %s, %v", out.Decision, out.CID, err)
			}
			made, err := cryptograms(v, 1000)
			if err != nil || strings.Join(made, " ") != "80 40" {
				t.Errorf("cryptograms asked for: %v, %v", made, err)
			}
			if v.Powered() {
				t.Error("the card has power after the payment")
			}
		})
	}
}

// On a line with noise, and one that ends within a payment, no card is asked
// for a cryptogram twice, none is over another amount, and none that the card
// refused counts as approved.
func TestKernelOnANoisyLine(t *testing.T) {
	t.Parallel()
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			card := aCard(t, name == "tpdu T=0")
			o.Card = card
			var v *virtual.Reader
			noise := drivertest.Every(0.01)
			noise.Rate[drivertest.FaultFlip] = 0 // found by the CRC of the USB wire
			noise.Rate[drivertest.FaultHangUp] = 0.002
			tally := drivertest.Storm(t, drivertest.Subject{
				Driver: ccid.Driver{}, Config: drivers.Config{Params: params(o)}, Port: port, Messages: true,
				Peer: func(line io.ReadWriteCloser) {
					var err error
					if v, err = virtual.New(&o); err != nil {
						panic(err)
					}
					_ = v.Serve(context.Background(), line)
				},
				Operations: []drivertest.Operation{{Name: "sale", Run: func(ctx context.Context, d drivers.Device) (string, error) {
					out, err := transact(ctx, d.(drivers.APDUChannel), card, 4711)
					return string(out.Decision), err
				}}},
				Books: func(_, outcome string, err error) error {
					made, wrong := cryptograms(v, 4711)
					said := strings.Join(made, " ")
					switch {
					case wrong != nil:
						return wrong
					case !slices.Contains([]string{"", "80", "80 40", "80 00"}, said):
						return fmt.Errorf("cryptograms asked for: %s", said)
					case err == nil && outcome == string(emv.Approved) && said != "80 40":
						return fmt.Errorf("approved with %q", said)
					}
					return nil
				},
			}, scale(12, 500), 4200, noise)
			t.Log(tally)
			if tally.Through == 0 {
				t.Error("a storm in which nothing comes through shows nothing")
			}
		})
	}
}

// A card with bad contacts loses and damages blocks both ways: T=1 asks again,
// and still no cryptogram is made twice.
func TestKernelOverBadContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := kinds()["tpdu T=1"]
		card := aCard(t, false)
		o.Card = card
		approved := 0
		all := scale(60, 2000)
		for seed := range all {
			r, v := plug(t, &o)
			rnd := rand.New(rand.NewPCG(uint64(seed), 5))
			for range 400 {
				f := virtual.Fault("")
				if rnd.IntN(10) == 0 {
					f = []virtual.Fault{virtual.Mute, virtual.Parity, virtual.BadLRC, virtual.WTX, virtual.TimeExtension, virtual.Double}[rnd.IntN(6)]
				}
				v.Do(f)
			}
			out, err := transact(within(t), r, card, 1000)
			made, wrong := cryptograms(v, 1000)
			said := strings.Join(made, " ")
			switch {
			case wrong != nil, !slices.Contains([]string{"", "80", "80 40", "80 00"}, said):
				t.Errorf("seed %d: cryptograms asked for: %s, %v", seed, said, wrong)
			case err == nil && out.Decision == emv.Approved:
				if approved++; said != "80 40" {
					t.Errorf("seed %d: approved with %q", seed, said)
				}
			}
			r.Close()
		}
		t.Logf("%d payments, %d approved", all, approved)
		if approved < all/2 {
			t.Errorf("%d of %d approved", approved, all)
		}
	})
}
