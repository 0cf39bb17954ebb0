package engine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
	"tillbridge/emv/contact"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe/seal"
)

// A plain reader, our kernel and a chip card, over messages of USB CCID.

// chip is a card that needs the issuer.
func chip(t testing.TB) *virtualcard.Card {
	t.Helper()
	p, err := virtualcard.Named("visa-debit")
	if err != nil {
		t.Fatal(err)
	}
	p.ODA, p.CVMList, p.OnlineAlways = virtualcard.ODANone, "00000000000000001F03", true
	p.IACDefault, p.IACOnline = "", ""
	p.IssuerAuth = virtualcard.AuthNone
	c, err := virtualcard.New(&virtualcard.Options{Seed: 1}, p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readerShop(t testing.TB, kernel *contact.Config, o *virtual.Options) (*world, *agent, *virtual.Reader) {
	t.Helper()
	return readerShopOf(t, func(l *Lane) { l.Kernel = kernel }, o)
}

func readerShopOf(t testing.TB, equip func(*Lane), o *virtual.Options) (*world, *agent, *virtual.Reader) {
	t.Helper()
	v, err := virtual.New(o)
	if err != nil {
		t.Fatal(err)
	}
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: drivers.Port{Kind: drivers.KindUSB, Class: 0x0B, Path: "usb:1-1"}})
	var served sync.WaitGroup
	served.Go(func() { _ = v.Serve(context.Background(), device.Stream()) })
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	d, err := ccid.Driver{}.Open(ctx, host, drivers.Config{Params: map[string]string{"level": "tpdu"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); served.Wait() })
	w := newWorld(t)
	w.pads["R1"] = newStation(d)
	w.tune = func(o *Options) {
		for i := range o.Lanes {
			equip(&o.Lanes[i])
		}
	}
	a := w.start()
	a.lanes["R1"].cardLeft = false // the card in the slot is the customer's
	return w, a, v
}

// sealing is a kernel with an encrypter to a pinned key.
func sealing(t testing.TB) *contact.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	e, err := seal.NewJWE(der, &seal.JWEOptions{KeyID: "k1", Thumbprint: hex.EncodeToString(sum[:]), Serial: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	return &contact.Config{Country: 840, Encrypter: SealedBy(e), ForceOnline: true,
		Applications: []contact.Application{{AID: []byte{0xA0, 0, 0, 0, 3, 0x20, 0x10}, Version: [2]byte{0, 0x96}}}}
}

func TestSaleOnAPlainReader(t *testing.T) {
	card := chip(t)
	w, a, v := readerShop(t, sealing(t), &virtual.Options{Level: virtual.TPDU, Card: card})
	id := a.begin("k1", sale(1250))
	p := a.finish(id)
	wantState(t, p, payment.Succeeded, payment.StageNone)
	if p.Approved != 1250 || p.Card.Last4 != card.PAN()[12:] {
		t.Errorf("record: approved %d, card %s", p.Approved, p.Card.Last4)
	}
	r := w.host.seen[0]
	if r.Card.JWE == "" || len(r.Card.PAN)+len(r.Card.Track2) != 0 {
		t.Errorf("the card reached the host as %v", r.Card)
	}
	if strings.Contains(r.Card.JWE, card.PAN()) || strings.Contains(string(r.Field55), card.PAN()) {
		t.Error("the host got a clear number")
	}
	prof := card.Profile()
	if _, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: prof.PAN, PSN: prof.PSN, AID: []byte{0xA0, 0, 0, 0, 3, 0x20, 0x10}, Data: r.Field55}); err != nil {
		t.Errorf("the issuer refuses the cryptogram: %v", err)
	}
	v.Remove() // the customer takes the card; the register is free
	a.freed("R1", id)
	a.audit()
}

// begin starts a payment without waiting for its end.
func (a *agent) begin(key string, r payment.Request) string {
	a.w.t.Helper()
	p, _, err := a.StartPayment(context.Background(), "till-1", key, "digest of "+key, r)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return p.ID
}

// finish waits for the end of a payment, whoever holds the register then.
func (a *agent) finish(id string) payment.Payment {
	a.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	for {
		changed := a.Changed()
		p, err := a.Payment(ctx, id)
		if err != nil {
			a.w.t.Fatal(err)
		}
		if p.State.Final() || p.State.Stage == payment.StageHeld {
			return p
		}
		select {
		case <-changed:
		case <-ctx.Done():
			a.w.t.Fatalf("%s stays %s: %s", id, p.State, p.Reason)
		}
	}
}

// Without an encrypter nothing of the card is read.
func TestPlainReaderWithoutEncrypterIsRefused(t *testing.T) {
	open := sealing(t)
	open.Encrypter = nil
	for name, kernel := range map[string]*contact.Config{"no kernel": nil, "no encrypter": open} {
		t.Run(name, func(t *testing.T) {
			w, a, v := readerShop(t, kernel, &virtual.Options{Level: virtual.TPDU, Card: chip(t)})
			p := a.pay("k1", sale(100))
			wantState(t, p, payment.Failed, payment.StageConfig)
			if p.Code != "device.no_encrypter" || !strings.Contains(p.Reason, "encrypt") {
				t.Errorf("code %s: %s", p.Code, p.Reason)
			}
			if p.MoneyMoved() != payment.MovedNo || w.host.requests != 0 || len(v.Executed()) != 0 {
				t.Errorf("money %s, %d requests, %d commands", p.MoneyMoved(), w.host.requests, len(v.Executed()))
			}
		})
	}
}

// A cancel while the reader waits for a card ends at once and leaves the slot
// unpowered.
func TestPlainReaderCancelled(t *testing.T) {
	w, a, v := readerShop(t, sealing(t), &virtual.Options{Level: virtual.TPDU, Empty: true})
	id := a.begin("k1", sale(100))
	for {
		changed := a.Changed()
		p, err := a.Payment(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if p.State.Stage == payment.StageWaitingCard {
			break
		}
		<-changed
	}
	if _, err := a.Cancel(context.Background(), "till-1", id); err != nil {
		t.Fatal(err)
	}
	p := a.finish(id)
	if p.State.Status != payment.Canceled || w.host.requests != 0 || v.Powered() {
		t.Errorf("%s, %d requests", p.State, w.host.requests)
	}
	a.freed("R1", id)
}

// A card that is pulled in the exchange moves nothing.
func TestPlainReaderCardPulled(t *testing.T) {
	w, a, v := readerShop(t, sealing(t), &virtual.Options{Level: virtual.TPDU, Card: chip(t)})
	v.Do("", "", "", virtual.Removed)
	p := a.pay("k1", sale(100))
	wantState(t, p, payment.Failed, payment.StageDevice)
	if p.Code != "card.removed" || w.host.requests != 0 || p.MoneyMoved() != payment.MovedNo {
		t.Errorf("code %s, %d requests", p.Code, w.host.requests)
	}
}
