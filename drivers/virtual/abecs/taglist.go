package abecs

import (
	"tillbridge/emv/tlv"
)

// sensitive tags are never returned to the host.
var sensitive = map[tlv.Tag]bool{0x57: true, 0x5A: true, 0x56: true, 0x9F6B: true, 0x9F1F: true, 0x9F20: true}

// emvData returns the objects that a tag list asks for, as far as there are.
func (k *kernel) emvData(list []byte) []byte {
	var out []byte
	for len(list) > 0 {
		t, n := firstTag(list)
		if n == 0 {
			return out
		}
		list = list[n:]
		if sensitive[t] {
			continue
		}
		if v, ok := k.lookup(t); ok {
			out = tlv.Append(out, t, v)
		}
	}
	return out
}

// firstTag reads the tag that list begins with; n is 0 where there is none.
func firstTag(list []byte) (t tlv.Tag, n int) {
	if len(list) == 0 {
		return 0, 0
	}
	t, n = tlv.Tag(list[0]), 1
	if list[0]&0x1F != 0x1F {
		return t, 1
	}
	for n < len(list) && n < 4 {
		t, n = t<<8|tlv.Tag(list[n]), n+1
		if list[n-1]&0x80 == 0 {
			return t, n
		}
	}
	return 0, 0
}
