package contact

import (
	"bytes"
	"fmt"
	"testing"

	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
)

// A script command that is no APDU fails its script (Book 4 section 6.3.9):
// the card stays, the next script runs, and the second cryptogram is asked for.
func TestMalformedScriptCommandFailsItsScript(t *testing.T) {
	for name, bad := range map[string]string{
		"Lc longer than the data": "842400020811",
		"Lc shorter":              "84240002011122334455",
		"extended":                "842400020001" + fmt.Sprintf("%X", make([]byte, 255)) + "00",
	} {
		for _, template := range []tlv.Tag{0x71, 0x72} {
			card := cardOf(t, "visa-debit", nil)
			w := &wire{card: card}
			s, _, out := run(t, w, testConfig(t), 20000)
			h, v := answer(t, card, out, "00", true)
			good, err := v.PINUnblock()
			if err != nil {
				t.Fatal(err)
			}
			h.Scripts = cryptogram.AppendScript(nil, template, [4]byte{1, 2, 3, 4}, mustHex(bad))
			h.Scripts = cryptogram.AppendScript(h.Scripts, template, [4]byte{5, 6, 7, 8}, good)
			last, err := s.Complete(guard(t), h)
			if err != nil || last.ReversalNeeded || len(w.of(0xAE)) != 2 {
				t.Errorf("%s in %v: %s, reversal %v, %v", name, template, last.Decision, last.ReversalNeeded, err)
				continue
			}
			got, _ := tlv.Find(last.Field55, 0x9F5B)
			if hexOf(got) != "1101020304"+"2005060708" {
				t.Errorf("%s in %v: 9F5B %X", name, template, got)
			}
			if !s.tvr.Has(ScriptFailedBeforeAC2) && !s.tvr.Has(ScriptFailedAfterAC2) {
				t.Errorf("%s in %v: TVR %s", name, template, last.TVR)
			}
		}
	}
}

// What the acquirer configured for one application does not reach the next
// candidate.
func TestApplicationDataStayWithTheirApplication(t *testing.T) {
	fci := func(aid string) string {
		return hexTLV(0x6F, hexTLV(0x84, aid)+hexTLV(0xA5, "50025649"+hexTLV(0x9F38, "9F5301"+"9F1C08"+"9F1A02"))) + "9000"
	}
	card := cardOfAnswers("00A404000E", "6A82", "00A4040007A0000000031010", fci("A0000000031010"), "00A4040007A0000000032010", fci("A0000000032010"), "80A8", "6985")
	c := testConfig(t)
	c.Data = mustHex("9F1C083132333435363738")
	c.Applications = c.Applications[:2]
	c.Applications[0].Data = mustHex("9F530152" + "9F1C084142434445464748" + "9F1A020999")
	if _, err := readOf(t, card, c); err == nil {
		t.Fatal("two refusing applications were read")
	}
	var gpo []string
	for _, s := range card.sent {
		if bytes.HasPrefix([]byte(s), []byte("80A8")) {
			gpo = append(gpo, s)
		}
	}
	if len(gpo) != 2 || gpo[1] != "80A800000D830B"+"00"+"3132333435363738"+"0840"+"00" {
		t.Errorf("GET PROCESSING OPTIONS %v", gpo)
	}
}

// The interchange profile is that of GET PROCESSING OPTIONS, whatever the
// selection answer said.
func TestProfileComesFromTheOptions(t *testing.T) {
	fci := hexTLV(0x6F, hexTLV(0x84, "A0000000031010")+hexTLV(0xA5, "50025649"+"82027F00")) + "9000"
	card := cardOfAnswers("00A404000E", "6A82", "00A4040007A0000000031010", fci, "80A8", "8006"+"1000"+"08010100"+"9000",
		"00B2010C", hexTLV(0x70, goodPAN+goodExpiry+goodLists)+"9000")
	s, err := readOf(t, card, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := s.data.lookup(0x82); hexOf(v) != "1000" {
		t.Errorf("82 is %X", v)
	}
}

// The second cryptogram goes to the acquirer with its own issuer application
// data, never with those of the first.
func TestSecondCryptogramHasItsOwnIssuerData(t *testing.T) {
	card := cardOf(t, "visa-debit", nil)
	w := &wire{card: card}
	acs := 0
	w.change = func(_ int, c, a []byte) []byte {
		if c[1] == 0xAE {
			if acs++; acs == 2 {
				a = mustHex("7714" + "9F270140" + "9F36020001" + "9F26081122334455667788" + "9000")
			}
		}
		return a
	}
	s, _, out := run(t, w, testConfig(t), 20000)
	h, _ := answer(t, card, out, "00", true)
	last, err := s.Complete(guard(t), h)
	if err != nil {
		t.Fatal(err)
	}
	if ac, _ := tlv.Find(last.Field55, 0x9F26); hexOf(ac) != "1122334455667788" {
		t.Fatalf("9F26 %X", ac)
	}
	if iad, ok := tlv.Find(last.Field55, 0x9F10); ok {
		t.Errorf("9F10 %X is of the first cryptogram", iad)
	}
}

// Field 55 holds the verification results that the second cryptogram is over:
// a script that fails after it changes the outcome's results, not those.
func TestFieldAfterLateScriptFailureVerifies(t *testing.T) {
	card := cardOf(t, "visa-debit", nil)
	s, _, out := run(t, card, testConfig(t), 20000)
	h, v := answer(t, card, out, "00", true)
	cmd, err := v.PINUnblock()
	if err != nil {
		t.Fatal(err)
	}
	cmd[len(cmd)-1] ^= 1
	h.Scripts = cryptogram.AppendScript(nil, 0x72, [4]byte{1, 2, 3, 4}, cmd)
	last, err := s.Complete(guard(t), h)
	if err != nil {
		t.Fatal(err)
	}
	if !s.tvr.Has(ScriptFailedAfterAC2) || last.TVR != hexOf(s.tvr[:]) {
		t.Errorf("TVR %s", last.TVR)
	}
	p := card.Profile()
	if _, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: p.PAN, PSN: p.PSN, AID: mustHex(p.AID), Data: last.Field55}); err != nil {
		t.Errorf("the issuer on the second cryptogram: %v", err)
	}
}

// A method with PIN and signature that lacks the signature alone does not say
// that the PIN pad is missing (Book 3 section 10.5.1).
func TestMissingSignatureIsNoMissingPad(t *testing.T) {
	for _, c := range []struct {
		caps byte
		want bool
	}{{capEncipheredPIN | capNoCVM, false}, {capSignature | capNoCVM, true}, {capNoCVM, true}} {
		r, err := CVM(CVMData{Supported: true, List: mustHex("0000000000000000" + "4500" + "1F00"), Capabilities: c.caps}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(r.Bits) == 1 && r.Bits[0] == PINPadMissing; got != c.want || !c.want && len(r.Bits) > 0 {
			t.Errorf("capabilities %02X: %v", c.caps, r.Bits)
		}
	}
}

// A list that does not ask for the whole unpredictable number fails the
// method; no data of the card is missing (Book 2 sections 6.5.1 and 6.6).
func TestShortNumberIsNoMissingData(t *testing.T) {
	for profile, c := range map[string]struct {
		from, to string
		bit      Bit
	}{
		"jcb":        {"9F49039F3704", "9F49039F3703", DDAFailed},
		"visa-debit": {"9C019F3704", "9C019F3604", CDAFailed},
	} {
		w := &wire{card: cardOf(t, profile, nil)}
		w.change = func(_ int, cmd, a []byte) []byte {
			if cmd[1] == 0xB2 {
				return bytes.ReplaceAll(a, mustHex(c.from), mustHex(c.to))
			}
			return a
		}
		s, err := readOf(t, w, testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.authenticate(guard(t)); err != nil {
			t.Fatal(err)
		}
		if !s.tvr.Has(c.bit) || s.tvr.Has(ICCDataMissing) {
			t.Errorf("%s: TVR %X", profile, s.tvr)
		}
	}
}
