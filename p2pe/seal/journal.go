package seal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/secret"
)

// ReserveKeys is how many keys one sync of the journal reserves. A restart
// gives up those not handed out: gaps are fine, reuse never. It is part of the
// file's form: a lost slot is made good by passing over exactly one block.
const ReserveKeys = 16

// Errors of journals.
var (
	// ErrZeroised: the keys were destroyed on purpose.
	ErrZeroised error = p2pe.NewFault("keys.zeroized", "seal: the keys of this journal were zeroized: load a new initial key (tillbridge keys import)")
	// ErrExists: a journal is never written over.
	ErrExists error = p2pe.NewFault("keys.exists", "seal: a key journal exists already: its keys may have been used; zeroize it first and load a new key")
	// ErrReopen: a write, sync or mark failed, so that what is on the disk is
	// not known.
	ErrReopen error = p2pe.NewFault("keys.journal_unknown", "seal: writing the key journal failed: no key is handed out until it is opened again; check the disk")
)

// journalFile is what a journal needs of its file.
type journalFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// Journal gives the keys of a DUKPT state so that none is given twice, whatever
// is cut off when. A block of keys is taken out of the state, the state without
// them is written to the older of two slots and synced, the anchor is raised,
// and only then is the first of them handed out. It is a [KeySource], safe for
// concurrent use.
//
// The newer slot cannot derive a key that was handed out before its block; the
// older one still can for one block more. A solid-state disk may keep older
// copies of either, sealed.
type Journal struct {
	mu     sync.Mutex
	file   journalFile
	anchor Anchor
	device string
	state  *dukpt.State
	ready  []*dukpt.Transaction
	key    *secret.Buffer // of this opening's slots
	sealed []byte         // the same, as the sealer sealed it
	at     int            // slot that holds the present state
	seq    uint64
	mark   uint64
	failed error
}

var _ KeySource = (*Journal)(nil)

func journalName(device string) string { return "journal/" + device }

// CreateJournal writes the journal of a new key set to path and erases state.
// The file is durable when it returns. It refuses with [ErrExists] when path is
// there and with [ErrNoAnchor] without an anchor.
func CreateJournal(ctx context.Context, path string, state *dukpt.State, sealer Sealer, anchor Anchor) (err error) {
	defer state.Erase()
	if anchor == nil {
		return ErrNoAnchor
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(ErrExists, err)
	}
	j := &Journal{device: state.KSN().Device(), state: state}
	if err := j.renew(sealer); err != nil {
		return err
	}
	defer j.key.Destroy()
	if j.mark, err = anchor.Begin(ctx, j.device); err != nil {
		return err
	}
	var data []byte
	for range 2 {
		j.seq++
		b, err := j.slot()
		if err != nil {
			return err
		}
		data = append(data, b...)
	}
	return writeDurably(path, data)
}

// renew draws a new slot key.
func (j *Journal) renew(sealer Sealer) error {
	key, err := secret.New(rootLen)
	if err != nil {
		return err
	}
	_, _ = rand.Read(key.Bytes())
	sealed, err := sealer.Seal(journalName(j.device), key.Bytes())
	if err != nil {
		key.Destroy()
		return fmt.Errorf("seal: seal the journal's key: %w", err)
	}
	j.key, j.sealed = key, sealed
	return nil
}

// slot returns the present state as a slot.
func (j *Journal) slot() ([]byte, error) {
	plain, err := secret.New(slotSize)
	if err != nil {
		return nil, err
	}
	defer plain.Destroy()
	state, err := j.state.AppendState(plain.Bytes()[:0])
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(j.key.Bytes())
	if err != nil {
		return nil, err
	}
	s := slot{seq: j.seq, anchor: j.mark, ksn: j.state.KSN(), key: j.sealed}
	b := s.appendHead(make([]byte, 0, slotSize), sealedExtra+len(state))
	return finish(appendSealed(b, aead, b, state))
}

// OpenJournal opens the journal of path for this process alone. It survives one
// slot that is torn or damaged. An old copy of the file is [ErrRolledBack]; see
// also [ErrZeroised], [ErrJournal], [ErrUnseal], [ErrMark], [ErrNoAnchor] and
// [ErrInUse].
func OpenJournal(ctx context.Context, path string, sealer Sealer, anchor Anchor) (*Journal, error) {
	if anchor == nil {
		return nil, ErrNoAnchor
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("seal: open the key journal: %w", err)
	}
	if err := LockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j, err := openJournal(ctx, f, sealer, anchor)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func openJournal(ctx context.Context, f journalFile, sealer Sealer, anchor Anchor) (*Journal, error) {
	slots, _, err := readSlots(f)
	if err != nil {
		return nil, err
	}
	at, err := newest(slots)
	if err != nil {
		return nil, err
	}
	best, lost := slots[at], slots[1-at] == nil
	j := &Journal{file: f, anchor: anchor, device: best.ksn.Device(), at: at, seq: best.seq, mark: best.anchor}
	if j.state, err = best.open(sealer, j.device); err != nil {
		return nil, err
	}
	if err := j.judge(ctx, lost); err != nil {
		j.state.Erase()
		return nil, err
	}
	if err := j.renew(sealer); err != nil {
		j.state.Erase()
		return nil, err
	}
	return j, nil
}

// readSlots reads both slots; one that is torn or damaged is nil. raw holds the
// bytes they lie in.
func readSlots(f io.ReaderAt) (slots [2]*slot, raw []byte, err error) {
	raw = make([]byte, 2*slotSize)
	if n, err := f.ReadAt(raw, 0); err != nil && err != io.EOF {
		return slots, nil, fmt.Errorf("seal: read the key journal: %w", err)
	} else if n < len(raw) {
		return slots, nil, fmt.Errorf("%w (%d bytes)", ErrJournal, n)
	}
	for i := range slots {
		if s, err := parseSlot(raw[i*slotSize : (i+1)*slotSize]); err == nil {
			slots[i] = &s
		}
	}
	return slots, raw, nil
}

// newest returns which slot holds the latest state.
func newest(slots [2]*slot) (int, error) {
	for _, s := range slots {
		if s != nil && s.tomb {
			return 0, fmt.Errorf("%w (last key %s)", ErrZeroised, s.ksn)
		}
	}
	switch a, b := slots[0], slots[1]; {
	case a == nil && b == nil:
		return 0, ErrJournal
	case b == nil:
		return 0, nil
	case a == nil:
		return 1, nil
	case a.seq == b.seq || a.ksn.Device() != b.ksn.Device():
		return 0, fmt.Errorf("%w (slots disagree)", ErrJournal)
	case a.seq > b.seq:
		return 0, nil
	}
	return 1, nil
}

// open unseals the state of a slot.
func (s *slot) open(sealer Sealer, device string) (*dukpt.State, error) {
	key, err := sealer.Unseal(journalName(device), s.key)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	if key.Len() != rootLen {
		return nil, ErrUnseal
	}
	aead, err := newGCM(key.Bytes())
	if err != nil {
		return nil, err
	}
	plain, err := openSealed(aead, s.head, s.state)
	if err != nil {
		return nil, err
	}
	defer plain.Destroy()
	state, err := dukpt.Restore(plain.Bytes())
	if err != nil {
		return nil, err
	}
	if state.KSN() != s.ksn {
		state.Erase()
		return nil, fmt.Errorf("%w (serial number)", ErrJournal)
	}
	return state, nil
}

// judge compares the journal with its anchor. The mark of a slot is raised to
// after the slot's sync: one step behind it is a cut between the two. One step
// ahead with a damaged slot means that the damaged one was the newest, whose
// block is passed over.
func (j *Journal) judge(ctx context.Context, lost bool) error {
	now, err := j.anchor.Value(ctx, j.device)
	if err != nil {
		return err
	}
	switch {
	case j.mark == now:
		return nil
	case j.mark == now+1:
		return j.anchor.Raise(ctx, j.device, j.mark)
	case lost && j.mark+1 == now:
		j.mark = now
		if err := j.state.Skip(ReserveKeys); err != nil && !errors.Is(err, dukpt.ErrExhausted) {
			return err
		}
		return nil
	case j.mark < now:
		return fmt.Errorf("%w (mark %d, %s %d)", ErrRolledBack, j.mark, j.anchor.Name(), now)
	}
	return fmt.Errorf("%w: the %s is at %d and the journal at %d: the TPM was cleared, or the acquirer lost its mark; load a new initial key", ErrMark, j.anchor.Name(), now, j.mark)
}

// Next returns the next key. It syncs once per [ReserveKeys] keys. After an
// error of the disk or the anchor every call returns [ErrReopen].
func (j *Journal) Next() (*dukpt.Transaction, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return nil, j.failed
	}
	if len(j.ready) == 0 {
		if err := j.reserve(); err != nil {
			return nil, err
		}
	}
	t := j.ready[0]
	j.ready[0] = nil
	j.ready = j.ready[1:]
	return t, nil
}

// Ready makes sure that [Journal.Next] has a key to give, so that a payment that
// cannot be encrypted is refused before its card is read. Its errors are those
// of Next.
func (j *Journal) Ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil || len(j.ready) > 0 {
		return j.failed
	}
	return j.reserve()
}

// reserve makes a block of keys ready, in the order that no cut can break:
// derive, write, sync, raise the mark.
func (j *Journal) reserve() error {
	ready, err := j.derive()
	if err != nil {
		return err
	}
	if err := j.save(); err != nil {
		for _, t := range ready {
			t.Erase()
		}
		j.failed = fmt.Errorf("%w: %w", ErrReopen, err)
		return j.failed
	}
	j.ready = ready
	return nil
}

func (j *Journal) derive() ([]*dukpt.Transaction, error) {
	ready := make([]*dukpt.Transaction, 0, ReserveKeys)
	for len(ready) < ReserveKeys {
		t, err := j.state.Next()
		if errors.Is(err, dukpt.ErrExhausted) && len(ready) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		ready = append(ready, t)
	}
	return ready, nil
}

func (j *Journal) save() error {
	j.seq++
	j.mark++
	b, err := j.slot()
	if err != nil {
		return err
	}
	at := 1 - j.at
	if _, err := j.file.WriteAt(b, int64(at)*slotSize); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	j.at = at
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return j.anchor.Raise(ctx, j.device, j.mark)
}

// KSN returns the serial number of the next key that is not reserved yet.
func (j *Journal) KSN() p2pe.KSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.KSN()
}

// Close erases the keys in memory. Reserved keys that were not handed out are
// given up.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.ready {
		if t != nil {
			t.Erase()
		}
	}
	j.ready = nil
	j.state.Erase()
	j.key.Destroy()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	j.failed = dukpt.ErrErased
	return err
}

// JournalFree is [ErrInUse] where another process has the journal open, and nil
// where none has, or where there is no journal.
func JournalFree(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil // who needs it says what is wrong
	}
	return errors.Join(LockFile(f), f.Close())
}

// JournalInfo is what a journal says without its keys.
type JournalInfo struct {
	KSN       p2pe.KSN // next key that is not reserved; of a zeroised journal the last known
	Zeroised  bool
	Damaged   bool // one slot is unreadable
	Remaining uint64
	Total     uint64
}

// ReadJournal reads the public part of a journal. Nothing in it is proven; it
// neither locks nor changes the file, which may be in use. A slot that is being
// written at this moment counts as damaged.
func ReadJournal(path string) (JournalInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return JournalInfo{}, fmt.Errorf("seal: open the key journal: %w", err)
	}
	defer f.Close()
	slots, _, err := readSlots(f)
	if err != nil {
		return JournalInfo{}, err
	}
	info := JournalInfo{Damaged: slots[0] == nil || slots[1] == nil}
	for _, s := range slots {
		if s != nil && s.tomb {
			info.KSN, info.Zeroised = s.ksn, true
			return info, nil
		}
	}
	at, err := newest(slots)
	if err != nil {
		return JournalInfo{}, err
	}
	info.KSN = slots[at].ksn
	info.Remaining, info.Total, err = dukpt.Left(info.KSN)
	return info, err
}

// ZeroizeJournal overwrites both slots with a tombstone that names the last
// serial number, and syncs. It needs no sealer and may be repeated. A journal
// that does not exist is [fs.ErrNotExist].
func ZeroizeJournal(path string) (last p2pe.KSN, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("seal: open the key journal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := LockFile(f); err != nil {
		return "", err
	}
	slots, _, err := readSlots(f)
	if err != nil && !errors.Is(err, ErrJournal) {
		return "", err
	}
	last = "000000000000000000000000" // nothing can be read: the registry knows
	var seq uint64
	for _, s := range slots {
		if s != nil && s.seq >= seq {
			last, seq = s.ksn, s.seq
		}
	}
	tomb := slot{tomb: true, seq: seq + 1, ksn: last}
	b, err := finish(tomb.appendHead(nil, 0))
	if err != nil {
		return "", err
	}
	if _, err := f.WriteAt(append(b, b...), 0); err != nil {
		return "", fmt.Errorf("seal: zeroize the key journal: %w", err)
	}
	return last, f.Sync()
}
