package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/keyblock"
	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
)

// Errors of a keyring.
var (
	ErrNoKey     error = p2pe.NewFault("keys.none", "keyring: no key is loaded: tillbridge keys import")
	ErrActive    error = p2pe.NewFault("keys.active", "keyring: a key set is live: zeroize it first (tillbridge keys zeroize), then import the new one")
	ErrUsed      error = p2pe.NewFault("keys.loaded_before", "keyring: a key of this serial number was loaded on this machine before, and its keys may have been used: ask for one with another serial number")
	ErrTwoPeople error = p2pe.NewFault("keys.two_people", "keyring: two people are needed, under names of their own")
)

// Options of [Open]. The zero value is valid.
type Options struct {
	// Sealer and TPM are as in seal.SealerOptions.
	Sealer string
	TPM    string
	// Anchor is the mark that the acquirer holds. Default: the counter of the
	// TPM when the sealer is the TPM, else none, and then no key is loaded.
	Anchor seal.Anchor
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Keyring is the key directory of a machine. It is safe for concurrent use.
type Keyring struct {
	mu      sync.Mutex
	dir     string
	o       Options
	entries []Entry
	sealer  seal.Sealer
}

// SelfTest runs the built-in known answers of key derivation and key blocks. A
// failure is a damaged program or memory: use no key.
func SelfTest() error {
	if err := dukpt.SelfTest(); err != nil {
		return err
	}
	return keyblock.SelfTest()
}

// Open opens a key directory, which need not exist yet, after the self-tests.
// It ends a destruction that was cut off.
func Open(ctx context.Context, dir string, o *Options) (*Keyring, error) {
	return open(ctx, dir, o, SelfTest)
}

func open(ctx context.Context, dir string, o *Options, selfTest func() error) (*Keyring, error) {
	if err := selfTest(); err != nil {
		return nil, err
	}
	k := &Keyring{dir: dir}
	if o != nil {
		k.o = *o
	}
	if k.o.Now == nil {
		k.o.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keyring: make the key directory: %w", err)
	}
	var err error
	if k.entries, err = readRegistry(k.registry()); err != nil {
		return nil, err
	}
	for _, s := range k.sets() {
		if s.zeroizing && !s.zeroized {
			if err := k.destroy(ctx, s, s.by); err != nil {
				return nil, err
			}
		}
	}
	return k, nil
}

func (k *Keyring) registry() string { return filepath.Join(k.dir, "registry.log") }

func (k *Keyring) journal(device string) string {
	return filepath.Join(k.dir, "dukpt-"+device+".slots")
}

// set is what the registry says of one serial number.
type set struct {
	device    string
	scheme    p2pe.Scheme
	initial   p2pe.KSN
	kcv       CheckValues
	at        time.Time
	by        []string
	loaded    bool
	zeroizing bool
	zeroized  bool
	last      p2pe.KSN
}

// sets returns the key sets of the registry in the order of their import.
func (k *Keyring) sets() []set {
	var out []set
	find := func(device string) *set {
		for i := range out {
			if out[i].device == device {
				return &out[i]
			}
		}
		return nil
	}
	for _, e := range k.entries {
		s := find(e.Device)
		if s == nil {
			out = append(out, set{device: e.Device, scheme: e.Scheme})
			s = &out[len(out)-1]
		}
		switch e.Action {
		case ActionLoading, ActionLoaded:
			s.initial, s.at, s.by = e.KSN, e.At, e.By
			if e.KCV != nil {
				s.kcv = *e.KCV
			}
			s.loaded = s.loaded || e.Action == ActionLoaded
		case ActionZeroizing:
			s.zeroizing, s.by = true, e.By
		case ActionZeroized:
			s.zeroizing, s.zeroized, s.last = true, true, e.KSN
		}
	}
	// An import that was cut off between its journal and its second line.
	for i := range out {
		if !out[i].loaded {
			_, err := os.Stat(k.journal(out[i].device))
			out[i].loaded = err == nil
		}
	}
	return out
}

// live returns the key set in use.
func (k *Keyring) live() (set, bool) {
	for _, s := range k.sets() {
		if s.loaded && !s.zeroizing {
			return s, true
		}
	}
	return set{}, false
}

// Set names a key set.
type Set struct {
	Device string // serial number, 16 or 14 hex digits
	Scheme p2pe.Scheme
}

// Live returns the key set in use, which [Keyring.Source] opens.
func (k *Keyring) Live() (Set, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.live()
	return Set{s.device, s.scheme}, ok
}

func (k *Keyring) record(e Entry) error {
	e.At = k.o.Now().UTC().Truncate(time.Second)
	e.KeySet = keySet(e.Device, e.Scheme)
	done, err := appendRegistry(k.registry(), e)
	if err != nil {
		return err
	}
	k.entries = append(k.entries, done)
	if done.Number != len(k.entries) { // another process wrote meanwhile
		k.entries, err = readRegistry(k.registry())
	}
	return err
}

// seal opens the sealer at the first use.
func (k *Keyring) seal(ctx context.Context) (seal.Sealer, error) {
	if k.sealer == nil {
		s, err := seal.OpenSealer(ctx, k.dir, &seal.SealerOptions{Kind: k.o.Sealer, TPM: k.o.TPM})
		if err != nil {
			return nil, err
		}
		k.sealer = s
	}
	return k.sealer, nil
}

func (k *Keyring) anchor() seal.Anchor {
	if k.o.Anchor != nil {
		return k.o.Anchor
	}
	if kind, _, ok := seal.SealerOf(k.dir); ok && kind == seal.KindTPM {
		return seal.NewTPMAnchor(k.dir, k.o.TPM, nil)
	}
	return nil
}

// anchored reports whether there is an anchor, or will be one with the first
// import.
func (k *Keyring) anchored(ctx context.Context) bool {
	if k.anchor() != nil {
		return true
	}
	_, _, rooted := seal.SealerOf(k.dir)
	return !rooted && seal.Preferred(ctx, &seal.SealerOptions{Kind: k.o.Sealer, TPM: k.o.TPM}) == seal.KindTPM
}

// MayImport tells before anybody types a component whether [Keyring.Import]
// would refuse the block all the same. It believes the block's header, which
// Import does not.
func (k *Keyring) MayImport(ctx context.Context, block string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.live(); ok {
		return ErrActive
	}
	if !k.anchored(ctx) {
		return seal.ErrNoAnchor
	}
	h, err := keyblock.Describe(block)
	if err != nil {
		return err
	}
	ksn, err := h.KSN()
	if err != nil {
		return err
	}
	return k.unused(ksn.Device())
}

// unused refuses a serial number of which a key was loaded before.
func (k *Keyring) unused(device string) error {
	for _, s := range k.sets() {
		if s.device == device && (s.loaded || s.zeroizing) {
			return ErrUsed
		}
	}
	return nil
}

// Import is what [Keyring.Import] loads.
type Import struct {
	// Block is the key block, usage B1, mode X, not exportable.
	Block string
	// Protection is the key it is enciphered under, as a [Ceremony] made it. It
	// is destroyed.
	Protection *secret.Buffer
	// KCV, when set, is the check value of the initial key on paper.
	KCV string
	// By names the people, two at least.
	By []string
}

// Import loads an initial key. The key itself is erased once its journal is
// made, and the import is on record before and after.
func (k *Keyring) Import(ctx context.Context, in Import) (Entry, error) {
	defer in.Protection.Destroy()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := judgePeople(in.By); err != nil {
		return Entry{}, err
	}
	_, _, rooted := seal.SealerOf(k.dir)
	sealer, err := k.seal(ctx)
	if err != nil {
		return Entry{}, err
	}
	anchor := k.anchor()
	if anchor == nil {
		return Entry{}, errors.Join(seal.ErrNoAnchor, k.unroot(rooted))
	}
	if _, ok := k.live(); ok {
		return Entry{}, ErrActive
	}
	protection := TDES
	if in.Block != "" && (in.Block[0] == 'D' || in.Block[0] == 'E') {
		protection = AES
	}
	if err := judgeKey(protection, in.Protection.Bytes()); err != nil {
		return Entry{}, fmt.Errorf("protection key: %w", err)
	}
	guard, err := protection.Of(in.Protection.Bytes())
	if err != nil {
		return Entry{}, err
	}
	key, err := keyblock.Open(in.Block, in.Protection.Bytes(), &keyblock.InitialKey)
	if err != nil {
		return Entry{}, err
	}
	defer key.Erase()
	if strength(protection, len(in.Protection.Bytes())) < strength(algorithmOf(&key.Header), len(key.Bytes())) {
		return Entry{}, fmt.Errorf("%w: the protection key is weaker than the initial key: ask for a block under a key at least as strong", ErrWeak)
	}
	e, err := k.judgeInitial(key, in.KCV)
	if err != nil {
		return Entry{}, err
	}
	e.By, e.ProtectionKCV, e.Sealer, e.Anchor = in.By, &guard, sealer.Name(), anchor.Name()
	state, err := dukpt.Load(key.Bytes(), e.KSN)
	if err != nil {
		return Entry{}, err
	}
	e.Action = ActionLoading
	if err := k.record(e); err != nil {
		state.Erase()
		return Entry{}, err
	}
	if err := seal.CreateJournal(ctx, k.journal(e.Device), state, sealer, anchor); err != nil {
		return Entry{}, err
	}
	e.Action = ActionLoaded
	if err := k.record(e); err != nil {
		return Entry{}, err
	}
	return k.entries[len(k.entries)-1], nil
}

// unroot destroys a root key that seals nothing: one made just now, or one
// without a journal. Left behind it would tie the directory to the sealer of
// that day, a file perhaps, after the machine got a better one.
func (k *Keyring) unroot(before bool) error {
	journals, err := k.files(".slots")
	if err != nil || before && len(journals) > 0 {
		return err
	}
	err = k.sealer.Destroy()
	k.sealer = nil
	return err
}

// judgeInitial refuses a key that may not be loaded here.
func (k *Keyring) judgeInitial(key *keyblock.Key, paper string) (Entry, error) {
	ksn, err := key.Header.KSN()
	if err != nil {
		return Entry{}, err
	}
	algorithm := algorithmOf(&key.Header)
	if err := judgeKey(algorithm, key.Bytes()); err != nil {
		return Entry{}, fmt.Errorf("initial key: %w", err)
	}
	v, err := algorithm.Of(key.Bytes())
	if err != nil {
		return Entry{}, err
	}
	if paper != "" && !v.Match(paper) {
		return Entry{}, fmt.Errorf("initial key: %w", ErrCheckValue)
	}
	e := Entry{Scheme: ksn.Scheme(), Device: ksn.Device(), KSN: ksn, KCV: &v}
	return e, k.unused(e.Device)
}

func algorithmOf(h *keyblock.Header) Algorithm {
	if h.Algorithm == 'A' {
		return AES
	}
	return TDES
}

func judgePeople(by []string) error {
	for i, name := range by {
		if err := judgeName(name); err != nil {
			return err
		}
		for _, other := range by[:i] {
			if sameName(name, other) {
				return ErrTwoPeople
			}
		}
	}
	if len(by) < 2 {
		return ErrTwoPeople
	}
	return nil
}

// Source opens the journal of the live key set for this process: the keys of an
// encrypter. The caller closes it.
func (k *Keyring) Source(ctx context.Context) (*seal.Journal, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.live()
	if !ok {
		for _, s := range k.sets() {
			if s.zeroizing {
				return nil, seal.ErrZeroised
			}
		}
		return nil, ErrNoKey
	}
	sealer, err := k.seal(ctx)
	if err != nil {
		return nil, err
	}
	return seal.OpenJournal(ctx, k.journal(s.device), sealer, k.anchor())
}

// Zeroize destroys every key of the directory on behalf of two people, and
// returns how many sets. What is begun is on record first, so that a cut is
// made good at the next start. The registry stays; no key set of it is loaded
// again.
func (k *Keyring) Zeroize(ctx context.Context, by []string) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := judgePeople(by); err != nil {
		return 0, err
	}
	n := 0
	for _, s := range k.sets() {
		if s.zeroized || !s.loaded {
			continue
		}
		if !s.zeroizing {
			// Begun and not ended it would stop every later start.
			if err := seal.JournalFree(k.journal(s.device)); err != nil {
				return n, err
			}
			if err := k.record(Entry{Action: ActionZeroizing, Scheme: s.scheme, Device: s.device, KSN: s.initial, By: by}); err != nil {
				return n, err
			}
		}
		if err := k.destroy(ctx, s, by); err != nil {
			return n, err
		}
		n++
	}
	return n, k.destroyUnfinished()
}

// files returns the paths of the directory's files whose names end so.
func (k *Keyring) files(end string) (paths []string, err error) {
	entries, err := os.ReadDir(k.dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), end) {
			paths = append(paths, filepath.Join(k.dir, e.Name()))
		}
	}
	return paths, err
}

// destroyUnfinished overwrites and removes the journals of imports that were
// cut off before their file had its name.
func (k *Keyring) destroyUnfinished() error {
	files, err := k.files(".slots.new")
	for _, f := range files {
		_, e := seal.ZeroizeJournal(f)
		err = errors.Join(err, e, os.Remove(f))
	}
	return err
}

// destroy overwrites the journal first, which needs nothing else, then the root
// key and the mark.
func (k *Keyring) destroy(ctx context.Context, s set, by []string) error {
	last, err := seal.ZeroizeJournal(k.journal(s.device))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if last == "" || last.Device() != s.device {
		last = s.initial
	}
	// A chip that does not answer must not keep the keys alive.
	var markErr error
	if a := k.anchor(); a != nil {
		markErr = a.End(ctx, s.device)
	}
	if k.sealer != nil {
		err = k.sealer.Destroy()
		k.sealer = nil
	} else {
		err = seal.DestroyRoot(k.dir)
	}
	if err != nil {
		return err
	}
	err = k.record(Entry{Action: ActionZeroized, Scheme: s.scheme, Device: s.device, KSN: last, By: by})
	if err == nil && markErr != nil {
		return fmt.Errorf("the keys are destroyed; their mark is not removed: %w", markErr)
	}
	return err
}

// Registry returns every entry, oldest first.
func (k *Keyring) Registry() []Entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]Entry(nil), k.entries...)
}

// Close erases the root key from memory.
func (k *Keyring) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sealer != nil {
		k.sealer.Close()
		k.sealer = nil
	}
}
