package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"tillbridge/p2pe"
	"tillbridge/p2pe/mask"
)

// ErrClear says that clear card data are not of a form that can be encrypted.
// No text holds a digit of them.
var ErrClear error = p2pe.NewFault("card.unreadable", "seal: the reader's card data have no usable form: read the card again")

// Clear is card data as a reader without encryption delivers it, ASCII, with
// or without sentinels. It prints "***", has no JSON form, and is erased by the
// encrypter that takes it.
type Clear struct {
	PAN    []byte // 12 to 19 digits; may be empty beside a track
	Track1 []byte // "B4111…^NAME/FIRST^YYMMSSS…"
	Track2 []byte // "4111…=YYMMSSS…"
}

// Erase overwrites the data.
func (c *Clear) Erase() {
	clear(c.PAN)
	clear(c.Track1)
	clear(c.Track2)
	*c = Clear{}
}

// Format prints "***" whatever the verb.
func (Clear) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }

// LogValue implements slog.LogValuer with "***".
func (Clear) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses.
func (Clear) MarshalJSON() ([]byte, error) {
	return nil, errors.New("seal: clear card data are never written")
}

// describe fills the parts of an envelope that stay readable, and judges the
// data: the number in every part is the same and has 12 to 19 digits.
func (c *Clear) describe(e *p2pe.Envelope) error {
	for _, part := range [3][]byte{c.PAN, c.Track1, c.Track2} {
		for _, b := range part {
			if b < 0x20 || b > 0x7e {
				return ErrClear
			}
		}
	}
	pan := c.PAN
	for i, track := range [2][]byte{c.Track2, c.Track1} {
		if len(track) == 0 {
			continue
		}
		number, rest, ok := c.number(track, i == 1)
		if !ok || len(pan) > 0 && !bytes.Equal(pan, number) {
			return ErrClear
		}
		pan = number
		if e.ServiceCode == "" {
			e.ServiceCode = service(rest)
		}
	}
	t, err := mask.Truncate(string(pan))
	if err != nil {
		return ErrClear
	}
	e.MaskedPAN, e.Last4 = t.String(), t.Last
	if len(t.First) == 6 {
		e.BIN = t.First
	}
	return nil
}

// number returns the card number of a track and what follows its expiry.
func (c *Clear) number(track []byte, one bool) (number, rest []byte, ok bool) {
	separator := byte('=')
	if one {
		separator = '^'
		track = bytes.TrimPrefix(track, []byte("%"))
		if !bytes.HasPrefix(track, []byte("B")) {
			return nil, nil, false
		}
		track = track[1:]
	} else {
		track = bytes.TrimPrefix(track, []byte(";"))
	}
	at := bytes.IndexByte(track, separator)
	if at < 0 {
		return nil, nil, false
	}
	number, rest = track[:at], track[at+1:]
	if one {
		if at = bytes.IndexByte(rest, separator); at < 0 {
			return nil, nil, false
		}
		rest = rest[at+1:]
	}
	return number, rest, true
}

// service returns the service code behind an expiry of four digits.
func service(rest []byte) string {
	if len(rest) < 7 {
		return ""
	}
	for _, d := range rest[:7] {
		if d < '0' || d > '9' {
			return ""
		}
	}
	return string(rest[4:7])
}
