package derive

import (
	"crypto/cipher"
	"crypto/subtle"
)

// CMAC is NIST SP 800-38B over a block cipher of 8 or 16 bytes (TDES, AES). It
// is stateless between calls and may be used again.
type CMAC struct {
	block  cipher.Block
	k1, k2 [16]byte
	state  [16]byte
	size   int
}

// NewCMAC derives the subkeys.
func NewCMAC(block cipher.Block) *CMAC {
	m := new(CMAC)
	m.Reset(block)
	return m
}

// Reset derives the subkeys of another key.
func (m *CMAC) Reset(block cipher.Block) {
	*m = CMAC{block: block, size: block.BlockSize()}
	block.Encrypt(m.k1[:m.size], m.k1[:m.size])
	double(m.k1[:m.size])
	m.k2 = m.k1
	double(m.k2[:m.size])
}

// double multiplies by x in the field of the block size, in constant time.
func double(b []byte) {
	poly := byte(0x87)
	if len(b) == 8 {
		poly = 0x1B
	}
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ -carry&poly
}

// Append appends the MAC of data, one block long.
func (m *CMAC) Append(dst, data []byte) []byte {
	s := m.state[:m.size]
	clear(s)
	for len(data) > m.size {
		subtle.XORBytes(s, s, data[:m.size])
		m.block.Encrypt(s, s)
		data = data[m.size:]
	}
	subtle.XORBytes(s, s, data)
	if len(data) == m.size {
		subtle.XORBytes(s, s, m.k1[:m.size])
	} else {
		s[len(data)] ^= 0x80
		subtle.XORBytes(s, s, m.k2[:m.size])
	}
	m.block.Encrypt(s, s)
	return append(dst, s...)
}

// Verify reports in constant time whether mac, cut to at least four bytes, is
// that of data.
func (m *CMAC) Verify(mac, data []byte) bool {
	if len(mac) < 4 || len(mac) > m.size {
		return false
	}
	return subtle.ConstantTimeCompare(m.Append(nil, data)[:len(mac)], mac) == 1
}
