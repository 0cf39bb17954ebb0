package usbport

import "encoding/binary"

// Kinds of descriptor (USB 2.0 table 9-5) and of endpoint (table 9-13).
const (
	kindDevice    = 1
	kindInterface = 4
	kindEndpoint  = 5

	transferBulk      = 2
	transferInterrupt = 3
)

// described lists the interfaces that raw descriptors of a device declare: the
// device's own, then those of its configurations. Only the first setting of an
// interface counts. A descriptor with a length that lies ends the list.
func described(raw []byte) (out []seen) {
	if len(raw) < 18 || raw[0] < 18 || raw[1] != kindDevice {
		return nil
	}
	vid, pid := binary.LittleEndian.Uint16(raw[8:]), binary.LittleEndian.Uint16(raw[10:])
	var now *seen // takes endpoints
	for d := raw[raw[0]:]; len(d) >= 2 && d[0] >= 2 && int(d[0]) <= len(d); d = d[d[0]:] {
		switch {
		case d[1] == kindInterface && d[0] >= 9:
			now = nil
			if d[3] == 0 {
				out = append(out, seen{vid: vid, pid: pid, number: int(d[2]), class: d[5], sub: d[6]})
				now = &out[len(out)-1]
			}
		case d[1] == kindEndpoint && d[0] >= 7 && now != nil:
			want := byte(transferBulk)
			if now.class == classHID {
				want = transferInterrupt
			}
			if d[3]&3 == want {
				now.in = now.in || d[2]&0x80 != 0
				now.out = now.out || d[2]&0x80 == 0
			}
		}
	}
	return out
}
