package acquirer

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/seal"
)

const (
	softwareKSN = "7A6B5C4D3E2F100100000000"
	testPAN     = "4111111111111111" // published test number
)

func testHost(t testing.TB) *Host {
	t.Helper()
	ks, err := newKeys(NewKeys())
	if err != nil {
		t.Fatal(err)
	}
	books, err := OpenBooks("")
	if err != nil {
		t.Fatal(err)
	}
	return &Host{keys: ks, books: books, log: slog.New(slog.DiscardHandler)}
}

// encrypted is what a till's software sends.
func encrypted(t testing.TB, h *Host) p2pe.Envelope {
	t.Helper()
	text, err := h.InitialKey(softwareKSN)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := hex.DecodeString(text)
	state, err := dukpt.Load(key, softwareKSN)
	if err != nil {
		t.Fatal(err)
	}
	e, err := seal.NewDUKPT(state, "R1").Encrypt(&seal.Clear{PAN: []byte(testPAN), Track2: []byte(testPAN + "=29122010000000000")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// sent makes the tables of a request, by hand.
func sent(e p2pe.Envelope) tables {
	t := tables{"KE": []byte(strings.Join([]string{string(e.Scheme), e.DeviceProfile, e.KeyVariant, e.Algorithm, e.Mode, e.Padding, string(e.KSN)}, "|")),
		"IV": e.IV, "C2": e.Track2, "CM": e.MAC}
	for _, s := range []string{e.DeviceSerial, e.MaskedPAN, e.BIN, e.Last4, e.ServiceCode, e.PAR, e.EncryptionState} {
		t["KD"] = append(append(t["KD"], byte(len(s))), s...)
	}
	return t
}

func TestSoftwareEnvelopeNeedsItsMAC(t *testing.T) {
	h := testHost(t)
	e := encrypted(t, h)
	judge := func(tb tables) (cardData, string) {
		h.books.d.KSNs = map[string]bool{} // each case is the first
		return h.card(&request{t: tb, m: message{de: map[int][]byte{}}}, &Entry{})
	}
	if c, code := judge(sent(e)); code != "" || c.pan != testPAN {
		t.Fatalf("a sound envelope: code %q", code)
	}
	for name, change := range map[string]func(tables){
		"no MAC":        func(t tables) { delete(t, "CM") },
		"no parts":      func(t tables) { delete(t, "KD") },
		"short parts":   func(t tables) { t["KD"] = t["KD"][:len(t["KD"])-1] },
		"MAC":           func(t tables) { t["CM"] = flip(t["CM"]) },
		"cut MAC":       func(t tables) { t["CM"] = t["CM"][:4] },
		"vector":        func(t tables) { t["IV"] = flip(t["IV"]) },
		"ciphertext":    func(t tables) { t["C2"] = flip(t["C2"]) },
		"serial":        func(t tables) { t["KD"] = append([]byte{2, 'R', '2'}, t["KD"][3:]...) },
		"masked number": func(t tables) { t["KD"][4] ^= 1 },
		"moved":         func(t tables) { t["CP"], t["C2"] = t["C2"], nil },
		"padding":       func(t tables) { t["KE"] = []byte(strings.Replace(string(t["KE"]), "iso9797-2", "zero", 1)) },
	} {
		tb := sent(e)
		change(tb)
		if _, code := judge(tb); code != "63" {
			t.Errorf("%s changed: code %q", name, code)
		}
	}
}

func flip(b []byte) []byte { return append([]byte{b[0] ^ 1}, b[1:]...) }

// The CMAC is that of NIST SP 800-38B, appendix D.1 (AES-128).
func TestCMACOfTheStandard(t *testing.T) {
	key, _ := hex.DecodeString("2b7e151628aed2a6abf7158809cf4f3c")
	text, _ := hex.DecodeString("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c", 40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe"} {
		if got, err := cmac(key, text[:n]); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%d bytes: %x %v", n, got, err)
		}
	}
	if _, err := cmac(key[:5], nil); err == nil || errors.Is(err, errMAC) {
		t.Errorf("a key of 5 bytes: %v", err)
	}
}

func TestJWEOfTheTill(t *testing.T) {
	h := testHost(t)
	block, _ := pem.Decode([]byte(h.keys.jwe.public))
	j, err := seal.NewJWE(block.Bytes, &seal.JWEOptions{KeyID: h.keys.jwe.id, Thumbprint: h.keys.jwe.thumbprint, Serial: "R1"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := j.Encrypt(&seal.Clear{PAN: []byte(testPAN), Track2: []byte(testPAN + "=29122010000000000")})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := h.keys.openJWE(e.JWE); err != nil || c.pan != testPAN {
		t.Fatalf("%v", err)
	}
	for at := range len(e.JWE) {
		if e.JWE[at] == '.' {
			continue
		}
		changed := []byte(e.JWE)
		changed[at] = 'A'
		if e.JWE[at] == 'A' {
			changed[at] = 'Q'
		}
		if _, err := h.keys.openJWE(string(changed)); err == nil {
			t.Fatalf("character %d changed and it opens", at)
		}
	}
	if _, err := testHost(t).keys.openJWE(e.JWE); err == nil {
		t.Error("another host opens it")
	}
}

func TestInitialKeyBlocksAreOfAESAlone(t *testing.T) {
	h := testHost(t)
	b, err := h.InitialKeyBlock(softwareKSN)
	if err != nil || b.Block[0] != 'D' || len(b.Components) != 2 || b.String() != "***" {
		t.Fatalf("%v %v", b, err)
	}
	for _, ksn := range []string{"", "FFFF9876543210E00000", "7A6B"} {
		if _, err := h.InitialKeyBlock(ksn); err == nil {
			t.Errorf("%q gives a block", ksn)
		}
	}
}

func FuzzOpenJWE(f *testing.F) {
	r, err := newRecipient()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a.b.c.d.e")
	f.Add("eyJhbGciOiJFQ0RILUVTIn0..AAAA.AAAA.AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if clear, err := r.open(s); err == nil {
			t.Fatalf("%d bytes out of nothing", len(clear))
		}
	})
}
