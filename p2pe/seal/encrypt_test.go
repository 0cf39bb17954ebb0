package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/mask"
	"tillbridge/p2pe/profile"
)

const (
	pan    = "4111111111111111"
	track1 = "%B4111111111111111^TEST/CARD \"A\\^29122010000000000000?"
	track2 = ";4111111111111111=29122010000000000?"
)

func base(t testing.TB) *bdk.Base {
	t.Helper()
	b, err := bdk.New(p2pe.SchemeAESDUKPT, bytes.Repeat([]byte{3, 9}, 8))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func device(t testing.TB) *dukpt.State {
	t.Helper()
	ik, err := base(t).Initial("123456789012345600000000")
	if err != nil {
		t.Fatal(err)
	}
	s, err := dukpt.Load(ik, "123456789012345600000000")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func clearCard() *Clear {
	return &Clear{PAN: []byte(pan), Track1: []byte(track1), Track2: []byte(track2)}
}

// host opens an envelope as the acquirer does.
func host(t testing.TB, e *p2pe.Envelope) (pan, t1, t2 string) {
	t.Helper()
	tx, err := base(t).Transaction(e.KSN)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyMAC(e, tx); err != nil {
		t.Fatal(err)
	}
	k, err := bdk.DataKey(tx, e.KeyVariant, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(k.Bytes())
	open := func(ct []byte) string {
		if len(ct) == 0 {
			return ""
		}
		out := make([]byte, len(ct))
		cipher.NewCBCDecrypter(block, e.IV).CryptBlocks(out, ct)
		end := bytes.LastIndexByte(out, 0x80)
		if end < 0 || len(bytes.Trim(out[end+1:], "\x00")) != 0 {
			t.Fatal("padding")
		}
		return string(out[:end])
	}
	return open(e.PAN), open(e.Track1), open(e.Track2)
}

func TestDUKPTEnvelopeOpensAtTheHost(t *testing.T) {
	d := NewDUKPT(device(t), "R1")
	seen := map[p2pe.KSN]bool{}
	for _, c := range []struct {
		name        string
		card        Clear
		pan, t1, t2 string
	}{
		{"both tracks", *clearCard(), "", track1, track2},
		{"track 2", Clear{Track2: []byte(track2)}, "", "", track2},
		{"track 1", Clear{Track1: []byte(track1)}, "", track1, ""},
		{"number alone", Clear{PAN: []byte(pan)}, pan, "", ""},
		{"without sentinels", Clear{Track2: []byte(strings.Trim(track2, ";?"))}, "", "", strings.Trim(track2, ";?")},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts := [][]byte{c.card.PAN, c.card.Track1, c.card.Track2}
			e, err := d.Encrypt(&c.card)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parts {
				if len(bytes.Trim(p, "\x00")) != 0 {
					t.Error("the clear data are still there")
				}
			}
			if err := profile.Check(&e, &profile.Expect{Serial: "R1", Scheme: p2pe.SchemeAESDUKPT, Device: "1234567890123456"}); err != nil {
				t.Error(err)
			}
			if e.MaskedPAN != "411111******1111" || e.BIN != "411111" || e.Last4 != "1111" || c.pan == "" && e.ServiceCode != "201" {
				t.Errorf("clear parts %s %s %s %s", e.MaskedPAN, e.BIN, e.Last4, e.ServiceCode)
			}
			if seen[e.KSN] {
				t.Errorf("%s used twice", e.KSN)
			}
			seen[e.KSN] = true
			if p, t1, t2 := host(t, &e); p != c.pan || t1 != c.t1 || t2 != c.t2 {
				t.Error("the host reads something else")
			}
			raw, _ := json.Marshal(e)
			if mask.Known(pan).In(raw) >= 0 {
				t.Error("the number is in the envelope")
			}
		})
	}
}

func TestEveryFieldOfAnEnvelopeIsUnderItsMAC(t *testing.T) {
	e, err := NewDUKPT(device(t), "R1").Encrypt(clearCard())
	if err != nil {
		t.Fatal(err)
	}
	tx, _ := base(t).Transaction(e.KSN)
	v := reflect.TypeFor[p2pe.Envelope]()
	for i := range v.NumField() {
		changed := e
		f := reflect.ValueOf(&changed).Elem().Field(i)
		if f.Kind() == reflect.String {
			f.SetString(f.String() + "0")
		} else {
			f.SetBytes(append(bytes.Clone(f.Bytes()), 0))
		}
		if err := VerifyMAC(&changed, tx); !errors.Is(err, ErrEnvelopeMAC) {
			t.Errorf("%s changed: %v", v.Field(i).Name, err)
		}
	}
	moved := e
	moved.Track1, moved.Track2 = e.Track2, e.Track1
	if err := VerifyMAC(&moved, tx); !errors.Is(err, ErrEnvelopeMAC) {
		t.Errorf("tracks exchanged: %v", err)
	}
	other, _ := base(t).Transaction("123456789012345600000002")
	if err := VerifyMAC(&e, other); !errors.Is(err, ErrEnvelopeMAC) {
		t.Errorf("another key: %v", err)
	}
	short := e
	short.MAC = e.MAC[:4]
	if err := VerifyMAC(&short, tx); !errors.Is(err, ErrEnvelopeMAC) {
		t.Errorf("cut MAC: %v", err)
	}
}

func TestUnusableCardDataAreErasedAndRefused(t *testing.T) {
	s := device(t)
	d := NewDUKPT(s, "R1")
	before := s.KSN()
	for name, c := range map[string]Clear{
		"nothing":        {},
		"short number":   {PAN: []byte("41111111111")},
		"letters":        {PAN: []byte("4111x11111111111")},
		"no separator":   {Track2: []byte(";4111111111111111")},
		"no format code": {Track1: []byte("%4111111111111111^A^2912201?")},
		"two numbers":    {PAN: []byte("5555555555554444"), Track2: []byte(track2)},
		"binary":         {Track2: []byte("4111111111111111=2912\x00\x01")},
	} {
		parts := [][]byte{c.PAN, c.Track1, c.Track2}
		e, err := d.Encrypt(&c)
		if !errors.Is(err, ErrClear) || !e.Empty() || mask.Contains(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		for _, p := range parts {
			if len(bytes.Trim(p, "\x00")) != 0 {
				t.Errorf("%s: the clear data are still there", name)
			}
		}
	}
	if s.KSN() != before {
		t.Error("keys were used up by data that could not be encrypted")
	}
	s.Erase()
	if _, err := d.Encrypt(clearCard()); !errors.Is(err, dukpt.ErrErased) {
		t.Errorf("no keys: %v", err)
	}
}

func TestConcurrentCallsShareNoKey(t *testing.T) {
	d := NewDUKPT(device(t), "R1")
	out := make(chan p2pe.Envelope, 400)
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 50 {
				e, err := d.Encrypt(clearCard())
				if err != nil {
					t.Error(err)
					return
				}
				out <- e
			}
		})
	}
	g.Wait()
	close(out)
	seen := map[p2pe.KSN]bool{}
	for e := range out {
		if seen[e.KSN] {
			t.Fatalf("%s used twice", e.KSN)
		}
		seen[e.KSN] = true
		if _, _, t2 := host(t, &e); t2 != track2 {
			t.Fatal("the host reads something else")
		}
	}
	if len(seen) != 400 {
		t.Errorf("%d envelopes", len(seen))
	}
}

func TestClearPrintsNothing(t *testing.T) {
	c := clearCard()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if out := fmt.Sprintf(verb, c) + fmt.Sprintf(verb, *c); out != "******" {
			t.Errorf("%s prints %d characters", verb, len(out))
		}
	}
	if _, err := json.Marshal(c); err == nil {
		t.Error("it has a JSON form")
	}
}

func pkix(t testing.TB, key any) ([]byte, string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return der, hex.EncodeToString(sum[:])
}

func TestJWEOpensWithThePrivateKey(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name            string
		public, private any
		alg             jose.KeyAlgorithm
	}{{"rsa", &r.PublicKey, r, jose.RSA_OAEP_256}, {"ec", &ec.PublicKey, ec, jose.ECDH_ES}} {
		t.Run(c.name, func(t *testing.T) {
			der, pin := pkix(t, c.public)
			j, err := NewJWE(der, &JWEOptions{KeyID: "k1", Thumbprint: pin, Serial: `R"1`, Now: func() time.Time { return time.Unix(1790000000, 0) }})
			if err != nil {
				t.Fatal(err)
			}
			e, err := j.Encrypt(clearCard())
			if err != nil {
				t.Fatal(err)
			}
			if err := profile.Check(&e, nil); err != nil {
				t.Error(err)
			}
			o, err := jose.ParseEncryptedCompact(e.JWE, []jose.KeyAlgorithm{c.alg}, []jose.ContentEncryption{jose.A256GCM})
			if err != nil {
				t.Fatal(err)
			}
			if o.Header.KeyID != "k1" {
				t.Errorf("kid %q", o.Header.KeyID)
			}
			plain, err := o.Decrypt(c.private)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				IAT                         int64
				Serial, PAN, Track1, Track2 string
			}
			if err := json.Unmarshal(plain, &got); err != nil {
				t.Fatal("no JSON")
			}
			if got.IAT != 1790000000 || got.Serial != `R"1` || got.PAN != pan || got.Track1 != track1 || got.Track2 != track2 {
				t.Error("the acquirer reads something else")
			}
		})
	}
}

func TestJWEKeyMustBeThePinnedOne(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	small, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	der, pin := pkix(t, &ec.PublicKey)
	smallDER, smallPin := pkix(t, &small.PublicKey)
	sum := sha256.Sum256([]byte("x"))
	for name, f := range map[string]func() (*JWE, error){
		"no pin":      func() (*JWE, error) { return NewJWE(der, &JWEOptions{KeyID: "k"}) },
		"another pin": func() (*JWE, error) { return NewJWE(der, &JWEOptions{KeyID: "k", Thumbprint: smallPin}) },
		"no key id":   func() (*JWE, error) { return NewJWE(der, &JWEOptions{Thumbprint: pin}) },
		"weak curve":  func() (*JWE, error) { return NewJWE(smallDER, &JWEOptions{KeyID: "k", Thumbprint: smallPin}) },
		"no key": func() (*JWE, error) {
			return NewJWE([]byte("x"), &JWEOptions{KeyID: "k", Thumbprint: hex.EncodeToString(sum[:])})
		},
	} {
		if j, err := f(); !errors.Is(err, ErrPinnedKey) || j != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzEncrypt(f *testing.F) {
	f.Add([]byte(pan), []byte(track1), []byte(track2))
	f.Add([]byte{}, []byte{}, []byte(";4111111111111111=2912"))
	f.Fuzz(func(t *testing.T, number, one, two []byte) {
		want := [2]string{string(one), string(two)}
		e, err := NewDUKPT(device(t), "R1").Encrypt(&Clear{PAN: number, Track1: one, Track2: two})
		if err != nil {
			if !e.Empty() {
				t.Fatal("half an envelope beside an error")
			}
			return
		}
		if _, t1, t2 := host(t, &e); t1 != want[0] || t2 != want[1] {
			t.Fatal("the host reads something else")
		}
	})
}

func BenchmarkDUKPTEnvelope(b *testing.B) {
	d := NewDUKPT(device(b), "R1")
	one, two := []byte(track1), []byte(track2)
	c := &Clear{}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = append(append(buf[:0], one...), two...)
		*c = Clear{Track1: buf[:len(one):len(one)], Track2: buf[len(one):]}
		if _, err := d.Encrypt(c); err != nil {
			b.Fatal(err)
		}
	}
}
