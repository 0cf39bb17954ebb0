package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/dukpt"
)

// hostMark is a mark as an acquirer holds it: a file outside the machine's disk.
type hostMark struct{ path string }

func (hostMark) Name() string { return "mark at the acquirer" }

func (h hostMark) Begin(context.Context, string) (uint64, error) {
	if _, err := os.Stat(h.path); err == nil {
		return 0, ErrMark
	}
	return 1, h.set(1)
}

func (h hostMark) set(v uint64) error {
	return os.WriteFile(h.path, binary.BigEndian.AppendUint64(nil, v), 0o600)
}

func (h hostMark) Value(context.Context, string) (uint64, error) {
	b, err := os.ReadFile(h.path)
	if err != nil || len(b) != 8 {
		return 0, ErrMark
	}
	return binary.BigEndian.Uint64(b), nil
}

func (h hostMark) Raise(ctx context.Context, device string, to uint64) error {
	now, err := h.Value(ctx, device)
	if err != nil {
		return err
	}
	if now != to-1 {
		return ErrRolledBack
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.BigEndian.AppendUint64(nil, to), 0)
	return errors.Join(err, f.Close())
}

func (h hostMark) End(context.Context, string) error { return nil }

var _ Anchor = hostMark{}

const testSerial = "123456789012345600000000"

// newJournal makes a journal with a file sealer in a new directory.
func newJournal(t testing.TB, scheme p2pe.Scheme, serial p2pe.KSN) (path string, s Sealer, a hostMark) {
	t.Helper()
	dir := t.TempDir()
	s, err := OpenSealer(t.Context(), dir, &SealerOptions{Kind: KindFile})
	if err != nil {
		t.Fatal(err)
	}
	path, a = filepath.Join(dir, "key.slots"), hostMark{filepath.Join(t.TempDir(), "mark")}
	if err := CreateJournal(t.Context(), path, freshState(t, scheme, serial), s, a); err != nil {
		t.Fatal(err)
	}
	return path, s, a
}

func freshState(t testing.TB, scheme p2pe.Scheme, serial p2pe.KSN) *dukpt.State {
	t.Helper()
	b, err := bdk.New(scheme, bytes.Repeat([]byte{3, 9}, 8))
	if err != nil {
		t.Fatal(err)
	}
	ik, err := b.Initial(serial)
	if err != nil {
		t.Fatal(err)
	}
	st, err := dukpt.Load(ik, serial)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// issued fails the test when a serial number comes twice.
type issued map[p2pe.KSN]string

func (i issued) add(t testing.TB, ksn p2pe.KSN, where string) {
	t.Helper()
	if before, ok := i[ksn]; ok {
		t.Fatalf("key %s handed out twice: %s and %s", ksn, before, where)
	}
	i[ksn] = where
}

// take opens the journal, takes n keys and closes it.
func take(t testing.TB, path string, s Sealer, a Anchor, n int, seen issued, where string) {
	t.Helper()
	j, err := OpenJournal(t.Context(), path, s, a)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	defer j.Close()
	for range n {
		k, err := j.Next()
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		seen.add(t, k.KSN(), where)
		k.Erase()
	}
}

func TestJournalGivesTheKeysOfTheSequence(t *testing.T) {
	for _, c := range []struct {
		scheme p2pe.Scheme
		serial p2pe.KSN
	}{{p2pe.SchemeAESDUKPT, testSerial}, {p2pe.SchemeTDESDUKPT, "FFFF9876543210E00000"}} {
		path, s, a := newJournal(t, c.scheme, c.serial)
		plain := freshState(t, c.scheme, c.serial)
		j, err := OpenJournal(t.Context(), path, s, a)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			want, err := plain.Next()
			if err != nil {
				t.Fatal(err)
			}
			got, err := j.Next()
			if err != nil {
				t.Fatal(err)
			}
			if got.KSN() != want.KSN() {
				t.Fatalf("key %s, want %s", got.KSN(), want.KSN())
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Next(); !errors.Is(err, dukpt.ErrErased) {
			t.Errorf("a closed journal gives %v", err)
		}
	}
}

func TestJournalGoesOnBehindWhatWasReserved(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	seen := issued{}
	for i := range 20 {
		take(t, path, s, a, i%5, seen, fmt.Sprintf("start %d", i))
	}
}

// TestJournalIsSyncedBeforeAKeyIsOut looks at the calls in their order.
func TestJournalIsSyncedBeforeAKeyIsOut(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{File: f}
	j, err := openJournal(t.Context(), w, s, &watchedMark{hostMark: a, w: w})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range 3 * ReserveKeys {
		k, err := j.Next()
		if err != nil {
			t.Fatal(err)
		}
		if w.calls != "write sync raise " {
			t.Fatalf("before key %d: %q, want write, sync, raise", i, w.calls)
		}
		disk, err := ReadJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		next, _ := disk.KSN.Counter()
		if c, _ := k.KSN().Counter(); c >= next {
			t.Fatalf("key of counter %d is out and the disk says %d is next", c, next)
		}
		if i%ReserveKeys == ReserveKeys-1 {
			w.calls = ""
		}
	}
}

type watched struct {
	*os.File
	calls   string
	failing string // call that fails
}

func (w *watched) WriteAt(b []byte, off int64) (int, error) {
	w.calls += "write "
	if w.failing == "write" {
		return 0, errors.New("planned: no space")
	}
	return w.File.WriteAt(b, off)
}

func (w *watched) Sync() error {
	w.calls += "sync "
	if w.failing == "sync" {
		return errors.New("planned: input/output error")
	}
	return w.File.Sync()
}

type watchedMark struct {
	hostMark
	w *watched
}

func (m *watchedMark) Raise(ctx context.Context, device string, to uint64) error {
	m.w.calls += "raise "
	if m.w.failing == "raise" {
		return errors.New("planned: chip does not answer")
	}
	return m.hostMark.Raise(ctx, device, to)
}

// TestJournalGivesNothingAfterAFault: each call fails once; no key is out, and
// the next opening goes on without using one twice.
func TestJournalGivesNothingAfterAFault(t *testing.T) {
	for _, call := range []string{"write", "sync", "raise"} {
		t.Run(call, func(t *testing.T) {
			path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := &watched{File: f}
			j, err := openJournal(t.Context(), w, s, &watchedMark{hostMark: a, w: w})
			if err != nil {
				t.Fatal(err)
			}
			seen := issued{}
			for range ReserveKeys {
				k, err := j.Next()
				if err != nil {
					t.Fatal(err)
				}
				seen.add(t, k.KSN(), "before")
			}
			w.failing = call
			for range 3 {
				if k, err := j.Next(); !errors.Is(err, ErrReopen) || k != nil {
					t.Fatalf("a key or another error after a failed %s: %v", call, err)
				}
			}
			w.failing = ""
			if k, err := j.Next(); !errors.Is(err, ErrReopen) || k != nil {
				t.Fatalf("the journal goes on by itself: %v", err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			take(t, path, s, a, 40, seen, "after")
		})
	}
}

// TestJournalSurvivesADamagedSlot flips a bit of either slot, or tears it, at
// every count of blocks: the journal goes on and gives no key twice.
func TestJournalSurvivesADamagedSlot(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for _, take1 := range []int{0, 1, 16, 17, 33, 48} {
		for at := range 2 {
			for kind := range 3 {
				path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
				seen := issued{}
				take(t, path, s, a, take1, seen, "before")
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				part := data[at*slotSize : (at+1)*slotSize]
				switch kind {
				case 0:
					part[rng.IntN(len(part))] ^= 1 << rng.IntN(8)
				case 1:
					copy(part[512*(1+rng.IntN(6)):], make([]byte, slotSize))
				case 2:
					clear(part)
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				where := fmt.Sprintf("%d keys, slot %d, damage %d", take1, at, kind)
				take(t, path, s, a, 35, seen, where)
				take(t, path, s, a, 3, seen, where+", again")
			}
		}
	}
}

func TestJournalRefusesTwoDamagedSlots(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	for _, data := range [][]byte{nil, make([]byte, slotSize), make([]byte, 2*slotSize), bytes.Repeat([]byte("TBKJ"), 2*slotSize/4)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrJournal) {
			t.Errorf("%d bytes: %v", len(data), err)
		}
	}
}

// TestJournalRefusesAnOldCopy restores every earlier state of the file, and the
// state before the last restart.
func TestJournalRefusesAnOldCopy(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	seen := issued{}
	var copies [][]byte
	for i := range 6 {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, data)
		take(t, path, s, a, 20, seen, fmt.Sprint("round ", i))
	}
	for i, old := range copies {
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrRolledBack) {
			t.Errorf("copy %d opens: %v", i, err)
		}
	}
}

// TestJournalOfAClonedDisk: two machines with one journal; the second to take
// a block is refused, with no key out.
func TestJournalOfAClonedDisk(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(filepath.Dir(path), "clone.slots")
	if err := os.WriteFile(clone, data, 0o600); err != nil {
		t.Fatal(err)
	}
	one, err := OpenJournal(t.Context(), path, s, a)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	two, err := OpenJournal(t.Context(), clone, s, a)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if _, err := one.Next(); err != nil {
		t.Fatal(err)
	}
	if k, err := two.Next(); !errors.Is(err, ErrRolledBack) || k != nil {
		t.Errorf("the clone gets a key: %v", err)
	}
}

func TestJournalNeedsAnAnchor(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	if _, err := OpenJournal(t.Context(), path, s, nil); !errors.Is(err, ErrNoAnchor) {
		t.Errorf("opens without an anchor: %v", err)
	}
	st := freshState(t, p2pe.SchemeAESDUKPT, testSerial)
	if err := CreateJournal(t.Context(), path+"2", st, s, nil); !errors.Is(err, ErrNoAnchor) {
		t.Errorf("made without an anchor: %v", err)
	}
	if _, err := st.Next(); !errors.Is(err, dukpt.ErrErased) {
		t.Error("the refused state still gives keys")
	}
	// A mark that is gone (chip cleared) or behind (another chip).
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrMark) {
		t.Errorf("opens without a mark: %v", err)
	}
	take20 := func() {
		_ = a.set(1)
		take(t, path, s, a, 40, issued{}, "x")
	}
	take20()
	_ = a.set(1)
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrMark) {
		t.Errorf("opens with a mark that is far behind: %v", err)
	}
}

func TestJournalIsNeverWrittenOver(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	err := CreateJournal(t.Context(), path, freshState(t, p2pe.SchemeAESDUKPT, testSerial), s, a)
	if !errors.Is(err, ErrExists) {
		t.Errorf("written over: %v", err)
	}
	err = CreateJournal(t.Context(), path+"2", freshState(t, p2pe.SchemeAESDUKPT, testSerial), s, a)
	if !errors.Is(err, ErrMark) {
		t.Errorf("the same key is loaded again beside it: %v", err)
	}
}

func TestJournalHasOneOwner(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	j, err := OpenJournal(t.Context(), path, s, a)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrInUse) {
		t.Errorf("a second owner: %v", err)
	}
	if _, err := ZeroizeJournal(path); !errors.Is(err, ErrInUse) {
		t.Errorf("zeroized under its owner: %v", err)
	}
}

func TestZeroizedJournalStaysShut(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	take(t, path, s, a, 3, issued{}, "before")
	before, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		last, err := ZeroizeJournal(path)
		if err != nil || last != before.KSN {
			t.Fatalf("last key %s, want %s: %v", last, before.KSN, err)
		}
	}
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrZeroised) {
		t.Errorf("opens: %v", err)
	}
	info, err := ReadJournal(path)
	if err != nil || !info.Zeroised || info.KSN != before.KSN {
		t.Errorf("says %+v, %v", info, err)
	}
	// One slot put back from a copy does not bring it to life.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[:slotSize])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrZeroised) {
		t.Errorf("opens with one tombstone: %v", err)
	}
}

// TestJournalRunsOut ends a TDES key set: its last key is counter 1FF800, for
// which one register is left.
func TestJournalRunsOut(t *testing.T) {
	data := append([]byte("TBDK"), 1, 1, 16, 0)
	data = append(data, p2pe.KSN("FFFF9876543210E00000").Bytes()...)
	data = append(data, 0, 0)
	data = binary.BigEndian.AppendUint32(data, 0x1FF800)
	data = binary.BigEndian.AppendUint32(data, 1<<11)
	data = append(data, bytes.Repeat([]byte{7, 9}, 8)...)
	st, err := dukpt.Restore(data)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := OpenSealer(t.Context(), dir, &SealerOptions{Kind: KindFile})
	if err != nil {
		t.Fatal(err)
	}
	path, a := filepath.Join(dir, "k"), hostMark{filepath.Join(t.TempDir(), "mark")}
	if err := CreateJournal(t.Context(), path, st, s, a); err != nil {
		t.Fatal(err)
	}
	info, err := ReadJournal(path)
	if err != nil || info.Remaining != 1 || info.Total != 1048575 {
		t.Fatalf("%+v %v", info, err)
	}
	take(t, path, s, a, 1, issued{}, "the last")
	j, err := OpenJournal(t.Context(), path, s, a)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := j.Next(); !errors.Is(err, dukpt.ErrExhausted) {
		t.Errorf("after the last key: %v", err)
	}
	if info, err = ReadJournal(path); err != nil || info.Remaining != 0 {
		t.Errorf("%+v %v", info, err)
	}
}

// TestJournalHoldsNoKeyInClear: the exported state, and each of its keys, is
// nowhere in the file.
func TestJournalHoldsNoKeyInClear(t *testing.T) {
	path, s, a := newJournal(t, p2pe.SchemeAESDUKPT, testSerial)
	take(t, path, s, a, 20, issued{}, "x")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st := freshState(t, p2pe.SchemeAESDUKPT, testSerial)
	if err := st.Skip(ReserveKeys); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		clearState, err := st.AppendState(nil)
		if err != nil {
			t.Fatal(err)
		}
		for at := 28; at+16 <= len(clearState); at += 16 {
			if bytes.Contains(data, clearState[at:at+16]) {
				t.Fatalf("a key of the state lies in the file in clear")
			}
		}
		if err := st.Skip(ReserveKeys); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParseSlot(f *testing.F) {
	path, s, a := newJournal(f, p2pe.SchemeAESDUKPT, testSerial)
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:slotSize-4])
	if _, err := ZeroizeJournal(path); err != nil {
		f.Fatal(err)
	}
	data, _ = os.ReadFile(path)
	f.Add(data[:slotSize-4])
	f.Add([]byte{})
	_ = a
	f.Fuzz(func(t *testing.T, body []byte) {
		// The sum is put right: what lies behind it must stand any bytes.
		b := make([]byte, slotSize)
		copy(b[:slotSize-4], body)
		binary.BigEndian.PutUint32(b[slotSize-4:], crc32.Checksum(b[:slotSize-4], castagnoli))
		p, err := parseSlot(b)
		if err != nil {
			if !errors.Is(err, ErrJournal) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if p.tomb {
			return
		}
		if len(p.key) == 0 || len(p.state) == 0 || len(p.ksn) == 0 {
			t.Fatal("a live slot without its parts")
		}
		if st, err := p.open(s, p.ksn.Device()); err == nil && st.KSN() != p.ksn {
			t.Fatal("a slot opens under another serial number")
		}
	})
}

// memFile counts syncs without a disk.
type memFile struct {
	b     [2 * slotSize]byte
	syncs int
}

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b[:]).ReadAt(p, off)
}
func (m *memFile) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }
func (m *memFile) Sync() error                              { m.syncs++; return nil }
func (m *memFile) Close() error                             { return nil }

var _ io.WriterAt = (*memFile)(nil)

func BenchmarkJournal(b *testing.B) {
	for _, disk := range []string{"memory", "disk"} {
		b.Run(disk, func(b *testing.B) {
			path, s, a := newJournal(b, p2pe.SchemeAESDUKPT, testSerial)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				b.Fatal(err)
			}
			var jf journalFile = f
			m := &memFile{}
			w := &watched{File: f}
			if disk == "memory" {
				data, _ := os.ReadFile(path)
				copy(m.b[:], data)
				jf = m
			} else {
				jf = w
			}
			j, err := openJournal(b.Context(), jf, s, a)
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				k, err := j.Next()
				if err != nil {
					b.Fatal(err)
				}
				k.Erase()
				n++
			}
			if disk == "memory" {
				b.ReportMetric(float64(m.syncs)/float64(n), "syncs/key")
			}
		})
	}
}
