package p2pe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrKSN is matched by every error of [ParseKSN].
var ErrKSN = errors.New("p2pe: not a key serial number")

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
