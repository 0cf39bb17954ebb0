package abecs

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/frame"
)

// captured is one frame of the abecs sets.
type captured struct {
	Name      string `json:"name"`
	Direction string `json:"direction"`
	Time      string `json:"time"`
	Hex       string `json:"hex"`
	Source    string `json:"source"`
	Present   *bool  `json:"crc_present"`
	OK        *bool  `json:"crc_ok"`
}

type capturedFile struct {
	Protocol string     `json:"protocol"`
	Note     string     `json:"note"`
	Frames   []captured `json:"frames"`
}

// body returns PKTDATA of a packet that was taken above the stuffing.
func (c captured) body(t *testing.T) (data []byte, ok bool) {
	b, err := hex.DecodeString(c.Hex)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	if len(b) < 3 || b[0] != frame.ByteSYN {
		return nil, false
	}
	if c.Present == nil || *c.Present {
		b = b[:len(b)-2]
	}
	if b[len(b)-1] != frame.ByteETB {
		if c.Present == nil || *c.Present {
			t.Fatalf("%s %s: no ETB", c.Direction, c.Time)
		}
		return b[1:], true // the logger cut a long packet off
	}
	return b[1 : len(b)-1], true
}

// TestVectorsABECS plays what hosts sent to the virtual pad and compares the
// form of its answers: command id, and for parameters the ids and lengths
// that both have.
func TestVectorsABECS(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "drivers", "abecs") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f capturedFile
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if f.Protocol != "ABECS" {
			t.Fatalf("%s: protocol %q", file, f.Protocol)
		}
		synctest.Test(t, func(t *testing.T) { n += playFile(t, f) })
	}
	vectortest.Ran(t, "abecs", n)
}

func playFile(t *testing.T, f capturedFile) int {
	p := newPad(t, Options{Clear: true})
	p.Do(Step{Do: "auto", Card: "no-cvm", Entry: "tap"})
	h := join(t, p)
	h.ask([]byte("OPN"))
	for _, a := range []string{"00", "02", "04", "06"} { // the acquirers of the capture
		h.ask([]byte("TLI012" + a + "1807202408"))
		h.ask([]byte("TLR28601" + aidRecord(a, "01", "A0000000041010")))
		if st, _, _ := h.ask([]byte("TLE")); st != "TLE000" {
			t.Fatal(st)
		}
	}
	n := 0
	for i, c := range f.Frames {
		where := fmt.Sprintf("frame %d %s %s", i, c.Name, c.Time)
		raw, err := hex.DecodeString(c.Hex)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		switch c.Direction {
		case "host->pinpad":
			body, ok := c.body(t)
			if !ok {
				h.line.Write(raw)
				continue
			}
			if got := frame.AppendDC3(nil, body); c.OK != nil && *c.OK && hex.EncodeToString(got[len(got)-2:]) != c.Hex[len(c.Hex)-4:] {
				t.Errorf("%s: our checksum differs from the host's", where)
			}
			h.ch = nil
			st, l, block := h.ask(body)
			n++
			want := answerAfter(t, f.Frames[i+1:])
			if want == nil {
				continue
			}
			compare(t, where, st, l, block, want)
			if st == "OPN000" && block != nil { // the log has no channel's key: go on in the clear
				h.ask([]byte("OPN"))
			}
		case "pinpad->host":
			n++
		case "":
			n += document(t, where, c, raw)
		default:
			t.Fatalf("%s: direction %q is not known", where, c.Direction)
		}
	}
	return n
}

// answerAfter finds the pad's answer to a command in the capture.
func answerAfter(t *testing.T, rest []captured) []byte {
	for _, c := range rest {
		if c.Direction == "host->pinpad" {
			return nil
		}
		if b, ok := c.body(t); ok && !strings.HasPrefix(string(b), "NTM") {
			return b
		}
	}
	return nil
}

// compare wants the same command and, where both succeed, the same kind of
// content. A real pad had master keys and tables that the virtual one has not.
func compare(t *testing.T, where, st string, l params, block, want []byte) {
	t.Helper()
	if st[:3] != string(want[:3]) {
		t.Errorf("%s: answered by %s, the real pad by %s", where, st[:3], want[:3])
	}
	if st[3:] != "000" {
		if id := st[:3]; id != "EBX" && id != "GOX" && id != "FCX" {
			t.Errorf("%s: %s, the real pad said %s", where, st, want[:6])
		}
		return
	}
	r, err := parseCommand(append([]byte(st[:3]), want[6:]...))
	if err != nil && len(want) < 1000 {
		t.Errorf("%s: the real pad's blocks: %v", where, err)
	}
	if err != nil {
		return
	}
	if st[:3] == "OPN" {
		if len(block) != len(r.blocks[0]) {
			t.Errorf("%s: a block of %d, the real pad's has %d", where, len(block), len(r.blocks[0]))
		}
		return
	}
	theirs, err := r.params()
	if err != nil {
		t.Errorf("%s: the real pad's parameters: %v", where, err)
	}
	fixed := map[uint16]bool{outAIDInfo: true, outCardType: true, outPSN: true, outExpiry: true, outIssuer: true, outDevice: true,
		outGOX: true, outFCX: true, outEvent: true, 0x8005: true, 0x8007: true, 0x8020: true, 0x8030: true, 0x8032: true, 0x8035: true, 0x8036: true, 0x9102: true}
	for _, p := range theirs {
		if v, ok := l.get(p.id); ok && fixed[p.id] && len(v) != len(p.value) {
			t.Errorf("%s: parameter %04X has %d bytes, the real pad's %d", where, p.id, len(v), len(p.value))
		}
	}
}

// document checks a frame of the protocol's text.
func document(t *testing.T, where string, c captured, raw []byte) int {
	switch {
	case len(raw) == 1: // ACK, NAK, CAN, EOT
		return 1
	case raw[0] == frame.ByteSYN:
		var d frame.DC3
		_, ev, err := d.Feed(frame.AppendDC3(nil, raw[1:len(raw)-3]))
		if err != nil || ev != frame.Message {
			t.Errorf("%s: %v %v", where, ev, err)
		}
		good := frame.XModem.Sum(raw[1:len(raw)-2]) == uint16(raw[len(raw)-2])<<8|uint16(raw[len(raw)-1])
		// The text prints some commands with letters that were changed since.
		if bad := strings.Contains(c.Name, "bad crc"); good == bad && (bad || strings.HasSuffix(c.Name, " ok")) {
			t.Errorf("%s: checksum good: %v", where, good)
		}
		return 1
	case raw[0] == secureMark:
		at := strings.Index(c.Name, "KSEC ")
		if at < 0 {
			t.Fatalf("%s: a secure packet without its key", where)
		}
		key, err := hex.DecodeString(strings.Fields(c.Name[at+5:])[0])
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		ch, err := newChannel(key)
		if err != nil {
			t.Fatal(err)
		}
		clear, err := ch.open(raw)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return 1
		}
		if got := ch.seal(clear); hex.EncodeToString(got) != c.Hex {
			t.Errorf("%s: sealing again gives other bytes", where)
		}
		return 1
	case strings.Contains(c.Name, "secure block clear"):
		m := int(raw[0])<<8 | int(raw[1])
		if m > len(raw)-4 || frame.XModem.Sum(raw[4:4+m]) != uint16(raw[2])<<8|uint16(raw[3]) {
			t.Errorf("%s: length or checksum", where)
		}
		return 1
	case strings.Contains(c.Name, "command"):
		if _, err := parseCommand(raw); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		return 1
	case strings.Contains(c.Name, "response"):
		if len(raw) < 6 {
			t.Errorf("%s: too short", where)
		} else if _, err := parseCommand(append(raw[:3:3], raw[6:]...)); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		return 1
	}
	t.Fatalf("%s: a kind of frame that this test does not know", where)
	return 0
}
