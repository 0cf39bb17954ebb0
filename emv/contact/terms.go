package contact

import (
	"slices"

	"tillbridge/emv"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

// prepare fills the store with what the transaction and the terminal bring.
func (s *Session) prepare(t emv.Terms) error {
	s.terms = t
	if len(t.Entries) > 0 && !slices.Contains(t.Entries, emv.EntryContact) {
		return &Error{Step: "read", Reason: ErrTerms}
	}
	if t.Time.IsZero() || t.CurrencyNumeric < 1 || t.CurrencyNumeric > 999 || t.Exponent < 0 || t.Exponent > 9 || t.Reference < 0 {
		return &Error{Step: "read", Reason: ErrTerms}
	}
	n := func(tag tlv.Tag, v int64, size int) {
		b, err := tlv.AppendNumeric(make([]byte, 0, size), uint64(v), size)
		if err == nil {
			s.data.set(fromTransaction, tag, b)
		}
	}
	year, month, day := t.Time.Date()
	hour, minute, second := t.Time.Clock()
	s.date = oda.Date{Year: year, Month: int(month), Day: day}
	n(0x9A, int64(year%100*10000+int(month)*100+day), 3)
	n(0x9F21, int64(hour*10000+minute*100+second), 3)
	n(0x9C, int64(t.Type>>4)*10+int64(t.Type&15), 1)
	if t.Reference > 0 {
		n(0x9F41, int64(t.Reference%100000000), 4)
	}
	n(0x5F2A, int64(t.CurrencyNumeric), 2)
	n(0x5F36, int64(t.Exponent), 1)
	if err := s.setAmounts(t.Amounts); err != nil {
		return err
	}
	if err := s.random(s.unpredictable[:]); err != nil {
		return err
	}
	s.data.set(fromTransaction, 0x9F37, s.unpredictable[:])
	return s.terminal()
}

// terminal begins the terminal's own data anew: what was set for one candidate
// is not the next one's.
func (s *Session) terminal() error {
	s.data.at[fromTerminal] = s.data.at[fromTerminal][:0]
	country, err := tlv.AppendNumeric(nil, uint64(s.config.Country), 2)
	if err != nil {
		return &Error{Step: "read", Reason: ErrConfig}
	}
	s.data.set(fromTerminal, 0x9F1A, country)
	return s.terminalData(s.config.Data)
}

// terminalData takes configured data objects. What the kernel computes or
// takes from elsewhere is left out.
func (s *Session) terminalData(b []byte) error {
	it := tlv.NewIterator(b, &tlv.Options{Mode: tlv.ZeroPadding}, false)
	for it.Next() {
		if !it.Tag().Constructed() {
			s.data.set(fromTerminal, it.Tag(), it.Value())
		}
	}
	if it.Err() != nil {
		return &Error{Step: "read", Reason: ErrConfig}
	}
	s.data.set(fromTerminal, 0x9F33, s.config.Capabilities[:])
	s.data.set(fromTerminal, 0x9F35, []byte{s.config.Type})
	s.data.set(fromTerminal, 0x9F40, s.config.Additional[:])
	return nil
}

const maxAmount = 999_999_999_999

// setAmounts writes the amounts in all their forms. An amount that does not
// fit 9F02, or an other amount above it, is refused: the card would sign
// another one.
func (s *Session) setAmounts(a emv.Amounts) error {
	if a.Amount < 0 || a.Other < 0 || a.Amount > maxAmount || a.Other > a.Amount {
		return &Error{Step: "amounts", Reason: ErrAmount}
	}
	s.amounts = a
	for _, v := range []struct {
		numeric, binary tlv.Tag
		value           int64
	}{{0x9F02, 0x81, a.Amount}, {0x9F03, 0x9F04, a.Other}} {
		b, err := tlv.AppendNumeric(make([]byte, 0, 6), uint64(v.value), 6)
		if err != nil {
			return &Error{Step: "amounts", Reason: ErrAmount}
		}
		s.data.set(fromTransaction, v.numeric, b)
		if v.value <= 0xFFFFFFFF {
			s.data.set(fromTransaction, v.binary, []byte{byte(v.value >> 24), byte(v.value >> 16), byte(v.value >> 8), byte(v.value)})
		} else {
			s.data.set(fromTransaction, v.binary, nil)
		}
	}
	return nil
}

// amountsFit reports whether a list asks for a binary amount that cannot hold
// the value.
func (s *Session) amountsFit(d tlv.DOL) bool {
	for _, e := range d {
		switch {
		case e.Tag == 0x81 && (s.amounts.Amount > 0xFFFFFFFF || short(s.amounts.Amount, e.Length, false)),
			e.Tag == 0x9F04 && (s.amounts.Other > 0xFFFFFFFF || short(s.amounts.Other, e.Length, false)),
			e.Tag == 0x9F02 && short(s.amounts.Amount, e.Length, true),
			e.Tag == 0x9F03 && short(s.amounts.Other, e.Length, true):
			return false
		}
	}
	return true
}

// short reports whether n bytes lose digits of v. The binary forms have four
// bytes and are cut on the right.
func short(v int64, n int, bcd bool) bool {
	if !bcd {
		return n < 4 && v != 0
	}
	for ; n > 0 && v > 0; n-- {
		v /= 100
	}
	return v > 0
}
