package p2pe

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"
)

// ErrKSN is matched by every error of [ParseKSN].
var ErrKSN error = NewFault("keys.serial_number", "p2pe: not a key serial number")

// KSN is a key serial number as the device sent it: 8, 10 bytes (X9.24-1) or
// 12 bytes (X9.24-3), held as upper-case hex. It is public. The zero value is
// "none".
type KSN string

// ParseKSN accepts 16, 20 or 24 hex digits and nothing else. Sixteen digits
// are a ten-byte KSN whose leading FFFF was stripped; it is kept as sent.
func ParseKSN(s string) (KSN, error) {
	switch len(s) {
	case 16, 20, 24:
	default:
		return "", fmt.Errorf("%w: %d characters; it has 16, 20 or 24 hex digits: check the device profile", ErrKSN, len(s))
	}
	if _, err := hex.DecodeString(s); err != nil {
		return "", fmt.Errorf("%w: a character is not a hex digit: check the device profile", ErrKSN)
	}
	return KSN(strings.ToUpper(s)), nil
}

// Bytes returns the raw bytes, big endian as on the wire.
func (k KSN) Bytes() []byte {
	b, _ := hex.DecodeString(string(k))
	return b
}

// KSNOf returns the KSN of raw bytes, big endian. It does not check their
// number: it is for bytes that come from a parser or a key state.
func KSNOf(b []byte) KSN {
	const digits = "0123456789ABCDEF"
	var text [24]byte
	n := 0
	for _, c := range b[:min(len(b), 12)] {
		text[n], text[n+1] = digits[c>>4], digits[c&15]
		n += 2
	}
	return KSN(text[:n])
}

// Scheme returns the key management that a serial number of this length
// belongs to, or "" for one of a wrong length.
func (k KSN) Scheme() Scheme {
	switch len(k) {
	case 16, 20:
		return SchemeTDESDUKPT
	case 24:
		return SchemeAESDUKPT
	}
	return ""
}

// Full returns the KSN with the leading FFFF that some devices strip, so that
// it has 20 or 24 digits.
func (k KSN) Full() KSN {
	if len(k) == 16 {
		return "FFFF" + k
	}
	return k
}

// Counter returns the transaction counter: the last 21 bits of a TDES serial
// number, the last 32 of an AES one. ok is false when k is none.
func (k KSN) Counter() (counter uint32, ok bool) {
	b := k.Bytes()
	if k.Scheme() == "" || len(b)*2 != len(k) {
		return 0, false
	}
	counter = binary.BigEndian.Uint32(b[len(b)-4:])
	if k.Scheme() == SchemeTDESDUKPT {
		counter &= 1<<21 - 1
	}
	return counter, true
}

// Device returns the serial number without its counter: what two machines must
// never share. It is "" when k is none.
func (k KSN) Device() string {
	b := k.Full().Bytes()
	switch len(b) {
	case 10:
		b[7] &= 0xE0
		return string(KSNOf(b[:8]))
	case 12:
		return string(KSNOf(b[:8]))
	}
	return ""
}

// Check reports whether the counter is one that a transaction may use: not
// zero, within the bit rule (ten of 21, sixteen of 32) and not the counter of
// the AES update key. Its errors match [ErrKSN].
func (k KSN) Check() error {
	c, ok := k.Counter()
	if !ok {
		return fmt.Errorf("%w: it has 16, 20 or 24 hex digits: check the device profile", ErrKSN)
	}
	most := 10
	if k.Scheme() == SchemeAESDUKPT {
		most = 16
	}
	switch {
	case c == 0:
		return fmt.Errorf("%w of a transaction: its counter is zero: the device holds a fresh key and has not used it", ErrKSN)
	case k.Scheme() == SchemeAESDUKPT && c == 0xFFFFFFFF:
		return fmt.Errorf("%w of a transaction: its counter is that of the update key", ErrKSN)
	case bits.OnesCount32(c) > most:
		return fmt.Errorf("%w of a transaction: its counter has more than %d bits set, which no device counts through: check the device profile", ErrKSN, most)
	}
	return nil
}
