package abecs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tillbridge/drivers"
	virtual "tillbridge/drivers/virtual/abecs"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// card is the customer's card in these tests: online PIN, no RSA to make.
var card = sync.OnceValue(func() *virtualcard.Card {
	p, err := virtualcard.Named("visa-credit")
	if err != nil {
		panic(err)
	}
	p.ODA = virtualcard.ODANone
	c, err := virtualcard.New(&virtualcard.Options{Seed: 7}, p)
	if err != nil {
		panic(err)
	}
	return c
})

// keys are initial keys of no meaning.
func keys() []virtual.InitialKey {
	return []virtual.InitialKey{
		{Use: "pin", Slot: 1, KSN: "FFFF9876543210E00000", Key: "6AC292FAA1315B4D858AB3A3D7D5933A"},
		{Use: "data", Slot: 2, KSN: "FFFF9876543211E00000", Key: "5AC292FAA1315B4D858AB3A3D7D5933B"},
	}
}

var params = map[string]string{"pin_slot": "1", "data_slot": "2"}

// shelf makes pads fresh from power-on and remembers the last.
type shelf struct {
	mu   sync.Mutex
	last *virtual.Pad
	auto bool
}

func (s *shelf) pad() *virtual.Pad {
	o := virtual.Options{Serial: "VP000001", Keys: keys(), Cards: map[string]*virtualcard.Card{"visa-credit": card()}}
	if s.auto {
		o.Auto = "visa-credit"
	}
	p, err := virtual.New(o)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = p
	return p
}

// books is the pad's own account against what the driver said.
func (s *shelf) books(op, outcome string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return nil
	}
	lines := s.last.Books()
	approved := 0
	for _, l := range lines {
		if l.Amount != 1000 || l.Currency != "978" {
			return fmt.Errorf("the card was asked for %d %s", l.Amount, l.Currency)
		}
		if l.Final == "approved" {
			approved++
		}
	}
	switch {
	case len(lines) > 1:
		return fmt.Errorf("one sale and %d cryptograms", len(lines))
	case op == "sale" && err == nil && strings.HasPrefix(outcome, "approved") && approved != 1:
		return fmt.Errorf("the driver says approved, the pad has %d approvals", approved)
	}
	return nil
}

func terms(entries ...emv.Entry) emv.Terms {
	return emv.Terms{Amounts: emv.Amounts{Amount: 1000, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2},
		Entries: entries, Time: time.Date(2026, 11, 30, 12, 34, 56, 0, time.UTC)}
}

// sale runs one sale that the host approves.
func sale(ctx context.Context, d drivers.Device, entries ...emv.Entry) (string, error) {
	if err := d.(drivers.CardRemover).RemoveCard(ctx, "REMOVE CARD"); err != nil {
		return "", err
	}
	pay, err := d.(drivers.CardSession).Begin(ctx)
	if err != nil {
		return "", err
	}
	c, err := pay.Read(ctx, terms(entries...))
	if err != nil {
		return "", err
	}
	o, err := pay.Authorize(ctx, terms().Amounts)
	if err != nil {
		return "", err
	}
	if o.Decision != emv.OnlineRequest {
		return fmt.Sprint(o.Decision), nil
	}
	if c.Data.Empty() || c.Last4 == "" {
		return "", errors.New("no card data")
	}
	o, err = pay.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s 1000 978 %s %s", o.Decision, c.Entry, c.Last4), nil
}
