//go:build lab && usb && linux

package guest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/usbport"
	"tillbridge/emv"
	"tillbridge/emv/contact"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
)

// sealed stands for the encryption of card data, which is another room's.
type sealed struct{}

func (sealed) Encrypt(c *contact.Clear) (p2pe.Envelope, error) {
	defer c.Erase()
	if len(c.PAN) < 12 {
		return p2pe.Envelope{}, errors.New("not card data")
	}
	return p2pe.Envelope{Scheme: "test"}, nil
}

// newCard makes a T=0 card of a profile (QEMU's reader knows no T=1), without
// RSA: its chains take long here.
func newCard(t *testing.T, name string) *virtualcard.Card {
	t.Helper()
	p, err := virtualcard.Named(name)
	if err != nil {
		t.Fatal(err)
	}
	p.ODA = virtualcard.ODANone
	c, err := virtualcard.New(&virtualcard.Options{Seed: 5, T0: true}, p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pay runs a whole payment of the host's kernel on a powered reader; the issuer
// judges the cryptogram and approves.
func pay(ctx context.Context, r *ccid.Reader, c *virtualcard.Card, amount int64) error {
	if _, err := r.Power(ctx); err != nil {
		return err
	}
	aid, err := hex.DecodeString(c.Profile().AID)
	if err != nil {
		return err
	}
	k, err := contact.New(r, contact.Config{Country: 840, Encrypter: sealed{}, Timeout: time.Minute,
		Applications: []contact.Application{{AID: aid, Version: [2]byte{0, 0x96}}}})
	if err != nil {
		return err
	}
	terms := emv.Terms{Amounts: emv.Amounts{Amount: amount, Currency: "USD", CurrencyNumeric: 840, Exponent: 2}, Time: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	got, err := k.Read(ctx, terms)
	if err != nil {
		return err
	}
	if got.Last4 != c.PAN()[len(c.PAN())-4:] {
		return errors.New("another card was read")
	}
	out, err := k.Authorize(ctx, terms.Amounts)
	if err != nil {
		return err
	}
	if out.Decision != emv.OnlineRequest {
		return fmt.Errorf("authorize: %s", out.Decision)
	}
	if _, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: c.PAN(), PSN: c.Profile().PSN, AID: aid, Data: out.Field55}); err != nil {
		return fmt.Errorf("the issuer refuses the cryptogram: %w", err)
	}
	out, err = k.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
	if err != nil {
		return err
	}
	if out.Decision != emv.Approved {
		return fmt.Errorf("complete: %s", out.Decision)
	}
	return nil
}

// openReader opens QEMU's reader.
func openReader(ctx context.Context, t *testing.T) *ccid.Reader {
	t.Helper()
	bus := usbport.New(nil)
	tr, err := bus.Open(ctx, find(ctx, t, bus, isReader))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ccid.Driver{}.Open(ctx, tr, drivers.Config{Name: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.(*ccid.Reader)
}

// The host's kernel pays with a card over our CCID driver; the card comes and
// goes, and the reader tells it.
func TestCCIDPayment(t *testing.T) {
	ctx := begin(t)
	s := slotOf(t)
	r := openReader(ctx, t)
	if r.Level() != ccid.LevelTPDU || r.Descriptor().MaxMessage == 0 {
		t.Errorf("%s, %+v", r.Level(), r.Descriptor())
	}
	if id, err := r.Identify(ctx); err != nil || id.Vendor != "USB 08E6:4433" {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := r.Power(ctx); !errors.Is(err, drivers.ErrCardGone) {
		t.Errorf("power without a card: %v", err)
	}
	c := newCard(t, "no-pse")
	for n := range 2 {
		waited := make(chan error, 1)
		go func() { waited <- r.WaitCard(ctx, true) }()
		s.insert(c)
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := pay(ctx, r, c, int64(1000+n)); err != nil {
			t.Fatalf("payment %d: %v", n, err)
		}
		say(t, "a payment of the host's kernel in %v", time.Since(start).Round(time.Millisecond))
		go func() { waited <- r.WaitCard(ctx, false) }()
		s.remove()
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		if _, err := r.Transmit(ctx, []byte{0, 0xA4, 4, 0}); err == nil {
			t.Error("a command without a card was answered")
		}
	}
}

// Answers and commands of every length arrive, also those that fill their
// packets.
func TestCCIDLengths(t *testing.T) {
	ctx := begin(t)
	s := slotOf(t)
	r := openReader(ctx, t)
	s.insert(lengths{})
	if err := r.WaitCard(ctx, true); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Power(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 51, 52, 53, 115, 116, 117, 180, 244, 250, 255, 256} {
		command := []byte{0, 0xB0, 0, 0, byte(n)}
		got, err := r.Transmit(ctx, command)
		if err != nil || !bytes.Equal(got, append(pattern(n), 0x90, 0)) {
			t.Fatalf("an answer of %d bytes: %d, %v", n, len(got), err)
		}
	}
	for _, n := range []int{1, 48, 49, 54, 200, 255} { // commands that fill their packets
		command := append([]byte{0, 0xD6, 0, 0, byte(n)}, pattern(n)...)
		if got, err := r.Transmit(ctx, command); err != nil || !bytes.Equal(got, []byte{0x90, 0}) {
			t.Fatalf("a command of %d bytes: % X, %v", n, got, err)
		}
	}
}

// A card that does not answer: the command ends by its deadline, and the reader
// is of use again.
func TestCCIDDeadline(t *testing.T) {
	ctx := begin(t)
	s := slotOf(t)
	r := openReader(ctx, t)
	c := newCard(t, "no-pse")
	s.insert(c)
	if err := r.WaitCard(ctx, true); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Power(ctx); err != nil {
		t.Fatal(err)
	}
	release := s.hold()
	defer release()
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := r.Transmit(short, []byte{0, 0xA4, 4, 0, 0}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a card that says nothing: %v", err)
	}
	release()
	if err := pay(ctx, r, c, 700); err != nil {
		t.Errorf("after the silence: %v", err)
	}
}

// The reader is pulled in the middle of an exchange and plugged in at another
// port: the supervisor finds it, and the next payment goes through.
func TestCCIDUnplugSupervised(t *testing.T) {
	ctx := begin(t)
	s, m := slotOf(t), qemu(t)
	c := newCard(t, "no-pse")
	device := supervise(t, usbport.New(nil), ccid.Driver{}, nil, nil)
	was := device.ready(ctx, t)
	s.insert(c)
	usable := func(ctx context.Context, d drivers.Device) error {
		r := d.(*ccid.Reader)
		if err := r.WaitCard(ctx, true); err != nil {
			return err
		}
		return pay(ctx, r, c, 1200)
	}
	if err := device.do(ctx, t, usable); err != nil {
		t.Fatal(err)
	}
	release := s.hold()
	defer release()
	held := s.count()
	cut := make(chan error, 1)
	go func() {
		cut <- device.do(ctx, t, func(ctx context.Context, d drivers.Device) error {
			r := d.(*ccid.Reader)
			if _, err := r.Power(ctx); err != nil {
				return err
			}
			_, err := r.Transmit(ctx, []byte{0, 0xA4, 4, 0, 0})
			return err
		})
	}()
	eventually(ctx, t, "the command reaches the card", func() bool { return s.count() > held })
	m.pull(t, "reader")
	if err := <-cut; err == nil {
		t.Error("a command was answered by a reader that is gone")
	}
	s.pulled()
	release()
	device.reaches(ctx, t, drivers.StateAbsent)
	m.plug(t, map[string]any{"driver": "usb-ccid", "id": "reader", "bus": "xhci.0", "port": "3", "serial": "LAB0002"})
	m.plug(t, map[string]any{"driver": "ccid-card-passthru", "id": "slot", "bus": "reader.0", "chardev": "card"})
	if err := s.connect(); err != nil {
		t.Fatal(err)
	}
	now := device.ready(ctx, t)
	if now.Port.Location == was.Port.Location || now.Replugs == 0 || now.Identity.Serial != "LAB0002" {
		t.Errorf("%+v", now)
	}
	s.insert(c)
	if err := device.do(ctx, t, usable); err != nil {
		t.Errorf("after the replug: %v", err)
	}
	if device.recoveries() != 1 {
		t.Errorf("the cut operation was settled %d times", device.recoveries())
	}
}
