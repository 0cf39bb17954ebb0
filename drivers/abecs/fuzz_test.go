package abecs

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"tillbridge/drivers/frame"
	"tillbridge/emv"
)

func seeds(f *testing.F) {
	for _, file := range loadVectors(f) {
		for _, v := range file.Frames {
			b, _ := hex.DecodeString(v.Hex)
			var d frame.DC3
			if d.Feed(b); len(d.Payload()) > 0 {
				b = d.Payload()
			}
			f.Add(bytes.Clone(b))
		}
	}
	f.Add([]byte("GOX000999"))
	f.Add([]byte("GIX000004\x80\x01\xFF\xFF"))
	b := chipBook()
	for _, a := range [][]byte{b.gcx, b.gtk, b.gox, b.fcx, b.gpn} {
		f.Add(a)
	}
}

func FuzzParse(f *testing.F) {
	seeds(f)
	s := &session{terms: tenEuros(), d: &device{}}
	f.Fuzz(func(t *testing.T, p []byte) {
		if r, err := ParseRequest(p); err == nil {
			var blocks [][]byte
			for i := range r.Blocks() {
				blocks = append(blocks, r.Block(i))
			}
			if again, err := AppendCommand(nil, r.Name.String(), blocks...); err == nil && !bytes.Equal(again, p) {
				t.Fatalf("built again differs")
			}
			CheckCommand(p)
		}
		r, err := Parse(p)
		if err != nil {
			return
		}
		for param, err := range r.Params() {
			if err != nil {
				break
			}
			if _, ok := r.Find(param.ID); !ok {
				t.Fatalf("parameter %s is walked and not found", param.ID)
			}
		}
		envelopeOf(r)
		if o, err := s.goxOutcome(r, tenEuros().Amounts); err == nil && o.Decision == "" {
			t.Fatal("an outcome without a decision")
		}
		s.fcxOutcome(r, emv.HostResponse{})
		s.cardOf(r)
	})
}

func FuzzChannel(f *testing.F) {
	key, _ := hex.DecodeString("db3b4d015432ab3223555a1f81759a94")
	c, err := NewChannel(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("GIX014\x00\x01\x00\x0a"))
	f.Add(c.AppendSealed(nil, []byte("OPN")))
	f.Fuzz(func(t *testing.T, p []byte) {
		c.AppendOpened(nil, p)
		if len(p) > MaxPacket {
			return
		}
		if got, err := c.AppendOpened(nil, c.AppendSealed(nil, p)); err != nil || !bytes.Equal(got, p) {
			t.Fatalf("%X, %v", got, err)
		}
	})
}

func benchGOX() []Param {
	s := &session{d: &device{set: Settings{CustomerWait: time.Minute}}, acquirer: "01", terms: tenEuros()}
	return s.gox(tenEuros().Amounts)
}

func BenchmarkEncodeGOX(b *testing.B) {
	p := benchGOX()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendParams(make([]byte, 0, 256), "GOX", p...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeGOX(b *testing.B) {
	packet := chipBook().gox
	b.ReportAllocs()
	for b.Loop() {
		r, err := Parse(packet)
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := r.Find(EMVDataOut); !ok {
			b.Fatal("no data")
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	c, _ := NewChannel(make([]byte, 16))
	packet, _ := AppendParams(nil, "GOX", benchGOX()...)
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		dst = c.AppendSealed(dst[:0], packet)
	}
}

func BenchmarkOpen(b *testing.B) {
	c, _ := NewChannel(make([]byte, 16))
	packet := c.AppendSealed(nil, chipBook().gox)
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.AppendOpened(dst[:0], packet); err != nil {
			b.Fatal(err)
		}
	}
}
