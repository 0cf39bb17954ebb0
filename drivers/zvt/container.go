package zvt

import "fmt"

// Tags of the TLV container used by this package (ECR-Interface chapter 9).
const (
	tagTextLine        = 0x07
	tagLineAttribute   = 0x09
	tagCommand         = 0x0A
	tagPrintWidth      = 0x12
	tagCharset         = 0x14
	tagDisplayBlock    = 0x24
	tagPrintBlock      = 0x25
	tagCommands        = 0x26
	tagAID             = 0x43
	tagApplication     = 0x60
	tagReceiptType     = 0x1F07
	tagCVM             = 0x1F10
	tagCardTechnology  = 0x1F12
	tagErrorCode       = 0x1F16
	tagErrorText       = 0x1F17
	tagLastReceipt     = 0x1F1F
	tagLongTrace       = 0x1F2B
	maxContainerDepth  = 8
	maxContainerLength = 0xFFFF
)

// Element is one data object of a TLV container. Value is a slice of the
// input. It may hold card data and does not print it.
type Element struct {
	Tag   uint32
	Value []byte
}

// String names tag and length, never the value.
func (e Element) String() string { return fmt.Sprintf("tag %X (%d bytes)", e.Tag, len(e.Value)) }

// GoString is String.
func (e Element) GoString() string { return e.String() }

// Format writes String for every verb.
func (e Element) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(e.String())) }

// constructed reports whether bit 6 of the first byte of the tag is set.
func (e Element) constructed() bool {
	t := e.Tag
	for t > 0xFF {
		t >>= 8
	}
	return t&0x20 != 0
}

// NextElement reads the data object at the start of data and returns what
// follows it. Tags have one to three bytes; lengths are 00 to 7F, 81 LL or
// 82 HH LL.
func NextElement(data []byte, at int) (e Element, rest []byte, err error) {
	tag, used, err := parseTag(data)
	if err != nil {
		return e, nil, fmt.Errorf("%w: tag at byte %d of the container", ErrMalformed, at)
	}
	n, more, err := parseLength(data[used:])
	if err != nil {
		return e, nil, fmt.Errorf("%w: length at byte %d of the container", ErrMalformed, at+used)
	}
	used += more
	if n > len(data)-used {
		return e, nil, fmt.Errorf("%w: tag %X is longer than the container", ErrMalformed, tag)
	}
	return Element{tag, data[used : used+n : used+n]}, data[used+n:], nil
}

// ParseContainer reads the data objects of a container, outermost level. What
// was read before an error is returned with it.
func ParseContainer(data []byte) ([]Element, error) {
	var out []Element
	for rest := data; len(rest) > 0; {
		e, r, err := NextElement(rest, len(data)-len(rest))
		if err != nil {
			return out, err
		}
		out, rest = append(out, e), r
	}
	return out, nil
}

// AppendElement appends a data object.
func AppendElement(dst []byte, tag uint32, value []byte) []byte {
	switch {
	case tag > 0xFFFF:
		dst = append(dst, byte(tag>>16), byte(tag>>8), byte(tag))
	case tag > 0xFF:
		dst = append(dst, byte(tag>>8), byte(tag))
	default:
		dst = append(dst, byte(tag))
	}
	return append(appendLength(dst, len(value)), value...)
}

// Find returns the first data object with a tag at any depth.
func Find(data []byte, tag uint32) ([]byte, bool) { return find(data, tag, 0) }

func find(data []byte, tag uint32, depth int) ([]byte, bool) {
	if depth > maxContainerDepth {
		return nil, false
	}
	for at := 0; len(data) > 0; {
		e, rest, err := NextElement(data, at)
		if err != nil {
			return nil, false
		}
		if e.Tag == tag {
			return e.Value, true
		}
		if e.constructed() {
			if v, ok := find(e.Value, tag, depth+1); ok {
				return v, true
			}
		}
		at, data = at+len(data)-len(rest), rest
	}
	return nil, false
}

func parseTag(b []byte) (tag uint32, used int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrMalformed
	}
	tag, used = uint32(b[0]), 1
	if b[0]&0x1F != 0x1F {
		return tag, used, nil
	}
	for used < 3 {
		if used >= len(b) {
			return 0, 0, ErrMalformed
		}
		tag = tag<<8 | uint32(b[used])
		used++
		if b[used-1]&0x80 == 0 {
			return tag, used, nil
		}
	}
	return 0, 0, ErrMalformed
}

func parseLength(b []byte) (n, used int, err error) {
	switch {
	case len(b) >= 1 && b[0] < 0x80:
		return int(b[0]), 1, nil
	case len(b) >= 2 && b[0] == 0x81:
		return int(b[1]), 2, nil
	case len(b) >= 3 && b[0] == 0x82:
		return int(b[1])<<8 | int(b[2]), 3, nil
	}
	return 0, 0, ErrMalformed
}

func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n <= 0xFF:
		return append(dst, 0x81, byte(n))
	case n <= maxContainerLength:
		return append(dst, 0x82, byte(n>>8), byte(n))
	}
	panic("zvt: data object longer than an APDU")
}
