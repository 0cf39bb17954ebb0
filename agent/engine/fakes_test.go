package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/p2pe"
	"tillbridge/queue"
)

const guard = 45 * time.Second

// world is everything outside the engine: it survives the engine's crashes.
type world struct {
	t     testing.TB
	path  string
	store *queue.Store
	seal  *KeySealer
	host  *fakeHost
	pads  map[string]*fakeStation
	// disk wraps the store of the present engine.
	disk *fakeDisk
	now  func() time.Time
	tune func(o *Options)
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, path: filepath.Join(fastDir(t), "store.db"), pads: map[string]*fakeStation{}}
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	var err error
	if w.seal, err = NewKeySealer(key); err != nil {
		t.Fatal(err)
	}
	w.host = &fakeHost{w: w, charges: map[string]*charge{}, stans: map[string]string{}}
	w.openStore()
	t.Cleanup(func() { w.store.Close() })
	return w
}

// fastDir is a directory in memory where there is one: the crashes of these
// tests are the process's, those of the disk are package queue's.
func fastDir(t testing.TB) string {
	if dir, err := os.MkdirTemp("/dev/shm", "engine"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

func (w *world) openStore() {
	s, err := queue.Open(w.path, &queue.Options{Reserve: -1, MinFree: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = s
}

func (w *world) errorf(format string, args ...any) { w.t.Helper(); w.t.Errorf(format, args...) }

// agent is one life of the process.
type agent struct {
	*Engine
	w      *world
	cancel context.CancelFunc
	done   chan error
}

// start opens an engine on the world's store and waits until it is ready.
func (w *world) start() *agent {
	w.t.Helper()
	a := w.launch()
	deadline := time.Now().Add(guard)
	for !a.Ready() {
		changed := a.Changed()
		if a.Ready() {
			break
		}
		select {
		case err := <-a.done:
			a.done <- err
			w.t.Fatalf("Run ended before it was ready: %v", err)
		case <-changed:
		case <-time.After(time.Until(deadline)):
			w.t.Fatal("the engine is not ready")
		}
	}
	return a
}

func (w *world) launch() *agent { return w.launchDying(0, false) }

// launchDying starts a life that ends at a commit.
func (w *world) launchDying(at int, before bool) *agent {
	w.t.Helper()
	w.disk = &fakeDisk{Store: w.store, gone: make(chan struct{}), dieAt: at, before: before}
	w.host.life(w.disk)
	o := Options{Store: w.disk, Sealer: w.seal, Link: w.host, Now: w.now, Log: slog.New(slog.DiscardHandler),
		RetryFirst: time.Millisecond, RetryMax: 4 * time.Millisecond, Grace: -1, HostTimeout: guard, CardTimeout: guard, DeviceTimeout: guard,
		TerminalTimeout: guard, StoreTimeout: guard}
	for id, st := range w.pads {
		st.life(w.disk)
		o.Lanes = append(o.Lanes, Lane{RegisterID: id, DeviceID: "dev-" + id, TerminalID: "T" + id, MerchantID: "M1", Device: st})
	}
	if w.tune != nil {
		w.tune(&o)
	}
	e, err := Open(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{Engine: e, w: w, cancel: cancel, done: make(chan error, 1)}
	go func() { a.done <- e.Run(ctx) }()
	w.t.Cleanup(a.stop)
	return a
}

func (a *agent) stop() {
	a.cancel()
	select {
	case <-a.done:
		a.done <- nil
	case <-time.After(guard):
		a.w.t.Error("Run does not end")
	}
}

// crash ends the life as SIGKILL does: nothing more is stored or sent.
func (a *agent) crash() {
	a.w.disk.die()
	a.stopHard()
	a.stop()
}

// fakeDisk lets a life end at a chosen commit, or makes commits doubtful.
type fakeDisk struct {
	Store
	mu      sync.Mutex
	commits int
	dieAt   int  // die around this commit, from 1; 0 means never
	before  bool // die before it is durable
	gone    chan struct{}
	dead    bool
	// onCommit may replace the result of a commit: it gets the number and a
	// function that performs it.
	onCommit func(n int, do func() error) error
}

func (d *fakeDisk) die() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead {
		d.dead = true
		close(d.gone)
	}
}

func (d *fakeDisk) alive() bool {
	select {
	case <-d.gone:
		return false
	default:
		return true
	}
}

var errDead = fmt.Errorf("the process is dead: %w", queue.ErrClosed)

func (d *fakeDisk) Commit(ctx context.Context, fn func(*queue.Tx) error) error {
	if !d.alive() {
		return errDead
	}
	d.mu.Lock()
	d.commits++
	n, hook := d.commits, d.onCommit
	last := d.dieAt != 0 && n >= d.dieAt
	d.mu.Unlock()
	if last && d.before {
		d.die()
		return errDead
	}
	do := func() error { return d.Store.Commit(context.WithoutCancel(ctx), fn) }
	var err error
	if hook != nil {
		err = hook(n, do)
	} else {
		err = do()
	}
	if last {
		d.die()
		return errDead
	}
	return err
}

func (d *fakeDisk) View(ctx context.Context, fn func(*queue.Tx) error) error {
	if !d.alive() {
		return errDead
	}
	return d.Store.View(ctx, fn)
}

// charge is a line of the host's books.
type charge struct {
	kind     acquirer.Kind
	amount   int64
	original string
	reversed bool
	stan     int
	times    int
}

// answer is what the host does with one request.
type answer struct {
	outcome acquirer.Outcome
	code    string
	amount  int64 // approved; 0 means asked
	book    bool  // with Unknown: the request was booked and the answer lost
	hold    chan struct{}
}

// fakeHost keeps books and checks that what the engine promises is durable
// before a request arrives.
type fakeHost struct {
	w  *world
	mu sync.Mutex
	// script is taken in order; when empty everything is approved.
	script    []answer
	charges   map[string]*charge
	stans     map[string]string  // terminal+stan -> reference
	inquiries bool               // the host answers inquiries
	onInquiry chan chan struct{} // an inquiry waits until what it sends here is closed
	acks      []acquirer.AckState
	reversals int
	requests  int
	seen      []acquirer.Request
	revs      []acquirer.Reversal
	gone      chan struct{}
	arrived   chan string // gets the reference of each request, when set
}

func (h *fakeHost) life(d *fakeDisk) { h.mu.Lock(); h.gone = d.gone; h.mu.Unlock() }

func (h *fakeHost) dead() bool {
	select {
	case <-h.gone:
		return true
	default:
		return false
	}
}

var errHost = &acquirer.Error{Op: "authorize", Sent: true, Err: acquirer.ErrTimeout}

// durable reads a record as it is on disk now.
func (w *world) durable(id string) *held {
	e := &Engine{o: Options{Sealer: w.seal, Now: time.Now}}
	var h *held
	err := w.store.View(context.Background(), func(tx *queue.Tx) error {
		r, err := tx.Get(id)
		if err != nil {
			return err
		}
		h, err = e.decode(r)
		return err
	})
	if err != nil {
		w.errorf("record %s on disk: %v", id, err)
		return nil
	}
	return h
}

func (h *fakeHost) Authorize(ctx context.Context, r acquirer.Request) (acquirer.Result, error) {
	h.mu.Lock()
	if h.dead() {
		h.mu.Unlock()
		return acquirer.Result{Outcome: acquirer.NotSent}, &acquirer.Error{Op: "authorize", Err: acquirer.ErrClosed}
	}
	if rec := h.w.durable(r.Reference); rec == nil || rec.facts()&(payment.Armed|payment.Sent) != payment.Armed|payment.Sent {
		h.w.errorf("R1: a request for %s reached the host before its record was durable", r.Reference)
	} else if stanOf(rec.hostRef()) != r.STAN {
		h.w.errorf("R1: the STAN of %s was sent before it was durable", r.Reference)
	}
	h.requests++
	h.seen = append(h.seen, r)
	k := fmt.Sprintf("%s/%06d", r.TerminalID, r.STAN)
	if was, ok := h.stans[k]; ok {
		h.w.errorf("STAN %s was used for %s and again for %s", k, was, r.Reference)
	}
	h.stans[k] = r.Reference
	a := answer{outcome: acquirer.Approved}
	if len(h.script) > 0 {
		a, h.script = h.script[0], h.script[1:]
	}
	amount := r.Amounts.Amount
	if a.amount != 0 {
		amount = a.amount
	}
	if a.outcome == acquirer.Approved || a.book {
		c := h.charges[r.Reference]
		if c == nil {
			c = &charge{kind: r.Kind, amount: amount, stan: r.STAN}
			if r.Original != nil {
				c.original = r.Original.Reference
			}
			h.charges[r.Reference] = c
		}
		if c.times++; c.times > 1 {
			h.w.errorf("%s was charged %d times", r.Reference, c.times)
		}
	}
	arrived, gone := h.arrived, h.gone
	h.mu.Unlock()
	if arrived != nil {
		arrived <- r.Reference
	}
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-gone:
			return acquirer.Result{}, errHost
		case <-ctx.Done():
			return acquirer.Result{}, errHost
		}
	}
	res := acquirer.Result{Outcome: a.outcome, ResponseCode: a.code}
	switch a.outcome {
	case acquirer.Approved:
		res.ResponseCode, res.ARC, res.ApprovedAmount, res.Partial = "00", "00", amount, amount < r.Amounts.Amount
		res.ApprovalCode, res.RRN, res.Token, res.PAR = "A12345", "RRN"+r.Reference[len(r.Reference)-6:], "tok_1", "PAR0001"
	case acquirer.Declined:
		if res.ResponseCode == "" {
			res.ResponseCode = "05"
		}
		res.Class = acquirer.Classify(res.ResponseCode)
	case acquirer.NotSent:
		return res, &acquirer.Error{Op: "authorize", Err: acquirer.ErrUnreachable}
	default:
		return res, errHost
	}
	return res, nil
}

func (h *fakeHost) Reverse(ctx context.Context, r acquirer.Reversal) (acquirer.Ack, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead() {
		return acquirer.Ack{State: acquirer.AckNotSent}, errHost
	}
	rec := h.w.durable(r.Original.Reference)
	if rec == nil || !rec.facts().Has(payment.ReversalDurable) {
		h.w.errorf("R3: the reversal of %s was sent before it was durable", r.Original.Reference)
	} else if rec.reversal().Attempts != r.Attempt+1 {
		h.w.errorf("attempt %d of the reversal of %s was sent before it was durable", r.Attempt, r.Original.Reference)
	}
	h.reversals++
	h.revs = append(h.revs, r)
	state := acquirer.AckDone
	if len(h.acks) > 0 {
		state, h.acks = h.acks[0], h.acks[1:]
	}
	c := h.charges[r.Original.Reference]
	switch state {
	case acquirer.AckDone:
		if c == nil {
			return acquirer.Ack{State: acquirer.AckNotFound, ResponseCode: "25"}, nil
		}
		c.reversed = true
		return acquirer.Ack{State: acquirer.AckDone, ResponseCode: "00"}, nil
	case acquirer.AckRefused:
		return acquirer.Ack{State: state, ResponseCode: "96"}, nil
	case acquirer.AckUnknown:
		if c != nil { // done, and the acknowledgement lost
			c.reversed = true
		}
	}
	return acquirer.Ack{State: state}, errHost
}

func (h *fakeHost) Inquire(ctx context.Context, q acquirer.Inquiry) (acquirer.Finding, error) {
	if h.onInquiry != nil {
		proceed := make(chan struct{})
		h.onInquiry <- proceed
		<-proceed
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead() || !h.inquiries {
		return acquirer.Finding{State: acquirer.FoundUnable}, nil
	}
	c := h.charges[q.Original.Reference]
	switch {
	case c == nil:
		return acquirer.Finding{State: acquirer.FoundNotFound}, nil
	case c.reversed:
		return acquirer.Finding{State: acquirer.FoundReversed}, nil
	}
	return acquirer.Finding{State: acquirer.FoundApproved, Result: acquirer.Result{Outcome: acquirer.Approved, ResponseCode: "00", ApprovedAmount: c.amount, ApprovalCode: "A12345", Token: "tok_1", PAR: "PAR0001"}}, nil
}

func (h *fakeHost) Advise(context.Context, acquirer.Advice) (acquirer.Ack, error) {
	return acquirer.Ack{}, errHost
}
func (h *fakeHost) Echo(context.Context) error { return nil }

// net is what the books say a payment cost the cardholder.
func (h *fakeHost) net(id string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sum int64
	if c := h.charges[id]; c != nil && !c.reversed {
		sum = c.amount
	}
	for _, c := range h.charges {
		if c.original != id || c.reversed {
			continue
		}
		switch c.kind {
		case acquirer.Void:
			sum = 0
		case acquirer.Refund:
			sum -= c.amount
		}
	}
	return sum
}

func (h *held) facts() payment.Facts {
	if h.Payment != nil {
		return h.Payment.Facts
	}
	return h.Operation.Facts
}

func (h *held) hostRef() payment.HostRef {
	if h.Payment != nil {
		return h.Payment.Host
	}
	return h.Operation.Host
}

// fakeStation gives its device out, one caller at a time.
type fakeStation struct {
	mu     sync.Mutex
	device drivers.Device
	absent bool
	gone   chan struct{}
	sem    chan struct{}
}

func newStation(d drivers.Device) *fakeStation {
	return &fakeStation{device: d, sem: make(chan struct{}, 1)}
}

func (s *fakeStation) life(d *fakeDisk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = d.gone
	if l, ok := s.device.(interface{ life(*fakeDisk) }); ok {
		l.life(d)
	}
}

func (s *fakeStation) Do(ctx context.Context, fn func(d drivers.Device) error) error {
	select {
	case s.sem <- struct{}{}:
		defer func() { <-s.sem }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	absent, d := s.absent, s.device
	s.mu.Unlock()
	if absent {
		return drivers.ErrNoPort
	}
	return fn(d)
}

// fakePad is a pad with a kernel, scripted.
type fakePad struct {
	w           *world
	mu          sync.Mutex
	gone        chan struct{}
	entry       emv.Entry
	earlyCrypto bool
	lateWord    bool // of a tap: the decision comes from Authorize
	readErr     error
	authErr     error
	decision    emv.Decision // of Authorize
	last        emv.Decision // of Complete, when the host approved
	completeErr error
	hold        chan struct{} // Read waits for it
	waiting     chan struct{} // gets a value when Read waits
	sessions    int
	open        int // sessions begun and not ended
	completes   []emv.HostResponse
	checkArmed  func()
}

func newPad(w *world) *fakePad {
	return &fakePad{w: w, entry: emv.EntryContact, decision: emv.OnlineRequest, last: emv.Approved}
}

func (p *fakePad) life(d *fakeDisk)   { p.mu.Lock(); p.gone = d.gone; p.mu.Unlock() }
func (p *fakePad) Info() drivers.Info { return drivers.Info{Protocol: "fake"} }
func (p *fakePad) Identify(context.Context) (drivers.Identity, error) {
	return drivers.Identity{}, nil
}
func (p *fakePad) Health(context.Context) (drivers.Health, error) {
	return drivers.Health{OK: true}, nil
}
func (p *fakePad) Close() error { return nil }

func (p *fakePad) Begin(ctx context.Context) (emv.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions++
	p.open++
	return &fakeSession{p: p, canceled: make(chan struct{})}, nil
}

type fakeSession struct {
	p        *fakePad
	once     sync.Once
	end      sync.Once
	canceled chan struct{}
}

const padCiphertext = "PADCIPHERTEXT-0123456789ABCDEF"

func (s *fakeSession) Read(ctx context.Context, t emv.Terms) (emv.Card, error) {
	p := s.p
	p.mu.Lock()
	hold, waiting, gone := p.hold, p.waiting, p.gone
	p.mu.Unlock()
	if waiting != nil {
		waiting <- struct{}{}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-s.canceled:
			return emv.Card{}, fmt.Errorf("read: %w", emv.ErrCancelled)
		case <-ctx.Done():
			return emv.Card{}, ctx.Err()
		case <-gone:
			return emv.Card{}, drivers.ErrUnplugged
		}
	}
	if p.readErr != nil {
		return emv.Card{}, p.readErr
	}
	c := emv.Card{Entry: p.entry, AID: "A0000000041010", Label: "MASTERCARD", MaskedPAN: "541333******0019", Last4: "0019", BIN6: "541333", PANSequence: 1,
		Data: p2pe.Envelope{Scheme: p2pe.SchemeTDESDUKPT, KSN: "FFFF9876543210E00001", TLV57: []byte(padCiphertext)}}
	if p.earlyCrypto {
		if p.checkArmed != nil {
			p.checkArmed()
		}
		c.CryptogramMade = true
		if !p.lateWord {
			c.Outcome = emv.Outcome{Decision: p.decision, CVMText: "no CVM", Field55: []byte{0x9F, 0x26, 0x00}}
		}
	}
	return c, nil
}

const pinBlock = "PINBLOCK"

func (s *fakeSession) Authorize(ctx context.Context, a emv.Amounts) (emv.Outcome, error) {
	if s.p.checkArmed != nil {
		s.p.checkArmed()
	}
	if s.p.authErr != nil {
		return emv.Outcome{}, s.p.authErr
	}
	return emv.Outcome{Decision: s.p.decision, CVMText: "online PIN", Field55: []byte{0x9F, 0x26, 0x00}, PIN: p2pe.PINBlock{KSN: "FFFF9876543210E00001", Block: []byte(pinBlock)}}, nil
}

func (s *fakeSession) Complete(ctx context.Context, h emv.HostResponse) (emv.Outcome, error) {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.completes = append(p.completes, h)
	if p.completeErr != nil {
		return emv.Outcome{}, p.completeErr
	}
	s.end.Do(func() { p.open-- })
	if h.Approved {
		return emv.Outcome{Decision: p.last, ReversalNeeded: p.last != emv.Approved}, nil
	}
	return emv.Outcome{Decision: emv.Declined}, nil
}

func (s *fakeSession) Cancel(context.Context) error {
	s.once.Do(func() { close(s.canceled) })
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.end.Do(func() { s.p.open-- })
	return nil
}

func sale(amount int64) payment.Request {
	return payment.Request{Amount: payment.Amounts{Total: amount, Currency: "EUR"}, RegisterID: "R1", Reference: "order 17"}
}

// pay starts a payment and waits for its end.
func (a *agent) pay(key string, r payment.Request) payment.Payment {
	a.w.t.Helper()
	p, _, err := a.StartPayment(context.Background(), "till-1", key, "digest of "+key, r)
	if err != nil {
		a.w.t.Fatalf("starting %s: %v", key, err)
	}
	return a.settle(p.ID)
}

// settle waits until a payment is final or held.
func (a *agent) settle(id string) payment.Payment {
	a.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	for {
		changed := a.Changed()
		p, err := a.Payment(ctx, id)
		if err != nil {
			a.w.t.Fatalf("reading %s: %v", id, err)
		}
		if p.State.Final() || p.State.Stage == payment.StageHeld {
			a.freed(p.Request.RegisterID, id)
			return p
		}
		a.notClosed(p.Request.RegisterID)
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // a register closes without a commit
		case <-ctx.Done():
			a.w.t.Fatalf("%s stays %s: %s", id, p.State, p.Reason)
		}
	}
}

// notClosed fails when a register was closed over a record that could not be
// kept: nothing will move it.
func (a *agent) notClosed(register string) {
	a.w.t.Helper()
	if l := a.lanes[register]; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.broken != "" {
			a.w.t.Fatalf("register %s is closed: %s", register, l.broken)
		}
	}
}

// freed waits until the payment's goroutine has given the lane back.
func (a *agent) freed(register, id string) {
	a.w.t.Helper()
	l := a.lanes[register]
	for l != nil {
		ch := l.freed()
		if job := l.holder(); job == nil || job.id != id {
			return
		}
		select {
		case <-ch:
		case <-time.After(guard):
			a.w.t.Fatalf("register %s is not given back", register)
		}
	}
}

func (a *agent) settleOperation(id string) payment.Operation {
	a.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	for {
		changed := a.Changed()
		o, err := a.Operation(ctx, id)
		if err != nil {
			a.w.t.Fatalf("reading %s: %v", id, err)
		}
		if o.State.Final() || o.State.Stage == payment.StageHeld {
			a.freed(o.RegisterID, id)
			return o
		}
		a.notClosed(o.RegisterID)
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			a.w.t.Fatalf("%s stays %s: %s", id, o.State, o.Reason)
		}
	}
}

// audit compares every record with the host's books.
func (a *agent) audit() {
	a.w.t.Helper()
	ctx := context.Background()
	list, err := a.Payments(ctx, Filter{Limit: 200})
	if err != nil {
		a.w.t.Fatal(err)
	}
	for _, p := range list {
		if p.State.Status == payment.InDoubt {
			continue
		}
		var want int64
		switch p.State.Status {
		case payment.Succeeded, payment.Authorized:
			want = p.Approved - p.Refunded
		}
		if got := a.w.host.net(p.ID); got != want {
			a.w.t.Errorf("books: %s is %s, record says %d, the host %d\n%v", p.ID, p.State, want, got, p.Steps)
		}
		if p.RefundsOpen != 0 {
			a.w.t.Errorf("books: %s has %d open refunds", p.ID, p.RefundsOpen)
		}
	}
	// each record's last event says the record's state: they share a commit
	events, err := a.Events(ctx, 0, 10000)
	if err != nil {
		a.w.t.Fatal(err)
	}
	last := map[string]payment.Event{}
	for _, ev := range events {
		last[ev.Subject] = ev
	}
	for _, p := range list {
		if ev := last[p.ID]; ev.Data.Outcome != p.State.Status || ev.Data.Stage != p.State.Stage {
			a.w.t.Errorf("events: %s is %s, its last event says %s/%s", p.ID, p.State, ev.Data.Outcome, ev.Data.Stage)
		}
	}
}

func wantState(t testing.TB, p payment.Payment, status payment.Status, stage payment.Stage) {
	t.Helper()
	if p.State != (payment.State{Status: status, Stage: stage}) {
		t.Fatalf("%s is %s (%s), want %s/%s; %v", p.ID, p.State, p.Reason, status, stage, p.Steps)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}
