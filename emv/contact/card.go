package contact

import (
	"context"
	"errors"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
)

// reader sends commands to the card, each under a deadline of its own. It
// counts them.
type reader struct {
	card     emv.Transceiver
	config   *Config
	commands int
	buf      [262]byte
}

// send exchanges one command; step names the caller for errors.
func (r *reader) send(ctx context.Context, step string, c apdu.Command) (apdu.Response, error) {
	raw, err := c.Append(r.buf[:0])
	if err != nil {
		return apdu.Response{}, &Error{Step: step, Class: emv.ErrCardUnusable, Reason: ErrFormat}
	}
	return r.exchange(ctx, step, raw)
}

// exchange sends bytes and splits the answer.
func (r *reader) exchange(ctx context.Context, step string, raw []byte) (apdu.Response, error) {
	if err := ctx.Err(); err != nil {
		return apdu.Response{}, stopped(ctx, step, err)
	}
	own, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	r.commands++
	answer, err := r.card.Transmit(own, raw)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotForwarded):
		return apdu.Response{}, &Error{Step: step, Reason: ErrNotForwarded, cause: err}
	case ctx.Err() != nil:
		return apdu.Response{}, stopped(ctx, step, err)
	case errors.Is(err, apdu.ErrResponse), errors.Is(err, apdu.ErrLoop), errors.Is(err, apdu.ErrProcedure):
		return apdu.Response{}, unusable(step, ErrFormat, 0)
	default: // the deadline of this command, or a reader without card
		return apdu.Response{}, &Error{Step: step, Class: emv.ErrCardRemoved, Reason: ErrNoAnswer, cause: err}
	}
	out, err := apdu.ParseResponse(answer)
	if err != nil {
		return out, unusable(step, ErrFormat, 0)
	}
	return out, nil
}

// stopped is the end of the caller's own context.
func stopped(ctx context.Context, step string, cause error) error {
	if errors.Is(context.Cause(ctx), emv.ErrCancelled) {
		return &Error{Step: step, Class: emv.ErrCancelled, Reason: errors.New("the session was cancelled"), cause: cause}
	}
	return &Error{Step: step, Reason: ErrNoAnswer, cause: ctx.Err()}
}

// getData is GET DATA of a counter (Book 3 section 6.5.7). A card that does not
// give it is no error: ok is false.
func (r *reader) getData(ctx context.Context, step string, tag uint16) (value []byte, ok bool, err error) {
	a, err := r.send(ctx, step, apdu.Command{CLA: 0x80, INS: 0xCA, P1: byte(tag >> 8), P2: byte(tag), Le: apdu.LeShort})
	if err != nil {
		if errors.Is(err, ErrNotForwarded) {
			return nil, false, nil
		}
		return nil, false, err
	}
	if a.Status != apdu.OK {
		return nil, false, nil
	}
	v, ok := single(a.Data, uint32(tag))
	return v, ok, nil
}
