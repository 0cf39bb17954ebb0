package neo2

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"tillbridge/agent/vectortest"
)

// The published frames, from the reader's side: commands are understood and
// answered by the published answer.
func TestVectorsNEO2Reader(t *testing.T) {
	type vector struct {
		Name, Hex, Source string
		LSB               *bool `json:"crc_lsb_first"`
		MSB               *bool `json:"crc_msb_first"`
	}
	n := 0
	for _, path := range vectortest.Files(t, "drivers", "idtech-neo2") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var f struct{ Frames []vector }
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		for _, v := range f.Frames {
			n++
			wire, err := hex.DecodeString(v.Hex)
			if err != nil {
				t.Fatalf("%s: not hex", v.Name)
			}
			rx := receiver{hid: !bytes.HasPrefix(wire, []byte(header))}
			if rx.hid && (len(wire)%64 != 0 || wire[0] < 1 || wire[0] > 4) {
				continue // data of a command
			}
			var got []command
			step := len(wire)
			if rx.hid {
				step = 64
			}
			for p := wire; len(p) > 0; p = p[step:] {
				got = append(got, rx.take(p[:step], time.Time{})...)
			}
			if len(got) != 1 {
				if !rx.hid || wire[0] == 1 {
					t.Errorf("%s: %d commands", v.Name, len(got))
				}
				continue
			}
			isCommand := !got[0].bad
			if v.LSB != nil && *v.LSB != isCommand {
				t.Errorf("%s: taken as a command: %v", v.Name, isCommand)
			}
			if !isCommand { // an answer: ours has the same bytes
				again := answerBytes(got[0].cmd, got[0].sub, got[0].data)
				if rx.hid {
					again = bytes.Join(reports(again), nil)
				}
				if (v.MSB == nil || *v.MSB) && !bytes.Equal(again, wire) {
					t.Errorf("%s: our answer differs", v.Name)
				}
			}
		}
	}
	vectortest.Ran(t, "idtech-neo2", n)
}
