package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/agent"
	"tillbridge/agent/config"
	"tillbridge/agent/sandbox/acquirer"
	"tillbridge/agent/sandbox/crm"
	pad "tillbridge/drivers/virtual/abecs"
	"tillbridge/p2pe/mask"
)

// guard is how long a test waits for what must happen.
const guard = 60 * time.Second

const (
	laneKey   = "test-key-of-lane1-0123456789"
	hookKey   = "whsec_dGlsbGJyaWRnZSB0ZXN0IHNlY3JldCAwMDAwMDE=" // of this test
	padKSN    = "FFFF0102030405E00000"
	testCard  = "4111111111111111" // published test number
	waitLimit = "60"
)

// child is a counterpart that takes commands a line and answers a line.
type child struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan map[string]any
	done  chan struct{}
	ready map[string]any
}

func serve(t *testing.T, fn func(ctx context.Context, in io.Reader, out io.Writer) error) *child {
	t.Helper()
	ir, iw := io.Pipe()
	or, ow := io.Pipe()
	c := &child{t: t, in: iw, lines: make(chan map[string]any, 64), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if err := fn(context.Background(), ir, ow); err != nil {
			t.Error(err)
		}
		ow.Close()
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		dec := json.NewDecoder(or)
		for {
			var m map[string]any
			if dec.Decode(&m) != nil {
				return
			}
			if m["event"] != nil {
				continue
			}
			select {
			case c.lines <- m:
			case <-c.done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		iw.Close()
		<-c.done
		<-read
	})
	c.ready = c.line()
	return c
}

func (c *child) line() map[string]any {
	c.t.Helper()
	select {
	case m := <-c.lines:
		return m
	case <-time.After(guard):
		c.t.Fatal("a counterpart is silent")
		return nil
	}
}

func (c *child) tell(command string) map[string]any {
	c.t.Helper()
	fmt.Fprintln(c.in, command)
	m := c.line()
	if m["ok"] != true {
		c.t.Fatalf("%s: %v", command, m)
	}
	return m
}

// shop is an agent with its counterparts.
type shop struct {
	t        *testing.T
	dir      string
	timeout  string
	pad      *child
	acquirer *child
	crm      *crm.Server
	log      *buffer
	base     string
	stop     func() error
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

// open starts a shop whose agent waits so long for the acquirer.
func open(t *testing.T, timeout string) *shop {
	t.Helper()
	s := &shop{t: t, dir: t.TempDir(), timeout: timeout, log: &buffer{}}
	s.acquirer = serve(t, func(ctx context.Context, in io.Reader, out io.Writer) error {
		return acquirer.Serve(ctx, in, out, acquirer.Options{Keys: acquirer.NewKeys()})
	})
	s.write("acquirer.pem", s.acquirer.ready["ca"].(string))
	s.write("crm.secret", hookKey)
	s.write("lane1.key", laneKey)
	var err error
	if s.crm, err = crm.Start(crm.Options{Secret: hookKey, Record: &buffer{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.crm.Close() })
	s.pad = serve(t, func(ctx context.Context, in io.Reader, out io.Writer) error {
		return pad.Serve(ctx, in, out, pad.Options{Dir: s.dir, Listen: "127.0.0.1:0", Link: "pad0", Serial: "VP000001"})
	})
	for _, use := range []string{"data", "pin"} {
		key := s.acquirer.tell(`{"cmd":"initial_key","ksn":"` + padKSN + `"}`)["key"].(string)
		s.pad.tell(fmt.Sprintf(`{"do":"load-key","use":%q,"slot":0,"ksn":%q,"key":%q}`, use, padKSN, key))
	}
	s.start()
	t.Cleanup(func() {
		if s.stop != nil {
			s.end()
		}
	})
	return s
}

func (s *shop) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shop) config() *config.Config {
	s.t.Helper()
	c, err := config.Parse("test.toml", fmt.Appendf(nil, `
[agent]
data = %q
log = "debug"
[api]
listen = "127.0.0.1:0"
[[register]]
id = "lane1"
device = "pad1"
key = %q
currency = "EUR"
[[device]]
name = "pad1"
protocol = "abecs"
ports = [%q]
[acquirer]
kind = "iso8583"
addr = %q
ca = %q
server_name = "localhost"
merchant_id = "TESTSHOP0000001"
terminal_id = "TEST0001"
timeout = %q
[crm]
kind = "webhook"
url = %q
secret = %q
`, s.path("agent"), "file:"+s.path("lane1.key"), s.pad.ready["addr"], s.acquirer.ready["addr"], s.path("acquirer.pem"), s.timeout, s.crm.URL(), "file:"+s.path("crm.secret")))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// start runs the agent until end.
func (s *shop) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	cfg := s.config()
	go func() {
		done <- agent.Run(ctx, agent.Options{Config: cfg, Version: "test",
			Log:   slog.New(mask.NewHandler(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			Ready: func(listen string) { ready <- listen }})
	}()
	s.stop = func() error { cancel(); return <-done }
	select {
	case listen := <-ready:
		s.base = "http://" + listen
	case err := <-done:
		s.stop = nil
		s.t.Fatalf("the agent ended: %v", err)
	case <-time.After(guard):
		s.t.Fatal("the agent is not ready")
	}
}

func (s *shop) end() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Errorf("the agent ended with %v", err)
	}
	s.stop = nil
}

type answer struct {
	Status int
	Header http.Header
	Body   map[string]any
	Text   string
}

func (a answer) str(key string) string { s, _ := a.Body[key].(string); return s }

// call sends one request; headers are pairs.
func (s *shop) call(method, path, body string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+laneKey)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	a := answer{Status: resp.StatusCode, Header: resp.Header, Text: string(b)}
	_ = json.Unmarshal(b, &a.Body)
	return a
}

// pay starts a payment and waits for its end.
func (s *shop) pay(key, body string) answer {
	s.t.Helper()
	return s.call("POST", "/v1/payments", body, "Idempotency-Key", key, "Prefer", "wait="+waitLimit)
}

const tenEuro = `{"amount":{"total":1000,"currency":"EUR"},"reference":"order-1"}`

func (s *shop) chip() {
	s.pad.tell(`{"do":"insert","card":"visa"}`)
	s.pad.tell(`{"do":"pin"}`)
	s.pad.tell(`{"do":"remove"}`)
}

// books is the acquirer's summary.
func (s *shop) books() map[string]any {
	return s.acquirer.tell(`{"cmd":"books"}`)["books"].(map[string]any)
}

// authorisations are what the acquirer has approved, whether it stands or not.
func (s *shop) authorisations() float64 { return s.books()["authorisations"].(float64) }

// until looks again until ok.
func (s *shop) until(what string, ok func() bool) {
	s.t.Helper()
	for limit := time.Now().Add(guard); !ok(); {
		if time.Now().After(limit) {
			s.t.Fatalf("waited in vain: %s\n%s", what, s.log.Bytes())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
