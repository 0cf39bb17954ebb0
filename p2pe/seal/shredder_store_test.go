package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tillbridge/p2pe/seal"
	"tillbridge/queue"
)

// TestShreddedDataInFreePagesAndHotCopy: the store is copy on write, so what a
// record held lies on in its free pages and in copies of its file. The test
// shows that it does, and that none of it opens once the record is shredded.
func TestShreddedDataInFreePagesAndHotCopy(t *testing.T) {
	dir := t.TempDir()
	s, err := seal.OpenSealer(t.Context(), dir, &seal.SealerOptions{Kind: seal.KindFile})
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "records.slots")
	r, err := seal.OpenShredder(keys, s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "store.db")
	store, err := queue.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	put := func(id string, version uint64, body []byte) {
		t.Helper()
		err := store.Commit(t.Context(), func(tx *queue.Tx) error {
			_, err := tx.Put(queue.Record{ID: id, Version: version, Body: body})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	card := []byte("4111111111111111=29122010000000000000")
	const id = "pay_1"
	sealed, err := r.Seal(id, card) // the key is durable
	if err != nil {
		t.Fatal(err)
	}
	put(id, 0, sealed) // then the record
	hot, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put(id, 1, []byte("approved, token tok_1")) // the result
	for i := range 3 {
		put(fmt.Sprint("other_", i), 0, []byte("x"))
	}
	if err := r.Shred(id); err != nil { // then the key goes
		t.Fatal(err)
	}
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	slots, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(hot, sealed) {
		t.Fatal("the hot copy does not hold the sealed data: the test shows nothing")
	}
	if !bytes.Contains(now, sealed) {
		t.Log("the store has written over its free pages already")
	}
	for name, data := range map[string][]byte{"store": now, "hot copy": hot, "slots": slots} {
		if bytes.Contains(data, card[:16]) {
			t.Errorf("the %s holds the card number in clear", name)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// A machine that has everything of now, and the hot copy of before.
	if r, err = seal.OpenShredder(keys, s); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Unseal(id, sealed); !errors.Is(err, seal.ErrShredded) {
		t.Errorf("the copy's data open: %v", err)
	}
}
