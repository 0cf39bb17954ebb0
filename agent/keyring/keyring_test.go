package keyring

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/keyblock"
	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
)

// acquirer holds the marks of devices.
type acquirer struct {
	mu    sync.Mutex
	marks map[string]uint64
}

func (*acquirer) Name() string { return "mark at the acquirer" }

func (a *acquirer) Begin(_ context.Context, device string) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.marks[device] != 0 {
		return 0, seal.ErrMark
	}
	a.marks[device] = 1
	return 1, nil
}

func (a *acquirer) Value(_ context.Context, device string) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.marks[device] == 0 {
		return 0, seal.ErrMark
	}
	return a.marks[device], nil
}

func (a *acquirer) Raise(_ context.Context, device string, to uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.marks[device] != to-1 {
		return seal.ErrRolledBack
	}
	a.marks[device] = to
	return nil
}

func (a *acquirer) End(context.Context, string) error { return nil }

var (
	protectionHex = "9D4F2A7C1B6E8F3051A2C3D4E5F60718"
	baseHex       = "5C1E9B7D3A2F48606D81B4C2E7F9035A"
	people        = []string{"Anna", "Ben"}
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// initialBlock is the key block in which an acquirer sends an initial key, and
// the key.
func initialBlock(t testing.TB, device string) (block string, ik []byte) {
	t.Helper()
	b, err := bdk.New(p2pe.SchemeAESDUKPT, unhex(t, baseHex))
	if err != nil {
		t.Fatal(err)
	}
	if ik, err = b.Initial(p2pe.KSN(device + "00000000")); err != nil {
		t.Fatal(err)
	}
	return blockOf(t, ik, 'A', device, 'N'), ik
}

func blockOf(t testing.TB, key []byte, algorithm byte, id string, exportable byte) string {
	t.Helper()
	name := "IK"
	if algorithm == 'T' {
		name = "KS"
	}
	block, err := keyblock.Seal(keyblock.Header{Version: 'D', Usage: "B1", Algorithm: algorithm, Mode: 'X', KeyVersion: "00", Exportability: exportable,
		Blocks: []keyblock.OptionalBlock{{ID: name, Data: id}}}, key, unhex(t, protectionHex), bytes.NewReader(bytes.Repeat([]byte{0x5a, 0xc3, 0x11}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func protection(t testing.TB) *secret.Buffer {
	t.Helper()
	b, err := secret.Take(unhex(t, protectionHex))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const device = "1234567890123456"

func newKeyring(t testing.TB, dir string, a seal.Anchor) *Keyring {
	t.Helper()
	k, err := Open(t.Context(), dir, &Options{Sealer: seal.KindFile, Anchor: a, Now: func() time.Time { return time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func TestImportUseZeroize(t *testing.T) {
	dir, host := t.TempDir(), &acquirer{marks: map[string]uint64{}}
	k := newKeyring(t, dir, host)
	if _, err := k.Source(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("a source without a key: %v", err)
	}
	block, _ := initialBlock(t, device)
	e, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people})
	if err != nil {
		t.Fatal(err)
	}
	if e.Device != device || e.KeySet != "12345678" || e.Action != ActionLoaded || e.Number != 2 || e.KCV == nil || e.ProtectionKCV == nil {
		t.Errorf("entry %+v", e)
	}
	src, err := k.Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tr, err := src.Next()
	if err != nil || tr.KSN() != "123456789012345600000001" {
		t.Fatalf("first key %v: %v", tr, err)
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}

	st := k.Status()
	if len(st.Sets) != 1 || st.Sets[0].Level != LevelOK || st.Sets[0].Left+16 != st.Sets[0].Total || !st.Live || st.Insecure == "" || st.Sealer != "file" || st.Anchor == "" {
		t.Errorf("status %+v", st)
	}
	other, _ := initialBlock(t, "1234567890123457")
	if _, err := k.Import(t.Context(), Import{Block: other, Protection: protection(t), By: people}); !errors.Is(err, ErrActive) {
		t.Errorf("a second key beside the first: %v", err)
	}

	if _, err := k.Zeroize(t.Context(), []string{"Anna", " anna "}); !errors.Is(err, ErrTwoPeople) {
		t.Errorf("one person destroys: %v", err)
	}
	if n, err := k.Zeroize(t.Context(), people); n != 1 || err != nil {
		t.Fatalf("%d destroyed: %v", n, err)
	}
	if n, err := k.Zeroize(t.Context(), people); n != 0 || err != nil {
		t.Fatalf("again: %d: %v", n, err)
	}
	for _, k := range []*Keyring{k, newKeyring(t, dir, host)} {
		if _, err := k.Source(t.Context()); !errors.Is(err, seal.ErrZeroised) {
			t.Errorf("a source after it: %v", err)
		}
		if st := k.Status(); st.Live || st.Sets[0].Level != LevelZeroized {
			t.Errorf("status %+v", st)
		}
		if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); !errors.Is(err, ErrUsed) {
			t.Errorf("the destroyed key is loaded again: %v", err)
		}
	}
	if _, err := k.Import(t.Context(), Import{Block: other, Protection: protection(t), By: people}); err != nil {
		t.Errorf("a new key after it: %v", err)
	}
}

// TestRestoredJournalOfDestroyedKeys puts the directory back as it was before
// the destruction, except for the registry, and then with it.
func TestRestoredJournalOfDestroyedKeys(t *testing.T) {
	dir, host := t.TempDir(), &acquirer{marks: map[string]uint64{}}
	k := newKeyring(t, dir, host)
	block, _ := initialBlock(t, device)
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(k.journal(device))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Zeroize(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.journal(device), old, 0o600); err != nil {
		t.Fatal(err)
	}
	k = newKeyring(t, dir, host)
	if _, err := k.Source(t.Context()); !errors.Is(err, seal.ErrZeroised) {
		t.Errorf("the registry is not believed: %v", err)
	}
}

// TestCutDestructionIsEndedAtTheStart: only the first line was written.
func TestCutDestructionIsEndedAtTheStart(t *testing.T) {
	dir, host := t.TempDir(), &acquirer{marks: map[string]uint64{}}
	k := newKeyring(t, dir, host)
	block, _ := initialBlock(t, device)
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); err != nil {
		t.Fatal(err)
	}
	if err := k.record(Entry{Action: ActionZeroizing, Scheme: p2pe.SchemeAESDUKPT, Device: device, KSN: device + "00000000", By: people}); err != nil {
		t.Fatal(err)
	}
	k.Close()
	k = newKeyring(t, dir, host)
	list := k.Registry()
	if last := list[len(list)-1]; last.Action != ActionZeroized {
		t.Errorf("the last entry is %s", last.Action)
	}
	if info, err := seal.ReadJournal(k.journal(device)); err != nil || !info.Zeroised {
		t.Errorf("the journal lives: %v", err)
	}
	if _, _, ok := seal.SealerOf(dir); ok {
		t.Error("the root key is left")
	}
}

func TestImportRefusals(t *testing.T) {
	good, ik := initialBlock(t, device)
	published := blockOf(t, unhex(t, "1273671EA26AC29AFA4D1084127652A1"), 'A', device, 'N')
	equal := blockOf(t, unhex(t, "5C1F9B7C3A2F496D5C1F9B7C3A2F496D"), 'T', "FFFF9876543210E00000", 'N')
	used := blockOf(t, ik, 'A', device+"00000007", 'N')
	exportable := blockOf(t, ik, 'A', device, 'E')
	flipped := strings.Replace(good, "B1", "P0", 1)
	other, err := secret.Take(unhex(t, "0D4F2A7C1B6E8F3051A2C3D4E5F60718"))
	if err != nil {
		t.Fatal(err)
	}
	test, err := secret.Take(unhex(t, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in   Import
		want error
	}{
		"one person":               {Import{Block: good, By: []string{"Anna"}}, ErrTwoPeople},
		"one person twice":         {Import{Block: good, By: []string{"Anna", "ANNA"}}, ErrTwoPeople},
		"a key as a name":          {Import{Block: good, By: []string{"Anna", protectionHex}}, ErrHolder},
		"published key":            {Import{Block: published, By: people}, ErrPublished},
		"published protection key": {Import{Block: good, Protection: test, By: people}, ErrPublished},
		"equal halves":             {Import{Block: equal, By: people}, ErrWeak},
		"used key":                 {Import{Block: used, By: people}, nil},
		"exportable":               {Import{Block: exportable, By: people}, keyblock.ErrExportable},
		"changed header":           {Import{Block: flipped, By: people}, keyblock.ErrMAC},
		"another protection key":   {Import{Block: good, Protection: other, By: people}, keyblock.ErrMAC},
		"wrong check value":        {Import{Block: good, KCV: "0123456789", By: people}, ErrCheckValue},
		"cut":                      {Import{Block: good[:60], By: people}, keyblock.ErrFormat},
		"empty":                    {Import{By: people}, keyblock.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeyring(t, t.TempDir(), &acquirer{marks: map[string]uint64{}})
			if c.in.Protection == nil {
				c.in.Protection = protection(t)
			}
			_, err := k.Import(t.Context(), c.in)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if coded := interface{ Code() string }(nil); !errors.As(err, &coded) {
				t.Errorf("no code: %v", err)
			}
			if c.in.Protection.Len() != 0 {
				t.Error("the protection key is left")
			}
			if k.Status().Live {
				t.Error("a key is live")
			}
		})
	}
}

func TestNoAnchorNoKey(t *testing.T) {
	k := newKeyring(t, t.TempDir(), nil)
	block, _ := initialBlock(t, device)
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); !errors.Is(err, seal.ErrNoAnchor) {
		t.Errorf("loaded without an anchor: %v", err)
	}
	if st := k.Status(); st.Refused == "" || !strings.Contains(st.Refused, "JWE") {
		t.Errorf("the status does not offer JWE: %q", st.Refused)
	}
}

func TestSelfTestFailsClosed(t *testing.T) {
	bad := errors.New("planned")
	if k, err := open(t.Context(), t.TempDir(), nil, func() error { return bad }); !errors.Is(err, bad) || k != nil {
		t.Errorf("it opens: %v", err)
	}
	if err := SelfTest(); err != nil {
		t.Error(err)
	}
}

func TestExhaustionWarnings(t *testing.T) {
	for _, c := range []struct {
		left, total uint64
		want        string
	}{
		{100, 100, LevelOK}, {21, 100, LevelOK}, {20, 100, LevelWarning}, {6, 100, LevelWarning}, {5, 100, LevelCritical}, {1, 100, LevelCritical}, {0, 100, LevelExhausted},
		{1048575, 1048575, LevelOK}, {209715, 1048575, LevelWarning}, {209716, 1048575, LevelOK}, {2448023842, 2448023842, LevelOK},
	} {
		if got, _ := level(c.left, c.total); got != c.want {
			t.Errorf("%d of %d left: %s, want %s", c.left, c.total, got, c.want)
		}
	}
}

func TestRegistryNoticesChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.log")
	for i := range 4 {
		_, err := appendRegistry(path, Entry{Action: ActionLoaded, Scheme: p2pe.SchemeAESDUKPT, Device: fmt.Sprintf("12345678901234%02d", i), By: people})
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for name, changed := range map[string][]byte{
		"a line gone":      bytes.Join([][]byte{lines[0], lines[2], lines[3]}, nil),
		"the first gone":   bytes.Join(lines[1:], nil),
		"lines exchanged":  bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[3]}, nil),
		"a word changed":   bytes.Replace(data, []byte("Anna"), []byte("Eve!"), 1),
		"a line twice":     append(bytes.Clone(data), lines[3]...),
		"something behind": append(bytes.Clone(data), "{}\n"...),
		"unknown field":    append(bytes.Clone(data), `{"key":"00"}`+"\n"...),
	} {
		if _, _, _, err := parseRegistry(changed); !errors.Is(err, ErrRegistry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A line that was cut off while it was written never counted.
	torn := append(bytes.Clone(data), lines[0][:30]...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := appendRegistry(path, Entry{Action: ActionZeroized, Scheme: p2pe.SchemeAESDUKPT, Device: device, By: people}); err != nil || e.Number != 5 {
		t.Errorf("after a torn line: %d, %v", e.Number, err)
	}
	if list, err := readRegistry(path); err != nil || len(list) != 5 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

func FuzzParseRegistry(f *testing.F) {
	path := filepath.Join(f.TempDir(), "registry.log")
	for range 3 {
		if _, err := appendRegistry(path, Entry{Action: ActionLoaded, Scheme: p2pe.SchemeAESDUKPT, Device: device, By: people, KCV: &CheckValues{CMAC: "0011223344"}}); err != nil {
			f.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-5])
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, whole, last, err := parseRegistry(data)
		if err != nil {
			if !errors.Is(err, ErrRegistry) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if whole > len(data) || bytes.IndexByte(data[whole:], '\n') >= 0 || (len(entries) == 0) != (last == "") {
			t.Fatalf("%d of %d bytes, %d entries", whole, len(data), len(entries))
		}
		for _, e := range entries {
			if _, err := json.Marshal(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(b.Context(), dir, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// Without an anchor nothing is loaded, and no root key is left that would tie
// the directory to the sealer of that day.
func TestARefusedImportLeavesNoRootKey(t *testing.T) {
	dir := t.TempDir()
	k := newKeyring(t, dir, nil)
	block, _ := initialBlock(t, device)
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); !errors.Is(err, seal.ErrNoAnchor) {
		t.Fatalf("import without an anchor: %v", err)
	}
	if kind, _, found := seal.SealerOf(dir); found {
		t.Errorf("a root key of kind %s is left", kind)
	}
}

// A key is protected by one at least as strong (X9.24-1, PCI PIN 18-2).
func TestAWeakerProtectionKeyIsRefused(t *testing.T) {
	k := newKeyring(t, t.TempDir(), &acquirer{marks: map[string]uint64{}})
	key := unhex(t, "8F1D3C5A7E9B20416D82F4C6A0E3517B9C4D1E6F2A3B8C7D5E0F9A1B4C6D8E73")
	block := blockOf(t, key, 'A', device, 'N')
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); !errors.Is(err, ErrWeak) {
		t.Errorf("an AES-256 key under an AES-128 key: %v", err)
	}
}

// An import that was cut off before its journal had its name leaves the whole
// key set in a file of another name: zeroize destroys that as well.
func TestZeroizeDestroysAJournalThatWasNeverFinished(t *testing.T) {
	dir := t.TempDir()
	k := newKeyring(t, dir, &acquirer{marks: map[string]uint64{}})
	block, _ := initialBlock(t, device)
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); err != nil {
		t.Fatal(err)
	}
	left := k.journal("6543210987654321") + ".new"
	data, err := os.ReadFile(k.journal(device))
	if err == nil {
		err = os.WriteFile(left, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Zeroize(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// Keys that an agent works with are not destroyed under it, and nothing is
// begun: the registry and the next start are as before.
func TestZeroizeWaitsForTheAgent(t *testing.T) {
	dir, a := t.TempDir(), &acquirer{marks: map[string]uint64{}}
	k := newKeyring(t, dir, a)
	block, _ := initialBlock(t, device)
	if err := k.MayImport(t.Context(), block); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Import(t.Context(), Import{Block: block, Protection: protection(t), By: people}); err != nil {
		t.Fatal(err)
	}
	if err := k.MayImport(t.Context(), block); !errors.Is(err, ErrActive) {
		t.Errorf("a second import may go on: %v", err)
	}
	if s, ok := k.Live(); !ok || s.Device != device || s.Scheme != p2pe.SchemeAESDUKPT {
		t.Errorf("live: %v %v", s, ok)
	}
	j, err := k.Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := len(k.Registry())
	if n, err := k.Zeroize(t.Context(), people); n != 0 || !errors.Is(err, seal.ErrInUse) || len(k.Registry()) != before {
		t.Errorf("%d destroyed, %v, %d entries of %d", n, err, len(k.Registry()), before)
	}
	j.Close()
	if n, err := k.Zeroize(t.Context(), people); n != 1 || err != nil {
		t.Errorf("%d destroyed, %v", n, err)
	}
	if err := k.MayImport(t.Context(), block); !errors.Is(err, ErrUsed) {
		t.Errorf("the destroyed key may come back: %v", err)
	}
}
