package acquirer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// sim is Serve with its streams, as the command line runs it.
type sim struct {
	t     *testing.T
	in    *io.PipeWriter
	lines chan map[string]any
	done  chan error
	ready ready
}

func startSim(t *testing.T, o Options) *sim {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &sim{t: t, in: inW, lines: make(chan map[string]any, 256), done: make(chan error, 1)}
	go func() {
		s.done <- Serve(context.Background(), inR, outW, o)
		outW.Close()
	}()
	go func() {
		sc := bufio.NewScanner(outR)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			var v map[string]any
			if json.Unmarshal(sc.Bytes(), &v) != nil {
				v = map[string]any{"not json": true}
			}
			s.lines <- v
		}
		close(s.lines)
	}()
	first := s.next("ready")
	raw, _ := json.Marshal(first)
	_ = json.Unmarshal(raw, &s.ready)
	t.Cleanup(func() { inW.Close() })
	return s
}

// next returns the next line that has a member, and for "cmd" is a reply.
func (s *sim) next(member string) map[string]any {
	s.t.Helper()
	guard := time.NewTimer(time.Minute)
	defer guard.Stop()
	for {
		select {
		case v, ok := <-s.lines:
			if !ok {
				s.t.Fatal("the output ended")
			}
			if _, has := v[member]; has {
				return v
			}
		case <-guard.C:
			s.t.Fatalf("no line with %q", member)
		}
	}
}

func (s *sim) do(line string) map[string]any {
	s.t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
	return s.next("ok")
}

func (s *sim) dial() net.Conn {
	s.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.ready.CA)) {
		s.t.Fatal("no authority in the ready line")
	}
	conn, err := tls.Dial("tcp", s.ready.Addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a message in the ASCII form and reads one answer.
func ask(t *testing.T, conn net.Conn, m message) message {
	t.Helper()
	raw, err := asciiWire.encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := send(conn, raw); err != nil {
		t.Fatal(err)
	}
	body, err := readFrame(conn)
	if err != nil {
		t.Fatal(err)
	}
	a, err := asciiWire.decode(body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tokenSale is a sale by token, built by hand.
func tokenSale(stan, utc, reference string) message {
	m := message{mti: "0200", de: map[int][]byte{}}
	for id, v := range map[int]string{3: "000000", 4: "000000001000", 7: utc, 11: stan, 12: utc[4:], 13: utc[:4], 41: "TILL0001", 49: "978", 62: reference} {
		m.de[id] = []byte(v)
	}
	m.addTable("TK", "tok_1")
	return m
}

func TestServeSpeaksJSONLinesAndEndsWithItsInput(t *testing.T) {
	s := startSim(t, Options{})
	conn := s.dial()
	if a := ask(t, conn, tokenSale("000001", "1130120000", "pay_1")); a.mti != "0210" || a.text(39) != "00" || a.text(11) != "000001" {
		t.Fatalf("MTI %s code %s", a.mti, a.text(39))
	}
	if r := s.do(`{"cmd":"decline","code":"51"}`); r["ok"] != true {
		t.Fatal(r)
	}
	if a := ask(t, conn, tokenSale("000002", "1130120001", "pay_2")); a.text(39) != "51" {
		t.Fatalf("code %s", a.text(39))
	}
	r := s.do(`{"cmd":"books"}`)
	books := r["books"].(map[string]any)
	if books["authorisations"] != 1.0 || books["declined"] != 1.0 || books["double_charges"] != 0.0 {
		t.Errorf("books: %v", books)
	}
	for _, line := range []string{`not json`, `{"cmd":"dance"}`, `{"cmd":"late","on":"sunday"}`, `{"cmd":"decline"}`, `{"cmd":"pin"}`, `{"cmd":"initial_key","ksn":"x"}`} {
		if r := s.do(line); r["ok"] != false || r["error"] == "" {
			t.Errorf("%s: %v", line, r)
		}
	}
	if r := s.do(`{"cmd":"initial_key","ksn":"FFFF9876543210E00000"}`); len(r["key"].(string)) != 32 {
		t.Error("no initial key")
	}
	s.in.Close()
	select {
	case err := <-s.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("Serve does not end with its input")
	}
}

func TestHeldAnswerWaitsForItsRelease(t *testing.T) {
	s := startSim(t, Options{})
	conn := s.dial()
	s.do(`{"cmd":"hold"}`)
	raw, _ := asciiWire.encode(tokenSale("000001", "1130120000", "pay_1"))
	if err := send(conn, raw); err != nil {
		t.Fatal(err)
	}
	for {
		if e := s.next("event"); e["event"] == "request" {
			if e["fault"] != "hold" || e["reference"] != "pay_1" {
				t.Fatalf("event %v", e)
			}
			break
		}
	}
	if a := ask(t, conn, message{mti: "0800", de: map[int][]byte{11: []byte("000009"), 41: []byte("TILL0001"), 70: []byte("301")}}); a.mti != "0810" {
		t.Fatalf("%s: the held answer holds others, or did not wait", a.mti)
	}
	s.do(`{"cmd":"release"}`)
	body, err := readFrame(conn)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := asciiWire.decode(body); err != nil || a.mti != "0210" || a.text(39) != "00" {
		t.Errorf("%v", err)
	}
}

func TestHostRefusesWhatItCannotRead(t *testing.T) {
	s := startSim(t, Options{})
	conn := s.dial()
	for _, junk := range []string{"", "x", "0200", strings.Repeat("\xFF", 60)} {
		if err := send(conn, []byte(junk)); err != nil {
			t.Fatal(err)
		}
	}
	bad := tokenSale("000001", "1130120000", "pay_1")
	bad.de[4] = []byte("000000000000")
	if a := ask(t, conn, bad); a.text(39) != "13" {
		t.Errorf("amount zero: code %s", a.text(39))
	}
	bad = tokenSale("000002", "1130120000", "pay_1")
	bad.de[3] = []byte("990000")
	if a := ask(t, conn, bad); a.text(39) != "12" {
		t.Errorf("an unknown processing code: code %s", a.text(39))
	}
	if a := ask(t, conn, tokenSale("000003", "1130120000", "pay_1")); a.text(39) != "00" {
		t.Errorf("after all that: code %s", a.text(39))
	}
}
