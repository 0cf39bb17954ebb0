package apdu

import (
	"context"
	"errors"
	"fmt"
)

// ErrProcedure says that a card answered with a byte that T=0 does not know.
var ErrProcedure = errors.New("apdu: not a procedure byte of T=0")

// T0Bytes exchanges T=0 TPDUs over a line that passes characters (ISO/IEC
// 7816-3 section 10.3): the header goes first, and the card says by procedure
// bytes whether it takes the data at once, byte by byte, or needs time. Each
// answer of Line holds all that the card sent until it waits again. Put it
// below [T0].
type T0Bytes struct{ Line Exchanger }

// Transmit sends one TPDU: a header of five bytes, with the data behind it.
func (t T0Bytes) Transmit(ctx context.Context, tpdu []byte) ([]byte, error) {
	if len(tpdu) < 5 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCommand, len(tpdu))
	}
	header, data := tpdu[:5], tpdu[5:]
	in, err := t.Line.Transmit(ctx, header)
	if err != nil {
		return nil, err
	}
	expect := 0 // bytes of an answer still to come
	if len(data) == 0 {
		if expect = int(header[4]); expect == 0 {
			expect = 256
		}
	}
	var out []byte
	take := func(n int) {
		n = min(n, len(in), expect)
		out, in, expect = append(out, in[:n]...), in[n:], expect-n
	}
	for range 2 * 65536 {
		if len(in) == 0 {
			return nil, fmt.Errorf("%w: the answer ends without a status", ErrResponse)
		}
		b := in[0]
		in = in[1:]
		switch {
		case b == 0x60: // it needs time
		case b == header[1] && len(data) > 0:
			if in, err = t.Line.Transmit(ctx, data); err != nil {
				return nil, err
			}
			data = nil
		case b == ^header[1] && len(data) > 0:
			if in, err = t.Line.Transmit(ctx, data[:1]); err != nil {
				return nil, err
			}
			data = data[1:]
		case b == header[1]:
			take(expect)
		case b == ^header[1]:
			take(1)
		case b&0xF0 == 0x60 || b&0xF0 == 0x90:
			if len(in) != 1 {
				return nil, fmt.Errorf("%w: %d bytes after SW1", ErrResponse, len(in))
			}
			return append(out, b, in[0]), nil
		default:
			return nil, ErrProcedure
		}
	}
	return nil, ErrLoop
}
