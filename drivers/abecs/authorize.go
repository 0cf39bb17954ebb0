package abecs

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

// Authorize verifies the cardholder and asks for the cryptogram (GOX). A swipe
// has no cryptogram: the host decides, with the PIN that Read took.
func (s *session) Authorize(ctx context.Context, a emv.Amounts) (emv.Outcome, error) {
	var o emv.Outcome
	err := s.step(ctx, "GOX", read, func(ctx context.Context) error {
		if a.Amount != s.terms.Amount || a.Other != s.terms.Other || a.CurrencyNumeric != s.terms.CurrencyNumeric {
			return s.d.fail("GOX", fmt.Errorf("%w: it was read for another one", ErrAmount))
		}
		if s.entry == emv.EntrySwipe {
			o = swipeOutcome(s.pin, s.fallback)
			s.stage = authorized
			return nil
		}
		r, err := s.d.params(ctx, "GOX", true, s.gox(a)...)
		if err != nil {
			return err
		}
		if o, err = s.goxOutcome(r, a); err != nil {
			o = emv.Outcome{}
			return s.d.fail("GOX", err)
		}
		s.stage = authorized
		return nil
	})
	return o, err
}

func swipeOutcome(pin p2pe.PINBlock, fallback bool) emv.Outcome {
	o := emv.Outcome{Decision: emv.OnlineRequest, PIN: pin, CVMText: "online PIN"}
	if pin.Empty() {
		o.Signature, o.CVMText = true, "signature"
	}
	why := "stripe: the host decides"
	if fallback {
		why = "the chip could not be used: stripe, the host decides"
	}
	o.Reasons = []emv.Reason{{Step: "selection", Text: why, Ref: "ABECS 3, GCX"}}
	return o
}

func (s *session) gox(a emv.Amounts) []Param {
	options := []byte("00100") // no PIN bypass
	if s.d.set.ForceOnline {
		options[1] = '1'
	}
	return []Param{
		{Acquirer, []byte(s.acquirer)},
		{Amount, fmt.Appendf(nil, "%012d", a.Amount)},
		{Cashback, fmt.Appendf(nil, "%012d", a.Other)},
		{GOXOptions, options},
		{MethodPIN, []byte("3")},
		{KeyIndex, fmt.Appendf(nil, "%02d", s.d.set.PINSlot)},
		{Terminal, make([]byte, 10)},
		{Type, []byte{byte(s.terms.Type)}},
		{Currency, fmt.Appendf(nil, "%03d", a.CurrencyNumeric)},
		{Timeout, []byte{byte(s.d.set.CustomerWait.Seconds())}},
		{TagList, goxTags},
	}
}

// goxOutcome reads the answer to GOX: decision, signature, PIN, phone.
func (s *session) goxOutcome(r Response, a emv.Amounts) (emv.Outcome, error) {
	res, _ := r.Find(GOXResult)
	if len(res) < 4 {
		return emv.Outcome{}, fmt.Errorf("%w: result of GOX", ErrMalformed)
	}
	data, _ := r.Find(EMVDataOut)
	o, err := s.outcome(data, a)
	if err != nil {
		return o, err
	}
	switch res[0] {
	case '0':
		o.Decision = emv.Approved
	case '1':
		o.Decision = emv.Declined
	case '2':
		o.Decision = emv.OnlineRequest
	default:
		return o, fmt.Errorf("%w: decision of GOX", ErrMalformed)
	}
	if o.CID != "" && o.Decision != emv.Declined && isAAC(o.CID) {
		o.Decision = emv.Declined
		o.Reasons = append(o.Reasons, emv.Reason{Step: "taa", Text: "the card answered AAC although the pad did not decline", Ref: "Book 3 section 9"})
	}
	if o.Decision == emv.Approved && isARQC(o.CID) {
		o.Decision = emv.OnlineRequest
		o.Reasons = append(o.Reasons, emv.Reason{Step: "taa", Text: "the pad reports an approval and the card asked for the host", Ref: "Book 3 section 9"})
	}
	if o.Decision == emv.Approved && o.Cryptogram == "" {
		return o, fmt.Errorf("%w: an offline approval without the card's cryptogram", ErrMalformed)
	}
	o.Signature = res[1] == '1'
	block, _ := r.Find(PINBlock)
	switch {
	case res[2] == '2':
		k, _ := r.Find(PINKSN)
		if len(block) != 8 || len(k) != 10 {
			return o, fmt.Errorf("%w: PIN without block or KSN", ErrMalformed)
		}
		ksn, err := p2pe.ParseKSN(hex.EncodeToString(k))
		if err != nil {
			return o, err
		}
		o.PIN = p2pe.PINBlock{KSN: ksn, Block: append([]byte(nil), block...)}
		o.CVMText = "online PIN"
	case res[2] == '1':
		o.CVMText = "offline PIN"
	case res[3] == '1':
		o.CVMText = "on the phone"
	case o.Signature:
		o.CVMText = "signature"
	default:
		o.CVMText = "no CVM"
	}
	return o, nil
}

// isAAC reports that the cryptogram is a decline (CID, Book 3 section 6.5.5.4).
func isAAC(cid string) bool {
	b, err := hex.DecodeString(cid)
	return err == nil && len(b) == 1 && b[0]&0xC0 == 0
}

// isARQC reports that the cryptogram asks for the host.
func isARQC(cid string) bool {
	b, err := hex.DecodeString(cid)
	return err == nil && len(b) == 1 && b[0]&0xC0 == 0x80
}

// outcome reads what the card and the pad said in data, and checks that it is
// about the amount that was asked for.
func (s *session) outcome(data []byte, a emv.Amounts) (emv.Outcome, error) {
	var o emv.Outcome
	it := tlv.Iter(data)
	for it.Next() {
		t, v := it.Tag(), it.Value()
		text := strings.ToUpper(hex.EncodeToString(v))
		switch t {
		case 0x9F34:
			o.CVM = text
		case 0x95:
			o.TVR = text
		case 0x9B:
			o.TSI = text
		case 0x9F26:
			o.Cryptogram = text
		case 0x9F27:
			o.CID = text
		case 0x8A:
			if len(v) == 2 {
				o.ARC = cleanText(v)
			}
		}
		if t != 0x8A && t != 0x50 && t != 0x9F12 && !slices.Contains(secretTags, t) {
			o.Field55 = append(o.Field55, it.Raw()...)
		}
	}
	if err := it.Err(); err != nil {
		return o, fmt.Errorf("%w: EMV data: %v", ErrMalformed, err)
	}
	if err := s.sameAmount(data, a); err != nil {
		return o, err
	}
	return o, nil
}

// sameAmount compares amount, other amount and currency. A tap in stripe mode
// has no EMV data that could say it.
func (s *session) sameAmount(data []byte, a emv.Amounts) error {
	for _, x := range []struct {
		tag  tlv.Tag
		want int64
		must bool
	}{
		{0x9F02, a.Amount, s.tapKind != "05"},
		{0x9F03, a.Other, false},
		{0x5F2A, int64(a.CurrencyNumeric), false},
	} {
		v, ok := tlv.Find(data, x.tag)
		if !ok {
			if x.must {
				return fmt.Errorf("%w: tag %s is missing", ErrAmount, x.tag)
			}
			continue
		}
		if n, err := tlv.Numeric(v); err != nil || int64(n) != x.want {
			return fmt.Errorf("%w: tag %s differs", ErrAmount, x.tag)
		}
	}
	return nil
}
