package neo2

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/virtual/port"
	"tillbridge/emv/virtualcard"
)

// host is a host of the test's own: bytes by hand, checksum bit by bit.
type host struct {
	t   *testing.T
	c   io.ReadWriter
	hid bool
	buf []byte
}

func crc(b []byte) uint16 {
	v := uint16(0xFFFF)
	for _, c := range b {
		v ^= uint16(c) << 8
		for range 8 {
			if v&0x8000 != 0 {
				v = v<<1 ^ 0x1021
			} else {
				v <<= 1
			}
		}
	}
	return v
}

func (h *host) send(cmd, sub byte, data string) {
	h.t.Helper()
	d, err := hex.DecodeString(data)
	if err != nil {
		h.t.Fatal(err)
	}
	b := append([]byte("ViVOtech2\x00"), cmd, sub, byte(len(d)>>8), byte(len(d)))
	b = append(b, d...)
	v := crc(b)
	b = append(b, byte(v), byte(v>>8))
	if !h.hid {
		h.c.Write(b)
		return
	}
	for _, p := range reports(b) {
		h.c.Write(p)
	}
}

// answer reads one frame: status and data.
func (h *host) answer(cmd byte) (byte, string) {
	h.t.Helper()
	for {
		if i := bytes.Index(h.buf, []byte("ViVOtech2\x00")); i >= 0 {
			h.buf = h.buf[i:]
			if len(h.buf) >= 16 {
				n := 16 + int(h.buf[12])<<8 + int(h.buf[13])
				if len(h.buf) >= n {
					f := h.buf[:n]
					h.buf = append([]byte(nil), h.buf[n:]...)
					v := crc(f[:n-2])
					if f[n-2] != byte(v>>8) || f[n-1] != byte(v) {
						h.t.Fatal("checksum")
					}
					if f[10] != cmd {
						h.t.Fatalf("an answer to %02X, want %02X", f[10], cmd)
					}
					return f[11], hex.EncodeToString(f[14 : n-2])
				}
			}
		}
		p := make([]byte, 64)
		n, err := h.c.Read(p)
		if err != nil {
			h.t.Fatalf("the line ended: %v", err)
		}
		if p = p[:n]; h.hid {
			p = p[1:]
		}
		h.buf = append(h.buf, p...)
	}
}

func (h *host) ask(cmd, sub byte, data string) (byte, string) {
	h.t.Helper()
	h.send(cmd, sub, data)
	return h.answer(cmd)
}

func testKey() *InitialKey {
	return &InitialKey{KSN: "FFFF9876543211E00000", Key: "0123456789ABCDEF0011223344556677"}
}

var testCard = sync.OnceValue(func() *virtualcard.Card {
	p, err := virtualcard.Named("visa-credit")
	if err != nil {
		panic(err)
	}
	p.ODA = virtualcard.ODANone
	c, err := virtualcard.New(&virtualcard.Options{Seed: 5}, p)
	if err != nil {
		panic(err)
	}
	return c
})

func cards() map[string]*virtualcard.Card {
	return map[string]*virtualcard.Card{"visa": testCard()}
}

const tenEuros = "9f0206000000001000" + "9f0306000000000000" + "9c0100" + "5f2a020978" + "9a03261130" + "9f2103210509"

// on plays a reader in a bubble.
func on(t *testing.T, o Options, f func(t *testing.T, r *Reader, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if o.Key == nil {
			o.Key = testKey()
		}
		o.Cards = cards()
		r, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		far, near := drivertest.Pipe(drivertest.PipeOptions{})
		done := make(chan struct{})
		go func() { defer close(done); r.Run(context.Background(), near.Stream()) }()
		f(t, r, &host{t: t, c: far.Stream(), hid: o.HID})
		far.Close()
		<-done
	})
}

func do(t *testing.T, r *Reader, list ...Step) {
	t.Helper()
	for _, s := range list {
		if err := r.Do(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChipInThreePhases(t *testing.T) {
	for name, hid := range map[string]bool{"serial": false, "hid": true} {
		t.Run(name, func(t *testing.T) {
			on(t, Options{HID: hid}, func(t *testing.T, r *Reader, h *host) {
				do(t, r, Step{Do: "insert", Card: "visa", AfterMS: 700})
				if st, _ := h.ask(0x60, 0x11, "01"); st != statNotAllowed {
					t.Errorf("60-11 before 60-10: %02X", st)
				}
				if st, _ := h.ask(0x60, 0x10, "01003c003c"+tenEuros); st != statAccepted {
					t.Fatalf("60-10: %02X", st)
				}
				st, data := h.answer(0x60)
				if st != statOK || !strings.Contains(data, "dfee2601c0") || !strings.Contains(data, "dfee120affff9876543211e00001") {
					t.Fatalf("60-10: %02X", st)
				}
				if strings.Contains(data, testCard().PAN()) {
					t.Fatal("the number leaves the reader in the clear")
				}
				h.ask(0x60, 0x11, "01")
				if st, data = h.answer(0x60); st != statOK || !strings.HasPrefix(data, "0004") || !strings.Contains(data, "9f0206000000001000") || !strings.Contains(data, "9f270180") {
					t.Fatalf("60-11: %02X %.4s", st, data)
				}
				if st, _ := h.ask(0x60, 0x11, "01"); st != statNotAllowed {
					t.Errorf("60-11 again: %02X", st)
				}
				h.ask(0x60, 0x12, "008a023030")
				if st, data = h.answer(0x60); st != statOK || !strings.HasPrefix(data, "0002") || !strings.Contains(data, "9f270140") {
					t.Fatalf("60-12: %02X %.4s", st, data)
				}
				if st, _ := h.ask(0x60, 0x12, "008a023030"); st != statNotAllowed {
					t.Errorf("60-12 again: %02X", st)
				}
				b := r.Books()
				if len(b) != 1 || b[0].Amount != 1000 || b[0].Final != "approved" || strings.Contains(b[0].Card, testCard().PAN()) {
					t.Errorf("%+v", b)
				}
			})
		})
	}
}

func TestTapSwipeAndWhatIsOffered(t *testing.T) {
	on(t, Options{}, func(t *testing.T, r *Reader, h *host) {
		do(t, r, Step{Do: "tap", Card: "visa"})
		st, data := h.ask(0x02, 0x40, "0a"+tenEuros+"dfef370107")
		if st != statOnline || !strings.HasPrefix(data, "c1") || !strings.Contains(data, "9f2608") {
			t.Fatalf("tap: %02X %.2s", st, data)
		}
		do(t, r, Step{Do: "tap", Card: "visa"}, Step{Do: "swipe", Card: "visa"})
		st, data = h.ask(0x02, 0x40, "0a"+tenEuros+"dfef370101") // the tap is not offered
		if st != statOK || !strings.HasPrefix(data, "c8dfee23") || strings.Contains(data, testCard().PAN()) ||
			strings.Contains(data, hex.EncodeToString([]byte(testCard().PAN()))) {
			t.Fatalf("swipe: %02X %.8s", st, data)
		}
		if b := r.Books(); len(b) != 1 {
			t.Errorf("%+v", b)
		}
	})
}

func TestWaitingCanBeCancelledAndEnds(t *testing.T) {
	on(t, Options{}, func(t *testing.T, r *Reader, h *host) {
		h.send(0x02, 0x40, "0a"+tenEuros)
		synctest.Wait()
		if r.Waiting() != "card" {
			t.Fatal("it does not wait")
		}
		if st, _ := h.ask(0x18, 0x01, ""); st != statOK {
			t.Errorf("ping while it waits: %02X", st)
		}
		if st, _ := h.ask(0x29, 0x00, ""); st != statNotAllowed {
			t.Errorf("another command while it waits: %02X", st)
		}
		if st, _ := h.ask(0x05, 0x01, ""); st != statOK {
			t.Errorf("cancel: %02X", st)
		}
		if st, _ := h.answer(0x02); st != statFailed {
			t.Errorf("what was cancelled: %02X", st)
		}
		if st, _ := h.ask(0x02, 0x40, "0a"+tenEuros); st != statTimeout {
			t.Errorf("nobody: %02X", st)
		}
		do(t, r, Step{Do: "walk-away"})
		if st, _ := h.ask(0x02, 0x40, "0a"+tenEuros); st != statTimeout {
			t.Errorf("walked away: %02X", st)
		}
	})
}

func TestUnknownAndMalformed(t *testing.T) {
	on(t, Options{}, func(t *testing.T, r *Reader, h *host) {
		for _, c := range []struct {
			cmd, sub byte
			data     string
			want     byte
		}{
			{0x77, 0x01, "", statCommand}, {0x18, 0x09, "", statSub}, {0x60, 0x10, "00", statParameter}, {0x60, 0x10, "00003c003c9f0206000000001000", statParameter},
			{0x02, 0x40, "", statParameter}, {0xC7, 0x36, "", statParameter},
		} {
			if st, _ := h.ask(c.cmd, c.sub, c.data); st != c.want {
				t.Errorf("%02X-%02X %s: %02X, want %02X", c.cmd, c.sub, c.data, st, c.want)
			}
		}
		b := append([]byte("ViVOtech2\x00"), 0x18, 0x01, 0, 0, 0x12, 0x34)
		h.c.Write(b)
		if st, _ := h.answer(0x18); st != statCRC {
			t.Errorf("wrong checksum: %02X", st)
		}
		h.c.Write([]byte("ViVOtech2\x00\x18\x01\x00")) // and then silence
		time.Sleep(time.Second)
		if st, _ := h.ask(0x18, 0x01, ""); st != statOK {
			t.Errorf("ping behind half a frame: %02X", st)
		}
	})
}

// A key is used once, also over a restart of the process.
func TestKSNNeverComesBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	seen := map[string]bool{}
	for range 3 {
		on(t, Options{State: file}, func(t *testing.T, r *Reader, h *host) {
			for range 2 {
				do(t, r, Step{Do: "tap", Card: "visa"})
				_, data := h.ask(0x02, 0x40, "0a"+tenEuros)
				i := strings.Index(data, "dfee120a")
				if i < 0 {
					t.Fatal("no KSN")
				}
				ksn := data[i+8 : i+28]
				if seen[ksn] {
					t.Errorf("KSN %s again", ksn)
				}
				seen[ksn] = true
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, []byte("0123456789ABCDEF0011223344556677")) {
		t.Error("the initial key stays in the file")
	}
}

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

// The published frames, from the reader's side: commands are understood and
// answered by the published answer.
func TestVectorsNEO2Reader(t *testing.T) {
	type vector struct {
		Name, Hex, Source string
		LSB               *bool `json:"crc_lsb_first"`
		MSB               *bool `json:"crc_msb_first"`
	}
	n := 0
	for _, path := range vectortest.Files(t, "drivers", "idtech-neo2") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var f struct{ Frames []vector }
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		for _, v := range f.Frames {
			n++
			wire, err := hex.DecodeString(v.Hex)
			if err != nil {
				t.Fatalf("%s: not hex", v.Name)
			}
			rx := receiver{hid: !bytes.HasPrefix(wire, []byte(header))}
			if rx.hid && (len(wire)%64 != 0 || wire[0] < 1 || wire[0] > 4) {
				continue // data of a command
			}
			var got []command
			step := len(wire)
			if rx.hid {
				step = 64
			}
			for p := wire; len(p) > 0; p = p[step:] {
				got = append(got, rx.take(p[:step], time.Time{})...)
			}
			if len(got) != 1 {
				if !rx.hid || wire[0] == 1 {
					t.Errorf("%s: %d commands", v.Name, len(got))
				}
				continue
			}
			isCommand := !got[0].bad
			if v.LSB != nil && *v.LSB != isCommand {
				t.Errorf("%s: taken as a command: %v", v.Name, isCommand)
			}
			if !isCommand { // an answer: ours has the same bytes
				again := answerBytes(got[0].cmd, got[0].sub, got[0].data)
				if rx.hid {
					again = bytes.Join(reports(again), nil)
				}
				if (v.MSB == nil || *v.MSB) && !bytes.Equal(again, wire) {
					t.Errorf("%s: our answer differs", v.Name)
				}
			}
		}
	}
	vectortest.Ran(t, "idtech-neo2", n)
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte("ViVOtech2\x00\x18\x01\x00\x00\xB3\xCD"), true)
	f.Add([]byte("ViVOtech2\x00\x18\x01\xFF\x00\xB3\xCD"), false)
	f.Fuzz(func(t *testing.T, p []byte, hid bool) {
		rx := receiver{hid: hid}
		step := 7
		if hid {
			step = 64
		}
		n := 0
		for len(p) > 0 {
			k := min(step, len(p))
			n += len(rx.take(p[:k], time.Time{}))
			p = p[k:]
		}
		if len(rx.buf) > maxFrame+step {
			t.Fatalf("%d bytes held, %d frames", len(rx.buf), n)
		}
	})
}

// A reader on a line that a test holds: a ping is answered.
func ExampleReader_Run() {
	r, err := New(Options{Auto: "visa"})
	if err != nil {
		fmt.Println(err)
		return
	}
	far, near := net.Pipe()
	done := make(chan error)
	go func() { done <- r.Run(context.Background(), near) }()
	far.Write([]byte("ViVOtech2\x00\x18\x01\x00\x00\xB3\xCD"))
	answer := make([]byte, 16)
	io.ReadFull(far, answer)
	fmt.Printf("% X\n", answer[10:])
	far.Close()
	fmt.Println(<-done)
	// Output:
	// 18 00 00 00 FA 83
	// <nil>
}
