package seal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"tillbridge/p2pe"
	"tillbridge/p2pe/secret"
)

// Errors of the shredder.
var (
	// ErrShredded: the record has no key: it was shredded, or never had one.
	ErrShredded error = p2pe.NewFault("keys.shredded", "seal: the card data of this record were destroyed when its result was stored")
	// ErrShredder: the slot file cannot be used.
	ErrShredder error = p2pe.NewFault("keys.shredder", "seal: the file of record keys cannot be used: check the disk")
)

// Shredder gives each record a key of its own, in a file of fixed slots outside
// the store, so that the record's card data can be destroyed although the store
// (copy on write), its hot copies and its backups keep the sealed bytes.
//
// Order: [Shredder.Seal] returns once the record's key is durable, so it comes
// before the commit of the record; [Shredder.Shred] overwrites the key in its
// place and syncs, after the commit of the result; [Shredder.Sweep] does so
// again at each start for records whose result is stored or that never came to
// be. Keys are sealed by the [Sealer]. It is safe for concurrent use.
//
// A file system that writes elsewhere (copy on write, log structured) and a
// solid-state disk may keep an old sector: what is in it is sealed. A copy of
// this file taken before the shredding, together with the sealer's root, opens
// a copy of the store taken then: do not back this file up.
type Shredder struct {
	mu    sync.Mutex
	file  journalFile
	key   *secret.Buffer // seals the record keys
	slots map[string]int // record to slot
	free  []int          // in use order, lowest last
	end   int            // slots in the file
}

// A record's slot has 128 bytes, so that four lie in a sector and none across:
// use (1: 0 free, 1 used), length of the id (1), id (58), nonce (12), sealed
// key (32 and a tag of 16), four zero bytes, CRC-32C of all before (4). Slot 0
// is the head: "TBSH", form (1), length of the sealed file key (2), and that;
// it spans headSlots slots.
const (
	recordSlot = 128
	longestID  = 58
	headSlots  = 32
)

const shredderName = "shredder"

// OpenShredder opens the slot file of path for this process alone, and makes it
// when there is none.
func OpenShredder(path string, s Sealer) (*Shredder, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		key, err := secret.New(rootLen)
		if err != nil {
			return nil, err
		}
		defer key.Destroy()
		_, _ = rand.Read(key.Bytes())
		sealed, err := s.Seal(shredderName, key.Bytes())
		if err != nil {
			return nil, err
		}
		head := append([]byte("TBSH"), 1)
		head = appendPart(head, sealed)
		if len(head) > headSlots*recordSlot {
			return nil, fmt.Errorf("%w: the sealed key is too long", ErrShredder)
		}
		if err := writeDurably(path, append(head, make([]byte, headSlots*recordSlot-len(head))...)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrShredder, err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShredder, err)
	}
	if err := LockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := openShredder(f, s)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func openShredder(f journalFile, s Sealer) (*Shredder, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShredder, err)
	}
	if len(data) < headSlots*recordSlot || string(data[:4]) != "TBSH" || data[4] != 1 {
		return nil, fmt.Errorf("%w (no head)", ErrShredder)
	}
	sealed, _, ok := cutPart(data[5 : headSlots*recordSlot])
	if !ok {
		return nil, fmt.Errorf("%w (head)", ErrShredder)
	}
	r := &Shredder{file: f, slots: map[string]int{}}
	if r.key, err = s.Unseal(shredderName, sealed); err != nil {
		return nil, err
	}
	if r.key.Len() != rootLen {
		r.key.Destroy()
		return nil, ErrUnseal
	}
	r.end = len(data) / recordSlot
	for i := r.end - 1; i >= headSlots; i-- {
		id, ok := parseRecordSlot(data[i*recordSlot : (i+1)*recordSlot])
		if ok {
			r.slots[id] = i
		} else {
			// Free, or torn before its record was committed.
			r.free = append(r.free, i)
		}
	}
	return r, nil
}

// parseRecordSlot returns the id of a slot in use, whose sum is right.
func parseRecordSlot(b []byte) (id string, ok bool) {
	if len(b) != recordSlot || b[0] != 1 || int(b[1]) > longestID || b[1] == 0 ||
		crc32.Checksum(b[:recordSlot-4], castagnoli) != binary.BigEndian.Uint32(b[recordSlot-4:]) {
		return "", false
	}
	return string(b[2 : 2+int(b[1])]), true
}

func (r *Shredder) readSlot(i int) ([]byte, error) {
	b := make([]byte, recordSlot)
	if _, err := r.file.ReadAt(b, int64(i)*recordSlot); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShredder, err)
	}
	return b, nil
}

// recordKey opens the key of a slot.
func (r *Shredder) recordKey(i int, id string) (*secret.Buffer, error) {
	b, err := r.readSlot(i)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(r.key.Bytes())
	if err != nil {
		return nil, err
	}
	out, err := secret.New(rootLen)
	if err != nil {
		return nil, err
	}
	at := 2 + longestID
	if _, err := aead.Open(out.Bytes()[:0], b[at:at+12], b[at+12:at+12+rootLen+16], []byte(id)); err != nil {
		out.Destroy()
		return nil, fmt.Errorf("%w (record key)", ErrUnseal)
	}
	return out, nil
}

// makeKey draws the key of a record and syncs its slot.
func (r *Shredder) makeKey(id string) (*secret.Buffer, error) {
	i := r.end
	if n := len(r.free); n > 0 {
		i = r.free[n-1]
	}
	key, err := secret.New(rootLen)
	if err != nil {
		return nil, err
	}
	_, _ = rand.Read(key.Bytes())
	aead, err := newGCM(r.key.Bytes())
	if err != nil {
		key.Destroy()
		return nil, err
	}
	b := append(make([]byte, 0, recordSlot), 1, byte(len(id)))
	b = append(b, id...)
	b = b[:2+longestID]
	var nonce [12]byte
	_, _ = rand.Read(nonce[:])
	b = append(b, nonce[:]...)
	b = aead.Seal(b, nonce[:], key.Bytes(), []byte(id))
	b = b[:recordSlot-4]
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err = r.file.WriteAt(b, int64(i)*recordSlot)
	if err == nil {
		err = r.file.Sync()
	}
	if err != nil {
		key.Destroy()
		// The slot may be on the disk: the next sync takes it off, so that the
		// record never has two keys.
		_, _ = r.file.WriteAt(make([]byte, recordSlot), int64(i)*recordSlot)
		return nil, fmt.Errorf("%w: %w", ErrShredder, err)
	}
	if i == r.end {
		r.end++
	} else {
		r.free = r.free[:len(r.free)-1]
	}
	r.slots[id] = i
	return key, nil
}

// Seal enciphers data under the record's own key, which it makes and syncs at
// the first call for an id (1 to 58 bytes).
func (r *Shredder) Seal(id string, data []byte) ([]byte, error) {
	if id == "" || len(id) > longestID {
		return nil, fmt.Errorf("%w: an id of %d bytes", ErrShredder, len(id))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var key *secret.Buffer
	var err error
	if i, ok := r.slots[id]; ok {
		key, err = r.recordKey(i, id)
	} else {
		key, err = r.makeKey(id)
	}
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	aead, err := newGCM(key.Bytes())
	if err != nil {
		return nil, err
	}
	return appendSealed(nil, aead, []byte(id), data), nil
}

// Unseal opens what Seal made for an id, and returns [ErrShredded] once the key
// is gone.
func (r *Shredder) Unseal(id string, sealed []byte) (*secret.Buffer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.slots[id]
	if !ok {
		return nil, ErrShredded
	}
	key, err := r.recordKey(i, id)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	aead, err := newGCM(key.Bytes())
	if err != nil {
		return nil, err
	}
	return openSealed(aead, []byte(id), sealed)
}

// Shred destroys the key of a record: its slot is overwritten in place and
// synced. An id without a key is done already.
func (r *Shredder) Shred(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shred([]string{id})
}

// shred overwrites the slots of ids with one sync.
func (r *Shredder) shred(ids []string) error {
	var done []int
	for _, id := range ids {
		i, ok := r.slots[id]
		if !ok {
			continue
		}
		if _, err := r.file.WriteAt(make([]byte, recordSlot), int64(i)*recordSlot); err != nil {
			return fmt.Errorf("%w: %w", ErrShredder, err)
		}
		done = append(done, i)
	}
	if len(done) == 0 {
		return nil
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("%w: %w", ErrShredder, err)
	}
	for _, id := range ids {
		delete(r.slots, id)
	}
	r.free = append(r.free, done...)
	return nil
}

// Sweep destroys the keys of all records that keep does not name, and returns
// how many. Call it at each start, before new payments: keep says true for
// records that still wait for their result.
func (r *Shredder) Sweep(keep func(id string) bool) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var gone []string
	for id := range r.slots {
		if !keep(id) {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	return len(gone), r.shred(gone)
}

// Len returns how many records have a key.
func (r *Shredder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.slots)
}

// Close erases the key in memory and closes the file.
func (r *Shredder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key.Destroy()
	return r.file.Close()
}
