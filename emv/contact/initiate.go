package contact

import (
	"context"

	"tillbridge/emv/apdu"
	"tillbridge/emv/tlv"
)

const stepInitiate = "initiate"

// initiate gives the processing options (Book 3 section 10.1) to the selected
// application. again means that the card refused the conditions of use and the
// next candidate is to be taken: that is no error (Book 4 section 6.3.1).
func (s *Session) initiate(ctx context.Context, options []byte) (again bool, err error) {
	template := tlv.Append(make([]byte, 0, 64), 0x83, options)
	if len(template) > 255 {
		return false, unusable(stepInitiate, ErrFormat, 0)
	}
	a, err := s.reader.send(ctx, stepInitiate, apdu.Command{CLA: 0x80, INS: 0xA8, Data: template, Le: apdu.LeShort})
	switch {
	case err != nil:
		return false, err
	case a.Status == apdu.Conditions:
		s.note(stepInitiate, "the card does not want this application here: the next one is taken", "B3 6.5.8, B4 6.3.1")
		return true, nil
	case a.Status != apdu.OK:
		return false, unusable(stepInitiate, ErrStatus, a.Status)
	}
	s.pdolData = options
	profile, locator, err := parseOptions(a.Data)
	if err != nil {
		return false, unusable(stepInitiate, err, 0)
	}
	s.profile = profile
	if err := s.takeOptions(a.Data); err != nil {
		return false, unusable(stepInitiate, err, 0)
	}
	if s.locator, err = parseLocator(locator); err != nil {
		return false, unusable(stepInitiate, err, 0)
	}
	return false, nil
}

// parseOptions reads format 1 (80) and format 2 (77) of the answer.
func parseOptions(b []byte) (profile [2]byte, locator []byte, err error) {
	if v, ok := single(b, 0x80); ok {
		if len(v) < 6 {
			return profile, nil, ErrFormat
		}
		return [2]byte(v), v[2:], nil
	}
	v, ok := single(b, 0x77)
	if !ok {
		return profile, nil, ErrFormat
	}
	seen := 0
	it := tlv.Iter(v)
	for it.Next() {
		switch it.Tag() {
		case 0x82:
			if len(it.Value()) != 2 {
				return profile, nil, ErrFormat
			}
			profile = [2]byte(it.Value())
			seen |= 1
		case 0x94:
			if locator != nil {
				return profile, nil, ErrDuplicate
			}
			locator = it.Value()
			seen |= 2
		}
	}
	switch {
	case it.Err() != nil:
		return profile, nil, ErrFormat
	case seen != 3:
		return profile, nil, ErrMissing
	}
	return profile, locator, nil
}

// takeOptions keeps the profile, and what else a format 2 answer brings. What
// the selection answer said of them is replaced.
func (s *Session) takeOptions(b []byte) error {
	if v, ok := single(b, 0x77); ok {
		return s.data.add(v)
	}
	return s.data.add(tlv.Append(nil, 0x82, s.profile[:]))
}

// fileEntry is one entry of the application file locator: records of one file,
// the first signed of which go into data authentication.
type fileEntry struct{ sfi, first, last, signed byte }

// parseLocator reads tag 94 (Book 3 section 10.2).
func parseLocator(b []byte) ([]fileEntry, error) {
	if len(b) == 0 || len(b)%4 != 0 || len(b) > 252 {
		return nil, ErrFileLocator
	}
	out := make([]fileEntry, 0, len(b)/4)
	for ; len(b) > 0; b = b[4:] {
		e := fileEntry{b[0] >> 3, b[1], b[2], b[3]}
		if b[0]&7 != 0 || e.sfi < 1 || e.sfi > 30 || e.first == 0 || e.last < e.first || int(e.signed) > int(e.last)-int(e.first)+1 {
			return nil, ErrFileLocator
		}
		out = append(out, e)
	}
	return out, nil
}
