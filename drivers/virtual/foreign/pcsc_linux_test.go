package foreign

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	twinDriver = "/usr/lib/pcsc/drivers/serial/libccidtwin.so"
	vpcdDriver = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
)

// alone skips unless .ci/foreign started the test: pcscd's socket has one
// fixed place, so it runs where it can reach no other, with /run and the
// network of its own.
func alone(t *testing.T) {
	t.Helper()
	if os.Getenv("TILLBRIDGE_FOREIGN") == "" {
		t.Skip("programs of others are run by make foreign")
	}
}

// daemon runs pcscd with one reader and returns once the reader is there.
func daemon(t *testing.T, friendly, device, driver string) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "reader.conf")
	text := fmt.Sprintf("FRIENDLYNAME %q\nDEVICENAME %s\nLIBPATH %s\nCHANNELID 1\n", friendly, device, driver)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/pcscd", 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "pcscd", "--foreground", "--info", "--config", conf)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Logf("pcscd said:\n%s", log.String())
		}
	})
	until(t, "pcscd shows the reader", func() bool {
		out, _ := exec.Command("opensc-tool", "--list-readers").CombinedOutput()
		return bytes.Contains(out, []byte(friendly))
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// until waits for something that another program does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited 30 s: %s", what)
}

// run runs a program of others with a deadline.
func run(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// visit gives a card commands, as spaced hexadecimal text, and returns its
// answers with their status words.
type visit func(t *testing.T, commands []string) (answers []string)

// scriptor is pcsc-tools' program. It resets the card first, and shows what a
// T=0 card answers as it is.
func scriptor(protocol string) visit {
	return func(t *testing.T, commands []string) (answers []string) {
		t.Helper()
		out := run(t, "reset\n"+strings.Join(commands, "\n")+"\n", "scriptor", "-p", protocol)
		var now *strings.Builder
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			if rest, ok := strings.CutPrefix(line, "< "); ok {
				if strings.HasPrefix(rest, "OK") {
					continue // of the reset
				}
				now, line = &strings.Builder{}, rest
			}
			if now == nil {
				continue
			}
			pairs, _, last := strings.Cut(line, " : ") // then the status word in words
			now.WriteString(strings.Join(hexPair.FindAllString(pairs, -1), ""))
			if last {
				answers, now = append(answers, now.String()), nil
			}
		}
		if len(answers) != len(commands) {
			t.Fatalf("scriptor gave %d answers to %d commands", len(answers), len(commands))
		}
		return answers
	}
}

var (
	hexPair  = regexp.MustCompile(`\b[0-9A-F]{2}\b`)
	received = regexp.MustCompile(`^Received \(SW1=0x(..), SW2=0x(..)\)`)
	dump     = regexp.MustCompile(`^(?:[0-9A-F]{2} )+`)
)

// opensc is OpenSC's tool, which fetches a long answer itself.
func opensc(t *testing.T, commands []string) (answers []string) {
	t.Helper()
	args := []string{"--reader", "0", "--card-driver", "default"}
	for _, c := range commands {
		args = append(args, "--send-apdu", strings.ReplaceAll(c, " ", ""))
	}
	data, status := "", ""
	for line := range strings.Lines(run(t, "", "opensc-tool", args...)) {
		if m := received.FindStringSubmatch(line); m != nil {
			if status != "" {
				answers = append(answers, data+status)
			}
			data, status = "", m[1]+m[2]
		} else if status != "" {
			data += strings.ReplaceAll(dump.FindString(line), " ", "")
		}
	}
	answers = append(answers, data+status)
	if len(answers) != len(commands) {
		t.Fatalf("opensc-tool gave %d answers to %d commands", len(answers), len(commands))
	}
	return answers
}
