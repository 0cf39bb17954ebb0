package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/drivers/netport"
	virtual "tillbridge/drivers/virtual/zvt"
	"tillbridge/drivers/zvt"
)

// ZVT over TCP: engine, supervisor and driver against the virtual terminal,
// judged by the terminal's books.

// shelf is a virtual terminal under Serve.
type shelf struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Scanner
	addr string
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &shelf{t: t, in: inW, out: bufio.NewScanner(outR)}
	s.out.Buffer(nil, 1<<20)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := virtual.Serve(ctx, inR, outW, virtual.Options{}); err != nil {
			t.Error(err)
		}
		outW.Close()
	}()
	t.Cleanup(func() { cancel(); inW.Close(); outR.Close(); <-done })
	s.addr = s.line()["addr"].(string)
	return s
}

func (s *shelf) line() map[string]any {
	s.t.Helper()
	if !s.out.Scan() {
		s.t.Fatal("the terminal ended")
	}
	var m map[string]any
	if err := json.Unmarshal(s.out.Bytes(), &m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *shelf) do(commands ...string) {
	s.t.Helper()
	for _, c := range commands {
		io.WriteString(s.in, c+"\n")
		if r := s.line(); r["ok"] != true {
			s.t.Fatalf("%s: %v", c, r)
		}
	}
}

func (s *shelf) books() virtual.Books {
	s.t.Helper()
	io.WriteString(s.in, `{"do":"books"}`+"\n")
	if !s.out.Scan() {
		s.t.Fatal("the terminal ended")
	}
	var m struct {
		Books virtual.Books `json:"books"`
	}
	if err := json.Unmarshal(s.out.Bytes(), &m); err != nil {
		s.t.Fatal(err)
	}
	return m.Books
}

// station is a lane's device under the supervisor. It waits for the device as
// the agent's does.
type station struct{ s *drivers.Supervisor }

func (st station) Do(ctx context.Context, fn func(drivers.Device) error) error {
	return st.s.Do(ctx, "terminal1", fn)
}

type zvtWorld struct {
	*world
	station station
}

func newZVTWorld(t *testing.T) (*zvtWorld, *shelf) {
	t.Helper()
	sh := newShelf(t)
	s, err := drivers.NewSupervisor(drivers.SupervisorOptions{
		Buses: []drivers.Bus{netport.New(&netport.Options{Addresses: []string{sh.addr}})}, Drivers: []drivers.Driver{zvt.Driver{}},
		Devices: []drivers.DeviceConfig{{Name: "terminal1", Protocol: "zvt", Ports: []string{sh.addr}}},
		Poll:    20 * time.Millisecond, Debounce: time.Millisecond, BackoffFirst: 5 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	w := &zvtWorld{newWorld(t), station{s}}
	w.tune = func(o *Options) {
		o.Lanes = append(o.Lanes, Lane{RegisterID: "R1", DeviceID: "terminal1", TerminalID: "T1", MerchantID: "M1", Device: station{s}})
	}
	// The first health check says that it is open.
	limit := time.Now().Add(guard)
	for s.Devices()[0].State != drivers.StateReady {
		if time.Now().After(limit) {
			t.Fatalf("the terminal does not become ready: %+v", s.Devices()[0])
		}
		time.Sleep(time.Millisecond)
	}
	return w, sh
}

// inBooks compares what the terminal booked.
func (s *shelf) inBooks(sales, reversals int, net int64) {
	s.t.Helper()
	b := s.books()
	if b.Sales != sales || b.Reversals != reversals || b.Net["978"] != net || b.DoubleCharges != 0 {
		s.t.Errorf("the terminal's books: %d sales, %d reversals, net %v, %d double charges; want %d, %d, %d, 0: %+v",
			b.Sales, b.Reversals, b.Net, b.DoubleCharges, sales, reversals, net, b.Records)
	}
}

func TestZVTSaleWhoseAnswerWasLost(t *testing.T) {
	w, sh := newZVTWorld(t)
	a := w.start()
	sh.do(`{"do":"tap"}`)
	wantState(t, a.pay("first", sale(1000)), payment.Succeeded, "")
	sh.do(`{"do":"fault","fault":"lose-status"}`, `{"do":"insert"}`)
	p := a.pay("lost", sale(2240))
	wantState(t, p, payment.Succeeded, "")
	if p.Approved != 2240 || p.Terminal.Receipt != "0002" || p.Card.Last4 != "1111" {
		t.Errorf("recovered as %+v %+v", p.Terminal, p.Card)
	}
	sh.do(`{"do":"decline","code":5}`)
	wantState(t, a.pay("declined", sale(5000)), payment.Declined, payment.StageByIssuer)
	sh.do(`{"do":"cancel"}`)
	wantState(t, a.pay("cancelled", sale(5100)), payment.Canceled, payment.StageByCustomer)
	sh.inBooks(2, 0, 3240)
}

func TestZVTLineFaultsOfASale(t *testing.T) {
	for _, c := range []struct {
		fault  string
		status payment.Status
		stage  payment.Stage
		net    int64
	}{
		{"drop-after-ack", payment.Succeeded, "", 2240},
		{"hang-up", payment.Declined, payment.StageByIssuer, 0},       // the terminal reversed by itself
		{"auto-reversal", payment.Declined, payment.StageByIssuer, 0}, // after an approval that was answered
		{"contradict", payment.Succeeded, "", 2240},
		{"wrong-amount", payment.Declined, payment.StageByIssuer, 0},
		{"wrong-currency", payment.Declined, payment.StageByIssuer, 0},
		{"no-amount", payment.Declined, payment.StageByIssuer, 0},
		{"stale", payment.Succeeded, "", 2240}, // an old refusal comes before the query that goes before a sale
	} {
		t.Run(c.fault, func(t *testing.T) {
			w, sh := newZVTWorld(t)
			a := w.start()
			sh.do(`{"do":"tap"}`)
			wantState(t, a.pay("first", sale(1000)), payment.Succeeded, "")
			sh.do(`{"do":"fault","fault":"`+c.fault+`"}`, `{"do":"insert"}`)
			p := a.pay("second", sale(2240))
			b := sh.books()
			if b.Net["978"] != 1000+c.net || b.DoubleCharges != 0 {
				t.Errorf("net %v, %d double charges, want %d: %+v", b.Net, b.DoubleCharges, 1000+c.net, b.Records)
			}
			wantState(t, p, c.status, c.stage)
		})
	}
}

func TestZVTPartIsTakenBack(t *testing.T) {
	w, sh := newZVTWorld(t)
	a := w.start()
	sh.do(`{"do":"tap"}`)
	wantState(t, a.pay("first", sale(1000)), payment.Succeeded, "")
	sh.do(`{"do":"fault","fault":"partial"}`, `{"do":"tap"}`)
	wantState(t, a.pay("part", sale(2000)), payment.Declined, payment.StageByRule)
	sh.inBooks(2, 1, 1000)
	// A till that accepts parts keeps it.
	sh.do(`{"do":"fault","fault":"partial"}`, `{"do":"tap"}`)
	r := sale(2000)
	r.AcceptPartial = true
	p := a.pay("part-accepted", r)
	wantState(t, p, payment.Succeeded, "")
	if p.Approved != 1000 {
		t.Errorf("approved %d of a part of 1000", p.Approved)
	}
	sh.inBooks(3, 1, 2000)
}

func TestZVTVoid(t *testing.T) {
	w, sh := newZVTWorld(t)
	a := w.start()
	sh.do(`{"do":"tap"}`)
	p := a.pay("sale", sale(1000))
	wantState(t, p, payment.Succeeded, "")
	sh.do(`{"do":"fault","fault":"lose-status"}`)
	o, _, err := a.Void(bg, "till-1", "void", "digest", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	if o = a.settleOperation(o.ID); o.State.Status != payment.Succeeded {
		t.Errorf("a void whose answer was lost is %s: %s", o.State, o.Reason)
	}
	if p = mustPayment(t, a, p.ID); p.State.Status != payment.Reversed {
		t.Errorf("the payment is %s", p.State)
	}
	sh.inBooks(1, 1, 0)
}

// What an end of day has closed cannot be voided, and the payment stays.
func TestZVTVoidAfterTheEndOfDay(t *testing.T) {
	w, sh := newZVTWorld(t)
	a := w.start()
	sh.do(`{"do":"tap"}`)
	p := a.pay("sale", sale(1000))
	err := w.station.Do(bg, func(d drivers.Device) error {
		s, err := d.(drivers.Settler).Settle(bg)
		if err == nil && (s.Result != drivers.Approved || len(s.Totals) == 0 || s.Totals[0].Amount != 1000) {
			t.Errorf("end of day: %+v", s)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := a.Void(bg, "till-1", "void", "digest", OperationRequest{PaymentID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	if o = a.settleOperation(o.ID); o.State.Status != payment.Declined {
		t.Errorf("a void after the end of day is %s: %s", o.State, o.Reason)
	}
	if p = mustPayment(t, a, p.ID); p.State.Status != payment.Succeeded {
		t.Errorf("the payment is %s", p.State)
	}
	sh.inBooks(1, 0, 1000)
}

// A booked reservation is taken back by the booking's own receipt: the
// reservation's receipt is closed.
func TestZVTVoidOfACapture(t *testing.T) {
	for _, lost := range []bool{false, true} {
		w, sh := newZVTWorld(t)
		a := w.start()
		sh.do(`{"do":"tap"}`)
		r := sale(5000)
		r.Intent = payment.IntentAuth
		p := a.pay("reservation", r)
		wantState(t, p, payment.Authorized, "")
		o, _, err := a.Capture(bg, "till-1", "capture", "digest", OperationRequest{PaymentID: p.ID, Amount: 4000})
		if err != nil {
			t.Fatal(err)
		}
		if o = a.settleOperation(o.ID); o.State.Status != payment.Succeeded {
			t.Fatalf("the capture is %s: %s", o.State, o.Reason)
		}
		if lost {
			sh.do(`{"do":"fault","fault":"lose-status"}`)
		}
		o, _, err = a.Void(bg, "till-1", "void", "digest", OperationRequest{PaymentID: p.ID})
		if err != nil {
			t.Fatal(err)
		}
		if o = a.settleOperation(o.ID); o.State.Status != payment.Succeeded {
			t.Errorf("the void of a capture is %s: %s", o.State, o.Reason)
		}
		if p = mustPayment(t, a, p.ID); p.State.Status != payment.Reversed {
			t.Errorf("the payment is %s", p.State)
		}
		if b := sh.books(); b.Net["978"] != 0 || b.Captures != 1 || b.Reversals != 1 {
			t.Errorf("books: %+v", b)
		}
	}
}
