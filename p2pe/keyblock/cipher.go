package keyblock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"tillbridge/p2pe/internal/derive"
)

// The variants of versions A and C.
const (
	variantEncryption = 0x45 // 'E'
	variantMAC        = 0x4D // 'M'
)

// Key usage of the derivation data (TR-31:2018 table 1, ISO 20038 table 1).
const (
	deriveCBC = 0
	deriveMAC = 1
	deriveCTR = 2
)

// protection is the pair of keys that a protection key gives.
type protection struct{ encrypt, mac cipher.Block }

// protect derives the pair for a version.
func protect(version byte, kbpk []byte) (protection, error) {
	n := len(kbpk)
	switch version {
	case 'A', 'B', 'C':
		if n != 16 && n != 24 {
			return protection{}, fmt.Errorf("%w: %c needs a TDES key of 16 or 24 bytes, this one has %d", ErrProtection, version, n)
		}
	case 'D', 'E':
		if n != 16 && n != 24 && n != 32 {
			return protection{}, fmt.Errorf("%w: %c needs an AES key of 16, 24 or 32 bytes, this one has %d", ErrProtection, version, n)
		}
	default:
		return protection{}, ErrVersion
	}
	if version == 'A' || version == 'C' {
		return protection{variant(kbpk, variantEncryption), variant(kbpk, variantMAC)}, nil
	}
	use := uint16(deriveCBC)
	if version == 'E' {
		use = deriveCTR
	}
	return protection{derived(version, kbpk, use), derived(version, kbpk, deriveMAC)}, nil
}

func variant(kbpk []byte, x byte) cipher.Block {
	k := make([]byte, len(kbpk))
	defer clear(k)
	for i := range k {
		k[i] = kbpk[i] ^ x
	}
	return derive.TDESCipher(k)
}

// derived makes a key as long as kbpk from CMACs of a counter, the use, the
// algorithm and the length in bits.
func derived(version byte, kbpk []byte, use uint16) cipher.Block {
	var m *derive.CMAC
	algorithm := uint16(0)
	if version == 'B' {
		m = derive.NewCMAC(derive.TDESCipher(kbpk))
		algorithm = uint16(len(kbpk) / 24) // 0 two keys, 1 three keys
	} else {
		block, err := aes.NewCipher(kbpk)
		if err != nil {
			panic("keyblock: size checked before")
		}
		m = derive.NewCMAC(block)
		algorithm = uint16(len(kbpk) / 8) // 2, 3, 4
	}
	var data [8]byte
	binary.BigEndian.PutUint16(data[1:], use)
	binary.BigEndian.PutUint16(data[4:], algorithm)
	binary.BigEndian.PutUint16(data[6:], uint16(8*len(kbpk)))
	k := make([]byte, 0, len(kbpk)+16)
	for len(k) < len(kbpk) {
		data[0]++
		k = m.Append(k, data[:])
	}
	defer clear(k)
	k = k[:len(kbpk)] // AES-192 takes half of its second block
	if version == 'B' {
		return derive.TDESCipher(k)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		panic("keyblock: size checked before")
	}
	return block
}

// open verifies the MAC and returns the deciphered payload. In versions A and
// C the MAC covers the ciphertext, in the others the plaintext, which is
// therefore deciphered first and erased when the MAC is wrong.
func (p *parts) open(kbpk []byte) ([]byte, error) {
	keys, err := protect(p.header.Version, kbpk)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, len(p.cipher))
	legacy := p.header.Version == 'A' || p.header.Version == 'C'
	var mac []byte
	switch {
	case legacy:
		mac = cbcMAC(keys.mac, p.clear, p.cipher)[:4]
	case p.header.Version == 'E':
		cipher.NewCTR(keys.encrypt, p.mac).XORKeyStream(payload, p.cipher)
	default:
		cipher.NewCBCDecrypter(keys.encrypt, p.mac).CryptBlocks(payload, p.cipher)
	}
	if !legacy {
		mac = derive.NewCMAC(keys.mac).Append(nil, append(append([]byte(nil), p.clear...), payload...))
	}
	if subtle.ConstantTimeCompare(mac, p.mac) != 1 {
		clear(payload)
		return nil, ErrMAC
	}
	if legacy {
		cipher.NewCBCDecrypter(keys.encrypt, p.clear[:8]).CryptBlocks(payload, p.cipher)
	}
	return payload, nil
}

// cbcMAC is the CBC MAC of versions A and C over whole blocks.
func cbcMAC(c cipher.Block, parts ...[]byte) []byte {
	chain := make([]byte, c.BlockSize())
	for _, data := range parts {
		for len(data) > 0 {
			subtle.XORBytes(chain, chain, data[:len(chain)])
			c.Encrypt(chain, chain)
			data = data[len(chain):]
		}
	}
	return chain
}
