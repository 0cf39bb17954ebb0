package virtualcard

import (
	"encoding/hex"
	"math/big"
	"testing"

	"tillbridge/emv/tlv"
)

// FuzzCard sends any chain of commands: each gets an answer with a legal
// status, and without a PIN or an issuer's answer no counter goes up.
func FuzzCard(f *testing.F) {
	for _, s := range []string{"0700A40400 05A000000003", "05 80A8000002 8300 00", "0500B2010C00 0500B2011400", "2480AE8000 1D", "0580CA9F1700"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := newCard(t, nil, "offline-pin", "no-pse")
		before := c.TriesLeft()
		// A selected application with a started transaction is where the code is.
		aid, _ := hex.DecodeString(c.Profile().AID)
		send(t, c, "00A40400", aid)
		send(t, c, "80A80000", []byte{0x83, 0})
		for len(stream) > 0 {
			n := min(int(stream[0]), len(stream)-1)
			out, err := c.Transmit(t.Context(), stream[1:1+n])
			if err != nil || len(out) < 2 || len(out) > 258 {
				t.Fatalf("%d bytes, %v", len(out), err)
			}
			if sw1 := out[len(out)-2]; sw1 != 0x90 && sw1>>4 != 6 {
				t.Fatalf("SW1 %02X", sw1)
			}
			stream = stream[1+n:]
		}
		if c.TriesLeft() > before {
			t.Fatal("PIN tries were won")
		}
	})
}

// Book 2 section 7: the PIN under the card's key, with the card's challenge.
func TestEncipheredPIN(t *testing.T) {
	c := newCard(t, nil, "discover")
	open(t, c)
	key := c.apps[0].icc
	encipher := func(block, challenge []byte) []byte {
		plain := append(append([]byte{0x7F}, block...), challenge...)
		for len(plain) < key.size() {
			plain = append(plain, 0x5A)
		}
		x := new(big.Int).SetBytes(plain)
		return x.Exp(x, big.NewInt(3), key.n).FillBytes(make([]byte, key.size()))
	}
	right := []byte{0x24, 0x12, 0x34, 255, 255, 255, 255, 255}
	wrong := []byte{0x24, 0x12, 0x35, 255, 255, 255, 255, 255}
	for _, step := range []struct {
		name  string
		block []byte
		fresh bool
		want  int
	}{{"wrong PIN", wrong, true, 0x63C2}, {"right PIN", right, true, swOK}, {"challenge used before", right, false, swConditions}} {
		var challenge []byte
		if step.fresh {
			challenge = must(t, c, "0084000000")
		} else {
			challenge = make([]byte, 8)
		}
		if _, sw := send(t, c, "00200088", encipher(step.block, challenge)); sw != step.want {
			t.Errorf("%s: %04X, want %04X", step.name, sw, step.want)
		}
	}
	if c.TriesLeft() != 3 {
		t.Errorf("%d tries", c.TriesLeft())
	}
}

// Padding is inside what was signed and is skipped when it is read.
func TestPaddingQuirksAreReadable(t *testing.T) {
	for _, pad := range [][]byte{{0}, {0xFF}, {0, 0xFF, 0}} {
		c := newCard(t, func(p *Profile) { p.Padding = pad }, "visa-debit")
		term := open(t, c)
		for _, tag := range []tlv.Tag{0x5A, 0x57, 0x8C, 0x8D, 0x90, 0x9F46, 0x9F4A, 0x8E} {
			if len(term.data[tag]) == 0 {
				t.Errorf("padding %X: %s is not read", pad, tag)
			}
		}
	}
}

// ARC Z3 and Y3: the host was not reached (Book 4 section 6.3.8).
func TestUnableToGoOnline(t *testing.T) {
	for arc, want := range map[string]byte{"Y3": tc, "Z3": aac} {
		c := newCard(t, nil, "visa-debit")
		term := open(t, c)
		term.genAC(t, arqc, 0x8C)
		term.data[0x8A] = []byte(arc)
		if got := term.genAC(t, tc, 0x8D); got != want {
			t.Errorf("%s: CID %02X, want %02X", arc, got, want)
		}
	}
}
