package abecs

import (
	"context"
	"fmt"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
)

// Answers to the card (FCX option).
const (
	hostApproved = '0'
	hostDeclined = '1'
	noContact    = '2'
)

// completion is what FCX tells the card about a host.
//
// Silence after something was sent is a decline for the card (option 1): an
// offline approval (option 2) would let it approve what may be reversed
// (design/payments.md R5).
func completion(h emv.HostResponse) (option byte, arc string) {
	arc = h.ARC
	switch {
	case h.Reached && h.Approved:
		option = hostApproved
		if len(arc) != 2 {
			arc = "00"
		}
	case h.Reached:
		option = hostDeclined
		// A response code that means an approval would let the card give one.
		if len(arc) != 2 || arc == "00" || arc == "08" || arc == "10" || arc == "11" || arc[0] == 'Y' {
			arc = "05"
		}
	case h.Sent:
		return hostDeclined, "Z3" // unable to go online, declined
	default:
		return noContact, ""
	}
	return option, arc
}

// Complete gives the host's answer, or its absence, to the card (FCX). A swipe
// has no card to ask. An outcome with ReversalNeeded has to be reversed at the
// host: it approved and the card did not, or it was silent after something was
// sent.
func (s *session) Complete(ctx context.Context, h emv.HostResponse) (emv.Outcome, error) {
	var o emv.Outcome
	err := s.step(ctx, "FCX", authorized, func(ctx context.Context) error {
		if s.entry == emv.EntrySwipe {
			o = settle(emv.Outcome{ARC: h.ARC}, h, true)
			return nil
		}
		p, err := fcx(h)
		if err != nil {
			return s.d.fail("FCX", err)
		}
		// Only a tap may have to be repeated by the customer, for scripts.
		r, err := s.d.params(ctx, "FCX", s.entry == emv.EntryContactless, p...)
		if err != nil {
			return err
		}
		if o, err = s.fcxOutcome(r, h); err != nil {
			o = emv.Outcome{}
			return s.d.fail("FCX", err)
		}
		return nil
	})
	return o, err
}

func fcx(h emv.HostResponse) ([]Param, error) {
	option, arc := completion(h)
	p := []Param{{FCXOptions, []byte{option, '0', '0', '0'}}}
	if arc != "" {
		p = append(p, Param{ARC, []byte(arc)})
	}
	var data []byte
	if h.Reached {
		if len(h.IssuerAuth) > 0 {
			data = tlv.Append(data, 0x91, h.IssuerAuth)
		}
		// Nothing but scripts: a second 8A or 91 among them would be the pad's to
		// choose from.
		for it := tlv.Iter(h.Scripts); it.Next(); {
			if it.Tag() == 0x71 || it.Tag() == 0x72 {
				data = append(data, it.Raw()...)
			}
		}
	}
	if len(data) > MaxBlock-4 {
		return nil, fmt.Errorf("%w: issuer scripts of %d bytes", ErrTooLong, len(data))
	}
	if len(data) > 0 {
		p = append(p, Param{EMVDataIn, data})
	}
	return append(p, Param{TagList, goxTags}), nil
}

func (s *session) fcxOutcome(r Response, h emv.HostResponse) (emv.Outcome, error) {
	res, _ := r.Find(FCXResult)
	if len(res) == 0 {
		res, _ = r.Find(GOXResult) // an example of the protocol's text names it so
	}
	if len(res) == 0 || res[0] != '0' && res[0] != '1' {
		return emv.Outcome{}, fmt.Errorf("%w: result of FCX", ErrMalformed)
	}
	data, _ := r.Find(EMVDataOut)
	o, err := s.outcome(data, s.terms.Amounts)
	if err != nil {
		return o, err
	}
	approved := res[0] == '0'
	if approved && o.CID != "" && isAAC(o.CID) {
		approved = false
		o.Reasons = append(o.Reasons, emv.Reason{Step: "completion", Text: "the card answered AAC although the pad reports an approval", Ref: "Book 3 section 10.11"})
	}
	return settle(o, h, approved), nil
}

// settle joins what the card said with what the host said.
func settle(o emv.Outcome, h emv.HostResponse, card bool) emv.Outcome {
	switch {
	case h.Reached && h.Approved && card:
		o.Decision = emv.Approved
	case h.Reached && h.Approved:
		o.Decision, o.ReversalNeeded = emv.Declined, true
		o.Reasons = append(o.Reasons, emv.Reason{Step: "completion", Text: "the host approved and the card declined", Ref: "Book 3 section 10.11"})
	case h.Reached:
		o.Decision = emv.Declined
	case h.Sent:
		// Whatever the card says: the host may have approved.
		o.Decision, o.ReversalNeeded = emv.Declined, true
		o.Reasons = append(o.Reasons, emv.Reason{Step: "completion", Text: "the host was silent after something was sent", Ref: "design/payments.md R5"})
	case card && o.Cryptogram != "":
		o.Decision = emv.Approved // offline, by the card
	default:
		o.Decision = emv.Declined
		o.Reasons = append(o.Reasons, emv.Reason{Step: "completion", Text: "no host and no approval by the card", Ref: "Book 3 section 10.11"})
	}
	return o
}
