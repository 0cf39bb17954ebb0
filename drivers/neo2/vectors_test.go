package neo2

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/frame"
)

type vector struct {
	Name   string `json:"name"`
	Hex    string `json:"hex"`
	Source string `json:"source"`
	LSB    *bool  `json:"crc_lsb_first"`
	MSB    *bool  `json:"crc_msb_first"`
}

type vectorFile struct {
	Protocol string   `json:"protocol"`
	Note     string   `json:"note"`
	Frames   []vector `json:"frames"`
}

func vectorsOf(t testing.TB) []vector {
	t.Helper()
	var all []vector
	for _, path := range vectortest.Files(t, "drivers", "idtech-neo2") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var f vectorFile
		if err := d.Decode(&f); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, f.Frames...)
	}
	return all
}

func TestVectorsNEO2(t *testing.T) {
	n := 0
	for _, v := range vectorsOf(t) {
		b, err := hex.DecodeString(strings.ReplaceAll(v.Hex, " ", ""))
		if err != nil || len(b) == 0 {
			t.Fatalf("%s: not hex", v.Name)
		}
		switch {
		case bytes.HasPrefix(b, []byte(tag)):
			serialVector(t, v, b)
		case len(b)%ReportSize == 0 && b[0] >= reportSingle && b[0] <= reportLast:
			reportVector(t, v, b)
		default:
			objectVector(t, v, b)
		}
		n++
	}
	vectortest.Ran(t, "idtech-neo2", n)
}

// serialVector decodes and encodes a frame in the directions that it says.
func serialVector(t *testing.T, v vector, b []byte) {
	t.Helper()
	matched := false
	for dir, says := range map[Direction]*bool{ToReader: v.LSB, FromReader: v.MSB} {
		f, err := Parse(dir, b)
		if says != nil && *says != (err == nil) {
			t.Errorf("%s: direction %d: %v; the vector says %v", v.Name, dir, err, *says)
		}
		if err != nil {
			continue
		}
		matched = true
		again, err := Append(nil, dir, f)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: encoded again it differs", v.Name)
		}
		for size := 1; size <= len(b); size++ {
			d := Decoder{Dir: dir}
			var got []Frame
			for p := b; len(p) > 0; p = p[min(size, len(p)):] {
				d.Feed(p[:min(size, len(p))])
				for {
					f, ok, err := d.Next()
					if err != nil {
						t.Fatalf("%s in pieces of %d: %v", v.Name, size, err)
					}
					if !ok {
						break
					}
					got = append(got, f)
				}
			}
			if len(got) != 1 || got[0].Command != f.Command || got[0].Code != f.Code || !bytes.Equal(got[0].Data, f.Data) {
				t.Errorf("%s in pieces of %d bytes: %v", v.Name, size, got)
			}
		}
	}
	if !matched && (v.LSB == nil || v.MSB == nil) {
		t.Errorf("%s: a frame of neither direction", v.Name)
	}
	if !matched {
		// Damaged on purpose: nothing may come of it.
		d := Decoder{Dir: FromReader}
		d.Feed(b)
		if _, ok, _ := d.Next(); ok {
			t.Errorf("%s: a broken frame was taken", v.Name)
		}
	}
}

func reportVector(t *testing.T, v vector, b []byte) {
	t.Helper()
	var r Reports
	var wires [][]byte
	for p := b; len(p) > 0; p = p[ReportSize:] {
		if w, ok := r.Feed(p[:ReportSize]); ok {
			wires = append(wires, append([]byte(nil), w...))
		}
	}
	if len(wires) == 0 && b[0] >= reportMiddle {
		return // without a first report it has to be skipped
	}
	if len(wires) == 0 && r.Partial() {
		return // the first of several
	}
	var again []byte
	for _, w := range wires {
		serialVector(t, v, w)
		again = AppendReports(again, w)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("%s: the reports of the same frame differ", v.Name)
	}
}

// objectVector is the data of a command: data objects, perhaps behind a byte.
func objectVector(t *testing.T, v vector, b []byte) {
	t.Helper()
	for lead := range 6 {
		if lead >= len(b) {
			break
		}
		again := append([]byte(nil), b[:lead]...)
		w := Walk(b[lead:])
		n := 0
		for w.Next() {
			again = append(again, w.Raw()...)
			n++
		}
		if w.Err() == nil && n > 0 && bytes.Equal(again, b) {
			for _, dir := range []Direction{ToReader, FromReader} {
				wire, err := Append(nil, dir, Frame{Command: 0x02, Code: 0x40, Data: b})
				if err != nil {
					t.Fatal(err)
				}
				if f, err := Parse(dir, wire); err != nil || !bytes.Equal(f.Data, b) {
					t.Errorf("%s: %v", v.Name, err)
				}
			}
			return
		}
	}
	t.Errorf("%s: neither frame, report nor data objects", v.Name)
}

// The two worked examples of the guide's page, spelled out.
func TestChecksumOrderByDirection(t *testing.T) {
	ping, err := Append(nil, ToReader, Frame{Command: 0x18, Code: 0x01})
	if err != nil || hex.EncodeToString(ping[14:]) != "b3cd" {
		t.Errorf("ping ends in %x", ping[14:])
	}
	pong, err := Append(nil, FromReader, Frame{Command: 0x18, Code: 0x00})
	if err != nil || hex.EncodeToString(pong[14:]) != "fa83" {
		t.Errorf("its answer ends in %x", pong[14:])
	}
	if _, err := Parse(FromReader, ping); !errors.Is(err, ErrChecksum) {
		t.Errorf("a command taken as an answer: %v", err)
	}
	if frame.CCITTFalse.Sum(ping[:14]) != 0xCDB3 {
		t.Error("checksum")
	}
}

// A report's frame may end in a checksum byte 00: the header decides where.
func TestReportsDoNotTrimZeros(t *testing.T) {
	found := false
	for i := range 70000 {
		f := Frame{Command: 0x29, Code: 0, Data: []byte{byte(i), byte(i >> 8), byte(i >> 16)}}
		wire, _ := Append(nil, FromReader, f)
		if wire[len(wire)-1] != 0 {
			continue
		}
		found = true
		var r Reports
		got, ok := r.Feed(AppendReports(nil, wire))
		if !ok || !bytes.Equal(got, wire) {
			t.Fatalf("frame with a last byte of 00: %x", got)
		}
		break
	}
	if !found {
		t.Fatal("no such frame")
	}
}

func TestReportsOfLongFrames(t *testing.T) {
	for n := range 400 {
		wire, _ := Append(nil, FromReader, Frame{Command: 2, Code: 0, Data: bytes.Repeat([]byte{0xA5}, n)})
		reports := AppendReports(nil, wire)
		var r Reports
		if _, ok := r.Feed(append([]byte{reportLast}, make([]byte, reportData)...)); ok {
			t.Fatal("a last report without a first")
		}
		done := 0
		for p := reports; len(p) > 0; p = p[ReportSize:] {
			if got, ok := r.Feed(p[:ReportSize]); ok {
				if done++; !bytes.Equal(got, wire) {
					t.Fatalf("%d bytes of data come back differently", n)
				}
			}
		}
		if done != 1 {
			t.Fatalf("%d bytes of data: %d frames", n, done)
		}
	}
}

// A length that lies, and half a frame, do not hide the frame behind them.
func TestDecoderFindsTheFrameBehindDamage(t *testing.T) {
	good, _ := Append(nil, FromReader, Frame{Command: 0x18})
	for name, before := range map[string][]byte{
		"noise":        {0x00, 0x56, 0x69, 0xFF},
		"half a tag":   []byte(tag[:7]),
		"lying length": append([]byte(tag), 0x02, 0x00, 0x00, 0x20),
		"huge length":  append([]byte(tag), 0x02, 0x00, 0xFF, 0xFF),
		"bad checksum": append(append([]byte(nil), good[:15]...), good[15]^1),
	} {
		t.Run(name, func(t *testing.T) {
			d := Decoder{Dir: FromReader}
			d.Feed(append(append([]byte(nil), before...), good...))
			got := 0
			for range 100 {
				f, ok, err := d.Next()
				if ok && f.Command == 0x18 {
					got++
				}
				if !ok && err == nil {
					if !d.Partial() {
						break
					}
					d.Drop()
				}
			}
			if got != 1 {
				t.Errorf("%d frames found", got)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	f := Frame{Command: 0x02, Code: 0x40, Data: bytes.Repeat([]byte{0x9F}, 60)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Append(make([]byte, 0, 128), ToReader, f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	wire, _ := Append(nil, FromReader, Frame{Command: 0x02, Code: 0x23, Data: bytes.Repeat([]byte{0x9F}, 96)})
	d := Decoder{Dir: FromReader}
	b.ReportAllocs()
	for b.Loop() {
		d.Feed(wire)
		if _, ok, err := d.Next(); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReports(b *testing.B) {
	wire, _ := Append(nil, FromReader, Frame{Command: 0x02, Code: 0x23, Data: bytes.Repeat([]byte{0x9F}, 180)})
	var r Reports
	out := AppendReports(nil, wire)
	b.ReportAllocs()
	for b.Loop() {
		out = AppendReports(out[:0], wire)
		for p := out; len(p) > 0; p = p[ReportSize:] {
			r.Feed(p[:ReportSize])
		}
	}
}
