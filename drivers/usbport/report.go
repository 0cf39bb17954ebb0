package usbport

// longestInput returns the length in bytes of the longest input report that a
// HID report descriptor declares, with its id where reports have one, or 0 where
// it declares none (HID 1.11 sections 5 and 6.2.2).
//
// A transfer IN ends with a short packet or a full buffer, and a report that
// fills its packets has no short one: the buffer has to be as long as the
// report.
func longestInput(descriptor []byte) int {
	type globals struct{ size, count, id uint32 }
	var g globals
	var saved []globals
	bits := map[uint32]uint64{}
	for d := descriptor; len(d) > 0; {
		if d[0] == 0xFE { // long item: length, tag, data
			if len(d) < 3 {
				break
			}
			d = d[min(len(d), 3+int(d[1])):]
			continue
		}
		n := int(d[0] & 3)
		if n == 3 {
			n = 4
		}
		if len(d) < 1+n {
			break
		}
		value := uint32(0)
		for i := n; i > 0; i-- {
			value = value<<8 | uint32(d[i])
		}
		switch d[0] &^ 3 {
		case 0x74: // report size, in bits
			g.size = value
		case 0x84:
			g.id = value
		case 0x94:
			g.count = value
		case 0xA4:
			if len(saved) < 16 {
				saved = append(saved, g)
			}
		case 0xB4:
			if len(saved) > 0 {
				g, saved = saved[len(saved)-1], saved[:len(saved)-1]
			}
		case 0x80: // input
			bits[g.id] += uint64(g.size) * uint64(g.count)
		}
		d = d[1+n:]
	}
	longest := uint64(0)
	for id, b := range bits {
		bytes := b/8 + (b%8+7)/8
		if bytes > 0 && id != 0 {
			bytes++
		}
		longest = max(longest, bytes)
	}
	if longest > maxReport {
		return 0
	}
	return int(longest)
}

// maxReport is longer than any report: what declares more is no descriptor.
const maxReport = 1 << 16
