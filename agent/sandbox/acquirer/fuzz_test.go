package acquirer

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// FuzzDecode: no input panics, an accepted message encodes to one with the
// same values, and the host answers it or refuses it.
func FuzzDecode(f *testing.F) {
	for _, m := range []message{tokenSale("000001", "1130120000", "pay_1"),
		{mti: "0800", de: map[int][]byte{11: []byte("000009"), 41: []byte("TILL0001"), 70: []byte("301")}},
		{mti: "0420", de: map[int][]byte{4: []byte("000000001000"), 11: []byte("000002"), 41: []byte("TILL0001"), 90: bytes.Repeat([]byte("0"), 42)}}} {
		raw, err := asciiWire.encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)-3])
	}
	for _, s := range []string{"", "6000010000", "60000100000200302000000080000000000000000000010000001122334455", "30", "3032303080"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	books, err := OpenBooks("")
	if err != nil {
		f.Fatal(err)
	}
	ks, err := newKeys(NewKeys())
	if err != nil {
		f.Fatal(err)
	}
	h := &Host{books: books, keys: ks, log: quiet, now: time.Now, events: func(Event) {}, pins: map[string]string{}, gate: make(chan struct{})}
	f.Fuzz(func(t *testing.T, b []byte) {
		form := formOf(b)
		m, err := form.decode(b)
		if err != nil {
			return
		}
		raw, err := form.encode(m)
		if err != nil {
			t.Fatalf("decoded and not encoded: %v", err)
		}
		n, err := form.decode(raw)
		if err != nil || len(n.de) != len(m.de) {
			t.Fatalf("encoded and not decoded: %v", err)
		}
		for id, v := range m.de {
			if !bytes.Equal(v, n.de[id]) {
				t.Errorf("DE%d changed", id)
			}
		}
		if m.check() != nil {
			return
		}
		if a, _, err := h.handle(m, nil); err == nil {
			if _, err := form.encode(a); err != nil {
				t.Errorf("an answer that cannot be written: %v", err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	raw, err := asciiWire.encode(tokenSale("000001", "1130120000", "pay_1"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := asciiWire.decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}
