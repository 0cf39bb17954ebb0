package tlv

import (
	"fmt"
	"strings"
)

// DOLEntry is one tag and length of a data object list.
type DOLEntry struct {
	Tag    Tag
	Length int // bytes, 0 to 255
}

// DOL is a data object list in the card's order. A tag may occur twice and is
// then filled twice: a DOL is a list, never a map.
type DOL []DOLEntry

// ParseDOL reads a list of tags and lengths (PDOL 9F38, CDOL1 8C, CDOL2 8D,
// DDOL 9F49, TDOL 97). The lengths are of data that the card wants, so they
// are not compared with the bytes of the list. The error is a *[SyntaxError].
func ParseDOL(b []byte) (DOL, error) {
	if len(b) > DefaultSize {
		return nil, &SyntaxError{0, ErrSize}
	}
	d := make(DOL, 0, len(b)/2)
	for off := 0; off < len(b); {
		t, n := readTag(b[off:])
		if n < 0 {
			return d, &SyntaxError{off, ErrTag}
		}
		if n == 0 || off+n >= len(b) {
			return d, &SyntaxError{off, ErrTruncated}
		}
		d = append(d, DOLEntry{t, int(b[off+n])})
		off += n + 1
	}
	return d, nil
}

// AppendDOL appends the bytes of d.
func AppendDOL(dst []byte, d DOL) []byte {
	for _, e := range d {
		dst = append(AppendTag(dst, e.Tag), byte(e.Length))
	}
	return dst
}

// Size is the number of bytes that [DOL.Append] writes.
func (d DOL) Size() int {
	n := 0
	for _, e := range d {
		n += e.Length
	}
	return n
}

// Has reports whether the list asks for t.
func (d DOL) Has(t Tag) bool {
	for _, e := range d {
		if e.Tag == t {
			return true
		}
	}
	return false
}

// Append writes the data that the list asks for, in order and without tags,
// by the rules of Book 3 section 5.4: what is not there or is constructed
// becomes zeros; a value that is too long loses its leftmost bytes when it is
// numeric and its rightmost bytes otherwise; one that is too short is padded
// on the left with 00 when numeric, on the right with FF when compressed
// numeric and on the right with 00 otherwise. lookup returns the value of a
// tag; the format comes from the dictionary ([Lookup]).
func (d DOL) Append(dst []byte, lookup func(Tag) ([]byte, bool)) []byte {
	for _, e := range d {
		var v []byte
		if !e.Tag.Constructed() {
			if got, ok := lookup(e.Tag); ok {
				v = got
			} else {
				dst = appendFill(dst, 0, e.Length)
				continue
			}
		} else {
			dst = appendFill(dst, 0, e.Length)
			continue
		}
		dst = AppendFitted(dst, v, e.Length, FormatOf(e.Tag))
	}
	return dst
}

// AppendFitted appends v cut or padded to n bytes by the rules of [DOL.Append]
// for format f.
func AppendFitted(dst, v []byte, n int, f Format) []byte {
	short := n - len(v)
	switch {
	case short < 0 && f == FormatN:
		return append(dst, v[-short:]...)
	case short < 0:
		return append(dst, v[:n]...)
	case f == FormatN:
		return append(appendFill(dst, 0, short), v...)
	case f == FormatCN:
		return appendFill(append(dst, v...), 0xFF, short)
	}
	return appendFill(append(dst, v...), 0, short)
}

func appendFill(dst []byte, c byte, n int) []byte {
	for range n {
		dst = append(dst, c)
	}
	return dst
}

// String lists tags and lengths: "9F02[6] 9F37[4]".
func (d DOL) String() string {
	var b strings.Builder
	for i, e := range d {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s[%d]", e.Tag, e.Length)
	}
	return b.String()
}
