package p2pe

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"reflect"
	"strings"
	"testing"
)

func TestParseKSNTakesThreeLengths(t *testing.T) {
	for n := range 40 {
		text := strings.Repeat("A", n)
		k, err := ParseKSN(text)
		if ok := n == 16 || n == 20 || n == 24; (err == nil) != ok || err != nil && !errors.Is(err, ErrKSN) {
			t.Errorf("%d digits: %v", n, err)
		} else if ok && len(k.Bytes()) != n/2 {
			t.Errorf("%d digits: %d bytes", n, len(k.Bytes()))
		}
	}
	for _, bad := range []string{"FFFF9876543210E0000G", "FFFF 876543210E00001", "0xFF9876543210E00001", "FFFF9876543210E0000é"} {
		if _, err := ParseKSN(bad); !errors.Is(err, ErrKSN) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if k, _ := ParseKSN("ffff9876543210e00001"); k != "FFFF9876543210E00001" {
		t.Errorf("lower case: %s", k)
	}
}

func TestKSNParts(t *testing.T) {
	for _, c := range []struct {
		ksn     KSN
		scheme  Scheme
		counter uint32
		device  string
		usable  bool
	}{
		{"FFFF9876543210E00001", SchemeTDESDUKPT, 1, "FFFF9876543210E0", true},
		{"9876543210E00001", SchemeTDESDUKPT, 1, "FFFF9876543210E0", true},
		{"FFFF9876543210FFF800", SchemeTDESDUKPT, 0x1FF800, "FFFF9876543210E0", true},
		{"FFFF9876543210FFE000", SchemeTDESDUKPT, 0x1FE000, "FFFF9876543210E0", true},
		{"FFFF9876543210FFFC00", SchemeTDESDUKPT, 0x1FFC00, "FFFF9876543210E0", false},
		{"FFFF9876543210E00000", SchemeTDESDUKPT, 0, "FFFF9876543210E0", false},
		{"123456789012345600000001", SchemeAESDUKPT, 1, "1234567890123456", true},
		{"1234567890123456FFFF0000", SchemeAESDUKPT, 0xFFFF0000, "1234567890123456", true},
		{"1234567890123456FFFF0001", SchemeAESDUKPT, 0xFFFF0001, "1234567890123456", false},
		{"1234567890123456FFFFFFFF", SchemeAESDUKPT, 0xFFFFFFFF, "1234567890123456", false},
		{"", "", 0, "", false}, {"12", "", 0, "", false}, {"ZZZZ9876543210E00001", SchemeTDESDUKPT, 0, "", false},
	} {
		n, _ := c.ksn.Counter()
		if c.ksn.Scheme() != c.scheme || n != c.counter || c.ksn.Device() != c.device {
			t.Errorf("%s: %s %X %s", c.ksn, c.ksn.Scheme(), n, c.ksn.Device())
		}
		if err := c.ksn.Check(); (err == nil) != c.usable || err != nil && !errors.Is(err, ErrKSN) {
			t.Errorf("%s: %v", c.ksn, err)
		}
	}
}

func TestPINBlockPrintsUnderNoVerb(t *testing.T) {
	b := PINBlock{KSN: "FFFF9876543210E00001", Format: 0, Block: []byte{0x1B, 0x9C, 0x18, 0x45, 0xEB, 0x99, 0x3A, 0x7A}}
	forms := []string{"1b9c1845", "1B9C1845", string(b.Block), "27 156 24", "0x1b, 0x9c", "[00011011", "[33 234", "G5wYReuZOno"}
	type wrapper struct{ P PINBlock }
	for _, x := range []any{b, &b, wrapper{b}, &wrapper{b}, []PINBlock{b}, b.Block, map[string]any{"p": b}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%e"} {
			out := fmt.Sprintf(verb, x)
			for _, f := range forms {
				if strings.Contains(out, f) {
					t.Errorf("%s of %T shows the block", verb, x)
				}
			}
		}
		if _, err := json.Marshal(x); err == nil {
			t.Errorf("%T has a JSON form", x)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", x)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "p", x)
		for _, f := range forms {
			if strings.Contains(log.String(), f) {
				t.Errorf("a log of %T shows the block", x)
			}
		}
	}
	b.Erase()
	if !b.Empty() {
		t.Error("not erased")
	}
}

func TestPINBlockCheck(t *testing.T) {
	const tdes, aes = KSN("FFFF9876543210E00001"), KSN("123456789012345600000001")
	for _, c := range []struct {
		b  PINBlock
		ok bool
	}{
		{PINBlock{tdes, 0, make([]byte, 8)}, true}, {PINBlock{tdes, 1, make([]byte, 8)}, true}, {PINBlock{tdes, 3, make([]byte, 8)}, true},
		{PINBlock{aes, 4, make([]byte, 16)}, true}, {PINBlock{aes, 0, make([]byte, 8)}, true},
		{PINBlock{tdes, 2, make([]byte, 8)}, false}, {PINBlock{tdes, 4, make([]byte, 16)}, false}, {PINBlock{aes, 4, make([]byte, 8)}, false},
		{PINBlock{tdes, 0, make([]byte, 16)}, false}, {PINBlock{tdes, 0, make([]byte, 7)}, false}, {PINBlock{"", 0, make([]byte, 8)}, false},
		{PINBlock{"FFFF9876543210E00000", 0, make([]byte, 8)}, false}, {PINBlock{tdes, 5, make([]byte, 8)}, false}, {PINBlock{}, false},
	} {
		if err := c.b.Check(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrPINBlock) {
			t.Errorf("format %d, %d bytes, %s: %v", c.b.Format, len(c.b.Block), c.b.KSN, err)
		}
	}
}

// full fills every field with something of its own.
func full() Envelope {
	var e Envelope
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.String {
			v.Field(i).SetString(fmt.Sprintf("s%d", i))
		} else {
			v.Field(i).SetBytes([]byte{byte(i), 1})
		}
	}
	return e
}

func TestCanonicalBytesCoverEveryFieldButTheMAC(t *testing.T) {
	e := full()
	want := e.AppendCanonical(nil)
	typ := reflect.TypeFor[Envelope]()
	for i := range typ.NumField() {
		c := e
		f := reflect.ValueOf(&c).Elem().Field(i)
		if f.Kind() == reflect.String {
			f.SetString(f.String() + "x")
		} else {
			f.SetBytes([]byte{0xFF})
		}
		same := bytes.Equal(c.AppendCanonical(nil), want)
		if same != (typ.Field(i).Name == "MAC") {
			t.Errorf("%s: canonical bytes the same: %v", typ.Field(i).Name, same)
		}
	}
	a, b := Envelope{MaskedPAN: "12", BIN: "3"}, Envelope{MaskedPAN: "1", BIN: "23"}
	if bytes.Equal(a.AppendCanonical(nil), b.AppendCanonical(nil)) {
		t.Error("a field can be moved into its neighbour")
	}
	if got := e.AppendCanonical([]byte("head")); !bytes.Equal(got[4:], want) || string(got[:4]) != "head" {
		t.Error("it does not append")
	}
}

func TestEnvelopeCheck(t *testing.T) {
	good := Envelope{Scheme: SchemeTDESDUKPT, KSN: "FFFF9876543210E00001", Algorithm: "TDEA", Track2: make([]byte, 24), MaskedPAN: "411111******1111", BIN: "411111", Last4: "1111", ServiceCode: "201"}
	for _, c := range []struct {
		name   string
		change func(*Envelope)
		ok     bool
	}{
		{"good", func(*Envelope) {}, true},
		{"aes data under tdes keys", func(e *Envelope) { e.Algorithm = "AES-128"; e.Track2 = make([]byte, 32) }, true},
		{"fixed key", func(e *Envelope) { e.KeyVariant, e.KSN = VariantFixed, "" }, true},
		{"jwe", func(e *Envelope) { *e = Envelope{Scheme: SchemeJWE, JWE: "a.b.c.d.e"} }, true},
		{"jwe of three parts", func(e *Envelope) { *e = Envelope{Scheme: SchemeJWE, JWE: "a.b.c"} }, false},
		{"jwe beside ciphertext", func(e *Envelope) { e.JWE = "a.b.c.d.e" }, false},
		{"no ciphertext", func(e *Envelope) { e.Track2 = nil }, false},
		{"half a block", func(e *Envelope) { e.Track2 = make([]byte, 20) }, false},
		{"no scheme", func(e *Envelope) { e.Scheme = "" }, false},
		{"serial of the other scheme", func(e *Envelope) { e.KSN = "123456789012345600000001" }, false},
		{"counter zero", func(e *Envelope) { e.KSN = "FFFF9876543210E00000" }, false},
		{"long last digits", func(e *Envelope) { e.Last4 = "11111" }, false},
		{"long prefix", func(e *Envelope) { e.BIN = "411111111" }, false},
		{"masked shows too much", func(e *Envelope) { e.MaskedPAN = "4111111111***111" }, false},
		{"not masked", func(e *Envelope) { e.MaskedPAN = "4111111111111111" }, false},
		{"vector of another size", func(e *Envelope) { e.IV = make([]byte, 16) }, false},
	} {
		e := good
		c.change(&e)
		if err := e.Check(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrEnvelope) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestErrorsCarryTheirCode(t *testing.T) {
	_, err := ParseKSN("1")
	var coded interface{ Code() string }
	if !errors.As(err, &coded) || coded.Code() != "keys.serial_number" {
		t.Errorf("%v", err)
	}
}

func FuzzKSN(f *testing.F) {
	for _, s := range []string{"FFFF9876543210E00001", "9876543210E00001", "1234567890123456FFFF0000", "", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// A KSN may be built by conversion, unparsed: nothing may panic.
		raw := KSN(s)
		raw.Check()
		raw.Device()
		k, err := ParseKSN(s)
		if err != nil {
			return
		}
		if KSNOf(k.Bytes()) != k || !strings.EqualFold(hex.EncodeToString(k.Bytes()), s) {
			t.Fatalf("%s: not the same again", k)
		}
		c, ok := k.Counter()
		if !ok {
			t.Fatal("no counter")
		}
		if k.Check() == nil && (c == 0 || bits.OnesCount32(c) > 16) {
			t.Fatalf("%s accepted", k)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	e := full()
	j, _ := json.Marshal(e)
	f.Add(j)
	f.Add([]byte(`{"scheme":"tdes-dukpt","ksn":"FFFF9876543210E00001","track2":"AAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Envelope
		if json.Unmarshal(data, &e) != nil {
			return
		}
		if err := e.Check(); err == nil && e.Empty() {
			t.Fatal("empty and accepted")
		}
		again := Envelope{}
		j, err := json.Marshal(e)
		if err != nil || json.Unmarshal(j, &again) != nil || !bytes.Equal(e.AppendCanonical(nil), again.AppendCanonical(nil)) {
			t.Fatal("JSON does not keep the canonical bytes")
		}
		_ = e.String()
	})
}
