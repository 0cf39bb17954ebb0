package neo2

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/tlv"
)

// Answers of a reader that is broken, set up wrongly, or not ours.

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	aKSN      = "DFEE120AFFFF9876543211E00001"
	aSealed   = "5A08911F3B77C0FEA1D25710E1887ABCFE0142990011AACCBBEEDD77"
	clearPAN  = "5A084111111111111111"
	otherPAN  = "5A08A11F3B77C0FEA1D2"
	aTrackMsg = ";4111111111111111=29121010000000000?"
)

// stripeRecord is a record of the enhanced format: track 2, TDES, KSN.
func stripeRecord(track []byte, ksn string) []byte {
	body := []byte{0x80, 0x1F, 0, byte(len(aTrackMsg)), 0, 0x00, 0x82}
	body = append(body, track...)
	k, _ := hex.DecodeString(ksn)
	body = append(body, k...)
	var lrc, sum byte
	for _, c := range body {
		lrc ^= c
		sum += c
	}
	out := append([]byte{0x02, byte(len(body)), byte(len(body) >> 8)}, body...)
	return append(out, lrc, sum, 0x03)
}

func sealedTrack() []byte {
	track := make([]byte, (len(aTrackMsg)+7)/8*8)
	for i := range track {
		track[i] = byte(0x91 + 37*i)
	}
	return track
}

// What stands beside the record of a stripe is judged as everything else.
func TestWhatStandsBesideAStripe(t *testing.T) {
	set, err := ParseSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := tlv.Append(nil, tagMSR, stripeRecord(sealedTrack(), "FFFF9876543211E00001"))
	clear := append([]byte(aTrackMsg), make([]byte, len(sealedTrack())-len(aTrackMsg))...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, c := range map[string]struct {
		data []byte
		ok   bool
	}{
		"the record alone":              {good, true},
		"its KSN once more":             {join(unhex(t, aKSN), good), true},
		"the KSN of another key":        {join(unhex(t, "DFEE120AFFFF9876543211E00002"), good), false},
		"a clear number behind it":      {join(good, unhex(t, clearPAN)), false},
		"a clear number before it":      {join(unhex(t, clearPAN), good), false},
		"a second record":               {join(good, good), false},
		"damage behind it":              {join(good, []byte{0x5A, 0x7F}), false},
		"a track in the clear, as said": {tlv.Append(nil, tagMSR, stripeRecord(clear, "FFFF9876543211E00001")), false},
	} {
		got, err := readCard(0x88, c.data, set)
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok && !got.envelope.Empty() {
			t.Errorf("%s: card data came out", name)
		}
	}
}

// Forms of clear data that do not look like it at once.
func TestDisguisedClearDataIsRefused(t *testing.T) {
	set, err := ParseSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	const ksn, aes = aKSN, "5A10911F3B77C0FEA1D2E1887ABCFE014299"
	for name, c := range map[string]struct {
		a    Attribution
		data string
	}{
		// 5105105105105100 ends in zeros as its padding does.
		"padded number that ends in 0":           {0x42, ksn + "5A1051051051051051000000000000000000"},
		"padded number that ends in 0, marked":   {0x42, ksn + "5AC11051051051051051000000000000000000"},
		"number without check digit, marked":     {0x40, ksn + "5AC1081234567890123FFF"},
		"track without check digit, marked":      {0x40, ksn + "57C1101234567890123456D291210100000000"},
		"number in a template":                   {0x40, ksn + aSealed + "700A" + clearPAN},
		"number in a template in a template":     {0x40, ksn + aSealed + "FFEE010E" + "E00C" + "700A" + clearPAN},
		"track in a template":                    {0x42, ksn + aes + "7712" + "57104111111111111111D291210100000000"},
		"two different ciphertexts of one value": {0x40, ksn + aSealed + otherPAN},
	} {
		got, err := readCard(c.a, unhex(t, c.data), set)
		if !errors.Is(err, drivers.ErrRefused) || !got.envelope.Empty() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// terms of the tests below.
func someTerms() emv.Terms {
	return emv.Terms{Amounts: emv.Amounts{Amount: 5000, Other: 2000, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2}, Type: emv.Cashback,
		Time: time.Date(2026, 11, 30, 21, 5, 9, 0, time.UTC)}
}

const aCryptogram = "9F26081122334455667788 9F270180 9F36020001 9F1003060A0A 9F37 04 01020304 9505 8000000000 8202 3800"

// An answer about money that says two things, or leaves one out, is none.
func TestContradictionsInAnAnswer(t *testing.T) {
	const terms = "9F0206000000005000 9F0306000000002000 5F2A020978 9A03261130 9F2103210509 9C0109"
	s := &session{terms: someTerms()}
	for name, c := range map[string]struct {
		data string
		ok   bool
	}{
		"as asked for":               {terms + aCryptogram, true},
		"an object twice, the same":  {terms + aCryptogram + "9F0206000000005000", true},
		"a second amount":            {terms + aCryptogram + "9F0206000000009000", false},
		"a second currency":          {terms + aCryptogram + "5F2A020840", false},
		"a second cash amount":       {terms + aCryptogram + "9F0306000000000000", false},
		"a second cryptogram":        {terms + aCryptogram + "9F2608AABBCCDDEEFF0011", false},
		"a second kind":              {terms + aCryptogram + "9F270140", false},
		"a second counter":           {terms + aCryptogram + "9F36020002", false},
		"no cash amount, some asked": {strings.Replace(terms, "9F0306000000002000", "", 1) + aCryptogram, false},
	} {
		o, err := s.outcome(unhex(t, c.data), true)
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok && (o.Cryptogram != "" || len(o.Field55) > 0) {
			t.Errorf("%s: an outcome came out", name)
		}
		if c.ok {
			seen := map[tlv.Tag]int{}
			w := Walk(o.Field55)
			for w.Next() {
				if seen[w.Object().Tag]++; seen[w.Object().Tag] > 1 {
					t.Errorf("%s: tag %s stands twice in field 55", name, w.Object().Tag)
				}
			}
		}
	}
}

// No code that a card takes for an approval goes with a decline.
func TestDeclineIsNeverToldAsApproval(t *testing.T) {
	for _, arc := range []string{"00", "08", "10", "11", "Y1", "Y2", "Y3", "", "0", "000"} {
		for _, h := range []emv.HostResponse{{Reached: true, Sent: true, ARC: arc}, {Sent: true, ARC: arc}} {
			if host, told := completion(h); host != hostAnswered || told != "05" {
				t.Errorf("ARC %q: told as %d %q", arc, host, told)
			}
		}
	}
	if _, told := completion(emv.HostResponse{Reached: true, Sent: true, ARC: "51"}); told != "51" {
		t.Errorf("the host's own code became %q", told)
	}
}

// A turn of a trace may begin anywhere: within a frame after a write of the
// host, behind noise, in the rest of a long one.
func TestTraceHidesWhatBeginsWithinAFrame(t *testing.T) {
	objects := unhex(t, "C0 5A084111111111111111 57104111111111111111D291210100000000 5F2005544553542F 9F26080102030405060708")
	for command, lead := range map[byte]int{0x02: 0, 0x60: 1, 0x03: 0, 0x2C: 1, 0x61: 1, 0x62: 1, 0x01: 1} {
		wire, err := Append(nil, FromReader, Frame{Command: command, Data: objects[lead:]})
		if err != nil {
			t.Fatal(err)
		}
		reports := AppendReports(nil, wire)
		forms := map[string][]byte{"whole": wire, "noise before": append([]byte{0x80, 0x55}, wire...), "reports": reports,
			"a report as another": append([]byte{reportFirst}, objects...)}
		for at := 1; at < len(wire); at++ {
			forms["from byte "+hex.EncodeToString([]byte{byte(at)})] = wire[at:]
			forms["to byte "+hex.EncodeToString([]byte{byte(at)})] = wire[:at]
		}
		for at := 1; at < len(reports); at++ {
			forms["reports from "+hex.EncodeToString([]byte{byte(at)})] = reports[at:]
		}
		forms["a report as another"] = append(forms["a report as another"], make([]byte, ReportSize-len(forms["a report as another"])%ReportSize)...)
		for name, form := range forms {
			left := bytes.Clone(form)
			for _, s := range (Driver{}).CardData(true, form) {
				if s.Start < 0 || s.End > len(form) || s.Start > s.End {
					t.Fatalf("command %02X, %s: span %v of %d bytes", command, name, s, len(form))
				}
				clear(left[s.Start:s.End])
			}
			if text := hex.EncodeToString(left); strings.Contains(text, "111111") || strings.Contains(text, "5445535") {
				t.Errorf("command %02X, %s: card data stays", command, name)
			}
		}
	}
}

// A PIN block travels with the KSN of a key that can have made it, or not.
func TestPINBlockNeedsItsOwnKSN(t *testing.T) {
	const terms = "9F0206000000005000 9F0306000000002000 5F2A020978"
	const des, aes = "DFEE510AFFFF9876543211E00001", "DFEE510C123456789012345600000001"
	const block8, block16 = "99081122334455667788", "991011223344556677881122334455667788"
	s := &session{terms: someTerms()}
	for name, c := range map[string]struct {
		data string
		ok   bool
	}{
		"eight bytes, TDES": {block8 + des, true}, "sixteen bytes, AES": {block16 + aes, true}, "none": {"", true},
		"sixteen bytes, TDES": {block16 + des, false}, "no KSN": {block8, false}, "a KSN of eight bytes": {block8 + "DFEE5108FFFF9876543211E0", false},
		"a counter of nothing": {block8 + "DFEE510AFFFF9876543211E00000", false}, "two blocks": {block8 + "99088877665544332211" + des, false},
		"two KSNs": {block8 + des + "DFEE510AFFFF9876543211E00002", false}, "nine bytes": {"9909112233445566778899" + des, false},
	} {
		o, err := s.outcome(unhex(t, terms+aCryptogram+c.data), true)
		if c.ok != (err == nil) || !c.ok && !o.PIN.Empty() {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && c.data != "" && (o.PIN.Empty() || bytes.Contains(o.Field55, []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x11})) {
			t.Errorf("%s: no PIN, or it is in field 55", name)
		}
	}
}

// What a host sends as scripts cannot bring a second response code along.
func TestScriptsAreScriptsAlone(t *testing.T) {
	const first, last = "7106860400DA0000", "720E9F180411223344860500DA000000"
	for name, c := range map[string]struct{ scripts, want string }{
		"both":                  {first + last, first + last},
		"none":                  {"", ""},
		"a code behind them":    {first + "8A023030", first},
		"a code before them":    {"8A023030" + first, first},
		"issuer authentication": {"910A11223344556677883030" + last, last},
		"damage":                {first + "7220", first},
		"fill":                  {"0000" + first + "00" + last, first + last},
	} {
		for _, h := range []emv.HostResponse{{Reached: true, Sent: true, ARC: "51"}, {Reached: true, Sent: true, Approved: true, ARC: "00"}} {
			h.Scripts = unhex(t, c.scripts)
			want := append([]byte{0}, tlv.Append(nil, 0x8A, []byte(h.ARC))...)
			if got := complete(h); !bytes.Equal(got, append(want, unhex(t, c.want)...)) {
				t.Errorf("%s: %X", name, got)
			}
		}
	}
}
