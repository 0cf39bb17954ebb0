package contact

import (
	"context"
	"errors"

	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

const stepCVM = "cvm"

// maxEntries bounds the entries of an offline PIN; cards allow three to five.
const maxEntries = 16

// verifyCardholder goes through the CVM list (Book 3 section 10.5).
func (s *Session) verifyCardholder(ctx context.Context) error {
	currency, _ := s.data.from(fromTransaction, 0x5F2A)
	r, err := CVM(CVMData{
		Supported:           s.profile[0]&0x10 != 0,
		List:                s.data.card(0x8E),
		Capabilities:        s.config.Capabilities[1],
		Amount:              s.amounts.Amount,
		ApplicationCurrency: len(currency) == 2 && string(s.data.card(0x9F42)) == string(currency),
		UnattendedCash:      s.config.atm() && (s.terms.Type == 0x01 || s.terms.Type == 0x17),
		ManualCash:          !s.config.atm() && (s.terms.Type == 0x01 || s.terms.Type == 0x17),
		Cashback:            s.amounts.Other > 0,
	}, func(m Method) (PINStatus, error) { return s.enterPIN(ctx, m) })
	if errors.Is(err, ErrCVMList) {
		return unusable(stepCVM, ErrFormat, 0)
	}
	if err != nil {
		return err
	}
	s.tvr.Set(r.Bits...)
	if r.Performed {
		s.tsi.Set(CVMPerformed)
	}
	s.cvm = r
	s.data.set(fromTransaction, 0x9F34, append([]byte(nil), r.Result[:]...))
	s.note(stepCVM, s.cvmText(), "B3 10.5")
	return nil
}

// cvmText is the method in words.
func (s *Session) cvmText() string {
	if !s.cvm.Performed {
		return "no cardholder verification"
	}
	if !s.cvm.Successful {
		return "cardholder verification failed"
	}
	return s.cvm.Method.String()
}

// String is the method in the words of Book 3.
func (m Method) String() string {
	switch m {
	case FailCVM:
		return "fail CVM processing"
	case PlaintextPIN:
		return "plaintext offline PIN"
	case OnlinePIN:
		return "online PIN"
	case PlaintextPINSignature:
		return "plaintext offline PIN and signature"
	case EncipheredPIN:
		return "enciphered offline PIN"
	case EncipheredPINSignature:
		return "enciphered offline PIN and signature"
	case Signature:
		return "signature"
	case NoCVM:
		return "no CVM required"
	}
	return "unknown method"
}

// enterPIN has the pad take a PIN, again as long as the card lets the
// cardholder try (Book 3 sections 10.5.1 and 10.5.2, Book 4 section 6.3.4).
func (s *Session) enterPIN(ctx context.Context, m Method) (PINStatus, error) {
	if s.config.Pad == nil {
		return PINPadNotWorking, nil
	}
	q := PINRequest{Method: m, Tries: -1, Card: s.reader.card, Amounts: s.amounts}
	if m == OnlinePIN {
		a, err := s.config.Pad.EnterPIN(ctx, q)
		if err != nil {
			return 0, s.padError(ctx, err)
		}
		if a.Status != PINVerified || a.Block.Empty() {
			if a.Status == PINVerified || a.Status == PINWrong {
				return PINPadNotWorking, nil // no block came
			}
			return a.Status, nil
		}
		s.pin = a.Block
		return PINVerified, nil
	}
	if v, ok, err := s.reader.getData(ctx, stepCVM, 0x9F17); err != nil {
		return 0, err
	} else if ok && len(v) == 1 {
		if q.Tries = int(v[0]); q.Tries == 0 {
			return PINBlocked, nil
		}
	}
	if m == EncipheredPIN || m == EncipheredPINSignature {
		key, ok := s.pinKey()
		if !ok {
			return PINNoKey, nil
		}
		q.Modulus, q.Exponent = key.Public()
	}
	for range maxEntries {
		if q.Modulus != nil {
			// Each entry needs a number of its own (Book 2 section 7.2).
			a, err := s.reader.send(ctx, stepCVM, apdu.Command{INS: 0x84, Le: apdu.LeShort})
			if err != nil {
				return 0, err
			}
			if a.Status != apdu.OK || len(a.Data) != 8 {
				return PINNoKey, nil
			}
			q.Challenge = a.Data
		}
		a, err := s.config.Pad.EnterPIN(ctx, q)
		if err != nil {
			return 0, s.padError(ctx, err)
		}
		if a.Status != PINWrong {
			return a.Status, nil
		}
		if a.Tries == 0 {
			return PINRejected, nil
		}
		q.Tries = a.Tries
	}
	return PINRejected, nil
}

func (s *Session) padError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return stopped(ctx, stepCVM, err)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Step: stepCVM, Class: classOf(err), Reason: errors.New("PIN entry was ended by the pad"), cause: err}
}

// pinKey is the card's key for PIN encipherment (Book 2 section 7.1): the one
// of its own certificate, else that for data authentication.
func (s *Session) pinKey() (oda.CardKey, bool) {
	if s.data.card(0x9F2D) != nil {
		d := s.chainData(nil)
		d.Get = func(t tlv.Tag) ([]byte, bool) {
			switch t {
			case 0x9F46:
				t = 0x9F2D
			case 0x9F47:
				t = 0x9F2E
			case 0x9F48:
				t = 0x9F2F
			}
			return s.data.from(fromCard, t)
		}
		k, err := s.config.Keys.CardKey(oda.DDA, d)
		return k, err == nil
	}
	if s.key.Size() > 0 {
		return s.key, true
	}
	// The card offers no dynamic authentication or it failed before the key.
	static, err := oda.StaticData(oda.DDA, s.signed, s.data.card(0x9F4A), s.profile[:])
	if err != nil {
		return oda.CardKey{}, false
	}
	k, err := s.config.Keys.CardKey(oda.DDA, s.chainData(static))
	return k, err == nil
}
