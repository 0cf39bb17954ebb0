package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

func (s *Store) newPath() string { return s.path + ".compact" }

// Compact rewrites the file without its free pages; the cost follows the live data. Commits wait meanwhile. On an error
// the store goes on with the file it had.
func (s *Store) Compact(ctx context.Context) error {
	return s.submit(ctx, &call{wake: make(chan bool, 1), alone: s.compact})
}

// wasteful says whether most of the file is free and little is waiting: a large list of free pages makes every commit
// write that list.
func (s *Store) wasteful() bool {
	if s.o.CompactFree < 0 {
		return false
	}
	waste := false
	_ = s.view(func(tx *Tx) error {
		db := tx.b.DB()
		free := int64(db.Stats().FreePageN) * int64(db.Info().PageSize)
		pending := uint64(0)
		for _, c := range s.consumers {
			t, err := tx.totals(c.id)
			if err != nil {
				return err
			}
			pending += t.pending
		}
		waste = free > s.o.CompactFree && free > tx.b.Size()/2 && pending < 1000
		return nil
	})
	return waste
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
	s.closeFile() // waits for readers; Windows renames over a closed file only
	err := os.Rename(s.newPath(), s.path)
	if err == nil {
		err = syncDir(filepath.Dir(s.path))
	}
	db, openErr := s.openSame()
	if openErr == nil {
		s.db = db
	}
	if err = errors.Join(err, openErr); err != nil {
		_ = os.Remove(s.newPath())
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
	if err := errors.Join(dst.View(s.sameHead), dst.Sync()); err != nil {
		_ = dst.Close()
		return err
	}
	return dst.Close()
}

// sameHead checks that a copy ends where the store ends.
func (s *Store) sameHead(b *bolt.Tx) error {
	return s.db.View(func(mine *bolt.Tx) error {
		for _, key := range []string{"id", "state", "stamp"} {
			k := []byte(key)
			if !bytes.Equal(b.Bucket(bucketNames[bMeta]).Get(k), mine.Bucket(bucketNames[bMeta]).Get(k)) {
				return fmt.Errorf("copy differs in %s: %w", key, ErrCorrupt)
			}
		}
		return nil
	})
}
