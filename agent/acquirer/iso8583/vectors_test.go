package iso8583

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// formatOf builds the format from a vector's own description. The pad nibble
// of packed elements is in its notes.
func formatOf(v vector) Format {
	f := Format{MTI: v.Encoding.MTI, Bitmap: v.Encoding.Bitmap, Header: v.Encoding.HeaderBytes, Fields: map[int]string{}}
	layout := v.Layout
	if len(layout) == 0 {
		layout = standardLayout(v)
	}
	maps.Copy(f.Fields, layout)
	for _, m := range padNote.FindAllStringSubmatch(v.Notes, -1) {
		id, _ := strconv.Atoi(m[1])
		if m[2] == "F" && strings.Contains(f.Fields[id], "right-padded") {
			f.Fields[id] += " F"
		}
	}
	return f
}

// lengthHeaderWrong reports whether no reading of the frame's first bytes as a
// length header fits the frame.
func lengthHeaderWrong(frame []byte) bool {
	for _, h := range []LengthHeader{{Kind: "binary"}, {Kind: "binary", Inclusive: true}, {Kind: "ascii"}, {Kind: "ascii", Inclusive: true}, {Kind: "bcd"}, {Kind: "bcd", Inclusive: true}} {
		r := bytes.NewReader(frame)
		if body, err := h.read(r, 1<<16); err == nil && r.Len() == 0 && len(body) > 0 {
			return false
		}
	}
	return true
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
	codec, err := NewCodec(formatOf(v))
	if err != nil {
		t.Fatal(err)
	}
	m, err := codec.Unpack(frame)
	if v.Refuse != nil {
		switch v.Refuse.Kind {
		case "structure":
			if err == nil {
				t.Fatalf("unpacked, though: %s", v.Refuse.Reason)
			}
		case "frame":
			if err == nil && !lengthHeaderWrong(frame) {
				t.Fatalf("framed and unpacked, though: %s", v.Refuse.Reason)
			}
			return
		case "content":
			if err == nil {
				err = m.Check()
			}
			if err == nil {
				t.Fatalf("accepted, though: %s", v.Refuse.Reason)
			}
		default:
			t.Fatalf("unknown kind of refusal %q", v.Refuse.Kind)
		}
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("the error is not a FormatError: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if m.MTI != v.MTI {
		t.Errorf("MTI %s, want %s", m.MTI, v.MTI)
	}
	if v.HeaderHex != "" && !strings.EqualFold(hex.EncodeToString(m.Header), v.HeaderHex) {
		t.Error("the header is not the vector's")
	}
	for id, want := range v.Fields {
		got := m.Text(id)
		if slices.Contains(v.HexFields, id) {
			got = strings.ToUpper(hex.EncodeToString(m.Fields[id]))
			want = strings.ToUpper(want)
		}
		if _, ok := m.Fields[id]; !ok || got != want {
			t.Errorf("DE%d is not the value of the vector", id)
		}
	}
	if len(m.Fields) != len(v.Fields) {
		t.Errorf("%d elements, want %d", len(m.Fields), len(v.Fields))
	}
	again, err := codec.Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, frame) {
		t.Error("packed again, the bytes differ")
	}
	if err := m.Check(); err != nil && v.MTI != "1234" {
		t.Errorf("refused by content: %v", err)
	}
}
