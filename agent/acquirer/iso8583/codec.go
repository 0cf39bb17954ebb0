package iso8583

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	moverrors "github.com/moov-io/iso8583/errors"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
)

// ErrFormat is matched by every [*FormatError].
var ErrFormat = errors.New("iso8583: not a message of this dialect")

// FormatError says where packing or unpacking stopped. It never holds a value
// of the message, nor the error of the library below, which may quote one.
type FormatError struct {
	Op    string // "pack", "unpack" or "check"
	Field int    // data element, 0 for the message type, -1 when none is to blame
	Why   string // fixed text
}

// Error names the step, the data element and the reason.
func (e *FormatError) Error() string {
	where := "message"
	switch {
	case e.Field == 0:
		where = "MTI"
	case e.Field > 0:
		where = "DE" + strconv.Itoa(e.Field)
	}
	return fmt.Sprintf("iso8583: %s: %s: %s", e.Op, where, e.Why)
}

// Is makes errors.Is(err, ErrFormat) true.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

// Message is one message, its values as text digits or raw bytes as the layout
// of each element says. It may hold card data of a peer: it prints the message
// type and the element numbers only.
type Message struct {
	Header []byte // TPDU or other bytes before the MTI, verbatim
	MTI    string // four digits
	Fields map[int][]byte
}

// Text returns element id as text, "" when absent.
func (m Message) Text(id int) string { return string(m.Fields[id]) }

// Set puts a text element; an empty text removes it.
func (m Message) Set(id int, text string) {
	if text == "" {
		delete(m.Fields, id)
		return
	}
	m.Fields[id] = []byte(text)
}

// String returns the MTI and the numbers of the elements present.
func (m Message) String() string {
	ids := make([]int, 0, len(m.Fields))
	for id := range m.Fields {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return m.MTI + " DE" + strings.Trim(fmt.Sprint(ids), "[]")
}

// Format implements fmt.Formatter with String for every verb.
func (m Message) Format(f fmt.State, _ rune) { fmt.Fprint(f, m.String()) }

// LogValue implements slog.LogValuer with String.
func (m Message) LogValue() slog.Value { return slog.StringValue(m.String()) }

// MarshalJSON returns String as a JSON string.
func (m Message) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(m.String())), nil }

// Format says how messages are packed.
type Format struct {
	MTI    string         `json:"mti"`              // "ascii", "bcd" or "ebcdic"
	Bitmap string         `json:"bitmap"`           // "binary", "hex" or "ebcdic hex"
	Header int            `json:"header,omitempty"` // bytes before the MTI, the length header not counted
	Fields map[int]string `json:"fields"`           // layout by data element, see parseLayout
}

// Codec packs and unpacks messages of one [Format]. It is safe for use by
// several goroutines.
type Codec struct {
	spec     *moov.MessageSpec
	header   int
	mtiBytes int
	bitmap   int // bytes on the wire for one bitmap of eight bytes
}

// NewCodec checks the format and returns its codec.
func NewCodec(f Format) (*Codec, error) {
	c := &Codec{header: f.Header, spec: &moov.MessageSpec{Fields: map[int]field.Field{}}}
	var mti encoding.Encoder
	switch f.MTI {
	case "ascii":
		mti, c.mtiBytes = octets{}, 4
	case "bcd":
		mti, c.mtiBytes = nibbles{}, 2
	case "ebcdic":
		mti, c.mtiBytes = encoding.EBCDIC, 4
	default:
		return nil, fmt.Errorf("iso8583: mti encoding %q: use ascii, bcd or ebcdic", f.MTI)
	}
	var bitmap encoding.Encoder
	switch f.Bitmap {
	case "binary":
		bitmap, c.bitmap = encoding.Binary, 8
	case "hex":
		bitmap, c.bitmap = encoding.BytesToASCIIHex, 16
	case "ebcdic hex":
		bitmap, c.bitmap = ebcdicHex{}, 16
	default:
		return nil, fmt.Errorf("iso8583: bitmap encoding %q: use binary, hex or ebcdic hex", f.Bitmap)
	}
	if f.Header < 0 || f.Header > 64 {
		return nil, fmt.Errorf("iso8583: a header of %d bytes: use 0 to 64", f.Header)
	}
	c.spec.Fields[0] = field.NewString(field.NewSpec(4, "MTI", mti, prefix.ASCII.Fixed))
	c.spec.Fields[1] = field.NewBitmap(field.NewSpec(8, "bitmap", bitmap, prefix.Binary.Fixed))
	for id, layout := range f.Fields {
		if id < 2 || id > 128 || id == 65 {
			return nil, fmt.Errorf("iso8583: DE%d cannot have a layout: use 2 to 128 without 65", id)
		}
		fl, err := parseLayout(id, layout)
		if err != nil {
			return nil, err
		}
		c.spec.Fields[id] = fl
	}
	return c, nil
}

// Pack returns the bytes of m with its header, without the length header of
// the transport. Its error is a [*FormatError].
func (c *Codec) Pack(m Message) ([]byte, error) {
	if len(m.Header) != c.header {
		return nil, &FormatError{"pack", -1, "the header has another length than the dialect says"}
	}
	if !digits(m.MTI, 4) {
		return nil, &FormatError{"pack", 0, "not four digits"}
	}
	msg := moov.NewMessage(c.spec)
	msg.MTI(m.MTI)
	for id, value := range m.Fields {
		if err := msg.BinaryField(id, value); err != nil {
			return nil, &FormatError{"pack", id, "the dialect has no such element"}
		}
	}
	packed, err := msg.Pack()
	if err != nil {
		return nil, &FormatError{"pack", c.culprit(m), "the value does not fit its layout"}
	}
	return append(append(make([]byte, 0, c.header+len(packed)), m.Header...), packed...), nil
}

// culprit finds the lowest element that cannot be packed by itself.
func (c *Codec) culprit(m Message) int {
	worst := -1
	for id, value := range m.Fields {
		spec, ok := c.spec.Fields[id]
		if !ok {
			continue
		}
		fl := field.NewInstanceOf(spec)
		if fl.SetBytes(value) != nil {
			continue
		}
		if _, err := fl.Pack(); err != nil && (worst < 0 || id < worst) {
			worst = id
		}
	}
	return worst
}

// Unpack reads one message, header included, that must end with its last
// element. Its error is a [*FormatError]. The values are copies.
func (c *Codec) Unpack(b []byte) (Message, error) {
	if len(b) < c.header+c.mtiBytes+c.bitmap {
		return Message{}, &FormatError{"unpack", -1, "shorter than header, MTI and bitmap"}
	}
	body := b[c.header:]
	msg := moov.NewMessage(c.spec)
	if err := msg.Unpack(body); err != nil {
		id := -1
		if ue, ok := errors.AsType[*moverrors.UnpackError](err); ok {
			id, _ = strconv.Atoi(ue.FieldID)
		}
		why := "ends early, or a length or a character is not allowed"
		if _, ok := c.spec.Fields[id]; !ok {
			why = "the dialect has no such element"
		}
		return Message{}, &FormatError{"unpack", id, why}
	}
	mti, err := msg.GetMTI()
	if err != nil || !digits(mti, 4) {
		return Message{}, &FormatError{"unpack", 0, "not four digits"}
	}
	m := Message{Header: append([]byte(nil), b[:c.header]...), MTI: mti, Fields: map[int][]byte{}}
	used := c.mtiBytes + msg.Bitmap().Len()/64*c.bitmap
	for id, fl := range msg.GetFields() {
		if id < 2 {
			continue
		}
		value, err := fl.Bytes()
		if err != nil {
			return Message{}, &FormatError{"unpack", id, "has no value"}
		}
		if value == nil {
			value = []byte{}
		}
		m.Fields[id] = value
		packed, err := fl.Pack()
		if err != nil {
			return Message{}, &FormatError{"unpack", id, "cannot be packed again"}
		}
		used += len(packed)
	}
	if used != len(body) {
		return Message{}, &FormatError{"unpack", -1, "bytes are left after the last element"}
	}
	return m, nil
}

// ebcdicHex is a bitmap as hex characters in EBCDIC.
type ebcdicHex struct{}

func (ebcdicHex) Encode(src []byte) ([]byte, error) {
	text, err := encoding.BytesToASCIIHex.Encode(src)
	if err != nil {
		return nil, errNibble
	}
	return encoding.EBCDIC.Encode(text)
}

func (ebcdicHex) Decode(src []byte, n int) ([]byte, int, error) {
	if n < 0 || len(src) < 2*n {
		return nil, 0, errShort
	}
	text, _, err := encoding.EBCDIC.Decode(src, 2*n)
	if err != nil {
		return nil, 0, errNibble
	}
	value, _, err := encoding.BytesToASCIIHex.Decode(text, n)
	if err != nil {
		return nil, 0, errNibble
	}
	return value, 2 * n, nil
}

func digits(s string, n int) bool {
	if n >= 0 && len(s) != n {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
