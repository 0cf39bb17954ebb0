package ccid_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/ccid"
)

// frameFile is a capture. Fields that are not known fail the test.
type frameFile struct {
	Protocol string `json:"protocol"`
	Source   string `json:"source"`
	Notes    any    `json:"notes"`
	Note     any    `json:"note"`
	Frames   []struct {
		Name      string `json:"name"`
		Kind      string `json:"kind"`
		Direction string `json:"direction"`
		Hex       string `json:"hex"`
		Source    string `json:"source"`
		Note      string `json:"note"`
		Meaning   string `json:"meaning"`
		Decode    any    `json:"decode"`
	} `json:"frames"`
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Each captured message is read, and built again from what was read.
func TestVectorsCCID(t *testing.T) {
	n := 0
	for _, path := range vectortest.Files(t, "drivers", "ccid") {
		var f frameFile
		load(t, path, &f)
		if f.Protocol != "CCID" {
			t.Fatalf("%s: protocol %q", path, f.Protocol)
		}
		var asked *ccid.Message
		for i, v := range f.Frames {
			raw, err := hex.DecodeString(strings.ReplaceAll(v.Hex, " ", ""))
			if err != nil || len(raw) == 0 {
				t.Fatalf("%s frame %d: %v", path, i, err)
			}
			fromReader := false
			switch v.Direction {
			case "reader->host":
				fromReader = true
			case "host->reader":
			default:
				t.Errorf("frame %d: direction %q", i, v.Direction)
				continue
			}
			n++
			switch {
			case fromReader && len(raw) > 9 && raw[0] == 9 && raw[1] == 2:
				list, err := ccid.ParseConfiguration(raw)
				if err != nil {
					t.Errorf("frame %d: %v", i, err)
					continue
				}
				for _, one := range list {
					if !bytes.Contains(raw, one.Descriptor.Append(nil)) {
						t.Errorf("frame %d: the class descriptor built again is not in the bytes", i)
					}
				}
				continue
			case fromReader && len(raw) > 2 && raw[0] >= 0x36 && raw[1] == 0x21:
				d, err := ccid.ParseDescriptor(raw)
				if err != nil || !bytes.Equal(d.Append(nil), raw[:0x36]) {
					t.Errorf("frame %d: class descriptor: %v", i, err)
				}
				continue
			case fromReader && (raw[0] == ccid.NotifySlotChange || raw[0] == ccid.HardwareError):
				e, err := ccid.ParseNotification(raw)
				if err != nil || !bytes.Equal(e.Append(nil), raw) {
					t.Errorf("frame %d: notification: %v", i, err)
				}
				continue
			}
			m, err := ccid.ParseMessage(raw)
			if err != nil {
				t.Errorf("frame %d: %v", i, err)
				continue
			}
			if !bytes.Equal(m.Append(nil), raw) {
				t.Errorf("frame %d (%v): built again %X", i, m, m.Append(nil))
			}
			if m.FromReader() != fromReader {
				t.Errorf("frame %d: %v in direction %s", i, m, v.Direction)
			}
			if !fromReader {
				asked = &m
			} else if asked != nil && (m.Seq != asked.Seq || m.Slot != asked.Slot) {
				t.Errorf("frame %d: %v answers %v", i, m, *asked)
			}
		}
	}
	vectortest.Ran(t, "ccid", n)
}

type readerFile struct {
	Protocol string `json:"protocol"`
	Source   string `json:"source"`
	Readers  []struct {
		Reader    string `json:"reader"`
		VID       string `json:"vid"`
		PID       string `json:"pid"`
		Features  string `json:"features"`
		PIN       string `json:"pin"`
		MaxMsg    string `json:"maxmsg"`
		BCD       string `json:"bcd"`
		Endpoints string `json:"eps"`
		Protocols string `json:"protocols"`
	} `json:"readers"`
}

// Each reader's descriptor is built from its published fields, put into a
// configuration before or after the endpoints, read back, and judged.
func TestVectorsReaders(t *testing.T) {
	n, pads := 0, 0
	levels := map[ccid.Level]int{}
	for _, path := range vectortest.Files(t, "drivers", "ccid-readers") {
		var f readerFile
		load(t, path, &f)
		for _, v := range f.Readers {
			num := func(s string) uint32 {
				x, err := strconv.ParseUint(strings.TrimSpace(s), 0, 32)
				if err != nil {
					t.Errorf("%s: %v", v.Reader, err)
				}
				return uint32(x)
			}
			var d ccid.Descriptor
			d.Features, d.PIN, d.MaxMessage = num(v.Features), byte(num(v.PIN)), num(v.MaxMsg)
			major, minor, ok := strings.Cut(v.BCD, ".")
			a, err1 := strconv.ParseUint(major, 16, 8)
			b, err2 := strconv.ParseUint(minor, 16, 8)
			if !ok || err1 != nil || err2 != nil {
				t.Errorf("%s: release %q", v.Reader, v.BCD)
			}
			d.BCD = uint16(a)<<8 | uint16(b)
			words := strings.FieldsSeq(v.Protocols)
			for w := range words {
				d.Protocols = d.Protocols<<16 | num(w)
			}
			for _, after := range []bool{false, true} {
				raw := configuration(d, num(v.Endpoints), after)
				list, err := ccid.ParseConfiguration(raw)
				if num(v.Endpoints) < 2 { // published with no endpoints: the class descriptor alone is read
					got, err := ccid.ParseDescriptor(d.Append(nil))
					if err != nil || got != d {
						t.Errorf("%s: %v", v.Reader, err)
					}
					continue
				}
				if err != nil || len(list) != 1 || list[0].Descriptor != d || (list[0].Interrupt != 0) != (num(v.Endpoints) > 2) {
					t.Errorf("%s: read back %+v, %v", v.Reader, list, err)
				}
			}
			want := map[uint32]ccid.Level{0: ccid.LevelCharacter, 1: ccid.LevelTPDU, 2: ccid.LevelShort, 4: ccid.LevelExtended}
			if w, ok := want[d.Features>>16&7]; ok && d.Level() != w {
				t.Errorf("%s: level %s, features %08X", v.Reader, d.Level(), d.Features)
			}
			levels[d.Level()]++
			if d.PIN != 0 {
				pads++
			}
			n++
		}
	}
	t.Logf("readers: %d extended, %d short, %d tpdu, %d character; %d with a keypad", levels[ccid.LevelExtended], levels[ccid.LevelShort],
		levels[ccid.LevelTPDU], levels[ccid.LevelCharacter], pads)
	vectortest.Ran(t, "ccid-readers", n)
}

// configuration is a raw configuration descriptor with one reader interface.
func configuration(d ccid.Descriptor, endpoints uint32, after bool) []byte {
	eps := []byte{7, 5, 0x82, 2, 0x40, 0, 0, 7, 5, 0x03, 2, 0x40, 0, 0}
	if endpoints > 2 {
		eps = append(eps, 7, 5, 0x81, 3, 8, 0, 16)
	}
	if endpoints < 2 {
		eps = nil
	}
	body := []byte{9, 4, 0, 0, byte(endpoints), 0x0B, 0, 0, 0}
	if after {
		body = append(append(body, eps...), d.Append(nil)...)
	} else {
		body = append(append(body, d.Append(nil)...), eps...)
	}
	return append([]byte{9, 2, byte(9 + len(body)), byte((9 + len(body)) >> 8), 1, 1, 0, 0x80, 50}, body...)
}
