package abecs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"tillbridge/drivers/frame"
)

// The secure channel of chapter 5.2: the host gives an RSA key of 2048 bits,
// the pad answers with a random key under it, and every later packet is
// 12 + AES-128-CBC(length, checksum, clear, fill).

const secureMark = 0x12

var errSecure = errors.New("abecs: secure packet does not open")

// channel is an established secure channel; nil means none.
type channel struct{ block cipher.Block }

func newChannel(key []byte) (*channel, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &channel{b}, nil
}

// open returns the clear command of a secure packet (with its mark).
func (c *channel) open(p []byte) ([]byte, error) {
	if len(p) < 1+aes.BlockSize || p[0] != secureMark || (len(p)-1)%aes.BlockSize != 0 {
		return nil, errSecure
	}
	clear := make([]byte, len(p)-1)
	cipher.NewCBCDecrypter(c.block, make([]byte, aes.BlockSize)).CryptBlocks(clear, p[1:])
	n := int(clear[0])<<8 | int(clear[1])
	if n > len(clear)-4 || len(clear)-4-n >= aes.BlockSize {
		return nil, errSecure
	}
	sum := uint16(clear[2])<<8 | uint16(clear[3])
	if frame.XModem.Sum(clear[4:4+n]) != sum {
		return nil, errSecure
	}
	return clear[4 : 4+n], nil
}

// seal returns the secure packet of a clear response.
func (c *channel) seal(clear []byte) []byte {
	sum := frame.XModem.Sum(clear)
	p := append([]byte{byte(len(clear) >> 8), byte(len(clear)), byte(sum >> 8), byte(sum)}, clear...)
	for len(p)%aes.BlockSize != 0 {
		p = append(p, 0)
	}
	out := make([]byte, 1+len(p))
	out[0] = secureMark
	cipher.NewCBCEncrypter(c.block, make([]byte, aes.BlockSize)).CryptBlocks(out[1:], p)
	return out
}

// openSecure handles the block of a secure OPN: mode, modulus, exponent. It
// returns the block of the response and the new channel.
func openSecure(block []byte) ([]byte, *channel, error) {
	if len(block) < 1+3+512+1+2 || block[0] != '0' || string(block[1:4]) != "256" {
		return nil, nil, errForm
	}
	mod, err := hex.DecodeString(string(block[4 : 4+512]))
	if err != nil {
		return nil, nil, errForm
	}
	n, ok := digits(block[516:], 1)
	if !ok || n < 1 || n > 3 || len(block) != 517+2*n {
		return nil, nil, errForm
	}
	exp, err := hex.DecodeString(string(block[517:]))
	if err != nil {
		return nil, nil, errForm
	}
	key := make([]byte, 16)
	rand.Read(key)
	sealed, err := rsaWrap(mod, exp, key)
	if err != nil {
		return nil, nil, err
	}
	c, err := newChannel(key)
	if err != nil {
		return nil, nil, err
	}
	return fmt.Appendf(nil, "256%X", sealed), c, nil
}

// rsaWrap encrypts key under PKCS #1 v1.5, block type 2.
func rsaWrap(mod, exp, key []byte) ([]byte, error) {
	n, e := new(big.Int).SetBytes(mod), new(big.Int).SetBytes(exp)
	// A host in the field has a modulus of 2047 bits.
	if n.BitLen() <= 8*(len(mod)-1) || n.Bit(0) == 0 || e.Cmp(big.NewInt(3)) < 0 || e.Bit(0) == 0 {
		return nil, errForm
	}
	m := make([]byte, len(mod))
	m[1] = 2
	pad := m[2 : len(m)-len(key)-1]
	rand.Read(pad)
	for i := range pad {
		for pad[i] == 0 {
			rand.Read(pad[i : i+1])
		}
	}
	copy(m[len(m)-len(key):], key)
	return new(big.Int).Exp(new(big.Int).SetBytes(m), e, n).FillBytes(make([]byte, len(mod))), nil
}
