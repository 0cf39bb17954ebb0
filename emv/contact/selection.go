package contact

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/tlv"
)

// Candidate is an application that card and terminal share.
type Candidate struct {
	AID       []byte // the card's name of it
	Label     string // 50, printable ASCII
	Preferred string // 9F12 when its code table is ISO 8859-1, printable ASCII
	// Priority is 1 (first) to 15; 0 when the card gives none.
	Priority int
	// Confirm: the cardholder has to confirm the choice.
	Confirm  bool
	terminal *Application
}

// Name is what is shown: the preferred name, else the label, else nothing.
func (c Candidate) Name() string {
	if c.Preferred != "" {
		return c.Preferred
	}
	return c.Label
}

const (
	stepSelection = "selection"
	// maxDirectory bounds the records of a directory, and maxNames the
	// applications behind one partial name: a card without end is cut off.
	maxDirectory = 32
	maxNames     = 16
)

var pseName = []byte("1PAY.SYS.DDF01")

// candidates builds the list (Book 1 section 12.3): by the payment system
// environment, else by the terminal's list.
func (s *Session) candidates(ctx context.Context) ([]Candidate, error) {
	list, err := s.fromPSE(ctx)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && s.direct {
		for i := range s.config.Applications {
			list = append(list, Candidate{AID: s.config.Applications[i].AID, terminal: &s.config.Applications[i]})
		}
		return list, nil
	}
	if len(list) == 0 {
		if list, err = s.fromList(ctx); err != nil {
			return nil, err
		}
	}
	rank(list)
	return list, nil
}

// rank sorts by priority; what has none comes last, in the card's order.
func rank(list []Candidate) {
	key := func(c Candidate) int {
		if c.Priority == 0 {
			return 16
		}
		return c.Priority
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return key(a) - key(b) })
}

// fromPSE reads the directory (Book 1 section 12.3.2). No list and no error
// means: go on with the terminal's own list.
func (s *Session) fromPSE(ctx context.Context) ([]Candidate, error) {
	a, err := s.selectName(ctx, pseName, false)
	switch {
	case err != nil:
		return nil, err
	case a.Status == apdu.NotSupported:
		return nil, unusable(stepSelection, ErrBlocked, a.Status)
	case a.Status != apdu.OK:
		s.note(stepSelection, "no payment system environment (status "+a.Status.String()+"): the terminal's list is tried", "B1 12.3.2")
		return nil, nil
	}
	fci, ok := parseFCI(a.Data, pseName)
	if !ok || len(fci.sfi) != 1 || fci.sfi[0] < 1 || fci.sfi[0] > 10 {
		s.note(stepSelection, "the payment system environment cannot be read: the terminal's list is tried", "B1 12.3.2")
		return nil, nil
	}
	var list []Candidate
	for n := byte(1); n <= maxDirectory; n++ {
		r, err := s.readRecord(ctx, stepSelection, fci.sfi[0], n)
		if err != nil {
			return nil, err
		}
		if r.Status == apdu.RecordNotFound {
			break
		}
		if r.Status != apdu.OK {
			s.note(stepSelection, "the directory ends with status "+r.Status.String()+": the terminal's list is tried", "B1 12.3.2")
			return nil, nil
		}
		more, ok := s.directory(r.Data)
		if !ok {
			s.note(stepSelection, "a directory record cannot be read: the terminal's list is tried", "B1 12.3.2")
			return nil, nil
		}
		list = append(list, more...)
	}
	return list, nil
}

// directory takes the applications of one record (Book 1 section 12.2.3).
func (s *Session) directory(record []byte) (list []Candidate, ok bool) {
	body, ok := single(record, 0x70)
	if !ok {
		return nil, false
	}
	it := tlv.Iter(body)
	for it.Next() {
		if it.Tag() != 0x61 {
			continue
		}
		entry := it.Value()
		name, ok := tlv.Get(entry, 0x4F)
		if !ok || len(name) < 5 || len(name) > 16 {
			continue
		}
		if app := s.supports(name); app != nil {
			c := Candidate{AID: name, terminal: app}
			c.fill(entry)
			list = append(list, c)
		}
	}
	return list, it.Err() == nil
}

// supports finds the terminal's application for a card's name.
func (s *Session) supports(name []byte) *Application {
	for i := range s.config.Applications {
		app := &s.config.Applications[i]
		if bytes.Equal(app.AID, name) || !app.Exact && bytes.HasPrefix(name, app.AID) {
			return app
		}
	}
	return nil
}

// fromList tries each name of the terminal (Book 1 section 12.3.3).
func (s *Session) fromList(ctx context.Context) ([]Candidate, error) {
	var list []Candidate
	for i := range s.config.Applications {
		app := &s.config.Applications[i]
		next := false
		for range maxNames {
			a, err := s.selectName(ctx, app.AID, next)
			if err != nil {
				return nil, err
			}
			if a.Status == apdu.NotSupported && !next {
				return nil, unusable(stepSelection, ErrBlocked, a.Status)
			}
			if a.Status != apdu.OK && !(a.Status.Warning() && len(a.Data) > 0) {
				break
			}
			fci, ok := parseFCI(a.Data, nil)
			if !ok || !bytes.HasPrefix(fci.name, app.AID) {
				break
			}
			full := len(fci.name) == len(app.AID)
			switch {
			case !full && app.Exact:
			case a.Status == apdu.Invalidated:
				s.note(stepSelection, "an application of the card is blocked", "B1 12.3.3")
			case a.Status == apdu.OK && !slices.ContainsFunc(list, func(c Candidate) bool { return bytes.Equal(c.AID, fci.name) }):
				c := Candidate{AID: fci.name, terminal: app}
				c.fill(fci.proprietary)
				list = append(list, c)
			}
			if full || app.Exact {
				break
			}
			next = true
		}
	}
	return list, nil
}

// fill takes label, name and priority of a directory entry or a selection
// answer.
func (c *Candidate) fill(template []byte) {
	if v, ok := tlv.Get(template, 0x50); ok {
		c.Label = printable(v)
	}
	// A name in another code table than 8859-1 cannot be shown.
	if table, ok := tlv.Get(template, 0x9F11); !ok || len(table) == 1 && table[0] == 1 {
		if v, ok := tlv.Get(template, 0x9F12); ok {
			c.Preferred = printable(v)
		}
	}
	if v, ok := tlv.Get(template, 0x87); ok && len(v) == 1 {
		c.Priority, c.Confirm = int(v[0]&0x0F), v[0]&0x80 != 0
	}
}

// choose picks a candidate and says where it is in the list (Book 1 section
// 12.4).
func (s *Session) choose(ctx context.Context, list []Candidate) (int, error) {
	if s.config.Choose != nil && (len(list) > 1 || list[0].Confirm) {
		i, err := s.config.Choose.ChooseApplication(ctx, list)
		if err != nil {
			return 0, &Error{Step: stepSelection, Class: classOf(err), Reason: errors.New("no application was chosen"), cause: err}
		}
		if i < 0 || i >= len(list) {
			return 0, &Error{Step: stepSelection, Reason: ErrConfig}
		}
		return i, nil
	}
	// Nobody can confirm: only what needs no confirmation may be taken.
	for i, c := range list {
		if !c.Confirm {
			return i, nil
		}
	}
	return 0, unusable(stepSelection, ErrNoCandidate, 0)
}

// classOf keeps a callback's cancellation apart from its faults.
func classOf(err error) error {
	for _, class := range []error{emv.ErrCancelled, emv.ErrNoCard, emv.ErrCardRemoved} {
		if errors.Is(err, class) {
			return class
		}
	}
	return nil
}

// fci is what a selection answer holds (Book 1 section 11.3.4).
type fci struct {
	name, proprietary, sfi []byte
}

// parseFCI reads a selection answer; want, when given, is the name that it
// must have.
func parseFCI(b, want []byte) (f fci, ok bool) {
	body, ok := single(b, 0x6F)
	if !ok {
		return f, false
	}
	for it := tlv.Iter(body); ; {
		if !it.Next() {
			if it.Err() != nil {
				return f, false
			}
			break
		}
		switch it.Tag() {
		case 0x84:
			f.name = it.Value()
		case 0xA5:
			f.proprietary = it.Value()
		}
	}
	inner := tlv.IterDeep(f.proprietary)
	for inner.Next() {
		if inner.Tag() == 0x88 && f.sfi == nil {
			f.sfi = inner.Value()
		}
	}
	if inner.Err() != nil || len(f.name) < 5 || len(f.name) > 16 || want != nil && !bytes.Equal(f.name, want) {
		return f, false
	}
	return f, true
}

// single returns the value of the one element of b, which must have this tag
// and may have padding around it.
func single(b []byte, tag uint32) ([]byte, bool) {
	it := tlv.Iter(b)
	if !it.Next() || it.Tag() != tlv.Tag(tag) {
		return nil, false
	}
	v := it.Value()
	if it.Next() || it.Err() != nil {
		return nil, false
	}
	return v, true
}

// printable keeps the ASCII of a text.
func printable(v []byte) string {
	out := make([]byte, 0, 16)
	for _, b := range v {
		if b >= 0x20 && b < 0x7F && len(out) < 16 {
			out = append(out, b)
		}
	}
	return string(bytes.TrimSpace(out))
}

func (s *Session) selectName(ctx context.Context, name []byte, next bool) (apdu.Response, error) {
	p2 := byte(0)
	if next {
		p2 = 2
	}
	return s.reader.send(ctx, stepSelection, apdu.Command{INS: 0xA4, P1: 4, P2: p2, Data: name, Le: apdu.LeShort})
}

func (s *Session) readRecord(ctx context.Context, step string, sfi, n byte) (apdu.Response, error) {
	return s.reader.send(ctx, step, apdu.Command{INS: 0xB2, P1: n, P2: sfi<<3 | 4, Le: apdu.LeShort})
}
