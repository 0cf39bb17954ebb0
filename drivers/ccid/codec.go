package ccid

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of the messages from the host (section 6.1).
const (
	IccPowerOn      = 0x62 // P1 is the voltage: 0 automatic, 1 5 V, 2 3 V, 3 1.8 V
	IccPowerOff     = 0x63
	GetSlotStatus   = 0x65
	XfrBlock        = 0x6F // P1 is bBWI, P2 P3 is wLevelParameter
	GetParameters   = 0x6C
	ResetParameters = 0x6D
	SetParameters   = 0x61 // P1 is the protocol
	Escape          = 0x6B
	IccClock        = 0x6E
	T0APDU          = 0x6A
	Secure          = 0x69
	Mechanical      = 0x71
	Abort           = 0x72
	SetDataRate     = 0x73
)

// Types of the messages from the reader (sections 6.2 and 6.3).
const (
	DataBlock    = 0x80 // P3 is bChainParameter
	SlotStatus   = 0x81 // P3 is bClockStatus
	Parameters   = 0x82 // P3 is the protocol
	EscapeAnswer = 0x83
	DataRate     = 0x84

	NotifySlotChange = 0x50
	HardwareError    = 0x51
)

// Values of wLevelParameter and bChainParameter at the extended APDU level.
const (
	ChainWhole    = 0x00 // begins and ends here
	ChainBegin    = 0x01
	ChainEnd      = 0x02
	ChainMiddle   = 0x03
	ChainContinue = 0x10 // empty: the other side may send the next piece
)

// headerLen is the length of the header of every bulk message.
const headerLen = 10

// MaxMessage is the longest message that is read: a command or answer of
// 65,544 bytes with its header (the largest dwMaxCCIDMessageLength of real
// readers is 65,556).
const MaxMessage = headerLen + 65546

// ErrMessage is matched by the errors of the parsers of this package.
var ErrMessage = errors.New("ccid: not a message")

// Message is one bulk message in either direction. It prints without its data,
// which may be card data.
type Message struct {
	Type, Slot, Seq byte
	// P1, P2, P3 are the three bytes that depend on the type. From the reader P1
	// is bStatus and P2 bError.
	P1, P2, P3 byte
	Data       []byte
	// Understated is set for an answer to GetParameters whose length field says
	// 0 although the structure follows (QEMU's reader does that).
	Understated bool
}

// Append appends the bytes of the message.
func (m Message) Append(dst []byte) []byte {
	n := len(m.Data)
	if m.Understated {
		n = 0
	}
	dst = append(dst, m.Type, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), m.Slot, m.Seq, m.P1, m.P2, m.P3)
	return append(dst, m.Data...)
}

// ParseMessage reads one whole bulk message; Data is a slice of b. The error
// wraps [ErrMessage].
func ParseMessage(b []byte) (Message, error) {
	if len(b) < headerLen {
		return Message{}, fmt.Errorf("%w: %d bytes; the header has ten", ErrMessage, len(b))
	}
	if typeName(b[0]) == "" {
		return Message{}, fmt.Errorf("%w: type %02X", ErrMessage, b[0])
	}
	m := Message{Type: b[0], Slot: b[5], Seq: b[6], P1: b[7], P2: b[8], P3: b[9], Data: b[headerLen:]}
	switch n := binary.LittleEndian.Uint32(b[1:5]); {
	case uint64(n) == uint64(len(m.Data)):
	case n == 0 && m.Type == Parameters && (len(m.Data) == 5 || len(m.Data) == 7):
		m.Understated = true
	default:
		return Message{}, fmt.Errorf("%w: the length field says %d, %d bytes follow the header", ErrMessage, n, len(m.Data))
	}
	return m, nil
}

// FromReader reports whether the type is one of a reader.
func (m Message) FromReader() bool { return m.Type&0xF0 == 0x80 }

// ICC is the state of the card that an answer reports.
type ICC byte

// States of a card (bmICCStatus).
const (
	Active   ICC = 0 // powered
	Inactive ICC = 1 // present, not powered
	Absent   ICC = 2
)

// String is for people.
func (i ICC) String() string {
	switch i {
	case Active:
		return "card powered"
	case Inactive:
		return "card present"
	case Absent:
		return "no card"
	}
	return "state of the card unknown"
}

// ICC is the card's state in an answer of the reader.
func (m Message) ICC() ICC { return ICC(m.P1 & 3) }

// Failed reports that the command failed; P2 says why, see [ErrorText].
func (m Message) Failed() bool { return m.P1>>6 == 1 }

// TimeExtension reports that the reader needs more time; P2 multiplies the
// waiting time. The command is not sent again.
func (m Message) TimeExtension() bool { return m.P1>>6 == 2 }

// String names type, slot, sequence and length, never the data.
func (m Message) String() string {
	name := typeName(m.Type)
	if name == "" {
		name = fmt.Sprintf("type %02X", m.Type)
	}
	s := fmt.Sprintf("%s slot=%d seq=%d", name, m.Slot, m.Seq)
	if m.FromReader() {
		s += ", " + m.ICC().String()
		switch {
		case m.Failed():
			s += ", failed: " + ErrorText(m.P2)
		case m.TimeExtension():
			s += fmt.Sprintf(", needs time (%d)", m.P2)
		}
	}
	if len(m.Data) > 0 {
		s += fmt.Sprintf(", %d bytes", len(m.Data))
	}
	return s
}

// GoString is String.
func (m Message) GoString() string { return m.String() }

// Format prints String for every verb.
func (m Message) Format(s fmt.State, _ rune) { fmt.Fprint(s, m.String()) }

// MarshalText is String.
func (m Message) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func typeName(t byte) string {
	switch t {
	case IccPowerOn:
		return "IccPowerOn"
	case IccPowerOff:
		return "IccPowerOff"
	case GetSlotStatus:
		return "GetSlotStatus"
	case XfrBlock:
		return "XfrBlock"
	case GetParameters:
		return "GetParameters"
	case ResetParameters:
		return "ResetParameters"
	case SetParameters:
		return "SetParameters"
	case Escape:
		return "Escape"
	case IccClock:
		return "IccClock"
	case T0APDU:
		return "T0APDU"
	case Secure:
		return "Secure"
	case Mechanical:
		return "Mechanical"
	case Abort:
		return "Abort"
	case SetDataRate:
		return "SetDataRateAndClockFrequency"
	case DataBlock:
		return "DataBlock"
	case SlotStatus:
		return "SlotStatus"
	case Parameters:
		return "Parameters"
	case EscapeAnswer:
		return "Escape answer"
	case DataRate:
		return "DataRateAndClockFrequency"
	}
	return ""
}

// ErrorText says in words what bError means (table 6.2-2).
func ErrorText(code byte) string {
	switch code {
	case 0xFF:
		return "aborted by the host"
	case 0xFE:
		return "the card does not answer"
	case 0xFD:
		return "parity error"
	case 0xFC:
		return "overrun"
	case 0xFB:
		return "hardware error of the reader"
	case 0xF8:
		return "the card's first character is wrong"
	case 0xF7:
		return "the check byte of the card's answer to reset is wrong"
	case 0xF6:
		return "the card's protocol is not supported"
	case 0xF5:
		return "the class byte is not supported"
	case 0xF4:
		return "the card's procedure byte is wrong"
	case 0xF3:
		return "the protocol was deactivated"
	case 0xF2:
		return "an automatic sequence is running"
	case 0xF0:
		return "no PIN was entered in time"
	case 0xEF:
		return "PIN entry was cancelled"
	case 0xE0:
		return "the slot is busy"
	case 0x00:
		return "the reader does not know the command"
	}
	if code <= 0x7F {
		return fmt.Sprintf("field %d of the message is wrong", code)
	}
	return fmt.Sprintf("code %02X", code)
}

// Notification is a message of the interrupt endpoint.
type Notification struct {
	Type byte // NotifySlotChange or HardwareError
	// Slot and Seq say what a hardware error is about; Code is its
	// bHardwareErrorCode.
	Slot, Seq, Code byte
	// Bits are two for each slot, the lowest first: 1 present, 2 changed.
	Bits []byte
}

// ParseNotification reads a message of the interrupt endpoint; Bits is a slice
// of b. The error wraps [ErrMessage].
func ParseNotification(b []byte) (Notification, error) {
	switch {
	case len(b) >= 2 && len(b) <= 65 && b[0] == NotifySlotChange:
		return Notification{Type: b[0], Bits: b[1:]}, nil
	case len(b) == 4 && b[0] == HardwareError:
		return Notification{Type: b[0], Slot: b[1], Seq: b[2], Code: b[3]}, nil
	}
	return Notification{}, fmt.Errorf("%w: %d bytes from the interrupt endpoint", ErrMessage, len(b))
}

// Append appends the bytes of the notification.
func (n Notification) Append(dst []byte) []byte {
	if n.Type == HardwareError {
		return append(dst, n.Type, n.Slot, n.Seq, n.Code)
	}
	return append(append(dst, n.Type), n.Bits...)
}

// Present reports whether a card is in the slot, and whether that changed.
func (n Notification) Present(slot int) (present, changed bool) {
	if n.Type != NotifySlotChange || slot < 0 || slot/4 >= len(n.Bits) {
		return false, false
	}
	b := n.Bits[slot/4] >> (slot % 4 * 2)
	return b&1 != 0, b&2 != 0
}
