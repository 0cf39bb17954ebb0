package frame

// MaxSTX is the longest payload that [STX] takes by default.
const MaxSTX = 8192

// AppendSTX appends STX, payload, ETX and the [LRC] over payload and ETX (PAX
// POSLINK, Concert). The payload holds no ETX: nothing is stuffed.
func AppendSTX(dst, payload []byte) []byte {
	dst = append(dst, ByteSTX)
	dst = append(dst, payload...)
	return append(dst, ByteETX, LRC(payload)^ByteETX)
}

// STX decodes STX … ETX LRC frames and the control bytes between them. The
// zero value is ready. An LRC may have any value, also that of a control byte
// or zero.
type STX struct {
	// Max is the longest payload taken; 0 means MaxSTX.
	Max int

	state stxState
	buf   []byte
	lrc   byte
}

type stxState byte

const (
	stxIdle stxState = iota
	stxHunt
	stxData
	stxLRC
)

// Payload is the payload of the last Message. It is valid until the next Feed
// or Reset.
func (d *STX) Payload() []byte { return d.buf }

// Partial reports whether the beginning of a frame was seen and its end not.
func (d *STX) Partial() bool { return d.state >= stxData }

// Reset forgets a half frame and an error.
func (d *STX) Reset() { d.state, d.buf = stxIdle, d.buf[:0] }

// Feed takes bytes up to the next event and says how many it took.
func (d *STX) Feed(p []byte) (n int, ev Event, err error) {
	limit := d.Max
	if limit == 0 {
		limit = MaxSTX
	}
	for n < len(p) {
		b := p[n]
		n++
		switch d.state {
		case stxIdle, stxHunt:
			if b == ByteSTX {
				d.state, d.buf, d.lrc = stxData, d.buf[:0], 0
			} else if d.state == stxIdle {
				if ev := control(b); ev != None {
					return n, ev, nil
				}
			}
		case stxData:
			d.lrc ^= b
			if b == ByteETX {
				d.state = stxLRC
				continue
			}
			if len(d.buf) >= limit {
				d.state = stxHunt
				return n, None, ErrTooLong
			}
			d.buf = append(d.buf, b)
		case stxLRC:
			if b != d.lrc {
				d.state = stxHunt
				return n, None, ErrChecksum
			}
			d.state = stxIdle
			return n, Message, nil
		}
	}
	return n, None, nil
}
