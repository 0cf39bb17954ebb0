package ccid

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"tillbridge/drivers"
	"tillbridge/emv/apdu"
)

// ErrPIN says that a command would carry a PIN past this program. It matches
// drivers.ErrRefused.
var ErrPIN error = pinError{}

type pinError struct{}

func (pinError) Error() string {
	return "ccid: refused: a PIN does not pass through this program; use a reader that takes it on its own keypad, or online PIN"
}
func (pinError) Is(target error) bool { return target == drivers.ErrRefused }

// encipheredPIN is the P2 of a VERIFY whose data is an RSA block (Book 3
// section 6.5.12); no such block is shorter than the shortest modulus.
const encipheredPIN, shortestBlock = 0x88, 64

// guard refuses commands with a PIN in the clear: VERIFY, CHANGE REFERENCE
// DATA, RESET RETRY COUNTER in both codings (ISO/IEC 7816-4 sections 11.6.6 to
// 11.6.8), of any class and channel, also inside ENVELOPE. Those without data
// only ask for the tries left.
func guard(command []byte) error { return guardDepth(command, 0) }

func guardDepth(command []byte, depth int) error {
	c, err := apdu.ParseCommand(command)
	if err != nil {
		return err
	}
	switch c.INS &^ 1 {
	case 0x20:
		if len(c.Data) == 0 || c.INS == 0x20 && c.P2 == encipheredPIN && len(c.Data) >= shortestBlock {
			return nil
		}
		return ErrPIN
	case 0x24, 0x2C:
		if len(c.Data) == 0 {
			return nil
		}
		return ErrPIN
	case 0xC2: // ENVELOPE: what it carries, when it is a command by itself
		if depth < 4 && len(c.Data) >= 4 {
			if err := guardDepth(c.Data, depth+1); errors.Is(err, ErrPIN) {
				return err
			}
		}
	}
	return nil
}

// CardData marks what may be card data in recorded messages, one or several
// behind one another: everything that the card said but its answer to reset and
// bare status words, and everything behind the first four bytes of what it was
// sent.
func (Driver) CardData(fromDevice bool, wire []byte) []drivers.Span {
	var spans []drivers.Span
	for at := 0; at < len(wire); {
		rest := wire[at:]
		if fromDevice && len(rest) > 2 && rest[0] == NotifySlotChange && rest[2]&0xF0 == 0x80 {
			at += 2 // of one slot, with an answer behind it
			continue
		}
		n := len(rest)
		if n > headerLen && typeName(rest[0]) != "" {
			if said := uint64(binary.LittleEndian.Uint32(rest[1:5])); said < uint64(n-headerLen) && (said > 0 || rest[0] != Parameters) {
				n = headerLen + int(said)
			}
		}
		for _, s := range cardData(fromDevice, rest[:n]) {
			spans = append(spans, drivers.Span{Start: at + s.Start, End: at + s.End})
		}
		at += n
	}
	return spans
}

// cardData is CardData of one message.
func cardData(fromDevice bool, wire []byte) []drivers.Span {
	if len(wire) <= headerLen {
		return nil
	}
	start := headerLen
	switch data := wire[headerLen:]; {
	case !fromDevice && (wire[0] == XfrBlock || wire[0] == Secure || wire[0] == Escape):
		if !continues(wire[8]) {
			start += 4
		}
	case !fromDevice && wire[0] == SetParameters && len(data) <= 7, wire[0] == Parameters && len(data) <= 7, wire[0] == DataRate && len(data) <= 8:
		return nil
	case wire[0] == DataBlock:
		if _, err := apdu.ParseATR(data); err == nil || len(data) <= 2 {
			return nil
		}
	case fromDevice && typeName(wire[0]) == "": // no message: it may begin anywhere
		start = 0
	}
	if start >= len(wire) {
		return nil
	}
	return []drivers.Span{{Start: start, End: len(wire)}}
}

// continues reports whether a piece of a chained command begins with its data.
func continues(level byte) bool { return level == ChainEnd || level == ChainMiddle }

// Describe says what a recorded message means, without its data.
func (Driver) Describe(fromDevice bool, wire []byte) []string {
	if fromDevice {
		if n, err := ParseNotification(wire); err == nil {
			if n.Type == HardwareError {
				return []string{fmt.Sprintf("hardware error of slot %d: %02X", n.Slot, n.Code)}
			}
			present, _ := n.Present(0)
			return []string{map[bool]string{true: "card inserted", false: "card removed"}[present]}
		}
	}
	m, err := ParseMessage(wire)
	if err != nil {
		return []string{err.Error()}
	}
	text := m.String()
	if !fromDevice && m.Type == XfrBlock && len(m.Data) >= 4 && !continues(m.P2) {
		text += ", begins " + strings.ToUpper(hex.EncodeToString(m.Data[:4]))
	}
	if fromDevice && m.Type == DataBlock && len(m.Data) == 2 {
		text += ", " + strings.ToUpper(hex.EncodeToString(m.Data))
	}
	return []string{text}
}
