package virtualcard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
)

var testCA = sync.OnceValues(func() (*CA, error) { return NewCA(7) })

func newCard(t testing.TB, edit func(*Profile), names ...string) *Card {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	var ps []Profile
	for _, n := range names {
		p, err := Named(n)
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(&p)
		}
		ps = append(ps, p)
	}
	c, err := New(&Options{CA: ca, Seed: 1}, ps...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t testing.TB, c *Card, cmd string, parts ...[]byte) ([]byte, int) {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(cmd, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) > 0 {
		data := bytes.Join(parts, nil)
		b = append(append(b, byte(len(data))), data...)
		if b[1] != 0x82 && b[1] != 0x20 && b[0] != 0x84 {
			b = append(b, 0)
		}
	}
	out, err := c.Transmit(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	n := len(out) - 2
	return out[:n], int(out[n])<<8 | int(out[n+1])
}

func must(t testing.TB, c *Card, cmd string, parts ...[]byte) []byte {
	t.Helper()
	out, sw := send(t, c, cmd, parts...)
	if sw != swOK {
		t.Fatalf("%s: %04X", cmd, sw)
	}
	return out
}

// terminal is the little that a transaction needs, from the books.
type terminal struct {
	c    *Card
	data map[tlv.Tag][]byte
	aid  []byte
}

func open(t testing.TB, c *Card) *terminal {
	t.Helper()
	h := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	term := &terminal{c: c, data: map[tlv.Tag][]byte{
		0x9F02: h("000000001234"), 0x9F03: h("000000000000"), 0x9F1A: h("0840"), 0x95: h("0000000000"),
		0x5F2A: h("0840"), 0x9A: h("261130"), 0x9C: h("00"), 0x9F37: h("11223344"), 0x8A: []byte("00"),
	}}
	term.aid = h(c.Profile().AID)
	fci, sw := send(t, c, "00A40400", term.aid)
	if sw != swOK && sw != swInvalidated {
		t.Fatalf("SELECT: %04X", sw)
	}
	pdol, _ := tlv.Find(fci, 0x9F38)
	d, _ := tlv.ParseDOL(pdol)
	gpo := must(t, c, "80A80000", tlv.Append(nil, 0x83, d.Append(nil, term.get)))
	if v, ok := tlv.Find(gpo, 0x80); ok {
		term.data[0x82], term.data[0x94] = v[:2], v[2:]
	} else {
		term.keep(gpo)
	}
	for afl := term.data[0x94]; len(afl) >= 4; afl = afl[4:] {
		for n := afl[1]; n <= afl[2]; n++ {
			term.keep(must(t, c, fmt.Sprintf("00B2%02X%02X00", n, afl[0]|4)))
		}
	}
	return term
}

func (term *terminal) get(t tlv.Tag) ([]byte, bool) { v, ok := term.data[t]; return v, ok }

func (term *terminal) keep(b []byte) {
	for it := tlv.IterDeep(b); it.Next(); {
		term.data[it.Tag()] = it.Value()
	}
}

func (term *terminal) genAC(t testing.TB, p1 byte, dol tlv.Tag) byte {
	t.Helper()
	d, err := tlv.ParseDOL(term.data[dol])
	if err != nil {
		t.Fatal(err)
	}
	out := must(t, term.c, fmt.Sprintf("80AE%02X00", p1), d.Append(nil, term.get))
	if v, ok := tlv.Get(out, 0x80); ok {
		term.data[0x9F27], term.data[0x9F36], term.data[0x9F26], term.data[0x9F10] = v[:1], v[1:3], v[3:11], v[11:]
	} else {
		term.keep(out)
	}
	return term.data[0x9F27][0]
}

func (term *terminal) field55() []byte {
	var b []byte
	for _, t := range []tlv.Tag{0x9F26, 0x9F27, 0x9F10, 0x9F37, 0x9F36, 0x95, 0x9A, 0x9C, 0x9F02, 0x5F2A, 0x82, 0x9F1A, 0x9F03, 0x5F34} {
		b = tlv.Append(b, t, term.data[t])
	}
	return tlv.Append(b, 0x84, term.aid)
}

func (term *terminal) verify(t testing.TB) cryptogram.Verified {
	t.Helper()
	v, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: term.c.PAN(), Data: term.field55()})
	if err != nil {
		t.Fatalf("%v: %v", term.c, err)
	}
	return v
}

func TestIssuerVerifiesEveryProfilesCryptogramAndCardTakesTheAnswer(t *testing.T) {
	for _, p := range Profiles() {
		if p.Blocked {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			c := newCard(t, func(p *Profile) { p.DeclinesSecond = false }, p.Name)
			for _, good := range []bool{true, false} {
				c.Reset()
				term := open(t, c)
				if cid := term.genAC(t, arqc, 0x8C); cid != arqc {
					t.Fatalf("CID %02X", cid)
				}
				v := term.verify(t)
				answer, err := v.Answer("00", true)
				if err != nil {
					t.Fatal(err)
				}
				if !good {
					answer[0] ^= 1
				}
				term.data[0x91] = answer
				if p.IssuerAuth == AuthExternal {
					_, sw := send(t, c, "00820000", answer)
					if good != (sw == swOK) {
						t.Errorf("good %t: EXTERNAL AUTHENTICATE %04X", good, sw)
					}
				}
				want := byte(tc)
				if !good && p.IssuerAuth != AuthNone {
					want = aac
				}
				if cid := term.genAC(t, tc, 0x8D); cid != want {
					t.Errorf("good %t: second CID %02X, want %02X", good, cid, want)
				}
				term.verify(t) // the second cryptogram is right too
			}
		})
	}
}

func TestAForgedCryptogramDoesNotVerify(t *testing.T) {
	term := open(t, newCard(t, nil, "mastercard-credit"))
	term.genAC(t, arqc, 0x8C)
	term.data[0x9F02] = []byte{0, 0, 0, 0, 0x12, 0x35}
	_, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: term.c.PAN(), Data: term.field55()})
	if !errors.Is(err, cryptogram.ErrCryptogram) {
		t.Errorf("got %v", err)
	}
}

func TestPINTriesAndUnblock(t *testing.T) {
	c := newCard(t, nil, "offline-pin")
	term := open(t, c)
	right, wrong := []byte{0x24, 0x12, 0x34, 255, 255, 255, 255, 255}, []byte{0x24, 0x43, 0x21, 255, 255, 255, 255, 255}
	for i, want := range []int{0x63C2, 0x63C1, 0x63C0, swPINBlocked} {
		if _, sw := send(t, c, "00200080", wrong); sw != want {
			t.Errorf("try %d: %04X, want %04X", i+1, sw, want)
		}
	}
	if _, sw := send(t, c, "00200080", right); sw != swPINBlocked {
		t.Errorf("the right PIN after the last try: %04X", sw)
	}
	if cid := term.genAC(t, tc, 0x8C); cid != arqc {
		t.Errorf("CID %02X after a failed PIN", cid)
	}
	v := term.verify(t)
	unblock, _ := v.PINUnblock()
	if _, sw := send(t, c, hex.EncodeToString(unblock)); sw != swOK {
		t.Errorf("PIN UNBLOCK %04X", sw)
	}
	change, _ := v.PINChange("567890")
	if _, sw := send(t, c, hex.EncodeToString(change)); sw != swOK || c.PIN() != "567890" || c.TriesLeft() != 3 {
		t.Errorf("PIN CHANGE %04X, %d tries", sw, c.TriesLeft())
	}
	change[6] ^= 1
	if _, sw := send(t, c, hex.EncodeToString(change)); sw != swMAC {
		t.Errorf("a changed script: %04X", sw)
	}
	open(t, c)
	if _, sw := send(t, c, "00200080", []byte{0x26, 0x56, 0x78, 0x90, 255, 255, 255, 255}); sw != swOK {
		t.Errorf("the new PIN: %04X", sw)
	}
}

func TestPINChangeOfEveryLayout(t *testing.T) {
	for _, name := range []string{"visa-credit", "visa-debit", "mastercard-credit", "no-pse"} {
		c := newCard(t, nil, name)
		term := open(t, c)
		term.genAC(t, arqc, 0x8C)
		change, err := term.verify(t).PINChange("98765")
		if err != nil {
			t.Fatal(err)
		}
		if _, sw := send(t, c, hex.EncodeToString(change)); sw != swOK || c.PIN() != "98765" {
			t.Errorf("%s: %04X", name, sw)
		}
	}
}

func TestApplicationBlockAndUnblockByScript(t *testing.T) {
	c := newCard(t, nil, "visa-debit")
	term := open(t, c)
	term.genAC(t, arqc, 0x8C)
	block, _ := term.verify(t).BlockApplication()
	if _, sw := send(t, c, hex.EncodeToString(block)); sw != swOK || !c.Blocked() {
		t.Fatalf("APPLICATION BLOCK %04X", sw)
	}
	if _, sw := send(t, c, "00A40400", term.aid); sw != swInvalidated {
		t.Errorf("SELECT of a blocked application: %04X", sw)
	}
	term = open(t, c)
	if cid := term.genAC(t, tc, 0x8C); cid != aac {
		t.Errorf("a blocked application gives CID %02X", cid)
	}
}

func TestSelectionPartialNextAndDirectory(t *testing.T) {
	c := newCard(t, nil, "visa-credit", "visa-debit", "no-cvm")
	must(t, c, "00A40400", []byte(pseName))
	for n := 1; n <= 3; n++ {
		must(t, c, fmt.Sprintf("00B2%02X0C00", n))
	}
	if _, sw := send(t, c, "00B2040C00"); sw != swNoRecord {
		t.Errorf("record 4: %04X", sw)
	}
	rid := []byte{0xA0, 0, 0, 0, 3}
	for i, want := range []int{swOK, swOK, swNotFound} {
		cmd := "00A40402"
		if i == 0 {
			cmd = "00A40400"
		}
		if _, sw := send(t, c, cmd, rid); sw != want {
			t.Errorf("occurrence %d: %04X", i, sw)
		}
	}
	if _, sw := send(t, newCard(t, nil, "no-pse"), "00A40400", []byte(pseName)); sw != swNotFound {
		t.Errorf("no PSE: %04X", sw)
	}
	blocked := newCard(t, func(p *Profile) { p.PSEBlocked = true }, "visa-credit")
	if _, sw := send(t, blocked, "00A40400", []byte(pseName)); sw != swInvalidated {
		t.Errorf("blocked PSE: %04X", sw)
	}
}

func TestOfflineLimitsSendTheCardOnline(t *testing.T) {
	c := newCard(t, nil, "offline-pin")
	var got []byte
	for range 3 {
		c.Reset()
		got = append(got, open(t, c).genAC(t, tc, 0x8C))
	}
	if !bytes.Equal(got, []byte{tc, tc, arqc}) {
		t.Errorf("cryptograms %X", got)
	}
}

func TestNothingOfTheCardIsPrinted(t *testing.T) {
	c := newCard(t, nil, "visa-credit")
	p := c.Profile()
	req := cryptogram.Request{PAN: p.PAN}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %x", c, c, c, c), fmt.Sprintf("%v %+v %#v %d", p, p, p, p),
		fmt.Sprintf("%v %#v", req, req), fmt.Sprintf("%v %+v", cryptogram.TestIssuer(), c.CA())} {
		for _, secret := range []string{p.PAN, "4761739", "TEST/CARD", "1234 ", "cdef", "CDEF"} {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows %q", s, secret)
			}
		}
	}
}

func TestAnyBytesGetAnAnswer(t *testing.T) {
	c := newCard(t, nil, "visa-debit")
	for ins := range 256 {
		for _, tail := range []string{"", "00", "0101", "00000000", "01", "05AABBCCDDEE00", "FF00"} {
			b, _ := hex.DecodeString(fmt.Sprintf("00%02X0400%s", ins, tail))
			for _, cla := range []byte{0, 0x80, 0x84, 0xFF} {
				b[0] = cla
				if out, err := c.Transmit(t.Context(), b); err != nil || len(out) < 2 {
					t.Fatalf("%X: %X %v", b, out, err)
				}
			}
		}
	}
	c.Remove()
	if _, err := c.Transmit(t.Context(), []byte{0, 0xA4, 4, 0}); !errors.Is(err, ErrRemoved) {
		t.Errorf("removed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Transmit(ctx, []byte{0, 0xA4, 4, 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSeedRepeatsTheChain(t *testing.T) {
	a, _ := NewCA(42)
	b, _ := NewCA(42)
	d, _ := NewCA(43)
	if !bytes.Equal(a.Modulus(), b.Modulus()) || bytes.Equal(a.Modulus(), d.Modulus()) || len(a.Modulus()) != caBytes {
		t.Error("seeds do not name keys")
	}
}

func TestT0AnswersAreFetched(t *testing.T) {
	p, _ := Named("no-pse")
	c, err := New(&Options{T0: true, Seed: 1}, p)
	if err != nil {
		t.Fatal(err)
	}
	aid, _ := hex.DecodeString(p.AID)
	_, sw := send(t, c, "00A40400", aid)
	if sw>>8 != 0x61 {
		t.Fatalf("SELECT %04X", sw)
	}
	if _, wrong := send(t, c, "00C0000001"); wrong>>8 != 0x6C {
		t.Errorf("GET RESPONSE with another Le: %04X", wrong)
	}
	if fci := must(t, c, fmt.Sprintf("00C00000%02X", sw&0xFF)); fci[0] != 0x6F {
		t.Errorf("fetched %02X", fci[0])
	}
}

func TestOneCardServesSeveralCallers(t *testing.T) {
	c := newCard(t, nil, "no-pse")
	aid, _ := hex.DecodeString(c.Profile().AID)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				out, err := c.Transmit(context.Background(), append([]byte{0, 0xA4, 4, 0, byte(len(aid))}, aid...))
				if err != nil || out[0] != 0x6F {
					t.Errorf("%v", err)
				}
				c.TriesLeft()
				c.Reset()
			}
		})
	}
	wg.Wait()
}
