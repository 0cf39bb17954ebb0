package cryptogram

import (
	"crypto/aes"
	"crypto/des"
	"encoding/hex"
	"fmt"
	"io"
)

// What an issuer's host does with PINs: verification values and the clear side
// of PIN blocks (ISO 9564-1). The virtual acquirer uses them; nothing at a
// point of sale does.

// ErrPIN says that a PIN block does not decode. It does not say how far.
var ErrPIN = fmt.Errorf("%w: the PIN block does not decode", ErrInput)

// decimals returns n digits of a hex text: its decimal digits in order, then
// its letters as 0 to 5.
func decimals(text string, n int) string {
	var digits, letters []byte
	for _, c := range []byte(text) {
		switch {
		case c <= '9':
			digits = append(digits, c)
		case c >= 'a':
			letters = append(letters, c-'a'+'0')
		default:
			letters = append(letters, c-'A'+'0')
		}
	}
	return string(append(digits, letters...)[:n])
}

func hexBlock(digits string) ([]byte, error) {
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("%w: digits", ErrInput)
	}
	return b, nil
}

// CVV is the card verification value: expiry as four digits in the order of
// the track or the card face, service code three. It has three digits.
func CVV(cvk Key, pan, expiry, service string) (string, error) {
	text := pan + expiry + service
	if len(text) > 32 {
		return "", fmt.Errorf("%w: PAN, expiry and service code", ErrInput)
	}
	for len(text) < 32 {
		text += "0"
	}
	b, err := hexBlock(text)
	if err != nil {
		return "", err
	}
	left, err := des.NewCipher(cvk[:8])
	if err != nil {
		return "", err
	}
	var y [8]byte
	left.Encrypt(y[:], b[:8])
	for i := range y {
		y[i] ^= b[8+i]
	}
	return decimals(hex.EncodeToString(cvk.ecb(y[:])), 3), nil
}

// PVV is Visa's PIN verification value: eleven digits of the card number
// before its check digit, key index, first four digits of the PIN.
func PVV(pvk Key, index, pin, pan string) (string, error) {
	if len(pan) < 12 || !isPIN(pin) || len(index) != 1 {
		return "", fmt.Errorf("%w: PAN, key index or PIN", ErrInput)
	}
	b, err := hexBlock(pan[len(pan)-12:len(pan)-1] + index + pin[:4])
	if err != nil {
		return "", err
	}
	return decimals(hex.EncodeToString(pvk.ecb(b)), 4), nil
}

// IBM3624 says how a natural PIN is found: part of the card number, padded, and
// a table of sixteen digits that makes decimals.
type IBM3624 struct {
	Table    string // sixteen digits
	From, To int    // digits of the card number
	Pad      byte   // a hex digit as text
}

func (m IBM3624) natural(pvk Key, pan string) (string, error) {
	if len(m.Table) != 16 || m.From < 0 || m.From >= len(pan) || m.To <= m.From {
		return "", fmt.Errorf("%w: conversion table or digits of the card number", ErrInput)
	}
	text := pan[m.From:min(m.To, len(pan))]
	if len(text) > 16 {
		return "", fmt.Errorf("%w: more than 16 digits of the card number", ErrInput)
	}
	for len(text) < 16 {
		text += string(m.Pad)
	}
	b, err := hexBlock(text)
	if err != nil {
		return "", err
	}
	out := pvk.ecb(b)
	digits := make([]byte, 16)
	for i := range digits {
		digits[i] = m.Table[out[i/2]>>(4*(1-i%2))&15]
	}
	return string(digits), nil
}

// PIN is the natural PIN with an offset on it, as long as the offset.
func (m IBM3624) PIN(pvk Key, pan, offset string) (string, error) {
	return m.shift(pvk, pan, offset, func(n, o byte) byte { return (n + o) % 10 })
}

// Offset is what makes the natural PIN into pin.
func (m IBM3624) Offset(pvk Key, pan, pin string) (string, error) {
	return m.shift(pvk, pan, pin, func(n, p byte) byte { return (p + 10 - n) % 10 })
}

func (m IBM3624) shift(pvk Key, pan, by string, f func(a, b byte) byte) (string, error) {
	natural, err := m.natural(pvk, pan)
	if err != nil {
		return "", err
	}
	if !isPIN(by) {
		return "", fmt.Errorf("%w: a PIN or offset has 4 to 12 digits", ErrInput)
	}
	out := make([]byte, len(by))
	for i := range out {
		out[i] = '0' + f(natural[i]-'0', by[i]-'0')
	}
	return string(out), nil
}

// panField is the twelve rightmost digits before the check digit, for formats
// 0 and 3.
func panField(pan string) ([8]byte, error) {
	if len(pan) < 13 {
		return [8]byte{}, fmt.Errorf("%w: the PAN has fewer than 13 digits", ErrInput)
	}
	b, err := hexBlock("0000" + pan[len(pan)-13:len(pan)-1])
	if err != nil {
		return [8]byte{}, err
	}
	return [8]byte(b), nil
}

// EncodePINBlock makes the clear block of format 0, 2 or 3. random fills
// format 3 and may be nil otherwise.
func EncodePINBlock(format int, pin, pan string, random io.Reader) ([8]byte, error) {
	if format != 0 && format != 2 && format != 3 {
		return [8]byte{}, fmt.Errorf("%w: PIN block format %d", ErrInput, format)
	}
	b, err := pinBytes(pin, byte(format)<<4)
	if err != nil || format == 2 {
		return b, err
	}
	if format == 3 {
		fill := make([]byte, 14)
		if _, err := io.ReadFull(random, fill); err != nil {
			return [8]byte{}, fmt.Errorf("fill the PIN block: %w", err)
		}
		for i := len(pin); i < 14; i++ {
			shift := 4 * (1 - i%2)
			b[1+i/2] = b[1+i/2]&^(15<<shift) | (10+fill[i]%6)<<shift
		}
	}
	p, err := panField(pan)
	if err != nil {
		return [8]byte{}, err
	}
	for i := range b {
		b[i] ^= p[i]
	}
	return b, nil
}

// DecodePINBlock reads a clear block of format 0, 2 or 3.
func DecodePINBlock(format int, b [8]byte, pan string) (string, error) {
	if format != 2 {
		p, err := panField(pan)
		if err != nil {
			return "", err
		}
		for i := range b {
			b[i] ^= p[i]
		}
	}
	return pinOf(b[:], format, 14, func(d byte) bool {
		if format == 3 {
			return d >= 10
		}
		return d == 15
	})
}

// pinOf reads control nibble, length, digits and filler of a PIN field.
func pinOf(b []byte, format, nibbles int, filler func(byte) bool) (string, error) {
	n := int(b[0] & 15)
	if int(b[0]>>4) != format || n < 4 || n > 12 {
		return "", ErrPIN
	}
	pin := make([]byte, n)
	for i := range nibbles {
		d := b[1+i/2] >> (4 * (1 - i%2)) & 15
		switch {
		case i < n && d <= 9:
			pin[i] = '0' + d
		case i >= n && filler(d):
		default:
			return "", ErrPIN
		}
	}
	return string(pin), nil
}

// PINField4 is the clear PIN field of format 4: digits, filler A, eight random
// bytes.
func PINField4(pin string, random io.Reader) ([16]byte, error) {
	var b [16]byte
	half, err := pinBytes(pin, 0x40)
	if err != nil {
		return b, err
	}
	copy(b[:], half[:])
	for i := len(pin); i < 14; i++ {
		shift := 4 * (1 - i%2)
		b[1+i/2] = b[1+i/2]&^(15<<shift) | 10<<shift
	}
	if _, err := io.ReadFull(random, b[8:]); err != nil {
		return b, fmt.Errorf("fill the PIN field: %w", err)
	}
	return b, nil
}

// DecodePINField4 reads it.
func DecodePINField4(b [16]byte) (string, error) {
	return pinOf(b[:8], 4, 14, func(d byte) bool { return d == 10 })
}

// PANField4 is the PAN field of format 4: the length beyond twelve digits, the
// number left-justified, zeros.
func PANField4(pan string) ([16]byte, error) {
	var b [16]byte
	if len(pan) == 0 || len(pan) > 19 {
		return b, fmt.Errorf("%w: a PAN of %d digits", ErrInput, len(pan))
	}
	for len(pan) < 12 {
		pan = "0" + pan
	}
	text := fmt.Sprintf("%d%s", len(pan)-12, pan)
	for len(text) < 32 {
		text += "0"
	}
	raw, err := hexBlock(text)
	if err != nil {
		return b, err
	}
	return [16]byte(raw), nil
}

// EncipherPINBlock4 makes the block of format 4 under an AES key of 16, 24 or
// 32 bytes.
func EncipherPINBlock4(key []byte, pin, pan string, random io.Reader) ([16]byte, error) {
	c, err := aes.NewCipher(key)
	if err != nil {
		return [16]byte{}, fmt.Errorf("%w: an AES key of %d bytes", ErrInput, len(key))
	}
	b, err := PINField4(pin, random)
	if err != nil {
		return [16]byte{}, err
	}
	p, err := PANField4(pan)
	if err != nil {
		return [16]byte{}, err
	}
	c.Encrypt(b[:], b[:])
	for i := range b {
		b[i] ^= p[i]
	}
	c.Encrypt(b[:], b[:])
	return b, nil
}

// DecipherPINBlock4 reads it.
func DecipherPINBlock4(key []byte, b [16]byte, pan string) (string, error) {
	c, err := aes.NewCipher(key)
	if err != nil {
		return "", fmt.Errorf("%w: an AES key of %d bytes", ErrInput, len(key))
	}
	p, err := PANField4(pan)
	if err != nil {
		return "", err
	}
	c.Decrypt(b[:], b[:])
	for i := range b {
		b[i] ^= p[i]
	}
	c.Decrypt(b[:], b[:])
	return DecodePINField4(b)
}
