package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Consumer is a named reader of one topic that settles each message. It is durable: one that is opened under a name for
// the first time receives everything its topic still holds.
type Consumer struct {
	Name  string
	Topic string
}

type consumer struct {
	id    uint16
	topic string
}

// Delivery is a message lent to one consumer. It is itself the receipt that Ack, Retry and Dead want.
type Delivery struct {
	Message
	Consumer string
	Attempts int    // failed ones before this
	lease    uint64 // proves that the lease is current
}

// lease says who holds a message. Leases are not stored.
type lease struct {
	token uint64
	until time.Time
}

// outbound is the in-memory side of one consumer.
type outbound struct {
	leases map[uint64]lease    // by sequence number
	acked  map[uint64]struct{} // delivered, not yet committed as such
	rotor  []byte              // order key prefix after which the next search begins
}

// register gives every consumer of Options a number, and what its topic holds if it is new. Runs inside Open.
func (s *Store) register(tx *Tx, c Consumer) error {
	if err := errors.Join(checkKey("consumer name", c.Name), checkKey("topic", c.Topic)); err != nil {
		return err
	}
	k := append([]byte("c"), c.Name...)
	if v := tx.get(bNames, k); v != nil {
		if len(v) < 2 {
			return fmt.Errorf("read consumer %q: %w", c.Name, ErrCorrupt)
		}
		if topic := string(v[2:]); topic != c.Topic {
			return fmt.Errorf("open consumer %q on topic %q, it follows %q: %w", c.Name, c.Topic, topic, ErrInvalid)
		}
		return nil
	}
	id, err := tx.nextName("c")
	if err != nil {
		return err
	}
	tx.put(bNames, k, append(binary.BigEndian.AppendUint16(nil, id), c.Topic...))
	for after := uint64(0); ; {
		page, err := tx.Read(c.Topic, after, 1000)
		if err != nil {
			return err
		}
		for _, m := range page {
			if err := tx.enqueue(id, m.OrderKey, m.Seq, uint64(len(tx.get(bLog, be64(m.Seq))))); err != nil {
				return err
			}
			after = m.Seq
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// loadConsumers reads who follows what. Consumers that Options no longer names keep their messages.
func (s *Store) loadConsumers(tx *Tx) error {
	all := map[string]consumer{}
	var err error
	tx.scan(bNames, []byte("c"), nil, false, func(k, v []byte) bool {
		if len(v) < 2 {
			err = fmt.Errorf("read consumer %q: %w", k[1:], ErrCorrupt)
			return false
		}
		all[string(k[1:])] = consumer{id: binary.BigEndian.Uint16(v), topic: string(v[2:])}
		return true
	})
	s.consumers = all
	for _, c := range all {
		if s.out[c.id] == nil {
			s.out[c.id] = &outbound{leases: map[uint64]lease{}, acked: map[uint64]struct{}{}}
		}
	}
	return err
}

func (s *Store) consumer(name string) (consumer, *outbound, error) {
	c, ok := s.consumers[name]
	if !ok {
		return consumer{}, nil, fmt.Errorf("find consumer %q (Options.Consumers): %w", name, ErrNotFound)
	}
	return c, s.out[c.id], nil
}

// Lease lends up to limit messages (0 means 1, at most 1000) that may be delivered now, at most one of each order key, and returns at
// once, with none if there is nothing to do. A lease ends by Ack, Retry, Dead, or after Options.Lease. Keys take turns.
func (s *Store) Lease(ctx context.Context, name string, limit int) ([]Delivery, error) {
	d, _, err := s.search(ctx, name, limit, true)
	return d, err
}

// NextDue returns when the earliest message that Lease does not give now may become free: a retry's time or a lease's end.
// It is zero when there is none, and not later than now when Lease would give one at once.
func (s *Store) NextDue(ctx context.Context, name string) (time.Time, error) {
	found, next, err := s.search(ctx, name, 1, false)
	if err == nil && len(found) > 0 {
		return s.now(), nil
	}
	return next, err
}

// Wait returns when Lease is likely to find something for the consumer, or with ctx's error.
func (s *Store) Wait(ctx context.Context, name string) error {
	for {
		changed := s.Changed()
		found, next, err := s.search(ctx, name, 1, false)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			return err
		}
		if len(found) > 0 {
			return nil
		}
		pause := time.Minute
		if !next.IsZero() {
			pause = min(pause, max(next.Sub(s.now()), time.Millisecond))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// Changed returns a channel that is closed by the next commit that appended a message or made one available again.
// Take it before reading, so that nothing is missed.
func (s *Store) Changed() <-chan struct{} {
	s.omu.Lock()
	defer s.omu.Unlock()
	return s.changed
}

func (s *Store) broadcast() {
	s.omu.Lock()
	defer s.omu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// search walks the order keys of a consumer once around, beginning after the key served last, and takes the head of
// each key that is free and due. next is the earliest time at which one that is not free now may become so.
//
// It holds omu from before its snapshot is taken until the leases are entered: an acknowledgement leaves the set of
// acknowledged messages only under omu and only after its commit, so a snapshot that still shows the message always
// meets either its lease or its acknowledgement.
func (s *Store) search(ctx context.Context, name string, limit int, take bool) (found []Delivery, next time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return nil, next, err
	}
	c, out, err := s.consumer(name)
	if err != nil {
		return nil, next, err
	}
	limit = min(1000, max(limit, 1))
	s.omu.Lock()
	defer s.omu.Unlock()
	err = s.view(func(tx *Tx) error {
		now := s.now()
		later := func(t time.Time) {
			if next.IsZero() || t.Before(next) {
				next = t
			}
		}
		// visit looks at one pending message; head says whether the key is settled for this search.
		visit := func(key string, seq uint64) (head bool, err error) {
			if _, ok := out.acked[seq]; ok {
				return false, nil
			}
			if l, ok := out.leases[seq]; ok && now.Before(l.until) {
				later(l.until)
				return true, nil
			}
			var failed attempt
			if v := tx.get(bRetry, consumerSeq(c.id, seq)); v != nil {
				if failed, err = parseAttempt(v); err != nil {
					return true, err
				}
				if !failed.due(now) {
					later(failed.notBefore)
					return true, nil
				}
			}
			m, err := tx.message(seq)
			if err != nil {
				return true, err
			}
			d := Delivery{Message: m, Consumer: name, Attempts: int(failed.n)}
			if take {
				s.token++
				d.lease = s.token
				out.leases[seq] = lease{token: s.token, until: now.Add(s.o.Lease)}
			}
			found = append(found, d)
			return true, nil
		}
		// Messages without a key take turns with the keys: at most half of what is asked for, unless there is nothing else.
		quota := (limit + 1) / 2
		walk := func(from, to []byte) error {
			cur := tx.b.Bucket(bucketNames[bOrder]).Cursor()
			prefix := binary.BigEndian.AppendUint16(nil, c.id)
			k, _ := cur.Seek(from)
			before := len(found)
			for k != nil && bytes.HasPrefix(k, prefix) && (to == nil || bytes.Compare(k, to) < 0) && len(found) < limit {
				key, seq, ok := splitOrder(k)
				if !ok {
					return fmt.Errorf("search order of %q: %w", name, ErrCorrupt)
				}
				head, err := visit(key, seq)
				if err != nil {
					return err
				}
				switch {
				case key == "":
					if head && take {
						out.rotor = orderEntry(c.id, "", ^uint64(0))
					}
					if len(found)-before >= quota {
						k, _ = cur.Seek(orderEntry(c.id, "", ^uint64(0)))
						continue
					}
					k, _ = cur.Next()
				case head:
					after := orderEntry(c.id, key, ^uint64(0))
					if take {
						out.rotor = after
					}
					k, _ = cur.Seek(after)
				default:
					k, _ = cur.Next()
				}
			}
			return nil
		}
		first := binary.BigEndian.AppendUint16(nil, c.id)
		rotor := out.rotor
		if rotor == nil {
			rotor = first
		}
		if err := walk(rotor, nil); err != nil {
			return err
		}
		if err := walk(first, rotor); err != nil || !take {
			return err
		}
		quota = limit
		return walk(first, orderEntry(c.id, "", ^uint64(0)))
	})
	if err != nil {
		// What was lent before the fault was not handed out.
		for _, d := range found {
			delete(out.leases, d.Seq)
		}
		return nil, next, err
	}
	return found, next, nil
}

// held checks the receipt. Caller holds omu.
func (s *Store) held(d Delivery) (consumer, *outbound, error) {
	c, out, err := s.consumer(d.Consumer)
	if err != nil {
		return c, nil, err
	}
	if l, ok := out.leases[d.Seq]; !ok || d.lease == 0 || l.token != d.lease {
		return c, nil, fmt.Errorf("settle message %d for %q: %w", d.Seq, d.Consumer, ErrStale)
	}
	return c, out, nil
}

// Ack says that the message has reached its receiver. It returns at once; the fact is stored with the next commit, or
// after Options.AckDelay, or by Flush. A crash before that means one more delivery of the same message.
func (s *Store) Ack(d Delivery) error {
	s.omu.Lock()
	_, out, err := s.held(d)
	if err != nil {
		s.omu.Unlock()
		return err
	}
	delete(out.leases, d.Seq)
	out.acked[d.Seq] = struct{}{}
	s.acks++
	n := s.acks
	if n == 1 {
		s.ackedAt = time.Now()
	}
	close(s.changed) // the next message of the key is free
	s.changed = make(chan struct{})
	s.omu.Unlock()
	if n >= s.o.AckBatch {
		s.kick(s.flushNow)
	} else if n == 1 {
		s.kick(s.flushSoon)
	}
	return nil
}

func (s *Store) kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Flush stores every acknowledgement given so far.
func (s *Store) Flush(ctx context.Context) error {
	return s.Commit(ctx, func(*Tx) error { return nil })
}

// Retry gives a message back after a failed attempt: it is not lent again before notBefore, and messages behind it with
// the same order key wait. reason is for people and must carry no card data. Durable on return; adds one to Attempts.
func (s *Store) Retry(ctx context.Context, d Delivery, notBefore time.Time, reason string) error {
	return s.later(ctx, d, notBefore, reason, 1)
}

// Postpone is Retry without counting an attempt: the receiver asked for a pause, or its address was at fault.
func (s *Store) Postpone(ctx context.Context, d Delivery, notBefore time.Time, reason string) error {
	return s.later(ctx, d, notBefore, reason, 0)
}

func (s *Store) later(ctx context.Context, d Delivery, notBefore time.Time, reason string, counted int) error {
	return s.settle(ctx, d, func(tx *Tx, c consumer) error {
		k := consumerSeq(c.id, d.Seq)
		if tx.get(bPend, k) == nil {
			return fmt.Errorf("retry message %d: %w", d.Seq, ErrStale)
		}
		var a attempt
		if v := tx.get(bRetry, k); v != nil {
			var err error
			if a, err = parseAttempt(v); err != nil {
				return err
			}
		}
		a.n += uint32(counted)
		a.set, a.notBefore, a.reason = tx.now, notBefore, short(reason)
		tx.put(bRetry, k, a.encode())
		tx.set.changed = true
		return nil
	})
}

// Dead takes a message out of delivery for good, so that those behind it go on. Message, reason and attempts are kept
// until Release or Discard. Durable on return.
func (s *Store) Dead(ctx context.Context, d Delivery, reason string) error {
	return s.settle(ctx, d, func(tx *Tx, c consumer) error {
		a := attempt{}
		if v := tx.get(bRetry, consumerSeq(c.id, d.Seq)); v != nil {
			var err error
			if a, err = parseAttempt(v); err != nil {
				return err
			}
		}
		key, size, ok, err := tx.dequeue(c.id, d.Seq)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("bury message %d: %w", d.Seq, ErrStale)
		}
		a.n++
		a.set, a.notBefore, a.reason, a.key, a.bytes = tx.now, tx.now, short(reason), key, size
		t, err := tx.totals(c.id)
		if err != nil {
			return err
		}
		t.dead++
		tx.setTotals(c.id, t)
		tx.put(bDead, consumerSeq(c.id, d.Seq), a.encode())
		tx.set.changed = true
		return nil
	})
}

func short(s string) string {
	if len(s) > MaxKey {
		return s[:MaxKey]
	}
	return s
}

// settle runs a durable end of a lease. The lease stays until the commit has returned, so nobody else gets the message
// in between; after an error it stays as well and runs out by itself.
func (s *Store) settle(ctx context.Context, d Delivery, fn func(*Tx, consumer) error) error {
	err := s.Commit(ctx, func(tx *Tx) error {
		s.omu.Lock()
		c, _, err := s.held(d)
		s.omu.Unlock()
		if err != nil {
			return err
		}
		return fn(tx, c)
	})
	if err != nil {
		return err
	}
	s.omu.Lock()
	if _, out, err := s.held(d); err == nil {
		delete(out.leases, d.Seq)
	}
	s.omu.Unlock()
	s.broadcast()
	return nil
}

// DeadMessage is a message that was given up, with what is known about why.
type DeadMessage struct {
	Message
	Consumer string
	Attempts int
	Reason   string
	At       time.Time
}

// DeadList returns up to limit (0 means 100) dead messages of a consumer with a sequence number above after.
func (tx *Tx) DeadList(name string, after uint64, limit int) ([]DeadMessage, error) {
	c, ok := tx.s.consumers[name]
	if !ok {
		return nil, fmt.Errorf("list dead messages of %q: %w", name, ErrNotFound)
	}
	if limit <= 0 {
		limit = 100
	}
	var out []DeadMessage
	var err error
	tx.scan(bDead, binary.BigEndian.AppendUint16(nil, c.id), consumerSeq(c.id, after), false, func(k, v []byte) bool {
		var a attempt
		var m Message
		if a, err = parseAttempt(v); err != nil {
			return false
		}
		if m, err = tx.message(binary.BigEndian.Uint64(k[2:])); err != nil {
			return false
		}
		out = append(out, DeadMessage{Message: m, Consumer: name, Attempts: int(a.n), Reason: a.reason, At: a.set})
		return len(out) < limit
	})
	return out, err
}

// Release puts a dead message back into delivery, at its old place in the order of its key.
func (tx *Tx) Release(name string, seq uint64) error {
	a, id, err := tx.exhume(name, seq)
	if err != nil {
		return err
	}
	tx.set.changed = true
	return tx.enqueue(id, a.key, seq, a.bytes)
}

// Discard gives a dead message up; it stays in the log until Prune.
func (tx *Tx) Discard(name string, seq uint64) error {
	_, _, err := tx.exhume(name, seq)
	return err
}

func (tx *Tx) exhume(name string, seq uint64) (attempt, uint16, error) {
	if err := tx.writable(); err != nil {
		return attempt{}, 0, err
	}
	c, ok := tx.s.consumers[name]
	if !ok {
		return attempt{}, 0, fmt.Errorf("find consumer %q: %w", name, ErrNotFound)
	}
	v := tx.get(bDead, consumerSeq(c.id, seq))
	if v == nil {
		return attempt{}, 0, fmt.Errorf("find dead message %d of %q: %w", seq, name, ErrNotFound)
	}
	a, err := parseAttempt(v)
	if err != nil {
		return attempt{}, 0, err
	}
	t, err := tx.totals(c.id)
	if err != nil {
		return attempt{}, 0, err
	}
	t.dead--
	tx.setTotals(c.id, t)
	tx.delete(bDead, consumerSeq(c.id, seq))
	return a, c.id, nil
}
