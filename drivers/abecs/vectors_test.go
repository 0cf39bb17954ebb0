package abecs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/frame"
)

// vector is a frame of the set: an example of the protocol's text (name), or a
// line of a transcript (direction).
type vector struct {
	Name       string `json:"name"`
	Direction  string `json:"direction"`
	Time       string `json:"time"`
	Hex        string `json:"hex"`
	Source     string `json:"source"`
	CRCPresent bool   `json:"crc_present"`
	CRCOK      *bool  `json:"crc_ok"`
}

type vectorFile struct {
	Protocol string   `json:"protocol"`
	Note     string   `json:"note"`
	Frames   []vector `json:"frames"`
}

func loadVectors(t testing.TB) []vectorFile {
	t.Helper()
	var files []vectorFile
	for _, path := range vectortest.Files(t, "drivers", "abecs") {
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
		files = append(files, f)
	}
	return files
}

func TestVectorsABECS(t *testing.T) {
	n := 0
	for _, f := range loadVectors(t) {
		for i, v := range f.Frames {
			b, err := hex.DecodeString(v.Hex)
			if err != nil || len(b) == 0 {
				t.Fatalf("frame %d: not hex", i)
			}
			switch {
			case v.Name != "":
				example(t, v.Name, b)
			case v.Direction == "host->pinpad" || v.Direction == "pinpad->host":
				line(t, i, v, b)
			default:
				t.Errorf("frame %d: unknown kind (direction %q)", i, v.Direction)
			}
			n++
		}
	}
	vectortest.Ran(t, "abecs", n)
}

// chop decodes wire in pieces of every size and returns the events, which must
// not depend on the pieces.
func chop(t *testing.T, what string, wire []byte) (payload []byte, ev frame.Event, bad error) {
	t.Helper()
	for size := 1; size <= len(wire); size = size + 1 + size/3 {
		var d frame.DC3
		var gotEv frame.Event
		var gotBad error
		for p := wire; len(p) > 0; {
			piece := p[:min(size, len(p))]
			p = p[len(piece):]
			for len(piece) > 0 {
				n, e, b := d.Feed(piece)
				piece = piece[n:]
				if e != frame.None {
					gotEv = e
				}
				if b != nil {
					gotBad = b
				}
			}
		}
		if size > 1 && (gotEv != ev || !errors.Is(gotBad, bad) || !bytes.Equal(d.Payload(), payload)) {
			t.Errorf("%s: pieces of %d bytes decode differently", what, size)
		}
		payload, ev, bad = bytes.Clone(d.Payload()), gotEv, gotBad
	}
	return payload, ev, bad
}

// goodChecksum computes the checksum of a frame bit by bit.
func goodChecksum(wire []byte) bool {
	var crc uint16
	body := wire[1 : len(wire)-2]
	for i := 0; i < len(body); i++ {
		b := body[i]
		if b == frame.ByteDC3 && i+1 < len(body) {
			i++
			b = body[i] - 0x20
		}
		for bit := 7; bit >= 0; bit-- {
			x := crc>>15 ^ uint16(b>>bit)&1
			crc <<= 1
			if x == 1 {
				crc ^= 0x1021
			}
		}
	}
	return crc == uint16(wire[len(wire)-2])<<8|uint16(wire[len(wire)-1])
}

func TestPrintedDSPExampleHasOneSpaceTooMany(t *testing.T) {
	wire := frame.AppendDC3(nil, []byte("DSP032    OPERA\xC7\xC3O       FINALIZADA   "))
	if got := wire[len(wire)-2:]; got[0] != 0x52 || got[1] != 0x13 {
		t.Errorf("checksum %X, the text prints 5213", got)
	}
}

var ksec = regexp.MustCompile(`(?i)ksec[ :=]*([0-9a-f]{32})`)

// example checks a frame of the protocol's text by its name: wire bytes begin
// with SYN or are one control byte, the rest is application level.
func example(t *testing.T, name string, b []byte) {
	t.Helper()
	lower := strings.ToLower(name)
	switch {
	case len(b) == 1:
		_, ev, _ := chop(t, name, b)
		if ev == frame.None || !strings.Contains(name, ev.String()) {
			t.Errorf("%s: decoded as %v", name, ev)
		}
	case b[0] == frame.ByteSYN:
		payload, ev, bad := chop(t, name, b)
		// The printed text is not always right: the example "DSP command" shows
		// 33 characters where its length says 32, and its checksum is that of
		// the 32. Another implementation of the checksum is the judge.
		good := goodChecksum(b)
		if strings.Contains(lower, "bad crc") && good || strings.Contains(lower, "ok") && !good {
			t.Errorf("%s: the checksum is good: %t", name, good)
		}
		if !good {
			if !errors.Is(bad, frame.ErrChecksum) {
				t.Errorf("%s: %v, %v; the checksum is wrong", name, ev, bad)
			}
			return
		}
		if ev != frame.Message || bad != nil {
			t.Errorf("%s: %v, %v", name, ev, bad)
			return
		}
		if got := frame.AppendDC3(nil, payload); !bytes.Equal(got, b) {
			t.Errorf("%s: encoded again %X", name, got)
		}
		application(t, name, payload, isResponse(lower, payload))
	case ksec.MatchString(name):
		key, _ := hex.DecodeString(ksec.FindStringSubmatch(name)[1])
		c, err := NewChannel(key)
		if err != nil {
			t.Fatal(err)
		}
		clear, err := c.AppendOpened(nil, b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if got := c.AppendSealed(nil, clear); !bytes.Equal(got, b) {
			t.Errorf("%s: sealed again %X", name, got)
		}
		application(t, name, clear, isResponse(lower, clear))
	case strings.Contains(lower, "secure block"):
		n := int(b[0])<<8 | int(b[1])
		if n > len(b)-4 || frame.XModem.Sum(b[4:4+n]) != uint16(b[2])<<8|uint16(b[3]) {
			t.Errorf("%s: length or checksum differs", name)
			return
		}
		// Seal and open under any key gives the same block back.
		c, _ := NewChannel(make([]byte, 16))
		clear, err := c.AppendOpened(nil, c.AppendSealed(nil, b[4:4+n]))
		if err != nil || !bytes.Equal(clear, b[4:4+n]) {
			t.Errorf("%s: %X, %v", name, clear, err)
		}
		application(t, name, b[4:4+n], isResponse(lower, b[4:4+n]))
	default:
		application(t, name, b, isResponse(lower, b))
	}
}

func isResponse(lower string, payload []byte) bool {
	if strings.Contains(lower, "response") || strings.Contains(lower, "resp") {
		return true
	}
	return len(payload) == 6 && strings.HasSuffix(lower, " response ok")
}

// application parses a packet and builds it again from its parts.
func application(t *testing.T, what string, packet []byte, response bool) {
	t.Helper()
	name := string(packet[:min(3, len(packet))])
	var blocks [][]byte
	var params []Param
	head := name
	if response {
		r, err := Parse(packet)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		head += r.Status.digits()
		for i := range r.Blocks() {
			blocks = append(blocks, r.Block(i))
		}
		if paramNames[name] {
			for p, err := range r.Params() {
				if err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
				params = append(params, p)
				if v, ok := r.Find(p.ID); !ok || len(v) != len(p.Value) && len(params) == 1 {
					t.Errorf("%s: parameter %s is not found", what, p.ID)
				}
			}
		}
	} else {
		r, err := ParseRequest(packet)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		for i := range r.Blocks() {
			blocks = append(blocks, r.Block(i))
		}
		if paramNames[name] {
			for p, err := range r.Params() {
				if err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
				params = append(params, p)
			}
		}
	}
	again, err := AppendCommand(nil, name, blocks...)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if got := head + string(again[3:]); got != string(packet) {
		t.Errorf("%s: built again %X", what, got)
	}
	if len(params) > 0 {
		// Block by block: another sender may begin a new one earlier than we do.
		var got strings.Builder
		got.WriteString(head)
		for _, b := range blocks {
			r := Request{blocks: append(fmt.Appendf(nil, "%03d", len(b)), b...)}
			var own []Param
			for p := range r.Params() {
				own = append(own, p)
			}
			again, err := AppendParams(nil, name, own...)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			if len(b) == 0 {
				again = append(again, "000"...)
			}
			got.WriteString(string(again[3:]))
		}
		if got.String() != string(packet) {
			t.Errorf("%s: built again from its parameters %X", what, got.String())
		}
	}
}

// paramNames are the commands whose blocks hold parameters.
var paramNames = map[string]bool{"GIX": true, "CEX": true, "GTK": true, "GCX": true, "GED": true, "GOX": true, "FCX": true,
	"EBX": true, "MNU": true, "GCD": true, "CLX": true, "MLI": true}

// line checks a line of a transcript that was taken above stuffing: it is
// framed again and decoded.
func line(t *testing.T, i int, v vector, b []byte) {
	t.Helper()
	what := v.Direction + " " + v.Time
	if len(b) == 1 {
		if _, ev, _ := chop(t, what, b); ev == frame.None {
			t.Errorf("frame %d %s: %02X is no control byte", i, what, b[0])
		}
		return
	}
	payload, whole := captured(t, i, v, b)
	if payload == nil {
		return
	}
	back, ev, bad := chop(t, what, frame.AppendDC3(nil, payload))
	if ev != frame.Message || bad != nil || !bytes.Equal(back, payload) {
		t.Errorf("frame %d %s: framed again and decoded: %v, %v", i, what, ev, bad)
	}
	if !whole {
		if _, err := Parse(payload); !errors.Is(err, ErrMalformed) {
			t.Errorf("frame %d %s: the log cut it, and it parses: %v", i, what, err)
		}
		return
	}
	application(t, what, payload, v.Direction == "pinpad->host")
}

// captured returns the payload of a line; whole is false where the log cut it.
func captured(t testing.TB, i int, v vector, b []byte) (payload []byte, whole bool) {
	t.Helper()
	if b[0] != frame.ByteSYN {
		t.Errorf("frame %d: does not begin with SYN", i)
		return nil, false
	}
	if !v.CRCPresent {
		if b[len(b)-1] == frame.ByteETB {
			return b[1 : len(b)-1], true
		}
		return b[1:], false
	}
	body := b[1 : len(b)-2] // with ETB
	crc := uint16(b[len(b)-2])<<8 | uint16(b[len(b)-1])
	if ok := frame.XModem.Sum(body) == crc; v.CRCOK != nil && ok != *v.CRCOK {
		t.Errorf("frame %d: checksum good: %t, the file says %t", i, ok, *v.CRCOK)
	}
	return body[:len(body)-1], true
}
