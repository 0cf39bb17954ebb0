package zvt

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers/frame"
	"tillbridge/drivers/virtual/port"
)

// process is a terminal under Serve with pipes for its standard streams.
type process struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *bufio.Scanner
	end   chan error
	ready map[string]any
}

func serve(t *testing.T, o Options) *process {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p := &process{t: t, in: inW, out: bufio.NewScanner(outR), end: make(chan error, 1)}
	p.out.Buffer(nil, 1<<20)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		p.end <- Serve(ctx, inR, outW, o)
		outW.Close()
	}()
	t.Cleanup(func() { cancel(); inW.Close(); outR.Close() })
	p.ready = p.line()
	if p.ready["ready"] != true {
		t.Fatal(p.ready)
	}
	return p
}

func (p *process) line() map[string]any {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the terminal ended: %v", <-p.end)
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

func (p *process) must(command string) map[string]any {
	p.t.Helper()
	r := p.do(command)
	if r["ok"] != true {
		p.t.Fatalf("%s: %v", command, r)
	}
	return r
}

// books returns a count of the books.
func (p *process) books(key string) any {
	return p.must(`{"do":"books"}`)["books"].(map[string]any)[key]
}

// register is a register that speaks bytes: it knows no driver.
type register struct {
	t    *testing.T
	line io.ReadWriteCloser
	tcp  bool
	buf  []byte
	dec  frame.DLE
}

func dial(t *testing.T, addr string) *register {
	t.Helper()
	r := &register{t: t}
	if strings.Contains(addr, ":") {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		r.line, r.tcp = c, true
	} else {
		f, err := os.OpenFile(addr, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.line = f
	}
	t.Cleanup(func() { r.line.Close() })
	return r
}

func (r *register) send(apdu string) {
	r.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(apdu, " ", ""))
	if err != nil {
		r.t.Fatal(err)
	}
	if !r.tcp {
		b = frame.AppendDLE(nil, b)
	}
	if _, err := r.line.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// next returns the next APDU in hex, or "" at the end of the line.
func (r *register) next() string {
	r.t.Helper()
	for {
		if r.tcp {
			if a, n := decode(r.buf); n > 0 {
				r.buf = r.buf[n:]
				return hex.EncodeToString(encode(a.cmd, a.data))
			}
		} else {
			for len(r.buf) > 0 {
				n, ev, err := r.dec.Feed(r.buf)
				r.buf = r.buf[n:]
				if err != nil {
					r.t.Fatal(err)
				}
				if ev == frame.Message {
					r.line.Write([]byte{frame.ByteACK})
					return hex.EncodeToString(r.dec.Payload())
				}
			}
		}
		b := make([]byte, 4096)
		n, err := r.line.Read(b)
		if err != nil {
			return ""
		}
		r.buf = append(r.buf, b[:n]...)
	}
}

// run sends a command and answers everything until the terminal gives the word
// back. It returns the status informations and the end.
func (r *register) run(apdu string) (statuses []string, end string) {
	r.t.Helper()
	r.send(apdu)
	if a := r.next(); !strings.HasPrefix(a, "8000") {
		return nil, a
	}
	for {
		a := r.next()
		if a == "" {
			return statuses, ""
		}
		r.send("80 00 00")
		switch a[:4] {
		case "040f":
			statuses = append(statuses, a)
		case "060f", "061e":
			return statuses, a
		}
	}
}

const hello = "06 00 06 000000 98 0978" // 04 FF, amount locked, print lines are not asked for

func TestSaleOnEachLine(t *testing.T) {
	for _, o := range []Options{{}, {Serial: true}} {
		name := "tcp"
		if o.Serial {
			if !port.HavePTY {
				continue
			}
			name, o.Dir = "serial", t.TempDir()
		}
		t.Run(name, func(t *testing.T) {
			o.Books = filepath.Join(t.TempDir(), "terminal.json")
			p := serve(t, o)
			r := dial(t, p.ready["addr"].(string))
			if _, end := r.run(hello); !strings.HasPrefix(end, "060f0a190029520000014909") {
				t.Fatalf("registration: %s", end)
			}
			p.must(`{"do":"tap"}`)
			st, end := r.run("06 01 0A 04 000000001000 49 0978")
			if len(st) != 1 || !strings.Contains(st[0], "270004000000001000") || !strings.Contains(st[0], "490978") || !strings.Contains(st[0], "22f0f8eeeeeeeeeeee1111") || end != "060f00" {
				t.Fatalf("sale: %v, %s", st, end)
			}
			// the same result again, with the service byte
			again, end := r.run("06 20 05 000000 03 03")
			if len(again) != 1 || again[0] != st[0] || end != "060f00" {
				t.Errorf("repeated receipt: %v, %s", again, end)
			}
			p.must(`{"do":"decline","code":5}`)
			if st, end = r.run("06 01 0A 04 000000005000 49 0978"); len(st) != 1 || !strings.HasPrefix(st[0][len("040fxx"):], "2705") || end != "061e0105" {
				t.Errorf("declined sale: %v, %s", st, end)
			}
			if net := p.books("net").(map[string]any); p.books("sales") != 1.0 || p.books("declined") != 1.0 || net["978"] != 1000.0 {
				t.Errorf("books: %v", p.must(`{"do":"books"}`))
			}
			// reversal by receipt, twice
			if st, end = r.run("06 30 06 000000 87 0001"); len(st) != 1 || !strings.Contains(st[0], "2700") || !strings.Contains(st[0], "37000001") || end != "060f00" {
				t.Errorf("reversal: %v, %s", st, end)
			}
			if _, end = r.run("06 30 06 000000 87 0001"); end != "061e01b4" {
				t.Errorf("second reversal: %s", end)
			}
			if net := p.books("net").(map[string]any); p.books("reversals") != 1.0 || net["978"] != 0.0 {
				t.Errorf("books: %v", p.must(`{"do":"books"}`))
			}
			p.in.Close()
			if err := <-p.end; err != nil {
				t.Error(err)
			}
			// the books outlive the process
			again2, err := New(o)
			if err != nil || again2.Books().Sales != 1 {
				t.Errorf("books after a restart: %+v, %v", again2, err)
			}
		})
	}
}

func TestLoseStatusKeepsTheApproval(t *testing.T) {
	p := serve(t, Options{})
	r := dial(t, p.ready["addr"].(string))
	r.run(hello)
	p.must(`{"do":"fault","fault":"lose-status"}`)
	p.must(`{"do":"insert"}`)
	if st, end := r.run("06 01 0A 04 000000002240 49 0978"); len(st) != 0 || end != "" {
		t.Fatalf("the line did not drop: %v, %s", st, end)
	}
	r = dial(t, p.ready["addr"].(string))
	r.run(hello)
	if st, _ := r.run("06 20 05 000000 03 03"); len(st) != 1 || !strings.Contains(st[0], "270004000000002240") {
		t.Errorf("the record: %v", st)
	}
	if p.books("sales") != 1.0 || p.books("double_charges") != 0.0 {
		t.Errorf("books: %v", p.must(`{"do":"books"}`))
	}
	// a register that sends the sale again charges the customer twice, and the
	// books say so
	r.run("06 01 0A 04 000000002240 49 0978")
	if p.books("double_charges") != 1.0 {
		t.Errorf("a second charge is not seen: %v", p.must(`{"do":"books"}`))
	}
}

func TestCommandsOfTheProcess(t *testing.T) {
	p := serve(t, Options{})
	for _, c := range []string{`{"do":"tap","card":"nobody"}`, `{"do":"dance"}`, `nonsense`, `{"do":"fault","fault":"x"}`} {
		if r := p.do(c); r["ok"] != false || r["error"] == "" {
			t.Errorf("%s: %v", c, r)
		}
	}
	p.must(`{"do":"unplug"}`)
	addr := p.must(`{"do":"replug"}`)["addr"] // the same, if nobody took it: see package port
	r := dial(t, addr.(string))
	r.run(hello)
	addr = p.must(`{"do":"restart"}`)["addr"]
	r = dial(t, addr.(string))
	if _, end := r.run("06 01 0A 04 000000001000 49 0978"); end != "846b00" {
		t.Errorf("a sale without registration after a restart: %s", end)
	}
	if st := p.must(`{"do":"status"}`); st["waiting"] != "command" {
		t.Errorf("status: %v", st)
	}
}
