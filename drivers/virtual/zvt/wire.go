package zvt

import "strconv"

// Commands of the protocol, class in the high byte.
const (
	cReply        = 0x8000
	cStatusEnq    = 0x0501
	cRegister     = 0x0600
	cAuthorise    = 0x0601
	cLogOff       = 0x0602
	cCompletion   = 0x060F
	cAborted      = 0x061E
	cRepeat       = 0x0620
	cReserve      = 0x0622
	cPartRelease  = 0x0623
	cBookTotal    = 0x0624
	cRelease      = 0x0625
	cReverse      = 0x0630
	cRefund       = 0x0631
	cEndOfDay     = 0x0650
	cDiagnosis    = 0x0670
	cSetTime      = 0x0691
	cInitialise   = 0x0693
	cAbort        = 0x06B0
	cReadCard     = 0x06C0
	cPrintLine    = 0x06D1
	cPrintBlock   = 0x06D3
	cDisplay      = 0x06E0
	cBaud         = 0x0840
	cStatusInfo   = 0x040F
	cIntermediate = 0x04FF
)

// Result codes and error ids.
const (
	codeOK            = 0x00
	codeNotRegistered = 0x6B
	codeAborted       = 0x6C
	codeCurrency      = 0x6F
	codeFunction      = 0x83
	codeProtocol      = 0x9A
	codeBusy          = 0x9C
	codeSecurity      = 0xA5
	codeReversed      = 0xB4
	codeNoReversal    = 0xB5
	codePreauth       = 0xB7
	codePreauthError  = 0xB8
	codeTooSmall      = 0xC8
	codeBaud          = 0xFD
)

// apdu is one command or reply.
type apdu struct {
	cmd  uint16
	data []byte
}

func (a apdu) reply() bool { return a.cmd == cReply || a.cmd>>8 == 0x84 }

// good reports whether a reply accepts: 80 00, or 84 00.
func (a apdu) good() bool { return a.cmd == cReply || a.cmd == 0x8400 }

func encode(cmd uint16, data []byte) []byte {
	b := []byte{byte(cmd >> 8), byte(cmd)}
	if n := len(data); n < 0xFF {
		b = append(b, byte(n))
	} else {
		b = append(b, 0xFF, byte(n), byte(n>>8))
	}
	return append(b, data...)
}

// decode reads the APDU at the start of b; used is 0 while it is not whole.
func decode(b []byte) (a apdu, used int) {
	if len(b) < 3 {
		return a, 0
	}
	at, n := 3, int(b[2])
	if n == 0xFF {
		if len(b) < 5 {
			return a, 0
		}
		at, n = 5, int(b[3])|int(b[4])<<8
	}
	if len(b) < at+n {
		return a, 0
	}
	return apdu{uint16(b[0])<<8 | uint16(b[1]), append([]byte(nil), b[at:at+n]...)}, at + n
}

// request is what a command of the register carries in bitmaps.
type request struct {
	amount    int64
	hasAmount bool
	currency  int // 0: not said
	receipt   int // -1: not said; 0xFFFF: all open reservations
	service   byte
	tlv       []byte
	hasTLV    bool
	lines     []string // text lines F1 to F8
	time      []byte   // 0C
	date      []byte   // AA
}

// bitmaps reads the bitmaps that a register sends. ok is false for anything
// that cannot be read to its end.
func bitmaps(b []byte) (r request, ok bool) {
	r.receipt = -1
	take := func(n int) []byte {
		if n < 0 || len(b) < n {
			return nil
		}
		v := b[:n:n]
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		var v []byte
		switch {
		case id == 0x04:
			v = take(6)
			n, good := fromBCD(v)
			if v == nil || !good || r.hasAmount {
				return r, false
			}
			r.amount, r.hasAmount = n, true
		case id == 0x49:
			v = take(2)
			n, good := fromBCD(v)
			if v == nil || !good {
				return r, false
			}
			r.currency = int(n)
		case id == 0x87:
			if v = take(2); v == nil {
				return r, false
			}
			if v[0] == 0xFF && v[1] == 0xFF {
				r.receipt = 0xFFFF
				break
			}
			n, good := fromBCD(v)
			if !good {
				return r, false
			}
			r.receipt = int(n)
		case id == 0x03:
			if v = take(1); v == nil {
				return r, false
			}
			r.service = v[0]
		case id == 0x06:
			n, used := berLength(b)
			if used == 0 {
				return r, false
			}
			b = b[used:]
			if v = take(n); v == nil {
				return r, false
			}
			r.tlv, r.hasTLV = v, true
		case id >= 0xF1 && id <= 0xF8:
			if len(b) < 2 || b[0]>>4 != 0xF || b[1]>>4 != 0xF {
				return r, false
			}
			n := int(b[0]&15)*10 + int(b[1]&15)
			b = b[2:]
			if v = take(n); v == nil {
				return r, false
			}
			r.lines = append(r.lines, string(v))
		case id == 0x0C || id == 0xAA:
			if v = take(3); v == nil {
				return r, false
			}
			if id == 0x0C {
				r.time = v
			} else {
				r.date = v
			}
		default:
			n, known := map[byte]int{0x01: 1, 0x02: 1, 0x05: 1, 0x0B: 3, 0x0E: 2, 0x19: 1, 0x29: 4, 0x37: 3, 0x3B: 8, 0x8A: 1, 0xF0: 1, 0xF9: 1}[id]
			if !known || take(n) == nil {
				return r, false
			}
		}
	}
	return r, true
}

func berLength(b []byte) (n, used int) {
	switch {
	case len(b) >= 1 && b[0] < 0x80:
		return int(b[0]), 1
	case len(b) >= 2 && b[0] == 0x81:
		return int(b[1]), 2
	case len(b) >= 3 && b[0] == 0x82:
		return int(b[1])<<8 | int(b[2]), 3
	}
	return 0, 0
}

// object returns the value of a data object of a container, one level deep.
func object(b []byte, tag uint16) ([]byte, bool) {
	for len(b) > 0 {
		t := uint16(b[0])
		b = b[1:]
		if t&0x1F == 0x1F && len(b) > 0 {
			t = t<<8 | uint16(b[0])
			b = b[1:]
		}
		n, used := berLength(b)
		if used == 0 || len(b)-used < n {
			return nil, false
		}
		if t == tag {
			return b[used : used+n], true
		}
		b = b[used+n:]
	}
	return nil, false
}

func fromBCD(b []byte) (int64, bool) {
	var n int64
	for _, x := range b {
		if x>>4 > 9 || x&15 > 9 {
			return 0, false
		}
		n = n*100 + int64(x>>4)*10 + int64(x&15)
	}
	return n, true
}

func toBCD(n int64, bytes int) []byte {
	b := make([]byte, bytes)
	for i := bytes - 1; i >= 0; i-- {
		b[i] = byte(n/10%10)<<4 | byte(n%10)
		n /= 100
	}
	return b
}

// bcdText packs a text of decimal digits.
func bcdText(s string) []byte {
	n, _ := strconv.ParseInt(s, 10, 64)
	return toBCD(n, (len(s)+1)/2)
}

// writer builds the data of a command.
type writer struct{ b []byte }

func (w *writer) put(id byte, v ...byte) { w.b = append(append(w.b, id), v...) }

func (w *writer) llvar(id byte, v []byte) {
	w.b = append(append(w.b, id, 0xF0|byte(len(v)/10), 0xF0|byte(len(v)%10)), v...)
}

func (w *writer) lllvar(id byte, v []byte) {
	w.b = append(append(w.b, id, 0xF0|byte(len(v)/100), 0xF0|byte(len(v)/10%10), 0xF0|byte(len(v)%10)), v...)
}

// tlv appends a data object; as id 06 it is the container itself.
func (w *writer) tlv(tag uint16, v []byte) {
	if tag > 0xFF {
		w.b = append(w.b, byte(tag>>8))
	}
	w.b = append(w.b, byte(tag))
	switch n := len(v); {
	case n < 0x80:
		w.b = append(w.b, byte(n))
	case n <= 0xFF:
		w.b = append(w.b, 0x81, byte(n))
	default:
		w.b = append(w.b, 0x82, byte(n>>8), byte(n))
	}
	w.b = append(w.b, v...)
}
