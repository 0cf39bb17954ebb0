package abecs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
)

// InitialKey is a DUKPT initial key (X9.24-1) with the KSN that it belongs to.
// The base derivation key never comes here: whoever plays the acquirer keeps
// it.
type InitialKey struct {
	Use  string `json:"use"`  // "pin" or "data"
	Slot int    `json:"slot"` // 0 to 99
	KSN  string `json:"ksn"`  // 20 hex digits; the counter bits are ignored
	Key  string `json:"key"`  // 32 hex digits
}

// String names use, slot and KSN, never the key.
func (k InitialKey) String() string {
	return fmt.Sprintf("%s key %02d, KSN %s, ***", k.Use, k.Slot, k.KSN)
}

// GoString is String.
func (k InitialKey) GoString() string { return k.String() }

var errNoKey = errors.New("abecs: no key in this slot")

// stored is one key in the state file: the DUKPT state, whose used keys are
// gone. Check tells whether a key that is loaded is the one already there.
type stored struct {
	Use   string `json:"use"`
	Slot  int    `json:"slot"`
	KSN   string `json:"ksn"` // of the initial key
	Check string `json:"check"`
	State string `json:"state"` // hex, as dukpt.State.AppendState wrote it

	live *dukpt.State
}

// state is what survives power-off.
type state struct {
	Keys    []stored          `json:"keys"`
	Tables  []string          `json:"tables,omitempty"`
	Version map[string]string `json:"version,omitempty"`
}

// vault holds keys and tables, and their file.
type vault struct {
	mu   sync.Mutex
	file string // "" keeps everything in memory
	st   state
}

func openVault(file string, keys []InitialKey) (*vault, error) {
	v := &vault{file: file, st: state{Version: map[string]string{}}}
	if file != "" {
		b, err := os.ReadFile(file)
		switch {
		case err == nil:
			if err := json.Unmarshal(b, &v.st); err != nil {
				return nil, fmt.Errorf("read the pad's state: %s is damaged: delete it to begin with new keys", file)
			}
			if v.st.Version == nil {
				v.st.Version = map[string]string{}
			}
			for i := range v.st.Keys {
				if err := v.st.Keys[i].wake(); err != nil {
					return nil, fmt.Errorf("read the pad's state: %s is damaged: delete it to begin with new keys", file)
				}
			}
		case !errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("read the pad's state: %w", err)
		}
	}
	for _, k := range keys {
		if err := v.load(k); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// wake restores the DUKPT state from the file's form.
func (k *stored) wake() error {
	b, err := hex.DecodeString(k.State)
	if err == nil {
		k.live, err = dukpt.Restore(b)
	}
	return err
}

// load puts an initial key into its slot. The same key again keeps its
// counter.
func (v *vault) load(k InitialKey) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k.Use != "pin" && k.Use != "data" || k.Slot < 0 || k.Slot > 99 {
		return errors.New("load a key: use is pin or data, slot 0 to 99")
	}
	raw, err := hex.DecodeString(k.Key)
	if err != nil || len(raw) != 16 {
		return errors.New("load a key: an initial key has 32 hex digits")
	}
	serial, err := hex.DecodeString(k.KSN)
	if err != nil || len(serial) != 10 {
		return errors.New("load a key: a KSN has 20 hex digits")
	}
	serial[7] &= 0xE0
	serial[8], serial[9] = 0, 0
	sum := sha256.Sum256(append(raw, serial...))
	n := stored{Use: k.Use, Slot: k.Slot, KSN: fmt.Sprintf("%X", serial), Check: hex.EncodeToString(sum[:4])}
	if n.live, err = dukpt.Load(raw, p2pe.KSN(n.KSN)); err != nil {
		return fmt.Errorf("load a key: %w", err)
	}
	for i := range v.st.Keys {
		if o := &v.st.Keys[i]; o.Use == k.Use && o.Slot == k.Slot {
			if o.Check == n.Check {
				return nil
			}
			*o = n
			return v.save()
		}
	}
	v.st.Keys = append(v.st.Keys, n)
	sort.Slice(v.st.Keys, func(i, j int) bool {
		a, b := v.st.Keys[i], v.st.Keys[j]
		return a.Use < b.Use || a.Use == b.Use && a.Slot < b.Slot
	})
	return v.save()
}

// slot returns the key of a slot, or nil. The caller holds mu.
func (v *vault) slot(use string, slot int) *stored {
	for i := range v.st.Keys {
		if k := &v.st.Keys[i]; k.Use == use && k.Slot == slot {
			return k
		}
	}
	return nil
}

// next takes a transaction key. That it is used is on disk before it is handed
// out.
func (v *vault) next(use string, slot int) (*dukpt.Transaction, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.slot(use, slot)
	if k == nil {
		return nil, errNoKey
	}
	t, err := k.live.Next()
	if err != nil {
		return nil, err
	}
	if err := v.save(); err != nil {
		return nil, err
	}
	return t, nil
}

// peek returns the KSN that next would use.
func (v *vault) peek(use string, slot int) ([]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.slot(use, slot)
	if k == nil {
		return nil, false
	}
	return k.live.KSN().Bytes(), true
}

// has reports whether a slot holds a key.
func (v *vault) has(use string, slot int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.slot(use, slot) != nil
}

// setTables replaces the tables of an acquirer ("00": all).
func (v *vault) setTables(acquirer, version string, records []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	keep := records
	if acquirer == "00" {
		v.st.Version = map[string]string{}
	} else {
		for _, r := range v.st.Tables {
			if recordAcquirer(r) != acquirer {
				keep = append(keep, r)
			}
		}
	}
	v.st.Tables = keep
	v.st.Version[acquirer] = version
	if acquirer == "00" {
		for _, r := range records {
			if a := recordAcquirer(r); a != "" {
				v.st.Version[a] = version
			}
		}
	}
	return v.save()
}

func (v *vault) version(acquirer string) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.st.Version[acquirer]
	return t, ok
}

func (v *vault) tables() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.st.Tables...)
}

// save writes the state to a new file and puts it in place. The caller holds
// mu.
func (v *vault) save() error {
	if v.file == "" {
		return nil
	}
	for i := range v.st.Keys {
		k := &v.st.Keys[i]
		b, err := k.live.AppendState(nil)
		if err != nil {
			return fmt.Errorf("write the pad's state: %w", err)
		}
		k.State = hex.EncodeToString(b)
	}
	b, err := json.Marshal(v.st)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(v.file), ".pad-*")
	if err != nil {
		return fmt.Errorf("write the pad's state: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), v.file)
	}
	if err != nil {
		return fmt.Errorf("write the pad's state: %w", err)
	}
	return nil
}
