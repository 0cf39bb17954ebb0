package iso8583

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
)

// maxima are the longest values of variable data elements in ISO 8583:1987,
// where a smaller limit than the length prefix allows is worth holding.
var maxima = map[int]int{2: 19, 32: 11, 33: 11, 34: 28, 35: 37, 36: 104, 102: 28, 103: 28}

// parseLayout turns one layout text into the packing of a data element. The
// language has two forms:
//
//	fix N KIND
//	var len=PREFIX digits=D data=KIND
//
// N counts digits, characters or bytes. PREFIX is ascii, bcd or ebcdic. KIND
// is ascii, ebcdic, "raw bytes", "hex text", "bcd left-padded",
// "bcd right-padded", "bcd track nibbles right-padded" (each of the last two
// may end in " F" for a pad nibble of F instead of 0), or "sign byte then bcd".
func parseLayout(id int, text string) (field.Field, error) {
	var length int
	var pref prefix.Prefixer
	var kind string
	switch words := strings.SplitN(text, " ", 3); {
	case len(words) == 3 && words[0] == "fix":
		n, err := strconv.Atoi(words[1])
		if err != nil || n < 1 || n > 999999 {
			return nil, fmt.Errorf("iso8583: DE%d: layout %q: the length is not a number", id, text)
		}
		length, pref, kind = n, prefix.ASCII.Fixed, words[2]
	case strings.HasPrefix(text, "var len="):
		var of string
		var digits int
		head, data, ok := strings.Cut(text, " data=")
		if _, err := fmt.Sscanf(head, "var len=%s digits=%d", &of, &digits); err != nil || !ok || digits < 1 || digits > 6 {
			return nil, fmt.Errorf("iso8583: DE%d: layout %q is not of the form var len=PREFIX digits=D data=KIND", id, text)
		}
		p, ok := map[string]prefix.Prefixers{"ascii": prefix.ASCII, "bcd": prefix.BCD, "ebcdic": prefix.EBCDIC}[of]
		if !ok {
			return nil, fmt.Errorf("iso8583: DE%d: layout %q: unknown length prefix", id, text)
		}
		pref = strictPrefix{[]prefix.Prefixer{p.L, p.LL, p.LLL, p.LLLL, p.LLLLL, p.LLLLLL}[digits-1], of, digits}
		if of == "bcd" {
			pref = packedPrefix(digits)
		}
		kind = data
		length = maxima[id]
		if length == 0 {
			length = 1
			for range digits {
				length *= 10
			}
			length--
		}
	default:
		return nil, fmt.Errorf("iso8583: DE%d: layout %q starts with neither fix nor var", id, text)
	}
	pad := byte(0)
	kind, padded := strings.CutSuffix(kind, " F")
	if padded {
		pad = 0xF
	}
	var enc encoding.Encoder
	switch kind {
	case "ascii", "raw bytes":
		enc = octets{}
	case "ebcdic":
		enc = encoding.EBCDIC
	case "hex text":
		enc = encoding.BytesToASCIIHex
	case "bcd left-padded":
		enc = nibbles{left: true}
	case "bcd right-padded":
		enc = nibbles{pad: pad}
	case "bcd track nibbles right-padded":
		enc = nibbles{pad: pad, track: true}
	case "sign byte then bcd":
		enc = signed{}
		length++
	default:
		return nil, fmt.Errorf("iso8583: DE%d: layout %q: unknown kind of data", id, text)
	}
	return field.NewBinary(field.NewSpec(length, "DE"+strconv.Itoa(id), enc, pref)), nil
}

var (
	errShort  = errors.New("ends inside the element")
	errNibble = errors.New("a nibble is not allowed here")
	errLength = errors.New("the length prefix is not a number")
)

// octets passes bytes on as they are: hosts put bytes over 127 into text
// elements, and what a value may hold is judged by [Message.Check].
type octets struct{}

func (octets) Encode(src []byte) ([]byte, error) { return src, nil }

func (octets) Decode(src []byte, n int) ([]byte, int, error) {
	if n < 0 || len(src) < n {
		return nil, 0, errShort
	}
	return append([]byte{}, src[:n]...), n, nil
}

// nibbles is packed digits, padded on the right, or with zero on the left.
// Track data has "=" or "D" as separator and may carry the sentinels ";" (B)
// and "?" (F). It stands in for the library's encoder, which builds a table
// with each call and costs eight times as much for a whole message.
type nibbles struct {
	pad   byte
	track bool
	left  bool
}

const hexDigits = "0123456789ABCDEF"

func (n nibbles) Encode(src []byte) ([]byte, error) {
	dst := make([]byte, (len(src)+1)/2)
	shift := 0
	if n.left {
		shift = len(src) % 2
	}
	for i, c := range src {
		v := strings.IndexByte(hexDigits, c)
		if c == '=' {
			v = 0xD
		}
		if v < 0 || v > 9 && !n.track {
			return nil, errNibble
		}
		i += shift
		dst[i/2] |= byte(v) << (4 * (1 - i%2))
	}
	if len(src)%2 == 1 && !n.left {
		dst[len(dst)-1] |= n.pad
	}
	return dst, nil
}

func (n nibbles) Decode(src []byte, length int) ([]byte, int, error) {
	read := (length + 1) / 2
	if length < 0 || len(src) < read {
		return nil, 0, errShort
	}
	dst := make([]byte, length)
	shift := 0
	if n.left {
		shift = length % 2
	}
	for i := range dst {
		at := i + shift
		v := src[at/2] >> (4 * (1 - at%2)) & 0xF
		if v > 9 && !n.track {
			return nil, 0, errNibble
		}
		dst[i] = hexDigits[v]
	}
	return dst, read, nil
}

// signed is "x+n": one character for the sign, then packed digits.
type signed struct{}

func (signed) Encode(src []byte) ([]byte, error) {
	if len(src) < 1 {
		return nil, errShort
	}
	digits, err := nibbles{left: true}.Encode(src[1:])
	if err != nil {
		return nil, errNibble
	}
	return append([]byte{src[0]}, digits...), nil
}

func (signed) Decode(src []byte, length int) ([]byte, int, error) {
	if length < 1 || len(src) < 1 {
		return nil, 0, errShort
	}
	digits, read, err := nibbles{left: true}.Decode(src[1:], length-1)
	if err != nil {
		return nil, 0, errNibble
	}
	return append([]byte{src[0]}, digits...), read + 1, nil
}

// strictPrefix refuses what strconv.Atoi lets through ("+5", "-1").
type strictPrefix struct {
	prefix.Prefixer
	of     string
	digits int
}

func (p strictPrefix) DecodeLength(maxLen int, data []byte) (int, int, error) {
	low := byte('0')
	if p.of == "ebcdic" {
		low = 0xF0
	}
	if len(data) < p.digits {
		return 0, 0, errShort
	}
	for _, c := range data[:p.digits] {
		if c < low || c > low+9 {
			return 0, 0, errLength
		}
	}
	return p.Prefixer.DecodeLength(maxLen, data)
}

// packedPrefix is a length of that many digits in packed BCD.
type packedPrefix int

func (p packedPrefix) EncodeLength(maxLen, n int) ([]byte, error) {
	if n > maxLen {
		return nil, errLength
	}
	out := make([]byte, (p+1)/2)
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = byte(n/10%10<<4 | n%10)
		n /= 100
	}
	if n > 0 || p%2 == 1 && out[0] > 9 {
		return nil, errLength
	}
	return out, nil
}

func (p packedPrefix) DecodeLength(maxLen int, data []byte) (int, int, error) {
	size := int(p+1) / 2
	if len(data) < size {
		return 0, 0, errShort
	}
	n := 0
	for _, b := range data[:size] {
		if b>>4 > 9 || b&0xF > 9 {
			return 0, 0, errLength
		}
		n = n*100 + int(b>>4)*10 + int(b&0xF)
	}
	if n > maxLen {
		return 0, 0, errLength
	}
	return n, size, nil
}

func (p packedPrefix) Inspect() string { return "BCD." + strings.Repeat("L", int(p)) }
