package acquirer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

type vector struct {
	Name     string
	Source   string
	MTI      string
	Encoding struct {
		MTI          string
		Bitmap       string
		Numeric      string
		LengthPrefix string `json:"length_prefix"`
		Header       string
		HeaderBytes  int `json:"header_bytes"`
	}
	Hex       string
	Fields    map[int]string
	Bitmap    string
	HexFields []int `json:"hex_fields"`
	Layout    map[int]string
	HeaderHex string `json:"header_hex"`
	Notes     string
	Verified  bool
	Refuse    *struct {
		Kind        string
		Reason      string
		DecoderSaid string `json:"decoder_said"`
	}
}

// standardLayout is ISO 8583:1987 in the given encodings, for messages that
// come without a layout because they cannot be unpacked.
func standardLayout(v vector) map[int]string {
	numeric, track, raw := "ascii", "ascii", "hex text"
	if v.Encoding.Numeric == "bcd" {
		numeric, track, raw = "bcd left-padded", "bcd track nibbles right-padded", "raw bytes"
	} else if v.Encoding.Numeric == "ebcdic" {
		numeric, track = "ebcdic", "ebcdic"
	}
	text := "ascii"
	if v.Encoding.MTI == "ebcdic" {
		text = "ebcdic"
	}
	pref := "ascii"
	switch {
	case strings.Contains(v.Encoding.LengthPrefix, "bcd"):
		pref = "bcd"
	case v.Encoding.LengthPrefix == "ebcdic":
		pref = "ebcdic"
	case v.Encoding.LengthPrefix == "none" && v.Encoding.Numeric == "bcd":
		pref = "bcd"
	}
	l := map[int]string{}
	fixN := map[int]int{3: 6, 4: 12, 5: 12, 6: 12, 7: 10, 8: 8, 9: 8, 10: 8, 11: 6, 12: 6, 13: 4, 14: 4, 15: 4, 16: 4, 17: 4, 18: 4, 19: 3, 20: 3, 21: 3,
		22: 3, 23: 3, 24: 3, 25: 2, 26: 2, 27: 1, 53: 16, 66: 1, 67: 2, 68: 3, 69: 3, 70: 3, 71: 4, 72: 4, 73: 6, 74: 10, 75: 10, 76: 10, 77: 10, 78: 10, 79: 10,
		80: 10, 81: 10, 82: 12, 83: 12, 84: 12, 85: 12, 86: 16, 87: 16, 88: 16, 89: 16, 90: 42}
	for id, n := range fixN {
		l[id] = fmt.Sprintf("fix %d %s", n, numeric)
	}
	for _, id := range []int{28, 29, 30, 31} {
		l[id] = "fix 9 " + text
	}
	for id, n := range map[int]int{37: 12, 38: 6, 39: 2, 40: 3, 41: 8, 42: 15, 43: 40, 49: 3, 50: 3, 51: 3, 91: 1, 92: 2, 93: 5, 94: 7, 95: 42, 97: 17, 98: 25} {
		l[id] = fmt.Sprintf("fix %d %s", n, text)
	}
	for _, id := range []int{52, 64, 96, 128} {
		l[id] = "fix 8 " + raw
	}
	for id, n := range map[int]int{34: 2, 44: 2, 45: 2, 102: 2, 103: 2, 101: 2, 99: 2, 100: 2, 36: 3} {
		l[id] = fmt.Sprintf("var len=%s digits=%d data=%s", pref, n, text)
	}
	for _, id := range []int{2, 32, 33} {
		d := numeric
		if d == "bcd left-padded" {
			d = "bcd right-padded"
		}
		l[id] = fmt.Sprintf("var len=%s digits=2 data=%s", pref, d)
	}
	l[35] = fmt.Sprintf("var len=%s digits=2 data=%s", pref, track)
	for id := 46; id <= 127; id++ {
		if _, ok := l[id]; !ok && id != 65 {
			l[id] = fmt.Sprintf("var len=%s digits=3 data=%s", pref, text)
		}
	}
	l[55] = fmt.Sprintf("var len=%s digits=3 data=raw bytes", pref)
	return l
}

var padNote = regexp.MustCompile(`DE(\d+) odd length, right padded with ([0F])`)

// formFor builds the wire form from a vector's own description.
func formFor(t *testing.T, v vector) form {
	f := form{header: v.Encoding.HeaderBytes, mti: v.Encoding.MTI, bitmap: v.Encoding.Bitmap, items: map[int]item{}}
	layout := v.Layout
	if len(layout) == 0 {
		layout = standardLayout(v)
	}
	for id, l := range layout {
		it, err := parseItem(id, l)
		if err != nil {
			t.Fatal(err)
		}
		f.items[id] = it
	}
	for _, m := range padNote.FindAllStringSubmatch(v.Notes, -1) {
		id, _ := strconv.Atoi(m[1])
		if it := f.items[id]; m[2] == "F" {
			it.pad = 0x0F
			f.items[id] = it
		}
	}
	return f
}

// lengthHeaderWrong reports whether no reading of the first bytes as a length
// fits the frame.
func lengthHeaderWrong(b []byte) bool {
	if len(b) < 4 {
		return true
	}
	bin := int(b[0])<<8 | int(b[1])
	asc, errA := length(b[:4], "ascii")
	bcd, errB := length(b[:2], "bcd")
	return bin != len(b) && bin != len(b)-2 && (errA != nil || asc != len(b) && asc != len(b)-4) && (errB != nil || bcd != len(b) && bcd != len(b)-2)
}

func TestVectorsMessages(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "iso8583", "messages") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var set struct{ Messages []json.RawMessage }
		if err := json.Unmarshal(raw, &set); err != nil {
			t.Fatal(err)
		}
		for _, one := range set.Messages {
			var v vector
			dec := json.NewDecoder(bytes.NewReader(one))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("%s: a field of the vector is not handled: %v", file, err)
			}
			t.Run(v.Name, func(t *testing.T) { checkVector(t, v) })
			n++
		}
	}
	vectortest.Ran(t, "messages", n)
}

func checkVector(t *testing.T, v vector) {
	frame, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	f := formFor(t, v)
	m, err := f.decode(frame)
	if v.Refuse != nil {
		switch v.Refuse.Kind {
		case "structure":
		case "frame":
			if err == nil && lengthHeaderWrong(frame) {
				return
			}
		case "content":
			if err == nil {
				err = m.check()
			}
		default:
			t.Fatalf("unknown kind of refusal %q", v.Refuse.Kind)
		}
		if !errors.Is(err, ErrMessage) {
			t.Fatalf("accepted, or another error (%v), though: %s", err, v.Refuse.Reason)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := m.check(); err != nil && v.MTI != "1234" {
		t.Errorf("refused by content: %v", err)
	}
	if m.mti != v.MTI || v.HeaderHex != "" && !strings.EqualFold(hex.EncodeToString(m.header), v.HeaderHex) {
		t.Errorf("MTI %s or the header is not the vector's", m.mti)
	}
	for id, want := range v.Fields {
		got, ok := m.de[id]
		text := string(got)
		if slices.Contains(v.HexFields, id) {
			text, want = strings.ToUpper(hex.EncodeToString(got)), strings.ToUpper(want)
		}
		if !ok || text != want {
			t.Errorf("DE%d is not the value of the vector", id)
		}
	}
	if len(m.de) != len(v.Fields) {
		t.Errorf("%d elements, want %d", len(m.de), len(v.Fields))
	}
	again, err := f.encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, frame) {
		t.Errorf("encoded again, the bytes differ")
	}
}
