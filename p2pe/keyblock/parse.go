package keyblock

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

const headerLen = 16

// Limits of the form: four digits of length, two of the number of blocks.
const longestBlock = 9999

// parts is a block taken apart by its form alone.
type parts struct {
	header Header
	clear  []byte // header and optional blocks as sent: what the MAC covers
	cipher []byte
	mac    []byte
}

// macLen returns the bytes of MAC and the cipher block of a version.
func macLen(version byte) (mac, block int) {
	switch version {
	case 'A', 'C':
		return 4, 8
	case 'B':
		return 8, 8
	case 'D', 'E':
		return 16, 16
	}
	return 0, 0
}

// split takes a block apart and checks its form. It believes nothing.
func split(block string) (*parts, error) {
	if len(block) < headerLen || len(block) > longestBlock {
		return nil, fmt.Errorf("%w: %d characters: it was cut or is something else", ErrFormat, len(block))
	}
	for i := range len(block) {
		if block[i] < 0x20 || block[i] > 0x7e {
			return nil, fmt.Errorf("%w: character %d is not printable", ErrFormat, i+1)
		}
	}
	h, end, err := parseHeader(block)
	if err != nil {
		return nil, err
	}
	length, ok := number(block[1:5])
	if !ok || length != len(block) {
		return nil, fmt.Errorf("%w: its length field says %q and it has %d characters: it was cut or lengthened", ErrFormat, block[1:5], len(block))
	}
	mac, size := macLen(h.Version)
	if h.Version != 'E' && end%size != 0 {
		return nil, fmt.Errorf("%w: header and optional blocks of %d characters are no whole number of cipher blocks: the PB block is missing", ErrFormat, end)
	}
	// The rest is upper-case hex by the standard; lower case is read as well.
	raw, err := hex.DecodeString(block[end:])
	if err != nil {
		return nil, fmt.Errorf("%w: the enciphered part is not hex", ErrFormat)
	}
	if len(raw) < mac+3 {
		return nil, fmt.Errorf("%w: the enciphered part has %d bytes: it was cut", ErrFormat, len(raw))
	}
	p := &parts{header: h, clear: []byte(block[:end]), cipher: raw[:len(raw)-mac], mac: raw[len(raw)-mac:]}
	if h.Version != 'E' && len(p.cipher)%size != 0 {
		return nil, fmt.Errorf("%w: %d enciphered bytes are no whole number of cipher blocks: it was cut", ErrFormat, len(p.cipher))
	}
	return p, nil
}

// parseHeader reads the header and its optional blocks and returns where they
// end.
func parseHeader(s string) (Header, int, error) {
	if len(s) < headerLen {
		return Header{}, 0, fmt.Errorf("%w: a header has 16 characters", ErrFormat)
	}
	h := Header{
		Version: s[0], Usage: s[5:7], Algorithm: s[7], Mode: s[8], KeyVersion: s[9:11], Exportability: s[11], Context: s[14],
	}
	if m, _ := macLen(h.Version); m == 0 {
		return Header{}, 0, fmt.Errorf("%w: %q is none of A to E: it is no key block or of a newer kind", ErrVersion, h.Version)
	}
	if _, ok := number(s[1:5]); !ok {
		return Header{}, 0, fmt.Errorf("%w: its length field is no number", ErrFormat)
	}
	if !alnum(h.Usage) || !alnum(s[7:9]) || !alnum(h.KeyVersion) || !alnum(s[14:16]) {
		return Header{}, 0, fmt.Errorf("%w: a header field is not of letters and digits", ErrFormat)
	}
	if e := h.Exportability; e != 'E' && e != 'N' && e != 'S' {
		return Header{}, 0, fmt.Errorf("%w: exportability %q is none of E, N and S", ErrFormat, e)
	}
	count, ok := number(s[12:14])
	if !ok {
		return Header{}, 0, fmt.Errorf("%w: the number of optional blocks is no number", ErrFormat)
	}
	at := headerLen
	for i := range count {
		b, end, err := parseOptional(s, at)
		if err != nil {
			return Header{}, 0, fmt.Errorf("%w: optional block %d: %w", ErrFormat, i+1, err)
		}
		if b.ID == "PB" && i != count-1 {
			return Header{}, 0, fmt.Errorf("%w: optional block %d: padding before another block", ErrFormat, i+1)
		}
		h.Blocks = append(h.Blocks, b)
		at = end
	}
	return h, at, nil
}

// parseOptional reads the optional block at s[at:]: id, length in two hex
// digits, data; the length counts id and length. A length of 00 is followed by
// the number of digits of the real one (two hex digits) and that one.
func parseOptional(s string, at int) (OptionalBlock, int, error) {
	rest := s[at:]
	if len(rest) < 4 {
		return OptionalBlock{}, 0, fmt.Errorf("it is cut")
	}
	b := OptionalBlock{ID: rest[:2]}
	if !alnum(b.ID) {
		return OptionalBlock{}, 0, fmt.Errorf("its id is not of letters and digits")
	}
	length, ok := hexNumber(rest[2:4])
	if !ok {
		return OptionalBlock{}, 0, fmt.Errorf("its length is not hex")
	}
	head := 4
	if length == 0 {
		if len(rest) < 6 {
			return OptionalBlock{}, 0, fmt.Errorf("its extended length is cut")
		}
		digits, ok := hexNumber(rest[4:6])
		if !ok || digits == 0 || digits > 8 || len(rest) < 6+digits {
			return OptionalBlock{}, 0, fmt.Errorf("its extended length is malformed")
		}
		if length, ok = hexNumber(rest[6 : 6+digits]); !ok {
			return OptionalBlock{}, 0, fmt.Errorf("its extended length is not hex")
		}
		head = 6 + digits
	}
	if length < head || length > len(rest) {
		return OptionalBlock{}, 0, fmt.Errorf("its length %d does not fit the %d characters there", length, len(rest))
	}
	b.Data = rest[head:length]
	for i := range len(b.Data) {
		if b.Data[i] < 0x20 || b.Data[i] > 0x7e {
			return OptionalBlock{}, 0, fmt.Errorf("its data are not printable")
		}
	}
	return b, at + length, nil
}

func number(s string) (int, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func hexNumber(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		n = n<<4 | int(c)
	}
	return n, len(s) > 0
}

func alnum(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
			return false
		}
	}
	return true
}
