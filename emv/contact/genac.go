package contact

import (
	"context"
	"crypto/sha1"

	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

const (
	stepAC      = "generate ac"
	combinedBit = 0x10 // P1: with a combined signature
	typeMask    = 0xC0
)

// acAnswer is an answer to GENERATE AC (Book 3 section 6.5.5). Its values
// come from that answer and, under a combined signature, from the signature.
type acAnswer struct {
	kind    byte // AAC, ARQC or TC
	cid     byte
	counter []byte // 9F36
	value   []byte // 9F26, 8 bytes
	iad     []byte // 9F10
}

// rankOf orders cryptogram types: a card may answer with a lower one than was
// asked for, never with a higher one.
func rankOf(kind byte) int {
	switch kind {
	case AAC:
		return 0
	case ARQC:
		return 1
	case TC:
		return 2
	}
	return -1
}

// generate asks for a cryptogram over dol. The verification results must be
// final: the card signs over them. signatureFailed reports a combined
// signature that does not hold; it is no error.
func (s *Session) generate(ctx context.Context, kind byte, dol tlv.DOL, second bool) (c acAnswer, signatureFailed bool, err error) {
	s.data.set(fromTransaction, 0x95, append([]byte(nil), s.tvr[:]...))
	s.data.set(fromTransaction, 0x9B, append([]byte(nil), s.tsi[:]...))
	filled := dol.Append(make([]byte, 0, dol.Size()), s.data.lookup)
	combined := s.method == oda.CDA && s.authentic && kind != AAC
	p1 := kind | s.fragmentP1
	if combined {
		p1 |= combinedBit
	}
	if second {
		s.cdol2Data, s.secondTVR = filled, s.tvr
	} else {
		s.cdol1Data = filled
	}
	s.asked = true
	a, err := s.reader.send(ctx, stepAC, apdu.Command{CLA: 0x80, INS: 0xAE, P1: p1, Data: filled, Le: apdu.LeShort})
	if err != nil {
		return c, false, err
	}
	if a.Status != apdu.OK {
		return c, false, unusable(stepAC, ErrStatus, a.Status)
	}
	var signature, body []byte
	if v, ok := single(a.Data, 0x80); ok {
		if len(v) < 11 || len(v) > 43 {
			return c, false, unusable(stepAC, ErrFormat, 0)
		}
		c.cid, c.counter, c.value, c.iad = v[0], v[1:3], v[3:11], v[11:]
	} else if body, ok = single(a.Data, 0x77); ok {
		if c, signature, err = parseCryptogram(body); err != nil {
			return c, false, unusable(stepAC, err, 0)
		}
	} else {
		return c, false, unusable(stepAC, ErrFormat, 0)
	}
	c.kind = c.cid & typeMask
	if rankOf(c.kind) < 0 || rankOf(c.kind) > rankOf(kind) || second && c.kind == ARQC {
		return c, false, unusable(stepAC, ErrCryptogram, 0)
	}
	if c.value != nil && len(c.value) != 8 || len(c.counter) != 2 {
		return c, false, unusable(stepAC, ErrFormat, 0)
	}
	if combined && c.kind != AAC {
		value, number, why := s.combined(c, signature, body, second)
		if why != nil {
			s.note(stepODA, why.Error(), "B2 6.6.2")
			signatureFailed = true
		} else {
			c.value = value
			s.data.set(fromCard, 0x9F4C, number)
		}
	}
	if c.value == nil && !signatureFailed {
		return c, false, unusable(stepAC, ErrMissing, 0)
	}
	return c, signatureFailed, nil
}

// combined checks a combined signature and takes the cryptogram out of it.
func (s *Session) combined(c acAnswer, signature, body []byte, second bool) (value, number []byte, err error) {
	if signature == nil || body == nil {
		return nil, nil, &oda.Failure{Method: oda.CDA, Object: "dynamic signature", Reason: oda.ErrMissing}
	}
	if second && !wholeNumber(s.cdol2) {
		return nil, nil, &oda.Failure{Method: oda.CDA, Object: "CDOL2", Reason: oda.ErrNumber}
	}
	in := oda.CDAInput{Signed: signature, UN: s.unpredictable[:], CID: c.cid, PDOL: s.pdolData, CDOL1: s.cdol1Data, Response: body}
	if second {
		in.CDOL2 = s.cdol2Data
	}
	r, err := s.key.CDA(in)
	if err != nil {
		return nil, nil, err
	}
	if c.value != nil && string(c.value) != string(r.Cryptogram[:]) {
		return nil, nil, &oda.Failure{Method: oda.CDA, Object: "dynamic signature", Reason: oda.ErrTransaction}
	}
	return append([]byte(nil), r.Cryptogram[:]...), r.Number, nil
}

// parseCryptogram reads the format 2 answer: each object once.
func parseCryptogram(body []byte) (c acAnswer, signature []byte, err error) {
	cid := -1
	it := tlv.Iter(body)
	for it.Next() {
		v := it.Value()
		switch it.Tag() {
		case 0x9F27:
			if cid >= 0 {
				return c, nil, ErrDuplicate
			}
			if len(v) != 1 {
				return c, nil, ErrFormat
			}
			cid = int(v[0])
		case 0x9F36:
			if c.counter != nil {
				return c, nil, ErrDuplicate
			}
			c.counter = v
		case 0x9F26:
			if c.value != nil {
				return c, nil, ErrDuplicate
			}
			c.value = v
		case 0x9F10:
			if c.iad != nil {
				return c, nil, ErrDuplicate
			}
			c.iad = v
		case 0x9F4B:
			if signature != nil {
				return c, nil, ErrDuplicate
			}
			signature = v
		}
	}
	if it.Err() != nil {
		return c, nil, ErrFormat
	}
	if cid < 0 || c.counter == nil {
		return c, nil, ErrMissing
	}
	c.cid = byte(cid)
	return c, signature, nil
}

// keep puts a cryptogram into the store, over the one before: nothing of the
// first one stays beside the second.
func (s *Session) keep(c acAnswer) {
	s.data.set(fromCard, 0x9F27, []byte{c.cid})
	s.data.set(fromCard, 0x9F36, c.counter)
	second := s.cdol2Data != nil
	if c.value != nil || second {
		s.data.set(fromCard, 0x9F26, c.value)
	}
	if c.iad != nil || second {
		s.data.set(fromCard, 0x9F10, c.iad)
	}
}

// certificateHash is the TC hash value (98) that old cards ask for (Book 3
// section 10.7 and Annex A): SHA-1 over the data of the TDOL. It sets the bit
// for the default list, so it comes before the lists are filled.
func (s *Session) certificateHash() error {
	if !s.cdol1.Has(0x98) && !s.cdol2.Has(0x98) {
		return nil
	}
	list := s.data.card(0x97)
	if list == nil {
		if list = s.chosen.terminal.TDOL; len(list) > 0 {
			s.tvr.Set(DefaultTDOLUsed)
		}
	}
	dol, err := tlv.ParseDOL(list)
	if err != nil {
		return ErrFormat
	}
	s.data.set(fromTransaction, 0x95, append([]byte(nil), s.tvr[:]...))
	sum := sha1.Sum(dol.Append(nil, s.data.lookup))
	s.data.set(fromTransaction, 0x98, sum[:])
	return nil
}
