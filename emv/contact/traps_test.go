package contact

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
)

// wire passes commands to a card and lets a test see and change both ways.
type wire struct {
	card    emv.Transceiver
	sent    [][]byte
	change  func(n int, command, answer []byte) []byte // nil answer: no answer
	command func(command []byte) ([]byte, bool)        // answers itself when true
}

func (w *wire) Transmit(ctx context.Context, c []byte) ([]byte, error) {
	w.sent = append(w.sent, bytes.Clone(c))
	if w.command != nil {
		if a, ok := w.command(c); ok {
			return a, nil
		}
	}
	a, err := w.card.Transmit(ctx, c)
	if err != nil || w.change == nil {
		return a, err
	}
	if a = w.change(len(w.sent)-1, c, bytes.Clone(a)); a == nil {
		return nil, virtualcard.ErrRemoved
	}
	return a, nil
}

// of lists what was sent with this instruction.
func (w *wire) of(ins byte) (out [][]byte) {
	for _, c := range w.sent {
		if c[1] == ins {
			out = append(out, c)
		}
	}
	return out
}

func dataOf(t testing.TB, c []byte) []byte {
	t.Helper()
	p, err := apdu.ParseCommand(c)
	if err != nil {
		t.Fatal(err)
	}
	return p.Data
}

// script is a card of fixed answers by the start of the command in hex.
type scriptCard struct {
	answers []struct{ prefix, answer string }
	sent    []string
}

func (s *scriptCard) Transmit(_ context.Context, c []byte) ([]byte, error) {
	text := strings.ToUpper(fmt.Sprintf("%x", c))
	s.sent = append(s.sent, text)
	for _, a := range s.answers {
		if strings.HasPrefix(text, a.prefix) {
			return mustHex(a.answer), nil
		}
	}
	return []byte{0x6A, 0x82}, nil
}

func cardOfAnswers(pairs ...string) *scriptCard {
	s := &scriptCard{}
	for i := 0; i+1 < len(pairs); i += 2 {
		s.answers = append(s.answers, struct{ prefix, answer string }{pairs[i], pairs[i+1]})
	}
	return s
}

func hexTLV(tag tlv.Tag, body string) string {
	return fmt.Sprintf("%X", tlv.Append(nil, tag, mustHex(body)))
}

const (
	goodPAN    = "5A084761739001010119"
	goodExpiry = "5F2403351231"
	goodLists  = "8C159F02069F03069F1A0295055F2A029A039C019F3704" + "8D178A029F02069F03069F1A0295055F2A029A039C019F3704"
	visaFCI    = "6F0F8407A0000000031010A50450025649"
)

// simple is a card of one application with the given records in file 1.
func simple(pdol, options string, records ...string) *scriptCard {
	body := "500256499F38" + fmt.Sprintf("%02X", len(pdol)/2) + pdol
	if pdol == "" {
		body = "50025649"
	}
	fci := hexTLV(0x6F, "8407A0000000031010"+hexTLV(0xA5, body))
	pairs := []string{"00A404000E", "6A82", "00A4040007A0000000031010", fci + "9000", "80A8", options + "9000"}
	for i, r := range records {
		pairs = append(pairs, fmt.Sprintf("00B2%02X0C", i+1), hexTLV(0x70, r)+"9000")
	}
	return cardOfAnswers(pairs...)
}

func readOf(t testing.TB, card emv.Transceiver, c Config) (*Session, error) {
	t.Helper()
	s, err := New(card, c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Read(guard(t), terms(1234))
	return s, err
}

// Traps 1 and 2: a list is filled in its order, twice where it asks twice, by
// the fill rules of Book 3 section 5.4.
func TestListsKeepOrderAndDuplicates(t *testing.T) {
	card := simple("9F1A029F02069F1A039A029F0206DF7E03", "7706820200009400", goodPAN)
	_, err := readOf(t, card, testConfig(t))
	if !errors.Is(err, ErrFileLocator) {
		t.Errorf("an empty locator: %v", err)
	}
	want := "83160840" + "000000001234" + "000840" + "1130" + "000000001234" + "000000"
	if got := fmt.Sprintf("%X", dataOf(t, mustHex(card.sent[len(card.sent)-1]))); got != want {
		t.Errorf("the filled list is %s, want %s", got, want)
	}
}

// Trap 3: padding within and around records is no data.
func TestPaddedRecords(t *testing.T) {
	for _, pad := range [][]byte{{0}, {0xFF}, {0, 0, 0xFF}} {
		card := cardOf(t, "visa-credit", func(p *virtualcard.Profile) { p.Padding = pad })
		s, _, out := run(t, card, testConfig(t), 1234)
		if !s.authentic || out.Decision != emv.Approved {
			t.Errorf("padding %X: %s %v", pad, out.Decision, out.Reasons)
		}
	}
}

// Trap 4: a data object list is not judged as if its lengths were of values.
func TestListLengthsAreNotValueLengths(t *testing.T) {
	card := simple("9F02069F03069F1A02", "770A8202000094040801"+"0100", goodPAN+goodExpiry+goodLists)
	if _, err := readOf(t, card, testConfig(t)); err != nil {
		t.Errorf("a list at the end of the answer: %v", err)
	}
}

// Trap 5: a card without action codes goes online for whatever was found.
func TestAbsentActionCodesAreOnes(t *testing.T) {
	card := cardOf(t, "no-cvm", func(p *virtualcard.Profile) { p.IACOnline, p.IACDefault, p.ODA = "", "", virtualcard.ODANone })
	config := testConfig(t)
	config.UnauthenticatedOffline = true
	s, _, out := run(t, card, config, 1234)
	if out.Decision != emv.OnlineRequest {
		t.Fatalf("ODA was not performed and no code is there: %s", out.Decision)
	}
	last, err := s.Complete(guard(t), emv.HostResponse{})
	if err != nil || last.Decision != emv.Declined || last.ARC != "Z3" {
		t.Errorf("unable to go online: %s %s %v", last.Decision, last.ARC, err)
	}
}

// Trap 6: an amount equal to the floor limit exceeds it, and the card is told.
func TestFloorLimitReachesTheCard(t *testing.T) {
	for amount, online := range map[int64]bool{9999: false, 10000: true} {
		_, _, out := run(t, cardOf(t, "no-cvm", nil), testConfig(t), amount)
		if (out.Decision == emv.OnlineRequest) != online || (out.TVR == "0000008000") != online {
			t.Errorf("%d: %s %s", amount, out.Decision, out.TVR)
		}
	}
}

// Trap 7: unpredictable numbers differ from transaction to transaction.
func TestUnpredictableNumbersDiffer(t *testing.T) {
	seen := map[[4]byte]bool{}
	for range 40 {
		s, err := New(cardOf(t, "no-cvm", nil), testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(guard(t), terms(1)); err != nil {
			t.Fatal(err)
		}
		seen[s.unpredictable] = true
	}
	if len(seen) < 38 {
		t.Errorf("%d of 40 numbers differ", len(seen))
	}
}

// Trap 8: amounts X and Y count in the application's currency alone; the
// method reaches the card as CVM results and the receipt as words.
func TestEachMethodOverTheFraming(t *testing.T) {
	list := func(rules string) string { return "00000000" + "00000000" + rules }
	for _, c := range []struct {
		name, list, tvr, results, text string
		pad                            *pad
		decision                       emv.Decision
		signature                      bool
	}{
		{"no CVM", list("1F00"), "0000000000", "1F0002", "no CVM required", nil, emv.Approved, false},
		{"signature", list("1E00"), "0000000000", "1E0000", "signature", nil, emv.Approved, true},
		{"online PIN", list("0200"), "0000040000", "020000", "online PIN", &pad{pins: []string{"1234"}}, emv.OnlineRequest, false},
		{"plaintext PIN", list("0100"), "0000000000", "010002", "plaintext offline PIN", &pad{pins: []string{"1234"}}, emv.Approved, false},
		{"plaintext PIN at the second try", list("0100"), "0000000000", "010002", "plaintext offline PIN", &pad{pins: []string{"9999", "1234"}}, emv.Approved, false},
		{"plaintext PIN and signature", list("0300"), "0000000000", "030000", "plaintext offline PIN and signature", &pad{pins: []string{"1234"}}, emv.Approved, true},
		{"enciphered PIN", list("0400"), "0000000000", "040002", "enciphered offline PIN", &pad{pins: []string{"1234"}}, emv.Approved, false},
		{"enciphered PIN at the second try", list("0400"), "0000000000", "040002", "enciphered offline PIN", &pad{pins: []string{"9999", "1234"}}, emv.Approved, false},
		{"enciphered PIN and signature", list("0500"), "0000000000", "050000", "enciphered offline PIN and signature", &pad{pins: []string{"1234"}}, emv.Approved, true},
		{"PIN never right", list("0100"), "0000A00000", "010001", "cardholder verification failed", &pad{pins: []string{"9999"}}, emv.OnlineRequest, false},
		{"PIN passed over, then signature", list("42001E00"), "0000080000", "1E0000", "signature", &pad{bypass: true}, emv.OnlineRequest, true},
		{"no pad, then signature", list("42001E00"), "0000100000", "1E0000", "signature", nil, emv.OnlineRequest, true},
		{"fail CVM", list("0000"), "0000800000", "000001", "cardholder verification failed", nil, emv.OnlineRequest, false},
		{"unknown method", list("4A001F00"), "0000400000", "1F0002", "no CVM required", nil, emv.OnlineRequest, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := cardOf(t, "visa-credit", func(p *virtualcard.Profile) { p.CVMList, p.Format1, p.IACOnline = c.list, false, "FFFFFFFFFF" })
			config := testConfig(t)
			config.PlaintextPIN = true
			if c.pad != nil {
				config.Pad = c.pad
			}
			_, _, out := run(t, overVPCD(t, card, nil), config, 1234)
			if out.TVR != c.tvr || out.CVM != c.results || out.CVMText != c.text || out.Decision != c.decision || out.Signature != c.signature {
				t.Errorf("%s TVR %s CVM %s %q signature %v", out.Decision, out.TVR, out.CVM, out.CVMText, out.Signature)
			}
			if (c.results[:2] == "02") == out.PIN.Empty() {
				t.Error("the PIN block belongs to an online PIN alone")
			}
		})
	}
}

// A reader without a secure pad says so, and plaintext PIN is off by default.
func TestCapabilitiesSayWhatIsThere(t *testing.T) {
	for _, c := range []struct {
		pad   PINPad
		plain bool
		want  byte
	}{{nil, false, 0x28}, {nil, true, 0x28}, {&pad{}, false, 0x78}, {&pad{}, true, 0xF8}} {
		config := testConfig(t)
		config.Pad, config.PlaintextPIN = c.pad, c.plain
		n, err := config.normal()
		if err != nil || n.Capabilities[1] != c.want || n.Capabilities[2]&0x80 != 0 {
			t.Errorf("pad %v, plaintext %v: %X, %v", c.pad != nil, c.plain, n.Capabilities, err)
		}
	}
}

// Trap 9: what the second GENERATE AC asks follows the issuer's code, and a
// card's AAC is the last word.
func TestSecondCryptogramFollowsTheIssuer(t *testing.T) {
	for _, c := range []struct {
		name     string
		edit     func(*virtualcard.Profile)
		change   func(*emv.HostResponse)
		p1       byte
		arc      string
		decision emv.Decision
		reversal bool
	}{
		{"approved", nil, nil, TC, "00", emv.Approved, false},
		{"declined", nil, func(h *emv.HostResponse) { h.Approved, h.ARC = false, "05" }, AAC, "05", emv.Declined, false},
		{"referral", nil, func(h *emv.HostResponse) { h.ARC = "01" }, AAC, "01", emv.Declined, true},
		{"approved without a code", nil, func(h *emv.HostResponse) { h.ARC = "" }, AAC, "", emv.Declined, true},
		{"the card declines", func(p *virtualcard.Profile) { p.DeclinesSecond = true }, nil, TC, "00", emv.Declined, true},
		{"silence after a byte", nil, func(h *emv.HostResponse) { *h = emv.HostResponse{Sent: true} }, AAC, "", emv.Declined, false},
		{"nothing sent, defaults decline", nil, func(h *emv.HostResponse) { *h = emv.HostResponse{} }, AAC, "Z3", emv.Declined, false},
		{"nothing sent, defaults approve", func(p *virtualcard.Profile) { p.IACDefault = "0000000000" }, func(h *emv.HostResponse) { *h = emv.HostResponse{} }, TC, "Y3", emv.Approved, false},
		{"late but not reached", nil, func(h *emv.HostResponse) { h.Reached = false }, AAC, "", emv.Declined, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := cardOf(t, "no-pse", func(p *virtualcard.Profile) {
				p.IACDefault, p.CVMList = "8000000000", "00000000000000001F00"
				if c.edit != nil {
					c.edit(p)
				}
			})
			w := &wire{card: card}
			config := testConfig(t)
			config.UnauthenticatedOffline = true
			s, _, out := run(t, w, config, 1234)
			if out.Decision != emv.OnlineRequest {
				t.Fatalf("%s %v", out.Decision, out.Reasons)
			}
			h, _ := answer(t, card, out, "00", true)
			if c.change != nil {
				c.change(&h)
			}
			last, err := s.Complete(guard(t), h)
			if err != nil {
				t.Fatal(err)
			}
			acs := w.of(0xAE)
			if len(acs) != 2 || acs[1][2]&0xC0 != c.p1 {
				t.Errorf("asked %X", acs[len(acs)-1][2])
			}
			want := []byte(c.arc)
			if c.arc == "" {
				want = []byte{0, 0}
			}
			if d := dataOf(t, acs[1]); !bytes.Equal(d[:2], want) {
				t.Errorf("8A is %X", d[:2])
			}
			if last.Decision != c.decision || last.ReversalNeeded != c.reversal || last.ARC != c.arc {
				t.Errorf("%s %q reversal %v", last.Decision, last.ARC, last.ReversalNeeded)
			}
			// Whatever was not answered by an issuer keeps its first cryptogram.
			first := last.Cryptogram == out.Cryptogram && last.CID == "80" && bytes.Equal(without9B(last.Field55), without9B(out.Field55))
			if want := !h.Reached && last.Decision != emv.Approved; first != want {
				t.Errorf("the first cryptogram is kept: %v, want %v", first, want)
			}
			if _, err := s.Complete(guard(t), h); !errors.Is(err, ErrOrder) {
				t.Errorf("a second completion: %v", err)
			}
		})
	}
}

func without9B(b []byte) (out []byte) {
	for it := tlv.Iter(b); it.Next(); {
		if it.Tag() != 0x9B {
			out = append(out, it.Raw()...)
		}
	}
	return out
}

// A wrong answer of the issuer is refused by the card, which sets the bit.
func TestWrongIssuerAnswer(t *testing.T) {
	for _, name := range []string{"visa-debit", "mastercard-credit"} {
		card := cardOf(t, name, nil)
		s, _, out := run(t, overVPCD(t, card, nil), testConfig(t), 20000)
		h, _ := answer(t, card, out, "00", true)
		h.IssuerAuth[0] ^= 1
		last, err := s.Complete(guard(t), h)
		if err != nil || last.Decision != emv.Declined || !last.ReversalNeeded {
			t.Errorf("%s: %s reversal %v, %v", name, last.Decision, last.ReversalNeeded, err)
		}
		external := card.Profile().IssuerAuth == virtualcard.AuthExternal
		if s.tvr.Has(IssuerAuthFailed) != external || s.tsi.Has(IssuerAuthPerformed) != external {
			t.Errorf("%s: TVR %s TSI %s", name, last.TVR, last.TSI)
		}
	}
}

// Traps 10 and 11: a combined signature over other data, or with another
// cryptogram information, is no approval.
func TestCombinedSignatureIsChecked(t *testing.T) {
	for name, change := range map[string]func(body []byte) []byte{
		"other counter":     func(b []byte) []byte { return replaced(b, 0x9F36, func(v []byte) { v[1]++ }) },
		"damaged signature": func(b []byte) []byte { return replaced(b, 0x9F4B, func(v []byte) { v[5] ^= 1 }) },
		"other issuer data": func(b []byte) []byte { return replaced(b, 0x9F10, func(v []byte) { v[0] ^= 1 }) },
		"no signature":      func(b []byte) []byte { return removed(b, 0x9F4B) },
		"cryptogram beside it": func(b []byte) []byte {
			v, _ := single(b, 0x77)
			return tlv.Append(nil, 0x77, append(bytes.Clone(v), mustHex("9F26080000000000000000")...))
		},
	} {
		w := &wire{card: cardOf(t, "no-cvm", nil)}
		w.change = func(_ int, c, a []byte) []byte {
			if c[1] != 0xAE || c[2]&0xC0 == AAC {
				return a
			}
			return append(change(a[:len(a)-2]), 0x90, 0)
		}
		_, _, out := run(t, w, testConfig(t), 1234)
		if out.Decision != emv.Declined || out.TVR != "0400000000" {
			t.Errorf("%s: %s TVR %s", name, out.Decision, out.TVR)
		}
	}
	// An ARQC whose signature fails is not sent: the card is closed with AAC.
	w := &wire{card: cardOf(t, "no-cvm", nil)}
	w.change = func(_ int, c, a []byte) []byte {
		if c[1] == 0xAE && c[2]&0xC0 == ARQC {
			return append(replaced(a[:len(a)-2], 0x9F4B, func(v []byte) { v[5] ^= 1 }), 0x90, 0)
		}
		return a
	}
	_, _, out := run(t, w, testConfig(t), 20000)
	if acs := w.of(0xAE); out.Decision != emv.Declined || len(acs) != 2 || acs[1][2] != AAC {
		t.Errorf("ARQC with a damaged signature: %s, %d commands", out.Decision, len(acs))
	}
}

func replaced(b []byte, tag tlv.Tag, change func([]byte)) []byte {
	b = bytes.Clone(b)
	if v, ok := tlv.Find(b, tag); ok {
		change(v)
	}
	return b
}

func removed(b []byte, tag tlv.Tag) []byte {
	body, _ := single(b, 0x77)
	var out []byte
	for it := tlv.Iter(body); it.Next(); {
		if it.Tag() != tag {
			out = append(out, it.Raw()...)
		}
	}
	return tlv.Append(nil, 0x77, out)
}

// Trap 12: a tag list that names more than the profile fails authentication.
func TestTagListNamesTheProfileAlone(t *testing.T) {
	w := &wire{card: cardOf(t, "jcb", nil)}
	w.change = func(_ int, c, a []byte) []byte { return replaced(a, 0x9F4A, func(v []byte) { v[0] = 0x5A }) }
	s, _, out := run(t, w, testConfig(t), 1234)
	if s.authentic || !s.tvr.Has(DDAFailed) {
		t.Errorf("TVR %s", out.TVR)
	}
	// File 11: the record counts with its template.
	if s, _, _ := run(t, cardOf(t, "no-cvm", nil), testConfig(t), 1234); !s.authentic {
		t.Error("a signed record of file 11")
	}
}

// Trap 13: without the key, with an expired one, or with a key of another
// environment, authentication fails and nothing else does.
func TestKeysDecideOverAuthentication(t *testing.T) {
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	rid, _ := oda.RIDOf(mustHex("A0000000041010"))
	for name, c := range map[string]func(*oda.Store) error{
		"no key": func(*oda.Store) error { return nil },
		"expired": func(s *oda.Store) error {
			return s.Add(oda.Test, oda.CAKey{RID: rid, Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent(), Expiry: oda.Date{Year: 2026, Month: 11, Day: 29}})
		},
		"revoked": func(s *oda.Store) error {
			s.Revoke(rid, ca.Index, [3]byte{0, 0, 1})
			return s.Add(oda.Test, oda.CAKey{RID: rid, Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent()})
		},
	} {
		config := testConfig(t)
		config.Keys = oda.NewStore(oda.Test)
		if err := c(config.Keys); err != nil {
			t.Fatal(err)
		}
		s, _, out := run(t, cardOf(t, "no-cvm", nil), config, 1234)
		if s.authentic || !s.tvr.Has(CDAFailed) || out.Decision == emv.Approved && out.TVR == "0000000000" {
			t.Errorf("%s: %s %s", name, out.Decision, out.TVR)
		}
	}
}

// Trap 14: the bits that the card signs over are those of the end of the
// checks, each method has its own failure bit, and TSI says what was done.
func TestResultsAreFinalBeforeTheCryptogram(t *testing.T) {
	for name, want := range map[string]Bit{"jcb": DDAFailed, "no-cvm": CDAFailed} {
		w := &wire{card: cardOf(t, name, nil)}
		config := testConfig(t)
		config.Keys = oda.NewStore(oda.Test)
		s, _, out := run(t, w, config, 20000)
		sent := dataOf(t, w.of(0xAE)[0])
		tvr := TVR(sent[14:19]) // behind 9F02, 9F03 and 9F1A
		if tvr != s.tvr || !tvr.Has(want) || !tvr.Has(FloorLimitExceeded) || hexOf(tvr[:]) != out.TVR {
			t.Errorf("%s: the card signed over %X, the outcome says %s", name, tvr, out.TVR)
		}
		for _, other := range []Bit{SDAFailed, DDAFailed, CDAFailed} {
			if other != want && tvr.Has(other) {
				t.Errorf("%s: the bit of another method is set: %X", name, tvr)
			}
		}
		if !s.tsi.Has(ODAPerformed) || !s.tsi.Has(CVMPerformed) || !s.tsi.Has(TerminalRiskPerformed) || !s.tsi.Has(CardRiskPerformed) || s.tsi.Has(IssuerAuthPerformed) {
			t.Errorf("%s: TSI %s", name, out.TSI)
		}
		if got, _ := tlv.Find(out.Field55, 0x95); !bytes.Equal(got, tvr[:]) {
			t.Errorf("%s: field 55 says %X", name, got)
		}
	}
	s, _, _ := run(t, cardOf(t, "declining", nil), testConfig(t), 1234)
	if !s.tvr.Has(ODANotPerformed) || s.tsi.Has(ODAPerformed) {
		t.Errorf("no method: TVR %X TSI %X", s.tvr, s.tsi)
	}
}

// Issuer scripts run before or after the second cryptogram, say how they ended
// and stop at the first command that fails.
func TestIssuerScripts(t *testing.T) {
	for _, c := range []struct {
		name     string
		template tlv.Tag
		break1   bool
		bit      Bit
		result   string
	}{
		{"before", 0x71, false, 0, "2001020304"},
		{"after", 0x72, false, 0, "2001020304"},
		{"before, refused", 0x71, true, ScriptFailedBeforeAC2, "1101020304"},
		{"after, refused", 0x72, true, ScriptFailedAfterAC2, "1101020304"},
	} {
		card := cardOf(t, "visa-debit", nil)
		w := &wire{card: card}
		s, _, out := run(t, w, testConfig(t), 20000)
		h, v := answer(t, card, out, "00", true)
		cmd, err := v.PINChange("4321")
		if err != nil {
			t.Fatal(err)
		}
		if c.break1 {
			cmd[len(cmd)-1] ^= 1
		}
		h.Scripts = cryptogram.AppendScript(nil, c.template, [4]byte{1, 2, 3, 4}, cmd)
		last, err := s.Complete(guard(t), h)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, _ := tlv.Find(last.Field55, 0x9F5B)
		if hexOf(got) != c.result || !s.tsi.Has(ScriptPerformed) {
			t.Errorf("%s: 9F5B %X TSI %s", c.name, got, last.TSI)
		}
		if s.tvr.Has(ScriptFailedBeforeAC2) != (c.bit == ScriptFailedBeforeAC2) || s.tvr.Has(ScriptFailedAfterAC2) != (c.bit == ScriptFailedAfterAC2) {
			t.Errorf("%s: TVR %s", c.name, last.TVR)
		}
		at := slices.IndexFunc(w.sent, func(x []byte) bool { return bytes.Equal(x, cmd) })
		ac2 := slices.IndexFunc(w.sent, func(x []byte) bool { return bytes.Equal(x, w.of(0xAE)[1]) })
		if at < 0 || (at < ac2) != (c.template == 0x71) {
			t.Errorf("%s: script at %d, second cryptogram at %d", c.name, at, ac2)
		}
		if !c.break1 && card.PIN() != "4321" {
			t.Errorf("%s: the script did not reach the card", c.name)
		}
	}
	// What cannot be read is not begun.
	for _, bad := range []string{"7105860484", "710386018A", "71028699", "72", "71078605", "710A9F180401020304860184"} {
		card := cardOf(t, "visa-debit", nil)
		w := &wire{card: card}
		s, _, out := run(t, w, testConfig(t), 20000)
		h, _ := answer(t, card, out, "00", true)
		h.Scripts = mustHex(bad)
		before := len(w.sent)
		if _, err := s.Complete(guard(t), h); err != nil {
			t.Errorf("%s: %v", bad, err)
		}
		if len(w.sent)-before > 2 {
			t.Errorf("%s: %d commands", bad, len(w.sent)-before)
		}
		if bad != "72" && !s.tvr.Has(ScriptFailedBeforeAC2) {
			t.Errorf("%s: TVR %X", bad, s.tvr)
		}
	}
}

// Trap 15: a refused GET PROCESSING OPTIONS takes the next candidate; 6A81 is a
// blocked card, 6283 a blocked application.
func TestSelectionOutcomes(t *testing.T) {
	two := func(edit func(i int, p *virtualcard.Profile)) *virtualcard.Card {
		i := 0
		return cardsOf(t, func(p *virtualcard.Profile) { p.Priority = byte(i + 1); edit(i, p); i++ }, nil, "visa-credit", "no-cvm")
	}
	for _, noPSE := range []bool{false, true} {
		card := two(func(i int, p *virtualcard.Profile) { p.NoPSE, p.RefusesGPO = noPSE, i == 0 })
		s, got, _ := run(t, card, testConfig(t), 1234)
		if got.AID != "A0000000041010" || len(s.data.card(0x9F38)) != 0 {
			t.Errorf("no PSE %v: after 6985 the application is %s", noPSE, got.AID)
		}
		card = two(func(i int, p *virtualcard.Profile) { p.NoPSE, p.Blocked = noPSE, i == 0 })
		if _, got, _ := run(t, card, testConfig(t), 1234); got.AID != "A0000000041010" {
			t.Errorf("no PSE %v: beside a blocked one the application is %s", noPSE, got.AID)
		}
	}
	for name, c := range map[string]struct {
		card *scriptCard
		want error
		sent int
	}{
		"card blocked":          {cardOfAnswers("00A404000E", "6A81"), ErrBlocked, 1},
		"blocked at the list":   {cardOfAnswers("00A404000E", "6A82", "00A4", "6A81"), ErrBlocked, 2},
		"nothing in common":     {cardOfAnswers(), ErrNoCandidate, 1 + len(schemeNames)},
		"options refused twice": {cardOfAnswers("00A404000E", "6A82", "00A4040007A0000000031010", visaFCI+"9000", "80A8", "6985"), ErrNoCandidate, 1 + len(schemeNames) + 2},
		"options fail":          {cardOfAnswers("00A404000E", "6A82", "00A4040007A0000000031010", visaFCI+"9000", "80A8", "6A81"), ErrStatus, 1 + len(schemeNames) + 2},
	} {
		_, err := readOf(t, c.card, testConfig(t))
		if !errors.Is(err, emv.ErrCardUnusable) || !errors.Is(err, c.want) || len(c.card.sent) != c.sent {
			t.Errorf("%s: %v after %d commands", name, err, len(c.card.sent))
		}
	}
}

// Partial names go on with SELECT next until the card has no more.
func TestPartialSelection(t *testing.T) {
	card := cardsOf(t, func(p *virtualcard.Profile) { p.NoPSE = true }, nil, "visa-credit", "visa-debit")
	config := testConfig(t)
	config.Applications = []Application{{AID: mustHex("A000000003"), Risk: RiskConfig{FloorLimit: 10000}}}
	var shown []Candidate
	config.Choose = chooser(func(list []Candidate) int { shown = list; return 1 })
	s, err := New(card, config)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Read(guard(t), terms(1))
	if err != nil || len(shown) != 2 || got.AID != "A0000000032010" {
		t.Errorf("%v: %d candidates, chosen %s", err, len(shown), got.AID)
	}
	config.Applications[0].Exact = true
	if _, err := readOf(t, card, config); !errors.Is(err, ErrNoCandidate) {
		t.Errorf("an exact name of five bytes: %v", err)
	}
}

type chooser func([]Candidate) int

func (c chooser) ChooseApplication(_ context.Context, list []Candidate) (int, error) {
	i := c(list)
	if i < 0 {
		return 0, emv.ErrCancelled
	}
	return i, nil
}

// Priority orders, 0 comes last, and what needs confirmation is not taken
// without a person.
func TestPriorityAndConfirmation(t *testing.T) {
	make3 := func(prio [2]byte, confirm [2]bool) *virtualcard.Card {
		i := 0
		return cardsOf(t, func(p *virtualcard.Profile) { p.Priority, p.Confirm = prio[i], confirm[i]; i++ }, nil, "visa-credit", "no-cvm")
	}
	for _, c := range []struct {
		prio    [2]byte
		confirm [2]bool
		choose  Chooser
		want    string
		err     error
	}{
		{[2]byte{1, 2}, [2]bool{}, nil, "A0000000031010", nil},
		{[2]byte{2, 1}, [2]bool{}, nil, "A0000000041010", nil},
		{[2]byte{0, 9}, [2]bool{}, nil, "A0000000041010", nil},
		{[2]byte{1, 2}, [2]bool{true, false}, nil, "A0000000041010", nil},
		{[2]byte{1, 2}, [2]bool{true, true}, nil, "", emv.ErrCardUnusable},
		{[2]byte{1, 2}, [2]bool{true, true}, chooser(func([]Candidate) int { return 0 }), "A0000000031010", nil},
		{[2]byte{1, 2}, [2]bool{}, chooser(func([]Candidate) int { return -1 }), "", emv.ErrCancelled},
	} {
		config := testConfig(t)
		config.Choose = c.choose
		s, err := New(make3(c.prio, c.confirm), config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Read(guard(t), terms(1))
		if !errors.Is(err, c.err) || got.AID != c.want {
			t.Errorf("%v %v: %s, %v", c.prio, c.confirm, got.AID, err)
		}
	}
}

// Earlier defects: a number without digits, one that differs within the card,
// a list without a whole unpredictable number, a cryptogram from a record,
// amounts that cannot be signed.
func TestEarlierDefects(t *testing.T) {
	gpo := "770A82020000940408010100"
	for name, c := range map[string]struct {
		record string
		want   error
	}{
		"good":                    {goodPAN + goodExpiry + goodLists, nil},
		"number without digits":   {"5A08FFFFFFFFFFFFFFFF" + goodExpiry + goodLists, ErrNumber},
		"letters in the number":   {"5A0847617390A1010119" + goodExpiry + goodLists, ErrNumber},
		"digits behind padding":   {"5A0847617390FF010119" + goodExpiry + goodLists, ErrNumber},
		"a letter behind twelve":  {"5A07476173901012A1" + goodExpiry + goodLists, ErrNumber},
		"eleven digits":           {"5A0647617390123F" + goodExpiry + goodLists, ErrNumber},
		"twenty digits":           {"5A0A47617390010101194761" + goodExpiry + goodLists, ErrNumber},
		"another number in track": {goodPAN + "570B4761739001010127D35122" + goodExpiry + goodLists, ErrNumber},
		"no number":               {goodExpiry + goodLists, ErrMissing},
		"no expiry":               {goodPAN + goodLists, ErrMissing},
		"no lists":                {goodPAN + goodExpiry, ErrMissing},
		"number twice":            {goodPAN + goodPAN + goodExpiry + goodLists, ErrDuplicate},
	} {
		_, err := readOf(t, simple("", gpo, c.record), testConfig(t))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The card answers GENERATE AC without a cryptogram and hides one in a record.
	card := simple("", gpo, goodPAN+goodExpiry+goodLists+"9F26081122334455667788"+"9F270140"+"9F36020001"+"9F3704AABBCCDD"+"95050000000000")
	card.answers = append([]struct{ prefix, answer string }{{"80AE", "77089F2701809F360200019000"}}, card.answers...)
	card.answers[0].answer = hexTLV(0x77, "9F270180"+"9F36020001") + "9000"
	s, err := readOf(t, card, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authorize(guard(t), terms(1234).Amounts); !errors.Is(err, ErrMissing) {
		t.Errorf("a cryptogram from a record: %v", err)
	}
	if un, _ := s.data.lookup(0x9F37); bytes.Equal(un, mustHex("AABBCCDD")) {
		t.Error("the card set the unpredictable number")
	}
	for _, a := range []emv.Amounts{
		{Amount: -1, CurrencyNumeric: 840}, {Amount: 1_000_000_000_000, CurrencyNumeric: 840}, {Amount: 1, Other: 2, CurrencyNumeric: 840}, {Amount: 1, Other: -1, CurrencyNumeric: 840},
	} {
		s, err := New(cardOf(t, "no-cvm", nil), testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		tm := terms(1)
		tm.Amounts = a
		if _, err := s.Read(guard(t), tm); !errors.Is(err, ErrAmount) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for _, list := range []string{"9F0202", "8104"} {
		s, err := New(simple(list, gpo, goodPAN+goodExpiry+goodLists), testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(guard(t), terms(99_999_999_999)); !errors.Is(err, ErrAmount) {
			t.Errorf("an amount that list %s cannot hold: %v", list, err)
		}
	}
	for _, list := range []string{"9F3703", "9F0206", "9F37"} {
		w := &wire{card: cardOf(t, "jcb", nil)}
		w.change = func(_ int, c, a []byte) []byte {
			if i := bytes.Index(a, mustHex("9F49039F3704")); i >= 0 && c[1] == 0xB2 {
				v := mustHex(list)
				copy(a[i+3:i+6], append(v, 0, 0, 0))
			}
			return a
		}
		if s, _, _ := run(t, w, testConfig(t), 1); s.authentic || !s.tvr.Has(DDAFailed) || len(w.of(0x88)) != 0 {
			t.Errorf("DDOL %s is good enough", list)
		}
	}
}

// The hash over the transaction's data that old cards ask for sets its bit
// before the card signs over it.
func TestCertificateHash(t *testing.T) {
	lists := "8C0F9F02069814950598009A03" + "8D0C8A029F0206"
	lists = hexTLV(0x8C, "9F020695059814") + hexTLV(0x8D, "8A029F0206")
	card := simple("", "770A82020000940408010100", goodPAN+goodExpiry+lists)
	card.answers = append([]struct{ prefix, answer string }{{"80AE", hexTLV(0x77, "9F270100"+"9F36020001"+"9F26081122334455667788") + "9000"}}, card.answers...)
	config := testConfig(t)
	for i := range config.Applications {
		config.Applications[i].TDOL = mustHex("9F02069A03")
	}
	s, err := readOf(t, card, config)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Authorize(guard(t), terms(1234).Amounts)
	if err != nil || out.Decision != emv.Declined || !s.tvr.Has(DefaultTDOLUsed) {
		t.Fatalf("%v %s %s", err, out.Decision, out.TVR)
	}
	sum := sha1.Sum(mustHex("000000001234261130"))
	sent := dataOf(t, mustHex(card.sent[len(card.sent)-1]))
	if !bytes.Equal(sent[6:11], s.tvr[:]) || !bytes.Equal(sent[11:31], sum[:]) {
		t.Errorf("the card got %X", sent)
	}
}

// Where the codes of card and terminal forget a failed authentication, the
// kernel still approves nothing offline by itself.
func TestUnauthenticatedCardsAreNotApprovedOffline(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		config := testConfig(t)
		config.Keys, config.UnauthenticatedOffline = oda.NewStore(oda.Test), allowed
		for i := range config.Applications {
			config.Applications[i].TACDefault = TVR{}
		}
		s, _, out := run(t, cardOf(t, "no-cvm", nil), config, 1234)
		if (out.Decision == emv.Approved) != allowed {
			t.Fatalf("allowed %v: %s", allowed, out.Decision)
		}
		if allowed {
			continue
		}
		if last, err := s.Complete(guard(t), emv.HostResponse{}); err != nil || last.Decision != emv.Declined || last.ARC != "Z3" {
			t.Errorf("unable to go online: %s %s %v", last.Decision, last.ARC, err)
		}
		config.Type = 0x23
		if _, _, out := run(t, cardOf(t, "no-cvm", nil), config, 1234); out.Decision != emv.Declined {
			t.Errorf("offline only: %s", out.Decision)
		}
	}
}

// A cryptogram that was not asked for is refused.
func TestCardsNeverAnswerMoreThanAsked(t *testing.T) {
	for _, c := range []struct {
		amount int64
		cid    byte
		ok     bool
	}{{20000, TC, false}, {20000, 0xC0, false}, {1234, 0xC0, false}, {20000, AAC, true}, {1234, ARQC, true}} {
		w := &wire{card: cardOf(t, "no-cvm", func(p *virtualcard.Profile) { p.ODA, p.IACOnline = virtualcard.ODANone, "0000008000" })}
		w.change = func(_ int, x, a []byte) []byte {
			if x[1] == 0xAE {
				return replaced(a, 0x9F27, func(v []byte) { v[0] = c.cid })
			}
			return a
		}
		s, err := New(w, testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(guard(t), terms(c.amount)); err != nil {
			t.Fatal(err)
		}
		_, err = s.Authorize(guard(t), terms(c.amount).Amounts)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrCryptogram) {
			t.Errorf("amount %d answered with %02X: %v", c.amount, c.cid, err)
		}
	}
}
