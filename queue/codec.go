package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// On disk, all integers big-endian. Buckets and their keys:
//
//	meta   "schema" → form of the file; "id" → store id; "state" → head of the log; "stamp" → last commit; "anchor" → last purged message
//	rec    record id → record
//	seq    record number (8) → record id; gives the order of creation
//	idx    name 00 value 00 record number (8) → record id
//	claim  len(scope) (2) scope key → claim
//	log    sequence number (8) → message
//	topic  topic id (2) sequence number (8) → nothing
//	names  "t" topic name → topic id (2); "c" consumer name → consumer
//	order  consumer id (2) len(key) (2) order key, sequence number (8) → nothing: what is not yet settled, in order per key
//	pend   consumer id (2) sequence number (8) → order key: the same by age
//	retry  consumer id (2) sequence number (8) → attempt: only for messages that failed
//	dead   consumer id (2) sequence number (8) → attempt
//	count  "c" consumer id (2) → totals; "u" name → counter of a user (8)
type bucket int

const (
	bMeta bucket = iota
	bRec
	bSeq
	bIdx
	bClaim
	bLog
	bTopic
	bNames
	bOrder
	bPend
	bRetry
	bDead
	bCount
	nBuckets
)

var bucketNames = [nBuckets][]byte{
	[]byte("meta"), []byte("rec"), []byte("seq"), []byte("idx"), []byte("claim"), []byte("log"), []byte("topic"),
	[]byte("names"), []byte("order"), []byte("pend"), []byte("retry"), []byte("dead"), []byte("count"),
}

// ascending says which buckets are filled in rising key order, so their pages may be packed.
var ascending = [nBuckets]bool{bSeq: true, bLog: true, bTopic: true, bPend: true}

const schema = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func consumerSeq(id uint16, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, id), seq)
}

func orderPrefix(id uint16, key string) []byte {
	b := make([]byte, 0, 12+len(key))
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	return append(b, key...)
}

func orderEntry(id uint16, key string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(orderPrefix(id, key), seq)
}

func splitOrder(b []byte) (key string, seq uint64, ok bool) {
	if len(b) < 12 {
		return "", 0, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if len(b) != 12+n {
		return "", 0, false
	}
	return string(b[4 : 4+n]), binary.BigEndian.Uint64(b[4+n:]), true
}

func indexPrefix(name, value string) []byte {
	b := make([]byte, 0, len(name)+len(value)+10)
	b = append(append(b, name...), 0)
	return append(append(b, value...), 0)
}

func indexEntry(name, value string, number uint64) []byte {
	return binary.BigEndian.AppendUint64(indexPrefix(name, value), number)
}

func claimKey(scope, key string) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(scope)+len(key)), uint16(len(scope)))
	return append(append(b, scope...), key...)
}

// reader takes a stored value apart; after the first fault everything reads as zero and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) short() string { return string(r.take(int(r.u16()))) }

func appendShort(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// checked splits the trailing CRC-32C off a value and compares it.
func checked(b []byte) ([]byte, bool) {
	if len(b) < 4 {
		return nil, false
	}
	body := b[:len(b)-4]
	return body, binary.BigEndian.Uint32(b[len(b)-4:]) == crc32.Checksum(body, castagnoli)
}

func appendCRC(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// appendRecord: form (1) version (8) number (8) created (8) n (2) [name value]… body crc32c (4).
func appendRecord(b []byte, r *Record) []byte {
	if len(b) != 0 {
		panic("queue: record does not start its value")
	}
	b = append(b, 1)
	b = binary.BigEndian.AppendUint64(b, r.Version)
	b = binary.BigEndian.AppendUint64(b, r.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created.UnixNano()))
	names := make([]string, 0, len(r.Index))
	for name := range r.Index {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.BigEndian.AppendUint16(b, uint16(len(names)))
	for _, name := range names {
		b = appendShort(appendShort(b, name), r.Index[name])
	}
	return appendCRC(append(b, r.Body...))
}

// parseRecord reads a stored record; the result shares no memory with v.
func parseRecord(id string, v []byte) (Record, error) {
	body, ok := checked(v)
	if !ok {
		return Record{}, fmt.Errorf("read record %q: checksum: %w", id, ErrCorrupt)
	}
	in := reader{b: body}
	form := in.u8()
	r := Record{ID: id, Version: in.u64(), Number: in.u64(), Created: time.Unix(0, int64(in.u64()))}
	n := int(in.u16())
	if n > 0 && !in.bad {
		r.Index = make(map[string]string, min(n, 16))
		last := ""
		for i := 0; i < n && !in.bad; i++ {
			name := in.short()
			if i > 0 && name <= last {
				in.bad = true
			}
			r.Index[name], last = in.short(), name
		}
	}
	if in.bad || form != 1 {
		return Record{}, fmt.Errorf("read record %q: form: %w", id, ErrCorrupt)
	}
	r.Body = slices.Clone(in.b)
	return r, nil
}

// appendMessage: form (1) topic id (2) time (8) len order key (2) order key len body (4) body crc32c (4) chain hash (32).
// The chain hash is SHA-256(hash before ‖ sequence number ‖ everything up to and with the checksum).
func appendMessage(b []byte, m *Message, topic uint16, before [32]byte) ([]byte, [32]byte) {
	b = append(b, 1)
	b = binary.BigEndian.AppendUint16(b, topic)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Time.UnixNano()))
	b = appendShort(b, m.OrderKey)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Body)))
	b = appendCRC(append(b, m.Body...))
	hash := link(before, m.Seq, b)
	return append(b, hash[:]...), hash
}

func link(before [32]byte, seq uint64, value []byte) [32]byte {
	h := sha256.New()
	h.Write(before[:])
	h.Write(be64(seq))
	h.Write(value)
	return [32]byte(h.Sum(nil))
}

// parseMessage reads a stored message; the result shares no memory with v. hash is what the chain says after it.
func parseMessage(seq uint64, v []byte) (m Message, topic uint16, hash [32]byte, err error) {
	if len(v) < 32 {
		return m, 0, hash, fmt.Errorf("read message %d: too short: %w", seq, ErrCorrupt)
	}
	hash = [32]byte(v[len(v)-32:])
	body, ok := checked(v[:len(v)-32])
	if !ok {
		return m, 0, hash, fmt.Errorf("read message %d: checksum: %w", seq, ErrCorrupt)
	}
	in := reader{b: body}
	form := in.u8()
	topic = in.u16()
	m = Message{Seq: seq, Time: time.Unix(0, int64(in.u64())), OrderKey: in.short()}
	m.Body = slices.Clone(in.take(int(in.u32())))
	if in.bad || form != 1 || len(in.b) != 0 {
		return Message{}, 0, hash, fmt.Errorf("read message %d: form: %w", seq, ErrCorrupt)
	}
	m.Hash = hash
	return m, topic, hash, nil
}

// state is the head of the log and of the records: one small value rewritten by each commit.
type state struct {
	seq    uint64 // last message
	hash   [32]byte
	number uint64 // last record number
	count  uint64 // messages in the log
	bytes  uint64 // their values
}

func (s state) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 68), s.seq)
	b = append(b, s.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, s.number)
	b = binary.BigEndian.AppendUint64(b, s.count)
	b = binary.BigEndian.AppendUint64(b, s.bytes)
	return appendCRC(b)
}

func parseState(v []byte) (s state, err error) {
	body, ok := checked(v)
	in := reader{b: body}
	s.seq = in.u64()
	copy(s.hash[:], in.take(32))
	s.number, s.count, s.bytes = in.u64(), in.u64(), in.u64()
	if !ok || in.bad || len(in.b) != 0 {
		return state{}, fmt.Errorf("read head: %w", ErrCorrupt)
	}
	return s, nil
}

// totals are a consumer's running figures.
type totals struct {
	pending, bytes, dead uint64
}

func (t totals) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 24), t.pending)
	b = binary.BigEndian.AppendUint64(b, t.bytes)
	return binary.BigEndian.AppendUint64(b, t.dead)
}

func parseTotals(v []byte) (t totals, err error) {
	if v == nil {
		return t, nil
	}
	in := reader{b: v}
	t.pending, t.bytes, t.dead = in.u64(), in.u64(), in.u64()
	if in.bad || len(in.b) != 0 {
		return totals{}, fmt.Errorf("read totals: %w", ErrCorrupt)
	}
	return t, nil
}

// attempt is what is kept of a message that failed.
type attempt struct {
	n         uint32
	set       time.Time // when it was written
	notBefore time.Time
	reason    string
	key       string // order key, of dead messages
	bytes     uint64
}

func (a attempt) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, a.n)
	b = binary.BigEndian.AppendUint64(b, uint64(a.set.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(a.notBefore.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, a.bytes)
	return appendShort(appendShort(b, a.reason), a.key)
}

func parseAttempt(v []byte) (a attempt, err error) {
	in := reader{b: v}
	a.n = in.u32()
	a.set, a.notBefore = time.Unix(0, int64(in.u64())), time.Unix(0, int64(in.u64()))
	a.bytes = in.u64()
	a.reason, a.key = in.short(), in.short()
	if in.bad || len(in.b) != 0 {
		return attempt{}, fmt.Errorf("read attempt: %w", ErrCorrupt)
	}
	return a, nil
}

// due tells whether the message may be tried. A clock that was set back behind the time of writing must not hold a
// message for as long as the clock moved: it is then tried at once.
func (a attempt) due(now time.Time) bool {
	return !now.Before(a.notBefore) || now.Before(a.set)
}
