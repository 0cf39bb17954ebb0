package queue

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

func TestWaitingListsWhatIsNotSettled(t *testing.T) {
	ctx := context.Background()
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), &Options{Consumers: []Consumer{{Name: "crm", Topic: "events"}}, Reserve: -1, MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Commit(ctx, func(tx *Tx) error {
		for _, key := range []string{"a", "a", "b"} {
			if _, err := tx.Append("events", key, []byte(key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if due, err := s.NextDue(ctx, "crm"); err != nil || due.IsZero() || due.After(time.Now()) {
		t.Fatalf("next due %v, %v", due, err)
	}
	lent, err := s.Lease(ctx, "crm", 2)
	if err != nil || len(lent) != 2 {
		t.Fatalf("lent %d, %v", len(lent), err)
	}
	at := time.Now().Add(time.Hour)
	if err := s.Ack(lent[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Postpone(ctx, lent[1], at, "pause"); err != nil {
		t.Fatal(err)
	}
	list, err := s.Waiting(ctx, "crm", 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d waiting, %v", len(list), err)
	}
	if w := list[1]; w.Attempts != 0 || w.Reason != "pause" || w.NotBefore.Unix() != at.Unix() {
		t.Errorf("postponed: %+v", w)
	}
}
