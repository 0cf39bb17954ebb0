package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
)

// command is what the fake terminal does with one command.
type command struct {
	result   drivers.Result
	amount   int64  // approved; 0 means asked
	currency int    // 0 means asked
	lost     bool   // the answer is lost before we have it
	lostAck  bool   // we have it, and the terminal's end is lost
	dumb     bool   // the answer carries no reference
	then     func() // runs after the command, before its answer
	raw      string
	last4    string // of the card that it names
	undo     bool   // it takes the deed back when its answer is not kept
	brand    string
	stale    bool           // nothing is done, the answer is the last deed's
	after    drivers.Result // given to us after the result was stored
	hold     chan struct{}
}

// deed is what the terminal did: its own books.
type deed struct {
	op       drivers.TerminalOp
	amount   int64
	currency int
	trace    int
	result   drivers.Result
	original string
	terminal string
	last4    string
}

// fakeTerminal authorises by itself and remembers what it did.
type fakeTerminal struct {
	w       *world
	mu      sync.Mutex
	gone    chan struct{}
	script  []command
	deeds   []deed
	trace   int
	asked   int // queries
	mute    int // so many queries fail
	onAbort func()
	onLast  func() // runs at the begin of a query
	unsure  bool   // queries are answered with Unknown
	noOp    bool   // the query does not say the operation
	forget  bool   // the query carries no reference
	sales   int    // sale commands
	aborts  int
	receipt []string
	wait    chan struct{}
}

func (d *fakeTerminal) life(f *fakeDisk)   { d.mu.Lock(); d.gone = f.gone; d.mu.Unlock() }
func (d *fakeTerminal) Info() drivers.Info { return drivers.Info{Protocol: "fake"} }
func (d *fakeTerminal) Identify(context.Context) (drivers.Identity, error) {
	return drivers.Identity{}, nil
}
func (d *fakeTerminal) Health(context.Context) (drivers.Health, error) {
	return drivers.Health{OK: true}, nil
}
func (d *fakeTerminal) Close() error { return nil }
func (d *fakeTerminal) Abort(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aborts++; d.onAbort != nil {
		d.onAbort()
	}
	return nil
}

func (d *fakeTerminal) dead() bool {
	select {
	case <-d.gone:
		return true
	default:
		return false
	}
}

func (x deed) reference() drivers.TerminalReference {
	id := "52000001"
	if x.terminal != "" {
		id = x.terminal
	}
	return drivers.TerminalReference{TerminalID: id, Trace: fmt.Sprintf("%06d", x.trace), Receipt: fmt.Sprintf("%04d", x.trace)}
}

func (x deed) answer() drivers.TerminalAnswer {
	if x.last4 == "" {
		x.last4 = "0019"
	}
	return drivers.TerminalAnswer{Result: x.result, Op: x.op, Amount: x.amount, CurrencyNumeric: x.currency, Reference: x.reference(), MaskedPAN: "541333******" + x.last4, Last4: x.last4}
}

func (d *fakeTerminal) Perform(ctx context.Context, r drivers.TerminalRequest) (drivers.TerminalAnswer, error) {
	d.mu.Lock()
	if d.dead() {
		d.mu.Unlock()
		return drivers.TerminalAnswer{Result: drivers.Unknown}, drivers.ErrUnplugged
	}
	d.checkArmed(r)
	if r.Op == drivers.OpSale {
		d.sales++
	}
	c := command{result: drivers.Approved}
	if len(d.script) > 0 {
		c, d.script = d.script[0], d.script[1:]
	}
	d.mu.Unlock()
	if d.wait != nil {
		d.wait <- struct{}{}
	}
	if c.hold != nil {
		select {
		case <-c.hold:
		case <-d.gone:
			return drivers.TerminalAnswer{Result: drivers.Unknown}, drivers.ErrUnplugged
		}
	}
	if c.result == drivers.NotStarted {
		return drivers.TerminalAnswer{Result: drivers.NotStarted, Op: r.Op}, nil
	}
	if c.then != nil {
		defer c.then()
	}
	if c.stale {
		a := d.deeds[len(d.deeds)-1].answer()
		return a, r.Persist(ctx, a)
	}
	if c.result == drivers.Unknown { // the command itself was lost
		return drivers.TerminalAnswer{Result: drivers.Unknown}, drivers.ErrUnplugged
	}
	d.mu.Lock()
	d.trace++
	x := deed{op: r.Op, amount: r.Amount, currency: r.CurrencyNumeric, trace: d.trace, result: c.result, original: r.Original.Trace, last4: c.last4}
	if c.amount != 0 {
		x.amount = c.amount
	}
	if c.currency != 0 {
		x.currency = c.currency
	}
	d.deeds = append(d.deeds, x)
	d.mu.Unlock()
	if c.lost {
		return drivers.TerminalAnswer{Result: drivers.Unknown}, drivers.ErrUnplugged
	}
	a := x.answer()
	a.Receipt = d.receipt
	if c.dumb {
		a.Reference = drivers.TerminalReference{}
	}
	if err := r.Persist(ctx, a); err != nil {
		if c.undo {
			d.mu.Lock()
			d.deeds[len(d.deeds)-1].result = drivers.Cancelled
			d.mu.Unlock()
		}
		return drivers.TerminalAnswer{Result: drivers.Unknown}, err
	}
	a.Raw, a.Brand = c.raw, c.brand
	if c.after != "" {
		a.Result = c.after
	}
	if c.lostAck {
		return drivers.TerminalAnswer{Result: drivers.Unknown}, drivers.ErrUnplugged
	}
	return a, nil
}

// checkArmed: R1 for a terminal. It is called with the lock held.
func (d *fakeTerminal) checkArmed(r drivers.TerminalRequest) {
	found := false
	for _, id := range d.w.openIDs() {
		if rec := d.w.durable(id); rec != nil && rec.facts().Has(payment.Armed|payment.Sent) {
			found = true
			if (r.Op == drivers.OpReversal || r.Op == drivers.OpRelease) && rec.Payment != nil && rec.facts().Has(payment.ReversalDurable) && rec.Private.Tries == 0 {
				d.w.errorf("a reversal began before its attempt was durable")
			}
		}
	}
	if !found {
		d.w.errorf("R1: %s began before its record was durable", r.Op)
	}
}

func (d *fakeTerminal) Last(ctx context.Context) (drivers.TerminalAnswer, error) {
	if d.onLast != nil {
		d.onLast()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.dead() || d.mute > 0 {
		d.mute--
		return drivers.TerminalAnswer{Result: drivers.Unknown}, drivers.ErrUnplugged
	}
	if d.unsure {
		return drivers.TerminalAnswer{Result: drivers.Unknown}, nil
	}
	if len(d.deeds) == 0 {
		return drivers.TerminalAnswer{Result: drivers.NotStarted}, nil
	}
	a := d.deeds[len(d.deeds)-1].answer()
	if d.noOp {
		a.Op = ""
	}
	if d.forget {
		a.Reference = drivers.TerminalReference{}
	}
	return a, nil
}

// keyed is a sale at the terminal's own keys, without us.
func (d *fakeTerminal) keyed(amount int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trace++
	d.deeds = append(d.deeds, deed{op: drivers.OpSale, amount: amount, currency: 978, trace: d.trace, result: drivers.Approved})
}

// net is what the terminal's books say was taken.
func (d *fakeTerminal) net() (sum int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.deeds {
		if x.result != drivers.Approved {
			continue
		}
		switch x.op {
		case drivers.OpSale:
			sum += x.amount
		case drivers.OpReversal, drivers.OpRefund:
			sum -= x.amount
		}
	}
	return sum
}

func (w *world) openIDs() []string {
	a := &Engine{o: Options{Store: w.store, Sealer: w.seal, Now: nil}}
	records, err := a.listOpen(context.Background(), indexOpen, "1")
	if err != nil {
		return nil
	}
	var ids []string
	for _, r := range records {
		ids = append(ids, r.ID)
	}
	return ids
}

// auditTerminal: what the records say was taken is what the terminal took.
func (a *agent) auditTerminal(d *fakeTerminal) {
	a.w.t.Helper()
	list, err := a.Payments(context.Background(), Filter{Limit: 200})
	if err != nil {
		a.w.t.Fatal(err)
	}
	var sum int64
	for _, p := range list {
		if p.State.Status == payment.InDoubt {
			return // a person has to look
		}
		if p.State.Status == payment.Succeeded {
			sum += p.Approved - p.Refunded
		}
	}
	if got := d.net(); got != sum {
		a.w.t.Errorf("books: the terminal took %d, the records say %d: %+v", got, sum, d.deeds)
	}
}

func terminalShop(t testing.TB) (*world, *fakeTerminal, *agent) {
	w := newWorld(t)
	d := &fakeTerminal{w: w}
	w.pads["R1"] = newStation(d)
	w.tune = func(o *Options) { o.Link = nil }
	return w, d, w.start()
}

func TestHowATerminalEndsAPayment(t *testing.T) {
	for name, c := range map[string]struct {
		first   bool // a sale of the same amount went before
		set     func(d *fakeTerminal)
		partial bool
		status  payment.Status
		stage   payment.Stage
		net     int64
		sales   int
	}{
		"approves":           {set: func(d *fakeTerminal) {}, status: payment.Succeeded, net: 1000},
		"declines":           {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Declined}} }, status: payment.Declined, stage: payment.StageByIssuer},
		"customer cancels":   {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Cancelled}} }, status: payment.Canceled, stage: payment.StageByCustomer},
		"does not begin":     {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.NotStarted}} }, status: payment.Failed, stage: payment.StageDevice},
		"answer lost":        {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, lost: true}} }, status: payment.Succeeded, net: 1000},
		"answer lost, twin":  {first: true, set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, lost: true}} }, status: payment.Succeeded, net: 1000},
		"command lost":       {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Unknown}} }, status: payment.Failed, stage: payment.StageDevice},
		"command lost, twin": {first: true, set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Unknown}} }, status: payment.Failed, stage: payment.StageDevice},
		"decline lost":       {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Declined, lost: true}} }, status: payment.Declined, stage: payment.StageByIssuer},
		"end lost after ack": {first: true, set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, lostAck: true}} }, status: payment.Succeeded, net: 1000},
		"mute for a while": {first: true, set: func(d *fakeTerminal) {
			d.script = []command{{result: drivers.Approved, lost: true, then: func() { d.mute = 4 }}}
		}, status: payment.Succeeded, net: 1000},
		"part, not accepted": {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, amount: 400}} }, status: payment.Declined, stage: payment.StageByRule},
		"part, accepted":     {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, amount: 400}} }, partial: true, status: payment.Succeeded, net: 400},
		"part lost":          {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, amount: 400, lost: true}} }, status: payment.InDoubt, stage: payment.StageHeld, net: 400},
		"part, reversal lost": {set: func(d *fakeTerminal) {
			d.script = []command{{result: drivers.Approved, amount: 400}, {result: drivers.Approved, lost: true}}
		}, status: payment.Declined, stage: payment.StageByRule},
		"part, reversal late": {set: func(d *fakeTerminal) {
			d.script = []command{{result: drivers.Approved, amount: 400}, {result: drivers.Unknown}}
		}, status: payment.Declined, stage: payment.StageByRule},
		"part, reversal told, its end lost, op not told": {set: func(d *fakeTerminal) {
			d.noOp = true
			d.script = []command{{result: drivers.Approved, amount: 400}, {result: drivers.Approved, lostAck: true}}
		}, status: payment.Declined, stage: payment.StageByRule},
		"part, reversal undone": {set: func(d *fakeTerminal) {
			d.script = []command{{result: drivers.Approved, amount: 400}, {result: drivers.Cancelled, lost: true}}
		}, status: payment.Declined, stage: payment.StageByRule},
		"part, reversal undone each time": {set: func(d *fakeTerminal) {
			undone := command{result: drivers.Cancelled, lost: true}
			d.script = []command{{result: drivers.Approved, amount: 400}, undone, undone, undone}
		}, status: payment.InDoubt, stage: payment.StageHeld, net: 400},
		"part, never reversed": {set: func(d *fakeTerminal) {
			d.script = []command{{result: drivers.Approved, amount: 400}, {result: drivers.NotStarted}, {result: drivers.NotStarted}, {result: drivers.NotStarted}}
		}, status: payment.InDoubt, stage: payment.StageHeld, net: 400},
		"other currency":       {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, currency: 840}} }, status: payment.Declined, stage: payment.StageByRule},
		"lost, no reference":   {first: true, set: func(d *fakeTerminal) { d.script, d.forget = []command{{result: drivers.Approved, lost: true}}, true }, status: payment.InDoubt, stage: payment.StageHeld, net: 1000},
		"lost, other currency": {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, currency: 840, lost: true}} }, status: payment.InDoubt, stage: payment.StageHeld, net: 1000},
		"lost, cannot say":     {set: func(d *fakeTerminal) { d.script = []command{{result: drivers.Approved, lost: true}} }, status: payment.InDoubt, stage: payment.StageHeld, net: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			_, d, a := terminalShop(t)
			var base int64
			if c.first {
				wantState(t, a.pay("k0", sale(1000)), payment.Succeeded, payment.StageNone)
				base = 1000
			}
			sales := d.sales
			c.set(d)
			if name == "lost, cannot say" {
				hold := make(chan struct{})
				d.script[0].hold, d.wait = hold, make(chan struct{}, 9)
				go func() { <-d.wait; d.mu.Lock(); d.unsure = true; d.mu.Unlock(); close(hold) }()
			}
			r := sale(1000)
			r.AcceptPartial = c.partial
			p := a.pay("k1", r)
			wantState(t, p, c.status, c.stage)
			if d.sales != sales+1 {
				t.Fatalf("%d sale commands: a lost answer is never followed by the command again", d.sales-sales)
			}
			if got := d.net() - base; got != c.net {
				t.Fatalf("the terminal took %d, want %d: %+v", got, c.net, d.deeds)
			}
			a.auditTerminal(d)
			if p.State.Stage == payment.StageHeld {
				if _, _, err := a.StartPayment(context.Background(), "till-1", "k2", "d", sale(5)); !errors.Is(err, ErrClosedLane) {
					t.Fatalf("the register works on over a payment that nobody settled: %v", err)
				}
			}
		})
	}
}

func TestHeldTerminalPaymentIsClosedByAPerson(t *testing.T) {
	_, d, a := terminalShop(t)
	wantState(t, a.pay("k0", sale(1000)), payment.Succeeded, payment.StageNone)
	d.script, d.forget = []command{{result: drivers.Approved, lost: true}}, true
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.InDoubt, payment.StageHeld)
	ctx := context.Background()
	if _, err := a.Resolve(ctx, "boss", p.ID, payment.Succeeded, " "); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a decision without evidence: %v", err)
	}
	p, err := a.Resolve(ctx, "boss", p.ID, payment.Succeeded, "the terminal's journal, receipt 2")
	if err != nil {
		t.Fatal(err)
	}
	wantState(t, p, payment.Succeeded, payment.StageNone)
	d.forget = false
	wantState(t, a.pay("k2", sale(700)), payment.Succeeded, payment.StageNone)
	a.auditTerminal(d)
}

func TestVoidAndRefundAtATerminal(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		second command
		start  func(a *agent) startOp
		noOp   bool
		op     payment.Status
		stage  payment.Stage
		status payment.Status
		net    int64
	}{
		"void":                                   {second: command{result: drivers.Approved}, start: func(a *agent) startOp { return a.Void }, op: payment.Succeeded, status: payment.Reversed},
		"void declined":                          {second: command{result: drivers.Declined}, start: func(a *agent) startOp { return a.Void }, op: payment.Declined, status: payment.Succeeded, net: 1000},
		"void lost and done":                     {second: command{result: drivers.Approved, lost: true}, start: func(a *agent) startOp { return a.Void }, op: payment.Succeeded, status: payment.Reversed},
		"void lost and not begun":                {second: command{result: drivers.Unknown}, start: func(a *agent) startOp { return a.Void }, op: payment.Failed, status: payment.Succeeded, net: 1000},
		"void lost, op not told":                 {second: command{result: drivers.Approved, lost: true}, noOp: true, start: func(a *agent) startOp { return a.Void }, op: payment.InDoubt, stage: payment.StageHeld, status: payment.InDoubt, net: 0},
		"refund":                                 {second: command{result: drivers.Approved}, start: func(a *agent) startOp { return a.Refund }, op: payment.Succeeded, status: payment.Succeeded},
		"refund lost and done":                   {second: command{result: drivers.Approved, lost: true}, start: func(a *agent) startOp { return a.Refund }, op: payment.Succeeded, status: payment.Succeeded},
		"refund lost and not begun":              {second: command{result: drivers.Unknown}, start: func(a *agent) startOp { return a.Refund }, op: payment.Failed, status: payment.Succeeded, net: 1000},
		"refund told, end lost":                  {second: command{result: drivers.Approved, lostAck: true}, noOp: true, start: func(a *agent) startOp { return a.Refund }, op: payment.Succeeded, status: payment.Succeeded},
		"void told, end lost":                    {second: command{result: drivers.Approved, lostAck: true}, noOp: true, start: func(a *agent) startOp { return a.Void }, op: payment.Succeeded, status: payment.Reversed},
		"void of another card's payment, undone": {second: command{result: drivers.Approved, last4: "4444", undo: true}, start: func(a *agent) startOp { return a.Void }, op: payment.Declined, status: payment.Succeeded, net: 1000},
		"void of another card's payment, kept":   {second: command{result: drivers.Approved, last4: "4444"}, start: func(a *agent) startOp { return a.Void }, op: payment.InDoubt, stage: payment.StageHeld, status: payment.InDoubt},
		"refund to another card":                 {second: command{result: drivers.Approved, last4: "4444"}, start: func(a *agent) startOp { return a.Refund }, op: payment.Succeeded, status: payment.Succeeded},
		"refund of another amount":               {second: command{result: drivers.Approved, amount: 10}, start: func(a *agent) startOp { return a.Refund }, op: payment.InDoubt, stage: payment.StageHeld, status: payment.Succeeded, net: 990},
	} {
		t.Run(name, func(t *testing.T) {
			_, d, a := terminalShop(t)
			p := a.pay("k1", sale(1000))
			d.script, d.noOp = []command{c.second}, c.noOp
			o, _, err := c.start(a)(ctx, "till-1", "v1", "d", OperationRequest{PaymentID: p.ID})
			if err != nil {
				t.Fatal(err)
			}
			o = a.settleOperation(o.ID)
			if o.State.Status != c.op || c.stage != "" && o.State.Stage != c.stage {
				t.Fatalf("operation is %s: %s %v", o.State, o.Reason, o.Steps)
			}
			if p, _ = a.Payment(ctx, p.ID); p.State.Status != c.status {
				t.Fatalf("payment is %s", p.State)
			}
			if d.net() != c.net {
				t.Fatalf("the terminal took %d, want %d: %+v", d.net(), c.net, d.deeds)
			}
			if o.State.Final() {
				a.auditTerminal(d)
			}
		})
	}
}

func TestReceiptLinesOfATerminalAreRedacted(t *testing.T) {
	_, d, a := terminalShop(t)
	d.receipt = []string{"KARTE 4111111111111111", "BETRAG 10,00"}
	p := a.pay("k1", sale(1000))
	if len(p.Receipt) != 2 || p.Receipt[1] != "BETRAG 10,00" || strings.Contains(p.Receipt[0], "4111111111111111") {
		t.Fatalf("receipt %q", p.Receipt)
	}
}

func TestVoidWithoutAReferenceIsRefused(t *testing.T) {
	_, d, a := terminalShop(t)
	d.script = []command{{result: drivers.Approved, dumb: true}}
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.Succeeded, payment.StageNone)
	o, _, err := a.Void(context.Background(), "till-1", "v1", "d", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	if o = a.settleOperation(o.ID); o.State.Status != payment.Failed || len(d.deeds) != 1 {
		t.Fatalf("void is %s, deeds %+v", o.State, d.deeds)
	}
	if p, _ = a.Payment(context.Background(), p.ID); p.State.Status != payment.Succeeded || p.VoidID != "" {
		t.Fatalf("payment is %s", p.State)
	}
}

// TestVoidAtAnotherTerminal: receipt numbers are a terminal's own. Another one
// in its place would take back whatever has the same number there.
func TestVoidAtAnotherTerminal(t *testing.T) {
	_, d, a := terminalShop(t)
	p := a.pay("k1", sale(1000))
	wantState(t, p, payment.Succeeded, payment.StageNone)
	d.keyed(1000)
	d.mu.Lock()
	d.deeds[len(d.deeds)-1].terminal = "52000009"
	n := len(d.deeds)
	d.mu.Unlock()
	o, _, err := a.Void(context.Background(), "till-1", "v1", "d", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	if o = a.settleOperation(o.ID); o.State.Status != payment.Failed || len(d.deeds) != n {
		t.Fatalf("void is %s: %s; deeds %+v", o.State, o.Reason, d.deeds)
	}
	if p, _ = a.Payment(context.Background(), p.ID); p.State.Status != payment.Succeeded || p.VoidID != "" {
		t.Fatalf("payment is %s", p.State)
	}
	// A refund names no receipt: any terminal may do it.
	o, _, err = a.Refund(context.Background(), "till-1", "r1", "d", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	if o = a.settleOperation(o.ID); o.State.Status != payment.Succeeded {
		t.Fatalf("refund is %s: %s", o.State, o.Reason)
	}
}

// TestTerminalCrashAtEveryCommit: as for the pad. The terminal keeps working
// on its own while the agent is gone.
func TestTerminalCrashAtEveryCommit(t *testing.T) {
	void := func(a *agent) {
		if p := a.attempt("k1", sale(1000)); p.State.Status == payment.Succeeded {
			a.attemptOperation(a.Void, "v1", OperationRequest{PaymentID: p.ID})
		}
	}
	for _, s := range []struct {
		name   string
		script []command
		run    func(a *agent)
	}{
		{"sale", nil, func(a *agent) { a.attempt("k1", sale(1000)) }},
		{"part", []command{{result: drivers.Approved, amount: 400}}, func(a *agent) { a.attempt("k1", sale(1000)) }},
		{"lost", []command{{result: drivers.Approved, lost: true}}, func(a *agent) { a.attempt("k1", sale(1000)) }},
		{"void", nil, void},
		{"void lost", []command{{result: drivers.Approved}, {result: drivers.Approved, lost: true}}, void},
		{"refund", nil, func(a *agent) {
			if p := a.attempt("k1", sale(1000)); p.State.Status == payment.Succeeded {
				a.attemptOperation(a.Refund, "r1", OperationRequest{PaymentID: p.ID, Amount: 300})
			}
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for n := 1; !t.Failed(); n++ {
				reached := false
				for _, before := range []bool{true, false} {
					w := newWorld(t)
					d := &fakeTerminal{w: w, script: append([]command(nil), s.script...)}
					w.pads["R1"] = newStation(d)
					w.tune = func(o *Options) { o.Link = nil }
					a := w.start()
					w.disk.mu.Lock()
					w.disk.dieAt, w.disk.before = n, before
					w.disk.mu.Unlock()
					s.run(a)
					died := !w.disk.alive()
					a.crash()
					if !died {
						continue
					}
					reached = true
					sales := d.sales
					w.store.Close()
					w.openStore()
					b := w.start()
					for _, id := range b.allOpen() {
						var state payment.State
						if id[:4] == "pay_" {
							state = b.settle(id).State
						} else {
							state = b.settleOperation(id).State
						}
						if state.Stage == payment.StageHeld && s.name != "part" {
							t.Errorf("cut %d/%v: %s is held, and this terminal can say", n, before, id)
						}
					}
					b.auditTerminal(d)
					if d.sales != sales {
						t.Errorf("cut %d/%v: the sale was sent again", n, before)
					}
				}
				if !reached {
					if n < 4 {
						t.Fatalf("only %d commits", n)
					}
					break
				}
			}
		})
	}
}
