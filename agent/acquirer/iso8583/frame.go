package iso8583

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// LengthHeader is how the transport says where a message ends.
type LengthHeader struct {
	// Kind is "binary" (two bytes, big endian; the default), "ascii" (four
	// digits) or "bcd" (two bytes).
	Kind string `json:"kind,omitempty"`
	// Inclusive says that the number counts the length header too.
	Inclusive bool `json:"inclusive,omitempty"`
}

// ErrFrame is matched by the error of a length header that cannot be right.
var ErrFrame = errors.New("iso8583: the length header is wrong")

func (h LengthHeader) size() int {
	if h.Kind == "ascii" {
		return 4
	}
	return 2
}

// append adds the length header for a body of n bytes to dst.
func (h LengthHeader) append(dst []byte, n int) ([]byte, error) {
	if h.Inclusive {
		n += h.size()
	}
	switch h.Kind {
	case "", "binary":
		if n <= 0xFFFF {
			return binary.BigEndian.AppendUint16(dst, uint16(n)), nil
		}
	case "ascii":
		if n <= 9999 {
			return fmt.Appendf(dst, "%04d", n), nil
		}
	case "bcd":
		if n <= 9999 {
			return append(dst, byte(n/1000<<4|n/100%10), byte(n/10%10<<4|n%10)), nil
		}
	default:
		return nil, fmt.Errorf("iso8583: length header %q: use binary, ascii or bcd", h.Kind)
	}
	return nil, fmt.Errorf("%w: %d bytes are too many", ErrFrame, n)
}

// read reads one body of at most limit bytes. A length of zero is a poll of
// some hosts: the body is then empty.
func (h LengthHeader) read(r io.Reader, limit int) ([]byte, error) {
	head := make([]byte, h.size())
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	var n int
	switch h.Kind {
	case "ascii":
		if !digits(string(head), 4) {
			return nil, ErrFrame
		}
		n, _ = strconv.Atoi(string(head))
	case "bcd":
		for _, b := range head {
			if b>>4 > 9 || b&0xF > 9 {
				return nil, ErrFrame
			}
			n = n*100 + int(b>>4)*10 + int(b&0xF)
		}
	default:
		n = int(binary.BigEndian.Uint16(head))
	}
	if h.Inclusive {
		n -= h.size()
	}
	if n < 0 || n > limit {
		return nil, fmt.Errorf("%w: it announces %d bytes", ErrFrame, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body, nil
}
