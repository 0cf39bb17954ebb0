package neo2

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers/virtual/port"
)

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
		p.t.Fatalf("the reader ended: %v", <-p.end)
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
	links := map[string]string{"pty": "serial", "tcp": "serial", "hid": "hid"}
	for name, o := range map[string]Options{"pty": {}, "tcp": {Listen: "127.0.0.1:0"}, "hid": {HID: true}} {
		t.Run(name, func(t *testing.T) {
			if name == "pty" && !port.HavePTY {
				t.Skip("no pty on this system")
			}
			o.Dir, o.Cards = t.TempDir(), cards()
			p, ready := serve(t, o)
			if ready["ready"] != true || ready["link"] != links[name] {
				t.Fatal(ready)
			}
			h := &host{t: t, c: openLine(t, ready["addr"].(string)), hid: o.HID}
			if st, data := h.ask(0x29, 0x17, ""); st != statOK || data != "0123456789abcdef" {
				t.Fatal(st, data)
			}
			if r := p.do(`{"do":"load-key","ksn":"FFFF9876543211E00000","key":"0123456789ABCDEF0011223344556677"}`); r["ok"] != true {
				t.Fatal(r)
			}
			if r := p.do(`{"do":"auto","card":"visa"}`); r["ok"] != true {
				t.Fatal(r)
			}
			h.ask(0x60, 0x10, "01003c003c"+tenEuros)
			if st, data := h.answer(0x60); st != statOK || !strings.Contains(data, "affff9876543211e00001") {
				t.Fatalf("%02X", st)
			}
			h.ask(0x60, 0x11, "01")
			if st, _ := h.answer(0x60); st != statOK {
				t.Fatal(st)
			}
			for _, c := range []string{`{"do":"insert","card":"nobody"}`, `{"do":"dance"}`, `nonsense`, `{"do":"fault","fault":"x"}`, `{"do":"replug","link":"../x"}`, `{"do":"load-key","ksn":"1"}`} {
				if r := p.do(c); r["ok"] != false || r["error"] == "" {
					t.Errorf("%s: %v", c, r)
				}
			}
			if r := p.do(`{"do":"unplug"}`); r["ok"] != true {
				t.Fatal(r)
			}
			r := p.do(`{"do":"replug","link":"reader1"}`)
			if r["ok"] != true {
				t.Fatal(r)
			}
			h = &host{t: t, c: openLine(t, r["addr"].(string)), hid: o.HID}
			if st, _ := h.ask(0x60, 0x12, "008a023030"); st != statNotAllowed {
				t.Errorf("a payment survived power-off: %02X", st)
			}
			books := p.do(`{"do":"books"}`)["books"].([]any)
			if len(books) != 1 || books[0].(map[string]any)["amount"] != 1000.0 {
				t.Errorf("books: %v", books)
			}
			p.in.Close()
			select {
			case err := <-p.end:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("the reader does not end with its standard input")
			}
		})
	}
}
