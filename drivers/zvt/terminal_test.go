package zvt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/zvt"
	"tillbridge/drivers/zvt"
)

// till is a driver's side and a virtual terminal that outlives its lines. It
// lives in a synctest bubble.
type till struct {
	t      *testing.T
	ctx    context.Context
	framed bool
	params map[string]string
	term   *virtual.Terminal
	wrap   func(drivers.Transport) drivers.Transport
	tap    *tap
	lines  sync.WaitGroup
	dev    drivers.Device
}

// tap remembers what passed, in order.
type tap struct {
	drivers.Transport
	mu    sync.Mutex
	moved []piece
}

type piece struct {
	wrote bool
	data  []byte
}

func (p *tap) add(wrote bool, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = append(p.moved, piece{wrote, bytes.Clone(b)})
}

func (p *tap) Read(ctx context.Context, b []byte) (int, error) {
	n, err := p.Transport.Read(ctx, b)
	if n > 0 {
		p.add(false, b[:n])
	}
	return n, err
}

func (p *tap) Write(ctx context.Context, b []byte) (int, error) {
	p.add(true, b)
	return p.Transport.Write(ctx, b)
}

// count counts the writes that hold some bytes.
func (p *tap) count(part ...byte) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.moved {
		if m.wrote && bytes.Contains(m.data, part) {
			n++
		}
	}
	return n
}

// answeredLast reports whether an APDU was written after the last one that was
// read.
func (p *tap) answeredLast() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.moved) - 1; i >= 0 && p.moved[i].wrote; i-- {
		if len(p.moved[i].data) > 1 { // not an ACK
			return true
		}
	}
	return false
}

// connect opens the driver on a new line.
func (c *till) connect() error {
	kind := drivers.KindTCP
	if c.framed {
		kind = drivers.KindSerial
	}
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: drivers.Port{Kind: kind, Path: "line", Explicit: true}, Merge: true})
	c.lines.Go(func() { _ = c.term.Run(c.ctx, device.Stream(), c.framed) })
	c.tap = &tap{Transport: host}
	var line drivers.Transport = c.tap
	if c.wrap != nil {
		line = c.wrap(line)
	}
	d, err := zvt.Driver{}.Open(c.ctx, line, drivers.Config{Name: "till", Log: slog.New(slog.DiscardHandler), Params: c.params})
	c.dev = d
	return err
}

func (c *till) reconnect() {
	c.t.Helper()
	if c.dev != nil {
		c.dev.Close()
	}
	for range 20 { // the terminal may still be busy with what was lost
		err := c.connect()
		if err == nil {
			return
		}
		time.Sleep(time.Second)
	}
	c.t.Fatal("the terminal does not register again")
}

func (c *till) do(steps ...virtual.Step) {
	c.t.Helper()
	for _, s := range steps {
		if err := c.term.Do(s); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *till) perform(r drivers.TerminalRequest) (drivers.TerminalAnswer, error) {
	return c.dev.(drivers.PaymentTerminal).Perform(c.ctx, r)
}

func (c *till) last() (drivers.TerminalAnswer, error) {
	return c.dev.(drivers.LastTransaction).Last(c.ctx)
}

// play runs a story on a fresh terminal, on a serial line and on TCP.
func play(t *testing.T, o virtual.Options, params map[string]string, story func(t *testing.T, c *till)) {
	t.Helper()
	for _, framed := range []bool{true, false} {
		t.Run(map[bool]string{true: "serial", false: "tcp"}[framed], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				term, err := virtual.New(o)
				if err != nil {
					t.Fatal(err)
				}
				c := &till{t: t, ctx: t.Context(), framed: framed, params: params, term: term}
				if err := c.connect(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if c.dev != nil {
						c.dev.Close()
					}
					c.lines.Wait()
				}()
				story(t, c)
			})
		})
	}
}

var tapCard = virtual.Step{Do: "tap", Card: "visa"}

func fault(name string) virtual.Step { return virtual.Step{Do: "fault", Fault: name} }

// Every fault of terminal and line: what the driver says at once, what the
// terminal's own record says then, and what was charged.
func TestFaultsOfASale(t *testing.T) {
	for _, f := range []struct {
		fault  virtual.Step
		says   drivers.Result
		amount int64
		record drivers.Result // "" when there is nothing to ask
		net    int64
		serial bool // needs a serial line
		ecr    bool // we print
	}{
		{fault: virtual.Step{Do: "fault", Fault: "clear"}, says: drivers.Approved, amount: 1610, net: 1610},
		{fault: fault("lose-status"), says: drivers.Unknown, record: drivers.Approved, amount: 1610, net: 1610},
		{fault: fault("drop-after-ack"), says: drivers.Unknown, record: drivers.Approved, amount: 1610, net: 1610},
		{fault: fault("contradict"), says: drivers.Unknown, record: drivers.Approved, amount: 1610, net: 1610},
		{fault: fault("hang-up"), says: drivers.Unknown, record: drivers.Cancelled},
		{fault: fault("auto-reversal"), says: drivers.Unknown, record: drivers.Cancelled},
		{fault: fault("wrong-amount"), says: drivers.Unknown, record: drivers.Cancelled},
		{fault: fault("wrong-currency"), says: drivers.Unknown, record: drivers.Cancelled},
		{fault: fault("no-amount"), says: drivers.Unknown, record: drivers.Cancelled},
		{fault: fault("late"), says: drivers.Unknown, record: drivers.Cancelled},
		{fault: fault("print-lost"), says: drivers.Unknown, record: drivers.Cancelled, ecr: true},
		{fault: fault("partial"), says: drivers.Approved, amount: 805, net: 805},
		{fault: fault("busy"), says: drivers.NotStarted},
		{fault: fault("lose-reply"), says: drivers.Unknown, record: "older"},
		{fault: fault("stale"), says: drivers.Unknown, record: "older"},
		{fault: fault("garbage"), says: drivers.Approved, amount: 1610, net: 1610, serial: true},
		{fault: fault("bad-crc"), says: drivers.Approved, amount: 1610, net: 1610, serial: true},
		{fault: fault("nak"), says: drivers.Approved, amount: 1610, net: 1610, serial: true},
		{fault: fault("drop-ack"), says: drivers.Approved, amount: 1610, net: 1610, serial: true},
		{fault: fault("split"), says: drivers.Approved, amount: 1610, net: 1610},
		{fault: fault("stall"), says: drivers.Approved, amount: 1610, net: 1610},
		{fault: fault("duplicate"), says: drivers.Approved, amount: 1610, net: 1610, serial: true},
		{fault: virtual.Step{Do: "fault", Fault: "duplicate", N: 50}, says: drivers.Approved, amount: 1610, net: 1610, serial: true},
		{fault: virtual.Step{Do: "fault", Fault: "bad-crc", N: 50}, says: drivers.Unknown, record: "older", serial: true},
	} {
		params := map[string]string{}
		if f.ecr {
			params["receipts"] = "ecr"
		}
		t.Run(fmt.Sprintf("%s %d", f.fault.Fault, f.fault.N), func(t *testing.T) {
			play(t, virtual.Options{}, params, func(t *testing.T, c *till) {
				if f.serial && !c.framed {
					t.Skip("a fault of the serial line")
				}
				c.do(tapCard)
				if a, err := c.perform(euros(drivers.OpSale, 100)); a.Result != drivers.Approved || err != nil {
					t.Fatalf("the sale before: %+v, %v", a, err)
				}
				first, err := c.last()
				if err != nil || first.Reference.Trace != "000001" || first.Amount != 100 {
					t.Fatalf("its record: %+v, %v", first, err)
				}
				c.do(f.fault, tapCard)
				a, err := c.perform(euros(drivers.OpSale, 1610))
				if a.Result != f.says {
					t.Fatalf("the driver says %s, %v; want %s", a.Result, err, f.says)
				}
				if f.says == drivers.Approved && a.Amount != f.amount {
					t.Errorf("approved %d, want %d", a.Amount, f.amount)
				}
				c.do(fault("clear"), virtual.Step{Do: "forget"})
				if f.record != "" {
					if a, err := c.perform(euros(drivers.OpSale, 1610)); !errors.Is(err, zvt.ErrRecoverFirst) || a.Result != drivers.NotStarted {
						t.Errorf("a sale before the question: %s, %v", a.Result, err)
					}
					c.reconnect()
					r, err := c.last()
					switch {
					case err != nil:
						t.Errorf("the record: %v", err)
					case f.record == "older":
						if r.Reference != first.Reference {
							t.Errorf("the record is %+v, want the sale before", r)
						}
					case r.Reference.Trace != "000002" || r.Result != f.record || r.Result == drivers.Approved && r.Amount != f.amount:
						t.Errorf("the record says %s %d of trace %s, want %s %d", r.Result, r.Amount, r.Reference.Trace, f.record, f.amount)
					}
				}
				if b := c.term.Books(); b.Net["978"] != 100+f.net || b.Net["840"] != 0 || b.DoubleCharges != 0 {
					t.Errorf("the terminal's books: %v, %d double charges, want %d: %+v", b.Net, b.DoubleCharges, 100+f.net, b.Records)
				}
			})
		})
	}
}

func TestResultIsDurableBeforeItsAnswer(t *testing.T) {
	for _, receipts := range []string{"terminal", "ecr"} {
		play(t, virtual.Options{}, map[string]string{"receipts": receipts}, func(t *testing.T, c *till) {
			times := 0
			r := euros(drivers.OpSale, 1000)
			r.Persist = func(_ context.Context, a drivers.TerminalAnswer) error {
				times++
				if c.tap.answeredLast() {
					t.Error("the terminal had its answer before the result was stored")
				}
				if a.Result != drivers.Approved || a.Amount != 1000 || a.Reference.Trace == "" || a.Reference.Receipt == "" {
					t.Errorf("stored: %+v", a)
				}
				return nil
			}
			c.do(tapCard)
			if a, err := c.perform(r); a.Result != drivers.Approved || err != nil || times != 1 {
				t.Errorf("%+v, %v, stored %d times", a, err, times)
			} else if receipts == "ecr" && (len(a.Receipt) == 0 || !strings.Contains(strings.Join(a.Receipt, "\n"), "Bitte Beleg für Rückgabe aufbewahren")) {
				t.Errorf("receipt: %q", a.Receipt)
			}
		})
	}
}

func TestResultThatCannotBeStoredIsTakenBack(t *testing.T) {
	play(t, virtual.Options{}, nil, func(t *testing.T, c *till) {
		r := euros(drivers.OpSale, 1000)
		full := errors.New("disk full")
		r.Persist = func(context.Context, drivers.TerminalAnswer) error { return full }
		c.do(tapCard)
		if a, err := c.perform(r); a.Result != drivers.Unknown || !errors.Is(err, full) {
			t.Errorf("%s, %v", a.Result, err)
		}
		c.reconnect()
		if a, err := c.last(); err != nil || a.Result != drivers.Cancelled {
			t.Errorf("the record: %+v, %v", a, err)
		}
		if b := c.term.Books(); b.Net["978"] != 0 || b.Undone != 1 {
			t.Errorf("books: %+v", b)
		}
	})
}

// A sale whose frame is not acknowledged is not sent again: the terminal may
// have it.
func TestSaleIsNotSentAgain(t *testing.T) {
	play(t, virtual.Options{}, nil, func(t *testing.T, c *till) {
		c.do(fault("drop-ack"), virtual.Step{Do: "fault", Fault: "stall", MS: 20000}, tapCard)
		a, err := c.perform(euros(drivers.OpSale, 1234))
		if a.Result != drivers.Unknown || err == nil {
			t.Errorf("%s, %v", a.Result, err)
		}
		if n := c.tap.count(0x06, 0x01); n != 1 {
			t.Errorf("the sale was sent %d times", n)
		}
	})
}

func TestAbort(t *testing.T) {
	play(t, virtual.Options{}, nil, func(t *testing.T, c *till) {
		type end struct {
			a   drivers.TerminalAnswer
			err error
		}
		done := make(chan end)
		go func() {
			a, err := c.perform(euros(drivers.OpSale, 1000))
			done <- end{a, err}
		}()
		time.Sleep(3 * time.Second) // of the bubble: the terminal waits for a card
		if c.term.Waiting() != "customer" {
			t.Errorf("the terminal waits for %q", c.term.Waiting())
		}
		if _, err := c.dev.Health(c.ctx); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("health during a sale: %v", err)
		}
		if err := c.dev.(drivers.PaymentTerminal).Abort(c.ctx); err != nil {
			t.Error(err)
		}
		e := <-done
		if e.a.Result != drivers.Cancelled || e.err != nil {
			t.Errorf("%+v, %v", e.a, e.err)
		}
		// The line is fit for the next one: no reply is left over.
		c.do(tapCard)
		if a, err := c.perform(euros(drivers.OpSale, 700)); a.Result != drivers.Approved || err != nil {
			t.Errorf("the sale after an abort: %+v, %v", a, err)
		}
		if b := c.term.Books(); b.Net["978"] != 700 {
			t.Errorf("books: %+v", b)
		}
	})
}

// Amounts are minor units whatever the currency's exponent.
func TestCurrenciesWithOtherExponents(t *testing.T) {
	for _, cur := range []struct {
		letters string
		number  int
	}{{"JPY", 392}, {"KWD", 414}, {"CHF", 756}} {
		t.Run(cur.letters, func(t *testing.T) {
			play(t, virtual.Options{Currency: cur.number}, map[string]string{"currency": fmt.Sprintf("%03d", cur.number)}, func(t *testing.T, c *till) {
				c.do(tapCard)
				r := euros(drivers.OpSale, 101010)
				r.Currency, r.CurrencyNumeric = cur.letters, cur.number
				a, err := c.perform(r)
				if a.Result != drivers.Approved || a.Amount != 101010 || a.CurrencyNumeric != cur.number || err != nil {
					t.Errorf("%+v, %v", a, err)
				}
				if n := c.term.Books().Net[fmt.Sprint(cur.number)]; n != 101010 {
					t.Errorf("the terminal booked %d", n)
				}
				before := len(c.tap.moved)
				if a, err := c.perform(euros(drivers.OpSale, 100)); a.Result != drivers.NotStarted || err == nil || len(c.tap.moved) != before {
					t.Errorf("a sale in another currency: %s, %v", a.Result, err)
				}
			})
		})
	}
}

func TestReservationAndItsEnds(t *testing.T) {
	play(t, virtual.Options{}, nil, func(t *testing.T, c *till) {
		reserve := func() drivers.TerminalReference {
			t.Helper()
			c.do(tapCard)
			a, err := c.perform(euros(drivers.OpReservation, 5000))
			if a.Result != drivers.Approved || a.Amount != 5000 || err != nil {
				t.Fatalf("reservation: %+v, %v", a, err)
			}
			return a.Reference
		}
		end := func(op drivers.TerminalOp, of drivers.TerminalReference, amount int64, want drivers.Result) {
			t.Helper()
			r := euros(op, amount)
			r.Original = of
			a, err := c.perform(r)
			if a.Result != want || err != nil || want == drivers.Approved && a.Original != of.Trace {
				t.Errorf("%s: %+v, %v; want %s", op, a, err, want)
			}
		}
		first := reserve()
		end(drivers.OpCapture, first, 4000, drivers.Approved)
		end(drivers.OpCapture, first, 4000, drivers.Declined) // once only
		second := reserve()
		end(drivers.OpRelease, second, 5000, drivers.Approved)
		end(drivers.OpRelease, second, 5000, drivers.Declined)
		if b := c.term.Books(); b.Net["978"] != 4000 || b.DoubleCharges != 0 {
			t.Errorf("books: %+v", b)
		}
		// without the terminal's receipt number nothing is taken back
		if a, err := c.perform(euros(drivers.OpReversal, 4000)); a.Result != drivers.NotStarted || err == nil {
			t.Errorf("a reversal of nothing: %+v, %v", a, err)
		}
		c.do(tapCard)
		if a, err := c.perform(euros(drivers.OpRefund, 1500)); a.Result != drivers.Approved || err != nil {
			t.Errorf("refund: %+v, %v", a, err)
		}
		if b := c.term.Books(); b.Net["978"] != 2500 {
			t.Errorf("books: %+v", b)
		}
	})
}

func TestEndOfDay(t *testing.T) {
	play(t, virtual.Options{}, map[string]string{"receipts": "ecr"}, func(t *testing.T, c *till) {
		var ref drivers.TerminalReference
		for i, card := range []string{"visa", "mastercard", "visa"} {
			c.do(virtual.Step{Do: "insert", Card: card})
			a, err := c.perform(euros(drivers.OpSale, int64(1000*(i+1))))
			if a.Result != drivers.Approved || err != nil {
				t.Fatalf("%+v, %v", a, err)
			}
			ref = a.Reference
		}
		s, err := c.dev.(drivers.Settler).Settle(c.ctx)
		if err != nil || s.Result != drivers.Approved || len(s.Lines) == 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		got := map[string]drivers.SettlementTotal{}
		for _, x := range s.Totals {
			got[x.Brand] = x
		}
		if got["all"].Amount != 6000 || got["Visa"].Amount != 4000 || got["Visa"].Count != 2 || got["Eurocard"].Amount != 2000 {
			t.Errorf("totals: %+v", s.Totals)
		}
		r := euros(drivers.OpReversal, 3000)
		r.Original = ref
		if a, err := c.perform(r); a.Result != drivers.Declined || a.Raw != "B5" || err != nil {
			t.Errorf("a reversal after the end of day: %+v, %v", a, err)
		}
		c.do()
		// The record of an end of day is no sale.
		if s, err := c.dev.(drivers.Settler).Settle(c.ctx); err != nil || s.Result != drivers.Approved {
			t.Fatalf("%+v, %v", s, err)
		}
		if a, err := c.last(); err != nil || a.Op != drivers.OpEndOfDay {
			t.Errorf("its record: %+v, %v", a, err)
		}
	})
}

// The record of a sale keeps the terminal's own date when its day, month and
// year have gone over.
func TestRecordKeepsItsDateOverMidnight(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	play(t, virtual.Options{Now: clock}, nil, func(t *testing.T, c *till) {
		mu.Lock()
		now = time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
		mu.Unlock()
		c.do(fault("lose-status"), tapCard)
		if a, _ := c.perform(euros(drivers.OpSale, 1000)); a.Result != drivers.Unknown {
			t.Fatalf("%+v", a)
		}
		mu.Lock()
		now = now.Add(2 * time.Second)
		mu.Unlock()
		c.reconnect()
		a, err := c.last()
		if err != nil || a.Reference.Date != "1231" || a.Reference.Time != "235959" {
			t.Errorf("%+v, %v", a.Reference, err)
		}
	})
}

func TestDisplayIdentityAndHealth(t *testing.T) {
	play(t, virtual.Options{Init: true}, nil, func(t *testing.T, c *till) {
		if err := c.dev.(drivers.Display).Display(c.ctx, "Grüß Gott\n12,50 EUR"); err != nil || c.term.Shown() != "Grüß Gott\n12,50 EUR" {
			t.Errorf("shown: %q, %v", c.term.Shown(), err)
		}
		if err := c.dev.(drivers.Display).Display(c.ctx, strings.Repeat("x\n", 9)); err == nil {
			t.Error("nine lines are taken")
		}
		id, err := c.dev.Identify(c.ctx)
		if err != nil || id.Serial != "52000001" || id.Firmware != "VIRTUAL-ZVT 1.0" {
			t.Errorf("%+v, %v", id, err)
		}
		// It asked for an initialisation and got one.
		if h, err := c.dev.Health(c.ctx); err != nil || !h.OK || h.Detail != "ready" {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

// script is a terminal that says what it is told to, whatever it hears: bare
// APDUs in hex, one after each command or reply of ours.
func script(t *testing.T, says ...[]byte) *till {
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: drivers.Port{Kind: drivers.KindTCP, Path: "line", Explicit: true}})
	c := &till{t: t, ctx: t.Context(), tap: &tap{Transport: host}}
	c.lines.Go(func() {
		line := device.Stream()
		defer line.Close()
		b := make([]byte, 4096)
		for _, s := range append([][]byte{{0x80, 0, 0, 0x06, 0x0F, 0x07, 0x19, 0x00, 0x29, 0x52, 0x00, 0x00, 0x01}, nil}, says...) {
			if _, err := line.Read(b); err != nil {
				return
			}
			if len(s) > 0 {
				line.Write(s)
			}
		}
		io.Copy(io.Discard, line)
	})
	d, err := zvt.Driver{}.Open(c.ctx, c.tap, drivers.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c.dev = d
	return c
}

func (c *till) end() { c.dev.Close(); c.lines.Wait() }

func apduOf(c zvt.Command, data ...[]byte) []byte { return zvt.Append(nil, c, bytes.Join(data, nil)) }

func TestApprovalAfterARefusal(t *testing.T) {
	approved := []byte{0x27, 0x00, 0x04, 0, 0, 0, 0, 0x10, 0, 0x49, 0x09, 0x78, 0x0B, 0, 0, 1}
	for name, both := range map[string][2][]byte{
		"declined, then approved": {{0x27, 0x05}, approved},
		"approved, then declined": {approved, {0x27, 0x05}},
		"two amounts":             {approved, {0x27, 0x00, 0x04, 0, 0, 0, 0, 0x20, 0, 0x49, 0x09, 0x78, 0x0B, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := script(t, append([]byte{0x80, 0, 0}, apduOf(zvt.CmdStatusInformation, both[0])...),
					apduOf(zvt.CmdStatusInformation, both[1]), apduOf(zvt.CmdCompletion))
				defer c.end()
				stored := 0
				r := euros(drivers.OpSale, 1000)
				r.Persist = func(context.Context, drivers.TerminalAnswer) error { stored++; return nil }
				a, err := c.perform(r)
				if a.Result != drivers.Unknown || err == nil || stored != 1 {
					t.Errorf("%s, %v, stored %d times", a.Result, err, stored)
				}
				if c.tap.answeredLast() {
					t.Error("the contradiction was acknowledged")
				}
			})
		})
	}
}

// What the terminal writes freely is cut before it leaves the driver.
func TestNoCardNumberLeavesTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pan = "4111111111111111"
		spaced := "4111 1111 1111 1111"
		line := func(text string) []byte {
			return apduOf(zvt.CmdPrintLine, []byte{0}, []byte(text))
		}
		show := zvt.AppendElement(nil, 0x24, zvt.AppendElement(nil, 0x07, []byte("KARTE "+spaced)))
		shown, _ := zvt.AppendField([]byte{0x0A, 0x02}, 0x06, show)
		status := []byte{0x27, 0x00, 0x04, 0, 0, 0, 0, 0x10, 0, 0x49, 0x09, 0x78, 0x0B, 0, 0, 1, 0x0E, 0x28, 0x12}
		for id, v := range map[byte]string{0x22: "\x41\x11\x11\x11\x11\x11\x11\x11", 0x23: "\x41\x11\x11\x11\x11\x11\x11\x11\xD2\x81\x22\x01\x12\x34\x56\x78\x9F",
			0x2D: "B" + pan + "^TEST/CARD^28122011234", 0x8B: "VISA " + pan, 0x3C: "NR " + spaced} {
			status, _ = zvt.AppendField(status, id, []byte(v))
		}
		c := script(t, append([]byte{0x80, 0, 0}, apduOf(zvt.CmdIntermediateStatus, shown)...), apduOf(zvt.CmdStatusInformation, status),
			line("Nr. "+pan), line(spaced), apduOf(zvt.CmdCompletion))
		defer c.end()
		var said []string
		r := euros(drivers.OpSale, 1000)
		r.Progress = func(text string) { said = append(said, text) }
		r.Persist = func(_ context.Context, a drivers.TerminalAnswer) error {
			said = append(said, fmt.Sprintf("%+v", a))
			return nil
		}
		a, err := c.perform(r)
		if a.Result != drivers.Approved || err != nil || len(a.Receipt) != 2 || a.Last4 != "1111" || len(said) != 2 {
			t.Fatalf("%+v, %v", a, err)
		}
		all := fmt.Sprintf("%+v %v", a, said)
		for _, secret := range []string{pan, spaced, "41111111", "2812", "1234567"} {
			if strings.Contains(all, secret) {
				t.Error("card data left the driver")
			}
		}
	})
}

// A result other than 00 is no end of day, however the terminal ends it.
func TestEndOfDayThatFailed(t *testing.T) {
	for name, c := range map[string]struct {
		says [][]byte
		want drivers.Result
	}{
		"result 77":      {[][]byte{append([]byte{0x80, 0, 0}, apduOf(zvt.CmdStatusInformation, []byte{0x27, 0x77})...), apduOf(zvt.CmdCompletion)}, drivers.Declined},
		"aborted":        {[][]byte{append([]byte{0x80, 0, 0}, apduOf(zvt.CmdAborted, []byte{0x77})...)}, drivers.Declined},
		"without result": {[][]byte{append([]byte{0x80, 0, 0}, apduOf(zvt.CmdCompletion)...)}, drivers.Unknown},
		"result 00":      {[][]byte{append([]byte{0x80, 0, 0}, apduOf(zvt.CmdStatusInformation, []byte{0x27, 0x00})...), apduOf(zvt.CmdCompletion)}, drivers.Approved},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := script(t, c.says...)
				defer d.end()
				s, err := d.dev.(drivers.Settler).Settle(d.ctx)
				if s.Result != c.want || (err == nil) != (c.want == drivers.Approved) {
					t.Errorf("%s, %v; want %s", s.Result, err, c.want)
				}
			})
		})
	}
}

// The end overtakes the reply to our abort: the reply belongs to nothing that
// follows.
func TestAbortWhoseReplyComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: drivers.Port{Kind: drivers.KindTCP, Path: "line", Explicit: true}})
		c := &till{t: t, ctx: t.Context(), tap: &tap{Transport: host}}
		c.lines.Go(func() {
			line := device.Stream()
			defer line.Close()
			b := make([]byte, 4096)
			say := func(s ...byte) { line.Write(s) }
			hear := func() { _, _ = line.Read(b) }
			hear()
			say(0x80, 0, 0, 0x06, 0x0F, 0x07, 0x19, 0x00, 0x29, 0x52, 0x00, 0x00, 0x01)
			hear() // the answer to the completion
			hear() // the sale
			say(0x80, 0, 0)
			hear() // the abort
			say(0x06, 0x1E, 0x01, 0x6C)
			hear() // the answer to the end
			time.Sleep(time.Second)
			say(0x84, 0x83, 0x00) // to the abort
			hear()                // the display text
			say(0x80, 0, 0)
			io.Copy(io.Discard, line)
		})
		var err error
		if c.dev, err = (zvt.Driver{}).Open(c.ctx, c.tap, drivers.Config{}); err != nil {
			t.Fatal(err)
		}
		defer c.end()
		go func() {
			time.Sleep(2 * time.Second)
			_ = c.dev.(drivers.PaymentTerminal).Abort(context.Background())
		}()
		if a, err := c.perform(euros(drivers.OpSale, 1000)); a.Result != drivers.Cancelled || err != nil {
			t.Errorf("%+v, %v", a, err)
		}
		if err := c.dev.(drivers.Display).Display(c.ctx, "NEXT"); err != nil {
			t.Errorf("the next command got the abort's refusal: %v", err)
		}
	})
}
