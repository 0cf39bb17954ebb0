package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"tillbridge/p2pe"
	"tillbridge/p2pe/seal"
)

// ErrRegistry: the registry was changed or damaged.
var ErrRegistry error = p2pe.NewFault("keys.registry", "keyring: the key registry is damaged or was changed: its lines no longer follow one another; keep the file for the investigation, and load new keys into an empty directory")

// Actions of entries.
const (
	ActionLoading   = "loading"   // an import has begun
	ActionLoaded    = "loaded"    // its key is in the journal
	ActionZeroizing = "zeroizing" // the destruction has begun
	ActionZeroized  = "zeroized"  // it is done
)

// Entry is a line of the registry. It holds no key.
type Entry struct {
	Number int         `json:"n"`
	At     time.Time   `json:"at"`
	Action string      `json:"action"`
	Scheme p2pe.Scheme `json:"scheme"`
	// Device is the serial number without its counter, which no two machines share.
	Device string `json:"device"`
	// KeySet is the part of it that names the base key: TDES 10 hex digits, AES 8.
	KeySet string `json:"key_set"`
	// KSN is the serial number at that moment: of the initial key, or the last.
	KSN p2pe.KSN `json:"ksn"`
	// KCV names the initial key, ProtectionKCV the key that protected the block.
	KCV           *CheckValues `json:"kcv,omitempty"`
	ProtectionKCV *CheckValues `json:"protection_kcv,omitempty"`
	By            []string     `json:"by"`
	Sealer        string       `json:"sealer,omitempty"`
	Anchor        string       `json:"anchor,omitempty"`
	// Before is the SHA-256 of the line before, in hex; of the first line it is "".
	Before string `json:"before"`
}

// keySet returns the part of a device's serial number that names its base key.
func keySet(device string, scheme p2pe.Scheme) string {
	n := 10
	if scheme == p2pe.SchemeAESDUKPT {
		n = 8
	}
	return device[:min(n, len(device))]
}

func lineDigest(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// parseRegistry reads the lines and checks that they follow one another. A last
// line without its end was cut off while it was written: it never counted, and
// whole says how many bytes do.
func parseRegistry(data []byte) (entries []Entry, whole int, last string, err error) {
	for {
		end := bytes.IndexByte(data[whole:], '\n')
		if end < 0 {
			return entries, whole, last, nil
		}
		line := data[whole : whole+end]
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		var e Entry
		if err := dec.Decode(&e); err != nil || dec.InputOffset() != int64(len(line)) {
			return nil, 0, "", fmt.Errorf("%w (line %d)", ErrRegistry, len(entries)+1)
		}
		if e.Number != len(entries)+1 || e.Before != last {
			return nil, 0, "", fmt.Errorf("%w (line %d does not follow the one before)", ErrRegistry, len(entries)+1)
		}
		entries = append(entries, e)
		last = lineDigest(line)
		whole += end + 1
	}
}

// readRegistry reads a registry; none is an empty one.
func readRegistry(path string) ([]Entry, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: read the registry: %w", err)
	}
	entries, _, _, err := parseRegistry(data)
	return entries, err
}

// appendRegistry adds an entry and syncs it. It numbers e and binds it to the
// line before.
func appendRegistry(path string, e Entry) (_ Entry, err error) {
	_, statErr := os.Stat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return Entry{}, fmt.Errorf("keyring: open the registry: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := seal.LockFile(f); err != nil {
		return Entry{}, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return Entry{}, fmt.Errorf("keyring: read the registry: %w", err)
	}
	entries, whole, last, err := parseRegistry(data)
	if err != nil {
		return Entry{}, err
	}
	e.Number, e.Before = len(entries)+1, last
	line, err := json.Marshal(e)
	if err != nil {
		return Entry{}, fmt.Errorf("keyring: write the registry: %w", err)
	}
	if err := f.Truncate(int64(whole)); err != nil {
		return Entry{}, fmt.Errorf("keyring: write the registry: %w", err)
	}
	if _, err := f.WriteAt(append(line, '\n'), int64(whole)); err != nil {
		return Entry{}, fmt.Errorf("keyring: write the registry: %w", err)
	}
	if err := f.Sync(); err != nil {
		return Entry{}, fmt.Errorf("keyring: sync the registry: %w", err)
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		return e, seal.SyncDirOf(path)
	}
	return e, nil
}
