package zvt_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"tillbridge/drivers"
	virtual "tillbridge/drivers/virtual/zvt"
)

// cutter hangs up at the n-th read or write, before or after it.
type cutter struct {
	drivers.Transport
	left  int
	after bool
	done  bool
}

func (c *cutter) step() (cut bool) {
	c.left--
	return c.left == 0
}

func (c *cutter) Read(ctx context.Context, b []byte) (int, error) {
	cut := c.step()
	if cut && !c.after {
		c.done = true
		c.Transport.Close()
		return 0, drivers.ErrUnplugged
	}
	n, err := c.Transport.Read(ctx, b)
	if cut {
		c.done = true
		c.Transport.Close()
	}
	return n, err
}

func (c *cutter) Write(ctx context.Context, b []byte) (int, error) {
	cut := c.step()
	if cut && !c.after {
		c.done = true
		k, _ := c.Transport.Write(ctx, b[:len(b)/2])
		c.Transport.Close()
		return k, drivers.ErrUnplugged
	}
	n, err := c.Transport.Write(ctx, b)
	if cut {
		c.done = true
		c.Transport.Close()
	}
	return n, err
}

// The line hangs up at each read and write of each family of commands. What
// the driver says, or the terminal's record when it cannot say, is what the
// books have; nothing is done twice.
func TestHangUpInEachPhase(t *testing.T) {
	families := []struct {
		op     drivers.TerminalOp
		before drivers.TerminalOp // what it is about
		amount int64
		kind   string
	}{
		{drivers.OpSale, "", 1610, virtual.KindSale},
		{drivers.OpReservation, "", 1610, virtual.KindReservation},
		{drivers.OpRefund, drivers.OpSale, 1610, virtual.KindRefund},
		{drivers.OpReversal, drivers.OpSale, 1610, virtual.KindReversal},
		{drivers.OpCapture, drivers.OpReservation, 1000, virtual.KindCapture},
		{drivers.OpRelease, drivers.OpReservation, 1610, virtual.KindRelease},
	}
	unknown := 0
	for _, f := range families {
		for _, framed := range []bool{true, false} {
			for _, after := range []bool{false, true} {
				reached := true
				for n := 1; reached && !t.Failed(); n++ {
					synctest.Test(t, func(t *testing.T) {
						term, err := virtual.New(virtual.Options{Auto: "visa"})
						if err != nil {
							t.Fatal(err)
						}
						c := &till{t: t, ctx: t.Context(), framed: framed, params: map[string]string{"receipts": "ecr"}, term: term}
						var cut *cutter
						c.wrap = func(l drivers.Transport) drivers.Transport { cut = &cutter{Transport: l, after: after}; return cut }
						defer func() { c.dev.Close(); c.lines.Wait() }()
						if err := c.connect(); err != nil {
							t.Fatal(err)
						}
						first := f.before
						if first == "" {
							first = drivers.OpSale
						}
						old, err := c.perform(euros(first, 1610))
						if err != nil || old.Result != drivers.Approved {
							t.Fatalf("before: %+v, %v", old, err)
						}
						r := euros(f.op, f.amount)
						r.Original = old.Reference
						if f.before == "" {
							r.Amount++ // another customer
						}
						cut.left = n
						a, err := c.perform(r)
						reached = cut.done
						cut.left = 0
						done := a.Result == drivers.Approved
						if a.Result == drivers.Unknown {
							unknown++
							c.reconnect()
							var last drivers.TerminalAnswer
							if last, err = c.last(); err != nil {
								t.Fatalf("%s %d: the record: %v", f.op, n, err)
							}
							done = last.Reference != old.Reference && last.Result == drivers.Approved
						}
						if !reached && (!done || err != nil) {
							t.Errorf("%s without a cut: %+v, %v", f.op, a, err)
						}
						b, kept := term.Books(), 0
						for _, x := range b.Records[1:] {
							switch {
							case x.Kind != f.kind || x.Asked != r.Amount:
								t.Errorf("%s %d made a %s of %d", f.op, n, x.Kind, x.Asked)
							case x.Result == 0 && !x.Undone:
								kept++
							}
						}
						if kept > 1 || done != (kept == 1) || b.DoubleCharges != 0 && f.op != drivers.OpRefund {
							t.Errorf("%s, framed %v, cut %d (after %v): the driver says %s %v, the register knows %v, the books %d times: %+v",
								f.op, framed, n, after, a.Result, err, done, kept, b.Records)
						}
					})
				}
			}
		}
	}
	if unknown == 0 {
		t.Error("no cut left an outcome unknown")
	}
	t.Logf("%d outcomes were unknown", unknown)
}

// The line hangs up at each read and write of what moves no money, opening
// with initialisation among it. Each ends, and a new line works.
func TestHangUpWithoutMoney(t *testing.T) {
	for name, do := range map[string]func(c *till) error{
		"open":    func(*till) error { return nil },
		"health":  func(c *till) error { _, err := c.dev.Health(c.ctx); return err },
		"record":  func(c *till) error { _, err := c.last(); return err },
		"display": func(c *till) error { return c.dev.(drivers.Display).Display(c.ctx, "HALLO") },
		"end of day": func(c *till) error {
			s, err := c.dev.(drivers.Settler).Settle(c.ctx)
			if (s.Result == drivers.Approved) != (err == nil) && s.Result != drivers.Approved {
				return errors.Join(err, fmt.Errorf("%s", s.Result))
			}
			return err
		},
	} {
		for _, framed := range []bool{true, false} {
			reached := true
			for n := 1; reached && !t.Failed(); n++ {
				synctest.Test(t, func(t *testing.T) {
					term, err := virtual.New(virtual.Options{Auto: "visa", Init: true})
					if err != nil {
						t.Fatal(err)
					}
					c := &till{t: t, ctx: t.Context(), framed: framed, params: map[string]string{"receipts": "ecr"}, term: term}
					var cut *cutter
					c.wrap = func(l drivers.Transport) drivers.Transport {
						cut = &cutter{Transport: l}
						if name == "open" && reached {
							cut.left = n
						}
						return cut
					}
					defer func() { c.dev.Close(); c.lines.Wait() }()
					if name == "open" {
						err := c.connect()
						reached = cut.done
						if (err == nil) == reached {
							t.Errorf("open, cut %d reached %v: %v", n, reached, err)
						}
						if err == nil {
							return
						}
						c.lines.Wait()
						c.wrap = nil
						c.dev = nil
						c.reconnect()
						return
					}
					if err := c.connect(); err != nil {
						t.Fatal(err)
					}
					if a, err := c.perform(euros(drivers.OpSale, 1610)); err != nil || a.Result != drivers.Approved {
						t.Fatalf("%+v, %v", a, err)
					}
					cut.left = n
					err = do(c)
					reached = cut.done
					if !reached && err != nil {
						t.Errorf("%s: %v", name, err)
					}
					cut.left = 0
					c.reconnect()
					if h, err := c.dev.Health(c.ctx); err != nil || !h.OK {
						t.Errorf("%s, cut %d: %+v, %v", name, n, h, err)
					}
					if b := term.Books(); b.Net["978"] != 1610 {
						t.Errorf("%s, cut %d: %+v", name, n, b)
					}
				})
			}
		}
	}
}
