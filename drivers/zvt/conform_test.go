package zvt_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/zvt"
	"tillbridge/drivers/zvt"
)

// The driver against the virtual terminal: they share the DLE framing and
// nothing else.

// counter is a row of virtual terminals, each fresh from power-on, and their
// books.
type counter struct {
	framed bool
	setup  func(*virtual.Terminal)

	mu        sync.Mutex
	terminals []*virtual.Terminal
}

func (c *counter) peer(line io.ReadWriteCloser) {
	t, err := virtual.New(virtual.Options{})
	if err == nil {
		err = t.Do(virtual.Step{Do: "auto", Card: "visa", Entry: "tap", AfterMS: 1500})
	}
	if err != nil {
		panic(err)
	}
	if c.setup != nil {
		c.setup(t)
	}
	c.mu.Lock()
	c.terminals = append(c.terminals, t)
	c.mu.Unlock()
	_ = t.Run(context.Background(), line, c.framed)
}

// books judges a run by what the terminals of the run wrote down.
func (c *counter) books(op, outcome string, err error) error {
	c.mu.Lock()
	terminals := c.terminals
	c.terminals = nil
	c.mu.Unlock()
	amount, isSale := strings.CutPrefix(op, "sale ")
	want, _ := strconv.ParseInt(amount, 10, 64)
	kept := 0
	for _, t := range terminals {
		b := t.Books()
		if b.DoubleCharges != 0 {
			return fmt.Errorf("%d double charges", b.DoubleCharges)
		}
		for _, r := range b.Records {
			switch {
			case r.Kind == virtual.KindEndOfDay:
			case !isSale:
				return fmt.Errorf("%s made a %s", op, r.Kind)
			case r.Asked != want || r.Currency != 978 || r.Result == 0 && r.Amount != want:
				return fmt.Errorf("the books have %d of %d asked, the sale was %d", r.Amount, r.Asked, want)
			case r.Result == 0 && !r.Undone:
				kept++
			}
		}
	}
	switch {
	case kept > 1:
		return fmt.Errorf("charged %d times", kept)
	case err == nil && isSale && strings.HasPrefix(outcome, "approved") && kept != 1:
		return fmt.Errorf("the driver says approved, the books %d times", kept)
	case err == nil && isSale && !strings.HasPrefix(outcome, "approved") && kept != 0:
		return fmt.Errorf("the driver says %q, the books say approved", outcome)
	}
	return nil
}

func euros(op drivers.TerminalOp, amount int64) drivers.TerminalRequest {
	return drivers.TerminalRequest{Op: op, Amount: amount, Currency: "EUR", CurrencyNumeric: 978,
		Persist: func(context.Context, drivers.TerminalAnswer) error { return nil }}
}

// saleOf sells, and asks the terminal's own record when the answer is missing.
func saleOf(amount int64) drivertest.Operation {
	return drivertest.Operation{Name: fmt.Sprintf("sale %d", amount), Run: func(ctx context.Context, d drivers.Device) (string, error) {
		a, err := d.(drivers.PaymentTerminal).Perform(ctx, euros(drivers.OpSale, amount))
		if a.Result == drivers.Unknown || a.Result == drivers.NotStarted {
			if err == nil {
				err = fmt.Errorf("%s, code %s", a.Result, a.Raw)
			}
			return "", err
		}
		return fmt.Sprintf("%s %d %d", a.Result, a.Amount, a.CurrencyNumeric), err
	}}
}

func subject(c *counter) drivertest.Subject {
	s := drivertest.Subject{
		Driver: zvt.Driver{},
		Port:   drivers.Port{Kind: drivers.KindSerial, Path: "serial", Explicit: true},
		Peer:   c.peer,
		Want:   drivers.Identity{Serial: "52000001", Firmware: "VIRTUAL-ZVT 1.0"},
		Operations: []drivertest.Operation{
			{Name: "display", Run: func(ctx context.Context, d drivers.Device) (string, error) {
				return "shown", d.(drivers.Display).Display(ctx, "WILLKOMMEN")
			}},
			saleOf(1000), saleOf(2240),
			{Name: "end of day", Run: func(ctx context.Context, d drivers.Device) (string, error) {
				s, err := d.(drivers.Settler).Settle(ctx)
				return string(s.Result), err
			}},
		},
		Nak:      []byte{0x15},
		Secrets:  []string{"4111111111111111", "5555555555554444"},
		Books:    c.books,
		Deadline: 6 * 60e9,
		Opens:    scale(30, 500),
	}
	s.Reopens = true
	if !c.framed {
		s.Skip = map[string]string{"garbage before the answer": "TCP delivers bytes as they were sent"}
		s.Port = drivers.Port{Kind: drivers.KindTCP, Path: "127.0.0.1:20007", Explicit: true}
		s.Nak = nil
	}
	return s
}

func TestConform(t *testing.T) {
	for name, framed := range map[string]bool{"serial": true, "tcp": false} {
		t.Run(name, func(t *testing.T) {
			for _, receipts := range []string{"terminal", "ecr"} {
				t.Run("receipts "+receipts, func(t *testing.T) {
					s := subject(&counter{framed: framed})
					s.Config.Params = map[string]string{"receipts": receipts}
					drivertest.Conform(t, s)
				})
			}
		})
	}
}

// scale returns small, or large where TILLBRIDGE_LARGE asks for it.
func scale(small, large int) int {
	if os.Getenv("TILLBRIDGE_LARGE") != "" {
		return large
	}
	return small
}

// No amount is wrong and no customer is charged twice on a line with 1 % noise
// of every kind, by the terminal's own books.
func TestStorm(t *testing.T) {
	o := drivertest.Every(0.01)
	o.Rate[drivertest.FaultHangUp] = 0.001
	s := subject(&counter{framed: true})
	tally := drivertest.Storm(t, s, scale(300, 10000), 1000, o)
	t.Log(tally)
	if tally.Through == 0 || tally.GaveUp == 0 {
		t.Error("a storm in which nothing comes through, or everything, shows nothing")
	}
}
