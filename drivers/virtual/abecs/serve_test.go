package abecs

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"tillbridge/drivers/virtual/port"
	"time"
)

// process is a pad under Serve with pipes for its standard streams.
type process struct {
	t   *testing.T
	in  *io.PipeWriter
	out *bufio.Scanner
	end chan error
}

func serve(t *testing.T, o Options) (*process, map[string]any) {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p := &process{t, inW, bufio.NewScanner(outR), make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		p.end <- Serve(ctx, inR, outW, o)
		outW.Close()
	}()
	t.Cleanup(func() { cancel(); inW.Close(); outR.Close() })
	return p, p.line()
}

func (p *process) line() map[string]any {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the pad ended: %v", <-p.end)
	}
	var m map[string]any
	if err := json.Unmarshal(p.out.Bytes(), &m); err != nil {
		p.t.Fatal(err)
	}
	return m
}

func (p *process) do(command string) map[string]any {
	p.t.Helper()
	io.WriteString(p.in, command+"\n")
	return p.line()
}

func openLine(t *testing.T, addr string) io.ReadWriteCloser {
	t.Helper()
	if !strings.Contains(addr, ":") {
		f, err := os.OpenFile(addr, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestServe(t *testing.T) {
	for _, listen := range []string{"", "127.0.0.1:0"} {
		t.Run("listen="+listen, func(t *testing.T) {
			if listen == "" && !port.HavePTY {
				t.Skip("no pty on this system")
			}
			dir := t.TempDir()
			p, ready := serve(t, Options{Dir: dir, Listen: listen, Cards: testCards(), Keys: testKeys(t)})
			if ready["ready"] != true {
				t.Fatal(ready)
			}
			addr := ready["addr"].(string)
			h := newHost(t, openLine(t, addr))
			h.cancel()
			h.secure()
			for _, c := range []string{`{"do":"auto","card":"no-cvm"}`, `{"do":"fault","fault":"noise"}`} {
				if r := p.do(c); r["ok"] != true {
					t.Fatal(r)
				}
			}
			if st, _, _ := h.ask(gcxOf("000000000700", "00000")); st != "GCX000" {
				t.Fatal(st)
			}
			if st, _, _ := h.ask(goxOf("000000000700", "01000")); st != "GOX000" {
				t.Fatal(st)
			}
			for _, c := range []string{`{"do":"insert","card":"nobody"}`, `{"do":"dance"}`, `nonsense`, `{"do":"fault","fault":"x"}`, `{"do":"replug","link":"../x"}`} {
				if r := p.do(c); r["ok"] != false || r["error"] == "" {
					t.Errorf("%s: %v", c, r)
				}
			}
			if r := p.do(`{"do":"unplug"}`); r["ok"] != true {
				t.Fatal(r)
			}
			if listen == "" {
				if _, err := os.Lstat(addr); err == nil {
					t.Error("the link is still there after an unplug")
				}
			}
			for range h.in { // the host's end sees the end of the line
			}
			r := p.do(`{"do":"replug","link":"pad1"}`)
			if r["ok"] != true || listen == "" && r["addr"] != filepath.Join(dir, "pad1") {
				t.Fatal(r)
			}
			h = newHost(t, openLine(t, r["addr"].(string)))
			h.cancel()
			h.secure()
			if st, _, _ := h.ask([]byte("FCX010\x00\x19\x00\x042000")); st == "FCX000" {
				t.Error("a session survived power-off")
			}
			books := p.do(`{"do":"books"}`)["books"].([]any)
			if len(books) != 1 || books[0].(map[string]any)["amount"] != 700.0 {
				t.Errorf("books: %v", books)
			}
			p.in.Close()
			select {
			case err := <-p.end:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("the pad does not end with its standard input")
			}
		})
	}
}
