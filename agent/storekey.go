package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// storeKeyFile holds the key under which record bodies are sealed.
const storeKeyFile = "store.key"

// storeKey reads the key that seals record bodies, or makes one for a new
// store. It refuses to make one beside an existing store: its records could
// then never be read.
//
// The file protects records in a copy of the store that was taken without it
// (a support bundle, a backup of the database alone). It protects against
// nothing that reads the whole disk.
func storeKey(dir, store string) ([]byte, error) {
	path := filepath.Join(dir, storeKeyFile)
	key, err := os.ReadFile(path)
	switch {
	case err == nil && len(key) == 32:
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("%s has %d bytes and not 32: restore it from the backup; without it the stored payments cannot be read", path, len(key))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the store's key: %w", err)
	}
	if _, err := os.Stat(store); err == nil {
		return nil, fmt.Errorf("%s is missing and %s exists: restore the key from the backup; without it the stored payments cannot be read", path, store)
	}
	key = make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	if err := writeDurably(path, key); errors.Is(err, fs.ErrExist) {
		return storeKey(dir, store) // another process has just made it
	} else if err != nil {
		return nil, err
	}
	return key, nil
}

// writeDurably writes a new file so that it is there whole after a power cut,
// or not at all. It replaces none: fs.ErrExist then.
func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path) // a rename would replace
		if err != nil && !errors.Is(err, fs.ErrExist) {
			err = os.Rename(f.Name(), path) // a file system without links
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}
