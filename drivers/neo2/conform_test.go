package neo2_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/neo2"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// The driver against the virtual reader: they share the checksum and nothing
// else.

// theCard is one card for all runs.
var theCard = sync.OnceValue(newCard)

func newCard() *virtualcard.Card {
	p, err := virtualcard.Named("visa-credit")
	if err != nil {
		panic(err)
	}
	p.ODA = virtualcard.ODANone // RSA chains are slow to make
	c, err := virtualcard.New(&virtualcard.Options{Seed: 3}, p)
	if err != nil {
		panic(err)
	}
	return c
}

func newKey() *virtual.InitialKey {
	// One key for all: a failing seed gives the same bytes again.
	return &virtual.InitialKey{KSN: "FFFF9876543211E00000", Key: "89ABCDEF0123456776543210FEDCBA98"}
}

// counter is a row of virtual readers, each fresh from power-on, and their
// books.
type counter struct {
	entry string
	o     virtual.Options

	mu      sync.Mutex
	readers []*virtual.Reader
}

func newCounter(entry string, hid bool) *counter {
	return &counter{entry: entry, o: virtual.Options{HID: hid, Key: newKey(), Cards: map[string]*virtualcard.Card{"visa": theCard()}}}
}

func (c *counter) peer(line io.ReadWriteCloser) {
	r, err := virtual.New(c.o)
	if err == nil {
		err = r.Do(virtual.Step{Do: "auto", Card: "visa", Entry: c.entry, AfterMS: 1500})
	}
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	c.readers = append(c.readers, r)
	c.mu.Unlock()
	r.Run(context.Background(), line)
}

// books judges a run by what the readers of the run wrote down.
func (c *counter) books(op, outcome string, err error) error {
	c.mu.Lock()
	readers := c.readers
	c.readers = nil
	c.mu.Unlock()
	amount, isSale := strings.CutPrefix(op, "sale ")
	want, _ := strconv.ParseInt(amount, 10, 64)
	cards, charged := 0, 0
	for _, r := range readers {
		for _, b := range r.Books() {
			cards++
			if !isSale {
				return fmt.Errorf("%s reached a card", op)
			}
			if b.Amount != want || b.Currency != "978" {
				return fmt.Errorf("the card signed %d %s, the sale was %d 978", b.Amount, b.Currency, want)
			}
			if b.Final == "approved" || b.Entry == "contactless" && b.First == "online" {
				charged++
			}
		}
	}
	switch {
	case cards > 1:
		return fmt.Errorf("the card was asked %d times", cards)
	case err == nil && isSale && strings.HasPrefix(outcome, "approved") && charged != 1 && c.entry != "swipe":
		return fmt.Errorf("the driver says approved, the books %d times", charged)
	case err == nil && isSale && !strings.HasPrefix(outcome, "approved") && charged != 0:
		return fmt.Errorf("the driver says %q, the books say approved", outcome)
	}
	return nil
}

func amounts(amount int64) emv.Amounts {
	return emv.Amounts{Amount: amount, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2}
}

func terms(amount int64, entries ...emv.Entry) emv.Terms {
	return emv.Terms{Amounts: amounts(amount), Entries: entries, Time: time.Date(2026, 11, 30, 21, 5, 9, 0, time.UTC)}
}

// pay runs a whole payment with an answer of the host.
func pay(ctx context.Context, d drivers.Device, t emv.Terms, h emv.HostResponse) (emv.Card, emv.Outcome, error) {
	s, err := d.(drivers.CardSession).Begin(ctx)
	if err != nil {
		return emv.Card{}, emv.Outcome{}, err
	}
	card, err := s.Read(ctx, t)
	if err != nil {
		return card, emv.Outcome{}, err
	}
	o := card.Outcome
	if o.Decision == "" {
		if o, err = s.Authorize(ctx, t.Amounts); err != nil {
			return card, o, err
		}
	}
	if o.Decision == emv.OnlineRequest {
		o, err = s.Complete(ctx, h)
	}
	return card, o, err
}

var approval = emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"}

func saleOf(amount int64, entries ...emv.Entry) drivertest.Operation {
	return drivertest.Operation{Name: fmt.Sprintf("sale %d", amount), Run: func(ctx context.Context, d drivers.Device) (string, error) {
		card, o, err := pay(ctx, d, terms(amount, entries...), approval)
		if err != nil {
			return "", err
		}
		if card.Data.Empty() || card.Last4 != theCard().PAN()[12:] {
			return "", fmt.Errorf("the card was not read: %s", card.Data)
		}
		return fmt.Sprintf("%s %d %s", o.Decision, amount, card.Entry), nil
	}}
}

func subject(c *counter) drivertest.Subject {
	s := drivertest.Subject{
		Driver:     neo2.New(),
		Port:       drivers.Port{Kind: drivers.KindSerial, Path: "serial", Explicit: true},
		Peer:       c.peer,
		Want:       drivers.Identity{Vendor: "ID TECH", Model: "VP3300", Serial: "0123456789ABCDEF", Firmware: "VP3300 VIRTUAL 1.0"},
		Operations: []drivertest.Operation{saleOf(1250, emv.EntryContact), saleOf(700)},
		Nak:        mustAnswer(0x18, byte(neo2.BadCRC)),
		Secrets:    []string{theCard().PAN(), theCard().Track2(), strings.ReplaceAll(theCard().Track2(), "D", "=")},
		Books:      c.books,
		Opens:      scale(20, 500),
	}
	if c.entry != "insert" {
		s.Operations = []drivertest.Operation{saleOf(1250, emv.EntryContactless, emv.EntrySwipe), saleOf(700)}
	}
	if c.o.HID {
		s.Port, s.Messages = drivers.Port{Kind: drivers.KindHID, Path: "hid", VID: 0x0ACD, PID: 0x3530}, true
		s.Nak = neo2.AppendReports(nil, s.Nak)
		s.Garbage = append([]byte{3}, make([]byte, 63)...)
	}
	return s
}

func mustAnswer(command, status byte) []byte {
	b, err := neo2.Append(nil, neo2.FromReader, neo2.Frame{Command: command, Code: status})
	if err != nil {
		panic(err)
	}
	return b
}

func TestConform(t *testing.T) {
	for _, hid := range []bool{false, true} {
		for _, entry := range []string{"insert", "tap", "swipe"} {
			t.Run(map[bool]string{false: "serial", true: "hid"}[hid]+" "+entry, func(t *testing.T) {
				drivertest.Conform(t, subject(newCounter(entry, hid)))
			})
		}
	}
}

// scale returns small, or large where TILLBRIDGE_LARGE asks for it.
func scale(small, large int) int {
	if os.Getenv("TILLBRIDGE_LARGE") != "" {
		return large
	}
	return small
}

// No amount is wrong and no card is charged twice on a line with 1 % noise of
// every kind, by the reader's own books.
func TestStorm(t *testing.T) {
	for _, hid := range []bool{false, true} {
		for _, entry := range []string{"insert", "tap"} {
			t.Run(map[bool]string{false: "serial", true: "hid"}[hid]+" "+entry, func(t *testing.T) {
				o := drivertest.Every(0.01)
				o.Rate[drivertest.FaultHangUp] = 0.001
				tally := drivertest.Storm(t, subject(newCounter(entry, hid)), scale(60, 2500), 1000, o)
				t.Log(tally)
				if tally.Through == 0 || tally.GaveUp == 0 {
					t.Error("a storm in which nothing comes through, or everything, shows nothing")
				}
			})
		}
	}
}
