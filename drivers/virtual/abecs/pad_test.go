package abecs

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
)

const tagList = "9F269F279F109F379F36959A9C9F025F2A829F1A9F039F349F069F335F349F1E9F359F41845A57"

func gcxOf(amount, opt string) []byte {
	return with("GCX", txt(inAmount, amount), txt(inDate, "261130"), txt(inTime, "214500"), txt(inCurrency, "978"),
		param{inType, []byte{0}}, txt(inGCXOpt, opt), txt(inPANMask, "0604"))
}

func goxOf(amount, opt string) []byte {
	return with("GOX", txt(inAcquirer, "01"), txt(inMethodP, "3"), txt(inKeyIdx, "02"), txt(inAmount, amount), txt(inCurrency, "978"),
		txt(inGOXOpt, opt), param{inTagList, bcd(tagList)})
}

// open deciphers what GTK gave.
func open(t *testing.T, sealed, ksn []byte) string {
	t.Helper()
	tr, err := testBase().Transaction(p2pe.KSNOf(ksn))
	if err != nil {
		t.Fatal(err)
	}
	k, err := dukpt.DataKey(tr, dukpt.Request)
	if err != nil {
		t.Fatal(err)
	}
	c, err := des.NewTripleDESCipher(append(append([]byte(nil), k.Bytes()...), k.Bytes()[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(c, make([]byte, 8)).CryptBlocks(out, sealed)
	return strings.TrimRight(strings.ToUpper(hex.EncodeToString(out)), "F")
}

func must(t *testing.T, l params, id uint16) []byte {
	t.Helper()
	v, ok := l.get(id)
	if !ok {
		t.Fatalf("no parameter %04X in the response", id)
	}
	return v
}

// A chip sale with online PIN: the ciphertext opens with the acquirer's base
// key, the cryptogram verifies with the issuer's, and the card takes the
// issuer's answer.
func TestSaleWithChipAndPIN(t *testing.T) {
	for _, card := range []string{"visa-credit", "mastercard-credit", "elo-credit", "no-pse"} {
		t.Run(card, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { sale(t, card) }) })
	}
}

func sale(t *testing.T, card string) {
	p := newPad(t, Options{})
	h := join(t, p)
	h.cancel()
	h.secure()
	for _, s := range []Step{{Do: "insert", Card: card, AfterMS: 3000}, {Do: "pin", AfterMS: 2000}, {Do: "remove", AfterMS: 1000}} {
		if err := p.Do(s); err != nil {
			t.Fatal(err)
		}
	}
	st, l, _ := h.ask(gcxOf("000000001250", "10000"))
	if st != "GCX000" || string(must(t, l, outCardType)) != "03" {
		t.Fatalf("%s %s", st, l)
	}
	c := testCards()[card]
	if got := string(must(t, l, outPANM)); strings.Contains(got, c.PAN()[6:12]) || got[:6] != c.PAN()[:6] {
		t.Error("the number in the GCX answer is not masked as asked")
	}
	st, l, _ = h.ask(with("GTK", txt(inTracks, "1010"), txt(inMethodD, "51"), txt(inKeyIdx, "02")))
	if st != "GTK000" {
		t.Fatal(st)
	}
	if open(t, must(t, l, outPAN), must(t, l, outPANK)) != c.PAN() {
		t.Error("the enciphered number does not open to the card's")
	}
	if got := open(t, must(t, l, outTrack1+1), must(t, l, outTrack1K+1)); !strings.HasPrefix(got, c.PAN()+"D") {
		t.Error("track 2 does not open to the card's")
	}
	if bytes.Equal(must(t, l, outPANK), must(t, l, outTrack1K+1)) {
		t.Error("one key for two blocks")
	}
	if st, _, _ := h.ask(with("GTK", txt(inTracks, "1010"), txt(inMethodD, "51"), txt(inKeyIdx, "02"))); st == "GTK000" {
		t.Error("GTK gives the tracks twice")
	}
	st, l, _ = h.ask(goxOf("000000001250", "01000"))
	if st != "GOX000" || string(must(t, l, outGOX))[:3] != "202" {
		t.Fatalf("%s %q", st, l)
	}
	field55 := must(t, l, outEMVData)
	if _, ok := tlv.Find(field55, 0x5A); ok {
		t.Error("the number is in the EMV data")
	}
	block, ksn := must(t, l, outPINBlock), must(t, l, outKSN)
	tr, err := testBase().Transaction(p2pe.KSNOf(ksn))
	if err != nil {
		t.Fatal(err)
	}
	k, err := pin.Key(tr, dukpt.TDES2)
	if err != nil {
		t.Fatal(err)
	}
	clear, err := pin.Decipher(k.Bytes(), block, c.PAN())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pin.Decode(0, clear, c.PAN()); err != nil || got != c.PIN() {
		t.Error("the PIN block does not open to the card's PIN")
	}
	aid, _ := tlv.Find(field55, 0x84)
	v, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: c.PAN(), PSN: "01", AID: aid, Data: field55})
	if err != nil {
		t.Fatal(err)
	}
	if v.CID&0xC0 != 0x80 {
		t.Errorf("CID %02X, want an ARQC", v.CID)
	}
	if a, _ := tlv.Find(field55, 0x9F02); !bytes.Equal(a, bcd("000000001250")) {
		t.Errorf("amount %X", a)
	}
	auth, err := v.Answer("00", true)
	if err != nil {
		t.Fatal(err)
	}
	auth = tlv.Append(nil, 0x91, auth)
	st, l, _ = h.ask(with("FCX", txt(inFCXOpt, "0000"), txt(inARC, "00"), param{inEMVData, auth}, param{inTagList, bcd("9F269F27959B")}))
	if st != "FCX000" || string(must(t, l, outFCX))[0] != '0' {
		t.Fatalf("%s %q", st, l)
	}
	if cid, _ := tlv.Find(must(t, l, outEMVData), 0x9F27); len(cid) != 1 || cid[0]&0xC0 != 0x40 {
		t.Errorf("CID %X, want a TC", cid)
	}
	if c.Profile().IssuerAuth == virtualcard.AuthExternal {
		if tsi, _ := tlv.Find(must(t, l, outEMVData), 0x9B); len(tsi) != 2 || tsi[0]&0x10 == 0 {
			t.Errorf("TSI %X: the issuer was not authenticated", tsi)
		}
	}
	if st, _, _ := h.ask([]byte("RMC032" + strings.Repeat(" ", 32))); st != "RMC000" || p.inSlot() != nil {
		t.Errorf("%s", st)
	}
	b := p.Books()
	if len(b) != 1 || b[0].Amount != 1250 || b[0].Currency != "978" || b[0].First != "online" || b[0].Final != "approved" {
		t.Errorf("books: %+v", b)
	}
	if strings.Contains(b[0].Card, c.PAN()[6:12]) {
		t.Error("a clear number in the books")
	}
}

// What customers, cards and hosts can do to a payment, and what the books say
// of it.
func TestDecisions(t *testing.T) {
	type run struct {
		name  string
		steps []Step
		opt   string
		gcx   string
		gox   string
		fcx   string // option
		fcxSt string
		final string
		first string
	}
	for _, r := range []run{
		{name: "the host declines", steps: []Step{{Do: "insert", Card: "no-cvm"}}, gcx: "GCX000", gox: "GOX000", fcx: "1000", fcxSt: "1", first: "online", final: "declined"},
		{name: "no host", steps: []Step{{Do: "insert", Card: "no-cvm"}}, gcx: "GCX000", gox: "GOX000", fcx: "2000", fcxSt: "1", first: "online", final: "declined"},
		{name: "the card refuses the approval", steps: []Step{{Do: "insert", Card: "declining"}, {Do: "pin"}}, gcx: "GCX000", gox: "GOX000", fcx: "0000", fcxSt: "1", first: "online", final: "declined"},
		{name: "tap below the limit", steps: []Step{{Do: "tap", Card: "visa-credit"}}, opt: "10000", gcx: "GCX000", gox: "GOX000", fcx: "0000", fcxSt: "0", first: "online", final: "approved"},
		{name: "tap where only chip is allowed", steps: []Step{{Do: "tap", Card: "visa-credit"}, {Do: "cancel"}}, gcx: "GCX013"},
		{name: "customer cancels at the card", steps: []Step{{Do: "cancel"}}, gcx: "GCX013"},
		{name: "nobody comes", steps: []Step{{Do: "walk-away"}}, gcx: "GCX012"},
		{name: "customer cancels at the PIN", steps: []Step{{Do: "insert", Card: "visa-credit"}, {Do: "cancel"}}, gcx: "GCX000", gox: "GOX013"},
		{name: "customer walks away from the PIN", steps: []Step{{Do: "insert", Card: "visa-credit"}, {Do: "walk-away"}}, gcx: "GCX000", gox: "GOX012"},
		{name: "card pulled before the cryptogram", steps: []Step{{Do: "insert", Card: "no-cvm"}, {Do: "pull", At: "GOX"}}, gcx: "GCX000", gox: "GOX043"},
		{name: "card pulled before the second cryptogram", steps: []Step{{Do: "insert", Card: "no-cvm"}, {Do: "pull", At: "FCX"}}, gcx: "GCX000", gox: "GOX000", fcx: "0000", fcxSt: "043", first: "online", final: "declined"},
		{name: "blocked application", steps: []Step{{Do: "insert", Card: "blocked"}}, gcx: "GCX079"},
	} {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPad(t, Options{})
				h := join(t, p)
				h.secure()
				for _, s := range r.steps {
					if err := p.Do(s); err != nil {
						t.Fatal(err)
					}
				}
				if r.opt == "" {
					r.opt = "00000"
				}
				if st, _, _ := h.ask(gcxOf("000000000700", r.opt)); st != r.gcx {
					t.Fatalf("%s, want %s", st, r.gcx)
				}
				if r.gox != "" {
					if st, _, _ := h.ask(goxOf("000000000700", "01000")); st != r.gox {
						t.Fatalf("%s, want %s", st, r.gox)
					}
				}
				if r.fcx != "" {
					l := []param{txt(inFCXOpt, r.fcx)}
					if r.fcx[0] != '2' {
						l = append(l, txt(inARC, map[byte]string{'0': "00", '1': "05"}[r.fcx[0]]))
					}
					st, out, _ := h.ask(with("FCX", l...))
					if st == "FCX000" {
						st = string(must(t, out, outFCX))[:1]
					} else {
						st = st[3:]
					}
					if st != r.fcxSt {
						t.Fatalf("FCX: %s, want %s", st, r.fcxSt)
					}
				}
				b := p.Books()
				if r.first == "" {
					if len(b) != 0 {
						t.Errorf("books: %+v", b)
					}
					return
				}
				if len(b) != 1 || b[0].First != r.first || b[0].Final != r.final || b[0].Amount != 700 {
					t.Errorf("books: %+v", b)
				}
			})
		})
	}
}

func TestCancelWhileTheCustomerIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPad(t, Options{})
		h := join(t, p)
		h.secure()
		h.say(gcxOf("000000000700", "00000"))
		time.Sleep(30 * time.Second)
		h.cancel()
		p.Do(Step{Do: "insert", Card: "no-cvm"}) // too late for the cancelled command
		if c, ok := h.byte(10 * time.Second); ok {
			t.Errorf("byte %02X after a cancel", c)
		}
		if st, _, _ := h.ask(gcxOf("000000000700", "00000")); st != "GCX000" {
			t.Error(st)
		}
	})
}

func TestSecureChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPad(t, Options{})
		h := join(t, p)
		if st, _, _ := h.ask([]byte("GIX")); st != "GIX010" {
			t.Errorf("before OPN: %s", st)
		}
		h.ask([]byte("OPN"))
		if st, _, _ := h.ask(gcxOf("000000000700", "00000")); st != "GCX003" {
			t.Errorf("an Abecs command without a channel: %s", st)
		}
		h.secure()
		ch := h.ch
		h.ch = nil
		if st, _, _ := h.ask([]byte("GIX")); st != "ERR009" {
			t.Errorf("a clear command on a channel: %s", st)
		}
		h.ch = ch
		if st, _, _ := h.ask([]byte("GIX")); st != "ERR003" {
			t.Errorf("after the channel ended: %s", st)
		}
		h.secure()
		if st, l, _ := h.ask([]byte("GIX")); st != "GIX000" || string(must(t, l, outSerial)) != "VP000001" {
			t.Errorf("GIX on the channel: %s", st)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := join(t, newPad(t, Options{Old: true}))
		st, _, block := h.ask([]byte("OPN5230256" + strings.Repeat("F", 512) + "3010001"))
		if st != "OPN000" || block != nil {
			t.Errorf("an old pad: %s %q", st, block)
		}
	})
}

// A counter never goes back, whatever was used before the power went.
func TestKSNSurvivesRestart(t *testing.T) {
	file := t.TempDir() + "/state.json"
	seen := map[string]bool{}
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			p := newPad(t, Options{State: file, Clear: true})
			h := join(t, p)
			h.ask([]byte("OPN"))
			for range 4 {
				st, l, _ := h.ask(with("EBX", param{inDataIn, make([]byte, 8)}, txt(inMethodD, "50"), txt(inKeyIdx, "02")))
				if st != "EBX000" {
					t.Fatal(st)
				}
				k := string(must(t, l, outKSN))
				if seen[k] {
					t.Fatalf("KSN %X is used again", k)
				}
				seen[k] = true
			}
		})
	}
	if len(seen) != 12 {
		t.Errorf("%d serial numbers", len(seen))
	}
}

func TestMenuKeyPIN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPad(t, Options{})
		h := join(t, p)
		h.secure()
		p.Do(Step{Do: "choose", N: 2})
		if st, l, _ := h.ask(with("MNU", txt(inMessage, "LANGUAGE"), txt(inMenu, "one"), txt(inMenu, "two"))); st != "MNU000" || string(must(t, l, outValue)) != "02" {
			t.Errorf("MNU: %s %q", st, l)
		}
		if got := p.Shown(); got != "LANGUAGE\none\ntwo" {
			t.Errorf("shown: %q", got)
		}
		for key, want := range map[string]string{"ok": "GKY000", "f2": "GKY005", "back": "GKY008", "cancel": "GKY013"} {
			p.Do(Step{Do: "key", Key: key})
			if st, _, _ := h.ask([]byte("GKY")); st != want {
				t.Errorf("key %s: %s", key, st)
			}
		}
		p.Do(Step{Do: "pin", Digits: "4321"})
		gpn := "GPN097302" + strings.Repeat("0", 32) + "16" + "4111111111111111   " + "1" + "0412" + strings.Repeat(" ", 32)
		gpn = strings.Replace(gpn, "GPN097", "GPN0"+"93", 1)
		st, _, block := h.ask([]byte(gpn))
		if st != "GPN000" || len(block) != 36 {
			t.Fatalf("GPN: %s %q", st, block)
		}
		raw := bcd(string(block))
		tr, err := testBase().Transaction(p2pe.KSNOf(raw[8:]))
		if err != nil {
			t.Fatal(err)
		}
		k, _ := pin.Key(tr, dukpt.TDES2)
		clear, err := pin.Decipher(k.Bytes(), raw[:8], "4111111111111111")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pin.Decode(0, clear, "4111111111111111"); err != nil || got != "4321" {
			t.Errorf("the PIN block does not open: %v", err)
		}
		p.Do(Step{Do: "swipe", Card: "visa-credit"})
		st, l, _ := h.ask(with("CEX", txt(inCEXOpt, "111100")))
		if st != "CEX000" || string(must(t, l, outEvent)) != "90" {
			t.Errorf("CEX: %s %q", st, l)
		}
		if strings.Contains(string(must(t, l, outTrack2M)), testCards()["visa-credit"].PAN()) {
			t.Error("a whole number among the truncated tracks")
		}
		if st, l, _ := h.ask(with("GTK", txt(inTracks, "1110"), txt(inMethodD, "51"), txt(inKeyIdx, "02"))); st != "GTK000" || len(l) != 6 {
			t.Errorf("GTK after a swipe: %s, %d parameters", st, len(l))
		}
	})
}
