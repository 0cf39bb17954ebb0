package abecs_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/abecs"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// The driver against the virtual pad: they share the framing and nothing else.

// padCard is one card for all runs.
var padCard = sync.OnceValue(newCard)

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

// counter is a row of virtual pads, each fresh from power-on, and their books.
type counter struct {
	entry string
	card  *virtualcard.Card
	think int // milliseconds before the customer does what is asked for
	keys  []virtual.InitialKey

	mu   sync.Mutex
	pads []*virtual.Pad
}

func newCounter(entry string) *counter {
	key := func(use, ksn string) virtual.InitialKey {
		b := make([]byte, 16)
		rand.Read(b)
		return virtual.InitialKey{Use: use, KSN: ksn, Key: hex.EncodeToString(b)}
	}
	return &counter{entry: entry, card: padCard(), think: 1500, keys: []virtual.InitialKey{key("pin", "FFFF9876543210E00000"), key("data", "FFFF9876543211E00000")}}
}

func (c *counter) peer(line io.ReadWriteCloser) {
	p, err := virtual.New(virtual.Options{Keys: c.keys, Cards: map[string]*virtualcard.Card{"visa": c.card}})
	if err == nil {
		err = p.Do(virtual.Step{Do: "auto", Card: "visa", Entry: c.entry, AfterMS: c.think})
	}
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	c.pads = append(c.pads, p)
	c.mu.Unlock()
	p.Run(context.Background(), line)
}

// books judges a run by what the pads of the run wrote down.
func (c *counter) books(op, outcome string, err error) error {
	c.mu.Lock()
	pads := c.pads
	c.pads = nil
	c.mu.Unlock()
	amount, isSale := strings.CutPrefix(op, "sale ")
	want, _ := strconv.ParseInt(amount, 10, 64)
	cards, charged := 0, 0
	for _, p := range pads {
		for _, b := range p.Books() {
			cards++
			if !isSale {
				return fmt.Errorf("%s reached a card", op)
			}
			if b.Amount != want || b.Currency != "978" {
				return fmt.Errorf("the card signed %d %s, the sale was %d 978", b.Amount, b.Currency, want)
			}
			if b.Final == "approved" {
				charged++
			}
		}
	}
	switch {
	case cards > 1:
		return fmt.Errorf("the card was asked %d times", cards)
	case err == nil && isSale && strings.HasPrefix(outcome, "approved") && charged != 1:
		return fmt.Errorf("the driver says approved, the books %d times", charged)
	case err == nil && isSale && !strings.HasPrefix(outcome, "approved") && charged != 0:
		return fmt.Errorf("the driver says %q, the books say approved", outcome)
	}
	return nil
}

func saleOf(amount int64) drivertest.Operation {
	return drivertest.Operation{Name: fmt.Sprintf("sale %d", amount), Run: func(ctx context.Context, d drivers.Device) (string, error) {
		s, err := d.(drivers.CardSession).Begin(ctx)
		if err != nil {
			return "", err
		}
		a := emv.Amounts{Amount: amount, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2}
		card, err := s.Read(ctx, emv.Terms{Amounts: a, Time: time.Date(2026, 11, 30, 21, 0, 0, 0, time.UTC)})
		if err != nil {
			return "", err
		}
		if card.Data.Empty() || card.Last4 != padCard().PAN()[12:] {
			return "", fmt.Errorf("the card was not read: %s", card.Data)
		}
		o, err := s.Authorize(ctx, a)
		if err != nil {
			return "", err
		}
		if o.Decision == emv.OnlineRequest {
			if o, err = s.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"}); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%s %d %s", o.Decision, amount, card.Entry), nil
	}}
}

func subject(c *counter) drivertest.Subject {
	pan := padCard().PAN()
	return drivertest.Subject{
		Driver: abecs.New(),
		Peer:   c.peer,
		Want:   drivers.Identity{Vendor: "TILLBRIDGE", Model: "VIRTUAL-1", Serial: "VP000001"},
		Operations: []drivertest.Operation{
			{Name: "display", Run: func(ctx context.Context, d drivers.Device) (string, error) {
				return "shown", d.(drivers.Display).Display(ctx, "WELCOME")
			}},
			saleOf(1250), saleOf(700),
		},
		Nak:     []byte{0x15},
		Secrets: []string{pan, strings.ReplaceAll(padCard().Track2(), "D", "="), padCard().Track2()},
		Books:   c.books,
		Opens:   scale(30, 500),
	}
}

func TestConform(t *testing.T) {
	for _, entry := range []string{"insert", "tap"} {
		t.Run(entry, func(t *testing.T) { drivertest.Conform(t, subject(newCounter(entry))) })
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
// every kind, by the pad's own books.
func TestStorm(t *testing.T) {
	for _, entry := range []string{"insert", "tap"} {
		t.Run(entry, func(t *testing.T) {
			o := drivertest.Every(0.01)
			o.Rate[drivertest.FaultHangUp] = 0.001
			tally := drivertest.Storm(t, subject(newCounter(entry)), scale(150, 10000), 1000, o)
			t.Log(tally)
			if tally.Through == 0 || tally.GaveUp == 0 {
				t.Error("a storm in which nothing comes through, or everything, shows nothing")
			}
		})
	}
}

// The rest of the pad's capabilities over the same wire.
func TestScreenKeysAndTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{})
		pad, err := virtual.New(virtual.Options{Keys: newCounter("insert").keys, Cards: map[string]*virtualcard.Card{"visa": padCard()}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); pad.Run(t.Context(), device.Stream()) }()
		dev, err := abecs.New().Open(t.Context(), host, drivers.Config{Name: "pad", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { dev.Close(); <-done }()
		if err := dev.(drivers.Display).Display(t.Context(), "GOOD\nMORNING"); err != nil || !strings.Contains(pad.Shown(), "MORNING") {
			t.Errorf("display: %v, shown %q", err, pad.Shown())
		}
		pad.Do(virtual.Step{Do: "choose", N: 2, AfterMS: 500})
		if i, err := dev.(drivers.Input).Menu(t.Context(), "LANGUAGE", []string{"one", "two"}); err != nil || i != 1 {
			t.Errorf("menu: %d %v", i, err)
		}
		pad.Do(virtual.Step{Do: "key", Key: "f2"})
		if key, err := dev.(drivers.Input).Key(t.Context()); err != nil || key == "" {
			t.Errorf("key: %q %v", key, err)
		}
		record := strings.Join([]string{"284", "1", "02", "07", "07", "A0000000031010" + strings.Repeat("0", 18), "01", "VISA            ", "03",
			"008C", "008D", "0096", "250", "978", "2", "MERCHANT0000001", "5999", "TERM0001", "E06800", "7000F0A001", "22",
			"DC4000A800", "0010000000", "DC4004F800", "00000000", "R", "1", "1", "00001000", "00000000", "00000500", "0096", "0",
			strings.Repeat("0", 40), strings.Repeat("0", 40), "Y1Z1Y3Z3"}, "")
		tables := dev.(drivers.TableLoader)
		if err := tables.LoadTables(t.Context(), "0000000123", []string{record}); err != nil {
			t.Errorf("load tables: %v", err)
		}
		if v, err := tables.TableVersion(t.Context()); err != nil || v != "0000000123" {
			t.Errorf("table version: %q %v", v, err)
		}
	})
}
