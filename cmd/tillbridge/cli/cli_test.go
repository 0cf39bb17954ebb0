package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tillbridge/agent/sandbox/acquirer"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tillbridge": func() { os.Exit(Main("v0.0.0-test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the command line as a person would, from testdata.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// code N cmd args...: the exit code is a promise of its own.
			"code": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: code N cmd args...")
				}
				got := 0
				if exit, ok := errors.AsType[*exec.ExitError](ts.Exec(args[1], args[2:]...)); ok {
					got = exit.ExitCode()
				}
				if want := args[0]; strconv.Itoa(got) != want {
					ts.Fatalf("%s ended with code %d, want %s", strings.Join(args[1:], " "), got, want)
				}
			},
			"startTPM": startTPM,
			"keyBlock": keyBlock,
		},
		Condition: func(name string) (bool, error) {
			if name != "swtpm" {
				return false, errors.New("unknown condition " + name)
			}
			_, err := exec.LookPath("swtpm")
			if err != nil && os.Getenv("SWTPM_REQUIRED") != "" {
				return false, errors.New("swtpm is not installed: .ci/deps apt swtpm")
			}
			return err == nil, nil
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			dir, err := os.MkdirTemp("", "tpm") // a socket's path is short
			e.Setenv("TPM", filepath.Join(dir, "s"))
			e.Defer(func() { os.RemoveAll(dir) })
			return err
		},
	})
}

// startTPM SOCKET: a TPM written by others, for the rest of the script.
func startTPM(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: startTPM SOCKET")
	}
	socket, state := args[0], ts.MkAbs("tpm-state")
	ts.Check(os.Mkdir(state, 0o700))
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+"c",
		"--tpmstate", "dir="+state, "--flags", "startup-clear")
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return
		}
		if time.Now().After(limit) {
			ts.Fatalf("swtpm does not listen")
		}
	}
}

// keyBlock KSN BLOCK COMPONENTS: an acquirer sends an initial key. COMPONENTS
// holds what two people type, and the check value on paper.
func keyBlock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: keyBlock KSN BLOCK COMPONENTS")
	}
	h, err := acquirer.Run(context.Background(), acquirer.Options{})
	ts.Check(err)
	defer h.Close()
	b, err := h.InitialKeyBlock(args[0])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.Block+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Join(append(b.Components, b.KCV), "\n")+"\n"), 0o600))
}
