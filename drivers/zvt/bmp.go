package zvt

import "fmt"

// BMP ids used by this package (ECR-Interface section 3.1.1).
const (
	bmpTimeout      = 0x01
	bmpServiceByte  = 0x03
	bmpAmount       = 0x04
	bmpContainer    = 0x06
	bmpTrace        = 0x0B
	bmpTime         = 0x0C
	bmpDate         = 0x0D
	bmpExpiry       = 0x0E
	bmpPANSequence  = 0x17
	bmpPaymentType  = 0x19
	bmpPAN          = 0x22
	bmpTrack2       = 0x23
	bmpTrack3       = 0x24
	bmpResult       = 0x27
	bmpTerminalID   = 0x29
	bmpVUNumber     = 0x2A
	bmpTrack1       = 0x2D
	bmpSyncChip     = 0x2E
	bmpOrigTrace    = 0x37
	bmpCVV          = 0x3A
	bmpAID          = 0x3B
	bmpText         = 0x3C
	bmpPassword     = 0x3D
	bmpCurrency     = 0x49
	bmpTotals       = 0x60
	bmpReceipt      = 0x87
	bmpTurnover     = 0x88
	bmpCardType     = 0x8A
	bmpCardName     = 0x8B
	bmpOfflineChip  = 0x92
	bmpGeldKarte    = 0x9A
	bmpResultCodeAS = 0xA0
)

// How the length of a BMP is given.
const (
	llvar  = -2 // two bytes Fx Fy
	lllvar = -3 // three bytes Fx Fy Fz
	ber    = -1 // BER length
)

// bmpLength is the table of BMPs: fixed lengths in bytes, or how the length is
// written. An id that is not in it ends the reading: nothing after it can be
// found.
var bmpLength = [256]int16{
	0x01: 1, 0x02: 1, 0x03: 1, 0x04: 6, 0x05: 1, 0x06: ber, 0x0B: 3, 0x0C: 3, 0x0D: 2, 0x0E: 2, 0x17: 2, 0x19: 1,
	0x22: llvar, 0x23: llvar, 0x24: lllvar, 0x2D: llvar, 0x27: 1, 0x29: 4, 0x2A: 15, 0x2E: lllvar, 0x37: 3,
	0x3A: 2, 0x3B: 8, 0x3C: lllvar, 0x3D: 3, 0x49: 2, 0x4C: llvar, 0x60: lllvar,
	0x70: 4, 0x71: 4, 0x72: 1, 0x73: 1, 0x74: 1, 0x75: 1, 0x87: 2, 0x88: 3, 0x8A: 1, 0x8B: llvar, 0x8C: 1,
	0x92: lllvar, 0x9A: lllvar, 0xA0: 1, 0xA7: llvar, 0xAA: 3, 0xAF: lllvar, 0xBA: 5, 0xD0: 1, 0xD1: llvar, 0xD2: 1, 0xD3: 1,
	0xE0: 1, 0xE1: llvar, 0xE2: llvar, 0xE3: llvar, 0xE4: llvar, 0xE5: llvar, 0xE6: llvar, 0xE7: llvar, 0xE8: llvar,
	0xE9: 1, 0xEA: 1, 0xEB: 8, 0xF0: 1, 0xF1: llvar, 0xF2: llvar, 0xF3: llvar, 0xF4: llvar, 0xF5: llvar, 0xF6: llvar,
	0xF7: llvar, 0xF8: llvar, 0xF9: 1, 0xFA: 1, 0xFB: 1, 0xFC: 1, 0xFD: 1,
}

// Field is one BMP: its id and its value without length. It may hold card
// data and does not print it.
type Field struct {
	ID    byte
	Value []byte
}

// String names the field and its length, never its value.
func (f Field) String() string { return fmt.Sprintf("BMP %02X (%d bytes)", f.ID, len(f.Value)) }

// GoString is String.
func (f Field) GoString() string { return f.String() }

// Format writes String for every verb.
func (f Field) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(f.String())) }

// NextField reads the BMP at the start of data and returns what follows it.
// The value is a slice of data. at is where data stands in the whole, for the
// text of an error.
func NextField(data []byte, at int) (f Field, rest []byte, err error) {
	if len(data) == 0 {
		return f, nil, fmt.Errorf("%w: no BMP at byte %d", ErrMalformed, at)
	}
	id := data[0]
	n := int(bmpLength[id])
	head := 1
	switch {
	case n == 0:
		return f, nil, fmt.Errorf("%w: unknown BMP %02X at byte %d", ErrMalformed, id, at)
	case n == ber:
		size, used, err := parseLength(data[1:])
		if err != nil {
			return f, nil, fmt.Errorf("%w: length of BMP %02X at byte %d", ErrMalformed, id, at)
		}
		n, head = size, 1+used
	case n < 0:
		count := -n
		if len(data) < 1+count {
			return f, nil, fmt.Errorf("%w: BMP %02X at byte %d ends in its length", ErrMalformed, id, at)
		}
		n, head = 0, 1+count
		for _, b := range data[1:head] {
			if b < 0xF0 || b > 0xF9 {
				return f, nil, fmt.Errorf("%w: length digit of BMP %02X at byte %d", ErrMalformed, id, at)
			}
			n = n*10 + int(b&0x0F)
		}
	}
	if len(data)-head < n {
		return f, nil, fmt.Errorf("%w: BMP %02X at byte %d is longer than the data", ErrMalformed, id, at)
	}
	return Field{id, data[head : head+n : head+n]}, data[head+n:], nil
}

// ParseFields reads BMPs to the end of data, in order, duplicates kept. Values
// are slices of data. What was read before an error is returned with it.
func ParseFields(data []byte) ([]Field, error) {
	fields := make([]Field, 0, 16)
	for rest := data; len(rest) > 0; {
		f, r, err := NextField(rest, len(data)-len(rest))
		if err != nil {
			return fields, err
		}
		fields, rest = append(fields, f), r
	}
	return fields, nil
}

// AppendField appends a BMP. A value that the id cannot hold is an error.
func AppendField(dst []byte, id byte, value []byte) ([]byte, error) {
	n := int(bmpLength[id])
	dst = append(dst, id)
	switch {
	case n == 0:
		return nil, fmt.Errorf("%w: unknown BMP %02X", ErrMalformed, id)
	case n == ber:
		if len(value) > 0xFFFF {
			return nil, cannotHold(id, len(value))
		}
		dst = appendLength(dst, len(value))
	case n == llvar:
		if len(value) > 99 {
			return nil, cannotHold(id, len(value))
		}
		dst = append(dst, 0xF0|byte(len(value)/10), 0xF0|byte(len(value)%10))
	case n == lllvar:
		if len(value) > 999 {
			return nil, cannotHold(id, len(value))
		}
		dst = append(dst, 0xF0|byte(len(value)/100), 0xF0|byte(len(value)/10%10), 0xF0|byte(len(value)%10))
	case n != len(value):
		return nil, cannotHold(id, len(value))
	}
	return append(dst, value...), nil
}

func cannotHold(id byte, n int) error {
	return fmt.Errorf("%w: BMP %02X cannot hold %d bytes", ErrMalformed, id, n)
}

// fieldOf returns the value of the first BMP with an id.
func fieldOf(fields []Field, id byte) ([]byte, bool) {
	for _, f := range fields {
		if f.ID == id {
			return f.Value, true
		}
	}
	return nil, false
}

// AppendBCD appends n decimal digits' worth of v in bytes bytes, or an error
// when v is negative or does not fit.
func AppendBCD(dst []byte, v int64, bytes int) ([]byte, error) {
	at := len(dst)
	for range bytes {
		dst = append(dst, 0)
	}
	rest := v
	for i := bytes - 1; i >= 0; i-- {
		dst[at+i] = byte(rest%10) | byte(rest/10%10)<<4
		rest /= 100
	}
	if v < 0 || rest != 0 {
		return nil, fmt.Errorf("%w: a number does not fit in %d digits", ErrMalformed, 2*bytes)
	}
	return dst, nil
}

// BCD reads decimal digits; at most nine bytes. A nibble above nine is an
// error that does not name it.
func BCD(b []byte) (int64, error) {
	if len(b) > 9 {
		return 0, fmt.Errorf("%w: too many digits", ErrMalformed)
	}
	var v int64
	for _, x := range b {
		if x>>4 > 9 || x&0x0F > 9 {
			return 0, fmt.Errorf("%w: not a decimal digit", ErrMalformed)
		}
		v = v*100 + int64(x>>4)*10 + int64(x&0x0F)
	}
	return v, nil
}

// digits returns BCD bytes as text with leading zeros, or "" when a nibble is
// no digit.
func digits(b []byte) string { return string(appendDigits(nil, b)) }

// appendDigits appends what digits returns.
func appendDigits(dst, b []byte) []byte {
	at := len(dst)
	for _, x := range b {
		if x>>4 > 9 || x&0x0F > 9 {
			return dst[:at]
		}
		dst = append(dst, '0'+x>>4, '0'+x&0x0F)
	}
	return dst
}
