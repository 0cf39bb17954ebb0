package cryptogram

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

type vector struct {
	Fn         string         `json:"fn"`
	In         map[string]any `json:"in"`
	Out        any            `json:"out"`
	Test       string         `json:"test"`
	Recomputed bool           `json:"recomputed"`
}

func eachVector(t *testing.T, set string, run func(t *testing.T, v vector) string) {
	n := 0
	for _, file := range vectortest.Files(t, "emv", set) {
		var doc struct{ Vectors []vector }
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &doc)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range doc.Vectors {
			n++
			t.Run(fmt.Sprintf("%d/%s", n, v.Fn), func(t *testing.T) {
				got := run(t, v)
				if want := strings.ToUpper(fmt.Sprint(v.Out)); got != want {
					t.Errorf("%s (%s): wrong result", v.Fn, v.Test)
				}
			})
		}
	}
	vectortest.Ran(t, set, n)
}

// args reads the inputs of one vector and insists that all were used.
type args struct {
	t    *testing.T
	in   map[string]any
	used []string
}

func (a *args) text(key string) string {
	a.used = append(a.used, key)
	if a.in[key] == nil {
		return ""
	}
	return fmt.Sprint(a.in[key])
}

func (a *args) num(key string, none int) int {
	a.used = append(a.used, key)
	f, ok := a.in[key].(float64)
	if !ok {
		return none
	}
	return int(f)
}

func (a *args) bytes(key string) []byte {
	b, err := hex.DecodeString(a.text(key))
	if err != nil {
		a.t.Fatalf("%s: %v", key, err)
	}
	return b
}

func (a *args) key(key string) Key {
	k, err := ParseKey(a.text(key))
	if err != nil {
		a.t.Fatalf("%s: %v", key, err)
	}
	return k
}

// digits reads text that was recorded either as it is or as the hex of its
// ASCII bytes: "9999" or "39393939".
func (a *args) digits(key string, longest int) string {
	s := a.text(key)
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		return s
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return s
		}
	}
	if len(s) > longest || len(b) >= 4 || key == "psn" && len(s) == 4 {
		return string(b)
	}
	return s
}

func (a *args) done() {
	for key := range a.in {
		if !slices.Contains(a.used, key) {
			a.t.Fatalf("input %q is not used", key)
		}
	}
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func cut(b [8]byte, n int) string { return upper(b[:n]) }

func TestVectorsCryptogram(t *testing.T) {
	eachVector(t, "cryptogram", func(t *testing.T, v vector) (out string) {
		a := &args{t: t, in: v.In}
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		atc := func() uint16 { b := a.bytes("atc"); return uint16(b[0])<<8 | uint16(b[1]) }
		switch v.Fn {
		case "kd.derive_icc_mk_a", "kd.derive_icc_mk_b":
			f := CardKeyA
			if strings.HasSuffix(v.Fn, "b") {
				f = CardKeyB
			}
			pan := a.text("pan")
			if len(pan) > 19 {
				pan = a.digits("pan", 19)
			}
			k, err := f(a.key("iss_mk"), pan, a.digits("psn", 2))
			must(err)
			out = upper(k[:])
		case "kd.derive_common_sk":
			k := CommonSessionKey(a.key("icc_mk"), [8]byte(a.bytes("r")))
			out = upper(k[:])
		case "kd.derive_visa_sm_sk":
			k := VisaSessionKey(a.key("icc_mk"), atc())
			out = upper(k[:])
		case "kd.derive_emv2000_tree_sk":
			k, err := TreeSessionKey(a.key("icc_mk"), atc(), a.num("height", 8), a.num("branch_factor", 4), a.key("iv"))
			must(err)
			out = upper(k[:])
		case "ac.generate_ac":
			p := PadEMV
			if a.text("padding_type") == "VISA" {
				p = PadZeros
			}
			out = cut(AC(a.key("sk_ac"), a.bytes("data"), p), a.num("length", 8))
		case "ac.generate_arpc_1":
			b := ARPC1(a.key("sk_ac"), [8]byte(a.bytes("arqc")), [2]byte(a.bytes("arpc_rc")))
			out = upper(b[:])
		case "ac.generate_arpc_2":
			b := ARPC2(a.key("sk_ac"), [8]byte(a.bytes("arqc")), [4]byte(a.bytes("csu")), a.bytes("prop_auth_data"))
			out = upper(b[:])
		case "sm.generate_command_mac":
			out = cut(ScriptMAC(a.key("sk_smi"), a.bytes("command")), a.num("length", 8))
		case "sm.encrypt_command_data":
			e, ok := map[string]Encipherment{"VISA": EncipherVisa, "MASTERCARD": EncipherMastercard, "EMV": EncipherEMV}[a.text("encryption_type")]
			if !ok {
				t.Fatal("unknown encryption type")
			}
			k, data := a.key("sk_smc"), a.bytes("command_data")
			b, err := EncipherData(k, data, e)
			must(err)
			back, err := DecipherData(k, b, e)
			if err != nil || !slices.Equal(back[:len(data)], data) {
				t.Errorf("does not decipher: %v", err)
			}
			out = upper(b)
		case "sm.format_vis_pin_block":
			b, err := VisaPINBlock(a.key("icc_mk_ac"), a.digits("pin", 12), a.digits("current_pin", 12))
			must(err)
			out = upper(b[:])
		case "sm.format_iso9564_2_pin_block":
			b, err := ISO2PINBlock(a.digits("pin", 12))
			must(err)
			out = upper(b[:])
		case "cvv.generate_cvc3":
			out = fmt.Sprint(CVC3(a.key("icc_cvc3"), a.bytes("track_template"), atc(), [4]byte(a.bytes("un"))))
		case "mac.pad_iso9797_1", "mac.pad_iso9797_2":
			out = upper(Pad(a.bytes("data"), Padding(v.Fn[len(v.Fn)-1]-'0'), a.num("block_size", 8)))
		case "mac.mac_iso9797_3":
			var k Key
			copy(k[:8], a.bytes("key1"))
			copy(k[8:], a.bytes("key2"))
			out = cut(MAC(k, a.bytes("data"), Padding(a.num("padding", 1))), a.num("length", 8))
		default:
			t.Fatalf("unknown function %q", v.Fn)
		}
		a.done()
		return out
	})
}
