package abecs

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers/frame"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
)

// The host of these tests is a few lines: it frames, waits and compares. It is
// not the driver.

var hostKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var testCards = sync.OnceValue(func() map[string]*virtualcard.Card {
	cards := map[string]*virtualcard.Card{}
	for _, name := range []string{"visa-credit", "mastercard-credit", "no-cvm", "declining", "blocked", "no-pse", "elo-credit"} {
		p, err := virtualcard.Named(name)
		if err != nil {
			panic(err)
		}
		p.ODA = virtualcard.ODANone // RSA chains are slow to make and not used here
		if cards[name], err = virtualcard.New(&virtualcard.Options{Seed: 7}, p); err != nil {
			panic(err)
		}
	}
	return cards
})

// testBase is the acquirer's base key; the pad gets what is derived from it.
var testBase = sync.OnceValue(func() *bdk.Base {
	key, _ := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	b, err := bdk.New(p2pe.SchemeTDESDUKPT, key)
	if err != nil {
		panic(err)
	}
	return b
})

const (
	pinKSN  = "FFFF9876543210E00000"
	dataKSN = "FFFF9876543211E00000"
)

func testKeys(t testing.TB) []InitialKey {
	t.Helper()
	var keys []InitialKey
	for _, k := range []struct{ use, ksn string }{{"pin", pinKSN}, {"data", dataKSN}} {
		initial, err := testBase().Initial(p2pe.KSN(k.ksn))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, InitialKey{Use: k.use, Slot: 2, KSN: k.ksn, Key: hex.EncodeToString(initial)})
	}
	return keys
}

func newPad(t testing.TB, o Options) *Pad {
	t.Helper()
	if o.Keys == nil {
		o.Keys = testKeys(t)
	}
	if o.Cards == nil {
		o.Cards = testCards()
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// host is the other end of the line.
type host struct {
	t    testing.TB
	line io.ReadWriteCloser
	in   chan byte
	ch   *channel
}

// join connects a pad and a host in memory, inside the caller's bubble if
// there is one.
func join(t testing.TB, p *Pad) *host {
	t.Helper()
	a, b := duplex()
	done := make(chan struct{})
	go func() { p.Run(t.Context(), b); close(done) }()
	h := newHost(t, a)
	t.Cleanup(func() { a.Close(); <-done })
	return h
}

func newHost(t testing.TB, line io.ReadWriteCloser) *host {
	h := &host{t: t, line: line, in: make(chan byte, 1<<16)}
	go func() {
		defer close(h.in)
		b := make([]byte, 4096)
		for {
			n, err := line.Read(b)
			for _, c := range b[:n] {
				h.in <- c
			}
			if err != nil {
				return
			}
		}
	}()
	return h
}

// duplex is a pair of buffered streams.
func duplex() (io.ReadWriteCloser, io.ReadWriteCloser) {
	x, y := newStream(), newStream()
	return &side{x, y}, &side{y, x}
}

type stream struct {
	mu   sync.Mutex
	cond *sync.Cond
	b    []byte
	end  bool
}

func newStream() *stream { s := &stream{}; s.cond = sync.NewCond(&s.mu); return s }

type side struct{ in, out *stream }

func (s *side) Read(p []byte) (int, error) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	for len(s.in.b) == 0 && !s.in.end {
		s.in.cond.Wait()
	}
	if len(s.in.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in.b)
	s.in.b = s.in.b[n:]
	return n, nil
}

func (s *side) Write(p []byte) (int, error) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.end {
		return 0, io.ErrClosedPipe
	}
	s.out.b = append(s.out.b, p...)
	s.out.cond.Broadcast()
	return len(p), nil
}

func (s *side) Close() error {
	for _, x := range []*stream{s.in, s.out} {
		x.mu.Lock()
		x.end = true
		x.cond.Broadcast()
		x.mu.Unlock()
	}
	return nil
}

func (h *host) byte(within time.Duration) (byte, bool) {
	select {
	case c, ok := <-h.in:
		return c, ok
	case <-time.After(within):
		return 0, false
	}
}

// packet reads one packet or control byte.
func (h *host) packet(within time.Duration) (payload []byte, control byte, err error) {
	var d frame.DC3
	for {
		c, ok := h.byte(within)
		if !ok {
			return nil, 0, fmt.Errorf("nothing within %v", within)
		}
		_, ev, err := d.Feed([]byte{c})
		switch {
		case err != nil:
			return nil, 0, err
		case ev == frame.Message:
			return append([]byte(nil), d.Payload()...), 0, nil
		case ev != frame.None:
			return nil, c, nil
		}
	}
}

// say sends a command and wants its acknowledgement.
func (h *host) say(clear []byte) {
	h.t.Helper()
	p := clear
	if h.ch != nil {
		p = h.ch.seal(clear)
	}
	h.line.Write(frame.AppendDC3(nil, p))
	if _, c, err := h.packet(5 * time.Second); err != nil || c != frame.ByteACK {
		h.t.Fatalf("%.3s: acknowledgement %02X, %v", clear, c, err)
	}
}

// hear waits for the response; notifications on the way are collected.
func (h *host) hear(id string) (st string, l params, block []byte) {
	h.t.Helper()
	for {
		p, c, err := h.packet(10 * time.Minute)
		if err != nil || c != 0 {
			h.t.Fatalf("%s: response: control %02X, %v", id, c, err)
		}
		if len(p) > 0 && p[0] == secureMark {
			if p, err = h.ch.open(p); err != nil {
				h.t.Fatalf("%s: %v", id, err)
			}
		}
		if strings.HasPrefix(string(p), "NTM000032") && len(p) == 41 {
			continue
		}
		if len(p) < 6 || string(p[:3]) != id && string(p[:3]) != "ERR" {
			h.t.Fatalf("%s: answered by %q", id, p[:min(len(p), 6)])
		}
		r, err := parseCommand(append([]byte(id), p[6:]...))
		if err != nil {
			h.t.Fatalf("%s: blocks of the response: %v", id, err)
		}
		if len(r.blocks) > 0 {
			block = r.blocks[0]
			l, _ = r.params()
		}
		return string(p[:6]), l, block
	}
}

func (h *host) ask(clear []byte) (string, params, []byte) {
	h.t.Helper()
	h.say(clear)
	return h.hear(string(clear[:3]))
}

// with builds a command of parameters.
func with(id string, l ...param) []byte {
	var b []byte
	for _, p := range l {
		b = append(b, byte(p.id>>8), byte(p.id), byte(len(p.value)>>8), byte(len(p.value)))
		b = append(b, p.value...)
	}
	return append(fmt.Appendf(nil, "%s%03d", id, len(b)), b...)
}

func txt(id uint16, v string) param { return param{id, []byte(v)} }

// cancel is CAN and EOT.
func (h *host) cancel() {
	h.t.Helper()
	h.line.Write([]byte{frame.ByteCAN})
	for {
		_, c, err := h.packet(5 * time.Second)
		if err != nil {
			h.t.Fatalf("no EOT: %v", err)
		}
		if c == frame.ByteEOT {
			return
		}
	}
}

// secure opens the pad with a channel.
func (h *host) secure() {
	h.t.Helper()
	h.ch = nil
	k := hostKey()
	cmd := fmt.Appendf(nil, "OPN5230256%0512X3%06X", k.N, k.E)
	st, _, block := h.ask(cmd)
	if st != "OPN000" || len(block) != 515 || string(block[:3]) != "256" {
		h.t.Fatalf("OPN: %s, %d characters", st, len(block))
	}
	c, ok := new(big.Int).SetString(string(block[3:]), 16)
	if !ok {
		h.t.Fatal("OPN: no hex")
	}
	m := new(big.Int).Exp(c, k.D, k.N).FillBytes(make([]byte, 256))
	if m[0] != 0 || m[1] != 2 || m[239] != 0 {
		h.t.Fatal("OPN: no PKCS #1 block of type 2 with 16 bytes")
	}
	ch, err := newChannel(m[240:])
	if err != nil {
		h.t.Fatal(err)
	}
	h.ch = ch
}
