package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// call is one caller of Commit, or of something that must run alone.
type call struct {
	fn    func(*Tx) error
	alone func() error
	final bool      // the call of Close
	wake  chan bool // true: lead now; false: err is set
	lead  bool      // owned by qmu
	err   error
	panic any
}

const maxBatch = 256 // calls that share one commit

// Commit runs fn once, in turn with all other functions, and makes what it wrote durable. nil means durable. An error of
// fn is returned as it is and discards what fn wrote, nothing else. ErrUnknown, ErrNotStored and ErrUnavailable say what
// a failing disk did to it. ctx counts while the call waits for its turn. fn must do no I/O, must not call the store,
// and must not keep tx.
func (s *Store) Commit(ctx context.Context, fn func(*Tx) error) error {
	return s.submit(ctx, &call{fn: fn, wake: make(chan bool, 1)})
}

func (s *Store) submit(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.qmu.Lock()
	if s.closing && !c.final {
		s.qmu.Unlock()
		return ErrClosed
	}
	s.waiting = append(s.waiting, c)
	lead := !s.busy
	s.busy = true
	s.qmu.Unlock()
	if !lead {
		select {
		case lead = <-c.wake:
		case <-ctx.Done():
			if s.withdraw(c) {
				return ctx.Err()
			}
			lead = <-c.wake
		}
	}
	if lead {
		s.leadBatch()
	}
	if c.panic != nil {
		panic(c.panic)
	}
	return c.err
}

// withdraw takes a call back that no batch has taken yet.
func (s *Store) withdraw(c *call) bool {
	s.qmu.Lock()
	defer s.qmu.Unlock()
	i := slices.Index(s.waiting, c)
	if i < 0 || c.lead {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return true
}

// leadBatch runs the calls at the front of the queue, the leader's own first among them, and hands the lead on.
func (s *Store) leadBatch() {
	s.qmu.Lock()
	n := 1
	if s.waiting[0].alone == nil {
		for n < len(s.waiting) && n < maxBatch && s.waiting[n].alone == nil {
			n++
		}
	}
	batch := slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n)
	s.qmu.Unlock()

	// Deferred, so that the store goes on when a function panics or ends its goroutine (as a failing test does).
	defer s.handOn(batch[1:])
	if batch[0].alone != nil {
		batch[0].err = batch[0].alone()
	} else {
		s.run(batch)
	}
}

// handOn wakes the callers of a batch that has ended and the leader of the next one.
func (s *Store) handOn(others []*call) {
	s.qmu.Lock()
	var next *call
	if len(s.waiting) > 0 {
		next = s.waiting[0]
		next.lead = true
	} else {
		s.busy = false
	}
	s.qmu.Unlock()
	if next != nil {
		next.wake <- true
	}
	for _, c := range others {
		c.wake <- false
	}
}

// ackRef names an acknowledgement that a batch stores.
type ackRef struct {
	consumer uint16
	seq      uint64
}

func (s *Store) takeAcks() (list []ackRef) {
	s.omu.Lock()
	defer s.omu.Unlock()
	for id, out := range s.out {
		for seq := range out.acked {
			list = append(list, ackRef{id, seq})
		}
	}
	return list
}

func (s *Store) dropAcks(list []ackRef) {
	s.omu.Lock()
	defer s.omu.Unlock()
	for _, a := range list {
		delete(s.out[a.consumer].acked, a.seq)
	}
	s.acks = max(0, s.acks-len(list))
	if len(list) > 0 && s.acks > 0 {
		s.ackedAt = time.Now() // those left were given while the commit ran
		s.kick(s.flushSoon)
	}
}

// run executes a batch in one bbolt transaction and sets every call's err. It returns the error of the commit itself.
func (s *Store) run(batch []*call) error {
	fail := func(err error) error {
		for _, c := range batch {
			c.err = err
		}
		return err
	}
	if s.db == nil {
		if err := s.reopen(); err != nil {
			return fail(fmt.Errorf("commit: %w: %w: %w", ErrUnavailable, ErrNotStored, err))
		}
	}
	b, err := s.db.Begin(true)
	if err != nil {
		return fail(fmt.Errorf("commit: %w: %w", ErrNotStored, err))
	}
	collected := false
	defer func() {
		if !collected {
			b.Rollback()
			fail(fmt.Errorf("commit: a function beside this one did not return: %w", ErrNotStored))
		}
	}()
	acks := s.takeAcks()
	sets, changed, early, err := s.collect(b, acks, batch)
	collected = true
	if err != nil {
		b.Rollback()
		return fail(fmt.Errorf("commit: %w: %w", ErrNotStored, err))
	}
	if len(sets) == 0 {
		b.Rollback()
		s.dropAcks(acks) // if there were any, an unresolved commit had stored them
		return nil
	}
	err = s.store(b)
	if err != nil && !errors.Is(err, ErrUnknown) && s.freeReserve(err) {
		err = s.again(sets)
	}
	if err != nil {
		for i, c := range batch {
			// A function that failed before anything else ran did so for reasons of its own.
			if c.err == nil || i >= early {
				c.err = err
			}
		}
		s.log.Error("commit failed", "calls", len(batch), "error", err)
		return err
	}
	s.dropAcks(acks)
	if changed {
		s.broadcast()
	}
	return nil
}

// collect runs the functions one after another on b. early is the index of the first that could see another's writes.
func (s *Store) collect(b *bolt.Tx, acks []ackRef, batch []*call) (sets []*writeSet, changed bool, early int, err error) {
	st, err := parseState(b.Bucket(bucketNames[bMeta]).Get([]byte("state")))
	if err != nil {
		return nil, false, 0, err
	}
	now := s.now()
	keep := func(tx *Tx) error {
		if tx.set.empty() {
			return nil
		}
		if err := tx.set.apply(b); err != nil {
			return err
		}
		st, changed = tx.st, changed || tx.set.changed
		sets = append(sets, tx.set)
		return nil
	}
	tx := &Tx{b: b, set: &writeSet{}, st: st, s: s, now: now}
	for _, a := range acks {
		if _, _, _, err := tx.dequeue(a.consumer, a.seq); err != nil {
			return nil, false, 0, err
		}
	}
	if err := keep(tx); err != nil {
		return nil, false, 0, err
	}
	early = len(batch)
	for i, c := range batch {
		tx := &Tx{b: b, set: &writeSet{}, st: st, s: s, now: now}
		if c.err = c.call(tx); c.err != nil || c.panic != nil {
			continue
		}
		n := len(sets)
		if err := keep(tx); err != nil {
			return nil, false, 0, err
		}
		if len(sets) > n && early == len(batch) {
			early = i + 1
		}
	}
	if len(sets) > 0 {
		last := &writeSet{}
		s.stamp = binary.BigEndian.AppendUint64([]byte(rand.Text()), uint64(now.UnixNano()))
		(&Tx{set: last}).put(bMeta, []byte("state"), st.encode())
		(&Tx{set: last}).put(bMeta, []byte("stamp"), s.stamp)
		if err := last.apply(b); err != nil {
			return nil, false, 0, err
		}
		sets = append(sets, last)
	}
	return sets, changed, early, nil
}

func (c *call) call(tx *Tx) error {
	defer func() {
		if p := recover(); p != nil {
			c.panic = p
		}
	}()
	return c.fn(tx)
}

// store commits b under the gate and, if that fails, finds out what became of it.
func (s *Store) store(b *bolt.Tx) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	err := commit(b)
	if err == nil {
		return nil
	}
	return s.resolve(err)
}

func commit(b *bolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("commit: %v", p)
		}
	}()
	return b.Commit()
}

// resolve decides what a failed commit left behind. bbolt syncs the data before it writes the page that makes them
// count, so: if the stamp is absent after reopening, nothing was stored. If it is there, openFile has just made it
// durable. Caller holds the gate and leads.
func (s *Store) resolve(cause error) error {
	s.closeFile()
	db, err := s.openSame()
	if err != nil {
		return fmt.Errorf("%w: %w (and reopening: %w)", ErrUnknown, cause, err)
	}
	s.db = db
	present := false
	err = db.View(func(b *bolt.Tx) error {
		present = bytes.Equal(b.Bucket(bucketNames[bMeta]).Get([]byte("stamp")), s.stamp)
		return nil
	})
	switch {
	case err != nil:
		s.closeFile()
		return fmt.Errorf("%w: %w (and looking it up: %w)", ErrUnknown, cause, err)
	case !present:
		return fmt.Errorf("%w: %w", ErrNotStored, cause)
	}
	return nil
}

// reopen ends the state that an unresolved commit left. Consumers are woken: the commit may have appended. Caller leads.
func (s *Store) reopen() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	db, err := s.openSame()
	if err != nil {
		return err
	}
	s.db = db
	s.log.Warn("store reopened after a disk error")
	s.broadcast()
	return nil
}

func (s *Store) closeFile() {
	if s.db != nil {
		closeQuietly(s.db)
		s.db = nil
	}
}

func closeQuietly(db *bolt.DB) {
	defer func() { _ = recover() }()
	_ = db.Close()
}

// again stores the same write sets once more, after room was made; the functions do not run twice.
func (s *Store) again(sets []*writeSet) error {
	b, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	for _, set := range sets {
		if err := set.apply(b); err != nil {
			b.Rollback()
			return fmt.Errorf("%w: %w", ErrNotStored, err)
		}
	}
	return s.store(b)
}

func (set *writeSet) empty() bool {
	for _, m := range set.m {
		if len(m) > 0 {
			return false
		}
	}
	return true
}

// apply writes the set into the transaction, in key order.
func (set *writeSet) apply(b *bolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("apply: %v: %w", p, ErrCorrupt)
		}
	}()
	for i, m := range set.m {
		if len(m) == 0 {
			continue
		}
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		bk := b.Bucket(bucketNames[i])
		if ascending[i] {
			bk.FillPercent = 0.95
		}
		for _, k := range keys {
			if v := m[k]; v == nil {
				err = bk.Delete([]byte(k))
			} else {
				err = bk.Put([]byte(k), v)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// flusher stores acknowledgements that found no commit to ride on in Options.AckDelay, keeps trying when the disk
// failed (to reopen the store, too), and compacts a file that is mostly free.
func (s *Store) flusher() {
	heal := time.NewTicker(time.Second)
	defer heal.Stop()
	tidy := time.NewTicker(time.Minute)
	defer tidy.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	flush := func() {
		_ = s.submit(context.Background(), &call{fn: func(*Tx) error { return nil }, wake: make(chan bool, 1)})
	}
	for {
		select {
		case <-s.quit:
			return
		case <-s.flushSoon:
			timer.Reset(s.o.AckDelay)
		case <-s.flushNow:
			flush()
		case <-timer.C:
			flush()
		case <-tidy.C:
			if s.wasteful() {
				if err := s.Compact(context.Background()); err != nil {
					s.log.Warn("compaction failed", "error", err)
				}
			}
		case <-heal.C:
			s.gate.RLock()
			broken := s.db == nil && !s.closed
			s.gate.RUnlock()
			s.omu.Lock()
			late := s.acks > 0 && time.Since(s.ackedAt) >= s.o.AckDelay
			s.omu.Unlock()
			if broken || late {
				flush()
			}
		}
	}
}

func beSeq(k []byte) uint64 { return binary.BigEndian.Uint64(k[2:]) }
