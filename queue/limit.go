package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Admit says whether something new may be begun: ErrFull when the backlog has reached a limit of Options, when the disk
// is nearly full, or while the reserve is used up. Ask before card data is taken; what has begun is always stored.
func (s *Store) Admit(ctx context.Context) error {
	return s.View(ctx, func(tx *Tx) error { return tx.Admit() })
}

// Admit is Store.Admit inside a transaction.
func (tx *Tx) Admit() error {
	o := &tx.s.o
	var pending, size int64
	for _, c := range tx.s.consumers {
		t, err := tx.totals(c.id)
		if err != nil {
			return err
		}
		pending += int64(t.pending)
		size += int64(t.bytes)
	}
	if o.MaxPending > 0 && pending >= o.MaxPending {
		return fmt.Errorf("%d messages wait, the limit is %d: %w", pending, o.MaxPending, ErrFull)
	}
	if o.MaxBytes > 0 && size >= o.MaxBytes {
		return fmt.Errorf("%d bytes wait, the limit is %d: %w", size, o.MaxBytes, ErrFull)
	}
	if o.MinFree > 0 {
		if free, err := freeBytes(filepath.Dir(tx.s.path)); err == nil && free < o.MinFree {
			return fmt.Errorf("%d bytes are free on the disk of the store, the limit is %d: %w", free, o.MinFree, ErrFull)
		}
	}
	if o.Reserve > 0 {
		if ok, err := exists(tx.s.reservePath()); err == nil && !ok {
			return fmt.Errorf("the disk of the store was full and its reserve is used: %w", ErrFull)
		}
	}
	return nil
}

func (s *Store) reservePath() string { return s.path + ".reserve" }

// makeReserve writes a file of zeros that is given up when the disk is full. Failing is no reason not to start.
func (s *Store) makeReserve() {
	if s.o.Reserve <= 0 {
		return
	}
	if info, err := os.Stat(s.reservePath()); err == nil && info.Size() == s.o.Reserve {
		return
	}
	if free, err := freeBytes(filepath.Dir(s.path)); err == nil && free < 2*s.o.Reserve {
		return
	}
	f, err := os.OpenFile(s.reservePath(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		s.log.Warn("no reserve file", "error", err)
		return
	}
	zero := make([]byte, 1<<20)
	for left := s.o.Reserve; left > 0 && err == nil; left -= int64(len(zero)) {
		_, err = f.Write(zero[:min(left, int64(len(zero)))])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		s.log.Warn("no reserve file", "error", err)
		_ = os.Remove(s.reservePath())
	}
}

// freeReserve gives the reserve up if the disk was full; true if there was one.
func (s *Store) freeReserve(cause error) bool {
	// bbolt passes the error of growing the file on as text only.
	if s.o.Reserve <= 0 || !errors.Is(cause, errDiskFull) && !strings.Contains(cause.Error(), errDiskFull.Error()) {
		return false
	}
	if err := os.Remove(s.reservePath()); err != nil {
		return false
	}
	s.log.Error("disk full: reserve released")
	return true
}
