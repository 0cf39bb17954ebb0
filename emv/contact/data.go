package contact

import (
	"tillbridge/emv/tlv"
)

// source orders the places that a data object can come from. A data object
// list is filled from the first that has the tag: what belongs to this
// transaction, what the terminal is configured with, what the card said.
type source int

const (
	fromTransaction source = iota
	fromTerminal
	fromCard
	sources
)

type object struct {
	tag   tlv.Tag
	value []byte
}

// data is the data store of one transaction. Values are slices of what came in
// and are never changed.
type data struct {
	at [sources][]object
	// selected is how many of the card's objects come from the selection answer.
	selected int
}

// set puts a value in a place, over one that is there.
func (d *data) set(s source, t tlv.Tag, v []byte) {
	for i := range d.at[s] {
		if d.at[s][i].tag == t {
			d.at[s][i].value = v
			return
		}
	}
	d.at[s] = append(d.at[s], object{t, v})
}

// from looks in one place.
func (d *data) from(s source, t tlv.Tag) ([]byte, bool) {
	for i := range d.at[s] {
		if d.at[s][i].tag == t {
			return d.at[s][i].value, true
		}
	}
	return nil, false
}

// lookup goes through the places in their order (for data object lists and
// for field 55).
func (d *data) lookup(t tlv.Tag) ([]byte, bool) {
	for s := range sources {
		if v, ok := d.from(s, t); ok {
			return v, true
		}
	}
	return nil, false
}

// card is what the card itself gave, nil when it did not.
func (d *data) card(t tlv.Tag) []byte {
	v, _ := d.from(fromCard, t)
	return v
}

// answered are data of the card that only the answer to a command may bring:
// in a record they would stand for an answer that was never given.
func answered(t tlv.Tag) bool {
	switch t {
	case 0x9F26, 0x9F27, 0x9F36, 0x9F13, 0x9F17, 0x9F4B, 0x9F4C, 0x9F45, 0x94:
		return true
	}
	return false
}

// keepable reports whether a record or the answer to GET PROCESSING OPTIONS
// may put a tag in the store: not what is the terminal's or the issuer's to
// say, and not what only another answer may bring.
func keepable(t tlv.Tag) bool {
	if t.Constructed() || answered(t) {
		return false
	}
	i, _ := tlv.Lookup(t)
	return i.Source != tlv.FromTerminal && i.Source != tlv.FromIssuer
}

// add takes the data objects of a record or of the answer to GET PROCESSING
// OPTIONS. A primitive object that one of them gave already ends the
// transaction (Book 3 section 10.2); what the selection answer said is
// replaced.
func (d *data) add(template []byte) error {
	for it := tlv.IterDeep(template); ; {
		if !it.Next() {
			if it.Err() != nil {
				return ErrFormat
			}
			return nil
		}
		t := it.Tag()
		if !keepable(t) {
			continue
		}
		at := d.index(t)
		switch {
		case at < 0:
			d.at[fromCard] = append(d.at[fromCard], object{t, it.Value()})
		case at >= d.selected:
			return ErrDuplicate
		default:
			d.at[fromCard][at].value = it.Value()
			// It now belongs to the records: a second one is a duplicate.
			d.selected--
			d.at[fromCard][at], d.at[fromCard][d.selected] = d.at[fromCard][d.selected], d.at[fromCard][at]
		}
	}
}

// addSelection begins a candidate with what its selection answer holds. Of
// what it says twice the first counts.
func (d *data) addSelection(proprietary []byte) error {
	d.at[fromCard] = d.at[fromCard][:0]
	it := tlv.IterDeep(proprietary)
	for it.Next() {
		if keepable(it.Tag()) && d.index(it.Tag()) < 0 {
			d.at[fromCard] = append(d.at[fromCard], object{it.Tag(), it.Value()})
		}
	}
	d.selected = len(d.at[fromCard])
	if it.Err() != nil {
		return ErrFormat
	}
	return nil
}

func (d *data) index(t tlv.Tag) int {
	for i, o := range d.at[fromCard] {
		if o.tag == t {
			return i
		}
	}
	return -1
}
