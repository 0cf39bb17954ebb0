package seal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newShredder(t testing.TB) (path string, s Sealer, r *Shredder) {
	t.Helper()
	dir := t.TempDir()
	s, err := OpenSealer(t.Context(), dir, &SealerOptions{Kind: KindFile})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "records.slots")
	if r, err = OpenShredder(path, s); err != nil {
		t.Fatal(err)
	}
	return path, s, r
}

func reopen(t *testing.T, path string, s Sealer, r *Shredder) *Shredder {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenShredder(path, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestShreddedRecordsDoNotOpen(t *testing.T) {
	path, s, r := newShredder(t)
	sealed := map[string][]byte{}
	for i := range 20 {
		id := fmt.Sprintf("pay_%02d", i)
		var err error
		if sealed[id], err = r.Seal(id, []byte("card data of "+id)); err != nil {
			t.Fatal(err)
		}
	}
	r = reopen(t, path, s, r)
	if r.Len() != 20 {
		t.Fatalf("%d records after a restart", r.Len())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Shred("pay_07"); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What was in the slot is nowhere in the file.
	at := (headSlots + 7) * recordSlot
	if old := before[at : at+recordSlot]; !bytes.Contains(old, []byte("pay_07")) || bytes.Contains(after, old[2+longestID:2+longestID+60]) {
		t.Error("the key of a shredded record is still in the file")
	}
	for range 2 {
		for id, b := range sealed {
			out, err := r.Unseal(id, b)
			switch {
			case id == "pay_07" && !errors.Is(err, ErrShredded):
				t.Errorf("a shredded record opens: %v", err)
			case id != "pay_07" && (err != nil || string(out.Bytes()) != "card data of "+id):
				t.Errorf("%s: %v", id, err)
			}
		}
		r = reopen(t, path, s, r)
	}
	// The slot is used again, by a key that does not open the old bytes.
	if _, err := r.Seal("pay_07", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Unseal("pay_07", sealed["pay_07"]); !errors.Is(err, ErrUnseal) {
		t.Errorf("old bytes under a new key: %v", err)
	}
	if err := r.Shred("pay_99"); err != nil {
		t.Errorf("a record without a key: %v", err)
	}
	n, err := r.Sweep(func(id string) bool { return id == "pay_03" })
	if err != nil || n != 19 || r.Len() != 1 {
		t.Errorf("%d swept, %d left: %v", n, r.Len(), err)
	}
	if _, err := r.Unseal("pay_03", sealed["pay_03"]); err != nil {
		t.Errorf("a kept record: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRecordKeyIsDurableBeforeItsRecord looks at the calls in their order, and
// fails each: no sealed bytes come out, nothing is called shredded.
func TestRecordKeyIsDurableBeforeItsRecord(t *testing.T) {
	path, s, r := newShredder(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{File: f}
	if r, err = openShredder(w, s); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seal("a", []byte("x")); err != nil || w.calls != "write sync " {
		t.Errorf("%q, %v", w.calls, err)
	}
	w.calls = ""
	if err := r.Shred("a"); err != nil || w.calls != "write sync " {
		t.Errorf("%q, %v", w.calls, err)
	}
	for _, w.failing = range []string{"write", "sync"} {
		if b, err := r.Seal("b", []byte("x")); !errors.Is(err, ErrShredder) || b != nil {
			t.Errorf("sealed although the %s failed: %v", w.failing, err)
		}
	}
	w.failing = ""
	if _, err := r.Seal("b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, w.failing = range []string{"write", "sync"} {
		if err := r.Shred("b"); !errors.Is(err, ErrShredder) || r.Len() != 1 {
			t.Errorf("called shredded although the %s failed: %v", w.failing, err)
		}
	}
	w.failing = ""
	if err := r.Shred("b"); err != nil || r.Len() != 0 {
		t.Error(err)
	}
}

func TestShredderRefusals(t *testing.T) {
	path, s, r := newShredder(t)
	for _, id := range []string{"", strings.Repeat("x", longestID+1)} {
		if _, err := r.Seal(id, []byte("x")); !errors.Is(err, ErrShredder) {
			t.Errorf("id of %d bytes: %v", len(id), err)
		}
	}
	if _, err := OpenShredder(path, s); !errors.Is(err, ErrInUse) {
		t.Errorf("a second owner: %v", err)
	}
	if _, err := r.Seal(strings.Repeat("x", longestID), []byte("x")); err != nil {
		t.Error(err)
	}
	sealed, err := r.Seal("torn", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(data[:len(data)-60])
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = OpenShredder(path, s); err != nil || r.Len() != 1 {
		t.Fatalf("a torn slot: %v", err)
	}
	if _, err := r.Unseal("torn", sealed); !errors.Is(err, ErrShredded) {
		t.Errorf("a torn slot opens: %v", err)
	}
	if _, err := r.Seal("next", []byte("x")); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, path, s, r)
	if r.Len() != 2 {
		t.Errorf("%d records", r.Len())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, data[:100], make([]byte, len(data)), append([]byte("TBSH\x01\xff\xff"), data[7:]...)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenShredder(path, s); err == nil {
			t.Errorf("%d bytes open", len(bad))
		}
	}
}

func FuzzParseRecordSlot(f *testing.F) {
	f.Add([]byte{1, 3, 'p', 'a', 'y'})
	f.Add(make([]byte, recordSlot))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := make([]byte, recordSlot)
		copy(b, data)
		for _, b := range [][]byte{data, b} {
			if id, ok := parseRecordSlot(b); ok && (id == "" || len(id) > longestID) {
				t.Fatalf("an id of %d bytes", len(id))
			}
		}
	})
}

func BenchmarkShredder(b *testing.B) {
	_, _, r := newShredder(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seal("a", []byte("x")); err != nil {
			b.Fatal(err)
		}
		if err := r.Shred("a"); err != nil {
			b.Fatal(err)
		}
	}
}

// brittle is a file whose next sync fails once.
type brittle struct {
	journalFile
	fail bool
}

func (b *brittle) Sync() error {
	if b.fail {
		b.fail = false
		return errors.New("disk")
	}
	return b.journalFile.Sync()
}

// A key whose sync failed is not left on the disk beside the one that the
// second attempt makes: shredding would destroy one of the two.
func TestAKeyThatFailedIsNotLeft(t *testing.T) {
	path, s, r := newShredder(t)
	if _, err := r.Seal("pay_1", []byte("a")); err != nil {
		t.Fatal(err)
	}
	file := &brittle{r.file, true}
	r.file = file
	if _, err := r.Seal("pay_2", []byte("b")); !errors.Is(err, ErrShredder) {
		t.Fatalf("a failed sync: %v", err)
	}
	if err := r.Shred("pay_1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seal("pay_2", []byte("b")); err != nil {
		t.Fatal(err)
	}
	if err := r.Shred("pay_2"); err != nil {
		t.Fatal(err)
	}
	if r = reopen(t, path, s, r); r.Len() != 0 {
		t.Errorf("%d keys are left", r.Len())
	}
}
