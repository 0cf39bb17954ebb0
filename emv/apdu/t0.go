package apdu

import (
	"context"
	"errors"
	"fmt"
)

// Exchanger sends bytes to a card and returns its answer; emv.Transceiver is
// one.
type Exchanger interface {
	Transmit(ctx context.Context, command []byte) (response []byte, err error)
}

// Errors of [T0] and [Follow].
var (
	// ErrLoop says that the card kept announcing answers without end.
	ErrLoop = errors.New("apdu: the card does not come to an end of its answer")
	// ErrTooLong says that a command does not fit T=0 without ENVELOPE.
	ErrTooLong = errors.New("apdu: more than 255 bytes of command data over T=0")
)

// maxRounds is the largest number of exchanges for one command: 65,536 bytes
// in answers of 256, and the corrections.
const maxRounds = 300

// Follow is an APDU exchange over a reader that passes whole APDUs and leaves
// 61xx and 6Cxx to the host. As over T=0, the answer behind a warning is
// fetched: the card below such a reader may speak it. GET RESPONSE goes with the class of the command's
// logical channel and without its secure messaging bits.
type Follow struct{ Card Exchanger }

// Transmit sends a command APDU and returns the whole response.
func (f Follow) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c, err := ParseCommand(command)
	if err != nil {
		return nil, err
	}
	return finish(ctx, f.Card, c, command, true)
}

// T0 is an APDU exchange over T=0 TPDUs (ISO/IEC 7816-3 section 12.2, EMV Book
// 1 section 9.3.1): a header of five bytes with data or with the length of an
// answer, never both.
type T0 struct{ Card Exchanger }

// Transmit sends a command APDU as TPDUs and returns the whole response. After
// 62xx or 63xx to a command of case 4 the answer is fetched as well.
func (t T0) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c, err := ParseCommand(command)
	if err != nil {
		return nil, err
	}
	if len(c.Data) > 255 {
		return nil, ErrTooLong
	}
	tpdu := []byte{c.CLA, c.INS, c.P1, c.P2, 0}
	if len(c.Data) > 0 {
		tpdu[4] = byte(len(c.Data))
		tpdu = append(tpdu, c.Data...)
	} else if c.Le > 0 && c.Le <= 256 {
		tpdu[4] = byte(c.Le)
	}
	return finish(ctx, t.Card, c, tpdu, false)
}

// finish sends first and follows 61xx and 6Cxx to the end. whole says that the
// card's side takes data and Le in one command: a TPDU with data has no Le that
// could be wrong.
func finish(ctx context.Context, card Exchanger, c Command, first []byte, whole bool) ([]byte, error) {
	var out []byte
	next := first
	fetching, corrected := false, false
	warning := Status(0) // of the command, kept while the answer is fetched
	for range maxRounds {
		raw, err := card.Transmit(ctx, next)
		if err != nil {
			return nil, err
		}
		r, err := ParseResponse(raw)
		if err != nil {
			return nil, err
		}
		if len(out)+len(r.Data) > LeExtended {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrLoop, LeExtended)
		}
		sw1, sw2 := r.Status.SW1(), r.Status.SW2()
		switch {
		case sw1 == 0x6C && !corrected && (fetching || c.Le > 0 && (whole || len(c.Data) == 0)):
			// Wrong Le: the same command again, once, with the right one.
			corrected = true
			if fetching || len(c.Data) == 0 {
				next = append([]byte(nil), next[:4]...)
				next = append(next, sw2)
			} else {
				again := c
				if again.Le = int(sw2); sw2 == 0 {
					again.Le = 256
				}
				if next, err = again.Append(nil); err != nil {
					return nil, err
				}
			}
			continue
		case sw1 == 0x61:
			out = append(out, r.Data...)
			next = getResponse(c, sw2)
			fetching, corrected = true, false
			continue
		case !fetching && c.Case() == 4 && r.Status.Warning() && len(r.Data) == 0:
			warning = r.Status
			next = getResponse(c, 0)
			fetching = true
			continue
		}
		if warning != 0 {
			if r.Status != OK {
				// Nothing to fetch: the warning is the answer.
				return Response{Status: warning}.Append(nil), nil
			}
			r.Status = warning
		}
		return Response{append(out, r.Data...), r.Status}.Append(nil), nil
	}
	return nil, ErrLoop
}

func getResponse(c Command, le byte) []byte {
	return []byte{c.CLA & 0x03, 0xC0, 0, 0, le}
}
