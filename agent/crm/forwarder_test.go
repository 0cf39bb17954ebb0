package crm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is an Outbox as the interface describes it.
type memory struct {
	mu      sync.Mutex
	items   []*entry
	changed chan struct{}
	broken  error // returned by Lease
	log     []string
}

type entry struct {
	Item
	at           time.Time
	leased, gone bool
	reason       string
}

func newMemory(items ...Item) *memory {
	m := &memory{changed: make(chan struct{}, 1)}
	for _, it := range items {
		m.add(it.Key, it.Body)
	}
	return m
}

func (m *memory) add(key string, body []byte) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := uint64(len(m.items) + 1)
	m.items = append(m.items, &entry{Item: Item{ID: id, Key: key, Body: body, Recorded: time.Now()}})
	m.signal()
	return id
}

func (m *memory) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *memory) Lease(_ context.Context, max int) (list []Item, next time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, time.Time{}, m.broken
	}
	seen := map[string]bool{}
	for _, e := range m.items {
		if e.gone || (e.Key != "" && seen[e.Key]) {
			continue
		}
		seen[e.Key] = true
		switch {
		case e.leased:
		case e.at.After(time.Now()):
			if next.IsZero() || e.at.Before(next) {
				next = e.at
			}
		case len(list) < max:
			e.leased = true
			list = append(list, e.Item)
		}
	}
	return list, next, nil
}

func (m *memory) settle(id uint64, what string, f func(*entry)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.items[id-1]
	if e.gone || !e.leased {
		return errors.New("not leased")
	}
	e.leased = false
	f(e)
	m.log = append(m.log, fmt.Sprintf("%s %d", what, id))
	m.signal()
	return nil
}

func (m *memory) Ack(_ context.Context, id uint64) error {
	return m.settle(id, "ack", func(e *entry) { e.gone = true })
}

func (m *memory) Retry(_ context.Context, id uint64, at time.Time, attempts int, reason string) error {
	return m.settle(id, "retry", func(e *entry) { e.at, e.Attempts, e.reason = at, attempts, reason })
}

func (m *memory) Dead(_ context.Context, id uint64, reason string) error {
	return m.settle(id, "dead", func(e *entry) { e.gone, e.reason = true, reason })
}

func (m *memory) Changed() <-chan struct{} { return m.changed }

func (m *memory) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, e := range m.items {
		if !e.gone {
			n++
		}
	}
	return n
}

func (m *memory) entry(id uint64) entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.items[id-1]
}

// script is a Sink that answers by a function and notes what it was sent.
type script struct {
	mu     sync.Mutex
	answer func(n int, ev Event) Result // n counts from 1
	batch  int
	err    error
	sent   []Event
	at     []time.Time
	active map[string]int
	worst  int // most deliveries of one key side by side
	most   int // most deliveries side by side
	now    int
	slow   time.Duration
}

func (s *script) Name() string                { return "script" }
func (s *script) Caps() Caps                  { return Caps{MaxBatch: s.batch, MaxBytes: 4096} }
func (s *script) Probe(context.Context) error { return nil }
func (s *script) Lookup(context.Context, CustomerKey) (CustomerContext, error) {
	return CustomerContext{}, ErrUnsupported
}

func (s *script) Deliver(ctx context.Context, batch []Event) ([]Result, error) {
	s.mu.Lock()
	var results []Result
	s.now++
	s.most = max(s.most, s.now)
	for _, ev := range batch {
		s.sent = append(s.sent, ev)
		s.at = append(s.at, time.Now())
		if s.active == nil {
			s.active = map[string]int{}
		}
		s.active[ev.PartitionKey]++
		s.worst = max(s.worst, s.active[ev.PartitionKey])
		r := Result{Class: Accepted}
		if s.answer != nil {
			r = s.answer(len(s.sent), ev)
		}
		results = append(results, r)
	}
	err, slow := s.err, s.slow
	s.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	for _, ev := range batch {
		s.active[ev.PartitionKey]--
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

func (s *script) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, e := range s.sent {
		list = append(list, e.ID)
	}
	return list
}

func (s *script) times() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []time.Duration
	for _, t := range s.at {
		list = append(list, t.Sub(s.at[0]))
	}
	return list
}

// simple makes the event "e<id>" of an item; the body "skip" is none, "bad"
// cannot be mapped, and other bodies become the reference.
func simple(it Item) (Event, error) {
	switch string(it.Body) {
	case "skip":
		return Event{}, ErrNotEvent
	case "bad":
		return Event{}, errors.New("no such form")
	}
	return Event{ID: fmt.Sprintf("e%d", it.ID), Source: "/t", Type: TypeApproved, Time: it.Recorded, PartitionKey: it.Key, Sequence: it.ID,
		Data: Data{PaymentID: "pay_1", Kind: "sale", Outcome: "approved", Currency: "EUR", AmountMinor: 100, Reference: string(it.Body)}}, nil
}

// run runs a forwarder in a bubble until f returns.
func run(t *testing.T, out Outbox, s Sink, o *ForwardOptions, f func(*Forwarder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if m, ok := out.(*memory); ok {
			m.changed = make(chan struct{}, 1) // of this bubble, so that time can pass
			m.signal()
		}
		ctx, cancel := context.WithCancel(t.Context())
		fw := NewForwarder(out, s, simple, o)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := fw.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		f(fw)
		cancel()
		wg.Wait()
	})
}

func steady() *ForwardOptions {
	return &ForwardOptions{Workers: 1, Pace: Pace{First: time.Second, Max: time.Minute, Jitter: -1}}
}

func TestForwarderDeliversInOrderPerKey(t *testing.T) {
	m := newMemory()
	want := map[string][]string{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		key := fmt.Sprintf("c%d", r.IntN(7))
		m.add(key, nil)
		want[key] = append(want[key], fmt.Sprintf("e%d", i+1))
	}
	s := &script{slow: 10 * time.Millisecond}
	got := map[string][]string{} // what the receiver accepted
	n := 0
	s.answer = func(_ int, ev Event) Result {
		if n++; n%5 == 0 { // a failure now and then must not let the next one pass
			return Result{Class: Retry, Code: "http.500"}
		}
		got[ev.PartitionKey] = append(got[ev.PartitionKey], ev.ID)
		return Result{Class: Accepted}
	}
	o := steady()
	o.Workers = 4
	run(t, m, s, o, func(*Forwarder) { time.Sleep(2 * time.Hour); synctest.Wait() })
	for k, ids := range want {
		if strings.Join(got[k], " ") != strings.Join(ids, " ") {
			t.Errorf("customer %s: got %v, want %v", k, got[k], ids)
		}
	}
	if m.waiting() != 0 {
		t.Errorf("%d items left", m.waiting())
	}
	if s.worst != 1 {
		t.Errorf("%d events of one customer were on their way side by side", s.worst)
	}
	if s.most < 2 {
		t.Error("customers never travelled side by side")
	}
}

// TestForwarderAcksAfterDelivery: while the receiver has not answered, nothing
// may be acknowledged.
func TestForwarderAcksAfterDelivery(t *testing.T) {
	m := newMemory(Item{Key: "a"})
	s := &script{slow: 5 * time.Second}
	run(t, m, s, steady(), func(*Forwarder) {
		time.Sleep(time.Second)
		synctest.Wait()
		if len(s.ids()) != 1 || m.waiting() != 1 {
			t.Errorf("sent %d, waiting %d before the receiver answered", len(s.ids()), m.waiting())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if m.waiting() != 0 {
			t.Error("not acknowledged after the answer")
		}
	})
}

func TestForwarderClasses(t *testing.T) {
	for _, c := range []struct {
		name     string
		first    Result
		ack      bool // after the first delivery
		dead     bool
		attempts int
		wait     time.Duration
	}{
		{"accepted", Result{Class: Accepted}, true, false, 0, 0},
		{"known already", Result{Class: Duplicate}, true, false, 0, 0},
		{"later", Result{Class: Retry, Code: "http.500"}, false, false, 1, time.Second},
		{"later, with the receiver's own time", Result{Class: Retry, RetryAfter: 7 * time.Second}, false, false, 1, 7 * time.Second},
		{"no answer is no failure", Result{Class: Unknown, Code: "net.timeout"}, false, false, 1, time.Second},
		{"conflict", Result{Class: Conflict}, false, false, 1, time.Second},
		{"throttled burns no attempt", Result{Class: Throttled, RetryAfter: 90 * time.Second}, false, false, 0, 90 * time.Second},
		{"credentials refused burn no attempt", Result{Class: AuthFailed, Code: "http.401"}, false, false, 0, time.Minute},
		{"asked to stop", Result{Class: Stopped, Code: "http.410"}, false, false, 0, time.Hour},
		{"rejected", Result{Class: Rejected, Code: "http.422"}, false, true, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory(Item{Key: "a"})
			s := &script{answer: func(n int, _ Event) Result {
				if n == 1 {
					return c.first
				}
				return Result{Class: Accepted}
			}}
			run(t, m, s, steady(), func(*Forwarder) {
				synctest.Wait()
				e := m.entry(1)
				acked := e.gone && m.log[0] == "ack 1"
				dead := e.gone && m.log[0] == "dead 1"
				if acked != c.ack || dead != c.dead || e.Attempts != c.attempts {
					t.Fatalf("acked %v dead %v attempts %d, want %v %v %d", acked, dead, e.Attempts, c.ack, c.dead, c.attempts)
				}
				if c.ack || c.dead {
					return
				}
				if got := time.Until(e.at); got != c.wait {
					t.Errorf("next attempt in %v, want %v", got, c.wait)
				}
				time.Sleep(c.wait + time.Second)
				synctest.Wait()
				if ids := s.ids(); len(ids) != 2 || ids[0] != ids[1] {
					t.Errorf("sent %v, want the same id twice", ids)
				}
				if m.waiting() != 0 {
					t.Error("not acknowledged after the second attempt")
				}
			})
		})
	}
}

// TestForwarderPausesAllOnRefusedCredentials: other customers' events must not
// run into the same wall, and none may be lost.
func TestForwarderPausesAllOnRefusedCredentials(t *testing.T) {
	m := newMemory()
	for i := range 20 {
		m.add(fmt.Sprint("c", i), nil)
	}
	refused := true
	s := &script{}
	s.answer = func(int, Event) Result {
		if refused {
			return Result{Class: AuthFailed, Code: "http.401", Reason: "key revoked"}
		}
		return Result{Class: Accepted}
	}
	run(t, m, s, steady(), func(f *Forwarder) {
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := len(s.ids()); n != 1 {
			t.Errorf("%d requests while the credentials were refused, want 1", n)
		}
		if st := f.Status(); st.State != "paused" || st.Code != "http.401" {
			t.Errorf("status %+v", st)
		}
		s.mu.Lock()
		refused = false
		s.mu.Unlock()
		f.Resume()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if m.waiting() != 0 {
			t.Errorf("%d items left after the credentials were mended", m.waiting())
		}
		for i := range 20 {
			if e := m.entry(uint64(i + 1)); e.Attempts != 0 || strings.HasPrefix(e.reason, "dead") {
				t.Errorf("item %d: attempts %d", i+1, e.Attempts)
			}
		}
		if st := f.Status(); st.State != "online" || st.Dead != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestForwarderThrottleStopsEveryCustomer(t *testing.T) {
	m := newMemory(Item{Key: "a"}, Item{Key: "b"}, Item{Key: "c"})
	s := &script{answer: func(n int, _ Event) Result {
		if n == 1 {
			return Result{Class: Throttled, RetryAfter: time.Minute}
		}
		return Result{Class: Accepted}
	}}
	run(t, m, s, steady(), func(*Forwarder) {
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := len(s.ids()); n != 1 {
			t.Errorf("%d requests in the pause that the receiver asked for, want 1", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if m.waiting() != 0 {
			t.Errorf("%d left", m.waiting())
		}
	})
}

// TestForwarderPoisonBlocksNobody: a rejected event goes aside, the next of the
// same customer follows, in order.
func TestForwarderPoisonBlocksNobody(t *testing.T) {
	m := newMemory(Item{Key: "a"}, Item{Key: "a", Body: []byte("poison")}, Item{Key: "a"}, Item{Key: "b"})
	s := &script{answer: func(_ int, ev Event) Result {
		if ev.Data.Reference == "poison" {
			return Result{Class: Rejected, Code: "http.422"}
		}
		return Result{Class: Accepted}
	}}
	run(t, m, s, steady(), func(*Forwarder) {
		synctest.Wait()
		sort.Strings(m.log)
		if got := strings.Join(m.log, ", "); got != "ack 1, ack 3, ack 4, dead 2" {
			t.Errorf("got %s", got)
		}
	})
}

// TestForwarderKeepsTheQueueWhenEverythingIsRejected: a field missing on the
// other side must not drain the queue into the dead letters.
func TestForwarderKeepsTheQueueWhenEverythingIsRejected(t *testing.T) {
	m := newMemory()
	for i := range 50 {
		m.add(fmt.Sprint("c", i), nil)
	}
	broken := true
	s := &script{}
	s.answer = func(int, Event) Result {
		if broken {
			return Result{Class: Rejected, Code: "http.400"}
		}
		return Result{Class: Accepted}
	}
	run(t, m, s, steady(), func(f *Forwarder) {
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := f.Status(); st.Dead > 3 {
			t.Errorf("%d events were put aside, want at most 3", st.Dead)
		}
		s.mu.Lock()
		broken = false
		s.mu.Unlock()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if m.waiting() != 0 {
			t.Errorf("%d left after the receiver was mended", m.waiting())
		}
	})
}

// TestForwarderPoisonRowBehindALimit: more poison in a row than the limit must
// not stop a sound event of another customer for ever.
func TestForwarderPoisonRowBehindALimit(t *testing.T) {
	m := newMemory()
	for i := range 8 {
		m.add(fmt.Sprint("p", i), []byte("poison"))
	}
	m.add("good", nil)
	s := &script{answer: func(_ int, ev Event) Result {
		if ev.Data.Reference == "poison" {
			return Result{Class: Rejected, Code: "http.422"}
		}
		return Result{Class: Accepted}
	}}
	run(t, m, s, steady(), func(*Forwarder) {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if !m.entry(9).gone {
			t.Error("the sound event never got through")
		}
	})
}

// TestForwarderBackoffGrowsAndDrainsAtOnce: a receiver that is down is asked
// ever more seldom, and when it is back the backlog goes without further waits.
func TestForwarderBackoffGrowsAndDrainsAtOnce(t *testing.T) {
	m := newMemory()
	for i := range 30 {
		m.add(fmt.Sprint("c", i%10), nil)
	}
	down := true
	s := &script{}
	s.answer = func(int, Event) Result {
		if down {
			return Result{Class: Retry, Code: "net.connect"}
		}
		return Result{Class: Accepted}
	}
	run(t, m, s, steady(), func(f *Forwarder) {
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		at := s.times()
		if len(at) < 20 || len(at) > 60 {
			t.Errorf("%d attempts in 30 minutes with a longest pause of one minute", len(at))
		}
		for i := 10; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < 30*time.Second {
				t.Errorf("attempt %d came %v after the one before", i, gap)
			}
		}
		s.mu.Lock()
		down = false
		s.mu.Unlock()
		time.Sleep(61 * time.Second) // the longest pause
		synctest.Wait()
		if m.waiting() != 0 {
			t.Errorf("%d left one pause after the receiver came back", m.waiting())
		}
		if st := f.Status(); st.State != "online" {
			t.Errorf("status %+v", st)
		}
	})
}

// TestForwarderBackoffSurvivesRestart: attempts and the time of the next one
// come from the outbox, not from memory.
func TestForwarderBackoffSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(Item{Key: "a"})
		s := &script{answer: func(int, Event) Result { return Result{Class: Retry, Code: "http.500"} }}
		var wg sync.WaitGroup
		for range 6 {
			ctx, cancel := context.WithCancel(t.Context())
			f := NewForwarder(m, s, simple, steady())
			wg.Go(func() { f.Run(ctx) })
			before := len(s.ids())
			for len(s.ids()) == before {
				time.Sleep(time.Second / 2)
				synctest.Wait()
			}
			cancel()
			wg.Wait()
		}
		at := s.times()
		for i := 1; i < len(at); i++ {
			if want := time.Second << (i - 1); at[i]-at[i-1] < want {
				t.Errorf("attempt %d came %v after the one before, want at least %v", i+1, at[i]-at[i-1], want)
			}
		}
		if e := m.entry(1); e.Attempts != 6 {
			t.Errorf("%d attempts are recorded, want 6", e.Attempts)
		}
	})
}

func TestForwarderUnknownBatchIsSentAgain(t *testing.T) {
	m := newMemory(Item{Key: "a"}, Item{Key: "b"})
	s := &script{batch: 10, err: errors.New("lost")}
	run(t, m, s, steady(), func(*Forwarder) {
		synctest.Wait()
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := s.ids(); len(got) != 4 || m.waiting() != 0 {
			t.Errorf("sent %v, %d waiting", got, m.waiting())
		}
	})
}

func TestForwarderMapping(t *testing.T) {
	card := "4111111111111111" // published test number
	m := newMemory(
		Item{Key: "a", Body: []byte("skip")},
		Item{Key: "a", Body: []byte("bad")},
		Item{Key: "a", Body: []byte("order " + card)},
		Item{Key: "a", Body: []byte(strings.Repeat("x", 5000))},
		Item{Key: "a", Body: []byte("fine")})
	s := &script{}
	run(t, m, s, steady(), func(*Forwarder) {
		synctest.Wait()
		if got := strings.Join(m.log, ", "); got != "ack 1, dead 2, dead 3, dead 4, ack 5" {
			t.Errorf("got %s", got)
		}
		if got := s.ids(); len(got) != 1 || got[0] != "e5" {
			t.Errorf("sent %v", got)
		}
		for id := range m.items {
			if e := m.entry(uint64(id + 1)); strings.Contains(e.reason, card) {
				t.Error("a dead letter's reason holds the card number")
			}
		}
	})
}

func TestForwarderOutboxTrouble(t *testing.T) {
	m := newMemory(Item{Key: "a"})
	m.broken = errors.New("disk")
	s := &script{}
	run(t, m, s, steady(), func(*Forwarder) {
		time.Sleep(time.Minute)
		m.mu.Lock()
		m.broken = nil
		m.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if m.waiting() != 0 {
			t.Error("did not go on after the outbox came back")
		}
	})
}

// TestForwarderStopsWithinItsGrace: a receiver that hangs does not hold the
// agent's stop, and its event is sent again.
func TestForwarderStopsWithinItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(Item{Key: "a"})
		s := &script{slow: time.Hour}
		o := steady()
		o.SendTimeout = 30 * time.Minute
		f := NewForwarder(m, s, simple, o)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		synctest.Wait()
		began := time.Now()
		cancel()
		wg.Wait()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("stop took %v", took)
		}
		if e := m.entry(1); e.gone || e.leased {
			t.Errorf("the event was not given back: %+v", e)
		}
	})
}

func TestPaceHasBounds(t *testing.T) {
	p := Pace{}.withDefaults()
	for _, n := range []int{1, 2, 5, 60, 1 << 30} {
		for range 50 {
			if d := p.after(n); d <= 0 || d > p.Max {
				t.Fatalf("pause after %d failures is %v", n, d)
			}
		}
	}
	exact := Pace{First: time.Second, Max: 10 * time.Second, Jitter: -1}.withDefaults()
	for n, want := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10} {
		if d := exact.after(n); d != want*time.Second {
			t.Errorf("pause after %d failures is %v, want %d s", n, d, want)
		}
	}
}

func TestEventJSONIsACloudEvent(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.FixedZone("", 3600))
	e := Event{ID: "evt_1", Source: "/s", Type: TypeRefunded, Time: at, RecordedTime: at.Add(time.Second), Subject: "ref_1", PartitionKey: "tok:x", Sequence: 7, Data: Data{PaymentID: "pay_1", Kind: "refund", Outcome: "approved", Currency: "JPY", AmountMinor: 1 << 60}}
	b, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"specversion": "1.0", "id": "evt_1", "source": "/s", "type": TypeRefunded, "time": "2026-11-30T09:00:00Z", "recordedtime": "2026-11-30T09:00:01Z", "subject": "ref_1", "partitionkey": "tok:x", "sequence": "00000000000000000007", "datacontenttype": "application/json"} {
		if m[k] != want {
			t.Errorf("%s is %v, want %s", k, m[k], want)
		}
	}
	for k := range m {
		if strings.ToLower(k) != k || strings.ContainsAny(k, "_-") {
			t.Errorf("attribute %q is not lower-case letters and digits", k)
		}
	}
	if !strings.Contains(string(b), `"amount_minor":1152921504606846976`) {
		t.Error("the amount is not written as an integer")
	}
}
