package zvt

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"tillbridge/drivers/frame"
)

// cutOut is what a trace keeps: card data replaced by EE.
func cutOut(fromDevice bool, wire []byte) []byte {
	out := bytes.Clone(wire)
	for _, s := range (Driver{}).CardData(fromDevice, wire) {
		for i := s.Start; i < s.End; i++ {
			out[i] = 0xEE
		}
	}
	return out
}

func TestTraceCutsCardData(t *testing.T) {
	pan, track2 := "4111111111111111", "4111111111111111d281220112345678"
	container := AppendElement(nil, 0x60, AppendElement(AppendElement(nil, tagAID, []byte{0xA0, 0, 0, 0, 3, 0x10, 0x10}), 0x5A, unhex(pan)))
	status := unhex("2700" + "040000001010" + "10" + "0e2812" + "22f0f8" + pan + "23f1f6" + track2 + "3a0123" + "490978" + "8bf0f5" + "5649534100")
	status, _ = AppendField(status, bmpContainer, container)
	apdu := Append(nil, CmdStatusInformation, status)
	for name, wire := range map[string][]byte{
		"tcp":              apdu,
		"serial":           frame.AppendDLE(nil, apdu),
		"after an ACK":     append([]byte{0x06}, frame.AppendDLE(nil, apdu)...),
		"two on tcp":       append(Append(nil, ReplyPositive, nil), apdu...),
		"two on serial":    frame.AppendDLE(frame.AppendDLE(nil, Append(nil, ReplyPositive, nil)), apdu),
		"tcp, cut off":     apdu[:len(apdu)-9],
		"serial, cut off":  frame.AppendDLE(nil, apdu)[:40],
		"within the track": frame.AppendDLE(nil, apdu)[:30],
	} {
		got := hex.EncodeToString(cutOut(true, wire))
		for _, secret := range []string{"411111", "111111", "2812", "123456", "0123"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: %s is left", name, secret)
			}
		}
		if !strings.Contains(got, "040f") || !strings.Contains(got, "2700") {
			t.Errorf("%s: the rest is cut too", name)
		}
		if text := strings.Join((Driver{}).Describe(true, wire), "\n"); strings.Contains(text, "411111") || strings.Contains(text, "2812") {
			t.Errorf("%s: a description shows card data", name)
		}
	}
	if got := (Driver{}).Describe(true, apdu); fmt.Sprint(got) != "[04 0F status information: result 00 (approved), amount 10101010, currency 978]" && !strings.Contains(fmt.Sprint(got), "result 00 (approved)") {
		t.Errorf("described as %q", got)
	}
	// The password of the register goes too, and amounts stay.
	reverse := Append(nil, CmdReversal, unhex("123456"+"870007"+"040000001010"+"10"))
	got := hex.EncodeToString(cutOut(false, frame.AppendDLE(nil, reverse)))
	if strings.Contains(got, "123456") || !strings.Contains(got, "870007") {
		t.Errorf("a reversal: %s", got)
	}
}

// Whatever happened to a frame on the line, no track, card number, expiry or
// CVV stays in its trace.
func TestTraceOfDamagedFrames(t *testing.T) {
	track2 := "4111111111111111d281220112345678"
	frm := frame.AppendDLE(nil, Append(nil, CmdStatusInformation, unhex("2700"+"0e2812"+"23f1f6"+track2+"490978"+"3a987f")))
	check := func(name string, wire []byte) {
		t.Helper()
		got := hex.EncodeToString(cutOut(true, wire))
		for _, secret := range []string{"111111", "345678", "0e2812", "3a987f"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: %s is left", name, secret)
			}
		}
	}
	check("behind garbage", append(unhex("fe81104499c3007f"), frm...))
	check("behind bytes that look like an APDU", append(unhex("040f021234"), frm...))
	for i := range frm {
		for bit := range 8 {
			w := bytes.Clone(frm)
			w[i] ^= 1 << bit
			check(fmt.Sprintf("byte %d bit %d", i, bit), w)
		}
		check(fmt.Sprintf("without byte %d", i), append(bytes.Clone(frm[:i]), frm[i+1:]...))
		check(fmt.Sprintf("from byte %d", i), frm[i:])
		check(fmt.Sprintf("from byte %d and again", i), append(bytes.Clone(frm[i:]), frm...))
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestDescribe(t *testing.T) {
	for wire, want := range map[string]string{
		"800000":                     "80 00 positive",
		"849c00":                     "84 9C negative: busy, please wait",
		"06":                         "ACK",
		"15":                         "NAK",
		"04ff010a":                   "04 FF intermediate status 0A (insert card)",
		"061e016c":                   "06 1E aborted: aborted or timed out",
		"06010a04000000001000490978": "06 01 authorisation: amount 1000",
		"060f00":                     "06 0F completion (0 bytes)",
		"060f":                       "2 bytes that are no whole APDU",
	} {
		if got := (Driver{}).Describe(false, unhex(wire)); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", wire, got, want)
		}
	}
}

func FuzzTrace(f *testing.F) {
	f.Add(true, unhex("1002800000"+"1003f51f"))
	f.Add(true, unhex("040f0b270022f0f44111111111"))
	f.Add(false, unhex("06001012345602097806031201"))
	f.Fuzz(func(t *testing.T, fromDevice bool, wire []byte) {
		for _, s := range (Driver{}).CardData(fromDevice, wire) {
			if s.Start < 0 || s.End > len(wire) || s.Start >= s.End {
				t.Fatalf("span %v of %d bytes", s, len(wire))
			}
		}
		_ = (Driver{}).Describe(fromDevice, wire)
	})
}

// FuzzLine feeds a serial line in every split: an APDU comes out whole or not
// at all.
func FuzzLine(f *testing.F) {
	f.Add([]byte{0x06, 0x01, 0x07, 0x04, 0, 0, 0, 0, 0x10, 0}, uint8(3))
	f.Add([]byte{0x10, 0x10, 0x02, 0x10, 0x03, 0x10, 0x02}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		if len(data) > 2000 {
			return
		}
		apdu := Append(nil, CmdStatusInformation, data)
		wire := frame.AppendDLE(nil, apdu)
		var d frame.DLE
		n := 0
		for len(wire) > 0 {
			p := wire[:min(len(wire), int(step)+1)]
			wire = wire[len(p):]
			for len(p) > 0 {
				used, ev, err := d.Feed(p)
				if err != nil {
					t.Fatal(err)
				}
				p = p[used:]
				if ev == frame.Message {
					n++
					a, size, err := Scan(d.Payload())
					if err != nil || size != len(apdu) || !bytes.Equal(a.Data, data) {
						t.Fatalf("another APDU came out: %v", err)
					}
				}
			}
		}
		if n != 1 {
			t.Fatalf("%d APDUs came out", n)
		}
		list, _ := apdusOf(frame.AppendDLE(nil, apdu))
		if len(list) != 1 || !bytes.Equal(list[0].raw, apdu) {
			t.Fatal("a trace sees another APDU")
		}
	})
}
