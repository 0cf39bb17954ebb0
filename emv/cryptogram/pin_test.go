package cryptogram

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tillbridge/emv/tlv"
)

func TestVectorsPIN(t *testing.T) {
	eachVector(t, "pin", func(t *testing.T, v vector) (out string) {
		a := &args{t: t, in: v.In}
		defer a.done()
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		want := strings.ToUpper(fmt.Sprint(v.Out))
		var err error
		format := 0
		if i := strings.LastIndex(v.Fn, "_iso_"); i > 0 {
			format = int(v.Fn[i+5] - '0')
		}
		ibm := func() IBM3624 {
			from := a.num("pan_verify_offset", 0)
			pad := a.text("pan_pad")
			if pad == "" {
				pad = "F"
			}
			return IBM3624{Table: a.text("conversion_table"), From: from, To: from + a.num("pan_verify_length", 16), Pad: pad[0]}
		}
		switch v.Fn {
		case "cvv.generate_cvv":
			out, err = CVV(a.key("cvk"), a.text("pan"), a.text("expiry"), a.text("service_code"))
		case "pin.generate_visa_pvv":
			out, err = PVV(a.key("pvk"), a.text("pvki"), a.text("pin"), a.text("pan"))
		case "pin.generate_ibm3624_pin":
			out, err = ibm().PIN(a.key("pvk"), a.text("pan"), a.text("offset"))
		case "pin.generate_ibm3624_offset":
			out, err = ibm().Offset(a.key("pvk"), a.text("pan"), a.text("pin"))
		case "pinblock.encode_pinblock_iso_0", "pinblock.encode_pinblock_iso_2", "pinblock.encode_pinblock_iso_3":
			pin, pan := a.text("pin"), a.text("pan")
			b, e := EncodePINBlock(format, pin, pan, rand.Reader)
			must(e)
			out = upper(b[:])
			if format == 3 { // random filler: both blocks must decode to the PIN
				for _, block := range []string{out, want} {
					raw := (&args{t: t, in: map[string]any{"b": block}}).bytes("b")
					if got, e := DecodePINBlock(3, [8]byte(raw), pan); e != nil || got != pin {
						t.Errorf("does not decode: %v", e)
					}
				}
				out = want
			}
		case "pinblock.decode_pinblock_iso_0", "pinblock.decode_pinblock_iso_2", "pinblock.decode_pinblock_iso_3":
			out, err = DecodePINBlock(format, [8]byte(a.bytes("pinblock")), a.text("pan"))
		case "pinblock.encode_pan_field_iso_4":
			b, e := PANField4(a.text("pan"))
			must(e)
			out = upper(b[:])
		case "pinblock.encode_pin_field_iso_4": // eight random bytes at its end
			b, e := PINField4(a.text("pin"), rand.Reader)
			must(e)
			out = upper(b[:8]) + want[16:]
		case "pinblock.decode_pin_field_iso_4":
			out, err = DecodePINField4([16]byte(a.bytes("pin_field")))
		case "pinblock.decipher_pinblock_iso_4":
			out, err = DecipherPINBlock4(a.bytes("key"), [16]byte(a.bytes("pin_block")), a.text("pan"))
		case "pinblock.encipher_pinblock_iso_4": // random: both must decipher
			key, pin, pan := a.bytes("key"), a.text("pin"), a.text("pan")
			b, e := EncipherPINBlock4(key, pin, pan, rand.Reader)
			must(e)
			theirs := (&args{t: t, in: map[string]any{"b": want}}).bytes("b")
			for _, block := range [][16]byte{b, [16]byte(theirs)} {
				if got, e := DecipherPINBlock4(key, block, pan); e != nil || got != pin {
					t.Errorf("does not decipher: %v", e)
				}
			}
			out = want
		default:
			t.Fatalf("unknown function %q", v.Fn)
		}
		must(err)
		return out
	})
}

func TestPINBlocksThatDoNotDecode(t *testing.T) {
	pan := "4761739001010119"
	for _, b := range []string{"241234FFFFFFFFFF", "\x03", "zzzzzzzz"} {
		if _, err := DecodePINBlock(0, [8]byte(append([]byte(b), make([]byte, 8)...)[:8]), pan); !errors.Is(err, ErrPIN) {
			t.Errorf("%v", err)
		}
	}
	if _, err := EncodePINBlock(1, "1234", pan, nil); !errors.Is(err, ErrInput) {
		t.Errorf("format 1: %v", err)
	}
	if _, err := EncodePINBlock(3, "1234", pan, bytes.NewReader(nil)); err == nil {
		t.Error("format 3 without random bytes")
	}
	for _, pin := range []string{"", "123", "1234567890123", "12a4"} {
		if _, err := EncodePINBlock(2, pin, "", nil); !errors.Is(err, ErrInput) || strings.Contains(fmt.Sprint(err), "12a4") {
			t.Errorf("%v", err)
		}
	}
}

func TestKeysAndRequestsDoNotPrint(t *testing.T) {
	k := TestIssuer()
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %x %d %s", k.AC, k.AC, k.AC, k.AC, k.AC), fmt.Sprintf("%x", &k.MAC), fmt.Sprintf("%v", Verified{cards: k})} {
		if strings.Contains(strings.ToLower(s), "89ab") || strings.Contains(s, "137 171") {
			t.Errorf("%s shows a key", s)
		}
	}
	if _, err := k.AC.MarshalJSON(); err == nil {
		t.Error("a key has a JSON form")
	}
	if _, err := ParseKey("0123456789ABCDEF0123456789ABCDEG"); !errors.Is(err, ErrKey) || strings.Contains(err.Error(), "0123") {
		t.Errorf("%v", err)
	}
}

func TestLayoutsAreFoundByVersion(t *testing.T) {
	visa, mc := []byte{0xA0, 0, 0, 0, 3, 0x10}, []byte{0xA0, 0, 0, 0, 4, 0x10}
	for _, c := range []struct {
		aid, iad []byte
		want     string
	}{
		{visa, []byte{6, 1, 10, 3, 0, 0, 0}, "Visa CVN 10"},
		{visa, []byte{6, 1, 0x12, 3, 0, 0, 0}, "Visa CVN 18"},
		{visa, append([]byte{0x1F, 0x22, 1}, make([]byte, 29)...), "Visa CVN 22"},
		{mc, append([]byte{1, 0x10}, make([]byte, 16)...), "M/Chip CVN 10"},
		{mc, append([]byte{1, 0x15}, make([]byte, 16)...), "M/Chip CVN 15"},
		{visa, []byte{6, 1, 99, 3, 0, 0, 0}, ""},
		{mc, append([]byte{1, 0x99}, make([]byte, 16)...), ""},
		{visa, nil, ""},
		{mc, nil, ""},
		{visa, append([]byte{0x1F, 0x43, 1}, make([]byte, 29)...), ""},
	} {
		l, err := LayoutOf(c.aid, c.iad)
		if l.Name != c.want || (c.want == "") != errors.Is(err, ErrLayout) {
			t.Errorf("%X: %q %v", c.iad, l.Name, err)
		}
	}
}

// The data of two recorded cryptograms (public-cryptogram.json, ac.generate_ac
// of CVN 10 and M/Chip 17) put together from their data objects.
func TestLayoutDataOfPublishedCryptograms(t *testing.T) {
	for _, c := range []struct {
		l            Layout
		tags, iad    string
		data, ac, sk string
	}{
		{VisaCVN10, "9F0206000000004000 9F0306000000000000 9F1A020124 95058000048000 5F2A020124 9A03191105 9C0101 9F370452BF4585 82021800 9F3602001C",
			"06010A03A06010", "0000000040000000000000000124800004800001241911050152BF45851800001C03A06010", "29CCA15AE665FA2E", "154F349D8585CB7F6B0798E9839B10C1"},
		{MChipCVN11, "9F0206000000009999 9F0306000000000000 9F1A020124 95058000000000 5F2A020124 9A03209906 9C0100 9F3704ABCDEF12 82021800 9F3602001C",
			"0111A00003220000DAC100000000000322FF", "00000000999900000000000001248000000000012420990600ABCDEF121800001CA0000322000000000000000322FF", "EAE8A620A75648D8", "5D8F37BCD9E5DA68048CDFA2EA255D9E"},
	} {
		a := &args{t: t, in: map[string]any{"tags": strings.ReplaceAll(c.tags, " ", ""), "iad": c.iad, "sk": c.sk}}
		tree, err := tlv.Parse(tlv.Append(a.bytes("tags"), 0x9F10, a.bytes("iad")), nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := c.l.Data(tree.Find)
		if err != nil || upper(data) != c.data {
			t.Errorf("%s: %v, %d bytes", c.l.Name, err, len(data))
		}
		if ac := AC(a.key("sk"), data, c.l.Padding); upper(ac[:]) != c.ac {
			t.Errorf("%s: another cryptogram", c.l.Name)
		}
	}
}
