package queue

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// Message is one entry of the log.
type Message struct {
	Seq      uint64 // 1, 2, 3, … over all topics; never given twice
	Topic    string
	OrderKey string
	Time     time.Time // of the transaction that appended it
	Body     []byte    // opaque, sealed by the caller
	Hash     [32]byte  // hash chain up to and with this message
}

// Append adds a message to a topic and returns its sequence number. Consumers of the topic receive messages of one order
// key strictly in turn; an empty order key means no order. The backlog limits of Options are not applied here, because
// what a host has answered must be kept: ask Admit before anything new is begun.
func (tx *Tx) Append(topic, orderKey string, body []byte) (seq uint64, err error) {
	if err := tx.writable(); err != nil {
		return 0, err
	}
	if err := checkKey("topic", topic); err != nil {
		return 0, err
	}
	if len(orderKey) > MaxKey || len(body) > MaxBody {
		return 0, fmt.Errorf("append to %q: order key %d bytes, body %d bytes: %w", topic, len(orderKey), len(body), ErrInvalid)
	}
	id, err := tx.topic(topic, true)
	if err != nil {
		return 0, err
	}
	m := Message{Seq: tx.st.seq + 1, OrderKey: orderKey, Time: tx.now, Body: body}
	value, hash := appendMessage(make([]byte, 0, len(body)+len(orderKey)+64), &m, id, tx.st.hash)
	tx.st.seq, tx.st.hash = m.Seq, hash
	tx.st.count++
	tx.st.bytes += uint64(len(value))
	tx.put(bLog, be64(m.Seq), value)
	tx.put(bTopic, consumerSeq(id, m.Seq), nil)
	for _, c := range tx.s.consumers {
		if c.topic == topic {
			if err := tx.enqueue(c.id, orderKey, m.Seq, uint64(len(value))); err != nil {
				return 0, err
			}
		}
	}
	tx.set.changed = true
	return m.Seq, nil
}

// enqueue makes a message pending for one consumer.
func (tx *Tx) enqueue(consumer uint16, orderKey string, seq, size uint64) error {
	t, err := tx.totals(consumer)
	if err != nil {
		return err
	}
	t.pending++
	t.bytes += size
	tx.setTotals(consumer, t)
	tx.put(bOrder, orderEntry(consumer, orderKey, seq), nil)
	tx.put(bPend, consumerSeq(consumer, seq), binary.BigEndian.AppendUint32(appendShort(nil, orderKey), uint32(size)))
	return nil
}

// dequeue takes a message away from a consumer; false if it was not pending.
func (tx *Tx) dequeue(consumer uint16, seq uint64) (orderKey string, size uint64, ok bool, err error) {
	k := consumerSeq(consumer, seq)
	v := tx.get(bPend, k)
	if v == nil {
		return "", 0, false, nil
	}
	in := reader{b: v}
	orderKey, size = in.short(), uint64(in.u32())
	t, err := tx.totals(consumer)
	if err != nil {
		return "", 0, false, err
	}
	if in.bad || t.pending == 0 || t.bytes < size {
		return "", 0, false, fmt.Errorf("settle message %d: totals: %w", seq, ErrCorrupt)
	}
	t.pending--
	t.bytes -= size
	tx.setTotals(consumer, t)
	tx.delete(bOrder, orderEntry(consumer, orderKey, seq))
	tx.delete(bPend, k)
	if tx.get(bRetry, k) != nil {
		tx.delete(bRetry, k)
	}
	return orderKey, size, true, nil
}

func totalsKey(consumer uint16) []byte { return binary.BigEndian.AppendUint16([]byte("c"), consumer) }

func (tx *Tx) totals(consumer uint16) (totals, error) {
	return parseTotals(tx.get(bCount, totalsKey(consumer)))
}

func (tx *Tx) setTotals(consumer uint16, t totals) { tx.put(bCount, totalsKey(consumer), t.encode()) }

// topic returns the number a topic is stored under; 0 if it has none.
func (tx *Tx) topic(name string, create bool) (uint16, error) {
	k := append([]byte("t"), name...)
	if v := tx.get(bNames, k); v != nil {
		if len(v) != 2 {
			return 0, fmt.Errorf("read topic %q: %w", name, ErrCorrupt)
		}
		return binary.BigEndian.Uint16(v), nil
	}
	if !create {
		return 0, nil
	}
	id, err := tx.nextName("t")
	if err != nil {
		return 0, err
	}
	tx.put(bNames, k, binary.BigEndian.AppendUint16(nil, id))
	return id, nil
}

func (tx *Tx) nextName(kind string) (uint16, error) {
	n := 0
	tx.scan(bNames, []byte(kind), nil, false, func(_, _ []byte) bool { n++; return true })
	if n >= math.MaxUint16 {
		return 0, fmt.Errorf("name a new topic or consumer: %w", ErrFull)
	}
	return uint16(n + 1), nil
}

// Read returns up to limit messages (0 means 100) of a topic with a sequence number above after, in order. It needs no
// consumer and changes nothing: an event stream resumes by passing the last number it saw. An unknown topic is empty.
func (tx *Tx) Read(topic string, after uint64, limit int) ([]Message, error) {
	if limit <= 0 {
		limit = 100
	}
	id, err := tx.topic(topic, false)
	if id == 0 || err != nil {
		return nil, err
	}
	var seqs []uint64
	tx.scan(bTopic, binary.BigEndian.AppendUint16(nil, id), consumerSeq(id, after), false, func(k, _ []byte) bool {
		seqs = append(seqs, binary.BigEndian.Uint64(k[2:]))
		return len(seqs) < limit
	})
	out := make([]Message, 0, len(seqs))
	for _, seq := range seqs {
		m, err := tx.message(seq)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// Message returns one message by its sequence number.
func (tx *Tx) Message(seq uint64) (Message, error) { return tx.message(seq) }

func (tx *Tx) message(seq uint64) (Message, error) {
	v := tx.get(bLog, be64(seq))
	if v == nil {
		return Message{}, fmt.Errorf("read message %d: %w", seq, ErrNotFound)
	}
	m, topic, _, err := parseMessage(seq, v)
	if err != nil {
		return Message{}, err
	}
	m.Topic = tx.topicName(topic)
	return m, nil
}

func (tx *Tx) topicName(id uint16) (name string) {
	want := binary.BigEndian.AppendUint16(nil, id)
	tx.scan(bNames, []byte("t"), nil, false, func(k, v []byte) bool {
		if slices.Equal(v, want) {
			name = string(k[1:])
		}
		return name == ""
	})
	return name
}

// Head is the last message of the log: its number (0 when there was none) and the hash chain's value. A copy of it kept
// elsewhere (audit log, CRM) shows later that the log was not cut or replaced.
func (tx *Tx) Head() (seq uint64, hash [32]byte) { return tx.st.seq, tx.st.hash }
