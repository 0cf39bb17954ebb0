package abecs

import (
	"strings"
)

// gix answers with what is asked for, or with everything.
func (s *session) gix(c command) answer {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam)
	}
	ids, asked := l.get(inIDList)
	if asked && len(ids)%2 != 0 {
		return fail(statBadParam)
	}
	var a answer
	if !asked {
		for _, id := range gixAll {
			if v := s.pad.info(id); v != nil {
				a.add(id, v)
			}
		}
		return a
	}
	for ; len(ids) >= 2; ids = ids[2:] {
		id := uint16(ids[0])<<8 | uint16(ids[1])
		if v := s.pad.info(id); v != nil {
			a.add(id, v)
		}
	}
	return a
}

var gixAll = []uint16{0x8001, 0x8003, 0x8004, 0x8005, 0x8006, 0x8007, 0x8008, 0x8009, 0x800A, 0x8010, 0x8011,
	0x8012, 0x8013, 0x8020, 0x8021, 0x8030, 0x8031, 0x8032, 0x8033, 0x8034, 0x8035, 0x8036}

// info is one piece of what the pad says of itself; nil means that it has
// none.
func (p *Pad) info(id uint16) []byte {
	str := func(v string) []byte { return []byte(v) }
	slots := func(use string) []byte {
		m := make([]byte, 100)
		for i := range m {
			m[i] = '0'
			if p.vault.has(use, i) {
				m[i] = '1'
			}
		}
		return m
	}
	switch id {
	case 0x8001:
		return str(p.o.Serial)
	case 0x8003:
		return str(p.o.Model + ";16MB")
	case 0x8004:
		return str(p.o.Maker)
	case 0x8005:
		return str("1000000000")
	case 0x8006:
		return str("VIRTUAL 1.0")
	case 0x8007:
		return str("2.12")
	case 0x8008, 0x8009, 0x800A:
		return str("001.00 261130   ")
	case 0x8010, 0x8011, 0x8012, 0x8013:
		return str("VIRTUAL")
	case 0x8020:
		return str("0416")
	case 0x8021:
		return str("064128")
	case 0x8030, 0x8031, 0x8032, 0x8033:
		return []byte(strings.Repeat("0", 100))
	case 0x8034:
		return []byte(strings.Repeat("2", 100))
	case 0x8035:
		return slots("pin")
	case 0x8036:
		return slots("data")
	}
	slot := int(id & 0xFF)
	if slot > 99 {
		return nil
	}
	switch id >> 8 {
	case 0x91:
		if k, ok := p.vault.peek("pin", slot); ok {
			return k
		}
	case 0x92:
		if k, ok := p.vault.peek("data", slot); ok {
			return k
		}
	case 0x93:
		if v, ok := p.vault.version(twoDigits(slot)); ok {
			return str(v)
		}
		if slot == 0 {
			return str("0000000000")
		}
	}
	return nil
}
