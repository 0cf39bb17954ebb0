package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tillbridge/agent/config"
	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
)

// storeKeyFile holds the key under which record bodies are sealed: 32 bytes in
// the clear (the earlier form), or sealed by the sealer of the data directory.
const storeKeyFile = "store.key"

const storeKeyName = "store.key"

// storeKey reads the key that seals record bodies, or makes one for a new
// store. It refuses to make one beside an existing store: its records could
// then never be read.
//
// The sealer's root key is apart from that of package keyring, so that
// destroying DUKPT keys leaves the stored payments readable. With the file
// sealer the key protects records in a copy of the store that was taken without
// the rest of the directory, and against nothing that reads the whole disk; with
// a TPM a copy of the disk is useless on another machine, and so is a backup.
func storeKey(ctx context.Context, c *config.Config) (*secret.Buffer, error) {
	dir, store := c.Agent.Data, c.StorePath()
	path := filepath.Join(dir, storeKeyFile)
	data, err := os.ReadFile(path)
	switch {
	case err == nil && len(data) == 32:
		return secret.Take(data)
	case err == nil:
		s, err := storeSealer(ctx, c)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		key, err := s.Unseal(storeKeyName, data)
		if err != nil {
			return nil, fmt.Errorf("open %s: without it the stored payments cannot be read: %w", path, err)
		}
		return key, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the store's key: %w", err)
	}
	if _, err := os.Stat(store); err == nil {
		return nil, fmt.Errorf("%s is missing and %s exists: restore the key from the backup; without it the stored payments cannot be read", path, store)
	}
	s, err := storeSealer(ctx, c)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	key, err := secret.New(32)
	if err != nil {
		return nil, err
	}
	_, _ = rand.Read(key.Bytes()) // never fails (crypto/rand)
	sealed, err := s.Seal(storeKeyName, key.Bytes())
	if err == nil {
		err = seal.WriteFile(path, sealed)
	}
	if err != nil {
		key.Destroy()
		return nil, fmt.Errorf("write the store's key: %w", err)
	}
	return key, nil
}

func storeSealer(ctx context.Context, c *config.Config) (seal.Sealer, error) {
	return seal.OpenSealer(ctx, c.Agent.Data, &seal.SealerOptions{Kind: c.Keys.Sealer, TPM: c.Keys.TPM})
}
