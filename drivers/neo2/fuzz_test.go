package neo2

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"tillbridge/emv"
)

func seeds(f *testing.F) {
	for _, v := range vectorsOf(f) {
		b, _ := hex.DecodeString(v.Hex)
		f.Add(b)
	}
	f.Add([]byte{0xC0, 0xDF, 0xEE, 0x12, 0x0A, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x57, 0xC1, 8, 0x91, 0xAA, 0xFE, 1, 2, 3, 4, 5})
	f.Add([]byte{0x00, 0x02, 0x9F, 0x27, 1, 0x40, 0x9F, 0x02, 6, 0, 0, 0, 0, 0x10, 0})
}

func FuzzDecoder(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		whole, bytewise := Decoder{Dir: FromReader}, Decoder{Dir: FromReader}
		collect := func(d *Decoder) (out []string) {
			for range len(p) + 2 {
				f, ok, err := d.Next()
				if ok {
					wire, err := Append(nil, FromReader, f)
					if err != nil || !bytes.Contains(p, wire) {
						t.Fatalf("a frame that was not sent: %v", f)
					}
					out = append(out, string(wire))
				} else if err == nil {
					return out
				}
			}
			return out
		}
		whole.Feed(p)
		a := collect(&whole)
		var b []string
		for _, c := range p {
			bytewise.Feed([]byte{c})
			b = append(b, collect(&bytewise)...)
		}
		if !slices.Equal(a, b) {
			t.Fatalf("%d frames at once, %d byte by byte", len(a), len(b))
		}
	})
}

func FuzzReports(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		var r Reports
		for ; len(p) >= ReportSize; p = p[ReportSize:] {
			if w, ok := r.Feed(p[:ReportSize]); ok && len(w) < headSize+tailSize {
				t.Fatal("a frame that is too short")
			}
		}
		r.Feed(p)
	})
}

func FuzzObjects(f *testing.F) {
	seeds(f)
	set, _ := ParseSettings(nil)
	s := &session{d: &device{set: set}, terms: emv.Terms{Amounts: emv.Amounts{Amount: 1000, CurrencyNumeric: 978}, Time: time.Unix(0, 0).UTC()}}
	f.Fuzz(func(t *testing.T, p []byte) {
		w := Walk(p)
		n := 0
		for w.Next() {
			n += len(w.Raw())
		}
		if n > len(p) {
			t.Fatal("more than there is")
		}
		if len(p) > 1 {
			if c, err := readCard(Attribution(p[0]), p[1:], set); err == nil && (c.envelope.KSN == "" || c.envelope.Empty()) {
				t.Fatal("card data without KSN or ciphertext")
			}
		}
		if o, err := s.outcome(p, true); err == nil {
			agreed(&o, emv.Approved)
			if checkClear(o.Field55) != nil {
				t.Fatal("card data in field 55")
			}
		}
		failure(Frame{Data: p})
		for _, dev := range []bool{true, false} {
			for _, s := range (Driver{}).CardData(dev, p) {
				if s.Start < 0 || s.End > len(p) || s.Start > s.End {
					t.Fatalf("span %v of %d bytes", s, len(p))
				}
			}
			Driver{}.Describe(dev, p)
		}
	})
}
