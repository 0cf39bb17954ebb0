package apdu

import (
	"errors"
	"fmt"
)

// ATR is an answer to reset (ISO/IEC 7816-3 section 8).
type ATR struct {
	Raw []byte
	// Inverse is set for TS 3F.
	Inverse bool
	// TA, TB, TC and TD hold the interface bytes of each group; nil entries are
	// absent. Index 0 is TA1.
	TA, TB, TC, TD []*byte
	Historical     []byte
	// TCK is the check byte, present unless only T=0 is indicated.
	TCK    byte
	HasTCK bool
}

// ErrATR is matched by the errors of [ParseATR] and [ATR.CheckEMV].
var ErrATR = errors.New("apdu: not an acceptable answer to reset")

// ParseATR reads an ATR of 2 to 33 bytes. The check byte must fit and nothing
// may follow.
func ParseATR(b []byte) (ATR, error) {
	bad := func(format string, args ...any) (ATR, error) {
		return ATR{}, fmt.Errorf("%w: %s", ErrATR, fmt.Sprintf(format, args...))
	}
	if len(b) < 2 || len(b) > 33 {
		return bad("%d bytes; it has 2 to 33", len(b))
	}
	a := ATR{Raw: append([]byte(nil), b...)}
	switch b[0] {
	case 0x3B:
	case 0x3F:
		a.Inverse = true
	default:
		return bad("TS is %02X; it is 3B or 3F", b[0])
	}
	off, y, onlyT0 := 2, b[1]>>4, true
	for y != 0 {
		var group [4]*byte
		for i := range group {
			if y&(1<<i) == 0 {
				continue
			}
			if off >= len(b) {
				return bad("it ends inside the interface bytes")
			}
			group[i] = &a.Raw[off]
			off++
		}
		a.TA, a.TB = append(a.TA, group[0]), append(a.TB, group[1])
		a.TC, a.TD = append(a.TC, group[2]), append(a.TD, group[3])
		y = 0
		if td := group[3]; td != nil {
			y = *td >> 4
			onlyT0 = onlyT0 && *td&15 == 0
		}
	}
	n := int(b[1] & 15)
	if off+n > len(b) {
		return bad("it ends inside the %d historical bytes", n)
	}
	a.Historical = a.Raw[off : off+n]
	off += n
	if !onlyT0 {
		if off >= len(b) {
			return bad("the check byte is missing")
		}
		var sum byte
		for _, c := range b[1 : off+1] {
			sum ^= c
		}
		a.TCK, a.HasTCK = b[off], true
		off++
		if sum != 0 {
			return bad("the check byte is wrong")
		}
	}
	if off != len(b) {
		return bad("%d bytes follow its end", len(b)-off)
	}
	return a, nil
}

// Protocol is the first protocol offered, 0 or 1 (T=0 when nothing is said).
func (a ATR) Protocol() int {
	if len(a.TD) > 0 && a.TD[0] != nil {
		return int(*a.TD[0] & 15)
	}
	return 0
}

// Specific reports whether the card is in specific mode (TA2): it speaks one
// protocol, and from its first block on at the speed of TA1 (Fi and Di), which
// is the default 11 where TA1 is absent or TA2 says that the speed is known by
// other means.
func (a ATR) Specific() (protocol int, speed byte, ok bool) {
	if len(a.TA) < 2 || a.TA[1] == nil {
		return 0, 0, false
	}
	speed = 0x11
	if *a.TA[1]&0x10 == 0 && a.TA[0] != nil {
		speed = *a.TA[0]
	}
	return int(*a.TA[1] & 15), speed, true
}

// Offers reports whether a protocol is named, or is T=0 by default.
func (a ATR) Offers(t int) bool {
	named := false
	for _, td := range a.TD {
		if td != nil {
			named = true
			if int(*td&15) == t {
				return true
			}
		}
	}
	return !named && t == 0
}

// t1 returns the interface bytes of the first group for T=1: index 0 TA, 1 TB,
// 2 TC.
func (a ATR) t1(kind int) *byte {
	for i := 1; i < len(a.TD); i++ { // groups from the third byte on (TAi, i > 2)
		if a.TD[i-1] != nil && *a.TD[i-1]&15 == 1 && i >= 2 {
			return [...]*byte{a.TA[i], a.TB[i], a.TC[i]}[kind]
		}
	}
	return nil
}

// IFSC is the card's information field size for T=1 (TA3), 32 by default.
func (a ATR) IFSC() int {
	if b := a.t1(0); b != nil {
		return int(*b)
	}
	return 32
}

// BWI and CWI are the waiting time integers of T=1 (TB3), 4 and 13 by default.
func (a ATR) BWI() int {
	if b := a.t1(1); b != nil {
		return int(*b >> 4)
	}
	return 4
}

// CWI is the character waiting time integer; see [ATR.BWI].
func (a ATR) CWI() int {
	if b := a.t1(1); b != nil {
		return int(*b & 15)
	}
	return 13
}

// CRC reports whether T=1 blocks end with a CRC instead of an LRC (TC3).
func (a ATR) CRC() bool {
	b := a.t1(2)
	return b != nil && *b&1 == 1
}

// CheckEMV says whether a terminal may go on with this ATR (Book 1 section
// 8.3): a known protocol, TB1 of a cold reset, and for T=1 an IFSC of 10 to FE,
// waiting times within EMV's limits and no CRC. warm drops the demand on TB1.
func (a ATR) CheckEMV(warm bool) error {
	bad := func(text string) error { return fmt.Errorf("%w: EMV Book 1 section 8.3: %s", ErrATR, text) }
	if !warm && (len(a.TB) == 0 || a.TB[0] == nil) {
		return bad("TB1 is missing")
	}
	switch a.Protocol() {
	case 0:
		return nil
	case 1:
	default:
		return bad("the first protocol is neither T=0 nor T=1")
	}
	if n := a.IFSC(); n < 0x10 || n > 0xFE {
		return bad("TA3 is out of range")
	}
	if a.t1(1) == nil || a.BWI() > 4 || a.CWI() > 5 {
		return bad("TB3 is missing or out of range")
	}
	if a.CRC() {
		return bad("TC3 asks for a CRC")
	}
	return nil
}
