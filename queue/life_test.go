package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func TestLimitsAreSaidBeforeAndNeverStopAResult(t *testing.T) {
	s := open(t, &Options{MaxPending: 3})
	appendN(t, s, "k", 2)
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendN(t, s, "k", 1)
	if err := s.Admit(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("at the limit: %v", err)
	}
	appendN(t, s, "k", 1) // the result of what was begun before
	if err := s.Ack(leaseOne(t, s)); err != nil {
		t.Fatal(err)
	}
	if err := s.Ack(leaseOne(t, s)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); err != nil {
		t.Errorf("after delivery: %v", err)
	}
	for name, o := range map[string]*Options{"bytes": {MaxBytes: 10}, "disk": {MinFree: 1 << 60}} {
		s := open(t, o)
		appendN(t, s, "k", 1)
		if err := s.Admit(t.Context()); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReserveIsMadeAndMissedWhenUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(path, &Options{Reserve: 3 << 20, MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := os.Stat(path + ".reserve"); err != nil || info.Size() != 3<<20 {
		t.Fatalf("reserve: %v %v", info, err)
	}
	if err := s.Admit(t.Context()); err != nil {
		t.Error(err)
	}
	if !s.freeReserve(fmt.Errorf("write: %w", errDiskFull)) {
		t.Error("reserve not released on a full disk")
	}
	if err := s.Admit(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("without reserve: %v", err)
	}
}

func TestCompactKeepsEverythingAndShrinks(t *testing.T) {
	s := open(t, nil)
	body := bytes.Repeat([]byte("x"), 1000)
	commit1(t, s, func(tx *Tx) error {
		for range 2000 {
			if _, err := tx.Append("events", "", body); err != nil {
				return err
			}
		}
		_, err := tx.Put(Record{ID: "pay_1"})
		return err
	})
	for {
		d, err := s.Lease(t.Context(), "crm", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(d) == 0 {
			break
		}
		for _, d := range d {
			if err := s.Ack(d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := s.Prune(t.Context(), time.Now().Add(time.Hour), 500)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if s.o.CompactFree = 1 << 20; !s.wasteful() {
		t.Error("a drained file does not count as mostly free")
	}
	before, _ := os.Stat(s.path)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 20 {
			if err := s.Commit(context.Background(), func(tx *Tx) error { _, err := tx.Put(Record{ID: fmt.Sprint("during", i)}); return err }); err != nil {
				t.Error(err)
			}
			if _, err := s.Get(context.Background(), "pay_1"); err != nil {
				t.Error(err)
			}
		}
	})
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	after, err := os.Stat(s.path)
	if err != nil || after.Size() > before.Size()/4 {
		t.Errorf("file %d bytes before, %d after (%v)", before.Size(), after.Size(), err)
	}
	if s.wasteful() {
		t.Error("a compacted file counts as mostly free")
	}
	appendN(t, s, "k", 1)
	s = again(t, s)
	r := sound(t, s)
	if r.Messages != 1 || r.First != 2001 || r.Last != 2001 || r.Records != 21 {
		t.Errorf("after compaction: %+v", r)
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPruneStopsAtWhatIsNotSettled(t *testing.T) {
	now := time.Now()
	s := open(t, &Options{Now: func() time.Time { return now }})
	appendN(t, s, "a", 2)
	commit1(t, s, func(tx *Tx) error { _, err := tx.Claim("r", "k", nil, "pay_1"); return err })
	now = now.Add(time.Hour)
	if err := s.Ack(leaseOne(t, s)); err != nil {
		t.Fatal(err)
	}
	if err := s.Dead(t.Context(), leaseOne(t, s), "no"); err != nil {
		t.Fatal(err)
	}
	n, err := s.Prune(t.Context(), now.Add(-time.Minute), 0)
	if err != nil || n != 2 { // one message, one claim
		t.Errorf("pruned %d, %v", n, err)
	}
	if r := sound(t, s); r.Messages != 1 || r.First != 2 || r.Dead != 1 || r.Claims != 0 {
		t.Errorf("%+v", r)
	}
	commit1(t, s, func(tx *Tx) error { return tx.Discard("crm", 2) })
	if n, err := s.Prune(t.Context(), now.Add(-time.Minute), 0); err != nil || n != 1 {
		t.Errorf("pruned %d, %v", n, err)
	}
	sound(t, s)
}

// tamper changes the file of a closed store.
func tamper(t *testing.T, s *Store, fn func(b *bolt.Tx) error) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(s.path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
	n, err := Open(s.path, &s.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestVerifyNamesWhatWasChanged(t *testing.T) {
	key := be64(2)
	for name, c := range map[string]struct {
		bucket bucket
		fn     func(b *bolt.Tx) error
	}{
		"message replaced, checksum right": {bLog, func(b *bolt.Tx) error {
			v, _ := appendMessage(nil, &Message{Seq: 2, OrderKey: "k", Body: []byte("k9"), Time: time.Now()}, 1, [32]byte{})
			return b.Bucket(bucketNames[bLog]).Put(key, v)
		}},
		"one bit of a body": {bLog, func(b *bolt.Tx) error {
			v := bytes.Clone(b.Bucket(bucketNames[bLog]).Get(key))
			v[len(v)-40] ^= 1
			return b.Bucket(bucketNames[bLog]).Put(key, v)
		}},
		"message removed": {bLog, func(b *bolt.Tx) error { return b.Bucket(bucketNames[bLog]).Delete(key) }},
		"log cut": {bMeta, func(b *bolt.Tx) error {
			return errors.Join(b.Bucket(bucketNames[bLog]).Delete(be64(3)), b.Bucket(bucketNames[bTopic]).Delete(consumerSeq(1, 3)))
		}},
		"order entry removed": {bOrder, func(b *bolt.Tx) error { return b.Bucket(bucketNames[bOrder]).Delete(orderEntry(1, "k", 2)) }},
		"totals wrong": {bCount, func(b *bolt.Tx) error {
			return b.Bucket(bucketNames[bCount]).Put(totalsKey(1), totals{pending: 7}.encode())
		}},
		"index entry removed": {bIdx, func(b *bolt.Tx) error { return b.Bucket(bucketNames[bIdx]).Delete(indexEntry("status", "x", 1)) }},
		"record damaged": {bRec, func(b *bolt.Tx) error {
			return b.Bucket(bucketNames[bRec]).Put([]byte("pay_1"), []byte("rubbish"))
		}},
		"claim damaged": {bClaim, func(b *bolt.Tx) error {
			return b.Bucket(bucketNames[bClaim]).Put(claimKey("r", "k"), []byte("rubbish"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			appendN(t, s, "k", 3)
			commit1(t, s, func(tx *Tx) error {
				_, err := tx.Claim("r", "k", nil, "pay_1")
				if err != nil {
					return err
				}
				_, err = tx.Put(Record{ID: "pay_1", Index: map[string]string{"status": "x"}})
				return err
			})
			s = tamper(t, s, c.fn)
			r, err := s.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.Problems {
				if p.Bucket == string(bucketNames[c.bucket]) {
					return
				}
			}
			t.Errorf("not found, problems: %v", r.Problems)
		})
	}
}

func TestHotCopyIsAStoreOfItsOwn(t *testing.T) {
	s := open(t, nil)
	appendN(t, s, "k", 3)
	path := filepath.Join(t.TempDir(), "copy.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	o := s.o
	c, err := Open(path, &o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r := sound(t, c); r.Messages != 3 || c.ID() != s.ID() {
		t.Errorf("copy: %+v", r)
	}
}

func TestOpenRefusesWhatItCannotServe(t *testing.T) {
	s := open(t, nil)
	if _, err := Open(s.path, &Options{LockTimeout: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a store "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("rubbish: %v", err)
	}
	if b, _ := os.ReadFile(path); !bytes.HasPrefix(b, []byte("not a store ")) {
		t.Error("a file that does not open was changed")
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	s := open(t, nil)
	long := string(bytes.Repeat([]byte("k"), MaxKey+1))
	for name, fn := range map[string]func(tx *Tx) error{
		"no id":   func(tx *Tx) error { _, err := tx.Put(Record{}); return err },
		"long id": func(tx *Tx) error { _, err := tx.Put(Record{ID: long}); return err },
		"zero byte": func(tx *Tx) error {
			_, err := tx.Put(Record{ID: "a", Index: map[string]string{"n": "a\x00b"}})
			return err
		},
		"no topic":    func(tx *Tx) error { _, err := tx.Append("", "", nil); return err },
		"long order":  func(tx *Tx) error { _, err := tx.Append("t", long, nil); return err },
		"no key":      func(tx *Tx) error { _, err := tx.Claim("s", "", nil, "id"); return err },
		"long digest": func(tx *Tx) error { _, err := tx.Claim("s", "k", make([]byte, 65), "id"); return err },
		"overflow": func(tx *Tx) error {
			_, err := tx.Add("n", 1<<62)
			if err == nil {
				_, err = tx.Add("n", 1<<62)
			}
			return err
		},
	} {
		if err := s.Commit(t.Context(), fn); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := s.View(t.Context(), func(tx *Tx) error { _, err := tx.Append("t", "", nil); return err })
	if !errors.Is(err, ErrReadOnly) {
		t.Errorf("append in View: %v", err)
	}
	if r := sound(t, s); r.Records != 0 || r.Messages != 0 {
		t.Errorf("something was stored: %+v", r)
	}
}

func TestPanicOfOneFunctionReachesItsCallerOnly(t *testing.T) {
	s := open(t, nil)
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = s.Commit(context.Background(), func(tx *Tx) error {
			_, _ = tx.Put(Record{ID: "a"})
			panic("boom")
		})
	}()
	commit1(t, s, func(tx *Tx) error { _, err := tx.Put(Record{ID: "b"}); return err })
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("writes of the function that panicked: %v", err)
	}
}

func TestCommitAfterCloseAndWithACancelledContext(t *testing.T) {
	s := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ctx, func(*Tx) error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"commit": s.Commit(t.Context(), func(*Tx) error { return nil }), "compact": s.Compact(t.Context()), "close": s.Close(),
		"view": s.View(t.Context(), func(*Tx) error { return nil }),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

func TestCallThatWaitsForItsTurnCanBeWithdrawn(t *testing.T) {
	s := open(t, nil)
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Commit(context.Background(), func(*Tx) error { close(inside); <-release; return nil })
	})
	<-inside
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan error)
	wg.Go(func() { got <- s.Commit(ctx, func(*Tx) error { t.Error("ran"); return nil }) })
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	wg.Wait()
}

func TestOpenRemovesWhatACrashLeft(t *testing.T) {
	for name, fn := range map[string]func(path string) error{
		"copy half written":    func(p string) error { return os.WriteFile(p+".compact", []byte("half"), 0o600) },
		"creation interrupted": func(p string) error { return os.WriteFile(p+".new", []byte("half"), 0o600) },
	} {
		s := open(t, nil)
		appendN(t, s, "k", 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := fn(s.path); err != nil {
			t.Fatal(err)
		}
		n, err := Open(s.path, &s.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := sound(t, n); r.Messages != 1 {
			t.Errorf("%s: %+v", name, r)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		for _, end := range []string{".new", ".compact"} {
			if ok, _ := exists(s.path + end); ok {
				t.Errorf("%s: %s left behind", name, end)
			}
		}
	}
}
