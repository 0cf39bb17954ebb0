package frame

// MaxDLE is the longest APDU of a ZVT frame: two bytes of command, three of
// length, 65535 of data.
const MaxDLE = 2 + 3 + 65535

// AppendDLE appends the ZVT serial frame of an APDU: DLE STX, the APDU with
// every DLE doubled, DLE ETX, and [Kermit] over APDU and ETX, low byte first.
// The checksum is over the bytes before doubling and is itself never doubled.
func AppendDLE(dst, apdu []byte) []byte {
	crc := Kermit.UpdateByte(Kermit.Update(Kermit.Init(), apdu), ByteETX)
	dst = append(dst, ByteDLE, ByteSTX)
	for _, b := range apdu {
		if b == ByteDLE {
			dst = append(dst, ByteDLE)
		}
		dst = append(dst, b)
	}
	return append(dst, ByteDLE, ByteETX, byte(crc), byte(crc>>8))
}

// DLE decodes what stands on a ZVT serial line: frames and the ACK and NAK
// between them. The zero value is ready. DLE STX inside a frame begins a new
// one: a sender doubles its own DLE.
type DLE struct {
	// Max is the longest APDU taken; 0 means MaxDLE.
	Max int

	state dleState
	buf   []byte
	crc   uint16
	low   byte
}

type dleState byte

const (
	dleIdle    dleState = iota // between frames
	dleIdleDLE                 // DLE seen between frames
	dleHunt                    // after an error
	dleHuntDLE
	dleData
	dleDataDLE
	dleCRCLow
	dleCRCHigh
)

// Payload is the APDU of the last Message. It is valid until the next Feed or
// Reset.
func (d *DLE) Payload() []byte { return d.buf }

// Partial reports whether the beginning of a frame was seen and its end not.
func (d *DLE) Partial() bool { return d.state >= dleData || d.state == dleIdleDLE }

// Reset forgets a half frame and an error.
func (d *DLE) Reset() { d.state, d.buf = dleIdle, d.buf[:0] }

// Feed takes bytes up to the next event and says how many it took.
func (d *DLE) Feed(p []byte) (n int, ev Event, err error) {
	limit := d.Max
	if limit == 0 {
		limit = MaxDLE
	}
	for n < len(p) {
		b := p[n]
		n++
		switch d.state {
		case dleIdle, dleHunt:
			switch {
			case b == ByteDLE:
				d.state++ // to the state that has seen the DLE
			case d.state == dleIdle:
				if ev := control(b); ev != None {
					return n, ev, nil
				}
			}
		case dleIdleDLE, dleHuntDLE:
			switch b {
			case ByteSTX:
				d.begin()
			case ByteDLE:
				// The second may be the one that a frame begins with.
			default:
				d.state--
			}
		case dleData:
			if b == ByteDLE {
				d.state = dleDataDLE
				continue
			}
			if !d.add(b, limit) {
				return n, None, ErrTooLong
			}
		case dleDataDLE:
			switch b {
			case ByteDLE:
				d.state = dleData
				if !d.add(b, limit) {
					return n, None, ErrTooLong
				}
			case ByteETX:
				d.crc = Kermit.UpdateByte(d.crc, ByteETX)
				d.state = dleCRCLow
			case ByteSTX:
				d.begin()
			default:
				d.state = dleHunt
				return n, None, ErrStuffing
			}
		case dleCRCLow:
			d.low, d.state = b, dleCRCHigh
		case dleCRCHigh:
			if Kermit.Final(d.crc) != uint16(b)<<8|uint16(d.low) {
				d.state = dleHunt
				return n, None, ErrChecksum
			}
			d.state = dleIdle
			return n, Message, nil
		}
	}
	return n, None, nil
}

func (d *DLE) begin() {
	d.state, d.buf, d.crc = dleData, d.buf[:0], Kermit.Init()
}

func (d *DLE) add(b byte, limit int) bool {
	if len(d.buf) >= limit {
		d.state = dleHunt
		return false
	}
	d.buf = append(d.buf, b)
	d.crc = Kermit.UpdateByte(d.crc, b)
	return true
}
