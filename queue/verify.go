package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// Report is what Verify found.
type Report struct {
	Records, Claims, Messages int64
	Pending, Dead             int64    // over all consumers
	First, Last               uint64   // sequence numbers held
	Head                      [32]byte // hash chain's value after Last
	Problems                  []Problem
	More                      int // problems beyond the 100 listed
}

// Problem names one thing that is wrong: where it is stored and what does not hold.
type Problem struct {
	Bucket string
	Key    string // printable form of the key
	Text   string
}

func (p Problem) String() string { return p.Bucket + " " + p.Key + ": " + p.Text }

// Verify reads the whole store while it stays in use: pages, checksums, hash chain, that indexes and what they point to
// match one to one, and every total. The error says that it could not be done; what is wrong is in the Report.
func (s *Store) Verify(ctx context.Context) (r Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("verify: %v: %w", p, ErrCorrupt)
		}
	}()
	err = s.view(func(tx *Tx) error {
		v := &verifier{tx: tx, r: &r, ctx: ctx}
		v.pages()
		v.chain()
		v.records()
		v.claims()
		v.consumers()
		return ctx.Err()
	})
	return r, err
}

type verifier struct {
	tx  *Tx
	r   *Report
	ctx context.Context
}

func (v *verifier) add(b bucket, key []byte, format string, args ...any) {
	if len(v.r.Problems) >= 100 {
		v.r.More++
		return
	}
	v.r.Problems = append(v.r.Problems, Problem{string(bucketNames[b]), fmt.Sprintf("%q", key), fmt.Sprintf(format, args...)})
}

func (v *verifier) each(b bucket, fn func(k, val []byte)) {
	v.tx.scan(b, nil, nil, false, func(k, val []byte) bool {
		fn(k, val)
		return v.ctx.Err() == nil
	})
}

func (v *verifier) pages() {
	for err := range v.tx.b.Check() {
		v.add(bMeta, nil, "page: %v", err)
	}
}

func (v *verifier) chain() {
	st := v.tx.st
	anchor, err := parseAnchor(v.tx.get(bMeta, []byte("anchor")))
	if err != nil {
		v.add(bMeta, []byte("anchor"), "%v", err)
	}
	next, hash := anchor.seq+1, anchor.hash
	v.r.First, v.r.Last, v.r.Head = next, st.seq, st.hash
	var size, topics uint64
	v.each(bLog, func(k, val []byte) {
		if len(k) != 8 {
			v.add(bLog, k, "key has %d bytes", len(k))
			return
		}
		seq := binary.BigEndian.Uint64(k)
		if seq != next {
			v.add(bLog, k, "message %d expected, found %d", next, seq)
		}
		next = seq + 1
		v.r.Messages++
		size += uint64(len(val))
		_, topic, told, err := parseMessage(seq, val)
		if err != nil {
			v.add(bLog, k, "%v", err)
			hash = told
			return
		}
		if got := link(hash, seq, val[:len(val)-32]); got != told {
			v.add(bLog, k, "hash chain is broken at message %d", seq)
		}
		hash = told
		if v.tx.get(bTopic, consumerSeq(topic, seq)) == nil {
			v.add(bTopic, k, "message %d is missing in its topic", seq)
		}
	})
	if v.ctx.Err() != nil {
		return
	}
	if next != st.seq+1 || hash != st.hash || uint64(v.r.Messages) != st.count || size != st.bytes {
		v.add(bMeta, []byte("state"), "head says message %d, %d messages, %d bytes; the log ends at %d with %d messages, %d bytes, same hash %v",
			st.seq, st.count, st.bytes, next-1, v.r.Messages, size, hash == st.hash)
	}
	v.each(bTopic, func(k, _ []byte) { topics++ })
	if topics != uint64(v.r.Messages) {
		v.add(bTopic, nil, "%d entries for %d messages", topics, v.r.Messages)
	}
}

func (v *verifier) records() {
	var entries, numbers int64
	v.each(bRec, func(k, val []byte) {
		v.r.Records++
		r, err := parseRecord(string(k), val)
		if err != nil {
			v.add(bRec, k, "%v", err)
			return
		}
		if r.Number == 0 || r.Number > v.tx.st.number || !bytes.Equal(v.tx.get(bSeq, be64(r.Number)), k) {
			v.add(bSeq, k, "record number %d does not lead to the record", r.Number)
		}
		for name, value := range r.Index {
			entries++
			if !bytes.Equal(v.tx.get(bIdx, indexEntry(name, value, r.Number)), k) {
				v.add(bIdx, k, "index %q is missing", name)
			}
		}
	})
	v.each(bSeq, func(_, _ []byte) { numbers++ })
	v.each(bIdx, func(_, _ []byte) { entries-- })
	if v.ctx.Err() == nil && (numbers != v.r.Records || entries != 0) {
		v.add(bIdx, nil, "%d records, %d numbers, %d index entries missing (negative: too many)", v.r.Records, numbers, entries)
	}
}

func (v *verifier) claims() {
	v.each(bClaim, func(k, val []byte) {
		v.r.Claims++
		if _, err := parseClaim(val); err != nil {
			v.add(bClaim, k, "%v", err)
		}
	})
}

func (v *verifier) consumers() {
	found := map[uint16]totals{}
	var order int64
	v.each(bPend, func(k, val []byte) {
		v.r.Pending++
		in := reader{b: val}
		key, size := in.short(), uint64(in.u32())
		if len(k) != 10 || in.bad || len(in.b) != 0 {
			v.add(bPend, k, "form")
			return
		}
		id, seq := binary.BigEndian.Uint16(k), beSeq(k)
		t := found[id]
		t.pending++
		t.bytes += size
		found[id] = t
		if v.tx.get(bOrder, orderEntry(id, key, seq)) == nil {
			v.add(bOrder, k, "message %d is missing in the order of its key", seq)
		}
		if got := v.tx.get(bLog, be64(seq)); uint64(len(got)) != size {
			v.add(bLog, k, "message %d has %d bytes, %d were counted", seq, len(got), size)
		}
	})
	v.each(bOrder, func(_, _ []byte) { order++ })
	if v.ctx.Err() == nil && order != v.r.Pending {
		v.add(bOrder, nil, "%d entries for %d pending messages", order, v.r.Pending)
	}
	v.each(bRetry, func(k, val []byte) {
		if _, err := parseAttempt(val); err != nil || v.tx.get(bPend, k) == nil {
			v.add(bRetry, k, "attempt without a pending message, or damaged (%v)", err)
		}
	})
	v.each(bDead, func(k, val []byte) {
		v.r.Dead++
		if len(k) != 10 {
			v.add(bDead, k, "form")
			return
		}
		if _, err := parseAttempt(val); err != nil || v.tx.get(bPend, k) != nil || v.tx.get(bLog, be64(beSeq(k))) == nil {
			v.add(bDead, k, "dead message is pending as well, has no payload, or is damaged (%v)", err)
		}
		id := binary.BigEndian.Uint16(k)
		t := found[id]
		t.dead++
		found[id] = t
	})
	for name, c := range v.tx.s.consumers {
		if t, err := v.tx.totals(c.id); v.ctx.Err() == nil && (err != nil || t != found[c.id]) {
			v.add(bCount, []byte(name), "totals are %+v, counted %+v (%v)", t, found[c.id], err)
		}
	}
}

// anchor is where the hash chain of what is still held begins.
type anchor struct {
	seq  uint64
	hash [32]byte
}

func (a anchor) encode() []byte {
	return appendCRC(append(be64(a.seq), a.hash[:]...))
}

func parseAnchor(v []byte) (a anchor, err error) {
	if v == nil {
		return a, nil
	}
	body, ok := checked(v)
	in := reader{b: body}
	a.seq = in.u64()
	copy(a.hash[:], in.take(32))
	if !ok || in.bad || len(in.b) != 0 {
		return anchor{}, fmt.Errorf("read anchor: %w", ErrCorrupt)
	}
	return a, nil
}

// Prune deletes up to limit messages (0 means 1000) from the old end of the log that are older than before and settled
// by every consumer, and up to limit claims older than before. It stops at the first message that is pending or dead.
// It returns how many of both it deleted; call it again while that is not zero.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (n int, err error) {
	if limit <= 0 {
		limit = 1000
	}
	err = s.Commit(ctx, func(tx *Tx) error {
		n, err = tx.prune(before, limit)
		return err
	})
	return n, err
}

func (tx *Tx) prune(before time.Time, limit int) (n int, err error) {
	a, err := parseAnchor(tx.get(bMeta, []byte("anchor")))
	if err != nil {
		return 0, err
	}
	start := a.seq
	tx.scan(bLog, nil, nil, false, func(k, val []byte) bool {
		seq := binary.BigEndian.Uint64(k)
		var m Message
		var topic uint16
		if m, topic, _, err = parseMessage(seq, val); err != nil || !m.Time.Before(before) {
			return false
		}
		for _, c := range tx.s.consumers {
			if at := consumerSeq(c.id, seq); tx.get(bPend, at) != nil || tx.get(bDead, at) != nil {
				return false
			}
		}
		tx.delete(bLog, bytes.Clone(k))
		tx.delete(bTopic, consumerSeq(topic, seq))
		tx.st.count--
		tx.st.bytes -= uint64(len(val))
		a = anchor{seq, m.Hash}
		n++
		return n < limit
	})
	if err != nil {
		return 0, err
	}
	if a.seq != start {
		tx.put(bMeta, []byte("anchor"), a.encode())
	}
	gone := 0
	tx.scan(bClaim, nil, nil, false, func(k, val []byte) bool {
		var c claim
		if c, err = parseClaim(val); err != nil {
			return false
		}
		if c.at.Before(before) {
			tx.delete(bClaim, bytes.Clone(k))
			gone++
		}
		return gone < limit
	})
	return n + gone, err
}
