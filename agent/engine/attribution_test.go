package engine

import (
	"context"
	"testing"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
)

// TestWhoseATerminalsLastTransactionIs: a sale's answer is lost, and what the
// terminal did last has the sale's amount and is not the sale. It must never
// be taken for it, and where it cannot be told apart a person decides.
func TestWhoseATerminalsLastTransactionIs(t *testing.T) {
	for name, c := range map[string]struct {
		before func(d *fakeTerminal) // between the sale before and ours
		script func(d *fakeTerminal) command
		status payment.Status
		stage  payment.Stage
	}{
		"keyed in before ours, command lost": {
			before: func(d *fakeTerminal) { d.keyed(1000) },
			script: func(d *fakeTerminal) command { return command{result: drivers.Unknown} },
			status: payment.Failed, stage: payment.StageDevice,
		},
		"a decline that its record leaves out, command lost": {
			before: func(d *fakeTerminal) { d.deeds = d.deeds[:1] },
			script: func(d *fakeTerminal) command { return command{result: drivers.Unknown} },
			status: payment.Failed, stage: payment.StageDevice,
		},
		"two keyed in after the command was lost": {
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Unknown, then: func() { d.keyed(700); d.keyed(1000) }}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"a smaller one keyed in after the command was lost": {
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Unknown, then: func() { d.keyed(700) }}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"ours and one keyed in after it": {
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Approved, lost: true, then: func() { d.keyed(1000) }}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"an older one is all that it remembers": {
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Unknown, then: func() { d.deeds = d.deeds[:1] }}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"another terminal stands there": {
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Unknown, then: func() {
					d.keyed(1000)
					d.deeds[len(d.deeds)-1].terminal = "52000009"
				}}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"another terminal that has none": {
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Approved, lost: true, then: func() { d.deeds = nil }}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"it did not say before, and has none now": {
			before: func(d *fakeTerminal) { d.mute = 1 },
			script: func(d *fakeTerminal) command {
				return command{result: drivers.Approved, lost: true, then: func() { d.deeds = nil }}
			},
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"the answer is the transaction before": {
			before: func(d *fakeTerminal) { d.deeds = d.deeds[:1] },
			script: func(d *fakeTerminal) command { return command{stale: true} },
			status: payment.InDoubt, stage: payment.StageHeld,
		},
		"the answer is the decline before": {
			script: func(d *fakeTerminal) command { return command{stale: true} },
			status: payment.Failed, stage: payment.StageDevice,
		},
		"approved, then declined": {
			script: func(d *fakeTerminal) command { return command{result: drivers.Approved, after: drivers.Declined} },
			status: payment.Succeeded,
		},
		"approved, then not begun": {
			script: func(d *fakeTerminal) command { return command{result: drivers.Approved, after: drivers.NotStarted} },
			status: payment.Succeeded,
		},
		"declined, then approved": {
			script: func(d *fakeTerminal) command { return command{result: drivers.Declined, after: drivers.Approved} },
			status: payment.Declined, stage: payment.StageByIssuer,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, d, a := terminalShop(t)
			wantState(t, a.pay("k0", sale(1000)), payment.Succeeded, payment.StageNone)
			d.script = []command{{result: drivers.Declined}}
			wantState(t, a.pay("k1", sale(1000)), payment.Declined, payment.StageByIssuer)
			if c.before != nil {
				c.before(d)
			}
			d.script = []command{c.script(d)}
			sales := d.sales
			p := a.pay("k2", sale(1000))
			for _, x := range d.deeds {
				if x.op == drivers.OpReversal {
					t.Errorf("another customer's payment was taken back: %+v", d.deeds)
				}
			}
			if d.sales != sales+1 {
				t.Errorf("%d sale commands", d.sales-sales)
			}
			wantState(t, p, c.status, c.stage)
		})
	}
}

// TestReversalAtTheTerminalMeetsAPerson: a person reversed it by hand and says
// so while the terminal is being asked; nothing more is sent.
func TestReversalAtTheTerminalMeetsAPerson(t *testing.T) {
	_, d, a := terminalShop(t)
	d.script = []command{{result: drivers.Approved, amount: 400}}
	asked := make(chan struct{})
	answer := make(chan struct{})
	d.onLast = func() {
		d.mu.Lock()
		due := len(d.deeds) > 0
		d.mu.Unlock()
		if due {
			asked <- struct{}{}
			<-answer
		}
	}
	p, _, err := a.StartPayment(bg, "till-1", "k1", "d", sale(1000))
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	if _, err := a.Resolve(context.Background(), "boss", p.ID, payment.Reversed, "terminal's journal: reversed by hand"); err != nil {
		t.Fatal(err)
	}
	close(answer)
	wantState(t, a.settle(p.ID), payment.Reversed, payment.StageNone)
	if d.onLast = nil; len(d.deeds) != 1 {
		t.Fatalf("the reversal was sent over the person's decision: %+v", d.deeds)
	}
	wantState(t, a.pay("k2", sale(500)), payment.Succeeded, payment.StageNone)
}

// TestSameTransaction: real terminals give two payments in a row the same
// receipt number (trace 000732 and 000733, both receipt 0002).
func TestSameTransaction(t *testing.T) {
	ref := func(trace, receipt, date, clock string) payment.TerminalRef {
		return payment.TerminalRef{TerminalID: "52000001", Trace: trace, Receipt: receipt, Date: date, Time: clock}
	}
	for name, c := range map[string]struct {
		a, b             payment.TerminalRef
		same, comparable bool
	}{
		"copy":                             {ref("000732", "0002", "0629", "122306"), ref("000732", "0002", "0629", "122306"), true, true},
		"next trace, same receipt":         {ref("000732", "0002", "0629", "122306"), ref("000733", "0002", "0629", "123005"), false, true},
		"no trace, same receipt, later":    {ref("", "0002", "0629", "122306"), ref("", "0002", "0629", "123005"), false, true},
		"no trace, same receipt and time":  {ref("", "0002", "0629", "122306"), ref("", "0002", "0629", "122306"), true, true},
		"no trace, same receipt, no time":  {ref("", "0002", "0629", "122306"), ref("", "0002", "0629", ""), true, true},
		"trace on one side, later":         {ref("000732", "0002", "0629", "122306"), ref("", "0002", "0629", "123005"), false, true},
		"same trace after a year":          {ref("000732", "", "0629", ""), ref("000732", "", "0628", ""), false, true},
		"nothing in common":                {ref("000732", "", "", ""), ref("", "0002", "", ""), false, false},
		"same numbers at another terminal": {ref("000732", "0002", "", ""), payment.TerminalRef{TerminalID: "52000009", Trace: "000732", Receipt: "0002"}, false, true},
	} {
		if same, ok := sameRef(c.a, c.b); same != c.same || ok != c.comparable {
			t.Errorf("%s: same %v, comparable %v", name, same, ok)
		}
	}
}

func TestOneTransactionLater(t *testing.T) {
	for name, c := range map[string]struct {
		a, b payment.TerminalRef
		want bool
	}{
		"next trace":               {payment.TerminalRef{Trace: "000007"}, payment.TerminalRef{Trace: "000008"}, true},
		"two later":                {payment.TerminalRef{Trace: "000007"}, payment.TerminalRef{Trace: "000009"}, false},
		"trace begins again":       {payment.TerminalRef{Trace: "999999"}, payment.TerminalRef{Trace: "000001"}, true},
		"receipt begins again":     {payment.TerminalRef{Receipt: "9999"}, payment.TerminalRef{Receipt: "0001"}, true},
		"back":                     {payment.TerminalRef{Trace: "000008"}, payment.TerminalRef{Trace: "000007"}, false},
		"long trace, next":         {payment.TerminalRef{Trace: "1234567890"}, payment.TerminalRef{Trace: "1234567891"}, true},
		"long trace, many later":   {payment.TerminalRef{Trace: "1234567890"}, payment.TerminalRef{Trace: "1234567899"}, false},
		"long trace, begins again": {payment.TerminalRef{Trace: "9999999999"}, payment.TerminalRef{Trace: "0000000001"}, true},
		"longest":                  {payment.TerminalRef{Trace: "999999999999999999"}, payment.TerminalRef{Trace: "000000000000000001"}, true},
	} {
		if got := follows(c.a, c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
