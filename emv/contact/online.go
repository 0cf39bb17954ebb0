package contact

import (
	"context"
	"errors"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/tlv"
)

const stepIssuer = "issuer"

// Authorisation response codes of the terminal itself (Book 4 Annex A6).
const (
	arcApprovedOffline = "Y1"
	arcDeclinedOffline = "Z1"
	arcApprovedUnable  = "Y3"
	arcDeclinedUnable  = "Z3"
)

// approves lists the issuer's codes that ask for a TC (ISO 8583 field 39 as it
// comes in tag 8A): approved, honour with identification, partial, VIP.
// Whatever else comes asks for AAC, referrals among them.
func approves(arc string) bool {
	switch arc {
	case "00", "08", "10", "11":
		return true
	}
	return false
}

// issuerAnswer is the second half of the transaction (Book 3 sections 10.9 to
// 10.11, Book 4 section 6.3.8 on).
func (s *Session) issuerAnswer(ctx context.Context, h emv.HostResponse) (emv.Outcome, error) {
	want, arc := AAC, ""
	switch {
	case h.Reached:
		arc = h.ARC
		if h.Approved && approves(h.ARC) {
			want = TC
		}
		s.note(stepIssuer, "the issuer answered with code "+safeARC(h.ARC), "B4 6.3.8")
	case h.Sent:
		// A byte may have left: somebody may have approved. Only an AAC leaves
		// the way to a reversal open (design/payments.md R5).
		s.note(stepIssuer, "the host was asked and is silent: the card is asked to decline", "payments R5")
	default:
		want, arc = AAC, arcDeclinedUnable
		if a := s.analyse(HostUnable); a.Cryptogram == TC {
			want, arc = TC, arcApprovedUnable
		}
	}
	if len(arc) != 2 {
		arc = ""
	}
	s.data.set(fromTransaction, 0x8A, nil)
	if arc != "" {
		s.data.set(fromTransaction, 0x8A, []byte(arc))
	}
	s.arc = arc

	if h.Reached && len(h.IssuerAuth) > 0 {
		if err := s.authenticateIssuer(ctx, h.IssuerAuth); err != nil {
			return s.broken(h, err)
		}
	}
	if h.Reached && len(h.Scripts) > 0 {
		if err := s.runScripts(ctx, h.Scripts, 0x71, ScriptFailedBeforeAC2); err != nil {
			return s.broken(h, err)
		}
	}
	c, signatureFailed, err := s.generate(ctx, want, s.cdol2, true)
	if err != nil {
		return s.broken(h, err)
	}
	approved := c.kind == TC && want == TC
	switch {
	case signatureFailed:
		s.tvr.Set(CDAFailed)
		approved = false
	case want == TC && c.kind == AAC:
		s.note("card", "the card declined where an approval was asked for", "B3 10.11")
	}
	if h.Reached && len(h.Scripts) > 0 {
		// The decision is made: a card that is gone by now changes nothing.
		if err := s.runScripts(ctx, h.Scripts, 0x72, ScriptFailedAfterAC2); err != nil {
			s.tvr.Set(ScriptFailedAfterAC2)
			s.note("script", "the card was gone before the last script", "B3 10.10")
		}
	}
	decision := emv.Declined
	if approved {
		decision = emv.Approved
	}
	// What waits to be sent later is the first cryptogram: the closing AAC of
	// a payment that nobody was asked about says nothing to an issuer.
	if h.Reached || approved {
		s.keep(c)
		s.closing = true
	}
	out := s.outcome(decision)
	out.ReversalNeeded = h.Reached && h.Approved && !approved
	return out, nil
}

// broken ends the second half early. When the host had approved, the outcome
// asks for its reversal (trap 15); the error says what happened.
func (s *Session) broken(h emv.HostResponse, err error) (emv.Outcome, error) {
	s.note(stepIssuer, "the card did not finish the transaction", "B4 6.3.9")
	out := s.outcome(emv.Declined)
	out.ReversalNeeded = h.Reached && h.Approved
	return out, err
}

// authenticateIssuer gives tag 91 to the card (Book 3 section 10.9): by
// EXTERNAL AUTHENTICATE where its profile says so, else in the second
// GENERATE AC by its data object list.
func (s *Session) authenticateIssuer(ctx context.Context, data []byte) error {
	s.data.set(fromTransaction, 0x91, data)
	if s.profile[0]&0x04 == 0 {
		return nil
	}
	s.tsi.Set(IssuerAuthPerformed)
	if len(data) < 8 || len(data) > 16 {
		s.tvr.Set(IssuerAuthFailed)
		return nil
	}
	a, err := s.reader.send(ctx, stepIssuer, apdu.Command{INS: 0x82, Data: data})
	if err != nil {
		if errors.Is(err, ErrNotForwarded) {
			s.tvr.Set(IssuerAuthFailed)
			return nil
		}
		return err
	}
	if a.Status != apdu.OK {
		s.tvr.Set(IssuerAuthFailed)
		s.note(stepIssuer, "the card does not take the issuer's answer for genuine (status "+a.Status.String()+")", "B3 10.9")
	}
	return nil
}

// runScripts sends the commands of the templates with this tag (Book 3
// section 10.10, Book 4 section 6.3.9) and writes the results (9F5B, Book 4
// Annex A5).
func (s *Session) runScripts(ctx context.Context, scripts []byte, template tlv.Tag, failedBit Bit) error {
	it := tlv.Iter(scripts)
	for it.Next() {
		if it.Tag() != template {
			continue
		}
		s.tsi.Set(ScriptPerformed)
		result, err := s.runScript(ctx, it.Value())
		s.results = append(s.results, result[:]...)
		if result[0]>>4 != 2 {
			s.tvr.Set(failedBit)
			s.note("script", "an issuer script failed", "B3 10.10")
		}
		if err != nil {
			return err
		}
	}
	if it.Err() != nil && template == 0x71 {
		s.tvr.Set(failedBit)
		s.note("script", "the issuer's scripts cannot be read to their end", "B3 10.10")
	}
	return nil
}

// runScript sends the commands of one template until one fails.
func (s *Session) runScript(ctx context.Context, body []byte) (result [5]byte, err error) {
	// A script that cannot be read is not begun.
	sequence := byte(0)
	it := tlv.Iter(body)
	for it.Next() {
		if it.Tag() == 0x9F18 && len(it.Value()) == 4 {
			copy(result[1:], it.Value())
		}
	}
	if it.Err() != nil {
		return result, nil
	}
	for it = tlv.Iter(body); it.Next(); {
		if it.Tag() != 0x86 {
			continue
		}
		sequence = min(sequence+1, 15)
		// What is no command never reaches the card: the issuer's mistake fails
		// the script, not the transaction.
		if c, err := apdu.ParseCommand(it.Value()); err != nil || c.Extended() {
			result[0] = 0x10 | sequence
			return result, nil
		}
		a, err := s.reader.exchange(ctx, "script", it.Value())
		if err != nil {
			result[0] = 0x10 | sequence
			return result, err
		}
		if a.Status != apdu.OK && !a.Status.Warning() {
			result[0] = 0x10 | sequence
			return result, nil
		}
	}
	result[0] = 0x20
	return result, nil
}

// safeARC shows a response code that is two letters or digits.
func safeARC(arc string) string {
	if len(arc) != 2 {
		return "of wrong length"
	}
	for _, b := range []byte(arc) {
		if b < '0' || b > 'Z' || b > '9' && b < 'A' {
			return "of other bytes"
		}
	}
	return arc
}
