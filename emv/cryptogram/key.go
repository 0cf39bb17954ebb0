package cryptogram

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
)

// Key is a double-length TDES key: an issuer master key, a card key or a
// session key. It prints as "***" and has no JSON form.
type Key [16]byte

// ErrKey is matched by the errors of [ParseKey]; ErrInput by those of wrong
// lengths and digits. Neither shows a value.
var (
	ErrKey   = errors.New("cryptogram: not a key of 32 hex digits")
	ErrInput = errors.New("cryptogram: wrong input")
)

// ParseKey reads 32 hex digits.
func ParseKey(s string) (Key, error) {
	var k Key
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, ErrKey
	}
	copy(k[:], b)
	return k, nil
}

// String returns "***".
func (Key) String() string { return "***" }

// GoString returns "***".
func (Key) GoString() string { return "***" }

// Format prints "***" for every verb.
func (Key) Format(s fmt.State, _ rune) { fmt.Fprint(s, "***") }

// LogValue returns "***".
func (Key) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses: a key is never written.
func (Key) MarshalJSON() ([]byte, error) {
	return nil, errors.New("cryptogram: a key is never stored or shown")
}

// MarshalText refuses: a key is never written.
func (Key) MarshalText() ([]byte, error) {
	return nil, errors.New("cryptogram: a key is never stored or shown")
}

func (k Key) block() cipher.Block {
	var k3 [24]byte
	copy(k3[:], k[:])
	copy(k3[16:], k[:8])
	b, err := des.NewTripleDESCipher(k3[:])
	if err != nil {
		panic("cryptogram: a key of 24 bytes is refused: " + err.Error()) // cannot happen
	}
	return b
}

// ecb returns the TDES encryption of whole blocks, each alone.
func (k Key) ecb(data []byte) []byte {
	out := make([]byte, len(data))
	b := k.block()
	for i := 0; i+8 <= len(data); i += 8 {
		b.Encrypt(out[i:], data[i:])
	}
	return out
}

// cbc returns the TDES encryption of whole blocks with a zero first vector.
func (k Key) cbc(data []byte) []byte {
	out := make([]byte, len(data))
	cipher.NewCBCEncrypter(k.block(), make([]byte, 8)).CryptBlocks(out, data)
	return out
}

// oddParity sets the parity bit of each byte, as key derivations end.
func oddParity(b []byte) Key {
	var k Key
	for i := range k {
		k[i] = b[i]&0xFE | byte(bits.OnesCount8(b[i]>>1)+1)&1
	}
	return k
}

// Equal compares in constant time.
func (k Key) Equal(o Key) bool { return subtle.ConstantTimeCompare(k[:], o[:]) == 1 }

// CardKeyA derives a card's master key by option A (Book 2 Annex A1.4.1): the
// sixteen rightmost digits of PAN and PAN sequence number, zero-padded on the
// left, and their complement, enciphered. psn has two digits or is empty,
// which means 00. For any PAN of up to 16 digits both options give the same.
func CardKeyA(issuer Key, pan, psn string) (Key, error) {
	psn, err := check(pan, psn)
	if err != nil {
		return Key{}, err
	}
	all := strings.Repeat("0", 16) + pan + psn
	return derive(issuer, all[len(all)-16:])
}

// CardKeyB derives a card's master key by option B (Book 2 Annex A1.4.2): as
// option A for a PAN of at most 16 digits, else from the decimalised SHA-1 of
// PAN and sequence number.
func CardKeyB(issuer Key, pan, psn string) (Key, error) {
	if len(pan) <= 16 {
		return CardKeyA(issuer, pan, psn)
	}
	psn, err := check(pan, psn)
	if err != nil {
		return Key{}, err
	}
	if len(pan)%2 == 1 {
		pan = "0" + pan
	}
	raw, _ := hex.DecodeString(pan + psn)
	sum := sha1.Sum(raw)
	digest := hex.EncodeToString(sum[:])
	var digits, letters []byte
	for i := range len(digest) {
		if c := digest[i]; c <= '9' {
			digits = append(digits, c)
		} else {
			letters = append(letters, c-'a'+'0') // A to F stand for 0 to 5
		}
	}
	return derive(issuer, string(append(digits, letters...)[:16]))
}

func check(pan, psn string) (string, error) {
	if psn == "" {
		psn = "00"
	}
	if len(pan) == 0 || len(psn) != 2 {
		return "", fmt.Errorf("%w: a PAN and a PAN sequence number of two digits", ErrInput)
	}
	for _, s := range []string{pan, psn} {
		for _, c := range []byte(s) {
			if c < '0' || c > '9' {
				return "", fmt.Errorf("%w: PAN and PAN sequence number are digits", ErrInput)
			}
		}
	}
	return psn, nil
}

func derive(issuer Key, digits string) (Key, error) {
	var y [16]byte
	if _, err := hex.Decode(y[:8], []byte(digits)); err != nil {
		return Key{}, fmt.Errorf("%w: PAN and PAN sequence number are digits", ErrInput)
	}
	for i := range 8 {
		y[8+i] = ^y[i]
	}
	return oddParity(issuer.ecb(y[:])), nil
}

// CommonSessionKey derives a session key by the common method (Book 2 Annex
// A1.3.1). r is the diversification value: ATC and zeros for cryptograms
// ([ATCValue]), ATC, 0000 and unpredictable number for M/Chip
// ([ATCRandomValue]), the cryptogram itself for secure messaging.
func CommonSessionKey(card Key, r [8]byte) Key {
	var y [16]byte
	copy(y[:8], r[:])
	copy(y[8:], r[:])
	y[2], y[10] = 0xF0, 0x0F
	return oddParity(card.ecb(y[:]))
}

// ATCValue is the diversification value of a cryptogram key: the application
// transaction counter and six zeros.
func ATCValue(atc uint16) [8]byte { return [8]byte{byte(atc >> 8), byte(atc)} }

// ATCRandomValue is the one of M/Chip: ATC, 0000, unpredictable number.
func ATCRandomValue(atc uint16, un [4]byte) [8]byte {
	return [8]byte{byte(atc >> 8), byte(atc), 0, 0, un[0], un[1], un[2], un[3]}
}

// VisaSessionKey is the secure messaging key of Visa CVN 10: the card key with
// the ATC on its left half and the ATC's complement on its right.
func VisaSessionKey(card Key, atc uint16) Key {
	card[6] ^= byte(atc >> 8)
	card[7] ^= byte(atc)
	card[14] ^= ^byte(atc >> 8)
	card[15] ^= ^byte(atc)
	return oddParity(card[:])
}

// TreeSessionKey derives a session key by the tree of EMV2000 (EMV 4.1 Book 2
// Annex A1.3.1). branch is 2 or 4, height 16 or 8, so that all 65,536 counters
// have a leaf; iv is zero unless the issuer chose another.
func TreeSessionKey(card Key, atc uint16, height, branch int, iv Key) (Key, error) {
	if branch < 2 || branch > 256 || height < 2 || height > 64 {
		return Key{}, fmt.Errorf("%w: a tree of height %d and branch factor %d", ErrInput, height, branch)
	}
	// digit i is the branch taken at level i+1, the last one is ATC mod branch.
	digits := make([]int, height)
	for i, a := height-1, int(atc); i >= 0; i-- {
		digits[i] = a % branch
		a /= branch
	}
	var above Key // the grandparent of the leaf, in the end
	grand, parent := iv, card
	for _, j := range digits {
		y := grand
		y[7] ^= byte(j)
		y[15] ^= byte(j) ^ 0xF0
		above, grand = grand, parent
		copy(parent[:], parent.ecb(y[:]))
	}
	for i := range parent {
		parent[i] ^= above[i]
	}
	return oddParity(parent[:]), nil
}
