package profile

import (
	"bytes"
	"encoding/base64"
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

func TestVectorsDeviceFormats(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "p2pe", "device-formats") {
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
		for _, v := range doc.Vectors {
			text := func(name string) string { s, _ := v[name].(string); return s }
			t.Run(text("id"), func(t *testing.T) {
				name := ""
				for _, p := range []struct{ word, profile string }{{"ID TECH", IDTech}, {"IDTECH", IDTech}, {"MagTek", MagTek}, {"Magne", MagTek}} {
					if name == "" && strings.Contains(strings.ToLower(text("device")+text("id")), strings.ToLower(p.word)) {
						name = p.profile
					}
				}
				if name == "" {
					t.Fatalf("no profile for device %q", text("device"))
				}
				e, err := Parse(name, []byte(text("payload")), nil)
				if err != nil {
					t.Fatal(err)
				}
				if e.KSN != p2pe.KSN(text("ksn")) || e.Empty() {
					t.Errorf("serial number %s", e.KSN)
				}
				if s := text("serial_ascii"); s != "" && e.DeviceSerial != s {
					t.Errorf("device serial %q", e.DeviceSerial)
				}
				for _, field := range []string{"masked_track1", "masked_track2"} {
					if s := text(field); s != "" {
						m, err := maskedNumber(s)
						if err != nil || m != e.MaskedPAN && !strings.HasSuffix(m, e.Last4) {
							t.Errorf("%s: masked number %q, %v", field, e.MaskedPAN, err)
						}
					}
				}
				if s := text("t2_len"); s != "" && name == IDTech {
					var inHex, n int
					if _, err := fmt.Sscanf(s, "%02x hex = %d", &inHex, &n); err == nil && (inHex != n || len(e.Track2) != (n+7)/8*8) {
						t.Errorf("track 2: %d bytes of ciphertext for a length of %d", len(e.Track2), n)
					}
				}
				// Every character changed is noticed or changes what is read.
				payload := text("payload")
				for i := range payload {
					bad := []byte(payload)
					bad[i] ^= 1
					if got, err := Parse(name, bad, nil); err == nil && name == IDTech {
						t.Fatalf("character %d changed: accepted, %s", i, got)
					}
				}
			})
			n++
		}
	}
	vectortest.Ran(t, "device-formats", n)
}

// idtech builds the enhanced format, binary or typed.
type idtech struct {
	clear, cipher byte
	masked        [3]string
	ct            [3][]byte
	serial, ksn   string
	typed         bool
	lengths       [3]int
	tail          string
	wrongSum      bool
	kind          byte
}

func (x idtech) bytes() []byte {
	if x.kind == 0 {
		x.kind = 0x80
	}
	var body bytes.Buffer
	put := func(b []byte) {
		if x.typed {
			body.WriteString(strings.ToUpper(hex.EncodeToString(b)))
		} else {
			body.Write(b)
		}
	}
	lengths := make([]byte, 3)
	for i := range lengths {
		lengths[i] = byte(len(x.masked[i]))
		if x.lengths[i] != 0 {
			lengths[i] = byte(x.lengths[i])
		}
	}
	put([]byte{x.kind, 0x1F})
	put(lengths)
	put([]byte{x.clear, x.cipher})
	for i, m := range x.masked {
		if x.clear&(1<<i) != 0 {
			body.WriteString(m)
		}
	}
	for i, c := range x.ct {
		if x.cipher&(1<<i) != 0 {
			put(c)
		}
	}
	if x.cipher&cipherSession != 0 {
		put(make([]byte, 8))
	}
	for i := range 3 {
		if x.cipher&(cipherHash1<<i) != 0 {
			put(bytes.Repeat([]byte{0xAB}, 20))
		}
	}
	if x.clear&clearSerial != 0 {
		put([]byte((x.serial + "          ")[:10]))
	}
	ksn, _ := hex.DecodeString(x.ksn)
	put(ksn)
	b := body.Bytes()
	var lrc, sum byte
	for _, c := range b {
		lrc ^= c
		sum += c
	}
	if x.wrongSum {
		sum++
	}
	head := []byte{2, byte(len(b)), byte(len(b) >> 8)}
	tail := []byte{lrc, sum, 3}
	if x.typed {
		head, tail = []byte(strings.ToUpper(hex.EncodeToString(head))), []byte(strings.ToUpper(hex.EncodeToString(tail)))
	}
	return append(append(append(head, b...), tail...), x.tail...)
}

const masked2 = ";411111******1111=****************?*"

func idtechGood() idtech {
	return idtech{clear: 0x82, cipher: 0x82, masked: [3]string{"", masked2, ""}, ct: [3][]byte{nil, bytes.Repeat([]byte{0x9C, 0x3A, 0xF1, 0x07}, 10), nil},
		serial: "T134000064", ksn: "62994996000000A00072"}
}

func TestIDTechStatusBitsChooseTheKey(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*idtech)
		scheme  p2pe.Scheme
		variant string
		alg     string
		err     error
	}{
		{"data key", func(*idtech) {}, p2pe.SchemeTDESDUKPT, p2pe.VariantDataRequest, "TDEA", nil},
		{"typed", func(x *idtech) { x.typed = true }, p2pe.SchemeTDESDUKPT, p2pe.VariantDataRequest, "TDEA", nil},
		{"pin key", func(x *idtech) { x.clear |= clearPINKey }, p2pe.SchemeTDESDUKPT, p2pe.VariantPIN, "TDEA", nil},
		{"session and hashes", func(x *idtech) { x.cipher |= cipherSession | 2*cipherHash1 }, p2pe.SchemeTDESDUKPT, p2pe.VariantDataRequest, "TDEA", nil},
		{"aes under tdes dukpt", func(x *idtech) { x.clear |= clearAES; x.ct[1] = append(x.ct[1], x.ct[1][:8]...) }, p2pe.SchemeTDESDUKPT, p2pe.VariantDataRequest, "AES-128", nil},
		{"aes dukpt", func(x *idtech) {
			x.clear |= clearAES
			x.ct[1] = append(x.ct[1], x.ct[1][:8]...)
			x.ksn = "123456789012345600000001"
		}, p2pe.SchemeAESDUKPT, p2pe.VariantAESDataEncrypt, "AES-128", nil},
		{"aes serial under tdes", func(x *idtech) { x.ksn = "123456789012345600000001" }, "", "", "", ErrAttribution},
		{"fixed key", func(x *idtech) { x.clear |= clearFixedKey }, "", "", "", ErrAttribution},
		{"unknown algorithm", func(x *idtech) { x.clear |= 3 << 4 }, "", "", "", ErrForm},
		{"encryption off", func(x *idtech) { x.cipher &^= 7 }, "", "", "", ErrEncryptionOff},
		{"no serial number of the key", func(x *idtech) { x.cipher &^= cipherKSN }, "", "", "", ErrForm},
		{"counter zero", func(x *idtech) { x.ksn = "62994996000000A00000" }, "", "", "", ErrForm},
		{"clear digits in the masked track", func(x *idtech) { x.masked[1] = ";4111111111111111=29121010000000000?" }, "", "", "", ErrLeak},
		{"too many digits shown", func(x *idtech) { x.masked[1] = ";411111111***1111=****************?*" }, "", "", "", ErrLeak},
		{"clear digits as ciphertext", func(x *idtech) { x.ct[1] = []byte(";4111111111111111=2912101000000000??????") }, "", "", "", ErrLeak},
		{"original format", func(x *idtech) { x.kind = 0x01 }, "", "", "", ErrForm},
		{"wrong sum", func(x *idtech) { x.wrongSum = true }, "", "", "", ErrForm},
		{"something behind", func(x *idtech) { x.tail = "x" }, "", "", "", ErrForm},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := idtechGood()
			c.change(&x)
			e, err := Parse(IDTech, x.bytes(), nil)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if err != nil {
				if !e.Empty() || e.MaskedPAN != "" {
					t.Error("half an envelope beside an error")
				}
				return
			}
			if e.Scheme != c.scheme || e.KeyVariant != c.variant || e.Algorithm != c.alg {
				t.Errorf("%s %s %s", e.Scheme, e.KeyVariant, e.Algorithm)
			}
			if e.MaskedPAN != "411111******1111" || e.BIN != "411111" || e.Last4 != "1111" || e.DeviceSerial != "T134000064" {
				t.Errorf("clear parts: %s %s %s %s", e.MaskedPAN, e.BIN, e.Last4, e.DeviceSerial)
			}
		})
	}
}

func magtek(change func(f []string)) []byte {
	f := []string{
		"%B4111110000001111^CARD/TEST^2912000000000000000?;4111110000001111=29120000000000000000?", "0006",
		strings.Repeat("C1F0B27A9D335E88", 7), strings.Repeat("0F9A77C3D2E1B4A6", 5), "", "61403000",
		strings.Repeat("AB", 56), "B123456789", "0000000000000000", "FFFF9876543210E00004", "AB12", "CD34", "1000",
	}
	if change != nil {
		change(f)
	}
	return []byte(strings.Join(f, "|") + "\r")
}

func TestMagTekFormat(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(f []string)
		want    *Expect
		variant string
		err     error
	}{
		{"as sent", nil, nil, p2pe.VariantPIN, nil},
		{"data variant by configuration", nil, &Expect{Variant: p2pe.VariantDataRequest}, p2pe.VariantDataRequest, nil},
		{"check digit corrected within the mask", func(f []string) { f[0] = strings.ReplaceAll(f[0], "4111110000001111", "4111110000031111") }, nil, p2pe.VariantPIN, nil},
		{"star mask", func(f []string) { f[0] = ";411111******1111=****?" }, nil, p2pe.VariantPIN, nil},
		{"track 1 unreadable", func(f []string) { f[0] = "%E?;4111110000001111=29120000000000000000?"; f[2] = "" }, nil, p2pe.VariantPIN, nil},
		{"encryption not enabled", func(f []string) { f[1] = "0002" }, nil, "", ErrEncryptionOff},
		{"no key", func(f []string) { f[1] = "0004" }, nil, "", ErrEncryptionOff},
		{"keys used up", func(f []string) { f[1] = "0007" }, nil, "", ErrExhausted},
		{"clear number", func(f []string) { f[0] = ";4012888888881881=29120000000000000000?" }, nil, "", ErrLeak},
		{"clear number in hex field", func(f []string) { f[3] = hex.EncodeToString([]byte(";4012888888881881=29120000000000000000??")) }, nil, "", ErrLeak},
		{"no ciphertext", func(f []string) { f[2], f[3] = "", "" }, nil, "", ErrEncryptionOff},
		{"half a block", func(f []string) { f[3] = f[3][:78] }, nil, "", ErrForm},
		{"bad serial number", func(f []string) { f[9] = "FFFF98765432" }, nil, "", ErrForm},
		{"another device", nil, &Expect{Serial: "B999999999"}, "", ErrAttribution},
		{"another key", nil, &Expect{Device: "FFFF111111111110"}, "", ErrAttribution},
		{"same device", nil, &Expect{Serial: "B123456789", Device: "FFFF9876543210E0"}, p2pe.VariantPIN, nil},
		{"aes configured", nil, &Expect{Scheme: p2pe.SchemeAESDUKPT}, "", ErrAttribution},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Parse(MagTek, magtek(c.change), c.want)
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if err == nil && (e.KeyVariant != c.variant || e.MaskedPAN != "411111******1111" || len(e.Track2) != 40) {
				t.Errorf("%s, %s, %d bytes", e.KeyVariant, e.MaskedPAN, len(e.Track2))
			}
		})
	}
}

func TestOneMakersDataAreNotAnothers(t *testing.T) {
	for name, data := range map[string][]byte{IDTech: idtechGood().bytes(), MagTek: magtek(nil), Generic: []byte(`{"device_profile":"generic"}`)} {
		for _, other := range []string{IDTech, MagTek, Generic, ABECS, "none"} {
			if other == name {
				continue
			}
			if e, err := Parse(other, data, nil); err == nil || !e.Empty() {
				t.Errorf("%s data read as %s", name, other)
			}
		}
	}
}

func TestABECSMethods(t *testing.T) {
	good := Fields{Serial: "S1", Method: "51", IV: make([]byte, 8), Track2: bytes.Repeat([]byte{0x9C, 0x31}, 12), Track2KSN: "FFFF9876543210E00003", Truncated: "411111******1111=2912"}
	for _, c := range []struct {
		name          string
		change        func(*Fields)
		variant, mode string
		err           error
	}{
		{"data cbc", func(*Fields) {}, p2pe.VariantDataRequest, "CBC", nil},
		{"data ecb", func(f *Fields) { f.Method, f.IV = "50", nil }, p2pe.VariantDataRequest, "ECB", nil},
		{"pin variant", func(f *Fields) { f.Method, f.IV = "30", nil }, p2pe.VariantPIN, "ECB", nil},
		{"no method", func(f *Fields) { f.Method = "" }, "", "", ErrEncryptionOff},
		{"fixed key", func(f *Fields) { f.Method = "11" }, "", "", ErrAttribution},
		{"rsa", func(f *Fields) { f.Method = "91" }, "", "", ErrAttribution},
		{"unknown", func(f *Fields) { f.Method = "77" }, "", "", ErrForm},
		{"no serial number", func(f *Fields) { f.Track2KSN = "" }, "", "", ErrForm},
		{"two serial numbers", func(f *Fields) { f.PAN, f.PANKSN = make([]byte, 8), "FFFF9876543210E00004" }, "", "", ErrAttribution},
		{"clear track", func(f *Fields) { f.Track2, _ = hex.DecodeString("4111111111111111D29121010000000000FFFFFFFFFFFFFF") }, "", "", ErrLeak},
		{"nothing", func(f *Fields) { f.Track2 = nil }, "", "", ErrEncryptionOff},
	} {
		f := good
		c.change(&f)
		e, err := ParseABECS(f, nil)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
			continue
		}
		if err == nil && (e.KeyVariant != c.variant || e.Mode != c.mode || e.MaskedPAN != "411111******1111") {
			t.Errorf("%s: %s %s %s", c.name, e.KeyVariant, e.Mode, e.MaskedPAN)
		}
	}
}

func TestGenericForm(t *testing.T) {
	good := p2pe.Envelope{Scheme: p2pe.SchemeAESDUKPT, DeviceProfile: Generic, KSN: "123456789012345600000001", KeyVariant: p2pe.VariantAESDataEncrypt,
		Algorithm: "AES-128", Mode: "CBC", Track2: bytes.Repeat([]byte{0x9C, 0x31}, 16), MaskedPAN: "411111******1111", EncryptionState: "VALID"}
	for _, c := range []struct {
		name   string
		change func(*p2pe.Envelope)
		err    error
	}{
		{"good", func(*p2pe.Envelope) {}, nil},
		{"state off", func(e *p2pe.Envelope) { e.EncryptionState = "Off" }, ErrEncryptionOff},
		{"state invalid", func(e *p2pe.Envelope) { e.EncryptionState = "INVALID" }, ErrEncryptionOff},
		{"other profile", func(e *p2pe.Envelope) { e.DeviceProfile = IDTech }, ErrAttribution},
		{"serial of the other scheme", func(e *p2pe.Envelope) { e.KSN = "FFFF9876543210E00003" }, ErrForm},
		{"clear in a field", func(e *p2pe.Envelope) { e.PAR = "4111111111111111" }, ErrLeak},
		{"state in other words", func(e *p2pe.Envelope) { e.EncryptionState = "encryption_off" }, ErrEncryptionOff},
		{"state not encrypted", func(e *p2pe.Envelope) { e.EncryptionState = "encrypted=false" }, ErrEncryptionOff},
		{"state plain", func(e *p2pe.Envelope) { e.EncryptionState = "PLAINTEXT" }, ErrEncryptionOff},
		{"clear as algorithm", func(e *p2pe.Envelope) { e.Algorithm = "AES 4111111111111111" }, ErrLeak},
		{"clear as mode", func(e *p2pe.Envelope) { e.Mode = "4111111111111111" }, ErrLeak},
		{"clear as padding", func(e *p2pe.Envelope) { e.Padding = "4111111111111111" }, ErrLeak},
		{"clear as vector", func(e *p2pe.Envelope) { e.IV = []byte("4111111111111111") }, ErrLeak},
		{"clear as MAC", func(e *p2pe.Envelope) { e.MAC = []byte("4111111111111111") }, ErrLeak},
		{"clear masked number", func(e *p2pe.Envelope) { e.MaskedPAN = "4111111111111111" }, ErrLeak},
	} {
		e := good
		c.change(&e)
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(Generic, data, nil); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
	for name, data := range map[string]string{"empty": "", "unknown member": `{"device_profile":"generic","number":"x"}`, "two": `{}{}`, "array": `[]`} {
		if _, err := Parse(Generic, []byte(data), nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A JWE that another program made is carried only when it says of itself what
// an acquirer's pinned key takes, and has the parts of one.
func TestGenericJWE(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	jwe := func(header string, key, iv, ct, tag int) string {
		part := func(n int) string { return b64(bytes.Repeat([]byte{0x9C, 0x31, 0xE7}, n)[:n]) }
		return strings.Join([]string{b64([]byte(header)), part(key), part(iv), part(ct), part(tag)}, ".")
	}
	const rsa, ec = `{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"a"}`, `{"alg":"ECDH-ES","enc":"A256GCM","kid":"a","epk":{"kty":"EC","crv":"P-256","x":"x","y":"y"}}`
	for _, c := range []struct {
		name, jwe string
		err       error
	}{
		{"RSA", jwe(rsa, 256, 12, 80, 16), nil},
		{"EC", jwe(ec, 0, 12, 80, 16), nil},
		{"RSA of PKCS 1", jwe(`{"alg":"RSA1_5","enc":"A256GCM"}`, 256, 12, 80, 16), ErrForm},
		{"a shared key", jwe(`{"alg":"dir","enc":"A256GCM"}`, 0, 12, 80, 16), ErrForm},
		{"no algorithm", jwe(`{"enc":"A256GCM"}`, 256, 12, 80, 16), ErrForm},
		{"another content cipher", jwe(`{"alg":"RSA-OAEP-256","enc":"A128CBC-HS256"}`, 256, 16, 80, 16), ErrForm},
		{"compressed", jwe(`{"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"DEF"}`, 256, 12, 80, 16), ErrForm},
		{"two algorithms", jwe(`{"alg":"RSA1_5","enc":"A256GCM","alg":"RSA-OAEP-256"}`, 256, 12, 80, 16), ErrForm},
		{"no encrypted key", jwe(rsa, 0, 12, 80, 16), ErrForm},
		{"no ciphertext", jwe(rsa, 256, 12, 0, 16), ErrForm},
		{"a short tag", jwe(rsa, 256, 12, 80, 4), ErrForm},
		{"no JWE", "a.b.c.d.e", ErrForm},
		{"a track as a JWE", ";4111111111111111=29121011234567890?....", ErrLeak},
		{"a number in the header", jwe(`{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"4111111111111111"}`, 256, 12, 80, 16), ErrLeak},
		{"text as ciphertext", strings.Join([]string{b64([]byte(rsa)), b64(make([]byte, 256)), b64(make([]byte, 12)), b64([]byte(`{"pan":"4111111111111111"}`)), b64(make([]byte, 16))}, "."), ErrLeak},
	} {
		e := p2pe.Envelope{Scheme: p2pe.SchemeJWE, DeviceProfile: Generic, JWE: c.jwe}
		if err := Check(&e, nil); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(0, idtechGood().bytes())
	x := idtechGood()
	x.typed = true
	f.Add(0, x.bytes())
	f.Add(1, magtek(nil))
	f.Add(2, []byte(`{"scheme":"aes-dukpt","device_profile":"generic","ksn":"123456789012345600000001","track2":"nDGcMZwxnDGcMZwxnDGcMQ=="}`))
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		name := []string{IDTech, MagTek, Generic}[uint(which)%3]
		e, err := Parse(name, data, nil)
		if err != nil {
			if !e.Empty() {
				t.Fatal("half an envelope beside an error")
			}
			return
		}
		if e.Check() != nil || e.DeviceProfile != name {
			t.Fatalf("accepted, and its own check refuses it: %v", e.Check())
		}
		if len(e.AppendCanonical(nil)) == 0 {
			t.Fatal("no canonical bytes")
		}
	})
}
