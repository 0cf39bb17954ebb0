package abecs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/abecs"
	"tillbridge/emv"
)

// driver is shared: making its RSA key takes time.
var driver = abecs.New()

// join puts a virtual pad on a line in memory and opens it.
func join(t *testing.T, s *shelf) (*virtual.Pad, drivers.Device) {
	t.Helper()
	p := s.pad()
	host, device := drivertest.Pipe(drivertest.PipeOptions{})
	done := make(chan struct{})
	go func() { defer close(done); p.Run(context.Background(), device.Stream()) }()
	dev, err := driver.Open(t.Context(), host, drivers.Config{Params: params})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close(); <-done })
	return p, dev
}

func do(t *testing.T, p *virtual.Pad, steps ...virtual.Step) {
	t.Helper()
	for _, s := range steps {
		if err := p.Do(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVirtualPadEveryWayToPay(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []virtual.Step
		entry emv.Entry
		pin   bool
	}{
		{"chip and PIN", []virtual.Step{{Do: "insert", Card: "visa-credit", AfterMS: 40000}, {Do: "pin", AfterMS: 30000}}, emv.EntryContact, true},
		{"tap", []virtual.Step{{Do: "tap", Card: "visa-credit", AfterMS: 2000}}, emv.EntryContactless, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, dev := join(t, &shelf{})
				do(t, p, c.steps...)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				pay, err := dev.(drivers.CardSession).Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				got, err := pay.Read(ctx, terms())
				if err != nil {
					t.Fatal(err)
				}
				if got.Entry != c.entry || got.Last4 != card().PAN()[len(card().PAN())-4:] || got.CryptogramMade != (c.entry == emv.EntryContactless) || got.AID == "" {
					t.Errorf("card %+v", got)
				}
				o, err := pay.Authorize(ctx, terms().Amounts)
				if err != nil {
					t.Fatal(err)
				}
				if o.Decision != emv.OnlineRequest || o.PIN.Empty() == c.pin || o.Cryptogram != p.Books()[0].Cryptogram {
					t.Errorf("outcome %+v", o)
				}
				o, err = pay.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
				if err != nil || o.Decision != emv.Approved {
					t.Errorf("outcome %+v, %v", o, err)
				}
				if b := p.Books(); len(b) != 1 || b[0].Final != "approved" || b[0].Amount != 1000 {
					t.Errorf("the pad's books %+v", b)
				}
			})
		})
	}
}

func TestVirtualPadRefusesTheStripeOfAChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := join(t, &shelf{})
		do(t, p, virtual.Step{Do: "swipe", Card: "visa-credit"})
		if _, err := sale(t.Context(), dev); !errors.Is(err, abecs.ErrUseChip) {
			t.Errorf("%v, want ErrUseChip", err)
		}
	})
}

func TestVirtualPadCustomersWhoDoNotPay(t *testing.T) {
	insert := virtual.Step{Do: "insert", Card: "visa-credit"}
	for name, c := range map[string]struct {
		steps []virtual.Step
		want  error
	}{
		"cancel instead of a card": {[]virtual.Step{{Do: "cancel"}}, drivers.ErrCancelled},
		"walks away":               {[]virtual.Step{{Do: "walk-away"}}, drivers.ErrTimeout},
		"cancel instead of a PIN":  {[]virtual.Step{insert, {Do: "cancel"}}, drivers.ErrCancelled},
		"no PIN":                   {[]virtual.Step{insert, {Do: "walk-away"}}, drivers.ErrTimeout},
		"takes the card out":       {[]virtual.Step{{Do: "pull", At: "GOX"}, insert}, drivers.ErrCardGone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, dev := join(t, &shelf{})
				do(t, p, c.steps...)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				if out, err := sale(ctx, dev, emv.EntryContact); !errors.Is(err, c.want) {
					t.Errorf("%q, %v; want %v", out, err, c.want)
				}
				// The next customer pays.
				do(t, p, virtual.Step{Do: "forget"}, virtual.Step{Do: "auto", Card: "visa-credit"})
				if out, err := sale(ctx, dev, emv.EntryContact); err != nil || !strings.HasPrefix(out, "approved") {
					t.Errorf("next: %q, %v", out, err)
				}
			})
		})
	}
}

func TestVirtualPadCardRefusesWhatTheHostApproved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := join(t, &shelf{auto: true})
		do(t, p, virtual.Step{Do: "fault", Fault: "card-declines"})
		pay, err := dev.(drivers.CardSession).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pay.Read(t.Context(), terms(emv.EntryContact)); err != nil {
			t.Fatal(err)
		}
		if _, err := pay.Authorize(t.Context(), terms().Amounts); err != nil {
			t.Fatal(err)
		}
		o, err := pay.Complete(t.Context(), emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
		if err != nil || o.Decision != emv.Declined || !o.ReversalNeeded {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

func TestVirtualPadLineFaults(t *testing.T) {
	for _, f := range []virtual.Step{
		{Fault: "drop-ack"}, {Fault: "bad-crc"}, {Fault: "nak", N: 2}, {Fault: "split", MS: 250}, {Fault: "duplicate"}, {Fault: "noise"},
		{Fault: "stall", MS: 3000}, {Fault: "late", MS: 15000}, {Fault: "drop-response"},
	} {
		t.Run(f.Fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{auto: true}
				p, dev := join(t, s)
				f.Do = "fault"
				do(t, p, f)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				out, err := sale(ctx, dev, emv.EntryContact)
				cancel()
				if bad := s.books("sale", out, err); bad != nil {
					t.Error(bad)
				}
				do(t, p, virtual.Step{Do: "fault", Fault: "clear"})
				if _, err := dev.Health(t.Context()); err != nil {
					t.Errorf("the pad does not come back: %v", err)
				}
				t.Logf("%q, %v", out, err)
			})
		})
	}
}

func TestVirtualPadMenuKeysAndTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := join(t, &shelf{})
		do(t, p, virtual.Step{Do: "choose", N: 2}, virtual.Step{Do: "key", Key: "f2"})
		if i, err := dev.(drivers.Input).Menu(t.Context(), "TIP?", []string{"NONE", "10 %"}); err != nil || i != 1 {
			t.Errorf("menu %d, %v", i, err)
		}
		if k, err := dev.(drivers.Input).Key(t.Context()); err != nil || k != "f2" {
			t.Errorf("key %q, %v", k, err)
		}
		tl := dev.(drivers.TableLoader)
		before, err := tl.TableVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("tables %q", before)
	})
}

// TestNoisyLineNeverApprovesAnotherAmount plays sales over a line that flips,
// drops, doubles, splits, delays and stalls. What the driver says is compared
// with the pad's own books.
func TestNoisyLineNeverApprovesAnotherAmount(t *testing.T) {
	exchanges := 600
	if os.Getenv("TILLBRIDGE_LARGE") == "1" {
		exchanges = 10000
	}
	seed := uint64(20261130)
	if v, err := strconv.ParseUint(os.Getenv("TILLBRIDGE_SEED"), 10, 64); err == nil {
		seed, exchanges = v, 1
	}
	approved, failed, n := 0, 0, 0
	for ; n < exchanges; seed++ {
		sales, err := noisy(t, seed, &approved, &failed)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		n += sales
	}
	if approved == 0 || failed == 0 && exchanges > 100 {
		t.Errorf("%d approved, %d failed: the noise proves nothing", approved, failed)
	}
	t.Logf("%d exchanges, %d sales approved, %d gave no result", n, approved, failed)
}

// noisy opens one pad on a noisy line and runs sales until it is lost. It
// returns the number of exchanges, seven for a sale.
func noisy(t *testing.T, seed uint64, approved, failed *int) (exchanges int, wrong error) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{auto: true}
		p := s.pad()
		host, device := drivertest.Pipe(drivertest.PipeOptions{Merge: true})
		done := make(chan struct{})
		go func() { defer close(done); p.Run(context.Background(), device.Stream()) }()
		proxy := drivertest.Noise(host, seed, drivertest.Every(0.01))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		dev, err := driver.Open(ctx, proxy, drivers.Config{Params: params, Log: slog.New(slog.DiscardHandler)})
		exchanges += 3
		if err != nil {
			host.Close()
			device.Close()
			<-done
			*failed++
			return
		}
		defer func() { dev.Close(); device.Close(); <-done }()
		for range 8 {
			limit, cancel := context.WithTimeout(ctx, 3*time.Minute)
			before := len(p.Books())
			out, err := sale(limit, dev, emv.EntryContact)
			cancel()
			exchanges += 7
			lines := p.Books()[before:]
			if len(lines) > 1 {
				wrong = errors.Join(wrong, fmt.Errorf("%d cryptograms for one sale", len(lines)))
			}
			for _, l := range lines {
				if l.Amount != 1000 || l.Currency != "978" {
					wrong = errors.Join(wrong, fmt.Errorf("the card was asked for %d %s", l.Amount, l.Currency))
				}
			}
			switch {
			case err != nil:
				*failed++
			case strings.HasPrefix(out, "approved"):
				*approved++
				if len(lines) != 1 || lines[0].Final != "approved" {
					wrong = errors.Join(wrong, fmt.Errorf("the driver says approved, the pad %+v", lines))
				}
			}
			if errors.Is(err, drivers.ErrUnplugged) {
				return
			}
		}
	})
	return exchanges, wrong
}
