package keyblock

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/p2pe"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal("not hex")
	}
	return b
}

var anything = &Policy{AllowExportable: true, Legacy: true}

func TestVectorsTR31(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "p2pe", "tr31") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Vectors []map[string]any `json:"vectors"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, fields := range doc.Vectors {
			text := func(name string) string { s, _ := fields[name].(string); return s }
			t.Run(text("id"), func(t *testing.T) {
				for name := range fields {
					switch name {
					case "id", "kind", "source", "origin", "note", "block", "kbpk", "key", "kcv", "ksn", "header", "must", "hint",
						"unwrap_psec", "unwrap_moov_tr31", "unwrap_openemv":
					default:
						t.Errorf("field %q is not known", name)
					}
				}
				switch kind := text("kind"); kind {
				case "malformed_header":
					refused(t, text("header"))
				case "":
					opened(t, text("block"), text("kbpk"), text("key"), text("kcv"), text("ksn"))
				default:
					t.Fatalf("kind %q is not known", kind)
				}
			})
			n++
		}
	}
	vectortest.Ran(t, "tr31", n)
}

// refused tries a malformed header alone, and made whole by a right length and
// an enciphered part, so that the fault itself is found.
func refused(t *testing.T, header string) {
	if _, err := Open(header, make([]byte, 16), anything); err == nil {
		t.Error("accepted as it is")
	}
	if _, _, err := parseHeader(header); err == nil {
		t.Error("the header itself is accepted")
	}
	tail := strings.Repeat("0", 96)
	if len(header) >= 5 {
		if total := len(header) + len(tail); total < 10000 {
			whole := header[:1] + fmt.Sprintf("%04d", total) + header[5:] + tail
			if _, err := Open(whole, make([]byte, 16), anything); err == nil {
				t.Error("accepted with an enciphered part")
			}
		}
	}
}

func opened(t *testing.T, block, kbpkHex, keyHex, kcv, ksn string) {
	kbpk, want := unhex(t, kbpkHex), unhex(t, keyHex)
	k, err := Open(block, kbpk, anything)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.Bytes(), want) {
		t.Fatal("another key")
	}
	if kcv != "" {
		var got []byte
		if k.Header.Algorithm == 'A' {
			got, err = CMACKCV(want, false)
			if len(kcv) == 6 {
				got, err = aesKCV(want)
				if legacy := strings.ToUpper(hex.EncodeToString(got)); legacy != kcv {
					got, err = CMACKCV(want, false)
				}
			}
		} else {
			got, err = KCV(want)
		}
		if err != nil || !strings.HasPrefix(strings.ToUpper(hex.EncodeToString(got)), kcv) {
			t.Errorf("check value differs (%v)", err)
		}
	}
	if ksn != "" {
		got, err := k.Header.KSN()
		if err != nil || !strings.HasPrefix(string(got), ksn) {
			t.Errorf("serial number %s (%v)", got, err)
		}
	}
	// The same payload enciphered again gives the same block.
	if v := k.Header.Version; v == 'B' || v == 'D' {
		parts, err := split(block)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := parts.open(kbpk)
		if err != nil {
			t.Fatal(err)
		}
		keys, _ := protect(v, kbpk)
		if again := seal(string(parts.clear), payload, keys); again != block {
			t.Error("sealing again gives another block")
		}
	}
	// No bit of it can change.
	step := max(1, len(block)/60)
	for i := 0; i < len(block); i += step {
		bad := []byte(block)
		bad[i] ^= 1
		if _, err := Open(string(bad), kbpk, anything); err == nil {
			t.Fatalf("character %d changed: accepted", i)
		}
	}
	wrong := bytes.Clone(kbpk)
	wrong[3] ^= 0x10
	if _, err := Open(block, wrong, anything); !errors.Is(err, ErrMAC) {
		t.Errorf("another protection key: %v", err)
	}
}

func sample(t testing.TB, h Header, key, kbpk []byte) string {
	t.Helper()
	s, err := Seal(h, key, kbpk, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func initialHeader() Header {
	return Header{Version: 'D', Usage: "B1", Algorithm: 'A', Mode: 'X', KeyVersion: "00", Exportability: 'N',
		Blocks: []OptionalBlock{{"IK", "1234567890123456"}}}
}

func TestSealAndOpen(t *testing.T) {
	long := strings.Repeat("MIIC", 200)
	for _, version := range []byte{'B', 'D'} {
		for _, size := range []int{16, 24, 32} {
			if version == 'B' && size == 32 {
				continue
			}
			for _, blocks := range [][]OptionalBlock{nil, {{"KS", "00604B120F9292800000"}}, {{"LB", "x"}, {"CT", long}}, {{"TS", "20200818004100Z"}}} {
				h := Header{Version: version, Usage: "K0", Algorithm: 'A', Mode: 'B', KeyVersion: "00", Exportability: 'N', Blocks: blocks}
				key, kbpk := bytes.Repeat([]byte{0x5a}, size), bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, size/8)
				if version == 'B' {
					h.Algorithm = 'T'
				}
				block := sample(t, h, key, kbpk)
				k, err := Open(block, kbpk, nil)
				if err != nil {
					t.Fatalf("%c, %d bytes, %d blocks: %v", version, size, len(blocks), err)
				}
				if !bytes.Equal(k.Bytes(), key) {
					t.Fatalf("%c, %d bytes: another key", version, size)
				}
				for _, b := range blocks {
					if got, ok := k.Header.Optional(b.ID); !ok || got != b.Data {
						t.Errorf("optional block %s: %d characters", b.ID, len(got))
					}
				}
			}
		}
	}
}

func TestPolicyIsEnforced(t *testing.T) {
	kbpk, key := bytes.Repeat([]byte{7, 1}, 16), bytes.Repeat([]byte{9, 4}, 8)
	with := func(f func(*Header)) string {
		h := initialHeader()
		f(&h)
		return sample(t, h, key, kbpk)
	}
	for _, c := range []struct {
		name  string
		block string
		want  error
	}{
		{"as wanted", with(func(*Header) {}), nil},
		{"base key", with(func(h *Header) { h.Usage = "B0" }), ErrUsage},
		{"pin key", with(func(h *Header) { h.Usage = "P0" }), ErrUsage},
		{"mode of no restrictions", with(func(h *Header) { h.Mode = 'N' }), ErrMode},
		{"exportable", with(func(h *Header) { h.Exportability = 'E' }), ErrExportable},
		{"a component", with(func(h *Header) { h.KeyVersion = "c1" }), ErrComponent},
		{"sensitive, exportable under any key", with(func(h *Header) { h.Exportability = 'S' }), ErrExportable},
		{"hmac", with(func(h *Header) { h.Algorithm = 'H' }), ErrAlgorithm},
		{"wrong check value", with(func(h *Header) { h.Blocks = append(h.Blocks, OptionalBlock{"KC", "010000000000"}) }), ErrCheckValue},
		{"malformed check value", with(func(h *Header) { h.Blocks = append(h.Blocks, OptionalBlock{"KP", "01"}) }), ErrCheckValue},
	} {
		p := InitialKey
		k, err := Open(c.block, kbpk, &p)
		if !errors.Is(err, c.want) || (err == nil) != (k != nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// A header changed to what the policy wants fails by its MAC.
	base := with(func(h *Header) { h.Usage = "B0" })
	if _, err := Open(strings.Replace(base, "B0A", "B1A", 1), kbpk, &InitialKey); !errors.Is(err, ErrMAC) {
		t.Errorf("forged usage: %v", err)
	}
	// And so does one changed to what it does not want: the MAC comes first.
	if _, err := Open(strings.Replace(with(func(*Header) {}), "B1A", "B0A", 1), kbpk, &InitialKey); !errors.Is(err, ErrMAC) {
		t.Errorf("changed usage: %v", err)
	}
}

func TestLegacyVersionsNeedAFlag(t *testing.T) {
	for _, file := range vectortest.Files(t, "p2pe", "tr31") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Vectors []struct{ Block, KBPK string } `json:"vectors"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, v := range doc.Vectors {
			if v.Block != "" && (v.Block[0] == 'A' || v.Block[0] == 'C') {
				if _, err := Open(v.Block, unhex(t, v.KBPK), &Policy{AllowExportable: true}); !errors.Is(err, ErrVersion) {
					t.Errorf("version %c without the flag: %v", v.Block[0], err)
				}
			}
		}
	}
}

func TestBadBlocksHaveTheirOwnErrors(t *testing.T) {
	kbpk := bytes.Repeat([]byte{7, 1}, 16)
	good := sample(t, initialHeader(), bytes.Repeat([]byte{9, 4}, 8), kbpk)
	for _, c := range []struct {
		name, block string
		kbpk        []byte
		want        error
	}{
		{"empty", "", kbpk, ErrFormat},
		{"cut", good[:len(good)-2], kbpk, ErrFormat},
		{"lengthened", good + "00", kbpk, ErrFormat},
		{"version", "F" + good[1:], kbpk, ErrVersion},
		{"not hex", good[:len(good)-1] + "G", kbpk, ErrFormat},
		{"control character", good[:20] + "\x00" + good[21:], kbpk, ErrFormat},
		{"short protection key", good, kbpk[:20], ErrProtection},
		{"other protection key", good, kbpk[:16], ErrMAC},
		{"last bit", good[:len(good)-1] + string(good[len(good)-1]^1), kbpk, ErrMAC},
	} {
		if _, err := Open(c.block, c.kbpk, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestKSNOfTheHeader(t *testing.T) {
	for _, c := range []struct {
		h    Header
		want p2pe.KSN
		err  error
	}{
		{Header{Algorithm: 'T', Blocks: []OptionalBlock{{"KS", "00604B120F9292800000"}}}, "00604B120F9292800000", nil},
		{Header{Algorithm: 'T', Blocks: []OptionalBlock{{"KS", "00604B120F929280"}}}, "00604B120F9292800000", nil},
		{Header{Algorithm: 'A', Blocks: []OptionalBlock{{"IK", "1234567890123456"}}}, "123456789012345600000000", nil},
		{Header{Algorithm: 'A'}, "", ErrSerial},
		{Header{Algorithm: 'T', Blocks: []OptionalBlock{{"KS", "00"}}}, "", ErrSerial},
		{Header{Algorithm: 'T', Blocks: []OptionalBlock{{"KS", "123456789012345600000000"}}}, "", ErrSerial},
		{Header{Algorithm: 'A', Blocks: []OptionalBlock{{"KS", "00604B120F9292800000"}}}, "", ErrSerial},
		{Header{Algorithm: 'H', Blocks: []OptionalBlock{{"IK", "1234567890123456"}}}, "", ErrSerial},
	} {
		if got, err := c.h.KSN(); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: %s, %v", c.h.Blocks, got, err)
		}
	}
}

func TestKeyPrintsItsHeaderAlone(t *testing.T) {
	k := Key{Header: initialHeader(), material: []byte("0123456789abcdef")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, x := range []any{k, &k} {
			if out := fmt.Sprintf(verb, x); out != "key{version D usage B1 ***}" {
				t.Errorf("%s: %d characters", verb, len(out))
			}
		}
	}
	if _, err := json.Marshal(k); err == nil {
		t.Error("a key has a JSON form")
	}
}

func FuzzOpen(f *testing.F) {
	kbpk := bytes.Repeat([]byte{7, 1}, 16)
	f.Add(sample(f, initialHeader(), bytes.Repeat([]byte{9, 4}, 8), kbpk))
	f.Add("B0104B0TX12S0100KS1800604B120F9292800000BB68BE8680A400D9191AD4ECE45B6E6C0D21C4738A52190E248719E24B433627")
	f.Add("A0112P0TE12E0200KS1400604B120F929280PB047A1BB737854CD7AF58A8A1E4506A942277EDA76EBA6BA228AF62ADDA3AD8799E8B2C8CD7")
	f.Add("E0084B0TV16N0000B2AE5E26BBA7F246E84D5EA24167E208A6B66EF2E27E55A52DB52F0AEACB94C57547")
	f.Add("B0000P0TE00N0200KS04TT00011F")
	f.Fuzz(func(t *testing.T, block string) {
		Describe(block)
		for _, n := range []int{16, 32} {
			k, err := Open(block, kbpk[:n], anything)
			if (err == nil) != (k != nil) {
				t.Fatal("half made")
			}
		}
	})
}

func TestSelfTestPasses(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Error(err)
	}
}
