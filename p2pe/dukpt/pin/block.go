package pin

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"tillbridge/p2pe/internal/derive"
)

// ErrBlock is matched by every refusal of this file. No text holds a digit of
// a PIN or a card number.
var ErrBlock = errors.New("pin: not a PIN block")

// Sizes of clear blocks in bytes.
const (
	Size  = 8  // formats 0, 1, 2, 3
	Size4 = 16 // format 4
)

// Encode returns the clear PIN block of a format for a PIN of 4 to 12 digits:
// 8 bytes, or for format 4 the 16 bytes of the PIN field. Formats 0 and 3 bind
// it to a card number of 13 to 19 digits; the others ignore pan here. random
// fills formats 1, 3 and 4.
func Encode(format int, pin, pan string, random io.Reader) ([]byte, error) {
	if len(pin) < 4 || len(pin) > 12 || !digits(pin) {
		return nil, fmt.Errorf("%w: a PIN has 4 to 12 digits", ErrBlock)
	}
	fill := func(int) (byte, error) { return 0xF, nil }
	nibble := func() (byte, error) {
		var b [1]byte
		_, err := io.ReadFull(random, b[:])
		return b[0], err
	}
	size := Size
	switch format {
	case 0, 2:
	case 1:
		fill = func(int) (byte, error) { n, err := nibble(); return n & 15, err }
	case 3:
		fill = func(int) (byte, error) {
			for {
				if n, err := nibble(); err != nil || n&15 >= 10 {
					return n & 15, err
				}
			}
		}
	case 4:
		size = Size4
		fill = func(at int) (byte, error) {
			if at < 2*Size {
				return 0xA, nil
			}
			n, err := nibble()
			return n & 15, err
		}
	default:
		return nil, fmt.Errorf("%w: format %d is none of 0 to 4", ErrBlock, format)
	}
	nibbles := make([]byte, 0, 2*size)
	nibbles = append(nibbles, byte(format), byte(len(pin)))
	for i := range len(pin) {
		nibbles = append(nibbles, pin[i]-'0')
	}
	for len(nibbles) < 2*size {
		n, err := fill(len(nibbles))
		if err != nil {
			return nil, fmt.Errorf("%w: no random fill: %w", ErrBlock, err)
		}
		nibbles = append(nibbles, n)
	}
	block := pack(nibbles)
	if format == 0 || format == 3 {
		part, err := panPart(pan)
		if err != nil {
			return nil, err
		}
		for i := range block {
			block[i] ^= part[i]
		}
	}
	return block, nil
}

// Decode returns the PIN of a clear block and checks format, length, digits
// and fill; with another card number than the one it was made for, formats 0
// and 3 are refused (save for one block in many, whose fill happens to fit).
func Decode(format int, block []byte, pan string) (string, error) {
	size := Size
	if format == 4 {
		size = Size4
	}
	if len(block) != size {
		return "", fmt.Errorf("%w: %d bytes, format %d has %d", ErrBlock, len(block), format, size)
	}
	clear := append([]byte(nil), block...)
	if format == 0 || format == 3 {
		part, err := panPart(pan)
		if err != nil {
			return "", err
		}
		for i := range clear {
			clear[i] ^= part[i]
		}
	}
	at := func(i int) byte { return clear[i/2] >> (4 * (1 - i%2)) & 15 }
	if int(at(0)) != format || format < 0 || format > 4 {
		return "", fmt.Errorf("%w: its first digit is not format %d", ErrBlock, format)
	}
	n := int(at(1))
	if n < 4 || n > 12 {
		return "", fmt.Errorf("%w: a PIN length is 4 to 12", ErrBlock)
	}
	pin := make([]byte, n)
	for i := range pin {
		d := at(2 + i)
		if d > 9 {
			return "", fmt.Errorf("%w: a digit is none: another card number or key than it was made with", ErrBlock)
		}
		pin[i] = '0' + d
	}
	for i := 2 + n; i < 2*Size; i++ {
		f := at(i)
		wrong := false
		switch format {
		case 0, 2:
			wrong = f != 0xF
		case 3:
			wrong = f < 10
		case 4:
			wrong = f != 0xA
		}
		if wrong {
			return "", fmt.Errorf("%w: its fill is wrong: another card number or key than it was made with", ErrBlock)
		}
	}
	return string(pin), nil
}

// panPart is the account number field of formats 0 and 3: four zeros and the
// twelve digits before the check digit.
func panPart(pan string) ([]byte, error) {
	if len(pan) < 13 || len(pan) > 19 || !digits(pan) {
		return nil, fmt.Errorf("%w: formats 0 and 3 need a card number of 13 to 19 digits", ErrBlock)
	}
	nibbles := make([]byte, 4, 16)
	for _, c := range []byte(pan[len(pan)-13 : len(pan)-1]) {
		nibbles = append(nibbles, c-'0')
	}
	return pack(nibbles), nil
}

// PANField returns the 16 bytes of format 4's account number field: the digits
// over twelve as one digit, the number (zeros before it if shorter than
// twelve), zeros. pan has 1 to 19 digits.
func PANField(pan string) ([]byte, error) {
	if len(pan) < 1 || len(pan) > 19 || !digits(pan) {
		return nil, fmt.Errorf("%w: format 4 needs a card number of 1 to 19 digits", ErrBlock)
	}
	nibbles := make([]byte, 1, 32)
	nibbles[0] = byte(max(0, len(pan)-12))
	for len(nibbles)-1+len(pan) < 12 {
		nibbles = append(nibbles, 0)
	}
	for _, c := range []byte(pan) {
		nibbles = append(nibbles, c-'0')
	}
	for len(nibbles) < 32 {
		nibbles = append(nibbles, 0)
	}
	return pack(nibbles), nil
}

// Encipher enciphers a clear block: eight bytes under TDES, or the format 4
// PIN field under AES, twice, with the account number field of pan between.
func Encipher(key []byte, block []byte, pan string) ([]byte, error) {
	return crypt(key, block, pan, cipher.Block.Encrypt)
}

// Decipher undoes Encipher.
func Decipher(key []byte, block []byte, pan string) ([]byte, error) {
	return crypt(key, block, pan, cipher.Block.Decrypt)
}

func crypt(key, block []byte, pan string, f func(c cipher.Block, dst, src []byte)) ([]byte, error) {
	out := make([]byte, len(block))
	switch len(block) {
	case Size:
		if len(key) != 16 && len(key) != 24 {
			return nil, fmt.Errorf("%w: a TDES key has 16 or 24 bytes", ErrBlock)
		}
		f(derive.TDESCipher(key), out, block)
	case Size4:
		c, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("%w: an AES key has 16, 24 or 32 bytes", ErrBlock)
		}
		field, err := PANField(pan)
		if err != nil {
			return nil, err
		}
		f(c, out, block)
		for i := range out {
			out[i] ^= field[i]
		}
		f(c, out, out)
	default:
		return nil, fmt.Errorf("%w: %d bytes, it has 8 or 16", ErrBlock, len(block))
	}
	return out, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func pack(nibbles []byte) []byte {
	b := make([]byte, len(nibbles)/2)
	for i := range b {
		b[i] = nibbles[2*i]<<4 | nibbles[2*i+1]
	}
	return b
}
