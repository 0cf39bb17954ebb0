package zvt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/zvt"
)

// Attacks on the driver: a terminal that says what no simulator of ours says.

var (
	positive  = []byte{0x80, 0, 0}
	approved  = []byte{0x27, 0x00, 0x04, 0, 0, 0, 0, 0x10, 0, 0x49, 0x09, 0x78, 0x0B, 0, 0, 1}
	opened    = []byte{0x80, 0, 0, 0x06, 0x0F, 0x07, 0x19, 0x00, 0x29, 0x52, 0x00, 0x00, 0x01}
	completed = []byte{0x06, 0x0F, 0x00}
)

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// played is a terminal that is a function: hear waits for one piece of ours.
func played(t *testing.T, terminal func(hear func(), say func(...[]byte))) *till {
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: drivers.Port{Kind: drivers.KindTCP, Path: "line", Explicit: true}})
	c := &till{t: t, ctx: t.Context(), tap: &tap{Transport: host}}
	c.lines.Go(func() {
		line := device.Stream()
		defer line.Close()
		b := make([]byte, 4096)
		hear := func() { _, _ = line.Read(b) }
		say := func(parts ...[]byte) { line.Write(joined(parts...)) }
		hear()
		say(opened)
		hear() // the answer to the completion
		terminal(hear, say)
	})
	var err error
	if c.dev, err = (zvt.Driver{}).Open(c.ctx, c.tap, drivers.Config{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// A trace or receipt number of zeros is none: taken as a number, two different
// payments would have the same.
func TestNumbersOfZerosAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		more           []byte
		trace, receipt string
	}{
		"both":       {[]byte{0x0B, 0, 0, 0, 0x87, 0, 0}, "", ""},
		"trace":      {[]byte{0x0B, 0, 0, 0, 0x87, 0, 7}, "", "0007"},
		"long trace": {[]byte{0x0B, 0, 0, 0, 0x06, 0x06, 0x1F, 0x2B, 0x03, 0x12, 0x34, 0x56}, "123456", ""},
		"long zeros": {[]byte{0x0B, 0, 0, 0, 0x06, 0x06, 0x1F, 0x2B, 0x03, 0, 0, 0}, "", ""},
		"neither":    {[]byte{0x0B, 0, 0, 1, 0x87, 0, 1}, "000001", "0001"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := zvt.ParseStatus(joined(approved[:12], c.more), zvt.CP437)
			if err != nil || s.Trace != c.trace || s.Receipt != c.receipt {
				t.Errorf("trace %q, receipt %q, %v; want %q, %q", s.Trace, s.Receipt, err, c.trace, c.receipt)
			}
		})
	}
}

// A refusal is ours only if the terminal is silent behind it: a piece of its
// next words is no silence, nor is a line that is gone.
func TestRefusalWithSomethingBehindIt(t *testing.T) {
	for name, behind := range map[string]func(say func(...[]byte)){
		"half a reply": func(say func(...[]byte)) {
			say(positive[:2])
			time.Sleep(time.Second)
			say(positive[2:], apduOf(zvt.CmdStatusInformation, approved))
		},
		"the line ends": func(func(...[]byte)) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := played(t, func(hear func(), say func(...[]byte)) {
					hear() // the sale
					say([]byte{0x84, 0x83, 0x00})
					behind(say)
				})
				defer c.end()
				a, err := c.perform(euros(drivers.OpSale, 1000))
				if a.Result != drivers.Unknown {
					t.Errorf("%s, %v: the refusal may be an older one", a.Result, err)
				}
			})
		})
	}
}

// A terminal that was switched off on a line that stayed up has forgotten its
// registration. Only opening it again helps.
func TestTerminalThatForgotItsRegistration(t *testing.T) {
	for name, c := range map[string]struct {
		say []byte
		do  func(c *till) error
	}{
		"refuses a sale": {[]byte{0x84, 0x6B, 0x00}, func(c *till) error {
			a, err := c.perform(euros(drivers.OpSale, 1000))
			if a.Result != drivers.NotStarted {
				return fmt.Errorf("%s, %v", a.Result, err)
			}
			return nil
		}},
		"ends a sale": {joined(positive, apduOf(zvt.CmdAborted, []byte{0x6B})), func(c *till) error {
			a, err := c.perform(euros(drivers.OpSale, 1000))
			if a.Result != drivers.Declined {
				return fmt.Errorf("%s, %v", a.Result, err)
			}
			return nil
		}},
		"refuses to repeat its last result": {[]byte{0x84, 0x6B, 0x00}, func(c *till) error {
			if a, err := c.last(); err == nil || a.Result != drivers.Unknown {
				return fmt.Errorf("%s, %v", a.Result, err)
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := script(t, c.say)
				defer d.end()
				if err := c.do(d); err != nil {
					t.Error(err)
				}
				if _, err := d.dev.Health(d.ctx); !errors.Is(err, drivers.ErrUnplugged) {
					t.Errorf("nobody opens it again: %v", err)
				}
			})
		})
	}
}

// Receipt numbers begin again: a terminal that took back another payment than
// the one we named is told so.
func TestReversalOfAnotherPayment(t *testing.T) {
	for name, c := range map[string]struct {
		original []byte // BMP 37
		trace    string
		want     drivers.Result
	}{
		"another":       {[]byte{0x37, 0, 0, 0x99}, "000005", drivers.Unknown},
		"ours":          {[]byte{0x37, 0, 0, 0x05}, "000005", drivers.Approved},
		"not said":      {nil, "000005", drivers.Approved},
		"of zeros":      {[]byte{0x37, 0, 0, 0}, "000005", drivers.Approved},
		"long trace":    {[]byte{0x37, 0x00, 0x00, 0x05}, "1234000005", drivers.Approved},
		"other width":   {[]byte{0x37, 0, 0, 0x05}, "5", drivers.Approved},
		"not known yet": {[]byte{0x37, 0, 0, 0x99}, "", drivers.Approved},
	} {
		for _, op := range []drivers.TerminalOp{drivers.OpReversal, drivers.OpCapture, drivers.OpRelease} {
			t.Run(name+" "+string(op), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := script(t, joined(positive, apduOf(zvt.CmdStatusInformation, approved, c.original)), completed)
					defer d.end()
					stored := 0
					r := euros(op, 1000)
					r.Original = drivers.TerminalReference{Receipt: "0005", Trace: c.trace}
					r.Persist = func(context.Context, drivers.TerminalAnswer) error { stored++; return nil }
					a, err := d.perform(r)
					if a.Result != c.want || (stored == 1) != (c.want == drivers.Approved) {
						t.Errorf("%s, %v, stored %d times; want %s", a.Result, err, stored, c.want)
					}
					if refused := d.tap.count(0x84, 0x66, 0x00) == 1; refused != (c.want == drivers.Unknown) {
						t.Errorf("refused: %v", refused)
					}
				})
			})
		}
	}
}

// A terminal that prints for ever costs a bounded receipt.
func TestReceiptWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = 20000
		c := played(t, func(hear func(), say func(...[]byte)) {
			hear() // the sale
			say(positive, apduOf(zvt.CmdStatusInformation, approved))
			hear()
			for range lines {
				say(apduOf(zvt.CmdPrintLine, []byte{0}, []byte("noch eine Zeile")))
				hear()
			}
			say(completed)
			hear()
		})
		defer c.end()
		a, err := c.perform(euros(drivers.OpSale, 1000))
		if a.Result != drivers.Approved || err != nil || len(a.Receipt) == 0 || len(a.Receipt) > 2000 {
			t.Errorf("%s, %v, %d lines", a.Result, err, len(a.Receipt))
		}
	})
}

// Some terminals send zeros behind an APDU. They are no commands, and an
// answer to them would be taken for the answer to the result.
func TestZerosBetweenAPDUs(t *testing.T) {
	for n := range 8 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				zeros := make([]byte, n)
				c := script(t, joined(positive, zeros, []byte{0x04, 0xFF, 0x01, 0x0E}, zeros),
					joined(apduOf(zvt.CmdStatusInformation, approved), zeros), joined(completed, zeros), nil, joined(zeros, positive))
				defer c.end()
				a, err := c.perform(euros(drivers.OpSale, 1000))
				if a.Result != drivers.Approved || a.Amount != 1000 || err != nil {
					t.Errorf("%s %d, %v", a.Result, a.Amount, err)
				}
				if k := c.tap.count(0x84); k != 0 {
					t.Errorf("%d negative answers", k)
				}
				if err := c.dev.(drivers.Display).Display(c.ctx, "NEXT"); err != nil {
					t.Errorf("the next command: %v", err)
				}
			})
		})
	}
}

// An approval that comes while nobody takes payments is stored by nobody, and
// so gets no answer: the terminal takes it back.
func TestApprovalThatNobodyAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := script(t, joined(positive, apduOf(zvt.CmdStatusInformation, approved)), []byte{0x06, 0x0F, 0x01, 0x00})
		defer c.end()
		if h, err := c.dev.Health(c.ctx); err == nil {
			t.Errorf("%+v", h)
		}
		if c.tap.answeredLast() {
			t.Error("an approval was acknowledged and stored nowhere")
		}
	})
}

// The wait that one intermediate status allows is not that of the next one.
func TestWaitOfOneIntermediateStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := played(t, func(hear func(), say func(...[]byte)) {
			hear() // the sale
			say(positive, []byte{0x04, 0xFF, 0x02, 0x0A, 0x01})
			hear()
			say([]byte{0x04, 0xFF, 0x01, 0x04}) // waits for the host, without a limit of its own
			hear()
			time.Sleep(100 * time.Second)
			say(apduOf(zvt.CmdStatusInformation, approved))
			hear()
			say(completed)
			hear()
		})
		defer c.end()
		if a, err := c.perform(euros(drivers.OpSale, 1000)); a.Result != drivers.Approved || err != nil {
			t.Errorf("%s, %v", a.Result, err)
		}
	})
}

// A terminal that will never repeat its last result says so; one that is busy
// is asked again.
func TestTerminalThatDoesNotRepeatItsResult(t *testing.T) {
	for name, c := range map[string]struct {
		say   []byte
		again bool
	}{
		"function not possible": {[]byte{0x84, 0x83, 0x00}, false},
		"wrong password":        {[]byte{0x84, 0x9A, 0x00}, false},
		"aborted":               {joined(positive, apduOf(zvt.CmdAborted, []byte{0x83})), false},
		"busy":                  {[]byte{0x84, 0x9C, 0x00}, true},
		"busy, told at the end": {joined(positive, apduOf(zvt.CmdAborted, []byte{0x9C})), true},
		"not ready":             {[]byte{0x84, 0xA0, 0x00}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := script(t, c.say)
				defer d.end()
				a, err := d.last()
				if a.Result != drivers.Unknown || (err != nil) != c.again || a.Raw == "" {
					t.Errorf("%+v, %v; ask again: %v", a, err, c.again)
				}
			})
		})
	}
}

// An end of day whose result the terminal takes back is not known.
func TestEndOfDayToldAndAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := script(t, joined(positive, apduOf(zvt.CmdStatusInformation, []byte{0x27, 0x00})), apduOf(zvt.CmdAborted, []byte{0x00}))
		defer d.end()
		if s, err := d.dev.(drivers.Settler).Settle(d.ctx); s.Result != drivers.Unknown || err == nil {
			t.Errorf("%s, %v", s.Result, err)
		}
	})
}

// A damaged command that looks like a reply hides no card number from the
// trace.
func TestTraceOfAReplyThatIsTooLong(t *testing.T) {
	data := []byte{0x27, 0x00, 0x22, 0xF0, 0xF8, 0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x49, 0x09, 0x78}
	wire := zvt.Append(nil, zvt.Negative(0x0F), data)
	for _, s := range (zvt.Driver{}).CardData(true, wire) {
		for i := s.Start; i < s.End; i++ {
			wire[i] = '*'
		}
	}
	if strings.Contains(string(wire), "\x11\x11\x11") {
		t.Error("a card number stays in the trace")
	}
	short := zvt.Append(nil, zvt.Negative(0x1E), []byte{0x6F, 0x09, 0x78})
	if len((zvt.Driver{}).CardData(true, short)) != 0 {
		t.Error("an error code is cut")
	}
}

// A terminal that cannot repeat its last result does not stay closed for ever:
// it was asked, and whoever asked decides.
func TestDoubtThatTheTerminalCannotSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := script(t, joined(positive, apduOf(zvt.CmdStatusInformation, approved)), apduOf(zvt.CmdAborted, []byte{0x6C}), nil,
			[]byte{0x84, 0x83, 0x00}, joined(positive, apduOf(zvt.CmdStatusInformation, approved)), completed)
		defer c.end()
		if a, err := c.perform(euros(drivers.OpSale, 1000)); a.Result != drivers.Unknown || err != nil {
			t.Fatalf("approved and then aborted: %s, %v", a.Result, err)
		}
		if _, err := c.perform(euros(drivers.OpSale, 1000)); !errors.Is(err, zvt.ErrRecoverFirst) {
			t.Errorf("a sale before the question: %v", err)
		}
		if a, err := c.last(); a.Result != drivers.Unknown || err != nil {
			t.Fatalf("the record: %s, %v", a.Result, err)
		}
		if a, err := c.perform(euros(drivers.OpSale, 1000)); a.Result != drivers.Approved || err != nil {
			t.Errorf("a sale after the question: %s, %v", a.Result, err)
		}
	})
}

// A record that this driver cannot read is no silence of the terminal, and no
// reason to refuse the next sale: after a bounded number of such answers a
// person decides.
func TestRecordThatCannotBeRead(t *testing.T) {
	for name, status := range map[string][]byte{
		"unknown BMP":    joined(approved, []byte{0xC7, 0x01}),
		"lying length":   joined(approved, []byte{0x3C, 0xF9, 0xF9, 0xF9, 0x41}),
		"without result": approved[2:],
		"broken TLV":     joined(approved, []byte{0x06, 0x03, 0x1F, 0x12, 0x09}),
		"two results":    joined(approved, []byte{0x27, 0x05}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := script(t, joined(positive, apduOf(zvt.CmdStatusInformation, status)), completed, nil,
					joined(positive, apduOf(zvt.CmdStatusInformation, approved)), completed)
				defer c.end()
				if a, err := c.last(); a.Result != drivers.Unknown || err != nil || a.Text == "" {
					t.Errorf("%+v, %v", a, err)
				}
				if a, err := c.perform(euros(drivers.OpSale, 1000)); a.Result != drivers.Approved || err != nil {
					t.Errorf("the next sale: %s, %v", a.Result, err)
				}
			})
		})
	}
}

// Older terminals add BMP 92, data of a chip card's offline payment.
func TestStatusOfAnOfflineChipPayment(t *testing.T) {
	data := joined(approved, []byte{0x92, 0xF0, 0xF0, 0xF3, 0x41, 0x42, 0x43, 0x87, 0x00, 0x07})
	s, err := zvt.ParseStatus(data, zvt.CP437)
	if err != nil || s.Amount != 1000 || s.Receipt != "0007" {
		t.Errorf("%+v, %v", s, err)
	}
	wire := zvt.Append(nil, zvt.CmdStatusInformation, data)
	spans := (zvt.Driver{}).CardData(true, wire)
	if len(spans) != 1 || string(wire[spans[0].Start:spans[0].End]) != "ABC" {
		t.Errorf("cut out of a trace: %v", spans)
	}
}

// An abort meets an approval that is on its way: what the terminal makes of it
// is the result, and nothing of it is left for the next command.
func TestAbortMeetsAnApproval(t *testing.T) {
	for name, c := range map[string]struct {
		end  []byte // behind the answer to the result
		want drivers.Result
	}{
		"refused, late":           {joined([]byte{0x84, 0x83, 0x00}, completed), drivers.Approved},
		"accepted, too late":      {joined(positive, completed), drivers.Approved},
		"refused behind the end":  {joined(completed, []byte{0x84, 0x83, 0x00}), drivers.Approved},
		"taken as a missing word": {joined(positive, []byte{0x04, 0xFF, 0x01, 0x05}, apduOf(zvt.CmdAborted, []byte{0x6C})), drivers.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := played(t, func(hear func(), say func(...[]byte)) {
					hear() // the sale
					say(positive)
					hear() // the abort
					say(apduOf(zvt.CmdStatusInformation, approved))
					hear()
					say(c.end)
					for range 8 {
						hear()
						say(positive)
					}
				})
				defer d.end()
				go func() {
					time.Sleep(2 * time.Second)
					_ = d.dev.(drivers.PaymentTerminal).Abort(context.Background())
				}()
				stored := 0
				r := euros(drivers.OpSale, 1000)
				r.Persist = func(context.Context, drivers.TerminalAnswer) error { stored++; return nil }
				a, err := d.perform(r)
				if a.Result != c.want || err != nil || stored != 1 || d.tap.count(0x06, 0xB0) != 1 {
					t.Errorf("%s, %v, stored %d times", a.Result, err, stored)
				}
			})
		})
	}
}
