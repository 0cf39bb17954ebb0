package abecs

import (
	"bytes"
	"sort"

	"tillbridge/emv/tlv"
)

// candidate is an application that card and pad share.
type candidate struct {
	app      *application
	name     []byte // DF name to select
	label    string
	priority byte // 1 is first, 0 last
}

// find builds the candidate list (Book 1 section 12): the directory, else the
// list of AIDs.
func (k *kernel) find(apps []*application) ([]candidate, error) {
	list, err := k.directory(apps)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if list, err = k.byName(apps); err != nil {
			return nil, err
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i].priority, list[j].priority
		return a != 0 && (b == 0 || a < b)
	})
	if len(list) == 0 {
		return nil, errNoApps
	}
	return list, nil
}

func (k *kernel) directory(apps []*application) ([]candidate, error) {
	dir := "1PAY.SYS.DDF01"
	if k.contactless {
		dir = "2PAY.SYS.DDF01"
	}
	fci, sw, err := k.selectFile([]byte(dir), false)
	if err != nil || sw != 0x9000 {
		return nil, err
	}
	var entries [][]byte
	collect := func(b []byte) {
		it := tlv.IterDeep(b)
		for it.Next() {
			if e := it.Element(); e.Tag == 0x61 {
				entries = append(entries, e.Value)
			}
		}
	}
	if sfi, ok := tlv.Find(fci, 0x88); ok && len(sfi) == 1 && sfi[0] >= 1 && sfi[0] <= 10 {
		for n := byte(1); n <= 32; n++ {
			rec, sw, err := k.send(0x00, 0xB2, n, sfi[0]<<3|4, nil, true)
			if err != nil {
				return nil, err
			}
			if sw != 0x9000 {
				break
			}
			collect(rec)
		}
	} else {
		collect(fci)
	}
	var list []candidate
	for _, e := range entries {
		name, _ := tlv.Find(e, 0x4F)
		a := match(apps, name)
		if a == nil {
			continue
		}
		list = append(list, newCandidate(a, name, e))
	}
	return list, nil
}

// match finds the table's application for a name of the card: the longest AID
// that it begins with.
func match(apps []*application, name []byte) *application {
	var best *application
	for _, a := range apps {
		if len(name) >= len(a.aid) && bytes.HasPrefix(name, a.aid) && (best == nil || len(a.aid) > len(best.aid)) {
			best = a
		}
	}
	return best
}

func newCandidate(a *application, name, data []byte) candidate {
	c := candidate{app: a, name: append([]byte(nil), name...), label: a.label}
	if v, ok := tlv.Find(data, 0x9F12); ok && printable(v) {
		c.label = string(v)
	} else if v, ok := tlv.Find(data, 0x50); ok && printable(v) {
		c.label = string(v)
	}
	if v, ok := tlv.Find(data, 0x87); ok && len(v) == 1 {
		c.priority = v[0] & 0x0F
	}
	return c
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return len(b) > 0
}

func (k *kernel) byName(apps []*application) ([]candidate, error) {
	var list []candidate
	blocked := false
	seen := map[string]bool{}
	for _, a := range apps {
		for again := false; ; again = true {
			fci, sw, err := k.selectFile(a.aid, again)
			if err != nil {
				return nil, err
			}
			if sw == 0x6283 {
				blocked = true
				continue
			}
			if sw != 0x9000 {
				break
			}
			name, ok := tlv.Find(fci, 0x84)
			if !ok || seen[string(name)] {
				break
			}
			seen[string(name)] = true
			list = append(list, newCandidate(a, name, fci))
			if bytes.Equal(name, a.aid) {
				break
			}
		}
	}
	if len(list) == 0 && blocked {
		return nil, errAppBlock
	}
	return list, nil
}

// start selects the candidate finally, gets its processing options and reads
// its records (Book 3 sections 10.1 and 10.2).
func (k *kernel) start(c candidate) error {
	fci, sw, err := k.selectFile(c.name, false)
	if err != nil {
		return err
	}
	if sw == 0x6283 {
		return errAppBlock
	}
	if sw != 0x9000 {
		return statusError(sw)
	}
	k.app, k.label = c.app, c.label
	k.keep(fci)
	k.data[0x9F06] = c.name
	k.data[0x4F] = c.name
	k.terminalData()
	var pdol []byte
	if raw, ok := k.data[0x9F38]; ok {
		d, err := tlv.ParseDOL(raw)
		if err != nil {
			return errData
		}
		pdol = d.Append(nil, k.lookup)
	}
	r, sw, err := k.send(0x80, 0xA8, 0x00, 0x00, tlv.Append(nil, 0x83, pdol), true)
	if err != nil {
		return err
	}
	if sw != 0x9000 {
		return statusError(sw)
	}
	if v, ok := tlv.Get(r, 0x80); ok {
		if len(v) < 2 {
			return errData
		}
		k.data[0x82], k.data[0x94] = v[:2], v[2:]
	} else {
		k.keep(r)
	}
	if len(k.data[0x82]) != 2 || len(k.data[0x94])%4 != 0 {
		return errData
	}
	for afl := k.data[0x94]; len(afl) >= 4; afl = afl[4:] {
		sfi, from, to := afl[0]>>3, afl[1], afl[2]
		if sfi == 0 || sfi > 30 || from == 0 || to < from {
			return errData
		}
		for n := int(from); n <= int(to); n++ {
			rec, sw, err := k.send(0x00, 0xB2, byte(n), sfi<<3|4, nil, true)
			if err != nil {
				return err
			}
			if sw != 0x9000 {
				return errData
			}
			k.keep(rec)
		}
	}
	if k.pan() == "" || k.data[0x8C] == nil && k.data[0x9F26] == nil {
		return errData
	}
	return nil
}
