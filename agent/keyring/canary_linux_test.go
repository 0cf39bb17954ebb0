package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
)

// The child of the canary test loads a key, encrypts a card, and dies in a way
// that leaves a core where the system allows one.
const canaryEnv = "TILLBRIDGE_CANARY_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(canaryEnv); dir != "" {
		fmt.Fprintln(os.Stderr, canaryChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// canaryPAN is a published test number.
const canaryPAN = "4111111111111111"

// canaryChild ends by a signal; it returns only an error.
func canaryChild(dir string) error {
	mode := os.Getenv("TILLBRIDGE_CANARY_MODE")
	if mode == "guarded" {
		if err := secret.NoDumps(); err != nil {
			return err
		}
	} else if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 1 << 40, Max: 1 << 40}); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx := context.Background()
	host := &acquirer{marks: map[string]uint64{}}
	k, err := Open(ctx, filepath.Join(dir, "keys"), &Options{Sealer: seal.KindFile, Anchor: host})
	if err != nil {
		return err
	}
	block, err := os.ReadFile(filepath.Join(dir, "..", "block"))
	if err != nil {
		return err
	}
	guard, err := hex.DecodeString(os.Getenv("TILLBRIDGE_CANARY_KBPK"))
	if err != nil {
		return err
	}
	os.Unsetenv("TILLBRIDGE_CANARY_KBPK")
	b, err := secret.Take(guard)
	if err != nil {
		return err
	}
	e, err := k.Import(ctx, Import{Block: string(block), Protection: b, By: people})
	if err != nil {
		return err
	}
	log.Debug("loaded", "entry", e, "keyring", k.Status(), "protection", b)
	src, err := k.Source(ctx)
	if err != nil {
		return err
	}
	c := &seal.Clear{PAN: []byte(canaryPAN)}
	log.Debug("clear", "card", c, "text", fmt.Sprintf("%v %+v %x", *c, c, *c))
	envelope, err := seal.NewDUKPT(src, "SN1").Encrypt(c)
	if err != nil {
		return err
	}
	log.Debug("encrypted", "envelope", envelope, "journal", src.KSN())
	// What the controls look for: a value on the heap, and one in secret pages.
	heap := []byte("heap-canary-" + strings.Repeat("q", 20))
	page, err := secret.New(len(pageSeed))
	if err != nil {
		return err
	}
	pageCanary(page.Bytes())
	if heap[0] == 0 || page.Len() == 0 {
		return errors.New("unreachable")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGSEGV); err != nil {
		return err
	}
	// The runtime turns the signal into a crash with GOTRACEBACK=crash.
	<-time.After(time.Minute)
	return errors.New("still alive")
}

// pageCanary writes a value that stands nowhere else in the program.
func pageCanary(dst []byte) {
	for i := range dst {
		dst[i] = pageSeed[i] ^ 0x2A
	}
}

const pageSeed = "a value for the pages of a secret"

func forms(b []byte) [][]byte {
	h := hex.EncodeToString(b)
	return [][]byte{b, []byte(h), []byte(strings.ToUpper(h)), []byte(base64.StdEncoding.EncodeToString(b))[:len(b)/3*4]}
}

// TestNoKeyAndNoCardIsLeft runs the child guarded and unguarded, and looks for
// its keys and its card in what is left: the data directory, a copy of it, its
// output, and the core. The unguarded run shows that a core is written here and
// that the search finds things in it.
func TestNoKeyAndNoCardIsLeft(t *testing.T) {
	base := t.TempDir()
	ik := make([]byte, 16)
	guard := make([]byte, 16)
	_, _ = rand.Read(ik)
	_, _ = rand.Read(guard)
	old := protectionHex
	protectionHex = hex.EncodeToString(guard)
	block := blockOf(t, ik, 'A', device, 'N')
	protectionHex = old
	if err := os.WriteFile(filepath.Join(base, "block"), []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(mode string) (dir string, output []byte) {
		dir = filepath.Join(base, mode)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, self)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), canaryEnv+"="+dir, "TILLBRIDGE_CANARY_MODE="+mode, "TILLBRIDGE_CANARY_KBPK="+hex.EncodeToString(guard), "GOTRACEBACK=crash")
		output, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || !exit.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("%s: the child did not crash: %v\n%s", mode, err, output)
		}
		return dir, output
	}
	cores := func(dir string) (list []string) {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasPrefix(f.Name(), "core") {
				list = append(list, filepath.Join(dir, f.Name()))
			}
		}
		return list
	}

	dir, output := run("guarded")
	if list := cores(dir); len(list) != 0 {
		t.Errorf("a core was written although dumps are off")
	}
	if !bytes.Contains(output, []byte(`"encrypted"`)) {
		t.Fatalf("the child did not get far enough: %s", output)
	}
	search := func(where string, data []byte) {
		for name, value := range map[string][]byte{"initial key": ik, "protection key": guard, "card number": []byte(canaryPAN)} {
			for i, form := range forms(value) {
				if bytes.Contains(data, form) {
					t.Errorf("%s: the %s is there (form %d)", where, name, i)
				}
			}
		}
	}
	search("output", output)
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path) // a copy taken while the file was in use
		files++
		search(filepath.Base(path), data)
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files: %v", files, err)
	}

	// Control: without the guard a core is there, and the search finds the heap
	// value in it; the value in secret pages is not in it.
	dir, _ = run("control")
	list := cores(dir)
	if len(list) == 0 {
		pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
		t.Logf("control skipped: the system writes no core here (core_pattern %q)", strings.TrimSpace(string(pattern)))
		return
	}
	core, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(core, []byte("heap-canary-"+strings.Repeat("q", 20))) {
		t.Error("the search does not find what is in the core: it shows nothing")
	}
	page := make([]byte, len(pageSeed))
	pageCanary(page)
	if bytes.Contains(core, page) {
		t.Error("a secret page is in the core")
	}
	t.Logf("%d files and the output searched; control core of %d MiB", files, len(core)>>20)
}
