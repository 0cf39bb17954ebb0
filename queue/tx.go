package queue

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Record is one durable thing with an id: a payment, a refund, a device.
type Record struct {
	ID      string
	Version uint64            // 0 for a record that is not stored yet; each Put adds one
	Number  uint64            // order of creation, set by the store; what List pages by
	Created time.Time         // time of the first Put, set by the store
	Body    []byte            // opaque, sealed by the caller
	Index   map[string]string // name → value under which List finds it; no zero byte in either
}

// Tx is what a function of Commit or View works on. It is valid only while that function runs, in its goroutine.
type Tx struct {
	b   *bolt.Tx
	set *writeSet // nil in View
	st  state
	s   *Store
	now time.Time
}

// writeSet holds what one function wrote, apart from everybody else until it returns nil.
type writeSet struct {
	m       [nBuckets]map[string][]byte // nil value: deleted
	changed bool                        // a consumer may have something new to lease
}

// Now is the time of the transaction (Options.Now when it began).
func (tx *Tx) Now() time.Time { return tx.now }

func (tx *Tx) get(b bucket, key []byte) []byte {
	if tx.set != nil {
		if v, ok := tx.set.m[b][string(key)]; ok {
			return v
		}
	}
	return tx.b.Bucket(bucketNames[b]).Get(key)
}

func (tx *Tx) put(b bucket, key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	if tx.set.m[b] == nil {
		tx.set.m[b] = map[string][]byte{}
	}
	tx.set.m[b][string(key)] = value
}

func (tx *Tx) delete(b bucket, key []byte) {
	if tx.set.m[b] == nil {
		tx.set.m[b] = map[string][]byte{}
	}
	tx.set.m[b][string(key)] = nil
}

// scan calls fn for the keys after `after` that begin with prefix, in order, until fn returns false. The write set is
// laid over what is stored. With reverse it runs from the last key before `after` (or the end) backwards.
func (tx *Tx) scan(b bucket, prefix, after []byte, reverse bool, fn func(k, v []byte) bool) {
	var mine []string
	if tx.set != nil {
		for k := range tx.set.m[b] {
			if strings.HasPrefix(k, string(prefix)) {
				mine = append(mine, k)
			}
		}
		slices.Sort(mine)
		if reverse {
			slices.Reverse(mine)
		}
	}
	before := func(x, y []byte) bool {
		if reverse {
			return bytes.Compare(x, y) > 0
		}
		return bytes.Compare(x, y) < 0
	}
	if after != nil {
		for len(mine) > 0 && !before(after, []byte(mine[0])) {
			mine = mine[1:]
		}
	}
	c := tx.b.Bucket(bucketNames[b]).Cursor()
	var k, v []byte
	step := c.Next
	switch {
	case reverse:
		step = c.Prev
		end := after
		if end == nil {
			end = append(slices.Clone(prefix), bytes.Repeat([]byte{0xFF}, 16)...)
		}
		if k, _ = c.Seek(end); k == nil {
			k, v = c.Last()
		} else {
			k, v = c.Prev()
		}
	case after != nil:
		if k, v = c.Seek(after); bytes.Equal(k, after) {
			k, v = c.Next()
		}
	default:
		k, v = c.Seek(prefix)
	}
	for {
		if k != nil && !bytes.HasPrefix(k, prefix) {
			k = nil
		}
		switch {
		case k == nil && len(mine) == 0:
			return
		case len(mine) > 0 && (k == nil || !before(k, []byte(mine[0]))):
			key := mine[0]
			mine = mine[1:]
			if string(k) == key {
				k, v = step()
			}
			if own := tx.set.m[b][key]; own != nil && !fn([]byte(key), own) {
				return
			}
		default:
			if !fn(k, v) {
				return
			}
			k, v = step()
		}
	}
}

func (tx *Tx) writable() error {
	if tx.set == nil {
		return ErrReadOnly
	}
	return nil
}

func checkKey(what, s string) error {
	if s == "" || len(s) > MaxKey {
		return fmt.Errorf("%s has %d bytes, allowed are 1 to %d: %w", what, len(s), MaxKey, ErrInvalid)
	}
	return nil
}

// Get returns the record with that id, or ErrNotFound.
func (tx *Tx) Get(id string) (Record, error) {
	if err := checkKey("record id", id); err != nil {
		return Record{}, err
	}
	v := tx.get(bRec, []byte(id))
	if v == nil {
		return Record{}, fmt.Errorf("get record %q: %w", id, ErrNotFound)
	}
	return parseRecord(id, v)
}

// Put stores r and returns it as stored. r.Version must be the version that was read, 0 for a new record; otherwise
// ErrConflict. Number and Created of r are ignored.
func (tx *Tx) Put(r Record) (Record, error) {
	if err := tx.writable(); err != nil {
		return Record{}, err
	}
	if err := checkKey("record id", r.ID); err != nil {
		return Record{}, err
	}
	if len(r.Body) > MaxBody || len(r.Index) > 64 {
		return Record{}, fmt.Errorf("put record %q: body %d bytes, %d index entries: %w", r.ID, len(r.Body), len(r.Index), ErrInvalid)
	}
	for name, value := range r.Index {
		if name == "" || len(name) > MaxKey || len(value) > MaxKey || strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
			return Record{}, fmt.Errorf("put record %q: index %q: %w", r.ID, name, ErrInvalid)
		}
	}
	var old Record
	if v := tx.get(bRec, []byte(r.ID)); v != nil {
		var err error
		if old, err = parseRecord(r.ID, v); err != nil {
			return Record{}, err
		}
	}
	if old.Version != r.Version {
		return Record{}, fmt.Errorf("put record %q: version %d, stored %d: %w", r.ID, r.Version, old.Version, ErrConflict)
	}
	r.Version++
	r.Index = maps.Clone(r.Index)
	r.Body = slices.Clone(r.Body)
	if old.Version == 0 {
		tx.st.number++
		r.Number, r.Created = tx.st.number, tx.now.Round(0)
		tx.put(bSeq, be64(r.Number), []byte(r.ID))
	} else {
		r.Number, r.Created = old.Number, old.Created
	}
	for name, value := range old.Index {
		if now, ok := r.Index[name]; !ok || now != value {
			tx.delete(bIdx, indexEntry(name, value, r.Number))
		}
	}
	for name, value := range r.Index {
		if was, ok := old.Index[name]; !ok || was != value {
			tx.put(bIdx, indexEntry(name, value, r.Number), []byte(r.ID))
		}
	}
	tx.put(bRec, []byte(r.ID), appendRecord(nil, &r))
	return r, nil
}

// Delete removes a record of that version and its index entries; its claims stay.
func (tx *Tx) Delete(id string, version uint64) error {
	if err := tx.writable(); err != nil {
		return err
	}
	old, err := tx.Get(id)
	if err != nil {
		return err
	}
	if old.Version != version {
		return fmt.Errorf("delete record %q: version %d, stored %d: %w", id, version, old.Version, ErrConflict)
	}
	for name, value := range old.Index {
		tx.delete(bIdx, indexEntry(name, value, old.Number))
	}
	tx.delete(bSeq, be64(old.Number))
	tx.delete(bRec, []byte(id))
	return nil
}

// Query selects records for List, in order of creation.
type Query struct {
	Index   string // "" for all records
	Value   string
	After   uint64 // Number of the last record of the page before; 0 for the first page
	Limit   int    // 0 means 100
	Reverse bool   // newest first; After then is the oldest Number seen
}

// List returns up to q.Limit records. The next page begins after the Number of the last one.
func (tx *Tx) List(q Query) ([]Record, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	b, prefix := bSeq, []byte(nil)
	if q.Index != "" {
		b, prefix = bIdx, indexPrefix(q.Index, q.Value)
	}
	var after []byte
	if q.After != 0 {
		after = append(slices.Clone(prefix), be64(q.After)...)
	}
	var ids []string
	tx.scan(b, prefix, after, q.Reverse, func(k, id []byte) bool {
		if len(k) == len(prefix)+8 {
			ids = append(ids, string(id))
		}
		return len(ids) < q.Limit
	})
	out := make([]Record, 0, len(ids))
	for _, id := range ids {
		r, err := tx.Get(id)
		if err != nil {
			return nil, fmt.Errorf("list records: index names %q: %w", id, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Claim takes the idempotency key of a scope for the record id. digest is the caller's fingerprint of the request.
// If the key is taken, existing is the record it was taken for and the error is ErrClaimed (same digest) or
// ErrClaimMismatch (another). Claims are kept until Prune.
func (tx *Tx) Claim(scope, key string, digest []byte, id string) (existing string, err error) {
	if err := tx.writable(); err != nil {
		return "", err
	}
	for what, s := range map[string]string{"claim scope": scope, "idempotency key": key, "record id": id} {
		if err := checkKey(what, s); err != nil {
			return "", err
		}
	}
	if len(digest) > 64 {
		return "", fmt.Errorf("claim: digest of %d bytes: %w", len(digest), ErrInvalid)
	}
	k := claimKey(scope, key)
	if v := tx.get(bClaim, k); v != nil {
		c, err := parseClaim(v)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(c.digest, digest) {
			return c.id, ErrClaimMismatch
		}
		return c.id, ErrClaimed
	}
	tx.put(bClaim, k, claim{at: tx.now, digest: digest, id: id}.encode())
	return "", nil
}

// Claimed tells for which record a key was taken, with the digest, without taking it; ErrNotFound if it is free.
func (tx *Tx) Claimed(scope, key string) (id string, digest []byte, err error) {
	v := tx.get(bClaim, claimKey(scope, key))
	if v == nil {
		return "", nil, fmt.Errorf("look up claim: %w", ErrNotFound)
	}
	c, err := parseClaim(v)
	return c.id, c.digest, err
}

type claim struct {
	at     time.Time
	digest []byte
	id     string
}

func (c claim) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.at.UnixNano()))
	b = append(append(b, byte(len(c.digest))), c.digest...)
	return appendCRC(append(b, c.id...))
}

func parseClaim(v []byte) (c claim, err error) {
	body, ok := checked(v)
	in := reader{b: body}
	c.at = time.Unix(0, int64(in.u64()))
	c.digest = slices.Clone(in.take(int(in.u8())))
	c.id = string(in.b)
	if !ok || in.bad {
		return claim{}, fmt.Errorf("read claim: %w", ErrCorrupt)
	}
	return c, nil
}

// Add adds delta to a named counter and returns the new value. A counter that was never written is 0.
func (tx *Tx) Add(name string, delta int64) (int64, error) {
	if err := tx.writable(); err != nil {
		return 0, err
	}
	n, err := tx.Counter(name)
	if err != nil {
		return 0, err
	}
	sum := n + delta
	if (sum > n) != (delta > 0) && delta != 0 {
		return 0, fmt.Errorf("add to counter %q: overflow: %w", name, ErrInvalid)
	}
	tx.put(bCount, append([]byte("u"), name...), be64(uint64(sum)))
	return sum, nil
}

// Counter returns the value of a named counter.
func (tx *Tx) Counter(name string) (int64, error) {
	if err := checkKey("counter name", name); err != nil {
		return 0, err
	}
	v := tx.get(bCount, append([]byte("u"), name...))
	if v == nil {
		return 0, nil
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("read counter %q: %w", name, ErrCorrupt)
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}
