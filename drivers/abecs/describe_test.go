package abecs

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/frame"
	"tillbridge/drivers/transcript"
)

// canary is a published test number; its packed form holds 13, 16 and 17, which
// the line stuffs.
const canary = "4716131617161312"

func canaryForms() map[string][]byte {
	packed, _ := hex.DecodeString(canary)
	return map[string][]byte{
		"ascii":        []byte(canary),
		"packed":       packed,
		"track 2":      []byte(canary + "=29122011234500000000"),
		"packed track": append(append([]byte(nil), packed...), 0xD2, 0x91, 0x22, 0x01),
		"hex":          []byte(strings.ToUpper(hex.EncodeToString([]byte(canary)))),
		"spaced":       []byte("4716 1316 1716 1312"),
	}
}

// A pad that answers in clear, on a line that is recorded: nothing of the
// number reaches the file, in whatever frame, form and split.
func TestCardDataIsCutOutOfATrace(t *testing.T) {
	for form, value := range canaryForms() {
		for _, name := range []string{"GTK", "GCX", "CEX", "GPN", "GCR", "CHP", "EBX", "XXX", "gtk"} {
			whole := frame.AppendDC3(nil, []byte(string(answer(name, param(Track2, string(value))))))
			for cut := 0; cut <= len(whole); cut++ {
				var file bytes.Buffer
				host, device := drivertest.Pipe(drivertest.PipeOptions{})
				rec := transcript.Record(host, &file, transcript.RecordOptions{Fields: func(d transcript.Direction, turn []byte) []drivers.Span {
					return New().CardData(d == transcript.Read, turn)
				}})
				read := func(p []byte) {
					if len(p) == 0 {
						return
					}
					device.Write(context.Background(), p)
					for n := 0; n < len(p); {
						k, err := rec.Read(context.Background(), make([]byte, 4096))
						if err != nil {
							t.Fatal(err)
						}
						n += k
					}
				}
				read(whole[:cut])
				if cut < len(whole) {
					rec.Write(context.Background(), []byte{frame.ByteCAN}) // splits the frame over two turns
				}
				read(whole[cut:])
				rec.Close()
				entries, err := transcript.ParseTranscript(&file)
				if err != nil {
					t.Fatal(err)
				}
				var all []byte
				for _, e := range entries {
					all = append(all, e.Data...)
				}
				for i := 0; i+4 <= len(value); i++ {
					if bytes.Contains(all, value[i:i+4]) {
						t.Fatalf("%s as %s, cut at %d: four bytes of it are in the trace", name, form, cut)
					}
				}
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	d := New()
	sealed := frame.AppendDC3(nil, append([]byte{secureMark}, make([]byte, 32)...))
	for _, c := range []struct {
		name   string
		device bool
		wire   []byte
		want   string
	}{
		{"controls", true, []byte{6, 21, 4}, "ACK|NAK|EOT"},
		{"cancel", false, []byte{0x18}, "CAN"},
		{"command", false, frame.AppendDC3(nil, []byte("OPN")), "OPN, 3 bytes"},
		{"parameters", false, frame.AppendDC3(nil, mustParams(t, "GIX", Param{IDList, []byte{0x80, 1}})), "GIX 0001[2], 12 bytes"},
		{"status", true, frame.AppendDC3(nil, []byte("GCX013")), "GCX 013: the customer pressed cancel"},
		{"sealed", true, append([]byte{6}, sealed...), "ACK|encrypted packet, 33 bytes"},
		{"cut off", true, []byte("\x16GOX000"), "GOX 000, 6 bytes (cut off)"},
		{"damaged", true, []byte("\x16GOX000\x17\x00\x00"), "checksum"},
		{"nothing", true, []byte("hello"), "5 bytes outside of a packet"},
	} {
		got := strings.Join(d.Describe(c.device, c.wire), "|")
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// Values never appear, only identifiers and lengths.
	for form, value := range canaryForms() {
		line := fmt.Sprint(d.Describe(true, frame.AppendDC3(nil, answer("GTK", param(Track2, string(value))))))
		if strings.Contains(line, canary) || strings.Contains(line, string(value)) {
			t.Errorf("%s is in the description", form)
		}
	}
}

func mustParams(t *testing.T, name string, p ...Param) []byte {
	t.Helper()
	b, err := AppendParams(nil, name, p...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzDescribe(f *testing.F) {
	f.Add(true, []byte("\x06\x16GCX000\x17\x00\x00"))
	f.Add(false, []byte("\x18\x16OPN\x17\xA8\xA9\x16"))
	f.Fuzz(func(t *testing.T, device bool, wire []byte) {
		at := 0
		for _, p := range pieces(wire) {
			if p.start != at || p.end <= p.start || p.end > len(wire) {
				t.Fatal("the pieces do not cover the line")
			}
			at = p.end
		}
		for _, s := range New().CardData(device, wire) {
			if s.Start < 0 || s.End > len(wire) || s.Start >= s.End {
				t.Fatalf("span %v of %d bytes", s, len(wire))
			}
		}
		New().Describe(device, wire)
	})
}
