package replay

import (
	"bytes"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/contact"
	"tillbridge/emv/tlv"
)

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
