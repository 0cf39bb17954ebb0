package zvt

import "fmt"

// resultText says what a result code means to a technician (ECR-Interface
// chapter 10, error ids). The words are ours.
var resultText = map[byte]string{
	0x00: "approved",
	0x64: "card not readable", 0x65: "no card data", 0x66: "processing error",
	0x67: "function not permitted for this card", 0x68: "function not permitted for this card",
	0x6A: "turnover file full: do an end of day", 0x6B: "terminal not registered", 0x6C: "aborted or timed out",
	0x6E: "card on the block list", 0x6F: "wrong currency", 0x71: "credit too low", 0x72: "chip error",
	0x73: "card data incorrect", 0x74: "key serial numbers used up: the terminal needs service",
	0x77: "end of day not possible", 0x78: "card expired", 0x79: "card not yet valid", 0x7A: "card unknown",
	0x7B: "no fallback to the stripe", 0x7C: "no fallback to the stripe", 0x7D: "communication error",
	0x7E: "no fallback to the stripe", 0x83: "function not possible", 0x85: "key missing: the terminal needs service",
	0x89: "PIN pad defective", 0x9A: "protocol error", 0x9B: "dial error", 0x9C: "busy, please wait",
	0xA0: "receiver not ready", 0xA1: "host does not answer", 0xA3: "no connection to the host",
	0xA5: "refused by a security rule of the terminal", 0xB1: "memory full", 0xB2: "journal full: do an end of day",
	0xB4: "already reversed", 0xB5: "reversal not possible", 0xB7: "reservation: wrong amount or card",
	0xB8: "reservation: not possible", 0xC2: "diagnosis required", 0xC3: "maximum amount exceeded",
	0xC5: "payment method unsupported", 0xC6: "currency not supported", 0xC8: "amount too small",
	0xCC: "printer not ready", 0xCD: "cashback not possible", 0xDC: "a card is in the reader", 0xDF: "out of order",
	0xE1: "card not removed", 0xE2: "card reader does not answer", 0xE4: "activation required", 0xED: "PIN pad defective",
	0xF0: "the batch is open: do an end of day", 0xF5: "OPT action not possible", 0xF6: "OPT action not possible",
	0xFA: "sending of offline sales failed", 0xFC: "a device of the terminal is missing", 0xFD: "baud rate not supported",
	0xFF: "system error of the terminal",
	0x51: "initialisation needed", 0x62: "clock is wrong",
}

// ResultText names a result code, or its number when it is not in the table:
// 01 to 63 are answers of the network operator.
func ResultText(code byte) string {
	if s, ok := resultText[code]; ok {
		return s
	}
	if code >= 0x01 && code <= 0x63 {
		return fmt.Sprintf("declined by the network operator (%02X)", code)
	}
	return fmt.Sprintf("terminal's code %02X", code)
}

// intermediateText says what the terminal is waiting for (04 FF).
var intermediateText = map[byte]string{
	0x00: "confirm the amount", 0x01: "look at the PIN pad", 0x02: "look at the PIN pad", 0x03: "not accepted",
	0x04: "waiting for the host", 0x05: "reversing by itself", 0x0A: "insert card", 0x0B: "remove card",
	0x0C: "card not readable", 0x0E: "please wait", 0x15: "wrong PIN", 0x17: "please wait", 0x18: "PIN tries exceeded",
	0x1C: "approved", 0x1D: "declined", 0x41: "look at the PIN pad, remove card", 0x42: "look at the PIN pad, remove card",
}

// Words returns the terminal's own lines, or what the code means.
func (i Intermediate) Words() string {
	for _, l := range i.Lines {
		if l != "" {
			return l
		}
	}
	if s, ok := intermediateText[i.Code]; ok {
		return s
	}
	if s, ok := intermediateText[i.Code&^0x40]; ok && i.Code&0x40 != 0 {
		return s + ", remove card"
	}
	return fmt.Sprintf("terminal's state %02X", i.Code)
}
