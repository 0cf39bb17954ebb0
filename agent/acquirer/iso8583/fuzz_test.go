package iso8583

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"tillbridge/emv"
)

// seeds are messages of both dialects and the edges of the codec.
func seeds(f *testing.F) {
	for _, name := range []string{"ascii87", "bcd87"} {
		d, err := Named(name)
		if err != nil {
			f.Fatal(err)
		}
		r := tokenSale(7)
		r.Time = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
		r.Reference, r.Entry, r.Field55 = "pay_1", emv.EntryContact, []byte{0x9F, 0x26, 1, 0}
		m, _, err := d.authorize(r, "sale", 0, "")
		if err != nil {
			f.Fatal(err)
		}
		raw, err := d.codec.Pack(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
		f.Add(append(raw, 0))
	}
	for _, s := range []string{"", "30", "3032303080000000000000008000000000000000", "6000010000020020000000000000000000000", "303830300000000000000000"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
}

// FuzzUnpack: no input panics, an accepted message packs again to a message
// with the same values, and no error shows what it read.
func FuzzUnpack(f *testing.F) {
	seeds(f)
	var codecs []*Codec
	for _, name := range []string{"ascii87", "bcd87"} {
		d, _ := Named(name)
		codecs = append(codecs, d.codec)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range codecs {
			m, err := c.Unpack(b)
			if err != nil {
				continue
			}
			_ = m.Check()
			tables := foreignTables(m.Fields[63])
			if again, err := AppendTables(nil, tables); err != nil || len(tables) > 0 && !bytes.Equal(again, m.Fields[63]) {
				t.Error("tables do not pack again")
			}
			_, _ = result(m, 100, time.Unix(0, 0))
			_, _ = finding(m, 100, time.Unix(0, 0))
			raw, err := c.Pack(m)
			if err != nil {
				t.Fatalf("accepted and not packed: %v", err)
			}
			n, err := c.Unpack(raw)
			if err != nil || len(n.Fields) != len(m.Fields) {
				t.Fatalf("packed and not accepted: %v", err)
			}
			for id, v := range m.Fields {
				if !bytes.Equal(v, n.Fields[id]) {
					t.Errorf("DE%d changed", id)
				}
			}
		}
	})
}

func FuzzLengthHeader(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2})
	f.Add([]byte("0004abcd"))
	f.Add([]byte{0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, h := range []LengthHeader{{}, {Kind: "ascii"}, {Kind: "bcd", Inclusive: true}} {
			body, err := h.read(bytes.NewReader(b), 4096)
			if err != nil {
				continue
			}
			head, err := h.append(nil, len(body))
			if err != nil || !bytes.HasPrefix(b, append(head, body...)) {
				t.Errorf("%+v: not the same again", h)
			}
		}
	})
}

func BenchmarkPack(b *testing.B) {
	for _, name := range []string{"ascii87", "bcd87"} {
		b.Run(name, func(b *testing.B) {
			d, _ := Named(name)
			r := tokenSale(7)
			r.Field55 = make([]byte, 150)
			b.ReportAllocs()
			for b.Loop() {
				m, _, err := d.authorize(r, "sale", 0, "")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := d.codec.Pack(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, name := range []string{"ascii87", "bcd87"} {
		b.Run(name, func(b *testing.B) {
			d, _ := Named(name)
			r := tokenSale(7)
			r.Field55 = make([]byte, 150)
			m, _, err := d.authorize(r, "sale", 0, "")
			if err != nil {
				b.Fatal(err)
			}
			raw, err := d.codec.Pack(m)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.codec.Unpack(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
