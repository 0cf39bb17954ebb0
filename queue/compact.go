package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

func (s *Store) newPath() string { return s.path + ".compact" }
func (s *Store) oldPath() string { return s.path + ".old" }

// Compact rewrites the file without its free pages; the cost follows the live data. Commits wait meanwhile. On an error
// the store goes on with the file it had.
func (s *Store) Compact(ctx context.Context) error {
	return s.submit(ctx, &call{wake: make(chan bool, 1), alone: s.compact})
}

func (s *Store) compact() error {
	if s.db == nil {
		if err := s.reopen(); err != nil {
			return fmt.Errorf("compact: %w: %w", ErrUnavailable, err)
		}
	}
	if err := os.Remove(s.newPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("compact: %w", err)
	}
	if err := s.writeCompact(); err != nil {
		_ = os.Remove(s.newPath())
		return fmt.Errorf("compact: %w", err)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.closeFile() // waits for readers
	swapErr := s.swap()
	db, err := s.openFile()
	if err != nil {
		return fmt.Errorf("compact: %w", errors.Join(swapErr, err))
	}
	s.db = db
	if swapErr != nil {
		return fmt.Errorf("compact: %w", swapErr)
	}
	if err := os.Remove(s.oldPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

func (s *Store) writeCompact() error {
	dst, err := bolt.Open(s.newPath(), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoSync: true, OpenFile: s.o.OpenFile})
	if err != nil {
		return err
	}
	if err := bolt.Compact(dst, s.db, 4<<20); err != nil {
		_ = dst.Close()
		return err
	}
	return errors.Join(dst.Sync(), dst.Close())
}

// swap puts the new file in place: the old one keeps a name until the new one has it.
func (s *Store) swap() error {
	dir := filepath.Dir(s.path)
	if err := os.Rename(s.path, s.oldPath()); err != nil {
		return err
	}
	if err := os.Rename(s.newPath(), s.path); err != nil {
		return errors.Join(err, os.Rename(s.oldPath(), s.path))
	}
	return syncDir(dir)
}

// finishSwap repairs what a crash inside swap left. The old file is complete at every moment of it.
func (s *Store) finishSwap() error {
	have, err := exists(s.path)
	if err != nil {
		return err
	}
	old, err := exists(s.oldPath())
	if err != nil {
		return err
	}
	if old && !have {
		if err := os.Rename(s.oldPath(), s.path); err != nil {
			return err
		}
		return syncDir(filepath.Dir(s.path))
	}
	for _, leftover := range []string{s.newPath(), s.oldPath()} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
