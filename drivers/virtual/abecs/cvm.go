package abecs

import (
	"bytes"
)

// cvm walks the list (Book 3 section 10.5). pinBypass is not offered.
func (k *kernel) cvm(amount int64) {
	result := func(rule, cond, res byte) { k.data[0x9F34] = []byte{rule, cond, res} }
	if k.contactless {
		switch {
		case amount > k.app.ctlsCVM && k.app.caps[1]&0x40 != 0:
			k.pinAsk = true
			result(0x42, 0x00, 0x00)
			k.set(2, 0x04)
		default:
			result(0x1F, 0x00, 0x02)
		}
		k.tsi[0] |= 0x40
		return
	}
	list := k.data[0x8E]
	if k.data[0x82][0]&0x10 == 0 || len(list) < 10 || len(list)%2 != 0 {
		result(0x3F, 0x00, 0x00)
		if k.data[0x82][0]&0x10 != 0 {
			k.set(0, 0x20) // ICC data missing
		}
		return
	}
	k.tsi[0] |= 0x40
	num := func(b []byte) int64 { return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3]) }
	x, y := num(list[:4]), num(list[4:8])
	kind := k.data[0x9C][0]
	for rules := list[8:]; len(rules) >= 2; rules = rules[2:] {
		rule, cond := rules[0], rules[1]
		sameCurrency := bytes.Equal(k.data[0x9F42], k.data[0x5F2A])
		ok := false
		switch cond {
		case 0x00:
			ok = true
		case 0x01:
			ok = kind == 0x01 && k.app.terminalType&0x0F > 3
		case 0x02:
			ok = kind != 0x01 && kind != 0x09
		case 0x03:
			ok = k.supports(rule)
		case 0x04:
			ok = kind == 0x01
		case 0x05:
			ok = kind == 0x09
		case 0x06:
			ok = sameCurrency && amount < x
		case 0x07:
			ok = sameCurrency && amount > x
		case 0x08:
			ok = sameCurrency && amount < y
		case 0x09:
			ok = sameCurrency && amount > y
		}
		if !ok {
			continue
		}
		if k.supports(rule) {
			switch rule & 0x3F {
			case 0x02:
				k.pinAsk = true
				k.set(2, 0x04)
				result(rule, cond, 0x00)
				return
			case 0x1E:
				k.sign = true
				result(rule, cond, 0x00)
				return
			case 0x1F:
				result(rule, cond, 0x02)
				return
			}
		} else if m := rule & 0x3F; m == 0x01 || m == 0x04 {
			k.set(2, 0x10) // PIN entry required, pad does not do it
		}
		if rule&0x40 == 0 {
			result(rule, cond, 0x01)
			k.set(2, 0x80)
			return
		}
	}
	result(0x3F, 0x00, 0x01)
	k.set(2, 0x80)
}

// supports reports whether the pad's capabilities (9F33) hold a method.
func (k *kernel) supports(rule byte) bool {
	caps := k.app.caps
	if len(caps) != 3 {
		return false
	}
	switch rule & 0x3F {
	case 0x02:
		return caps[1]&0x40 != 0
	case 0x1E:
		return caps[1]&0x20 != 0
	case 0x1F:
		return caps[1]&0x08 != 0
	}
	return false // offline PIN in any form: not in this pad
}
