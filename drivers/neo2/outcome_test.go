package neo2

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/tlv"
)

// A yes needs the reader and the card; the card alone may say no.
func TestReaderAndCardHaveToAgree(t *testing.T) {
	for _, c := range []struct {
		cid  string
		says emv.Decision
		want emv.Decision
	}{
		{"40", emv.Approved, emv.Approved}, {"00", emv.Approved, emv.Declined}, {"80", emv.Approved, ""}, {"C0", emv.Approved, ""},
		{"80", emv.OnlineRequest, emv.OnlineRequest}, {"00", emv.OnlineRequest, emv.Declined}, {"40", emv.OnlineRequest, ""},
	} {
		o := answered{Outcome: emv.Outcome{CID: c.cid}}
		if got := agreed(&o, c.says); got != c.want {
			t.Errorf("CID %s, reader %s: %q, want %q", c.cid, c.says, got, c.want)
		}
	}
}

func TestAttribution(t *testing.T) {
	for a := range 256 {
		x := Attribution(a)
		entry, ok := x.Entry()
		if x.Protected() && (!ok || a&0xC0 == 0) {
			t.Errorf("%02X counts as encrypted", a)
		}
		if ok != (entry != "") {
			t.Errorf("%02X: entry %q", a, entry)
		}
	}
	for _, c := range []struct {
		a    Attribution
		e    emv.Entry
		on   bool
		what string
	}{
		{0x40, emv.EntryContact, true, "chip, EMV only"}, {0xC0, emv.EntryContact, true, "chip, both"}, {0x80, emv.EntryContact, false, "chip, stripes only"},
		{0x00, emv.EntryContact, false, "chip, off"}, {0x41, emv.EntryContactless, true, "tap"}, {0x91, emv.EntryContactless, false, "tap in stripe mode, stripes only"},
		{0xD1, emv.EntryContactless, true, "tap in stripe mode, both"}, {0x48, emv.EntrySwipe, false, "swipe, EMV only"}, {0x88, emv.EntrySwipe, true, "swipe"},
		{0x10, "", false, "no interface"}, {0xD8, "", false, "no interface"},
	} {
		if e, _ := c.a.Entry(); e != c.e || c.a.Protected() != c.on {
			t.Errorf("%s (%02X): %q, encrypted %v", c.what, byte(c.a), e, c.a.Protected())
		}
	}
}

// Published test number; no answer with it in the clear is taken.
func TestClearValuesAreRefused(t *testing.T) {
	set, err := ParseSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	const ksn = "DFEE120AFFFF9876543211E00001"
	const sealed = "5A08911F3B77C0FEA1D25710E1887ABCFE0142990011AACCBBEEDD77"
	for name, c := range map[string]struct {
		data string
		ok   bool
	}{
		"ciphertext":                   {ksn + sealed, true},
		"marked ciphertext":            {ksn + "5AC108911F3B77C0FEA1D2", true},
		"masked number beside it":      {ksn + "5AA108411111CCCCCC1111" + sealed, true},
		"clear number":                 {ksn + "5A084111111111111111", false},
		"clear number beside it":       {ksn + sealed + "5A084111111111111111", false},
		"clear number, marked":         {ksn + "5AC1084111111111111111", false},
		"clear number, said masked":    {ksn + "5AA1084111111111111111" + sealed, false},
		"clear track":                  {ksn + "57104111111111111111D291210100000000", false},
		"clear track of odd length":    {ksn + "57134111111111111111D29121010000000000000F", false},
		"clear name":                   {ksn + sealed + "5F2010" + hex.EncodeToString([]byte("CARD/TEST       ")), false},
		"clear track 1":                {ksn + sealed + "5618" + hex.EncodeToString([]byte("B4111111111111111^TEST^29")), false},
		"clear track 2 of a tap":       {ksn + sealed + "9F6B104111111111111111D291210100000000", false},
		"ciphertext of a broken size":  {ksn + "5A07911F3B77C0FEA1", false},
		"clear number, no check digit": {ksn + "5A101234567890123FFFFFFFFFFFFFFFFFFF", false},
		"clear track, no check digit":  {ksn + "57101234567890123456D291210100000000", false},
		"no KSN":                       {sealed, false},
		"two KSNs":                     {ksn + ksn + sealed, false},
		"KSN of another length":        {"DFEE1209FFFF9876543211E000" + sealed, false},
		"KSN and nothing":              {ksn, false},
	} {
		b, err := hex.DecodeString(c.data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := readCard(0x40, b, set)
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok {
			if !errors.Is(err, drivers.ErrRefused) && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			if !got.envelope.Empty() || got.masked != "" {
				t.Errorf("%s: card data came out", name)
			}
			if err != nil && strings.Contains(err.Error(), "1111") {
				t.Errorf("%s: the error shows digits", name)
			}
		}
		if off, err := readCard(0x80, b, set); !errors.Is(err, drivers.ErrRefused) || !off.envelope.Empty() {
			t.Errorf("%s with encryption off: %v", name, err)
		}
	}
}

// What a trace keeps: no number, no track, no name.
func TestTraceHidesCardData(t *testing.T) {
	objects, _ := hex.DecodeString("C05A08411111111111111157104111111111111111D2912101000000005F2005544553542F9F260801020304050607089F0206000000001000")
	wire, err := Append(nil, FromReader, Frame{Command: 0x02, Code: 0x23, Data: objects})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][]byte{"frame": wire, "reports": AppendReports(nil, wire), "cut off": wire[:len(wire)-9], "broken": append(wire[:len(wire)-1:len(wire)-1], wire[len(wire)-1]^1),
		"two": append(append([]byte(nil), wire...), wire...)} {
		left := append([]byte(nil), c...)
		for _, s := range (Driver{}).CardData(true, c) {
			for i := s.Start; i < s.End; i++ {
				left[i] = 0
			}
		}
		text := hex.EncodeToString(left)
		if strings.Contains(text, "411111") || strings.Contains(text, "544553") {
			t.Errorf("%s: card data stays", name)
		}
		if name == "frame" && !strings.Contains(text, "9f2608010203") {
			t.Error("the cryptogram went too")
		}
		for _, line := range (Driver{}).Describe(true, c) {
			if strings.Contains(line, "4111") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	if got := strings.Join((Driver{}).Describe(true, wire), "\n"); !strings.Contains(got, "activate 02") {
		t.Error(got)
	}
}

func TestSettings(t *testing.T) {
	for name, bad := range map[string]map[string]string{
		"unknown": {"speed": "1"}, "baud": {"baud": "fast"}, "wait": {"customer_wait": "256"}, "variant": {"key_variant": "x"}, "link": {"link": "usb"}, "bool": {"force_online": "maybe"},
	} {
		if _, err := ParseSettings(bad); err == nil || !strings.Contains(err.Error(), "parameter") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := ParseSettings(map[string]string{"baud": "38400", "key_variant": "pin", "link": "hid", "customer_wait": "30"})
	if err != nil || s.Baud != 38400 || s.KeyVariant != "pin" || s.Reports == nil || !*s.Reports {
		t.Errorf("%+v %v", s, err)
	}
}

// Random ciphertext of every length is hardly ever taken for a number: less
// than once in a thousand, and then the card is presented again.
func TestCiphertextIsSeldomTakenForANumber(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, p := range []Protection{Unmarked, Enciphered} {
		for _, c := range []struct {
			tag tlv.Tag
			n   int
		}{{0x5A, 8}, {0x57, 24}, {0x5F20, 32}} {
			tag, n := c.tag, c.n
			wrong := 0
			const all = 40000
			for range all {
				v := make([]byte, n)
				for i := range v {
					v[i] = byte(r.Uint32())
				}
				if protectionOf(Object{Tag: tag, Value: v, Protection: p}, 8) != Enciphered {
					wrong++
				}
			}
			t.Logf("tag %s, marked %d: %d of %d", tag, p, wrong, all)
			if wrong > all/1000 {
				t.Errorf("tag %s, marked %d: %d of %d", tag, p, wrong, all)
			}
		}
	}
}
