package contact

import (
	"context"
	"errors"

	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

const stepODA = "oda"

// defaultDDOL asks for the unpredictable number alone (Book 2 section 6.5.1).
var defaultDDOL = []byte{0x9F, 0x37, 0x04}

// authenticate does offline data authentication (Book 3 section 10.3). A
// failure is a bit for the terminal verification results and never an error.
func (s *Session) authenticate(ctx context.Context) error {
	s.method = oda.Select(s.profile, s.config.Capabilities[2], s.config.Keys.AllowSDA)
	if s.method == oda.None {
		s.tvr.Set(ODANotPerformed)
		s.note(stepODA, "card and terminal share no method", "B3 10.3")
		return nil
	}
	if s.method == oda.SDA {
		s.tvr.Set(SDASelected)
	}
	s.tsi.Set(ODAPerformed)
	err := s.authenticateBy(ctx)
	f, failed := errors.AsType[*oda.Failure](err)
	switch {
	case failed:
		s.tvr[0] |= f.TVR()
		s.authentic = false
		s.note(stepODA, f.Error(), "B2")
		return nil
	case err != nil:
		return err
	}
	s.authentic = true
	s.note(stepODA, s.method.String()+": the chain holds", "B2")
	return nil
}

func (s *Session) authenticateBy(ctx context.Context) error {
	static, err := oda.StaticData(s.method, s.signed, s.data.card(0x9F4A), s.profile[:])
	if err != nil {
		return err
	}
	d := s.chainData(static)
	if s.method == oda.SDA {
		code, err := s.config.Keys.SDA(d)
		if err != nil {
			return err
		}
		s.data.set(fromCard, 0x9F45, append([]byte(nil), code[:]...))
		return nil
	}
	if s.key, err = s.config.Keys.CardKey(s.method, d); err != nil {
		return err
	}
	if s.method == oda.CDA {
		// The signature comes with the cryptogram, over a number that the card
		// has to ask for.
		if !wholeNumber(s.cdol1) {
			return &oda.Failure{Method: s.method, Object: "CDOL1", Reason: oda.ErrNumber}
		}
		return nil
	}
	return s.internalAuthenticate(ctx)
}

func (s *Session) chainData(static []byte) oda.Data {
	return oda.Data{
		AID:    s.chosen.AID,
		Get:    func(t tlv.Tag) ([]byte, bool) { return s.data.from(fromCard, t) },
		Static: static, Date: s.date,
	}
}

// wholeNumber reports whether a list asks for all four bytes of the
// unpredictable number: a signature without it can be replayed.
func wholeNumber(d tlv.DOL) bool {
	for _, e := range d {
		if e.Tag == 0x9F37 && e.Length >= 4 {
			return true
		}
	}
	return false
}

// internalAuthenticate is dynamic data authentication (Book 2 section 6.5).
func (s *Session) internalAuthenticate(ctx context.Context) error {
	fail := func(reason error) error {
		return &oda.Failure{Method: oda.DDA, Object: "dynamic signature", Reason: reason}
	}
	list := s.data.card(0x9F49)
	if list == nil {
		if list = s.chosen.terminal.DDOL; len(list) == 0 {
			list = defaultDDOL
		}
	}
	dol, err := tlv.ParseDOL(list)
	if err != nil || !wholeNumber(dol) || dol.Size() > 255 {
		return fail(oda.ErrNumber)
	}
	terminal := dol.Append(make([]byte, 0, dol.Size()), s.data.lookup)
	a, err := s.reader.send(ctx, stepODA, apdu.Command{INS: 0x88, Data: terminal, Le: apdu.LeShort})
	if err != nil {
		return err
	}
	if a.Status != apdu.OK {
		// Book 4 section 6.3.2: only 9000 goes on; the card is faulty.
		return unusable(stepODA, ErrStatus, a.Status)
	}
	signature, ok := single(a.Data, 0x80)
	if !ok {
		body, whole := single(a.Data, 0x77)
		if signature, ok = find(body, 0x9F4B); !whole || !ok {
			return unusable(stepODA, ErrFormat, 0)
		}
	}
	number, err := s.key.DDA(signature, terminal)
	if err != nil {
		return err
	}
	s.data.set(fromCard, 0x9F4C, number)
	return nil
}

// find is the first element with a tag in a template that can be read to its
// end.
func find(body []byte, tag tlv.Tag) (value []byte, ok bool) {
	it := tlv.Iter(body)
	for it.Next() {
		if it.Tag() == tag && !ok {
			value, ok = it.Value(), true
		}
	}
	return value, ok && it.Err() == nil
}
