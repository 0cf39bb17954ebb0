package ccid

import (
	"encoding/binary"
	"fmt"
)

// Level is how a reader exchanges bytes with a card (dwFeatures, mask
// 00070000).
type Level string

// The exchange levels.
const (
	LevelCharacter Level = "character"
	LevelTPDU      Level = "tpdu"
	LevelShort     Level = "short"
	LevelExtended  Level = "extended"
)

// Features of a reader (dwFeatures).
const (
	AutoParameters = 0x0002 // sets parameters from the answer to reset
	AutoActivate   = 0x0004
	AutoVoltage    = 0x0008
	AutoClock      = 0x0010
	AutoBaud       = 0x0020
	AutoNegotiate  = 0x0040 // negotiates parameters in a way of its own
	AutoPPS        = 0x0080
	ClockStop      = 0x0100
	NADAccepted    = 0x0200
	AutoIFSD       = 0x0400
)

// descriptorLen is the length of the class descriptor.
const descriptorLen = 0x36

// Descriptor is the CCID class descriptor (section 5.1).
type Descriptor struct {
	BCD              uint16 // release, 0x0110 for 1.10
	MaxSlot          byte   // index of the last slot
	Voltages         byte   // bit 0 5 V, bit 1 3 V, bit 2 1.8 V
	Protocols        uint32 // bit 0 T=0, bit 1 T=1
	Clock, MaxClock  uint32 // kHz
	Clocks           byte
	Rate, MaxRate    uint32 // bits per second
	Rates            byte
	MaxIFSD          uint32 // bytes
	Synchronous      uint32
	Mechanical       uint32
	Features         uint32
	MaxMessage       uint32 // bytes, header included
	ClassGetResponse byte
	ClassEnvelope    byte
	LCD              uint16
	PIN              byte // bit 0 verification, bit 1 modification
	MaxBusySlots     byte
}

// ParseDescriptor reads the class descriptor at the start of b. The error
// wraps [ErrMessage].
func ParseDescriptor(b []byte) (Descriptor, error) {
	if len(b) < descriptorLen || b[0] < descriptorLen || b[1] != 0x21 {
		return Descriptor{}, fmt.Errorf("%w: no class descriptor of a reader", ErrMessage)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	return Descriptor{
		BCD: binary.LittleEndian.Uint16(b[2:]), MaxSlot: b[4], Voltages: b[5], Protocols: u32(6), Clock: u32(10), MaxClock: u32(14),
		Clocks: b[18], Rate: u32(19), MaxRate: u32(23), Rates: b[27], MaxIFSD: u32(28), Synchronous: u32(32), Mechanical: u32(36),
		Features: u32(40), MaxMessage: u32(44), ClassGetResponse: b[48], ClassEnvelope: b[49], LCD: binary.LittleEndian.Uint16(b[50:]),
		PIN: b[52], MaxBusySlots: b[53],
	}, nil
}

// Append appends the 54 bytes of the descriptor.
func (d Descriptor) Append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint16(append(dst, descriptorLen, 0x21), d.BCD)
	dst = le.AppendUint32(append(dst, d.MaxSlot, d.Voltages), d.Protocols)
	dst = append(le.AppendUint32(le.AppendUint32(dst, d.Clock), d.MaxClock), d.Clocks)
	dst = append(le.AppendUint32(le.AppendUint32(dst, d.Rate), d.MaxRate), d.Rates)
	dst = le.AppendUint32(le.AppendUint32(le.AppendUint32(dst, d.MaxIFSD), d.Synchronous), d.Mechanical)
	dst = le.AppendUint32(le.AppendUint32(dst, d.Features), d.MaxMessage)
	dst = le.AppendUint16(append(dst, d.ClassGetResponse, d.ClassEnvelope), d.LCD)
	return append(dst, d.PIN, d.MaxBusySlots)
}

// Level is the exchange level. A reader that names more than one is taken at
// the highest.
func (d Descriptor) Level() Level {
	switch {
	case d.Features&0x00040000 != 0:
		return LevelExtended
	case d.Features&0x00020000 != 0:
		return LevelShort
	case d.Features&0x00010000 != 0:
		return LevelTPDU
	}
	return LevelCharacter
}

// Interface is a CCID interface of a USB configuration.
type Interface struct {
	Number, Alternate byte
	Class             byte // 0B, or FF for readers of before the standard
	Descriptor        Descriptor
	// BulkIn, BulkOut and Interrupt are endpoint addresses; Interrupt is 0 when
	// there is none.
	BulkIn, BulkOut, Interrupt byte
	MaxPacketIn, MaxPacketOut  int
}

// ParseConfiguration finds the CCID interfaces in a raw configuration
// descriptor, as GET_DESCRIPTOR answers it. The class descriptor may stand
// before or after the endpoints. The error wraps [ErrMessage].
func ParseConfiguration(b []byte) ([]Interface, error) {
	if len(b) < 9 || b[0] < 9 || b[1] != 2 {
		return nil, fmt.Errorf("%w: no configuration descriptor", ErrMessage)
	}
	if total := int(binary.LittleEndian.Uint16(b[2:])); total < len(b) {
		b = b[:total]
	}
	var out []Interface
	var now *Interface
	has := false
	done := func() {
		if now != nil && has && now.BulkIn != 0 && now.BulkOut != 0 {
			out = append(out, *now)
		}
	}
	for len(b) > 0 {
		n := int(b[0])
		if n < 2 || n > len(b) {
			return nil, fmt.Errorf("%w: a descriptor of %d bytes where %d are left", ErrMessage, n, len(b))
		}
		d := b[:n]
		b = b[n:]
		switch {
		case d[1] == 4 && n >= 9:
			done()
			now, has = nil, false
			if d[5] == 0x0B || d[5] == 0xFF {
				now = &Interface{Number: d[2], Alternate: d[3], Class: d[5]}
			}
		case d[1] == 0x21 && now != nil && n >= descriptorLen:
			c, err := ParseDescriptor(d)
			if err != nil {
				return nil, err
			}
			now.Descriptor, has = c, true
		case d[1] == 5 && now != nil && n >= 7:
			size := int(binary.LittleEndian.Uint16(d[4:]) & 0x7FF)
			switch in := d[2]&0x80 != 0; {
			case d[3]&3 == 2 && in:
				now.BulkIn, now.MaxPacketIn = d[2], size
			case d[3]&3 == 2:
				now.BulkOut, now.MaxPacketOut = d[2], size
			case d[3]&3 == 3 && in:
				now.Interrupt = d[2]
			}
		}
	}
	done()
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no interface of a chip card reader", ErrMessage)
	}
	return out, nil
}
