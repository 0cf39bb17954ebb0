package zvt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/frame"
)

type vectorFile struct {
	Frames []struct {
		Direction string `json:"direction"`
		APDU      string `json:"apdu"`
		Source    string `json:"source"`
		Kind      string `json:"kind"`
		Complete  *bool  `json:"complete"`
		Serial    string `json:"serial_frame_computed"`
	} `json:"frames"`
}

// TestVectorsZVT reads every frame in both directions: as it comes on TCP and
// on the serial line, and written again from what was read.
func TestVectorsZVT(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "drivers", "zvt") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v vectorFile
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		for i, f := range v.Frames {
			n++
			name := fmt.Sprintf("frame %d (%.40s)", i, f.APDU)
			raw, err := hex.DecodeString(f.APDU)
			if err != nil || f.Complete == nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !*f.Complete {
				incomplete(t, name, raw)
				continue
			}
			complete(t, name, raw)
			if f.Serial != "" {
				serial(t, name, raw, f.Serial)
			}
		}
	}
	vectortest.Ran(t, "zvt", n)
}

func complete(t *testing.T, name string, raw []byte) {
	t.Helper()
	a, used, err := Scan(raw)
	if err != nil || used != len(raw) {
		t.Errorf("%s: read %d of %d bytes: %v", name, used, len(raw), err)
		return
	}
	if got := Append(nil, a.Command, a.Data); !bytes.Equal(got, raw) {
		t.Errorf("%s: written again as %x", name, got)
	}
	// In every split and byte by byte.
	for cut := range raw {
		var r Reassembler
		r.Feed(raw[:cut])
		if _, ok := r.Next(); ok && cut < len(raw) {
			t.Errorf("%s: whole after %d bytes", name, cut)
		}
		r.Feed(raw[cut:])
		if b, ok := r.Next(); !ok || b.Command != a.Command || !bytes.Equal(b.Data, a.Data) {
			t.Errorf("%s: split at %d", name, cut)
		}
	}
	meaning(t, name, a)
}

// meaning decodes what the terminal's commands say and rewrites their fields.
func meaning(t *testing.T, name string, a APDU) {
	t.Helper()
	fields := func(data []byte) {
		t.Helper()
		list, err := ParseFields(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		var out []byte
		for _, f := range list {
			if out, err = AppendField(out, f.ID, f.Value); err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
		}
		if !bytes.Equal(out, data) && !longForm(data) {
			t.Errorf("%s: fields written again as %x", name, out)
		}
	}
	switch a.Command {
	case CmdStatusInformation:
		fields(a.Data)
		s, err := ParseStatus(a.Data, CP437)
		if err != nil || !s.HasResult {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	case CmdIntermediateStatus:
		i, err := ParseIntermediate(a.Data, CP437)
		if err != nil || i.Words() == "" {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	case CmdPrintLine:
		if p, err := ParsePrintLine(a.Data, CP437); err != nil || len(p.Lines) != 1 {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	case CmdPrintBlock:
		if p, err := ParsePrintBlock(a.Data, CP437); err != nil || len(p.Lines) == 0 {
			t.Errorf("%s: %d lines, %v", name, len(p.Lines), err)
		}
	}
}

// longForm reports whether a container's length is written longer than needed,
// which terminals do and we do not.
func longForm(data []byte) bool { return bytes.Contains(data, []byte{0x06, 0x82, 0x00}) }

func incomplete(t *testing.T, name string, raw []byte) {
	t.Helper()
	var r Reassembler
	r.Feed(raw)
	if a, used, err := Scan(raw); err == nil && used == len(raw) {
		// A piece of data that happens to look like an APDU: its meaning must not
		// be readable as a command that we know.
		switch a.Command {
		case CmdStatusInformation:
			if s, err := ParseStatus(a.Data, CP437); err == nil {
				t.Errorf("%s: taken as whole: %+v", name, s)
			}
		case CmdPrintLine, CmdPrintBlock, CmdCompletion, CmdIntermediateStatus:
			t.Errorf("%s: taken as whole", name)
		}
	}
	_, _ = ParseFields(raw)
	_, _ = ParseContainer(raw)
}

func serial(t *testing.T, name string, raw []byte, want string) {
	t.Helper()
	wire := frame.AppendDLE(nil, raw)
	if hex.EncodeToString(wire) != strings.ToLower(want) {
		t.Errorf("%s: serial frame %x", name, wire)
		return
	}
	var d frame.DLE
	rest := wire
	for len(rest) > 0 {
		n, ev, err := d.Feed(rest)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rest = rest[n:]
		if ev == frame.Message {
			if !bytes.Equal(d.Payload(), raw) || len(rest) != 0 {
				t.Errorf("%s: serial frame read as %x", name, d.Payload())
			}
			return
		}
	}
	t.Errorf("%s: no message in the serial frame", name)
}

// TestSaleOfTenEuroNeedsByteStuffing: 10.00 holds a byte 10, which is DLE.
func TestSaleOfTenEuroNeedsByteStuffing(t *testing.T) {
	amount, err := AppendBCD(nil, 1000, 6)
	if err != nil {
		t.Fatal(err)
	}
	data, err := AppendField(nil, bmpAmount, amount)
	if err != nil {
		t.Fatal(err)
	}
	apdu := Append(nil, CmdAuthorisation, data)
	if got := hex.EncodeToString(apdu); got != "06010704000000001000" {
		t.Fatalf("sale of 10.00: %s", got)
	}
	if got := hex.EncodeToString(frame.AppendDLE(nil, apdu)); got != "1002060107040000000010100010036291" {
		t.Fatalf("its serial frame: %s", got)
	}
}

func TestWorkedFrames(t *testing.T) {
	for _, c := range [][2]string{
		{"800000", "10028000001003f51f"},
		{"060006123456020978", "1002060006123456020978" + "10036047"},
	} {
		raw, _ := hex.DecodeString(c[0])
		if got := hex.EncodeToString(frame.AppendDLE(nil, raw)); got != c[1] {
			t.Errorf("%s: %s", c[0], got)
		}
	}
}

func TestStatusShowsNoCardNumber(t *testing.T) {
	// 4111 1111 1111 1111, a published test number, with track 2 and expiry.
	raw, _ := hex.DecodeString("2700" + "22f0f8" + "4111111111111111" + "23f1f0" + "4111111111111111d281" + "0e2812" + "040000000010" + "00")
	s, err := ParseStatus(raw, CP437)
	if err != nil || s.First6 != "411111" || s.Last4 != "1111" || s.Amount != 1000 {
		t.Fatalf("%+v, %v", s, err)
	}
	if text := fmt.Sprintf("%+v %#v", s, s); strings.Contains(text, "4111111111111111") || strings.Contains(text, "2812") {
		t.Error("a status shows card data")
	}
	fields, _ := ParseFields(raw)
	if text := fmt.Sprintf("%v %+v %#v %x", fields, fields, fields, fields); strings.Contains(text, "41111111") || strings.Contains(text, "0x41") {
		t.Error("a field shows card data")
	}
}

func TestStatusOfContradiction(t *testing.T) {
	for name, data := range map[string]string{
		"two amounts": "2700" + "04000000001000" + "04000000002000",
		"two results": "2700" + "276c",
		"bad amount":  "2700" + "0400000000100a",
		"no such BMP": "2700" + "ff01",
		"cut amount":  "2700" + "0400000000",
		"bad length":  "2700" + "220008",
	} {
		raw, _ := hex.DecodeString(data)
		if _, err := ParseStatus(raw, CP437); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestText(t *testing.T) {
	if got := CP437.Text([]byte{0x54, 0x84, 0x94, 0x81, 0xE1}); got != "Täöüß" {
		t.Errorf("CP437: %q", got)
	}
	if got := Latin1.Text([]byte{0xE4, 0xF6, 0xFC, 0xDF}); got != "äöüß" {
		t.Errorf("Latin-1: %q", got)
	}
	if len(cp437) != 128 {
		t.Errorf("code page of %d characters", len(cp437))
	}
	for _, c := range []Charset{CP437, Latin1} {
		if got := c.Text(c.Append(nil, "Grüße ÄÖ 12,50")); got != "Grüße ÄÖ 12,50" {
			t.Errorf("charset %02x: %q", byte(c), got)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte{0x80, 0x00, 0x00})
	f.Add([]byte{0x06, 0xD3, 0xFF, 0x01, 0x00, 0x41})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, n, err := Scan(b)
		if err != nil {
			return
		}
		if n > len(b) || len(a.Data) > n {
			t.Fatal("reads past its input")
		}
		for _, c := range []Charset{CP437, Latin1} {
			_, _ = ParseStatus(a.Data, c)
			_, _ = ParseIntermediate(a.Data, c)
			_, _ = ParsePrintLine(a.Data, c)
			_, _ = ParsePrintBlock(a.Data, c)
		}
		_, _ = ParseCompletion(a.Data, true)
		_, _ = ParseCompletion(a.Data, false)
	})
}

func FuzzFields(f *testing.F) {
	f.Add([]byte{0x27, 0x00, 0x04, 0, 0, 0, 0, 0x10, 0, 0x49, 0x09, 0x78})
	f.Add([]byte{0x06, 0x04, 0x1F, 0x07, 0x01, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := ParseFields(b)
		if err != nil {
			return
		}
		var out []byte
		for _, x := range fields {
			if out, err = AppendField(out, x.ID, x.Value); err != nil {
				t.Fatal(err)
			}
		}
		again, err := ParseFields(out)
		if err != nil || len(again) != len(fields) {
			t.Fatalf("%d fields read again as %d: %v", len(fields), len(again), err)
		}
	})
}

func BenchmarkStatus(b *testing.B) {
	raw, _ := hex.DecodeString("270004000000001000" + "0b000001" + "0c120000" + "0d1130" + "22f0f8eeeeeeeeeeee1111" + "2912345678" + "490978" + "870001" + "8a06" + "8bf0f5" + "5649534100")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseStatus(raw, CP437); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendSale(b *testing.B) {
	b.ReportAllocs()
	buf := make([]byte, 0, 64)
	for b.Loop() {
		amount, _ := AppendBCD(buf[32:32], 1000, 6)
		data, _ := AppendField(buf[:0], bmpAmount, amount)
		_ = Append(buf[48:48:64], CmdAuthorisation, data)
	}
}
