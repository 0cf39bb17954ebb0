package tlv

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Describe lists the elements of data for a person, one a line, indented by
// depth: tag, name, length, value. Values are masked by [SensitivityOf]; a tag
// the dictionary does not know shows its length alone.
//
// Where data cannot be read to the end, or a card number or track has no bytes,
// lengths are not to be trusted and what reads as a public value may be part of
// a number. Then no value is shown and no unknown tag is named, and a last line
// says why.
func Describe(data []byte, o *Options) string {
	tree, err := Parse(data, o)
	for e := range tree.All() {
		switch e.Tag {
		case 0x56, 0x57, 0x5A, 0x9F6B:
			if len(e.Value) == 0 && err == nil {
				err = errEmpty
			}
		}
	}
	var b strings.Builder
	for e := range tree.All() {
		for range e.Depth {
			b.WriteString("  ")
		}
		info, known := Lookup(e.Tag)
		switch {
		case known:
			fmt.Fprintf(&b, "%s %s [%d]", e.Tag, info.Name, len(e.Value))
		case err != nil:
			fmt.Fprintf(&b, "?? not in the dictionary [%d]", len(e.Value))
		default:
			fmt.Fprintf(&b, "%s not in the dictionary [%d]", e.Tag, len(e.Value))
		}
		if !e.Tag.Constructed() && err == nil {
			if text := DescribeValue(e.Tag, e.Value); text != "" {
				b.WriteByte(' ')
				b.WriteString(text)
			}
		}
		b.WriteByte('\n')
	}
	if err != nil {
		fmt.Fprintf(&b, "values not shown: %v\n", err)
	}
	return b.String()
}

var errEmpty = errors.New("tlv: a card number or track has no bytes")

// DescribeValue returns the value of a tag as text that may be shown: hex for
// public binary data, quoted text, digits, tags and lengths of a DOL, a masked
// PAN, or "***".
func DescribeValue(t Tag, v []byte) string {
	info, known := Lookup(t)
	if !known || info.Sensitivity != Public {
		if known && info.Sensitivity == PAN {
			return MaskPAN(v)
		}
		return "***"
	}
	if len(v) == 0 {
		return ""
	}
	switch info.Format {
	case FormatA, FormatAN, FormatANS:
		if printable(v) {
			return fmt.Sprintf("%q", v)
		}
	case FormatDOL:
		if d, err := ParseDOL(v); err == nil {
			return d.String()
		}
	}
	return strings.ToUpper(hex.EncodeToString(v))
}

// MaskPAN returns first six and last four digits of a PAN in format cn, with
// '*' between. Whatever is not 16 to 19 digits with trailing F is "***": the
// digits that would stay visible would be too many, or the value is no PAN and
// may hold anything.
func MaskPAN(v []byte) string {
	digits, err := Digits(v)
	if err != nil || len(digits) < 16 || len(digits) > 19 {
		return "***"
	}
	return digits[:6] + strings.Repeat("*", len(digits)-10) + digits[len(digits)-4:]
}

func printable(v []byte) bool {
	for _, c := range v {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return true
}
