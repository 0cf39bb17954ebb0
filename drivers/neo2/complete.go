package neo2

import (
	"context"
	"fmt"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
)

// Host results that begin the data of 60-12 [U].
const (
	hostAnswered = 0x00
	noContact    = 0x01
)

// completion is what 60-12 tells the card about a host.
//
// Silence after something was sent is told as a decline of the issuer, not as
// "unable to go online": that would let the card approve what may be reversed
// (design/payments.md R5).
func completion(h emv.HostResponse) (host byte, arc string) {
	arc = h.ARC
	switch {
	case h.Reached && h.Approved:
		if len(arc) != 2 {
			arc = "00"
		}
	case h.Reached:
		// An approving code with a decline would make the card approve; those with
		// Y are the terminal's own (Book 4 annex A6).
		if len(arc) != 2 || arc == "00" || arc == "08" || arc == "10" || arc == "11" || arc[0] == 'Y' {
			arc = "05"
		}
	case h.Sent:
		arc = "05"
	default:
		return noContact, ""
	}
	return hostAnswered, arc
}

// Complete gives the host's answer, or its absence, to the card (60-12). After
// a tap or a swipe there is no card to ask. An outcome with ReversalNeeded has
// to be reversed at the host: it approved and the card did not, or it was
// silent after something was sent.
func (s *session) Complete(ctx context.Context, h emv.HostResponse) (emv.Outcome, error) {
	var out emv.Outcome
	err := s.step(ctx, opComplete, authorized, func(ctx context.Context) error {
		if s.entry != emv.EntryContact {
			out = settle(answered{Outcome: emv.Outcome{ARC: h.ARC}}, h, true)
			return nil
		}
		data := complete(h)
		if len(data) > MaxData {
			return ErrTooLong
		}
		f, err := s.d.l.exchange(ctx, opComplete, data, answerWait, cardWait, s.serve)
		if err != nil {
			return err
		}
		code, objects, err := result(f)
		if err != nil {
			return err
		}
		d := decisions[code]
		if d != emv.Approved && d != emv.Declined && d != emv.EndApplication {
			return code
		}
		o, err := s.outcome(objects, false)
		if err != nil {
			return err
		}
		if o.atc != "" && o.atc != s.atc {
			return fmt.Errorf("%w: it is about another card transaction", ErrAmount)
		}
		card := d == emv.Approved
		if card && (len(o.CID) != 2 || len(o.Cryptogram) != 16 || o.CID[0] < '4' || o.CID[0] > '7') {
			card = false
			o.Reasons = append(o.Reasons, emv.Reason{Step: "completion", Text: "the reader reports an approval without the card's certificate", Ref: "Book 3 section 10.11"})
		}
		out = settle(o, h, card)
		return nil
	})
	if err != nil {
		return emv.Outcome{}, err
	}
	return out, nil
}

func complete(h emv.HostResponse) []byte {
	host, arc := completion(h)
	data := []byte{host}
	if arc != "" {
		data = tlv.Append(data, 0x8A, []byte(arc))
	}
	if h.Reached {
		if len(h.IssuerAuth) > 0 {
			data = tlv.Append(data, 0x91, h.IssuerAuth)
		}
		// Nothing but scripts: a second response code among them would be the
		// reader's to choose from.
		for it := tlv.Iter(h.Scripts); it.Next(); {
			if it.Tag() == 0x71 || it.Tag() == 0x72 {
				data = append(data, it.Raw()...)
			}
		}
	}
	return data
}

// settle joins what the card said with what the host said.
func settle(a answered, h emv.HostResponse, card bool) emv.Outcome {
	o := a.Outcome
	because := func(text, ref string) {
		o.Reasons = append(o.Reasons, emv.Reason{Step: "completion", Text: text, Ref: ref})
	}
	o.Decision = emv.Declined
	switch {
	case h.Reached && h.Approved && card:
		o.Decision = emv.Approved
	case h.Reached && h.Approved:
		o.ReversalNeeded = true
		because("the host approved and the card declined", "Book 3 section 10.11")
	case h.Reached:
	case h.Sent:
		// Whatever the card says: the host may have approved.
		o.ReversalNeeded = true
		because("the host was silent after something was sent", "design/payments.md R5")
	case card && o.Cryptogram != "":
		o.Decision = emv.Approved // offline, by the card
	default:
		because("no host and no approval by the card", "Book 3 section 10.11")
	}
	return o
}
