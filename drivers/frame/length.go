package frame

// Sizer looks at the beginning of a message and says how long the whole
// message is. It returns 0 while head is too short to tell, and an error (that
// matches [ErrLength] or [ErrTooLong]) when no sender writes such a beginning.
type Sizer func(head []byte) (total int, err error)

// SizeZVT is the length of a ZVT APDU: CLASS INSTR LEN, or CLASS INSTR FF and
// two bytes of length, low byte first. It is the framing of ZVT over TCP.
func SizeZVT(head []byte) (int, error) {
	switch {
	case len(head) < 3:
		return 0, nil
	case head[2] != 0xFF:
		return 3 + int(head[2]), nil
	case len(head) < 5:
		return 0, nil
	}
	return 5 + int(head[3]) + int(head[4])<<8, nil
}

// SizePrefix16 is a message behind its length in two bytes, high byte first;
// the length does not count itself (vpcd, many ISO 8583 hosts).
func SizePrefix16(head []byte) (int, error) {
	if len(head) < 2 {
		return 0, nil
	}
	return 2 + int(head[0])<<8 + int(head[1]), nil
}

// SizeCCID is the length of a CCID bulk message: ten bytes of header with the
// length of what follows in bytes 1 to 4, low byte first.
func SizeCCID(head []byte) (int, error) {
	if len(head) < 10 {
		return 0, nil
	}
	n := uint32(head[1]) | uint32(head[2])<<8 | uint32(head[3])<<16 | uint32(head[4])<<24
	if n > 1<<20 {
		return 0, ErrTooLong
	}
	return 10 + int(n), nil
}

// neoTag begins every NEO 2 frame.
const neoTag = "ViVOtech2\x00"

// SizeNEO2 is the length of a NEO 2 frame: tag, two bytes, length in two bytes
// (high byte first), data and two bytes of checksum.
func SizeNEO2(head []byte) (int, error) {
	for i := 0; i < len(neoTag) && i < len(head); i++ {
		if head[i] != neoTag[i] {
			return 0, ErrLength
		}
	}
	if len(head) < 14 {
		return 0, nil
	}
	return 14 + int(head[12])<<8 + int(head[13]) + 2, nil
}

// Length decodes messages that carry their own length. There is no resync
// mark: after an error the stream has to be closed or drained, then Reset.
type Length struct {
	// Size is required.
	Size Sizer
	// Max is the longest message taken; 0 means 65545 bytes.
	Max int

	buf  []byte
	done bool
	bad  error
}

// Payload is the last Message, whole, with its length field. It is valid until
// the next Feed or Reset.
func (d *Length) Payload() []byte { return d.buf }

// Partial reports whether the beginning of a message was seen and its end not.
func (d *Length) Partial() bool { return !d.done && len(d.buf) > 0 }

// Reset forgets a half message and an error.
func (d *Length) Reset() { d.buf, d.done, d.bad = d.buf[:0], false, nil }

// Feed takes bytes up to the end of one message and says how many it took.
// After an error it takes everything and repeats the error until Reset.
func (d *Length) Feed(p []byte) (n int, ev Event, err error) {
	if d.bad != nil {
		return len(p), None, d.bad
	}
	if d.done {
		d.buf, d.done = d.buf[:0], false
	}
	limit := d.Max
	if limit == 0 {
		limit = 65545
	}
	for n < len(p) {
		d.buf = append(d.buf, p[n])
		n++
		total, err := d.Size(d.buf)
		if err == nil && total > limit {
			err = ErrTooLong
		}
		if err != nil {
			d.bad = err
			return len(p), None, err
		}
		if total == 0 {
			continue
		}
		if take := min(total-len(d.buf), len(p)-n); take > 0 {
			d.buf = append(d.buf, p[n:n+take]...)
			n += take
		}
		if len(d.buf) >= total {
			d.done = true
			return n, Message, nil
		}
	}
	return n, None, nil
}
