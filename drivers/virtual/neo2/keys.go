package neo2

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
)

// InitialKey is a TDES DUKPT initial key for card data with its KSN. The base
// derivation key never comes here.
type InitialKey struct {
	KSN string `json:"ksn"` // 20 hex digits; the counter bits are ignored
	Key string `json:"key"` // 32 hex digits
}

// String names the KSN, never the key.
func (k InitialKey) String() string { return "key " + k.KSN + ", ***" }

// GoString is String.
func (k InitialKey) GoString() string { return k.String() }

// vault holds the key state and its file: keys that were used are gone.
type vault struct {
	mu   sync.Mutex
	file string
	live *dukpt.State
}

type stored struct {
	State string `json:"state"` // hex, as dukpt.State.AppendState wrote it
}

func openVault(file string, key *InitialKey) (*vault, error) {
	v := &vault{file: file}
	if file != "" {
		b, err := os.ReadFile(file)
		if err == nil {
			var s stored
			if err = json.Unmarshal(b, &s); err == nil {
				b, err = hex.DecodeString(s.State)
			}
			if err == nil {
				v.live, err = dukpt.Restore(b)
			}
			if err != nil {
				return nil, fmt.Errorf("read the reader's state: %s is damaged: delete it to begin with a new key", file)
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the reader's state: %w", err)
		}
	}
	if key != nil && v.live == nil {
		return v, v.load(*key)
	}
	return v, nil
}

// own makes a random key where there is none.
func (v *vault) own() error {
	if v.live != nil {
		return nil
	}
	b := make([]byte, 20)
	rand.Read(b)
	ksn := append([]byte{0xFF, 0xFF}, b[16:]...)
	return v.load(InitialKey{KSN: hex.EncodeToString(append(ksn, 0, 0, 0, 0)), Key: hex.EncodeToString(b[:16])})
}

func (v *vault) load(k InitialKey) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	raw, err := hex.DecodeString(k.Key)
	serial, err2 := hex.DecodeString(k.KSN)
	if err != nil || err2 != nil || len(raw) != 16 || len(serial) != 10 {
		return errors.New("load a key: an initial key has 32 hex digits and its KSN 20")
	}
	serial[7] &= 0xE0
	serial[8], serial[9] = 0, 0
	s, err := dukpt.Load(raw, p2pe.KSN(fmt.Sprintf("%X", serial)))
	if err != nil {
		return fmt.Errorf("load a key: %w", err)
	}
	v.live = s
	return v.save()
}

// state is the answer to 81-02: 00 no key, 01 there, FF used up.
func (v *vault) state() byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.live == nil:
		return 0x00
	case v.live.Remaining() == 0:
		return 0xFF
	}
	return 0x01
}

// seal is the cipher of one answer: CBC from a zero vector for each object,
// zeros to the block, and the KSN of the key. That the key is used is on disk
// before it is.
func (v *vault) seal() (enc func([]byte) []byte, ksn []byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.live == nil {
		return nil, nil, errors.New("no key")
	}
	t, err := v.live.Next()
	if err != nil {
		return nil, nil, err
	}
	defer t.Erase()
	if err := v.save(); err != nil {
		return nil, nil, err
	}
	k, err := dukpt.DataKey(t, dukpt.Request)
	if err != nil {
		return nil, nil, err
	}
	defer k.Erase()
	key := k.Bytes()
	c, err := des.NewTripleDESCipher(append(append([]byte(nil), key...), key[:8]...))
	if err != nil {
		return nil, nil, err
	}
	return func(clear []byte) []byte {
		out := append([]byte(nil), clear...)
		for len(out)%8 != 0 {
			out = append(out, 0)
		}
		cipher.NewCBCEncrypter(c, make([]byte, 8)).CryptBlocks(out, out)
		return out
	}, t.KSN().Bytes(), nil
}

// save writes the state to a new file and puts it in place. The caller holds
// mu.
func (v *vault) save() error {
	if v.file == "" {
		return nil
	}
	b, err := v.live.AppendState(nil)
	if err == nil {
		b, err = json.Marshal(stored{hex.EncodeToString(b)})
	}
	if err != nil {
		return fmt.Errorf("write the reader's state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(v.file), ".reader-*")
	if err != nil {
		return fmt.Errorf("write the reader's state: %w", err)
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
	return err
}
