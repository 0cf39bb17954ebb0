package contact

import (
	"bytes"
	"context"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

// Entry is the step at which a recorded fragment of a transaction begins.
type Entry string

// Entries. From each of them the flow goes on to its end.
const (
	EntrySelection Entry = "selection"             // payment system environment, then the list
	EntryPPSE      Entry = "ppse"                  // the contactless directory; contact rules from there on
	EntryList      Entry = "list of applications"  // the terminal's list
	EntryFinal     Entry = "application selection" // final SELECT of Fragment.Names
	EntryInitiate  Entry = "initiate"              // GET PROCESSING OPTIONS with Fragment.Data
	EntryRecords   Entry = "records"               // READ RECORD of Fragment.Files
	EntryAC        Entry = "generate ac"           // GENERATE AC with Fragment.Kind and Data
)

// Fragment says where to enter, and what the steps before would have left.
type Fragment struct {
	Entry Entry
	Names [][]byte // candidates in their order
	Data  []byte   // data of the list that the card asked for (without 83)
	Kind  byte     // P1 of GENERATE AC: AAC, ARQC or TC, and what went with it
	// Files are file and record numbers, read in this order.
	Files [][2]byte
	// Direct: a terminal without directory took an application with the SELECT
	// by which it tried its list, and sent no final one.
	Direct bool
}

// Enter is Read for a recording that does not begin with the beginning: it
// enters the flow at a fragment's step. When the fragment leads to the end of
// Read, Authorize may follow; for EntryAC the outcome is what that one answer
// means. It serves diagnosis; a payment uses Read.
func (s *Session) Enter(ctx context.Context, t emv.Terms, f Fragment) (emv.Card, emv.Outcome, error) {
	ctx, end, err := s.begin(ctx, fresh, "enter")
	if err != nil {
		return emv.Card{}, emv.Outcome{}, err
	}
	defer end()
	s.stage = done
	if err := s.prepare(t); err != nil {
		return emv.Card{}, emv.Outcome{}, err
	}
	s.chosen.terminal = &s.config.Applications[0]
	out, whole, err := s.enter(ctx, f)
	if err != nil || !whole {
		return emv.Card{}, out, err
	}
	if err := s.readAll(ctx); err != nil {
		return emv.Card{}, out, err
	}
	if s.contactless && bytes.HasPrefix(s.chosen.AID, []byte{0xA0, 0, 0, 0, 4}) {
		s.tvr[4] |= relayNotTried
	}
	if err := s.mandatory(); err != nil {
		return emv.Card{}, out, unusable(stepRecords, err, 0)
	}
	card, err := s.describe()
	if err == nil {
		s.stage = read
	}
	return card, out, err
}

// enter does the entry step; whole means that the records come next.
func (s *Session) enter(ctx context.Context, f Fragment) (out emv.Outcome, whole bool, err error) {
	switch f.Entry {
	case EntryPPSE:
		s.contactless = true
		list, err := s.fromPPSE(ctx)
		if err != nil {
			return out, false, err
		}
		return out, true, s.openFrom(ctx, list)
	case EntryList:
		list, err := s.fromList(ctx)
		if err != nil {
			return out, false, err
		}
		rank(list)
		return out, true, s.openFrom(ctx, list)
	case EntryFinal:
		var list []Candidate
		for _, name := range f.Names {
			app := s.supports(name)
			if app == nil {
				app = &s.config.Applications[0]
			}
			list = append(list, Candidate{AID: name, terminal: app})
		}
		return out, true, s.openFrom(ctx, list)
	case EntryInitiate:
		again, err := s.initiate(ctx, f.Data)
		if again {
			err = unusable(stepSelection, ErrNoCandidate, apdu.Conditions)
		}
		return out, true, err
	case EntryRecords:
		for _, r := range f.Files {
			s.locator = append(s.locator, fileEntry{r[0], r[1], r[1], 0})
		}
		return out, true, nil
	case EntryAC:
		// A list of one unknown object as long as the data stands for the real one.
		dol := tlv.DOL{{Tag: fragmentTag, Length: len(f.Data)}}
		s.data.set(fromTransaction, fragmentTag, f.Data)
		s.cdol1, s.cdol2, s.method = dol, dol, oda.None
		s.fragmentP1 = f.Kind &^ typeMask
		out, err := s.firstCryptogram(ctx, f.Kind&typeMask)
		return out, false, err
	}
	s.direct = f.Direct
	return out, true, s.open(ctx)
}

// relayNotTried are the bits of byte 5 by which kernel C-2 says that it did no
// relay resistance (Book C-2, data object 95).
const relayNotTried = 0x01

const fragmentTag tlv.Tag = 0xDF7F

var ppseName = []byte("2PAY.SYS.DDF01")

// fromPPSE reads the contactless directory (Book B section 3.3.2): all
// applications stand in the selection answer itself.
func (s *Session) fromPPSE(ctx context.Context) (list []Candidate, err error) {
	a, err := s.selectName(ctx, ppseName, false)
	if err != nil {
		return nil, err
	}
	if a.Status != apdu.OK {
		return nil, unusable(stepSelection, ErrNoCandidate, a.Status)
	}
	f, ok := parseFCI(a.Data, ppseName)
	if !ok {
		return nil, unusable(stepSelection, ErrFormat, 0)
	}
	for it := tlv.IterDeep(f.proprietary); it.Next(); {
		if it.Tag() != 0x61 {
			continue
		}
		name, ok := tlv.Get(it.Value(), 0x4F)
		if !ok || len(name) < 5 || len(name) > 16 {
			continue
		}
		if app := s.supports(name); app != nil {
			c := Candidate{AID: name, terminal: app}
			c.fill(it.Value())
			c.Confirm = false
			list = append(list, c)
		}
	}
	rank(list)
	return list, nil
}
