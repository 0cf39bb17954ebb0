package replay

import (
	"context"
	"errors"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/contact"
	"tillbridge/p2pe"
)

// pad is the PIN pad of a recording: it sends the VERIFY commands that were
// sent then. It knows no PIN of its own.
type pad struct {
	plan *plan
	card emv.Transceiver
}

// EnterPIN implements [contact.PINPad].
func (p *pad) EnterPIN(ctx context.Context, r contact.PINRequest) (contact.PINAnswer, error) {
	if r.Method == contact.OnlinePIN {
		// What was entered then is not in a recording; that it was, the terminal
		// said in its verification results.
		if v := p.plan.seen[0x95]; len(v) == 5 {
			var t contact.TVR
			copy(t[:], v)
			switch {
			case t.Has(contact.PINPadMissing):
				return contact.PINAnswer{Status: contact.PINPadNotWorking}, nil
			case !t.Has(contact.OnlinePINEntered):
				return contact.PINAnswer{Status: contact.PINBypassed}, nil
			}
		}
		return contact.PINAnswer{Status: contact.PINVerified, Block: p2pe.PINBlock{Block: make([]byte, 8)}}, nil
	}
	if len(p.plan.verify) == 0 {
		return contact.PINAnswer{Status: contact.PINBypassed}, nil
	}
	command := p.plan.verify[0]
	p.plan.verify = p.plan.verify[1:]
	raw, err := r.Card.Transmit(ctx, command)
	if err != nil {
		if errors.Is(err, contact.ErrNotForwarded) {
			return contact.PINAnswer{Status: contact.PINBypassed}, nil
		}
		return contact.PINAnswer{}, err
	}
	a, err := apdu.ParseResponse(raw)
	if err != nil {
		return contact.PINAnswer{Status: contact.PINPadNotWorking}, nil
	}
	if left, ok := a.Status.TriesLeft(); ok {
		return contact.PINAnswer{Status: contact.PINWrong, Tries: left}, nil
	}
	switch a.Status {
	case apdu.OK:
		return contact.PINAnswer{Status: contact.PINVerified}, nil
	case apdu.PINBlocked, apdu.ReferenceBad:
		return contact.PINAnswer{Status: contact.PINBlocked}, nil
	}
	return contact.PINAnswer{Status: contact.PINPadNotWorking}, nil
}
