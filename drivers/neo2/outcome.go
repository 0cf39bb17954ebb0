package neo2

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

// answered is an outcome with what only this driver needs of it.
type answered struct {
	emv.Outcome
	atc string // 9F36, upper-case hex
}

// Authorize verifies the cardholder and asks for the cryptogram (60-11). A
// swipe has none: the host decides.
func (s *session) Authorize(ctx context.Context, a emv.Amounts) (emv.Outcome, error) {
	var out emv.Outcome
	err := s.step(ctx, opAuthenticate, read, func(ctx context.Context) error {
		t := s.terms
		if a.Amount != t.Amount || a.Other != t.Other || a.CurrencyNumeric != t.CurrencyNumeric {
			return fmt.Errorf("%w: it was read for another one", ErrAmount)
		}
		if s.entry == emv.EntrySwipe {
			out = emv.Outcome{Decision: emv.OnlineRequest, Signature: true, CVMText: "signature",
				Reasons: []emv.Reason{{Step: "selection", Text: "stripe: the host decides", Ref: "02-40"}}}
			s.stage = authorized
			return nil
		}
		data := []byte{0} // [U] forced online
		if s.d.set.ForceOnline {
			data[0] = 1
		}
		f, err := s.d.l.exchange(ctx, opAuthenticate, data, answerWait, s.d.set.CustomerWait+cardWait, s.serve)
		if err != nil {
			return err
		}
		code, objects, err := result(f)
		if err != nil {
			return err
		}
		if code != ApprovedOffline && code != Approved && code != GoOnline {
			d := decisions[code]
			if d == "" {
				return code
			}
			out = emv.Outcome{Decision: d}
			if o, err := s.outcome(objects, false); err == nil {
				o.Decision, out = d, o.Outcome
				out.Decision = d
			}
			out.Reasons = append(out.Reasons, emv.Reason{Step: "taa", Text: code.Error(), Ref: "60-11"})
			s.stage = authorized
			return nil
		}
		o, err := s.outcome(objects, true)
		if err != nil {
			return err
		}
		if o.Decision = agreed(&o, decisions[code]); o.Decision == "" {
			return fmt.Errorf("%w: %w and the cryptogram do not agree", ErrMalformed, code)
		}
		s.atc, out, s.stage = o.atc, o.Outcome, authorized
		return nil
	})
	if err != nil {
		return emv.Outcome{}, err
	}
	return out, nil
}

// result splits an answer of 60-11 and 60-12.
func result(f Frame) (Result, []byte, error) {
	if Status(f.Code) != OK {
		return 0, nil, failure(f)
	}
	if len(f.Data) < 2 {
		return 0, nil, fmt.Errorf("%w: no result code", ErrMalformed)
	}
	return Result(f.Data[0])<<8 | Result(f.Data[1]), f.Data[2:], nil
}

// agreed joins what the reader says with the kind of cryptogram that the card
// gave (CID, Book 3 section 6.5.5.4): the card may always say no, and a yes
// needs both. Empty means that they contradict each other.
func agreed(o *answered, want emv.Decision) emv.Decision {
	var kind emv.Decision
	switch o.CID[:1] {
	case "0", "1", "2", "3":
		kind = emv.Declined
	case "4", "5", "6", "7":
		kind = emv.Approved
	case "8", "9", "A", "B":
		kind = emv.OnlineRequest
	default:
		return ""
	}
	switch {
	case kind == want:
		return want
	case kind == emv.Declined:
		o.Reasons = append(o.Reasons, emv.Reason{Step: "taa", Text: "the card answered AAC although the reader did not decline", Ref: "Book 3 section 9"})
		return emv.Declined
	}
	return ""
}

// outcome reads what the card and the reader said, and checks that it is about
// this payment. whole asks for a cryptogram with amount and currency.
func (s *session) outcome(data []byte, whole bool) (answered, error) {
	var o answered
	if err := checkClear(data); err != nil {
		return o, err
	}
	var block, key []byte
	seen := map[tlv.Tag][]byte{}
	w := Walk(data)
	for w.Next() {
		x := w.Object()
		if x.Protection != Unmarked || slices.Contains(sensitive, x.Tag) {
			continue
		}
		// Two values of one object: nobody can say which of them the card signed.
		if before, twice := seen[x.Tag]; twice && (travels(x.Tag) || x.Tag == 0x8A || x.Tag == 0x99 || x.Tag == tagPINKSN) {
			if !bytes.Equal(before, x.Value) {
				return answered{}, fmt.Errorf("%w: tag %s has two values", ErrMalformed, x.Tag)
			}
			continue
		}
		seen[x.Tag] = x.Value
		hexed := strings.ToUpper(hex.EncodeToString(x.Value))
		switch x.Tag {
		case 0x9F34:
			o.CVM = hexed
		case 0x95:
			o.TVR = hexed
		case 0x9B:
			o.TSI = hexed
		case 0x9F26:
			o.Cryptogram = hexed
		case 0x9F27:
			o.CID = hexed
		case 0x9F36:
			o.atc = hexed
		case 0x8A:
			if len(x.Value) == 2 {
				o.ARC = clean(x.Value)
			}
		case 0x99:
			block = x.Value
		case tagPINKSN:
			key = x.Value
		}
		if travels(x.Tag) {
			o.Field55 = append(o.Field55, w.Raw()...)
		}
	}
	if w.Err() != nil {
		return answered{}, w.Err()
	}
	if err := s.same(data, whole); err != nil {
		return answered{}, err
	}
	if whole && (len(o.CID) != 2 || len(o.Cryptogram) != 16 || len(o.atc) != 4) {
		return answered{}, fmt.Errorf("%w: no cryptogram", ErrMalformed)
	}
	if len(block) > 0 {
		ksn, err := p2pe.ParseKSN(hex.EncodeToString(key))
		if err != nil || len(key) != 10 && len(key) != 12 || len(block) != 8 && len(block) != 16 {
			return answered{}, fmt.Errorf("%w: PIN without block or KSN", ErrMalformed)
		}
		o.PIN = p2pe.PINBlock{KSN: ksn, Block: append([]byte(nil), block...)}
		if len(block) == 16 {
			o.PIN.Format = 4
		}
		if err := o.PIN.Check(); err != nil {
			return answered{}, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	o.CVMText, o.Signature = cvm(o.CVM)
	return o, nil
}

// travels reports whether an object belongs into field 55: none of the
// reader's own, and nothing of the card's that could be a number.
func travels(t tlv.Tag) bool {
	switch {
	case slices.Contains(dropped, t), t == 0x8A, t == 0x50, t == 0x9F12, t.Constructed():
		return false
	case t>>16 == 0xDFEE, t>>16 == 0xDFEF, t>>16 == 0xDFED, t>>16 == 0xFFEE:
		return false
	case t.Len() > 2:
		return false
	}
	return true
}

// cvm is the method of tag 9F34 in words (Book 3 annex C3).
func cvm(results string) (text string, signature bool) {
	b, err := hex.DecodeString(results)
	if err != nil || len(b) != 3 {
		return "", false
	}
	switch b[0] & 0x3F {
	case 0x02:
		return "online PIN", false
	case 0x01, 0x04:
		return "offline PIN", false
	case 0x03, 0x05:
		return "offline PIN and signature", true
	case 0x1E:
		return "signature", true
	case 0x1F:
		return "no CVM", false
	case 0x3F:
		return "no CVM performed", false
	}
	return "another method", false
}

// same compares amount, other amount, currency, date and time with what was
// asked for.
func (s *session) same(data []byte, whole bool) error {
	t := s.terms
	for _, x := range []struct {
		tag  tlv.Tag
		want uint64
		must bool
	}{
		{0x9F02, uint64(t.Amount), whole},
		{0x5F2A, uint64(t.CurrencyNumeric), whole},
		{0x9F03, uint64(t.Other), whole && t.Other > 0},
		{0x9A, date(t.Time), false},
		{0x9F21, hour(t.Time), false},
		{0x9C, 0, false},
	} {
		v, ok := find(data, x.tag)
		if !ok {
			if x.must {
				return fmt.Errorf("%w: tag %s is missing", ErrAmount, x.tag)
			}
			continue
		}
		if x.tag == 0x9C {
			if len(v) != 1 || v[0] != byte(t.Type) {
				return fmt.Errorf("%w: tag %s differs", ErrAmount, x.tag)
			}
			continue
		}
		if n, err := tlv.Numeric(v); err != nil || n != x.want {
			return fmt.Errorf("%w: tag %s differs", ErrAmount, x.tag)
		}
	}
	return nil
}
