package apdu

import (
	"errors"
	"fmt"
)

// Le values: the number of bytes that may come back.
const (
	LeNone     = 0     // no data field in the answer
	LeShort    = 256   // coded 00
	LeExtended = 65536 // coded 0000
)

// Command is a command APDU. Le is the largest answer wanted: [LeNone], 1 to
// 256, or up to 65,536 in the extended form. Lc and the coding follow from
// Data and Le.
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte
	Le               int
}

// Errors of the formats, matched with errors.Is.
var (
	ErrCommand  = errors.New("apdu: not a command APDU")
	ErrResponse = errors.New("apdu: not a response APDU")
)

// Extended reports whether the command needs lengths of more than one byte.
func (c Command) Extended() bool { return len(c.Data) > 255 || c.Le > 256 }

// Case is 1 to 4: neither data nor answer, answer, data, both (ISO/IEC 7816-3
// section 12.1).
func (c Command) Case() int {
	n := 1
	if c.Le > 0 {
		n++
	}
	if len(c.Data) > 0 {
		n += 2
	}
	return n
}

// Append appends the bytes of the command in its shortest form: short lengths
// where they do, five bytes for case 2 (never Lc 00 and Le 00).
func (c Command) Append(dst []byte) ([]byte, error) {
	if len(c.Data) > 65535 || c.Le < 0 || c.Le > LeExtended {
		return dst, fmt.Errorf("%w: %d bytes of data, Le %d", ErrCommand, len(c.Data), c.Le)
	}
	dst = append(dst, c.CLA, c.INS, c.P1, c.P2)
	if !c.Extended() {
		if len(c.Data) > 0 {
			dst = append(append(dst, byte(len(c.Data))), c.Data...)
		}
		if c.Le > 0 {
			dst = append(dst, byte(c.Le))
		}
		return dst, nil
	}
	if len(c.Data) > 0 {
		dst = append(dst, 0, byte(len(c.Data)>>8), byte(len(c.Data)))
		dst = append(dst, c.Data...)
	} else {
		dst = append(dst, 0)
	}
	if c.Le > 0 {
		dst = append(dst, byte(c.Le>>8), byte(c.Le))
	}
	return dst, nil
}

// Bytes is Append to nothing; a command that has no form gives nil.
func (c Command) Bytes() []byte {
	b, err := c.Append(nil)
	if err != nil {
		return nil
	}
	return b
}

// ParseCommand reads a command APDU of any case; Data is a slice of b.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes; the header has four", ErrCommand, len(b))
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	body := b[4:]
	short := func(v byte) int { return (int(v)-1)&0xFF + 1 }
	long := func(v []byte) int { return (int(v[0])<<8|int(v[1])-1)&0xFFFF + 1 }
	bad := func() (Command, error) {
		return Command{}, fmt.Errorf("%w: the lengths do not fit %d bytes", ErrCommand, len(b))
	}
	switch n := len(body); {
	case n == 0:
	case n == 1:
		c.Le = short(body[0])
	case body[0] != 0:
		lc := int(body[0])
		if n != 1+lc && n != 2+lc {
			return bad()
		}
		c.Data = body[1 : 1+lc]
		if n == 2+lc {
			c.Le = short(body[1+lc])
		}
	case n == 3:
		c.Le = long(body[1:])
	case n < 3:
		return bad()
	default:
		lc := int(body[1])<<8 | int(body[2])
		if lc == 0 || n != 3+lc && n != 5+lc {
			return bad()
		}
		c.Data = body[3 : 3+lc]
		if n == 5+lc {
			c.Le = long(body[3+lc:])
		}
	}
	return c, nil
}

// String names header and lengths, never the data.
func (c Command) String() string {
	return fmt.Sprintf("%02X%02X%02X%02X Lc=%d Le=%d", c.CLA, c.INS, c.P1, c.P2, len(c.Data), c.Le)
}

// GoString is String.
func (c Command) GoString() string { return c.String() }

// Format prints String for every verb.
func (c Command) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }

// Status is SW1 SW2.
type Status uint16

// Status words that a kernel asks for (ISO/IEC 7816-4 section 5.1.3, EMV Book
// 3 section 6.3.5).
const (
	OK              Status = 0x9000
	Invalidated     Status = 0x6283 // selected file invalidated: the application is blocked
	AuthFailed      Status = 0x6300
	WrongLength     Status = 0x6700
	PINBlocked      Status = 0x6983
	ReferenceBad    Status = 0x6984
	Conditions      Status = 0x6985 // conditions of use not satisfied
	NotSupported    Status = 0x6A81 // to SELECT: the card is blocked
	NotFound        Status = 0x6A82
	RecordNotFound  Status = 0x6A83
	ReferenceAbsent Status = 0x6A88
)

// SW1 and SW2 are the two bytes.
func (s Status) SW1() byte { return byte(s >> 8) }

// SW2 is the second byte.
func (s Status) SW2() byte { return byte(s) }

// Warning reports 62xx or 63xx: the command was executed, with a remark.
func (s Status) Warning() bool { return s.SW1() == 0x62 || s.SW1() == 0x63 }

// TriesLeft is the number of PIN tries of a 63Cx answer.
func (s Status) TriesLeft() (int, bool) { return int(s & 15), s&0xFFF0 == 0x63C0 }

// String is four hex digits.
func (s Status) String() string { return fmt.Sprintf("%04X", uint16(s)) }

// Response is a response APDU.
type Response struct {
	Data   []byte
	Status Status
}

// ParseResponse splits an answer; Data is a slice of b.
func ParseResponse(b []byte) (Response, error) {
	n := len(b) - 2
	if n < 0 || n > LeExtended {
		return Response{}, fmt.Errorf("%w: %d bytes", ErrResponse, len(b))
	}
	if sw1 := b[n]; sw1&0xF0 != 0x60 && sw1&0xF0 != 0x90 || sw1 == 0x60 {
		return Response{}, fmt.Errorf("%w: SW1 is %02X", ErrResponse, sw1)
	}
	return Response{b[:n:n], Status(b[n])<<8 | Status(b[n+1])}, nil
}

// Append appends the bytes of the response.
func (r Response) Append(dst []byte) []byte {
	return append(append(dst, r.Data...), r.Status.SW1(), r.Status.SW2())
}

// String names length and status, never the data.
func (r Response) String() string { return fmt.Sprintf("[%d] %s", len(r.Data), r.Status) }

// GoString is String.
func (r Response) GoString() string { return r.String() }

// Format prints String for every verb.
func (r Response) Format(s fmt.State, _ rune) { fmt.Fprint(s, r.String()) }
