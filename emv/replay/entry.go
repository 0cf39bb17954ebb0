package replay

import (
	"bytes"
	"encoding/hex"
	"strings"

	"tillbridge/emv/apdu"
	"tillbridge/emv/contact"
	"tillbridge/emv/tlv"
)

func (p *plan) entryName() string {
	if p.fragment == nil {
		if len(p.before) > 0 && len(p.before[0]) > 1 {
			switch p.before[0][1] {
			case insVerify:
				return "cardholder verification"
			case insIssuer:
				return "issuer authentication"
			case insDynamic:
				return "dynamic authentication"
			case insData:
				return "data"
			}
		}
		return "transport"
	}
	return string(p.fragment.Entry)
}

// isStep reports whether a recorded command is one at which the flow can be
// entered.
func isStep(c apdu.Command) bool {
	switch c.INS {
	case insSelect:
		return c.P1 == 4
	case insRecord:
		return c.P2&7 == 4 && c.P1 > 0
	case insOptions, insAC:
		return c.CLA == 0x80
	}
	return false
}

// enter finds the first step of the flow.
func (p *plan) enter(list []Exchange) {
	for i, e := range list {
		if len(e.Command) == 0 {
			// Any command: the flow's first one.
			p.fragment = &contact.Fragment{Entry: contact.EntrySelection}
			return
		}
		c, err := parse(e.Command)
		if err != nil || !isStep(c) {
			if c.INS != insFetch || len(p.before) == 0 {
				p.before = append(p.before, e.Command)
			}
			if len(p.before) > 1 && retried(p.before[len(p.before)-2], e.Command) {
				p.before = p.before[:len(p.before)-1]
			}
			continue
		}
		f := contact.Fragment{Data: c.Data}
		switch c.INS {
		case insSelect:
			p.selection(&f, c, list[i:])
		case insRecord:
			f.Entry, f.Files = contact.EntryRecords, files(list[i:])
		case insOptions:
			f.Entry = contact.EntryInitiate
			if v, ok := tlv.Get(c.Data, 0x83); ok {
				f.Data = v
			}
		case insAC:
			f.Entry, f.Kind = contact.EntryAC, c.P1
		}
		p.fragment = &f
		return
	}
}

// retried reports whether b is a again with another Le.
func retried(a, b []byte) bool {
	return len(a) == len(b) && len(a) >= 5 && bytes.Equal(a[:len(a)-1], b[:len(b)-1])
}

// selection tells the directory from the terminal's list and from the final
// selection.
func (p *plan) selection(f *contact.Fragment, c apdu.Command, list []Exchange) {
	switch string(c.Data) {
	case "1PAY.SYS.DDF01":
		f.Entry, f.Direct = contact.EntrySelection, direct(list)
		return
	case "2PAY.SYS.DDF01":
		f.Entry = contact.EntryPPSE
		return
	}
	f.Entry = contact.EntryFinal
	selected := false
	for _, e := range list {
		c, err := parse(e.Command)
		if err != nil || c.INS != insSelect {
			if c.INS == insFetch {
				selected = selected || len(e.Answer) > 2
				continue
			}
			break
		}
		if selected && !retried(list[0].Command, e.Command) || c.P2 == 2 {
			f.Entry = contact.EntryList
		}
		selected = selected || len(e.Answer) > 2
		if !contains(f.Names, c.Data) {
			f.Names = append(f.Names, c.Data)
		}
	}
}

// direct reports whether a terminal went from the SELECT of its list straight
// to the processing options: no name is selected twice.
func direct(list []Exchange) bool {
	var names [][]byte
	went := false
	for _, e := range list {
		c, err := parse(e.Command)
		switch {
		case err != nil:
		case c.INS == insSelect && c.P1 == 4 && c.P2 == 0:
			if contains(names, c.Data) {
				return false
			}
			names = append(names, c.Data)
		case c.INS == insOptions:
			went = true
		}
	}
	return went
}

func contains(list [][]byte, b []byte) bool {
	for _, x := range list {
		if bytes.Equal(x, b) {
			return true
		}
	}
	return false
}

// files are the records that a recording reads in a row.
func files(list []Exchange) (out [][2]byte) {
	for _, e := range list {
		c, err := parse(e.Command)
		if err == nil && c.INS == insFetch {
			continue
		}
		if err != nil || c.INS != insRecord || c.P2&7 != 4 || c.P1 == 0 {
			break
		}
		f := [2]byte{c.P2 >> 3, c.P1}
		if f[0] < 1 || f[0] > 30 {
			break
		}
		if len(out) == 0 || out[len(out)-1] != f {
			out = append(out, f)
		}
	}
	return out
}

// parse reads a command; a T=0 header without data reads as well.
func parse(b []byte) (apdu.Command, error) { return apdu.ParseCommand(b) }

// applications is the terminal's list: the names that the recording selects.
func (p *plan) applications(list []Exchange) {
	next := map[string]bool{}
	var names, found [][]byte // found behind a partial name
	for i, e := range list {
		c, err := parse(e.Command)
		if err == nil && c.INS == insSelect && len(c.Data) >= 5 {
			for _, later := range list[i:] { // the answer may be fetched
				if l, err := parse(later.Command); err == nil && later.Answer != nil && (&later.Command[0] == &e.Command[0] || l.INS == insFetch) {
					if v, ok := tlv.Find(later.Answer, 0x84); ok && len(v) > len(c.Data) && bytes.HasPrefix(v, c.Data) {
						found = append(found, v)
					}
					continue
				}
				break
			}
		}
		if err == nil && contains(found, c.Data) {
			continue
		}
		if err != nil || c.INS != insSelect || c.P1 != 4 || len(c.Data) < 5 || len(c.Data) > 16 || strings.HasSuffix(string(c.Data), "PAY.SYS.DDF01") {
			continue
		}
		if c.P2 == 2 {
			next[string(c.Data)] = true
		}
		if !contains(names, c.Data) {
			names = append(names, c.Data)
		}
	}
	for _, n := range names {
		// A terminal that asks for no further occurrence takes the name as it is.
		p.add(n, !next[string(n)])
	}
	if len(names) == 0 || p.fragment != nil && p.fragment.Entry == contact.EntryPPSE {
		for _, n := range known {
			b, _ := hex.DecodeString(n)
			p.add(b, false)
		}
	}
}

func (p *plan) add(aid []byte, exact bool) {
	app := contact.Application{AID: aid, Exact: exact, Risk: contact.RiskConfig{FloorLimit: 1 << 40}, Version: [2]byte{0, 2}}
	if v := p.seen[0x9F09]; len(v) == 2 {
		app.Version = [2]byte(v)
	}
	if v := p.seen[0x9F1B]; len(v) == 4 {
		app.Risk.FloorLimit = int64(v[0])<<24 | int64(v[1])<<16 | int64(v[2])<<8 | int64(v[3])
	}
	// The terminal's limits and action codes are not in a recording. Those are
	// taken that explain what it said and asked.
	if p.told {
		switch {
		case p.tvr.Has(contact.FloorLimitExceeded):
			app.Risk.FloorLimit = 0
		case p.tvr.Has(contact.RandomlySelected):
			app.Risk.TargetPercent, app.Risk.MaxTargetPercent = 99, 99
		}
		switch p.kind & 0xC0 {
		case contact.ARQC:
			app.TACOnline = p.tvr
		case contact.AAC:
			app.TACDenial = p.tvr
		}
	}
	p.apps = append(p.apps, app)
}
