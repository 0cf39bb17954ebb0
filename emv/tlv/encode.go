package tlv

import (
	"errors"
	"fmt"
)

// Append appends an element with the shortest length form of BER: one octet to
// 127, then 81 and 82 forms.
func Append(dst []byte, t Tag, value []byte) []byte {
	dst = AppendTag(dst, t)
	dst = AppendLength(dst, len(value))
	return append(dst, value...)
}

// AppendLength appends a definite length in its shortest form.
func AppendLength(dst []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n <= 0xFF:
		return append(dst, 0x81, byte(n))
	case n <= 0xFFFF:
		return append(dst, 0x82, byte(n>>8), byte(n))
	case n <= 0xFFFFFF:
		return append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// AppendTemplate appends a constructed element whose value is what body
// appends to its argument.
func AppendTemplate(dst []byte, t Tag, body func([]byte) []byte) []byte {
	return Append(dst, t, body(nil))
}

// ErrValue is matched by the errors of the value encoders and decoders.
var ErrValue = errors.New("tlv: not a value of this format")

// AppendOneByte appends an element whose length is one plain octet of 0 to
// 255 (see [Options].OneByteLength).
func AppendOneByte(dst []byte, t Tag, value []byte) ([]byte, error) {
	if len(value) > 0xFF {
		return dst, fmt.Errorf("%w: %d bytes do not fit a one-octet length", ErrValue, len(value))
	}
	dst = AppendTag(dst, t)
	dst = append(dst, byte(len(value)))
	return append(dst, value...), nil
}

// AppendNumeric appends v as n bytes of right-justified BCD (format n of Book
// 3 section 4.3). Digits that do not fit are an error.
func AppendNumeric(dst []byte, v uint64, n int) ([]byte, error) {
	start := len(dst)
	for range n {
		dst = append(dst, 0)
	}
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = byte(v%10) | byte(v/10%10)<<4
		v /= 100
	}
	if v != 0 {
		return dst[:start], fmt.Errorf("%w: the number has more than %d digits", ErrValue, 2*n)
	}
	return dst, nil
}

// Numeric reads BCD digits (format n). At most nine bytes; a nibble above 9 is
// an error that does not name it.
func Numeric(b []byte) (uint64, error) {
	if len(b) > 9 {
		return 0, fmt.Errorf("%w: %d bytes of BCD", ErrValue, len(b))
	}
	var v uint64
	for _, c := range b {
		if c>>4 > 9 || c&15 > 9 {
			return 0, fmt.Errorf("%w: a nibble is no decimal digit", ErrValue)
		}
		v = v*100 + uint64(c>>4)*10 + uint64(c&15)
	}
	return v, nil
}

// Digits reads compressed numeric (format cn: left-justified digits, padded
// with F on the right) into text, as the PAN (5A). An error does not show the
// value.
func Digits(b []byte) (string, error) {
	out := make([]byte, 0, 2*len(b))
	pad := false
	for i := range 2 * len(b) {
		d := b[i/2] >> 4
		if i%2 == 1 {
			d = b[i/2] & 15
		}
		switch {
		case d == 15:
			pad = true
		case d > 9 || pad:
			return "", fmt.Errorf("%w: digits, then F", ErrValue)
		default:
			out = append(out, '0'+d)
		}
	}
	return string(out), nil
}

// AppendDigits appends decimal digits as format cn, F-padded to n bytes; n = 0
// means as many as are needed.
func AppendDigits(dst []byte, digits string, n int) ([]byte, error) {
	need := (len(digits) + 1) / 2
	if n == 0 {
		n = need
	}
	if need > n {
		return dst, fmt.Errorf("%w: %d digits do not fit %d bytes", ErrValue, len(digits), n)
	}
	start := len(dst)
	for i := 0; i < 2*n; i++ {
		d := byte(15)
		if i < len(digits) {
			if digits[i] < '0' || digits[i] > '9' {
				return dst[:start], fmt.Errorf("%w: character %d is no digit", ErrValue, i+1)
			}
			d = digits[i] - '0'
		}
		if i%2 == 0 {
			dst = append(dst, d<<4)
		} else {
			dst[len(dst)-1] |= d
		}
	}
	return dst, nil
}
