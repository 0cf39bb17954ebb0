package derive

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// Counter rules of X9.24-3: 32 bits, at most sixteen of them set.
const (
	AESBits     = 32
	AESMostOnes = 16
	AESTotal    = 2448023842 // sum of C(32,k), k = 1…16
	AESLast     = 0xFFFF0000
	// AESUpdate is the counter of the update key, which no transaction uses.
	AESUpdate = 0xFFFFFFFF
)

// Usage indicators of the derivation data (X9.24-3 table 2).
const (
	UsageKeyEncryption = 0x0002
	UsagePIN           = 0x1000
	UsageMACGenerate   = 0x2000
	UsageMACVerify     = 0x2001
	UsageMACBoth       = 0x2002
	UsageDataEncrypt   = 0x3000
	UsageDataDecrypt   = 0x3001
	UsageDataBoth      = 0x3002
	UsageDerivation    = 0x8000
	UsageInitial       = 0x8001
)

// Algorithm is an algorithm indicator with its key size.
type Algorithm struct {
	ID   uint16
	Bits uint16
}

// Bytes returns the key size in bytes.
func (a Algorithm) Bytes() int { return int(a.Bits) / 8 }

// AESOf returns the algorithm of an AES key of n bytes.
func AESOf(n int) (Algorithm, bool) {
	switch n {
	case 16:
		return Algorithm{2, 128}, true
	case 24:
		return Algorithm{3, 192}, true
	case 32:
		return Algorithm{4, 256}, true
	}
	return Algorithm{}, false
}

// AESParent is a key set up to derive from: one key schedule for all children.
// Reset makes it ready; it may be used again and again, so that its buffers
// are allocated once.
type AESParent struct {
	block cipher.Block
	size  Algorithm // of the parent
	data  [16]byte  // derivation data
	last  [16]byte  // the block that is cut
}

// Reset sets up a key of 16, 24 or 32 bytes.
func (p *AESParent) Reset(key []byte) {
	size, ok := AESOf(len(key))
	block, err := aes.NewCipher(key)
	if !ok || err != nil {
		panic("derive: AES key of " + itoa(len(key)) + " bytes")
	}
	p.block, p.size = block, size
}

// Derive writes a key of a.Bytes() bytes to out. device is the last four bytes
// of the initial key's id for keys of a transaction; for the initial key
// itself, device and counter are the two halves of the id.
func (p *AESParent) Derive(out []byte, usage uint16, a Algorithm, device, counter uint32) {
	// One block of derivation data for each 16 bytes of key; the last is cut
	// (AES-192, TDES of three keys).
	data := p.data[:]
	data[0], data[1] = 1, 0 // version, number of the block
	binary.BigEndian.PutUint16(data[2:], usage)
	binary.BigEndian.PutUint16(data[4:], a.ID)
	binary.BigEndian.PutUint16(data[6:], a.Bits)
	binary.BigEndian.PutUint32(data[8:], device)
	binary.BigEndian.PutUint32(data[12:], counter)
	out = out[:a.Bytes()]
	for n := 0; n < len(out); n += 16 {
		data[1]++
		if len(out)-n >= 16 {
			p.block.Encrypt(out[n:n+16], data)
			continue
		}
		p.block.Encrypt(p.last[:], data)
		copy(out[n:], p.last[:])
		clear(p.last[:])
	}
}

// Child writes the key below the parent for a counter, of the parent's size.
func (p *AESParent) Child(out []byte, device, counter uint32) {
	p.Derive(out, UsageDerivation, p.size, device, counter)
}

// AESInitial derives the initial key from a base key of the same size and the
// eight bytes of its id.
func AESInitial(base, id []byte) []byte {
	var p AESParent
	p.Reset(base)
	out := make([]byte, len(base))
	p.Derive(out, UsageInitial, p.size, binary.BigEndian.Uint32(id), binary.BigEndian.Uint32(id[4:]))
	return out
}

// AESWalk derives the transaction key of a counter from an initial key, in
// place: one step for each set bit, from the highest.
func AESWalk(key []byte, device, counter uint32) {
	var p AESParent
	done := uint32(0)
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if counter&bit == 0 {
			continue
		}
		done |= bit
		p.Reset(key)
		p.Child(key, device, done)
	}
}

// AESWorking derives a working key from a transaction key and the twelve bytes
// of its serial number.
func AESWorking(key, serial []byte, usage uint16, a Algorithm) Key {
	var p struct {
		AESParent
		out Key
	}
	p.Reset(key)
	p.out.n = a.Bytes()
	p.Derive(p.out.b[:], usage, a, binary.BigEndian.Uint32(serial[4:]), binary.BigEndian.Uint32(serial[8:]))
	k := p.out
	p.out.Erase()
	return k
}
