package replay

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/emv/contact"
	"tillbridge/emv/tlv"
)

// player is the card of a recording.
type player struct {
	list   []Exchange
	used   []bool
	at     int // after the last exchange that was used
	strict bool
	tpdu   bool

	sent, unmatched int
	missing         []string // shown commands without an answer
	last            string   // shown, the last command that was answered
	header          []byte   // of the command whose data a TPDU carries
	owed            int      // how many of them are still to come
	secret          *secrets
}

// Transmit answers as the card did, or not at all.
func (p *player) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.sent++
	data := p.tpdu && p.header != nil && p.owed > 0
	shown := p.show(command, data)
	i := p.find(command)
	if i < 0 {
		p.unmatched++
		p.missing = append(p.missing, shown)
		p.header = nil
		return nil, fmt.Errorf("%w: the recording does not hold it", contact.ErrNotForwarded)
	}
	p.used[i], p.at, p.last = true, i+1, shown
	answer := bytes.Clone(p.list[i].Answer)
	asks := awake(answer)
	switch {
	case !p.tpdu || len(asks) != 1:
		p.header = nil
	case data:
		p.owed -= len(command)
	case len(command) == 5:
		p.header, p.owed = bytes.Clone(command), int(command[4])
	}
	return answer, nil
}

func (p *player) find(command []byte) int {
	if p.strict {
		if p.at < len(p.list) && (len(p.list[p.at].Command) == 0 || bytes.Equal(p.list[p.at].Command, command)) {
			return p.at
		}
		return -1
	}
	for i, e := range p.list {
		if !p.used[i] && len(e.Command) > 0 && bytes.Equal(e.Command, command) {
			return i
		}
	}
	// The same command with another expected length, or with none.
	if c, err := parse(command); err == nil && !p.tpdu {
		for i, e := range p.list {
			if p.used[i] || len(e.Command) == 0 {
				continue
			}
			if r, err := parse(e.Command); err == nil && bytes.Equal(e.Command[:4], command[:4]) && bytes.Equal(r.Data, c.Data) {
				return i
			}
		}
	}
	if len(command) >= 4 && (command[1] == 0xA8 || command[1] == 0xAE) {
		for i, e := range p.list {
			if !p.used[i] && len(e.Command) >= 4 && e.Command[0] == command[0] && e.Command[1] == command[1] {
				return i
			}
		}
	}
	if p.at < len(p.list) && !p.used[p.at] && len(p.list[p.at].Command) == 0 {
		return p.at
	}
	return -1
}

// secrets are what must not be shown: numbers that the card gave in this
// recording, and the lists that ask for what is not public.
type secrets struct {
	numbers [][]byte           // packed, at least six bytes
	hidden  map[byte][]tlv.DOL // by instruction: lists that ask for what is not public
}

// learn looks through the card's answers for numbers and lists.
func learn(list []Exchange) *secrets {
	s := &secrets{hidden: map[byte][]tlv.DOL{}}
	for _, e := range list {
		if len(e.Answer) < 2 {
			continue
		}
		for it := tlv.IterDeep(e.Answer[:len(e.Answer)-2]); it.Next(); {
			v := it.Value()
			switch it.Tag() {
			case 0x5A, 0x57, 0x9F6B:
				if len(v) >= 6 {
					s.numbers = append(s.numbers, v[:6])
				}
			case 0x9F38:
				s.list(0xA8, v)
			case 0x8C, 0x8D:
				s.list(0xAE, v)
			case 0x9F49:
				s.list(0x88, v)
			}
		}
	}
	return s
}

func (s *secrets) list(ins byte, v []byte) {
	dol, err := tlv.ParseDOL(v)
	if err != nil {
		return
	}
	for _, e := range dol {
		if _, known := tlv.Lookup(e.Tag); known && tlv.SensitivityOf(e.Tag) != tlv.Public {
			s.hidden[ins] = append(s.hidden[ins], dol)
			return
		}
	}
}

// empty reports whether nothing but zeros stands where the lists of this
// instruction ask for what is not public.
func (s *secrets) empty(ins byte, command []byte) bool {
	if len(s.hidden[ins]) == 0 {
		return true
	}
	c, err := parse(command)
	if err != nil {
		return false
	}
	data := c.Data
	if v, ok := tlv.Get(data, 0x83); ok && ins == 0xA8 {
		data = v
	}
	fits := false
	for _, d := range s.hidden[ins] {
		if d.Size() != len(data) {
			continue
		}
		fits = true
		rest := data
		for _, e := range d {
			if tlv.SensitivityOf(e.Tag) != tlv.Public && len(bytes.Trim(rest[:e.Length], "\x00")) > 0 {
				return false
			}
			rest = rest[e.Length:]
		}
	}
	return fits
}

// show writes a command for people: data only where no secret can be.
func (p *player) show(command []byte, data bool) string {
	ins := byte(0)
	body := command
	switch {
	case data:
		ins = p.header[1]
	case len(command) < 4:
		return fmt.Sprintf("(%d bytes)", len(command))
	default:
		ins, body = command[1], command[4:]
	}
	open := false
	switch ins {
	case 0xA4, 0xB2, 0xCA, 0xC0, 0x84, 0x82, 0xA8, 0xAE, 0x88:
		open = (data || command[0]&0x0C == 0) && p.secret.empty(ins, command)
	}
	for _, n := range p.secret.numbers {
		open = open && !bytes.Contains(command, n)
	}
	text := strings.ToUpper(hex.EncodeToString(command))
	switch {
	case open || !data && len(body) <= 1:
		return text
	case data:
		return fmt.Sprintf("***(%d bytes)", len(command))
	}
	if _, err := parse(command); err != nil || p.tpdu && len(command) != 5 {
		return fmt.Sprintf("***(%d bytes)", len(command)) // no header to show
	}
	return fmt.Sprintf("%s***(%d bytes)", text[:8], len(body))
}
