package tlv

import (
	"errors"
	"fmt"
)

// Mode says what may stand where a tag is expected.
type Mode uint8

// The modes of [Options].
const (
	// Tolerant skips bytes 00 and FF before, between and after elements, as
	// ISO 7816-4 allows and as cards do. An FF is then never the first byte of
	// a tag. A last length octet of 80 with nothing behind it reads as empty.
	Tolerant Mode = iota
	// ZeroPadding skips 00 alone; FF begins a tag of the private class, as in
	// FFEE01 or FF8105.
	ZeroPadding
	// Strict allows no padding, no length octet 80, no length in more octets
	// than it needs and no tag with a leading empty subsequent byte.
	Strict
)

// Options set mode and limits. The zero value, and a nil pointer, are valid.
type Options struct {
	Mode Mode
	// OneByteLength reads each length as one plain octet of 0 to 255. Some test
	// cards and host formats write so; 0x91 is then 145.
	OneByteLength bool
	// MaxDepth is the deepest nesting; 0 means 8, at most 16 is used.
	MaxDepth int
	// MaxSize is the longest input in bytes; 0 means 65,535, the most there is.
	MaxSize int
	// MaxElements is the largest number of elements; 0 means 1,024, at most
	// 32,767 is used.
	MaxElements int
}

// The limits used for a zero field of [Options], and the deepest nesting that
// can be asked for.
const (
	DefaultDepth    = 8
	DefaultSize     = 65535
	DefaultElements = 1024
	depthLimit      = 16
)

// Errors of reading, matched with errors.Is. Their text names an offset and
// never a value.
var (
	ErrTruncated  = errors.New("tlv: the data end inside an element")
	ErrLength     = errors.New("tlv: not a length")
	ErrIndefinite = errors.New("tlv: indefinite length is not used in EMV")
	ErrPadding    = errors.New("tlv: padding between elements")
	ErrDepth      = errors.New("tlv: nested too deeply")
	ErrSize       = errors.New("tlv: too much data")
)

// SyntaxError says where reading stopped. Err is one of the errors above.
type SyntaxError struct {
	Offset int // bytes from the start of the input
	Err    error
}

// Error names the offset and the cause.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%v (at byte %d)", e.Err, e.Offset) }

// Unwrap returns the cause.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Element is one data object. Value and Raw are slices of the input; Raw
// includes tag and length.
type Element struct {
	Tag   Tag
	Value []byte
	Raw   []byte
	// Depth is 0 for an element of the outermost sequence.
	Depth int
}

// String names the tag and the length, never the value.
func (e Element) String() string { return fmt.Sprintf("%s[%d]", e.Tag, len(e.Value)) }

// GoString is String.
func (e Element) GoString() string { return e.String() }

// Format prints String for every verb.
func (e Element) Format(s fmt.State, _ rune) { fmt.Fprint(s, e.String()) }

// Iterator walks over elements without allocating. Make one with [Iter],
// [IterDeep] or [NewIterator]; call Next until it returns false, then Err.
type Iterator struct {
	data  []byte
	off   int
	end   int // end of the innermost open template
	depth int // of the next element
	left  int // elements still allowed
	max   int // deepest depth allowed
	mode  Mode
	plain bool
	deep  bool
	short bool // a template was longer than its data

	tag                Tag
	start, value, stop int
	at                 int // depth of the current element
	err                error
	errAt              int
	ends               [depthLimit + 1]uint16
}

// Iter walks over the outermost elements of data, skipping padding.
func Iter(data []byte) Iterator { return NewIterator(data, nil, false) }

// IterDeep walks over all elements of data: a constructed element first, then
// what it holds.
func IterDeep(data []byte) Iterator { return NewIterator(data, nil, true) }

// NewIterator is Iter or IterDeep with options; nil means the zero Options.
func NewIterator(data []byte, o *Options, deep bool) Iterator {
	it := Iterator{data: data, end: len(data), deep: deep, left: DefaultElements, max: DefaultDepth}
	size := DefaultSize
	if o != nil {
		it.mode, it.plain = o.Mode, o.OneByteLength
		if o.MaxElements > 0 {
			it.left = min(o.MaxElements, 1<<15-1)
		}
		if o.MaxDepth > 0 {
			it.max = min(o.MaxDepth, depthLimit)
		}
		if o.MaxSize > 0 {
			size = min(o.MaxSize, DefaultSize)
		}
	}
	if len(data) > size {
		it.err = ErrSize
	}
	return it
}

// Next moves to the next element and reports whether there is one. A deep walk
// that is not [Strict] enters a template whose length is longer than the data,
// so that what arrived can be shown; it then ends with [ErrTruncated] all the
// same.
func (it *Iterator) Next() bool {
	if it.err != nil {
		return false
	}
	data, off := it.data, it.off
	for {
		// Padding, then the ends of templates that are used up.
		for off < it.end {
			if c := data[off]; c != 0 && c != 0xFF || !it.pads(c) {
				break
			}
			off++
		}
		if off < it.end {
			break
		}
		if it.depth == 0 {
			it.off = off
			if it.short {
				return it.fail(ErrTruncated, it.errAt)
			}
			return false
		}
		it.depth--
		it.end = int(it.ends[it.depth])
	}
	if it.left == 0 {
		return it.fail(ErrSize, off)
	}
	it.left--
	it.start, it.at = off, it.depth
	b := data[:it.end]

	// Tag.
	first := b[off]
	tag := Tag(first)
	off++
	if first&0x1F == 0x1F {
		for n := 1; ; n++ {
			if off >= len(b) {
				return it.fail(ErrTruncated, it.start)
			}
			if n == 4 {
				return it.fail(ErrTag, it.start)
			}
			c := b[off]
			if n == 1 && c == 0x80 && it.mode == Strict {
				return it.fail(ErrTag, it.start)
			}
			tag = tag<<8 | Tag(c)
			off++
			if c&0x80 == 0 {
				break
			}
		}
	} else if first == 0 {
		return it.fail(ErrPadding, it.start) // only in Strict
	}

	// Length.
	if off >= len(b) {
		return it.fail(ErrTruncated, it.start)
	}
	n := int(b[off])
	off++
	if n >= 0x80 && !it.plain {
		octets := n & 0x7F
		switch {
		case octets == 0:
			if it.mode == Strict || off != len(b) {
				return it.fail(ErrIndefinite, it.start)
			}
		case octets > 4:
			return it.fail(ErrLength, it.start)
		case octets > len(b)-off:
			return it.fail(ErrTruncated, it.start)
		}
		var v uint64
		for range octets {
			v = v<<8 | uint64(b[off])
			off++
		}
		if it.mode == Strict && (v < 0x80 || octets > 1 && v>>(8*(octets-1)) == 0) {
			return it.fail(ErrLength, it.start)
		}
		n = int(min(v, 1<<31-1))
	}
	if n > len(b)-off {
		if !it.deep || first&0x20 == 0 || it.mode == Strict {
			return it.fail(ErrTruncated, it.start)
		}
		// A template that says more than there is: what it holds is read, and
		// the walk ends with the error.
		n = len(b) - off
		if !it.short {
			it.short, it.errAt = true, it.start
		}
	}
	it.tag, it.value, it.stop = tag, off, off+n
	it.off = it.stop
	if it.deep && first&0x20 != 0 {
		if n > 0 {
			if it.depth >= it.max {
				return it.fail(ErrDepth, it.start)
			}
			it.ends[it.depth] = uint16(it.end)
			it.depth++
			it.end = it.stop
			it.off = off
		}
	}
	return true
}

// pads reports whether c, 00 or FF, is padding in this mode.
func (it *Iterator) pads(c byte) bool {
	return c == 0 && it.mode != Strict || c == 0xFF && it.mode == Tolerant
}

func (it *Iterator) fail(err error, at int) bool {
	it.err, it.errAt = err, at
	return false
}

// Tag is the tag of the current element.
func (it *Iterator) Tag() Tag { return it.tag }

// Value is the value of the current element, a slice of the input.
func (it *Iterator) Value() []byte { return it.data[it.value:it.stop:it.stop] }

// Raw is the current element with tag and length, a slice of the input.
func (it *Iterator) Raw() []byte { return it.data[it.start:it.stop:it.stop] }

// Depth is the nesting of the current element, 0 for the outermost.
func (it *Iterator) Depth() int { return it.at }

// Element returns the current element.
func (it *Iterator) Element() Element {
	return Element{Tag: it.tag, Value: it.Value(), Raw: it.Raw(), Depth: it.at}
}

// Err is nil when the walk reached the end of the data, else a *[SyntaxError].
func (it *Iterator) Err() error {
	if it.err == nil {
		return nil
	}
	return &SyntaxError{Offset: it.errAt, Err: it.err}
}

// Find returns the value of the first element with tag t at any depth of data
// (tolerant mode). It stops at the first syntax error, so an element before
// the error is still found.
func Find(data []byte, t Tag) (value []byte, ok bool) {
	it := IterDeep(data)
	for it.Next() {
		if it.tag == t {
			return it.Value(), true
		}
	}
	return nil, false
}

// Get follows a path of tags from the outermost sequence inwards: Get(fci,
// 0x6F, 0xA5, 0x50) is the application label. At each level the first element
// with the tag is taken.
func Get(data []byte, path ...Tag) (value []byte, ok bool) {
	value = data
	for _, t := range path {
		it := Iter(value)
		ok = false
		for it.Next() {
			if it.tag == t {
				value, ok = it.Value(), true
				break
			}
		}
		if !ok {
			return nil, false
		}
	}
	return value, ok
}
