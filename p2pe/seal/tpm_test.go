//go:build linux

package seal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tillbridge/p2pe"
)

// emulator is swtpm, a TPM 2.0 in software written by others.
type emulator struct {
	t      *testing.T
	state  string // absolute: with a relative one the emulator fails
	socket string
	cmd    *exec.Cmd
}

// startTPM starts an emulator. Without one the test is skipped, or fails when
// SWTPM_REQUIRED is set (.ci/deps apt swtpm).
func startTPM(t *testing.T) *emulator {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("SWTPM_REQUIRED") != "" {
			t.Fatal("swtpm is not installed: .ci/deps apt swtpm")
		}
		t.Skip("skipped: swtpm is not installed (.ci/deps apt swtpm)")
	}
	// Unix socket paths are short: not below the test's own long directory.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &emulator{t: t, state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "s")}
	if err := os.Mkdir(e.state, 0o700); err != nil {
		t.Fatal(err)
	}
	e.start()
	t.Cleanup(e.stop)
	return e
}

func (e *emulator) start() {
	e.t.Helper()
	_ = os.Remove(e.socket)
	e.cmd = exec.Command("swtpm", "socket", "--tpm2", "--server", "type=unixio,path="+e.socket, "--ctrl", "type=unixio,path="+e.socket+"c",
		"--tpmstate", "dir="+e.state, "--flags", "startup-clear")
	var out bytes.Buffer
	e.cmd.Stdout, e.cmd.Stderr = &out, &out
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	for limit := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(e.socket); err == nil {
			return
		}
		if time.Now().After(limit) {
			e.t.Fatalf("swtpm does not listen: %s", out.String())
		}
	}
}

func (e *emulator) stop() {
	if e.cmd != nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
		e.cmd = nil
	}
}

// restart is a reboot of the machine.
func (e *emulator) restart() {
	e.t.Helper()
	// The emulator writes its state at once; a kill loses nothing of NV memory.
	e.stop()
	e.start()
}

func TestTPMSealsAndUnsealsAfterARestart(t *testing.T) {
	e := startTPM(t)
	dir := t.TempDir()
	o := &SealerOptions{Kind: KindTPM, TPM: e.socket}
	s, err := OpenSealer(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name() != KindTPM || s.Insecure() != "" {
		t.Errorf("%s, insecure: %q", s.Name(), s.Insecure())
	}
	root := bytes.Clone(s.(*rooted).root.Bytes())
	sealed, err := s.Seal("a", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	file, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, root) {
		t.Error("the root key lies on the disk in clear")
	}
	e.restart()
	if s, err = OpenSealer(t.Context(), dir, &SealerOptions{TPM: e.socket}); err != nil {
		t.Fatal(err)
	}
	b, err := s.Unseal("a", sealed)
	if err != nil || string(b.Bytes()) != "secret" {
		t.Fatal("it does not come back after a restart:", err)
	}

	// Another authorisation value, many times: refused, and no lockout.
	for range 40 {
		if _, err := OpenSealer(t.Context(), dir, &SealerOptions{TPM: e.socket, Auth: []byte("wrong")}); !errors.Is(err, ErrAuth) {
			t.Fatalf("a wrong authorisation value: %v", err)
		}
	}
	if _, err := OpenSealer(t.Context(), dir, &SealerOptions{TPM: e.socket}); err != nil {
		t.Errorf("the right value after wrong ones: %v", err)
	}

	// A copy of the disk beside another chip.
	other := startTPM(t)
	if _, err := OpenSealer(t.Context(), dir, &SealerOptions{TPM: other.socket}); !errors.Is(err, ErrUnseal) {
		t.Errorf("another chip opens it: %v", err)
	}
	if err := s.Destroy(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{rootFile, tpmAuthFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// TestTPMTakesAnyAuthorisationValue: values with zero bytes open again.
func TestTPMTakesAnyAuthorisationValue(t *testing.T) {
	e := startTPM(t)
	for i, auth := range [][]byte{{0}, {0, 1, 2}, {1, 0, 2, 0}, bytes.Repeat([]byte{0}, 32), append(bytes.Repeat([]byte{7}, 31), 0), {}, bytes.Repeat([]byte{9}, 300)} {
		dir := t.TempDir()
		o := &SealerOptions{Kind: KindTPM, TPM: e.socket, Auth: auth}
		s, err := OpenSealer(t.Context(), dir, o)
		if err != nil {
			t.Fatalf("value %d: %v", i, err)
		}
		s.Close()
		if s, err = OpenSealer(t.Context(), dir, o); err != nil {
			t.Fatalf("value %d does not open again: %v", i, err)
		}
		s.Close()
		other := append(bytes.Clone(auth), 1)
		if _, err := OpenSealer(t.Context(), dir, &SealerOptions{TPM: e.socket, Auth: other}); !errors.Is(err, ErrAuth) {
			t.Errorf("value %d with a byte more: %v", i, err)
		}
	}
}

// TestTPMCatchesARestoredJournal: the state file of an earlier day is put back,
// whole, with the sealer's own files.
func TestTPMCatchesARestoredJournal(t *testing.T) {
	e := startTPM(t)
	dir := t.TempDir()
	s, err := OpenSealer(t.Context(), dir, &SealerOptions{Kind: KindTPM, TPM: e.socket})
	if err != nil {
		t.Fatal(err)
	}
	a := NewTPMAnchor(dir, e.socket, nil)
	path := filepath.Join(dir, "key.slots")
	if err := CreateJournal(t.Context(), path, freshState(t, p2pe.SchemeAESDUKPT, testSerial), s, a); err != nil {
		t.Fatal(err)
	}
	seen := issued{}
	take(t, path, s, a, 5, seen, "day one")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	take(t, path, s, a, 20, seen, "day two")
	e.restart()
	take(t, path, s, a, 3, seen, "after a restart")
	present, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrRolledBack) {
		t.Fatalf("a restored old state opens: %v", err)
	}
	if err := os.WriteFile(path, present, 0o600); err != nil {
		t.Fatal(err)
	}
	take(t, path, s, a, 3, seen, "the present state again")

	// The same key a second time, also after the counter was removed.
	if err := CreateJournal(t.Context(), path+"2", freshState(t, p2pe.SchemeAESDUKPT, testSerial), s, a); !errors.Is(err, ErrMark) {
		t.Errorf("the key is loaded twice: %v", err)
	}
	device := p2pe.KSN(testSerial).Device()
	before, err := a.Value(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.End(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrMark) {
		t.Errorf("a journal without its counter opens: %v", err)
	}
	now, err := a.Begin(t.Context(), device)
	if err != nil || now <= before {
		t.Errorf("a new counter begins at %d, the removed one was at %d: %v", now, before, err)
	}
	if _, err := OpenJournal(t.Context(), path, s, a); !errors.Is(err, ErrRolledBack) {
		t.Errorf("a journal beside a new counter opens: %v", err)
	}
}

// TestTPMThatIsSilentEndsByDeadline: a chip that takes commands and never
// answers.
func TestTPMThatIsSilentEndsByDeadline(t *testing.T) {
	e := startTPM(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	c, err := openChip(ctx, e.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	if err := e.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.root(); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent chip: %v", err)
	}
}
