package frame

// MaxDC3 is the longest payload of an ABECS packet before stuffing.
const MaxDC3 = 2049

// AppendDC3 appends the ABECS packet of payload: SYN, the payload with 13, 16
// and 17 written as 13 33, 13 36 and 13 37, ETB, and [XModem] over payload and
// ETB, high byte first. The checksum is over the bytes before stuffing and is
// itself never stuffed.
func AppendDC3(dst, payload []byte) []byte {
	crc := XModem.UpdateByte(XModem.Update(XModem.Init(), payload), ByteETB)
	dst = append(dst, ByteSYN)
	for _, b := range payload {
		switch b {
		case ByteDC3, ByteSYN, ByteETB:
			dst = append(dst, ByteDC3, b+0x20)
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, ByteETB, byte(crc>>8), byte(crc))
}

// DC3 decodes what stands on an ABECS line: packets and the control bytes
// between them. The zero value is ready. A SYN inside a packet begins a new
// one: a sender stuffs its own.
type DC3 struct {
	// Max is the longest payload taken; 0 means MaxDC3.
	Max int

	state dc3State
	buf   []byte
	crc   uint16
	high  byte
}

type dc3State byte

const (
	dc3Idle dc3State = iota // between packets
	dc3Hunt                 // after an error: wait for SYN
	dc3Data
	dc3Stuffed // after 13
	dc3CRCHigh
	dc3CRCLow
)

// Payload is the payload of the last Message. It is valid until the next Feed
// or Reset.
func (d *DC3) Payload() []byte { return d.buf }

// Partial reports whether the beginning of a packet was seen and its end not.
func (d *DC3) Partial() bool { return d.state >= dc3Data }

// Reset forgets a half packet and an error.
func (d *DC3) Reset() { d.state, d.buf = dc3Idle, d.buf[:0] }

// Feed takes bytes up to the next event and says how many it took.
func (d *DC3) Feed(p []byte) (n int, ev Event, err error) {
	limit := d.Max
	if limit == 0 {
		limit = MaxDC3
	}
	for n < len(p) {
		b := p[n]
		n++
		switch d.state {
		case dc3Idle, dc3Hunt:
			if b == ByteSYN {
				d.begin()
			} else if d.state == dc3Idle {
				if ev := control(b); ev != None {
					return n, ev, nil
				}
			}
		case dc3Data:
			switch b {
			case ByteSYN:
				d.begin()
			case ByteETB:
				d.crc = XModem.UpdateByte(XModem.Update(XModem.Init(), d.buf), ByteETB)
				d.state = dc3CRCHigh
			case ByteDC3:
				d.state = dc3Stuffed
			default:
				from := n - 1
				for n < len(p) && p[n] != ByteDC3 && p[n] != ByteSYN && p[n] != ByteETB {
					n++
				}
				if !d.add(p[from:n], limit) {
					return n, None, ErrTooLong
				}
			}
		case dc3Stuffed:
			raw := b - 0x20
			if raw != ByteDC3 && raw != ByteSYN && raw != ByteETB {
				if b == ByteSYN {
					d.begin()
				} else {
					d.state = dc3Hunt
				}
				return n, None, ErrStuffing
			}
			d.state = dc3Data
			one := [1]byte{raw}
			if !d.add(one[:], limit) {
				return n, None, ErrTooLong
			}
		case dc3CRCHigh:
			d.high, d.state = b, dc3CRCLow
		case dc3CRCLow:
			if XModem.Final(d.crc) != uint16(d.high)<<8|uint16(b) {
				d.state = dc3Hunt
				return n, None, ErrChecksum
			}
			d.state = dc3Idle
			return n, Message, nil
		}
	}
	return n, None, nil
}

func (d *DC3) begin() { d.state, d.buf = dc3Data, d.buf[:0] }

func (d *DC3) add(run []byte, limit int) bool {
	if len(d.buf)+len(run) > limit {
		d.state = dc3Hunt
		return false
	}
	d.buf = append(d.buf, run...)
	return true
}
