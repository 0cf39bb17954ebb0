package queuetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"tillbridge/queue"
)

// start is the clock of the workload: it stands still, so that times do not depend on the machine.
var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// Options of the stores of the workload: acknowledgements ride on commits alone, leases never end by themselves.
func Options() *queue.Options {
	return &queue.Options{
		Consumers: []queue.Consumer{{Name: consumer, Topic: topic}},
		Lease:     1000 * time.Hour,
		AckDelay:  1000 * time.Hour,
		AckBatch:  1 << 30,
		Reserve:   -1,
		MinFree:   -1,

		CompactFree: -1,
		Now:         func() time.Time { return start },
	}
}

// Runner does the steps of a workload on a store.
type Runner struct {
	Store *queue.Store
	held  map[uint64]queue.Delivery
}

var errAbandoned = errors.New("abandoned on purpose")

// Do performs one step. An error that is not the disk's means that the store broke a promise.
func (r *Runner) Do(ctx context.Context, m *Model, o Op) error {
	post := func(tx *queue.Tx) error {
		if _, err := tx.Append(topic, o.Key, []byte(o.Body)); err != nil {
			return err
		}
		if o.Extra {
			if _, err := tx.Append(other, o.Key, []byte(o.Body)); err != nil {
				return err
			}
		}
		_, err := tx.Add("ops", 1)
		return err
	}
	record := func(version uint64) queue.Record {
		return queue.Record{ID: o.ID, Version: version, Body: []byte(o.Body), Index: map[string]string{"status": o.Status}}
	}
	switch o.Kind {
	case opCreate:
		return r.Store.Commit(ctx, func(tx *queue.Tx) error {
			if _, err := tx.Claim("register", o.Claim, []byte("digest"), o.ID); err != nil {
				return err
			}
			if _, err := tx.Put(record(0)); err != nil {
				return err
			}
			return post(tx)
		})
	case opUpdate, opAbandon:
		err := r.Store.Commit(ctx, func(tx *queue.Tx) error {
			if _, err := tx.Put(record(m.Records[o.ID].Version)); err != nil {
				return err
			}
			if err := post(tx); err != nil {
				return err
			}
			if o.Kind == opAbandon {
				return errAbandoned
			}
			return nil
		})
		if o.Kind == opAbandon && errors.Is(err, errAbandoned) {
			return r.Store.Flush(ctx) // the error of the function says nothing about the acknowledgements beside it
		}
		return err
	case opReplay:
		err := r.Store.Commit(ctx, func(tx *queue.Tx) error {
			id, err := tx.Claim("register", o.Claim, []byte("digest"), "pay_other")
			if id != o.ID {
				return fmt.Errorf("claim %s names %q, want %q", o.Claim, id, o.ID)
			}
			return err
		})
		if errors.Is(err, queue.ErrClaimed) {
			return r.Store.Flush(ctx)
		}
		return err
	case opAck, opRetry, opDead:
		d, err := r.take(ctx, o.Seq)
		if err != nil {
			return err
		}
		switch o.Kind {
		case opAck:
			err = r.Store.Ack(d)
		case opRetry:
			err = r.Store.Retry(ctx, d, start, "down")
		default:
			err = r.Store.Dead(ctx, d, "refused")
		}
		if err == nil {
			delete(r.held, o.Seq)
		}
		return err
	case opRelease:
		return r.Store.Commit(ctx, func(tx *queue.Tx) error { return tx.Release(consumer, o.Seq) })
	case opCompact:
		return r.Store.Compact(ctx)
	}
	return r.Store.Flush(ctx)
}

// take leases all there is and returns the message wanted, which must be among what is held.
func (r *Runner) take(ctx context.Context, seq uint64) (queue.Delivery, error) {
	if r.held == nil {
		r.held = map[uint64]queue.Delivery{}
	}
	list, err := r.Store.Lease(ctx, consumer, 1000)
	if err != nil {
		return queue.Delivery{}, err
	}
	for _, d := range list {
		if _, ok := r.held[d.Seq]; ok {
			return d, fmt.Errorf("message %d was lent twice", d.Seq)
		}
		r.held[d.Seq] = d
	}
	d, ok := r.held[seq]
	if !ok {
		return d, fmt.Errorf("message %d heads its key and is not lent", seq)
	}
	return d, nil
}

// Snapshot reads a store into the form of Model.Snapshot and checks it with Verify. It delivers everything that is
// pending (checking the order of each key), so the store is of no other use after it.
func Snapshot(s *queue.Store) (string, error) {
	ctx := context.Background()
	m := NewModel()
	report, err := s.Verify(ctx)
	if err != nil {
		return "", err
	}
	if len(report.Problems) > 0 {
		return "", fmt.Errorf("verify: %v", report.Problems)
	}
	claims := int64(0)
	err = s.View(ctx, func(tx *queue.Tx) error {
		list, err := tx.List(queue.Query{Limit: 1 << 30})
		if err != nil {
			return err
		}
		byStatus := 0
		for _, status := range statuses {
			l, err := tx.List(queue.Query{Index: "status", Value: status, Limit: 1 << 30})
			if err != nil {
				return err
			}
			byStatus += len(l)
		}
		if byStatus != len(list) {
			return fmt.Errorf("%d records, %d found by status", len(list), byStatus)
		}
		for i, r := range list {
			m.Order = append(m.Order, r.ID)
			m.Records[r.ID] = Rec{Version: r.Version, Body: string(r.Body), Status: r.Index["status"]}
			key := fmt.Sprint("key-", i)
			if id, _, err := tx.Claimed("register", key); err == nil {
				m.Claims[key] = id
				claims++
			}
		}
		for _, name := range []string{topic, other} {
			msgs, err := tx.Read(name, 0, 1<<30)
			if err != nil {
				return err
			}
			for _, msg := range msgs {
				m.Log = append(m.Log, Msg{Seq: msg.Seq, Topic: name, Key: msg.OrderKey, Body: string(msg.Body)})
			}
		}
		slices.SortFunc(m.Log, func(a, b Msg) int { return int(a.Seq) - int(b.Seq) })
		dead, err := tx.DeadList(consumer, 0, 1<<30)
		if err != nil {
			return err
		}
		for _, d := range dead {
			m.Dead[d.Seq] = Msg{Key: d.OrderKey, Attempts: d.Attempts}
		}
		m.Count, err = tx.Counter("ops")
		return err
	})
	if err != nil {
		return "", err
	}
	if claims != report.Claims {
		return "", fmt.Errorf("%d claims stored, %d belong to a record", report.Claims, claims)
	}
	depth, err := s.Depth(ctx, consumer)
	if err != nil {
		return "", err
	}
	last := map[string]uint64{}
	for {
		list, err := s.Lease(ctx, consumer, 1000)
		if err != nil {
			return "", err
		}
		if len(list) == 0 {
			break
		}
		for _, d := range list {
			if d.OrderKey != "" && d.Seq < last[d.OrderKey] {
				return "", fmt.Errorf("message %d of key %q delivered after %d", d.Seq, d.OrderKey, last[d.OrderKey])
			}
			last[d.OrderKey] = d.Seq
			m.Pending[d.Seq] = Msg{Key: d.OrderKey, Attempts: d.Attempts}
			if err := s.Ack(d); err != nil {
				return "", err
			}
		}
	}
	if depth.Pending != int64(len(m.Pending)) {
		return "", fmt.Errorf("depth says %d, %d were delivered", depth.Pending, len(m.Pending))
	}
	return m.Snapshot(), nil
}

// Work is a seeded sequence of steps.
type Work struct {
	Seed    uint64
	Ops     int
	Settle  bool  // with Retry, Dead and Release
	Reserve int64 // Options.Reserve; 0 means none here
	From    int   // the process begins before this step: acknowledgements that no commit took are forgotten
}

// Steps calls fn with each step and the model before it, until fn returns false.
func (w Work) Steps(fn func(i int, m *Model, o Op) bool) *Model {
	rng := rand.New(rand.NewPCG(w.Seed, 0))
	m := NewModel()
	for i := range w.Ops {
		if i == w.From {
			m.acked = nil
		}
		o := m.Next(rng, w.Settle)
		if !fn(i, m, o) {
			break
		}
		m.Apply(o)
	}
	return m
}

// Snapshots returns the durable state before the first step and after each.
func (w Work) Snapshots() []string {
	list := []string{NewModel().Snapshot()}
	m := w.Steps(func(i int, m *Model, o Op) bool {
		if i > 0 {
			list = append(list, m.Snapshot())
		}
		return true
	})
	return append(list, m.Snapshot())
}

// Run does the steps from From on the store at path, which must hold those before, and writes to mark after each one that
// returned. A step that the disk failed is looked up and done again if it is not stored.
func (w Work) Run(path string, mark *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := reopen(ctx, path, w.Reserve)
	if err != nil {
		return err
	}
	r := &Runner{Store: s}
	var failed error
	w.Steps(func(i int, m *Model, o Op) bool {
		if i < w.From {
			return true
		}
		for {
			err0 := r.Do(ctx, m, o)
			if err0 == nil {
				break
			}
			if !disk(err0) && o.Kind != opCompact {
				failed = fmt.Errorf("step %d (%v): %w", i, o, err0)
				return false
			}
			fmt.Fprintf(mark, "error %d", i)
			if done, err := lookUp(ctx, s, m, o); err != nil {
				failed = fmt.Errorf("step %d (%v): look up: %w", i, o, err)
				return false
			} else if done && errors.Is(err0, queue.ErrNotStored) {
				failed = fmt.Errorf("step %d (%v) is stored after %w", i, o, err0)
				return false
			} else if done {
				break
			}
		}
		fmt.Fprintf(mark, "done %d", i)
		return true
	})
	return failed
}

func disk(err error) bool {
	return errors.Is(err, queue.ErrUnknown) || errors.Is(err, queue.ErrNotStored) || errors.Is(err, queue.ErrUnavailable)
}

func reopen(ctx context.Context, path string, reserve int64) (s *queue.Store, err error) {
	o := Options()
	if reserve > 0 {
		o.Reserve = reserve
	}
	for {
		if s, err = queue.Open(path, o); err == nil || ctx.Err() != nil || errors.Is(err, queue.ErrCorrupt) {
			return s, err
		}
	}
}

// lookUp waits until the store answers and tells whether the step is stored.
func lookUp(ctx context.Context, s *queue.Store, m *Model, o Op) (bool, error) {
	for {
		var n int64
		err := s.View(ctx, func(tx *queue.Tx) (err error) { n, err = tx.Counter("ops"); return err })
		switch {
		case err == nil && (o.Kind == opCreate || o.Kind == opUpdate):
			return n > m.Count, nil
		case err == nil:
			return false, nil
		case !errors.Is(err, queue.ErrUnavailable):
			return false, err
		}
		if err := s.Flush(ctx); err != nil && !disk(err) {
			return false, err
		}
	}
}

// Stored finds which of the snapshots a store holds: it must be one of those between the last step said to be done and
// the one that may have been on its way.
func Stored(got string, snapshots []string, done int) (int, error) {
	for i := done; i <= done+1 && i < len(snapshots); i++ {
		if got == snapshots[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("after %d steps that returned, the store holds neither that nor one step more; against the latter:\n%s", done,
		Differ(got, snapshots[min(done+1, len(snapshots)-1)]))
}

// CheckImage saves an image in dir, opens it as the store would be opened after a cut, and compares it.
func CheckImage(dir string, files map[string][]byte, snapshots []string, done int) (int, error) {
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	if err := Save(dir, files); err != nil {
		return 0, err
	}
	s, err := queue.Open(dir+"/store.db", Options())
	if err != nil {
		return 0, fmt.Errorf("open after %d steps (files %v): %w", done, slices.Sorted(maps.Keys(files)), err)
	}
	got, err := Snapshot(s)
	if err != nil {
		s.Close()
		return 0, err
	}
	if err := s.Close(); err != nil {
		return 0, err
	}
	return Stored(got, snapshots, done)
}

// Done reads how many steps are said to be done from the marks of a journal.
func Done(done int, e Event) int {
	if e.Kind == Mark && strings.HasPrefix(e.Name, "done ") {
		var i int
		if _, err := fmt.Sscanf(e.Name, "done %d", &i); err == nil {
			return i + 1
		}
	}
	return done
}
