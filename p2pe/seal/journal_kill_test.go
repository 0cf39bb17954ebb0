package seal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/seal"
	"tillbridge/queue/queuetest"
)

// The child of the kill tests opens the journal of a directory, takes keys and
// says each on descriptor 3.
const childEnv = "TILLBRIDGE_JOURNAL_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	ctx := context.Background()
	s, err := seal.OpenSealer(ctx, filepath.Join(dir, "..", "root"), &seal.SealerOptions{Kind: seal.KindFile})
	if err != nil {
		return err
	}
	j, err := seal.OpenJournal(ctx, filepath.Join(dir, "slots"), s, mark{filepath.Join(dir, "..", "mark")})
	if err != nil {
		return err
	}
	out := os.NewFile(3, "marks")
	n, _ := strconv.Atoi(os.Getenv("TILLBRIDGE_JOURNAL_KEYS"))
	for range n {
		k, err := j.Next()
		if err != nil {
			return err
		}
		if _, err := out.WriteString(string(k.KSN())); err != nil {
			return err
		}
	}
	return j.Close()
}

// mark is what the acquirer holds: it survives whatever happens to this machine.
type mark struct{ path string }

func (mark) Name() string { return "mark at the acquirer" }

func (m mark) Begin(context.Context, string) (uint64, error) {
	return 1, os.WriteFile(m.path, binary.BigEndian.AppendUint64(nil, 1), 0o600)
}

func (m mark) Value(context.Context, string) (uint64, error) {
	b, err := os.ReadFile(m.path)
	if err != nil || len(b) != 8 {
		return 0, seal.ErrMark
	}
	return binary.BigEndian.Uint64(b), nil
}

func (m mark) Raise(ctx context.Context, device string, to uint64) error {
	now, err := m.Value(ctx, device)
	if err != nil {
		return err
	}
	if now != to-1 {
		return seal.ErrRolledBack
	}
	f, err := os.OpenFile(m.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.BigEndian.AppendUint64(nil, to), 0)
	return errors.Join(err, f.Close())
}

func (mark) End(context.Context, string) error { return nil }

// shop is a machine (journal, root) beside the world (mark).
func shop(t *testing.T) (base string) {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"root", "journal"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := seal.OpenSealer(t.Context(), filepath.Join(base, "root"), &seal.SealerOptions{Kind: seal.KindFile})
	if err != nil {
		t.Fatal(err)
	}
	const serial p2pe.KSN = "123456789012345600000000"
	b, err := bdk.New(p2pe.SchemeAESDUKPT, bytes.Repeat([]byte{3, 9}, 8))
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
	if err := seal.CreateJournal(t.Context(), filepath.Join(base, "journal", "slots"), st, s, mark{filepath.Join(base, "mark")}); err != nil {
		t.Fatal(err)
	}
	return base
}

func watch(base string, keys int, f queuetest.Fault) ([]queuetest.Event, int, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	dir := filepath.Join(base, "journal")
	return queuetest.Trace(dir, []string{self}, append(os.Environ(), childEnv+"="+dir, "TILLBRIDGE_JOURNAL_KEYS="+strconv.Itoa(keys)), f)
}

func runs(small, large int) int {
	if os.Getenv("TILLBRIDGE_LARGE") != "" {
		return large
	}
	return small
}

// TestJournalKilledAtEachCall kills the process at the Nth call that changes
// the journal, N = 1, 2, …, over and over on one journal. No key is handed out
// twice over all lives, and the journal always opens.
func TestJournalKilledAtEachCall(t *testing.T) {
	base := shop(t)
	seen := map[string]int{}
	kills := runs(60, 1000)
	const keys = 3 * seal.ReserveKeys
	const calls = 6 // three blocks: a write and a sync each
	killed := 0
	for i := range kills {
		n := i%(calls+1) + 1
		events, counted, err := watch(base, keys, queuetest.Fault{N: n, Kill: true})
		if errors.Is(err, queuetest.ErrUnsupported) {
			t.Skipf("skipped: %v", err)
		}
		if err != nil {
			t.Fatalf("life %d, killed at call %d: %v", i, n, err)
		}
		if counted >= n {
			killed++
		}
		for _, e := range events {
			if e.Kind != queuetest.Mark {
				continue
			}
			if before, ok := seen[e.Name]; ok {
				t.Fatalf("key %s handed out in lives %d and %d", e.Name, before, i)
			}
			seen[e.Name] = i
		}
	}
	if killed < kills/2 {
		t.Fatalf("only %d of %d lives were killed: the sweep misses the calls", killed, kills)
	}
	t.Logf("journal: %d lives, %d killed, %d keys, none twice", kills, killed, len(seen))
}

// TestJournalPowerCut cuts the power behind every event of a life and keeps
// none, a prefix, some, or single sectors of what was not synced. The journal
// opens, and gives no key that was out before the cut.
func TestJournalPowerCut(t *testing.T) {
	base := shop(t)
	root := filepath.Join(base, "root")
	before, err := queuetest.Load(filepath.Join(base, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	world, err := os.ReadFile(filepath.Join(base, "mark"))
	if err != nil {
		t.Fatal(err)
	}
	events, _, err := watch(base, 4*seal.ReserveKeys, queuetest.Fault{})
	if errors.Is(err, queuetest.ErrUnsupported) {
		t.Skipf("skipped: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.OpenSealer(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	cuts, dropped := 0, 0
	for seed := range uint64(runs(2, 100)) {
		for mode := range queuetest.Modes {
			for at := range len(events) + 1 {
				disk := queuetest.NewDisk(before, seed)
				out := map[string]bool{}
				value := binary.BigEndian.Uint64(world)
				for _, e := range events[:at] {
					disk.Do(e)
					switch {
					case e.Kind == queuetest.Mark && e.Name != "":
						out[e.Name] = true
					case e.Kind == queuetest.Sync:
						value++ // the mark follows each sync; the cut may fall between
					}
				}
				// The world's mark moves right after the sync, or has not moved yet.
				if at > 0 && events[at-1].Kind == queuetest.Sync && seed%2 == 0 {
					value--
				}
				files, n := disk.Cut(mode, seed)
				dropped += n
				cuts++
				after := t.TempDir()
				if err := queuetest.Save(after, files); err != nil {
					t.Fatal(err)
				}
				m := mark{filepath.Join(after, "mark")}
				if err := os.WriteFile(m.path, binary.BigEndian.AppendUint64(nil, value), 0o600); err != nil {
					t.Fatal(err)
				}
				j, err := seal.OpenJournal(t.Context(), filepath.Join(after, "slots"), s, m)
				if err != nil {
					t.Fatalf("cut behind event %d, mode %d, seed %d: %v", at, mode, seed, err)
				}
				for range seal.ReserveKeys + 1 {
					k, err := j.Next()
					if err != nil {
						t.Fatalf("cut behind event %d, mode %d, seed %d: %v", at, mode, seed, err)
					}
					if out[string(k.KSN())] {
						t.Fatalf("cut behind event %d, mode %d, seed %d: key %s is handed out again", at, mode, seed, k.KSN())
					}
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if dropped == 0 {
		t.Fatal("no cut lost anything: the test sees nothing")
	}
	t.Logf("journal: %d cuts, %d unsynced pieces dropped, no key twice", cuts, dropped)
}
