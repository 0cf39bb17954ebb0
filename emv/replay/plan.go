package replay

import (
	"bytes"
	"encoding/hex"
	"strings"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/contact"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

// plan is how a recording is replayed: where it is entered, what the terminal
// was, what the issuer said.
type plan struct {
	before   [][]byte // commands ahead of the flow, as recorded
	fragment *contact.Fragment
	terms    emv.Terms
	host     *emv.HostResponse
	apps     []contact.Application
	keys     *oda.Store
	seen     map[tlv.Tag][]byte // the terminal's data as the recording shows them
	numbers  []byte
	verify   [][]byte // VERIFY commands as recorded
	// told: tvr and kind are what the first GENERATE AC carried and asked.
	told bool
	tvr  contact.TVR
	kind byte
}

func hexText(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Instructions of the flow.
const (
	insSelect  = 0xA4
	insOptions = 0xA8
	insRecord  = 0xB2
	insAC      = 0xAE
	insIssuer  = 0x82
	insVerify  = 0x20
	insData    = 0xCA
	insFetch   = 0xC0
	insDynamic = 0x88
	insNumber  = 0x84
)

func newPlan(r Recording, list []Exchange, o *Options) *plan {
	p := &plan{keys: o.Keys, seen: map[tlv.Tag][]byte{}, numbers: r.Numbers}
	p.harvest(r, list, o)
	p.enter(list)
	p.applications(list)
	p.issuer(list)
	p.time()
	return p
}

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

// known are the applications of a terminal that shows no list of its own.
var known = []string{
	"A000000003", "A000000004", "A000000025", "A000000065", "A000000152", "A000000324", "A000000333", "A000000277",
	"A000000651", "A000000042", "A000000359", "A000000121", "A000000384", "A000000524", "A000000228", "A000000154",
	"D276000025", "A000000005",
}

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

// harvest reads the terminal's data out of the recording: what it names
// itself, and what its commands carried for the card's lists.
func (p *plan) harvest(r Recording, list []Exchange, o *Options) {
	put := func(b []byte) {
		it := tlv.NewIterator(b, &tlv.Options{Mode: tlv.ZeroPadding}, false)
		for it.Next() {
			p.seen[it.Tag()] = it.Value()
		}
	}
	put(o.Terminal)
	var pdol, cdol1, cdol2 tlv.DOL
	ac := 0
	for _, e := range list {
		if c, err := parse(e.Command); err == nil {
			switch {
			case c.INS == insOptions && c.CLA == 0x80:
				if v, ok := tlv.Get(c.Data, 0x83); ok {
					p.split(pdol, v)
				}
			case c.INS == insAC && c.CLA == 0x80:
				if ac++; ac == 1 {
					p.split(cdol1, c.Data)
					p.kind = c.P1
					if v := p.seen[0x95]; len(v) == len(p.tvr) {
						p.told, p.tvr = true, contact.TVR(v)
					}
				}
			case c.INS == insVerify && len(c.Data) > 0:
				p.verify = append(p.verify, e.Command)
			}
		}
		if len(e.Answer) < 2 {
			continue
		}
		for it := tlv.IterDeep(e.Answer[:len(e.Answer)-2]); it.Next(); {
			d, err := tlv.ParseDOL(it.Value())
			if err != nil {
				continue
			}
			switch it.Tag() {
			case 0x9F38:
				pdol = d
			case 0x8C:
				cdol1 = d
			case 0x8D:
				cdol2 = d
			}
		}
	}
	p.second(cdol2, list)
	put(r.Terminal)
	if len(r.Date) == 3 {
		p.seen[0x9A] = r.Date
	}
	if len(r.Time) == 3 {
		p.seen[0x9F21] = r.Time
	}
	if v := p.seen[0x9F37]; len(p.numbers) == 0 && len(v) == 4 {
		p.numbers = v
	}
}

// split gives the data of a command to the tags of its list.
func (p *plan) split(d tlv.DOL, data []byte) {
	if d.Size() != len(data) {
		return
	}
	for _, e := range d {
		i, ok := tlv.Lookup(e.Tag)
		if ok && i.Source == tlv.FromTerminal {
			p.seen[e.Tag] = data[:e.Length]
		}
		data = data[e.Length:]
	}
}

// second takes the issuer's part out of the second GENERATE AC.
func (p *plan) second(d tlv.DOL, list []Exchange) {
	ac := 0
	for _, e := range list {
		c, err := parse(e.Command)
		if err != nil || c.INS != insAC || c.CLA != 0x80 {
			continue
		}
		if ac++; ac != 2 || d.Size() != len(c.Data) {
			continue
		}
		data := c.Data
		for _, x := range d {
			switch x.Tag {
			case 0x8A, 0x91:
				p.seen[x.Tag] = data[:x.Length]
			}
			data = data[x.Length:]
		}
	}
}

// issuer is what the commands after the first cryptogram tell of the issuer's
// answer.
func (p *plan) issuer(list []Exchange) {
	ac := 0
	h := emv.HostResponse{Reached: true, Sent: true}
	var before, after [][]byte
	told := false
	for _, e := range list {
		c, err := parse(e.Command)
		if err != nil {
			continue
		}
		switch {
		case c.INS == insAC && c.CLA == 0x80:
			if ac++; ac == 2 {
				told = true
				h.Approved = c.P1&0xC0 == contact.TC
			}
		case ac == 0:
		case c.INS == insIssuer && c.CLA == 0:
			told, h.IssuerAuth = true, c.Data
		case c.INS == insFetch, c.INS == insData, c.INS == insSelect, c.INS == insOptions, c.INS == insRecord:
		case ac == 1:
			before = append(before, e.Command)
		default:
			after = append(after, e.Command)
		}
	}
	if !told && len(before) == 0 {
		return
	}
	if ac < 2 {
		h.Approved = true
	}
	if v := p.seen[0x91]; h.IssuerAuth == nil && len(bytes.Trim(v, "\x00")) > 0 {
		h.IssuerAuth = v
	}
	h.ARC = "05"
	if h.Approved {
		h.ARC = "00"
	}
	if v := p.seen[0x8A]; len(v) == 2 {
		switch string(v) {
		case "Y3", "Z3":
			h = emv.HostResponse{}
		case "\x00\x00":
			h = emv.HostResponse{Sent: true}
		default:
			h.ARC = string(v)
		}
	}
	if h.Reached {
		for _, x := range []struct {
			tag  tlv.Tag
			list [][]byte
		}{{0x71, before}, {0x72, after}} {
			if len(x.list) == 0 {
				continue
			}
			h.Scripts = tlv.AppendTemplate(h.Scripts, x.tag, func(b []byte) []byte {
				for _, c := range x.list {
					b = tlv.Append(b, 0x86, c)
				}
				return b
			})
		}
	}
	p.host = &h
}

// time sets the terms from what was seen.
func (p *plan) time() {
	number := func(t tlv.Tag) int64 {
		if v, ok := p.seen[t]; ok {
			if n, err := tlv.Numeric(v); err == nil {
				return int64(n)
			}
		}
		return 0
	}
	when := day
	if d := number(0x9A); d > 0 {
		clock := number(0x9F21)
		when = time.Date(2000+int(d/10000), time.Month(d/100%100), int(d%100), int(clock/10000), int(clock/100%100), int(clock%100), 0, time.UTC)
	}
	p.terms = emv.Terms{Time: when, Type: emv.TransactionType(first(p.seen[0x9C])), Reference: int(number(0x9F41))}
	p.terms.Amounts = emv.Amounts{
		Amount: number(0x9F02), Other: number(0x9F03), CurrencyNumeric: int(number(0x5F2A)), Exponent: int(first(p.seen[0x5F36]) & 15),
	}
	if v := p.seen[0x81]; len(v) == 4 && p.seen[0x9F02] == nil {
		p.terms.Amount = int64(v[0])<<24 | int64(v[1])<<16 | int64(v[2])<<8 | int64(v[3])
	}
	if p.terms.CurrencyNumeric < 1 || p.terms.CurrencyNumeric > 999 {
		p.terms.CurrencyNumeric = 978
	}
	if p.terms.Exponent > 9 {
		p.terms.Exponent = 0
	}
	p.terms.Other = min(p.terms.Other, p.terms.Amount)
}

func first(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// config is the terminal that the recording shows.
func (p *plan) config(r *replay) contact.Config {
	c := contact.Config{Applications: p.apps, Keys: p.keys, PlaintextPIN: true, UnauthenticatedOffline: true, Random: &numbers{p.numbers}, Pad: &pad{plan: p, card: r.card}}
	if v := p.seen[0x9F33]; len(v) == 3 {
		c.Capabilities, c.NoCapabilities = [3]byte(v), true
		// A terminal that said it does SDA is replayed as one.
		keys := oda.NewStore(oda.Test)
		if p.keys != nil {
			*keys = *p.keys
		}
		keys.AllowSDA = v[2]&0x80 != 0
		c.Keys = keys
	}
	if v := p.seen[0x9F35]; len(v) == 1 {
		c.Type = v[0]
	}
	if v := p.seen[0x9F40]; len(v) == 5 {
		c.Additional = [5]byte(v)
	}
	if v := p.seen[0x9F1A]; len(v) == 2 {
		if n, err := tlv.Numeric(v); err == nil && n <= 999 {
			c.Country = int(n)
		}
	}
	c.ForceOnline = p.told && p.tvr.Has(contact.ForcedOnline)
	if p.told && p.tvr.Has(contact.OnExceptionFile) {
		c.Cards, c.CardKey = listed{}, []byte("replay")
	}
	for t, v := range p.seen {
		switch t {
		// What the kernel computes, or has from the terms.
		case 0x95, 0x9B, 0x9F34, 0x9F37, 0x8A, 0x91, 0x9F02, 0x9F03, 0x81, 0x9F04, 0x5F2A, 0x5F36, 0x9A, 0x9F21, 0x9C, 0x9F06, 0x9F1B, 0x9F09, 0x99, 0x98:
			continue
		}
		if !t.Constructed() {
			c.Data = tlv.Append(c.Data, t, v)
		}
	}
	return c
}

// listed is the exception file of a terminal that said that it holds the card.
type listed struct{}

func (listed) Listed(contact.CardHash) bool             { return true }
func (listed) OfflineTotal(contact.CardHash, int) int64 { return 0 }

// numbers gives the recorded unpredictable numbers, then always the same: a
// replay is no payment, and two replays of a recording shall not differ. Other
// readers of it select nothing at random.
type numbers struct{ left []byte }

func (n *numbers) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0xFF
	}
	if len(b) == 4 {
		copy(b, []byte{0x5E, 0xED, 0x5E, 0xED})
		if len(n.left) >= 4 {
			copy(b, n.left[:4])
			n.left = n.left[4:]
		}
	}
	return len(b), nil
}
