package oda

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/emv/tlv"
)

type caEntry struct {
	RID, Index, Exponent, Modulus string
	Bits                          int
	SHA1                          string `json:"sha1"`
	Expiry, Env                   *string
	Sources                       []string
	Published                     *bool `json:"published_sha1_matches"`
	Conflict                      bool
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func caKeys(t testing.TB) []caEntry {
	t.Helper()
	raw, err := os.ReadFile(vectortest.Folder(t, "emv", "ca-keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Keys []caEntry }
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Keys
}

func (e caEntry) key(t testing.TB) CAKey {
	k := CAKey{Index: unhex(t, e.Index)[0], Modulus: unhex(t, e.Modulus), Exponent: bytes.TrimLeft(unhex(t, e.Exponent), "\x00"), Sum: unhex(t, e.SHA1)}
	copy(k.RID[:], unhex(t, e.RID))
	return k
}

// Every key has the sum that is written with it, conflicting keys are refused
// side by side, and a changed key is refused.
func TestVectorsCAKeys(t *testing.T) {
	keys := caKeys(t)
	s := NewStore(Test)
	conflicts := 0
	for _, e := range keys {
		k := e.key(t)
		if sum := k.SHA1(); !strings.EqualFold(hex.EncodeToString(sum[:]), e.SHA1) {
			t.Errorf("%s %s: the sum is another one", e.RID, e.Index)
		}
		if bytes.Equal(k.Exponent, []byte{2}) {
			// Rabin keys of an early edition; Book 2 Annex B2.1 allows 3 and 65537.
			if err := s.Add(Test, k); !errors.Is(err, ErrKey) {
				t.Errorf("%s %s with exponent 2: %v", e.RID, e.Index, err)
			}
			continue
		}
		old, there := s.Key(k.RID, k.Index)
		err := s.Add(Test, k)
		if there && !bytes.Equal(old.Modulus, k.Modulus) {
			conflicts++
			if err == nil || !e.Conflict {
				t.Errorf("%s %s: a second key of the same index: %v, marked %t", e.RID, e.Index, err, e.Conflict)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", e.RID, e.Index, err)
		}
		k.Modulus = bytes.Clone(k.Modulus)
		k.Modulus[len(k.Modulus)/2] ^= 1
		if err := NewStore(Test).Add(Test, k); err == nil {
			t.Errorf("%s %s: a changed modulus is taken", e.RID, e.Index)
		}
		if err := s.Add(Live, e.key(t)); err == nil {
			t.Errorf("%s %s: a live key is taken into a test store", e.RID, e.Index)
		}
	}
	t.Logf("%d keys loaded, %d second keys refused", s.Len(), conflicts)
	vectortest.Ran(t, "ca-keys", len(keys))
}

type chain struct {
	Name, Type, Source string
	CA                 struct{ RID, Index, Modulus, Exponent string }
	Date               string `json:"date_yymmdd_valid"`
	PAN                string
	Tags               map[string]string
	DDOLData           string  `json:"ddol_data"`
	UN                 string  `json:"unpredictable_number"`
	Static             *string `json:"static_data"`
	PDOLData           *string `json:"pdol_data"`
	CDOL1Data          *string `json:"cdol1_data"`
	CDOL2Data          *string `json:"cdol2_data"`
	GenAC              *string `json:"genac_response"`
	Expect             struct {
		Issuer struct {
			Identifier string `json:"issuer_identifier"`
			Expiry     string `json:"expiry_mmyy"`
			Serial     string
			HashAlg    int `json:"hash_alg"`
			PKAlg      int `json:"pk_alg"`
			PKLen      int `json:"pk_len"`
			ExpLen     int `json:"exp_len"`
			Modulus    string
		}
		IssuerModulus string `json:"issuer_modulus"`
		ICCModulus    string `json:"icc_modulus"`
		DAC           string `json:"data_authentication_code"`
		SDAD          struct {
			Header  string `json:"recovered_header"`
			Dynamic string `json:"icc_dynamic_data"`
			Number  string `json:"icc_dynamic_number"`
			Hash    string
		}
		Recovered string `json:"sdad_recovered"`
	}
	Verified map[string]any
	Negative map[string]string

	pan []byte // as 5A: from the vector, its static data or its certificate
}

// known are the fields that the test understands.
var known = strings.Fields("name type source ca date_yymmdd_valid pan tags ddol_data unpredictable_number static_data " +
	"pdol_data cdol1_data cdol2_data genac_response expect verified negative note")

func TestVectorsODA(t *testing.T) {
	keys := caKeys(t)
	n := 0
	for _, file := range vectortest.Files(t, "emv", "oda") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Vectors []chain }
		var fields struct{ Vectors []map[string]json.RawMessage }
		if err := errors.Join(json.Unmarshal(raw, &doc), json.Unmarshal(raw, &fields)); err != nil {
			t.Fatal(err)
		}
		for i, v := range fields.Vectors {
			for k := range v {
				if !slices.Contains(known, k) {
					t.Errorf("%s: field %q is not understood", doc.Vectors[i].Name, k)
				}
			}
		}
		for _, v := range doc.Vectors {
			n++
			t.Run(v.Name, func(t *testing.T) { v.check(t, keys) })
		}
	}
	vectortest.Ran(t, "oda", n)
}

// verdict is the whole judgement of a chain with some tags or the date
// replaced; nil is a pass. Where the file does not hold the static data, the
// hash of the card certificate is left out and all else is checked.
func (v chain) verdict(t *testing.T, ca CAKey, tags map[string]string, date Date) error {
	t.Helper()
	get := func(tag tlv.Tag) ([]byte, bool) {
		if tag == 0x8F {
			return []byte{ca.Index}, true
		}
		if tag == 0x5A {
			if s, ok := tags["5A"]; ok {
				return unhex(t, s), true
			}
			return v.pan, len(v.pan) > 0
		}
		s, ok := tags[tag.String()]
		return unhex(t, s), ok
	}
	var static []byte
	if v.Static != nil {
		static = unhex(t, *v.Static)
	}
	store := NewStore(Test)
	if err := store.Add(Test, ca); err != nil {
		t.Fatal(err)
	}
	data := Data{AID: ca.RID[:], Get: get, Static: static, Date: date}
	if v.Type == "SDA" {
		code, err := store.SDA(data)
		if err == nil && fmt.Sprintf("%X", code) != v.Expect.DAC {
			t.Errorf("data authentication code %X", code)
		}
		return err
	}
	method := DDA
	if v.Type == "CDA" {
		method = CDA
	}
	if v.Static != nil && tags["82"] != "" && tags["9F4A"] == "82" && !bytes.HasSuffix(static, unhex(t, tags["82"])) {
		data.Static = append(bytes.Clone(static), unhex(t, tags["82"])...)
	}
	key, err := store.CardKey(method, data)
	if v.Static == nil {
		issuer, ierr := store.issuer(method, data)
		if ierr != nil {
			return ierr
		}
		cert, _ := get(0x9F46)
		remainder, _ := get(0x9F48)
		exponent, _ := get(0x9F47)
		card, cerr := openCard(issuer.key, cert, remainder, exponent, nil, true)
		if cerr != nil {
			return cerr
		}
		if pan, _ := get(0x5A); !samePAN(card.pan, pan) {
			return ErrPAN
		}
		if over, err := expired(card.expiry, date); err != nil || over {
			return ErrExpired
		}
		if tags["93"] != "" {
			if _, err := open(issuer.key, unhex(t, tags["93"]), 0x03, 27, nil, true); err != nil {
				return err
			}
		}
		key, err = CardKey{method, card.key}, nil
	}
	if err != nil {
		return err
	}
	if m := v.Expect.ICCModulus; m != "" && fmt.Sprintf("%X", key.key.n.FillBytes(make([]byte, key.Size()))) != m {
		t.Error("the card's modulus is another one")
	}
	signed := unhex(t, tags["9F4B"])
	terminal := unhex(t, v.DDOLData)
	if len(terminal) == 0 || v.Type == "CDA" {
		terminal = unhex(t, v.UN)
	}
	switch v.Type {
	case "DDA":
	case "fDDA":
		pdol := unhex(t, *v.PDOLData) // 9F66 9F02 5F2A 9F37
		if len(pdol) != 16 {
			t.Fatalf("PDOL data of %d bytes", len(pdol))
		}
		terminal = append(append(unhex(t, v.UN), pdol[4:12]...), unhex(t, tags["9F69"])...)
	case "CDA":
		if v.GenAC != nil && v.CDOL1Data != nil {
			response := unhex(t, *v.GenAC)
			if got, _ := tlv.Find(response, 0x9F4B); !bytes.Equal(got, signed) {
				// A negative that replaces the signature.
				response = bytes.Replace(response, got, signed, 1)
			}
			cid, _ := tlv.Find(response, 0x9F27)
			body, ok := tlv.Get(response, 0x77)
			if !ok || len(cid) != 1 {
				t.Fatal("the answer is no template 77 with 9F27")
			}
			in := CDAInput{Signed: signed, UN: unhex(t, v.UN), CID: cid[0], CDOL1: unhex(t, *v.CDOL1Data), Response: body}
			if v.PDOLData != nil {
				in.PDOL = unhex(t, *v.PDOLData)
			}
			if v.CDOL2Data != nil {
				in.CDOL2 = unhex(t, *v.CDOL2Data)
			}
			_, err := key.CDA(in)
			return err
		}
	default:
		t.Fatalf("unknown type %q", v.Type)
	}
	d, err := openDynamic(key.key, signed, terminal)
	if err == nil && v.Expect.SDAD.Number != "" && fmt.Sprintf("%X", d.number) != v.Expect.SDAD.Number {
		t.Errorf("dynamic number %X", d.number)
	}
	return err
}

func (v chain) check(t *testing.T, keys []caEntry) {
	// The key is in the vector, or any key of that RID and index is tried: test
	// and live keys share numbers.
	var cas []CAKey
	if v.CA.Modulus != "" {
		e := caEntry{RID: v.CA.RID, Index: v.CA.Index, Modulus: v.CA.Modulus, Exponent: v.CA.Exponent}
		cas = append(cas, e.key(t))
	} else {
		for _, e := range keys {
			if e.RID == v.CA.RID && e.Index == v.CA.Index {
				cas = append(cas, e.key(t))
			}
		}
	}
	var ca CAKey
	var issuer issuerCert
	var err error = ErrNoCAKey
	for _, k := range cas {
		pub, _ := newPublic(k.Modulus, k.Exponent)
		if issuer, err = openIssuer(pub, unhex(t, v.Tags["90"]), unhex(t, v.Tags["92"]), unhex(t, v.Tags["9F32"])); err == nil {
			ca = k
			break
		}
	}
	if err != nil {
		t.Fatalf("no key of %s %s opens the issuer certificate: %v", v.CA.RID, v.CA.Index, err)
	}
	if v.pan, err = tlv.AppendDigits(nil, v.PAN, 0); err != nil {
		t.Fatal(err)
	}
	if len(v.pan) == 0 && v.Static != nil {
		v.pan, _ = tlv.Find(unhex(t, *v.Static), 0x5A)
	}
	if len(v.pan) == 0 {
		card, err := openCard(issuer.key, unhex(t, v.Tags["9F46"]), unhex(t, v.Tags["9F48"]), unhex(t, v.Tags["9F47"]), nil, true)
		if err != nil {
			t.Fatal(err)
		}
		v.pan = card.pan
	}
	want := v.Expect.Issuer
	modulus := fmt.Sprintf("%X", issuer.key.n.FillBytes(make([]byte, issuer.key.size)))
	if want.Identifier != "" && (fmt.Sprintf("%X", issuer.id) != want.Identifier || fmt.Sprintf("%X", issuer.expiry) != want.Expiry ||
		fmt.Sprintf("%X", issuer.serial) != want.Serial || issuer.key.size != want.PKLen || modulus != want.Modulus) {
		t.Error("the issuer certificate holds something else")
	}
	if v.Expect.IssuerModulus != "" && modulus != v.Expect.IssuerModulus {
		t.Error("the issuer's modulus is another one")
	}
	// Without a date the last day on which the issuer certificate is good.
	date, ok := ParseDate([]byte{issuer.expiry[1], issuer.expiry[0], 0x28})
	if v.Date != "" {
		date, ok = ParseDate(unhex(t, v.Date))
	}
	if !ok {
		t.Fatal("no date")
	}
	if err := v.verdict(t, ca, v.Tags, date); err != nil && v.Date == "" {
		// The card certificate may end before the issuer's.
		for range 20 {
			date.Year--
			if err = v.verdict(t, ca, v.Tags, date); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("refused: %v", err)
		}
	} else if err != nil {
		t.Errorf("refused: %v", err)
	}
	for what, value := range v.Negative {
		tags, day := map[string]string{}, date
		maps.Copy(tags, v.Tags)
		if what == "date_expired" {
			day, _ = ParseDate(unhex(t, value))
		} else {
			if _, err := tlv.ParseTag(what); err != nil {
				t.Fatalf("unknown negative %q", what)
			}
			tags[what] = value
		}
		if err := v.verdict(t, ca, tags, day); err == nil {
			t.Errorf("with a wrong %s: accepted", what)
		} else {
			t.Logf("wrong %s: %v", what, err)
		}
	}
	// A changed byte anywhere in what is signed is a refusal as well.
	for _, tag := range []string{"90", "93", "9F46", "9F4B"} {
		if v.Tags[tag] == "" || v.Type != "SDA" && tag == "93" {
			continue
		}
		b := unhex(t, v.Tags[tag])
		b[len(b)/3] ^= 0x10
		tags := map[string]string{}
		maps.Copy(tags, v.Tags)
		tags[tag] = hex.EncodeToString(b)
		if err := v.verdict(t, ca, tags, date); err == nil {
			t.Errorf("with a changed %s: accepted", tag)
		}
	}
}
