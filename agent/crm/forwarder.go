package crm

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ForwardOptions tune a [Forwarder]. The zero value has the defaults.
type ForwardOptions struct {
	Workers     int           // deliveries side by side while the sink is well; 0 means 4
	Pace        Pace          // after failures, of one item and of the whole sink
	BreakAfter  int           // failures in a row after which the whole sink pauses; 0 means 3
	RejectLimit int           // rejections in a row with one code that are put aside; the next are kept; 0 means 3
	SendTimeout time.Duration // longest Deliver; 0 means 30 s
	AuthPause   time.Duration // first pause after refused credentials, doubling to Pace.Max; 0 means 1 min
	StopPause   time.Duration // pause after Stopped; 0 means 1 h
	Grace       time.Duration // how long Run lets deliveries end after its context ended; 0 means 3 s
	Log         *slog.Logger  // nil means none
	// Observe, when set, is called after the outcome of an item was given to
	// the outbox. It must not block.
	Observe func(Item, Result)
}

func (o *ForwardOptions) withDefaults() ForwardOptions {
	var v ForwardOptions
	if o != nil {
		v = *o
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&v.SendTimeout, 30 * time.Second}, {&v.AuthPause, time.Minute}, {&v.StopPause, time.Hour}, {&v.Grace, 3 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&v.Workers, 4}, {&v.BreakAfter, 3}, {&v.RejectLimit, 3}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	v.Pace = v.Pace.withDefaults()
	if v.Log == nil {
		v.Log = slog.New(slog.DiscardHandler)
	}
	return v
}

// Forwarder moves items of an [Outbox] to a [Sink]. Make it with
// [NewForwarder], then call Run once.
type Forwarder struct {
	outbox Outbox
	sink   Sink
	mapper Mapper
	o      ForwardOptions
	caps   Caps
	wake   chan struct{} // a delivery ended, or Resume was called

	mu     sync.Mutex
	health health
	busy   int // deliveries on their way
}

// NewForwarder returns a Forwarder that has not started.
func NewForwarder(outbox Outbox, sink Sink, mapper Mapper, o *ForwardOptions) *Forwarder {
	f := &Forwarder{outbox: outbox, sink: sink, mapper: mapper, o: o.withDefaults(), caps: sink.Caps(), wake: make(chan struct{}, 1)}
	if f.caps.MaxBatch <= 0 {
		f.caps.MaxBatch = 1
	}
	f.health = health{pace: f.o.Pace, breakAfter: f.o.BreakAfter, rejectLimit: f.o.RejectLimit, authPause: f.o.AuthPause, stopPause: f.o.StopPause}
	return f
}

// Run forwards until ctx ends, then lets the deliveries on their way end and
// returns nil. Trouble of the sink or the outbox never ends it.
func (f *Forwarder) Run(ctx context.Context) error {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	storeTrouble := 0
	for ctx.Err() == nil {
		if wait, ok := f.mayLease(time.Now()); !ok {
			f.sleep(ctx, wait, nil)
			continue
		}
		changed := f.outbox.Changed() // before looking, so that nothing falls between
		items, next, err := f.outbox.Lease(ctx, f.caps.MaxBatch)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			storeTrouble++
			pause := f.o.Pace.after(storeTrouble)
			f.o.Log.Error("crm: outbox cannot be read", "err", err, "pause", pause)
			f.sleep(ctx, pause, nil)
			continue
		}
		storeTrouble = 0
		if len(items) == 0 {
			wait := time.Duration(-1)
			if !next.IsZero() {
				wait = max(time.Until(next), time.Millisecond)
			}
			f.sleep(ctx, wait, changed)
			continue
		}
		f.mu.Lock()
		f.busy++
		f.mu.Unlock()
		deliveries.Go(func() {
			f.deliver(ctx, items)
			f.mu.Lock()
			f.busy--
			f.mu.Unlock()
			f.poke()
		})
	}
	return nil
}

// mayLease reports whether another delivery may start, and else how long to
// wait for it (negative: until a delivery ends).
func (f *Forwarder) mayLease(now time.Time) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pause := f.health.pausedUntil.Sub(now); pause > 0 {
		return pause, false
	}
	limit := f.o.Workers
	if f.health.suspect() {
		limit = 1 // one delivery finds out whether the sink is back
	}
	return -1, f.busy < limit
}

// sleep waits for the time (negative: for ever), the channel, the end of a
// delivery, Resume or ctx.
func (f *Forwarder) sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	var due <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-changed:
	case <-f.wake:
	}
}

func (f *Forwarder) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Resume ends a pause of the sink, as a person does after new credentials.
func (f *Forwarder) Resume() {
	f.mu.Lock()
	f.health.resume()
	f.mu.Unlock()
	f.poke()
}

// deliver maps the items, sends them and gives each outcome to the outbox.
func (f *Forwarder) deliver(ctx context.Context, items []Item) {
	// What is on its way when ctx ends is let finish for a short while: its
	// answer saves a second delivery.
	sendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.o.SendTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(f.o.Grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-sendCtx.Done():
		}
	})
	defer stop()
	keep := context.WithoutCancel(ctx)

	events := make([]Event, 0, len(items))
	sent := make([]Item, 0, len(items))
	for _, it := range items {
		ev, err := f.prepare(it)
		switch {
		case errors.Is(err, ErrNotEvent):
			f.give(keep, it, Result{Class: Accepted, Code: "crm.not_for_sink"}, false)
		case err != nil:
			f.dead(keep, it, Result{Class: Rejected, Code: codeOf(err), Reason: err.Error()})
		default:
			events, sent = append(events, ev), append(sent, it)
		}
	}
	if len(events) == 0 {
		return
	}
	results, err := f.sink.Deliver(sendCtx, events)
	if err != nil || len(results) != len(events) {
		r := Result{Class: Unknown, Code: "crm.no_result", Reason: "the sink does not know what became of the batch"}
		if err != nil {
			f.o.Log.Warn("crm: delivery without result", "sink", f.sink.Name(), "err", err)
		}
		results = make([]Result, len(events))
		for i := range results {
			results[i] = r
		}
	}
	for i, it := range sent {
		f.give(keep, it, results[i], true)
	}
}

// prepare makes the event of an item and checks it.
func (f *Forwarder) prepare(it Item) (Event, error) {
	ev, err := f.mapper(it)
	if err != nil {
		return Event{}, err
	}
	if !f.caps.Takes(ev.Type) {
		return Event{}, ErrNotEvent
	}
	if err := ev.Check(); err != nil {
		return Event{}, err
	}
	if f.caps.MaxBytes > 0 {
		body, err := ev.AppendJSON(nil)
		if err != nil {
			return Event{}, err
		}
		if len(body) > f.caps.MaxBytes {
			return Event{}, &EventError{"data", "is larger than the sink takes"}
		}
	}
	return ev, nil
}

func codeOf(err error) string {
	var c interface{ Code() string }
	if errors.As(err, &c) {
		return c.Code()
	}
	return "crm.mapping_failed"
}

// give tells the outbox what became of an item.
func (f *Forwarder) give(ctx context.Context, it Item, r Result, fromSink bool) {
	now := time.Now()
	v := verdict{ack: true}
	if fromSink {
		f.mu.Lock()
		v = f.health.judge(now, it.Attempts, r)
		f.mu.Unlock()
	}
	var err error
	switch {
	case v.ack:
		err = f.outbox.Ack(ctx, it.ID)
	case v.dead:
		f.dead(ctx, it, r)
		return
	default:
		err = f.outbox.Retry(ctx, it.ID, v.at, v.attempts, reasonText(r))
		level := slog.LevelInfo
		if r.Class == AuthFailed || r.Class == Stopped {
			level = slog.LevelError
		}
		f.o.Log.Log(ctx, level, "crm: not delivered", "sink", f.sink.Name(), "item", it.ID, "class", r.Class.String(), "code", r.Code, "attempts", v.attempts, "next", v.at)
	}
	if err != nil {
		f.o.Log.Error("crm: outbox refused an outcome; the item will be sent again", "item", it.ID, "class", r.Class.String(), "err", err)
	}
	if f.o.Observe != nil {
		f.o.Observe(it, r)
	}
}

func (f *Forwarder) dead(ctx context.Context, it Item, r Result) {
	f.o.Log.Error("crm: item put aside", "sink", f.sink.Name(), "item", it.ID, "code", r.Code, "reason", r.Reason)
	if err := f.outbox.Dead(ctx, it.ID, reasonText(r)); err != nil {
		f.o.Log.Error("crm: outbox refused to put an item aside; it will be sent again", "item", it.ID, "err", err)
	}
	f.mu.Lock()
	f.health.dead++
	f.mu.Unlock()
	if f.o.Observe != nil {
		f.o.Observe(it, r)
	}
}

func reasonText(r Result) string {
	if r.Reason == "" {
		return r.Code
	}
	return r.Code + ": " + r.Reason
}

// Status is a picture of a Forwarder for people and metrics.
type Status struct {
	Sink          string    `json:"sink"`
	State         string    `json:"state"` // "online", "suspect", "paused"
	Code          string    `json:"code,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	PausedUntil   time.Time `json:"paused_until,omitzero"`
	LastDelivered time.Time `json:"last_delivered,omitzero"`
	Delivered     uint64    `json:"delivered"`  // since start
	KnownAlready  uint64    `json:"duplicates"` // of those, known to the receiver already
	Failures      uint64    `json:"failures"`
	Dead          uint64    `json:"dead"` // put aside since start
}

// Status returns the present picture.
func (f *Forwarder) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := &f.health
	s := Status{Sink: f.sink.Name(), State: "online", LastDelivered: h.lastDelivered, Delivered: h.delivered, KnownAlready: h.known, Failures: h.failures, Dead: h.dead}
	if h.suspect() {
		s.State, s.Code, s.Reason = "suspect", h.code, h.reason
	}
	if time.Until(h.pausedUntil) > 0 {
		s.State, s.Code, s.Reason, s.PausedUntil = "paused", h.code, h.reason, h.pausedUntil
	}
	return s
}
