package zvt_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/zvt"
	"tillbridge/drivers/zvt"
)

// ending is what a register knows of a sale at last.
type ending struct {
	a     drivers.TerminalAnswer
	asked int // times the record was read
}

// sellKnowing sells on lines that open makes, and asks the terminal's own
// record, on new lines, until the end is known. before is what the terminal
// had done until then.
func sellKnowing(ctx context.Context, open func(ctx context.Context) (drivers.Device, error), amount int64, before drivers.TerminalReference) (ending, error) {
	var e ending
	started := false
	for range 60 {
		d, err := open(ctx)
		if err != nil {
			select {
			case <-time.After(200 * time.Millisecond):
				continue
			case <-ctx.Done():
				return e, ctx.Err()
			}
		}
		if !started {
			started = true
			e.a, _ = d.(drivers.PaymentTerminal).Perform(ctx, euros(drivers.OpSale, amount))
			if e.a.Result != drivers.Unknown {
				d.Close()
				return e, nil
			}
		} else {
			var a drivers.TerminalAnswer
			if a, err = d.(drivers.LastTransaction).Last(ctx); err == nil && a.Result != drivers.Unknown {
				d.Close()
				e.asked++
				if a.Reference == before {
					a.Result, a.Amount = drivers.NotStarted, 0
				}
				e.a = a
				return e, nil
			}
		}
		d.Close()
	}
	return e, fmt.Errorf("the end of the sale stays unknown: %w", ctx.Err())
}

// judge compares what the register knows with the terminal's books.
func judge(t *virtual.Terminal, e ending, amount, earlier int64) error {
	b := t.Books()
	net := b.Net["978"] - earlier
	switch {
	case b.DoubleCharges != 0:
		return fmt.Errorf("%d double charges", b.DoubleCharges)
	case net != 0 && net != amount:
		return fmt.Errorf("the terminal took %d, the sale was %d", net, amount)
	case (e.a.Result == drivers.Approved) != (net == amount):
		return fmt.Errorf("the register says %s %d, the terminal took %d", e.a.Result, e.a.Amount, net)
	case e.a.Result == drivers.Approved && e.a.Amount != amount:
		return fmt.Errorf("the register says approved %d, the sale was %d", e.a.Amount, amount)
	}
	return nil
}

// TestNoisyExchangesEndKnown: on a line with 1 % noise of every kind each sale
// ends known, as the terminal's books have it: no wrong amount, no double
// charge, nothing guessed. TILLBRIDGE_LARGE=1 plays 10,000.
func TestNoisyExchangesEndKnown(t *testing.T) {
	n := scale(300, 10000)
	o := drivertest.Every(0.01)
	o.Rate[drivertest.FaultHangUp] = 0.002
	recovered, approved := 0, 0
	faults := map[drivertest.Fault]int{}
	for i := 0; i < n && !t.Failed(); i++ {
		seed, amount := uint64(90000+i), int64(1000+16*(i%50))
		synctest.Test(t, func(t *testing.T) {
			term, err := virtual.New(virtual.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c := &till{t: t, ctx: t.Context(), framed: true, params: map[string]string{"receipts": []string{"terminal", "ecr"}[i%2]}, term: term}
			if err := c.connect(); err != nil {
				t.Fatal(err)
			}
			c.do(virtual.Step{Do: "auto", Card: "visa", Entry: "insert", AfterMS: 700})
			before, err := c.perform(euros(drivers.OpSale, 100))
			if err != nil || before.Result != drivers.Approved {
				t.Fatalf("the sale before: %+v, %v", before, err)
			}
			c.dev.Close()
			c.lines.Wait()
			life := uint64(0)
			var proxies []*drivertest.NoiseProxy
			c.wrap = func(l drivers.Transport) drivers.Transport {
				life++
				p := drivertest.Noise(l, seed+life<<32, o)
				proxies = append(proxies, p)
				return p
			}
			ctx, cancel := context.WithTimeout(c.ctx, 2*time.Hour)
			defer cancel()
			e, err := sellKnowing(ctx, func(context.Context) (drivers.Device, error) {
				err := c.connect()
				return c.dev, err
			}, amount, before.Reference)
			c.lines.Wait()
			if err == nil {
				err = judge(term, e, amount, 100)
			}
			for _, p := range proxies {
				for f, k := range p.Injected() {
					faults[f] += k
				}
			}
			if err != nil {
				t.Errorf("seed %d: %v %v: %+v", seed, err, proxies, term.Books().Records)
			}
			recovered += e.asked
			if e.a.Result == drivers.Approved {
				approved++
			}
		})
	}
	t.Logf("%d exchanges: %d approved, %d known by the terminal's record only, faults %v", n, approved, recovered, faults)
	if recovered == 0 || approved == 0 {
		t.Error("noise in which nothing is lost, or everything, shows nothing")
	}
}

var quiet = slog.New(slog.DiscardHandler)

func openOn(ctx context.Context, l drivers.Transport) (drivers.Device, error) {
	return zvt.Driver{}.Open(ctx, l, drivers.Config{Name: "till", Log: quiet})
}
