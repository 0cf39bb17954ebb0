package tlv

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Tag is a BER tag, its bytes read as one big-endian number: 0x82, 0x9F02,
// 0xDF8117. A tag has one to four bytes.
type Tag uint32

// ErrTag is matched by the errors of [ParseTag].
var ErrTag = errors.New("tlv: not a tag")

// ParseTag reads a tag from hex digits ("9F02", either case). The whole text
// must be one tag.
func ParseTag(s string) (Tag, error) {
	if len(s) == 0 || len(s)%2 != 0 || len(s) > 8 {
		return 0, fmt.Errorf("%w: %d characters; a tag has 2 to 8 hex digits", ErrTag, len(s))
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return 0, fmt.Errorf("%w: a character is not a hex digit", ErrTag)
	}
	t, n := readTag(raw)
	if n != len(raw) {
		return 0, fmt.Errorf("%w: the bytes are not exactly one tag", ErrTag)
	}
	return t, nil
}

// Len is the number of bytes of the tag.
func (t Tag) Len() int {
	switch {
	case t > 0xFFFFFF:
		return 4
	case t > 0xFFFF:
		return 3
	case t > 0xFF:
		return 2
	}
	return 1
}

// Constructed reports whether bit 6 of the first byte is set: the value is
// then a sequence of data objects.
func (t Tag) Constructed() bool {
	return t>>(8*(t.Len()-1))&0x20 != 0
}

// String returns the tag as upper-case hex.
func (t Tag) String() string { return fmt.Sprintf("%0*X", 2*t.Len(), uint32(t)) }

// AppendTag appends the bytes of t.
func AppendTag(dst []byte, t Tag) []byte {
	for i := t.Len() - 1; i >= 0; i-- {
		dst = append(dst, byte(t>>(8*i)))
	}
	return dst
}

// readTag returns the tag at the start of b and its length; 0 when b ends
// before the tag does, -1 when the tag is longer than four bytes.
func readTag(b []byte) (Tag, int) {
	if len(b) == 0 {
		return 0, 0
	}
	t := Tag(b[0])
	if t&0x1F != 0x1F {
		return t, 1
	}
	for i := 1; i < len(b); i++ {
		if i == 4 {
			return 0, -1
		}
		t = t<<8 | Tag(b[i])
		if b[i]&0x80 == 0 {
			return t, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}
