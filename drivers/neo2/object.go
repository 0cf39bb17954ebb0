package neo2

import (
	"fmt"

	"tillbridge/emv/tlv"
)

// Protection is what the length field of a data object says of its value.
type Protection byte

// Protections. The reader marks them in the first octet of a long length: bit
// 6 enciphered, bit 5 masked. [U]: known from outputs of readers, not from the
// pages of the guide that were read; a reader that does not mark its objects
// is understood as well.
const (
	Unmarked   Protection = iota
	Enciphered            // C1 ..
	Masked                // A1 ..
)

// Object is one data object of an answer. It prints without its value.
type Object struct {
	Tag        tlv.Tag
	Value      []byte
	Protection Protection
}

// String names tag and length, never the value.
func (o Object) String() string { return fmt.Sprintf("%s (%d bytes)", o.Tag, len(o.Value)) }

// GoString is String.
func (o Object) GoString() string { return o.String() }

// Format prints String for every verb.
func (o Object) Format(s fmt.State, _ rune) { fmt.Fprint(s, o.String()) }

// Objects walks over data objects. FF begins a tag here (FFEE01), 00 between
// objects is fill. Constructed objects are returned whole.
type Objects struct {
	data []byte
	at   int
	cur  Object
	from int
	err  error
}

// Walk begins at the first object of data.
func Walk(data []byte) Objects { return Objects{data: data} }

// Next goes to the next object and reports whether there is one.
func (w *Objects) Next() bool {
	if w.err != nil {
		return false
	}
	for w.at < len(w.data) && w.data[w.at] == 0 {
		w.at++
	}
	if w.at >= len(w.data) {
		return false
	}
	w.from = w.at
	t, n := tlv.Tag(w.data[w.at]), 1
	if w.data[w.at]&0x1F == 0x1F {
		for {
			if w.at+n >= len(w.data) || n == 4 {
				return w.fail()
			}
			c := w.data[w.at+n]
			t, n = t<<8|tlv.Tag(c), n+1
			if c&0x80 == 0 {
				break
			}
		}
	}
	at := w.at + n
	if at >= len(w.data) {
		return w.fail()
	}
	length, p := int(w.data[at]), Unmarked
	at++
	if length >= 0x80 {
		switch length & 0x60 {
		case 0x40:
			p = Enciphered
		case 0x20:
			p = Masked
		case 0x60:
			return w.fail()
		}
		octets := length & 0x1F
		if octets < 1 || octets > 2 || at+octets > len(w.data) {
			return w.fail()
		}
		length = 0
		for range octets {
			length = length<<8 | int(w.data[at])
			at++
		}
	}
	if length > len(w.data)-at {
		return w.fail()
	}
	w.cur = Object{Tag: t, Value: w.data[at : at+length], Protection: p}
	w.at = at + length
	return true
}

func (w *Objects) fail() bool {
	w.err = fmt.Errorf("%w: data objects end at byte %d", ErrMalformed, w.from)
	return false
}

// Object is the current one; its value is a slice of the data.
func (w *Objects) Object() Object { return w.cur }

// Raw is the current object with tag and length.
func (w *Objects) Raw() []byte { return w.data[w.from:w.at] }

// Err is nil when the walk reached the end of the data.
func (w *Objects) Err() error { return w.err }
