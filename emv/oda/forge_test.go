package oda

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"tillbridge/emv/tlv"
)

// signer is a private key for forging: each test signs exactly the block that
// it wants to be refused.
type signer struct {
	n, d *big.Int
	size int
}

func newSigner(r *rand.Rand, size int) signer {
	prime := func() *big.Int {
		for {
			b := make([]byte, size/2)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			b[0] |= 0xC0
			b[len(b)-1] |= 1
			p := new(big.Int).SetBytes(b)
			if new(big.Int).Mod(p, big.NewInt(3)).Int64() == 2 && p.ProbablyPrime(4) {
				return p
			}
		}
	}
	p, q := prime(), prime()
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	return signer{new(big.Int).Mul(p, q), new(big.Int).ModInverse(big.NewInt(3), phi), size}
}

func (s signer) modulus() []byte { return s.n.FillBytes(make([]byte, s.size)) }

func (s signer) sign(block []byte) []byte {
	x := new(big.Int).SetBytes(block)
	return x.Exp(x, s.d, s.n).FillBytes(make([]byte, s.size))
}

// block is 6A, body padded with BB, hash, BC.
func (s signer) block(body []byte, tail ...[]byte) []byte {
	b := append([]byte{0x6A}, body...)
	for len(b) < s.size-21 {
		b = append(b, 0xBB)
	}
	h := sha1.New()
	h.Write(b[1:])
	for _, t := range tail {
		h.Write(t)
	}
	return append(h.Sum(b), 0xBC)
}

type forged struct {
	ca, issuer, card signer
	tags             map[tlv.Tag][]byte
	static           []byte
	edit             map[string]func([]byte) // block before it is signed
	fields           map[string]func([]byte) // body before it is hashed
}

var (
	testRID  = RID{0xA0, 0, 0, 0, 3}
	testDate = Date{2026, 11, 30}
	testUN   = []byte{1, 2, 3, 4}
)

var signers = sync.OnceValue(func() [3]signer {
	r := rand.New(rand.NewPCG(1, 2))
	return [3]signer{newSigner(r, 144), newSigner(r, 128), newSigner(r, 112)}
})

func forge(t testing.TB, edit, fields map[string]func([]byte)) *forged {
	t.Helper()
	k := signers()
	f := &forged{ca: k[0], issuer: k[1], card: k[2], tags: map[tlv.Tag][]byte{}, edit: edit, fields: fields, static: []byte{0x5F, 0x34, 1, 1}}
	pan, _ := tlv.AppendDigits(nil, "4761739001010119", 0)
	f.tags[0x5A], f.tags[0x8F] = pan, []byte{0x94}
	f.tags[0x9F32], f.tags[0x9F47] = []byte{3}, []byte{3}

	mod := f.issuer.modulus()
	body := append([]byte{0x02, 0x47, 0x61, 0x73, 0xFF, 0x12, 0x31, 0, 0, 9, 1, 1, 128, 1}, mod[:144-36]...)
	f.tags[0x92] = mod[144-36:]
	f.tags[0x90] = f.make("issuer", f.ca, body, f.tags[0x92], f.tags[0x9F32])

	mod = f.card.modulus()
	panField, _ := tlv.AppendDigits(nil, "4761739001010119", 10)
	body = append(append([]byte{0x04}, panField...), 0x12, 0x30, 0, 0, 7, 1, 1, 112, 1)
	body = append(body, mod[:128-42]...)
	f.tags[0x9F48] = mod[128-42:]
	f.tags[0x9F46] = f.make("card", f.issuer, body, f.tags[0x9F48], f.tags[0x9F47], f.static)

	f.tags[0x93] = f.make("ssad", f.issuer, []byte{0x03, 1, 0xDA, 0xC1}, f.static)
	f.tags[0x9F4B] = f.make("sdad", f.card, []byte{0x05, 1, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8}, testUN)
	return f
}

func (f *forged) make(name string, s signer, body []byte, tail ...[]byte) []byte {
	if g := f.fields[name]; g != nil {
		g(body)
	}
	b := s.block(body, tail...)
	if g := f.edit[name]; g != nil {
		g(b)
	}
	return s.sign(b)
}

func (f *forged) store(t testing.TB) *Store {
	s := NewStore(Test)
	if err := s.Add(Test, CAKey{RID: testRID, Index: 0x94, Modulus: f.ca.modulus(), Exponent: []byte{3}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *forged) data() Data {
	return Data{AID: append(testRID[:], 0x10, 0x10), Static: f.static, Date: testDate,
		Get: func(t tlv.Tag) ([]byte, bool) { v, ok := f.tags[t]; return v, ok }}
}

func (f *forged) dda(t testing.TB, s *Store) error {
	key, err := s.CardKey(DDA, f.data())
	if err != nil {
		return err
	}
	_, err = key.DDA(f.tags[0x9F4B], testUN)
	return err
}

func set(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
func last(v byte) func([]byte)        { return func(b []byte) { b[len(b)-1] = v } }

// Book 2 sections 5.3, 5.4, 6.3, 6.4 and 6.5.2, step by step (traps 11, 13).
func TestEachStepOfTheChainCanRefuse(t *testing.T) {
	for _, c := range []struct {
		name         string
		edit, fields map[string]func([]byte)
		tags         map[tlv.Tag][]byte
		object       string
		want         error
	}{
		{name: "all right"},
		{name: "issuer header", edit: map[string]func([]byte){"issuer": set(0, 0x6B)}, object: "issuer certificate", want: ErrHeader},
		{name: "issuer format", fields: map[string]func([]byte){"issuer": set(0, 0x12)}, object: "issuer certificate", want: ErrFormat},
		{name: "issuer trailer", edit: map[string]func([]byte){"issuer": last(0xCC)}, object: "issuer certificate", want: ErrTrailer},
		{name: "issuer hash", edit: map[string]func([]byte){"issuer": set(7, 0x32)}, object: "issuer certificate", want: ErrHash},
		{name: "issuer hash algorithm", fields: map[string]func([]byte){"issuer": set(10, 2)}, object: "issuer certificate", want: ErrHashAlgorithm},
		{name: "issuer key algorithm", fields: map[string]func([]byte){"issuer": set(11, 9)}, object: "issuer certificate", want: ErrKeyAlgorithm},
		{name: "issuer identifier", fields: map[string]func([]byte){"issuer": set(3, 0x74)}, object: "issuer certificate", want: ErrIssuerID},
		{name: "issuer expired last month", fields: map[string]func([]byte){"issuer": func(b []byte) { b[5], b[6] = 0x10, 0x26 }}, object: "issuer certificate", want: ErrExpired},
		{name: "issuer expires this month", fields: map[string]func([]byte){"issuer": func(b []byte) { b[5], b[6] = 0x11, 0x26 }}},
		{name: "issuer date is no date", fields: map[string]func([]byte){"issuer": func(b []byte) { b[5] = 0x13 }}, object: "issuer certificate", want: ErrDate},
		{name: "issuer remainder missing", tags: map[tlv.Tag][]byte{0x92: nil}, object: "issuer certificate", want: ErrHash},
		{name: "issuer key length", fields: map[string]func([]byte){"issuer": set(12, 120)}, object: "issuer certificate", want: ErrKeyLength},
		{name: "issuer exponent length", fields: map[string]func([]byte){"issuer": set(13, 3)}, object: "issuer certificate", want: ErrExponent},
		{name: "issuer certificate short", tags: map[tlv.Tag][]byte{0x90: make([]byte, 143)}, object: "issuer certificate", want: ErrLength},
		{name: "issuer certificate empty", tags: map[tlv.Tag][]byte{0x90: {}}, object: "issuer certificate", want: ErrMissing},
		{name: "key index unknown", tags: map[tlv.Tag][]byte{0x8F: {0x95}}, object: "issuer certificate", want: ErrNoCAKey},
		{name: "card header", edit: map[string]func([]byte){"card": set(0, 0x6B)}, object: "card certificate", want: ErrHeader},
		{name: "card format", fields: map[string]func([]byte){"card": set(0, 0x02)}, object: "card certificate", want: ErrFormat},
		{name: "card trailer", edit: map[string]func([]byte){"card": last(0)}, object: "card certificate", want: ErrTrailer},
		{name: "card hash", edit: map[string]func([]byte){"card": set(30, 0)}, object: "card certificate", want: ErrHash},
		{name: "card PAN", fields: map[string]func([]byte){"card": set(8, 0x18)}, object: "card certificate", want: ErrPAN},
		{name: "card expired", fields: map[string]func([]byte){"card": func(b []byte) { b[11], b[12] = 0x10, 0x26 }}, object: "card certificate", want: ErrExpired},
		{name: "card good to the month's end", fields: map[string]func([]byte){"card": func(b []byte) { b[11], b[12] = 0x11, 0x26 }}},
		{name: "card hash algorithm", fields: map[string]func([]byte){"card": set(16, 0)}, object: "card certificate", want: ErrHashAlgorithm},
		{name: "card key algorithm", fields: map[string]func([]byte){"card": set(17, 7)}, object: "card certificate", want: ErrKeyAlgorithm},
		{name: "card exponent other than certified", tags: map[tlv.Tag][]byte{0x9F47: {1, 0, 1}}, object: "card certificate", want: ErrHash},
		{name: "card certificate missing", tags: map[tlv.Tag][]byte{0x9F46: nil}, object: "card certificate", want: ErrMissing},
		{name: "dynamic header", edit: map[string]func([]byte){"sdad": set(0, 0x60)}, object: "dynamic signature", want: ErrHeader},
		{name: "dynamic format", fields: map[string]func([]byte){"sdad": set(0, 0x95)}, object: "dynamic signature", want: ErrFormat},
		{name: "dynamic trailer", edit: map[string]func([]byte){"sdad": last(0xBD)}, object: "dynamic signature", want: ErrTrailer},
		{name: "dynamic hash", edit: map[string]func([]byte){"sdad": set(9, 0)}, object: "dynamic signature", want: ErrHash},
		{name: "dynamic hash algorithm", fields: map[string]func([]byte){"sdad": set(1, 4)}, object: "dynamic signature", want: ErrHashAlgorithm},
		// The hash is right in all of these: it is not enough (trap 11).
		{name: "dynamic number of 1 byte", fields: map[string]func([]byte){"sdad": func(b []byte) { b[2], b[3] = 2, 1 }}, object: "dynamic signature", want: ErrDynamic},
		{name: "dynamic number of 9 bytes", fields: map[string]func([]byte){"sdad": func(b []byte) { b[2], b[3] = 10, 9 }}, object: "dynamic signature", want: ErrDynamic},
		{name: "dynamic number beyond its data", fields: map[string]func([]byte){"sdad": set(2, 5)}, object: "dynamic signature", want: ErrDynamic},
		{name: "random bytes where the length stands", fields: map[string]func([]byte){"sdad": func(b []byte) { b[2], b[3] = 3, 0xA7 }}, object: "dynamic signature", want: ErrDynamic},
		{name: "dynamic data beyond the block", fields: map[string]func([]byte){"sdad": set(2, 112-24)}, object: "dynamic signature", want: ErrDynamic},
		{name: "dynamic data at the limit", fields: map[string]func([]byte){"sdad": set(2, 112-25)}},
		{name: "dynamic signature long", tags: map[tlv.Tag][]byte{0x9F4B: make([]byte, 113)}, object: "dynamic signature", want: ErrLength},
		{name: "dynamic signature missing", tags: map[tlv.Tag][]byte{0x9F4B: nil}, object: "dynamic signature", want: ErrMissing},
	} {
		f := forge(t, c.edit, c.fields)
		for tag, v := range c.tags {
			if v == nil {
				delete(f.tags, tag)
			} else {
				f.tags[tag] = v
			}
		}
		err := f.dda(t, f.store(t))
		if c.want == nil {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var fail *Failure
		if !errors.As(err, &fail) || !errors.Is(err, c.want) || fail.Object != c.object {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
			continue
		}
		bits := TVRDDAFailed
		if c.want == ErrMissing {
			bits |= TVRDataMissing
		}
		if fail.TVR() != bits || fail.Code() == "" {
			t.Errorf("%s: TVR bits %02X, want %02X", c.name, fail.TVR(), bits)
		}
		if strings.Contains(err.Error(), "4761") {
			t.Errorf("%s: %v shows the card number", c.name, err)
		}
	}
}

func TestStaticSignature(t *testing.T) {
	f := forge(t, nil, nil)
	code, err := f.store(t).SDA(f.data())
	if err != nil || code != [2]byte{0xDA, 0xC1} {
		t.Errorf("%X %v", code, err)
	}
	f.static = append(f.static, 0)
	var fail *Failure
	if _, err = f.store(t).SDA(f.data()); !errors.Is(err, ErrHash) || !errors.As(err, &fail) || fail.TVR() != TVRSDAFailed {
		t.Errorf("changed data: %v", err)
	}
	delete(f.tags, 0x93)
	if _, err = f.store(t).SDA(f.data()); !errors.Is(err, ErrMissing) || !errors.As(err, &fail) || fail.TVR() != TVRSDAFailed|TVRDataMissing {
		t.Errorf("no signature: %v", err)
	}
}

func TestKeysByEnvironmentExpiryAndRevocation(t *testing.T) {
	f := forge(t, nil, nil)
	s := f.store(t)
	k, _ := s.Key(testRID, 0x94)
	for day, want := range map[Date]error{testDate: nil, {2026, 12, 1}: ErrCAKeyExpired} {
		k.Expiry = testDate
		if err := s.Add(Test, k); err != nil {
			t.Fatal(err)
		}
		d := f.data()
		d.Date = day
		if _, err := s.CardKey(DDA, d); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", day, err, want)
		}
	}
	s.Revoke(testRID, 0x94, [3]byte{0, 0, 8})
	s.Revoke(testRID, 0x95, [3]byte{0, 0, 9})
	s.Revoke(RID{0xA0, 0, 0, 0, 4}, 0x94, [3]byte{0, 0, 9})
	if err := f.dda(t, s); err != nil {
		t.Errorf("others are revoked: %v", err)
	}
	s.Revoke(testRID, 0x94, [3]byte{0, 0, 9})
	if err := f.dda(t, s); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	other := k
	other.Modulus = f.issuer.modulus()
	if err := s.Add(Test, other); !errors.Is(err, ErrConflict) {
		t.Errorf("a second modulus: %v", err)
	}
	if err := s.Add(Live, k); !errors.Is(err, ErrConflict) {
		t.Errorf("a live key: %v", err)
	}
	k.Sum = make([]byte, 20)
	if err := NewStore(Test).Add(Test, k); !errors.Is(err, ErrSum) {
		t.Errorf("a wrong sum: %v", err)
	}
	d := f.data()
	d.AID = []byte{0xA0, 0, 0, 0, 4, 0x10, 0x10}
	if _, err := s.CardKey(DDA, d); !errors.Is(err, ErrNoCAKey) {
		t.Errorf("another RID: %v", err)
	}
	d.AID = []byte{0xA0}
	if _, err := s.CardKey(DDA, d); !errors.Is(err, ErrNoCAKey) {
		t.Errorf("no RID: %v", err)
	}
}

// Trap 12.
func TestStaticDataDropsTheTemplateOfFilesOneToTen(t *testing.T) {
	rec := func(v ...byte) []byte { return tlv.Append(nil, 0x70, v) }
	for _, c := range []struct {
		name    string
		records []Record
		list    []byte
		want    string
		err     error
	}{
		{"files 1 to 10 without header", []Record{{1, rec(0x82, 0)}, {10, rec(0x84, 0)}}, nil, "82008400", nil},
		{"files 11 to 30 with header", []Record{{10, rec(0x82, 0)}, {11, rec(0x84, 0)}, {30, rec(0x87, 0)}}, nil, "8200" + "70028400" + "70028700", nil},
		{"interchange profile at the end", []Record{{1, rec(0x84, 0)}}, []byte{0x82}, "84005900", nil},
		{"tag list with more", []Record{{1, rec(0x84, 0)}}, []byte{0x82, 0x95}, "", ErrTagList},
		{"tag list with another", []Record{{1, rec(0x84, 0)}}, []byte{0x5A}, "", ErrTagList},
		{"no template", []Record{{1, []byte{0x71, 2, 0x84, 0}}}, nil, "", ErrRecord},
		{"empty record", []Record{{11, nil}}, nil, "", ErrRecord},
		{"template beyond the data", []Record{{1, []byte{0x70, 9, 0x84, 0}}}, nil, "", ErrRecord},
		{"padding inside is signed", []Record{{1, rec(0x84, 0, 0xFF)}}, nil, "8400FF", nil},
	} {
		got, err := StaticData(DDA, c.records, c.list, []byte{0x59, 0})
		if !errors.Is(err, c.err) || fmt.Sprintf("%X", got) != c.want {
			t.Errorf("%s: %X %v", c.name, got, err)
		}
	}
}

func (f *forged) cda(cid byte, hash []byte, ldd byte) []byte {
	body := append([]byte{0x05, 1, ldd, 8, 1, 2, 3, 4, 5, 6, 7, 8, cid}, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA)
	return f.make("cda", f.card, append(body, hash...), testUN)
}

// Trap 10: what the transaction hash covers, and the CID inside.
func TestCombinedSignature(t *testing.T) {
	f := forge(t, nil, nil)
	key, err := f.store(t).CardKey(CDA, f.data())
	if err != nil {
		t.Fatal(err)
	}
	pdol, c1, c2 := []byte("pdol"), []byte("first"), []byte("second")
	head := tlv.Append(tlv.Append(nil, 0x9F27, []byte{0x40}), 0x9F36, []byte{0, 5})
	tail := tlv.Append(nil, 0x9F10, []byte{6, 1, 10, 3, 0, 0, 0})
	sum := func(parts ...[]byte) []byte { h := sha1.Sum(bytes.Join(parts, nil)); return h[:] }
	answer := func(signed []byte) []byte {
		return bytes.Join([][]byte{head, tlv.Append(nil, 0x9F4B, signed), tail}, nil)
	}
	first := f.cda(0x40, sum(pdol, c1, head, tail), 38)
	second := f.cda(0x40, sum(pdol, c1, c2, head, tail), 38)
	base := CDAInput{Signed: first, UN: testUN, CID: 0x40, PDOL: pdol, CDOL1: c1, Response: answer(first)}
	with := func(g func(*CDAInput)) CDAInput { in := base; g(&in); return in }
	for _, c := range []struct {
		name string
		in   CDAInput
		want error
	}{
		{"first cryptogram", base, nil},
		{"second cryptogram", with(func(in *CDAInput) { in.Signed, in.CDOL2, in.Response = second, c2, answer(second) }), nil},
		{"without the PDOL data", with(func(in *CDAInput) { in.PDOL = nil }), ErrTransaction},
		{"without the first list's data at the second", with(func(in *CDAInput) { in.Signed, in.CDOL1, in.CDOL2, in.Response = second, nil, c2, answer(second) }), ErrTransaction},
		{"CID in the answer is another", with(func(in *CDAInput) { in.CID = 0x80 }), ErrCID},
		{"ATC changed on the way", with(func(in *CDAInput) {
			in.Response = bytes.Replace(answer(first), []byte{0x9F, 0x36, 2, 0, 5}, []byte{0x9F, 0x36, 2, 0, 6}, 1)
		}), ErrTransaction},
		{"order changed on the way", with(func(in *CDAInput) {
			in.Response = bytes.Join([][]byte{tail, tlv.Append(nil, 0x9F4B, first), head}, nil)
		}), ErrTransaction},
		{"other unpredictable number", with(func(in *CDAInput) { in.UN = []byte{9, 9, 9, 9} }), ErrHash},
		{"no signature", with(func(in *CDAInput) { in.Signed = nil }), ErrMissing},
		{"dynamic data too short", with(func(in *CDAInput) { in.Signed = f.cda(0x40, sum(pdol, c1, head, tail), 37) }), ErrDynamic},
		{"answer cut", with(func(in *CDAInput) { in.Response = in.Response[:len(in.Response)-1] }), ErrTransaction},
	} {
		got, err := key.CDA(c.in)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil && (got.Cryptogram != [8]byte{0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA} || len(got.Number) != 8) {
			t.Errorf("%s: %X", c.name, got)
		}
		var fail *Failure
		if errors.As(err, &fail) && fail.TVR()&TVRCDAFailed == 0 {
			t.Errorf("%s: TVR bits %02X", c.name, fail.TVR())
		}
	}
}

func TestMethodIsTheBestThatBothSidesHave(t *testing.T) {
	for _, c := range []struct {
		aip, caps byte
		sda       bool
		want      Method
	}{
		{0x61, 0xC8, false, CDA}, {0x61, 0xC0, false, DDA}, {0x60, 0xC8, false, DDA}, {0x40, 0xC8, false, None},
		{0x40, 0xC8, true, SDA}, {0x61, 0x80, true, SDA}, {0x61, 0x80, false, None}, {0x00, 0xC8, true, None},
	} {
		if got := Select([2]byte{c.aip, 0}, c.caps, c.sda); got != c.want {
			t.Errorf("AIP %02X, capabilities %02X, SDA %t: %v, want %v", c.aip, c.caps, c.sda, got, c.want)
		}
	}
}

func FuzzChain(f *testing.F) {
	good := forge(f, nil, nil)
	f.Add(good.tags[0x90], good.tags[0x92], good.tags[0x9F46], good.tags[0x9F48], good.tags[0x9F4B], good.tags[0x5A])
	f.Add([]byte{}, []byte{}, []byte{1}, []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, cert, rem, card, cardRem, sdad, pan []byte) {
		c := forge(t, nil, nil)
		want := c.tags[0x9F4B]
		c.tags[0x90], c.tags[0x92], c.tags[0x9F46], c.tags[0x9F48], c.tags[0x9F4B], c.tags[0x5A] = cert, rem, card, cardRem, sdad, pan
		s := c.store(t)
		if err := c.dda(t, s); err == nil && !bytes.Equal(sdad, want) {
			t.Fatal("a signature that was not made is accepted")
		}
		s.SDA(c.data())
	})
}

// FuzzRecovered gives the checks what an RSA operation never would: any block.
func FuzzRecovered(f *testing.F) {
	f.Add([]byte{0x05, 1, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8}, byte(0))
	f.Add([]byte{0x02, 0x47, 0x61, 0x73, 0xFF, 0x12, 0x31, 0, 0, 9, 1, 1, 255, 1}, byte(1))
	f.Add([]byte{0x04, 0x47, 0x61}, byte(2))
	f.Fuzz(func(t *testing.T, body []byte, kind byte) {
		k := signers()[2]
		if len(body) > k.size-22 {
			body = body[:k.size-22]
		}
		pub, _ := newPublic(k.modulus(), []byte{3})
		switch kind % 3 {
		case 0:
			key := CardKey{CDA, pub}
			signed := k.sign(k.block(body, testUN))
			key.DDA(signed, testUN)
			key.CDA(CDAInput{Signed: signed, UN: testUN, Response: body})
		case 1:
			openIssuer(pub, k.sign(k.block(body, nil, []byte{3})), nil, []byte{3})
		case 2:
			openCard(pub, k.sign(k.block(body, nil, []byte{3}, nil)), nil, []byte{3}, nil, false)
		}
	})
}

func BenchmarkWholeDDA(b *testing.B) {
	f := forge(b, nil, nil)
	s, d := f.store(b), f.data()
	b.ReportAllocs()
	for b.Loop() {
		key, err := s.CardKey(DDA, d)
		if err == nil {
			_, err = key.DDA(f.tags[0x9F4B], testUN)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
