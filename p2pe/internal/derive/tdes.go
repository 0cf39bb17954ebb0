package derive

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
)

// Counter rules of X9.24-1: 21 bits, at most ten of them set.
const (
	TDESBits     = 21
	TDESMostOnes = 10
	TDESTotal    = 1048575  // sum of C(21,k), k = 1…10
	TDESLast     = 0x1FF800 // the last counter: its ten highest bits
)

// keyMask is XORed into a key to make the other half of the next one, and into
// the base key to make the right half of the initial key.
var keyMask = [16]byte{0xC0, 0xC0, 0xC0, 0xC0, 0, 0, 0, 0, 0xC0, 0xC0, 0xC0, 0xC0}

// TDESParent is a key set up to derive its children: the non-reversible key
// generation of X9.24-1 A.2, with both DES key schedules made once.
type TDESParent struct {
	left, leftMasked   cipher.Block
	right, rightMasked uint64
	masked             [16]byte
}

// Reset sets up a 16-byte key.
func (p *TDESParent) Reset(key []byte) {
	masked := p.masked[:]
	for i := range masked {
		masked[i] = key[i] ^ keyMask[i]
	}
	p.left, p.leftMasked = desCipher(key[:8]), desCipher(masked[:8])
	p.right, p.rightMasked = binary.BigEndian.Uint64(key[8:16]), binary.BigEndian.Uint64(masked[8:])
	clear(masked)
}

// Erase forgets the key.
func (p *TDESParent) Erase() { *p = TDESParent{} }

// Child writes the child key for a serial number's last eight bytes, counter
// included, to out (16 bytes).
func (p *TDESParent) Child(out []byte, serial uint64) {
	binary.BigEndian.PutUint64(out[8:16], serial^p.right)
	p.left.Encrypt(out[8:16], out[8:16])
	binary.BigEndian.PutUint64(out[8:16], binary.BigEndian.Uint64(out[8:16])^p.right)

	binary.BigEndian.PutUint64(out[:8], serial^p.rightMasked)
	p.leftMasked.Encrypt(out[:8], out[:8])
	binary.BigEndian.PutUint64(out[:8], binary.BigEndian.Uint64(out[:8])^p.rightMasked)
}

func desCipher(key []byte) cipher.Block {
	c, err := des.NewCipher(key)
	if err != nil {
		panic("derive: DES key of " + itoa(len(key)) + " bytes")
	}
	return c
}

// TDESCipher sets up two-key TDES with 16 bytes or three-key with 24.
func TDESCipher(key []byte) cipher.Block {
	var k [24]byte
	copy(k[:], key)
	if len(key) == 16 {
		copy(k[16:], key[:8])
	}
	c, err := des.NewTripleDESCipher(k[:])
	clear(k[:])
	if err != nil || len(key) != 16 && len(key) != 24 {
		panic("derive: TDES key of " + itoa(len(key)) + " bytes")
	}
	return c
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// TDESInitial derives the initial key (16 bytes) of a device from a base key
// of 16 bytes and the ten bytes of its serial number (X9.24-1 A.6).
func TDESInitial(base, serial []byte) []byte {
	var s [8]byte
	copy(s[:], serial[:8])
	s[7] &= 0xE0 // the counter is not part of it
	out := make([]byte, 16)
	TDESCipher(base).Encrypt(out[:8], s[:])
	var masked [16]byte
	for i := range masked {
		masked[i] = base[i] ^ keyMask[i]
	}
	TDESCipher(masked[:]).Encrypt(out[8:], s[:])
	clear(masked[:])
	return out
}

// TDESVariant XORs a variant into a transaction key: 0xFF into the byte of
// each half that names the use. It writes 16 bytes to out.
func TDESVariant(out, key []byte, at int) {
	copy(out, key[:16])
	out[at] ^= 0xFF
	out[at+8] ^= 0xFF
}

// TDESOneWay replaces a data variant by itself enciphered under itself, so
// that a data key that leaks does not give the others away (X9.24-1 A.4.1).
func TDESOneWay(key []byte) {
	// Two schedules, where a triple cipher would make three.
	left, right := desCipher(key[:8]), desCipher(key[8:16])
	for _, half := range [2][]byte{key[:8], key[8:16]} {
		left.Encrypt(half, half)
		right.Decrypt(half, half)
		left.Encrypt(half, half)
	}
}

// The byte of each half that a variant changes (X9.24-1 table A-1).
const (
	VariantPIN          = 7
	VariantMACRequest   = 6
	VariantDataRequest  = 5
	VariantMACResponse  = 4
	VariantDataResponse = 3
)
