package contact

import (
	"context"
	"errors"

	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

const (
	stepRecords = "records"
	// maxRecords bounds what a locator may name; cards have some ten.
	maxRecords = 256
)

// readAll reads the records that the locator names and keeps those that data
// authentication covers (Book 3 section 10.2).
func (s *Session) readAll(ctx context.Context) error {
	total := 0
	for _, e := range s.locator {
		if total += int(e.last) - int(e.first) + 1; total > maxRecords {
			return unusable(stepRecords, ErrFileLocator, 0)
		}
	}
	for _, e := range s.locator {
		for n := int(e.first); n <= int(e.last); n++ {
			a, err := s.readRecord(ctx, stepRecords, e.sfi, byte(n))
			if s.contactless && e == (fileEntry{1, 1, 1, 0}) && errors.Is(err, ErrNotForwarded) {
				// Book C-2 section 6.6: a reader may leave the mag-stripe file out.
				s.note(stepRecords, "the mag-stripe record is not in the recording", "C-2")
				continue
			}
			if err != nil {
				return err
			}
			if a.Status != apdu.OK {
				return unusable(stepRecords, ErrStatus, a.Status)
			}
			s.records++
			if n-int(e.first) < int(e.signed) {
				s.signed = append(s.signed, oda.Record{SFI: e.sfi, Data: a.Data})
			}
			if err := s.takeRecord(e.sfi, a.Data); err != nil {
				return unusable(stepRecords, err, 0)
			}
		}
	}
	return nil
}

// takeRecord keeps the data of one record. Files 1 to 10 hold one template 70;
// those of files 11 to 30 are the scheme's own, and are read where they look
// like one.
func (s *Session) takeRecord(sfi byte, record []byte) error {
	body, ok := single(record, 0x70)
	if !ok {
		if sfi <= 10 {
			return ErrFormat
		}
		return nil
	}
	if sfi > 10 {
		if _, err := tlv.Parse(body, nil); err != nil {
			return nil
		}
	}
	return s.data.add(body)
}

// mandatory checks what Book 3 section 7.2 demands of every card, and that it
// can be used.
func (s *Session) mandatory() error {
	for _, t := range []tlv.Tag{0x5A, 0x5F24, 0x8C, 0x8D} {
		if len(s.data.card(t)) == 0 {
			return ErrMissing
		}
	}
	pan := s.data.card(0x5A)
	if _, ok := digitsOf(pan); !ok {
		return ErrNumber
	}
	if track := s.data.card(0x57); track != nil && !samePAN(pan, track) {
		return ErrNumber
	}
	if len(s.data.card(0x5F24)) != 3 {
		return ErrFormat
	}
	if seq := s.data.card(0x5F34); seq != nil && len(seq) != 1 {
		return ErrFormat
	}
	var err error
	if s.cdol1, err = tlv.ParseDOL(s.data.card(0x8C)); err != nil {
		return ErrFormat
	}
	if s.cdol2, err = tlv.ParseDOL(s.data.card(0x8D)); err != nil {
		return ErrFormat
	}
	if s.cdol1.Size() > 255 || s.cdol2.Size() > 255 {
		return ErrFormat
	}
	return nil
}

// nibbleAt is digit i of a value in format cn.
func nibbleAt(b []byte, i int) byte {
	if i%2 == 0 {
		return b[i/2] >> 4
	}
	return b[i/2] & 15
}

// digitsOf counts the digits of a card number: 12 to 19, then F alone.
func digitsOf(pan []byte) (n int, ok bool) {
	for n < 2*len(pan) && nibbleAt(pan, n) <= 9 {
		n++
	}
	for i := n; i < 2*len(pan); i++ {
		if nibbleAt(pan, i) != 15 {
			return n, false
		}
	}
	return n, n >= 12 && n <= 19
}

// samePAN compares 5A with the number at the front of track 2 (57).
func samePAN(pan, track []byte) bool {
	n, _ := digitsOf(pan)
	if 2*len(track) <= n || nibbleAt(track, n) != 0x0D {
		return false
	}
	for i := range n {
		if nibbleAt(pan, i) != nibbleAt(track, i) {
			return false
		}
	}
	return true
}

// clearData writes number and track as text for the encrypter.
func (s *Session) clearData() *Clear {
	pan, track := s.data.card(0x5A), s.data.card(0x57)
	n, _ := digitsOf(pan)
	c := &Clear{PAN: make([]byte, 0, 19)}
	for i := range n {
		c.PAN = append(c.PAN, '0'+nibbleAt(pan, i))
	}
	if len(track) > 0 {
		c.Track2 = make([]byte, 0, 40)
		for i := range 2 * len(track) {
			switch d := nibbleAt(track, i); {
			case d <= 9:
				c.Track2 = append(c.Track2, '0'+d)
			case d == 0x0D:
				c.Track2 = append(c.Track2, '=')
			default: // padding ends the track
				return c
			}
		}
	}
	return c
}
