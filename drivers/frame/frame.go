// Package frame holds the framings and checksums that the device protocols
// share, as pure code: no I/O, no clock, no logging.
//
// Encoders append to a slice: [AppendDC3] (ABECS), [AppendDLE] (ZVT on serial
// lines), [AppendSTX] (PAX, Concert). Decoders are resumable: feed them what
// the port gave, one byte or a thousand, and they answer with one [Event] at a
// time and the number of bytes they took:
//
//	for len(p) > 0 {
//		n, ev, err := d.Feed(p)
//		p = p[n:]
//		...
//	}
//
// [DC3], [DLE], [STX] and [Length] are the decoders. Checksums are [LRC] and
// the four CRC-16 of [XModem], [Kermit], [CCITTFalse] and [X25]; protocols
// that all write "CRC-16" mean different ones.
//
// Sources: knowledge of the ABECS link layer (section 2.2), the ZVT transport
// protocol (PA00P016), the NEO 2 guide (section 1), ISO/IEC 7816-3 (T=1).
//
// What this package does not do: timers, retries and acknowledgements belong
// to each driver's link; the meaning of a message belongs to its codec.
package frame

import "errors"

// Errors of a decoder. After one of them the decoder hunts for the next start
// of a frame; control bytes met before it are not reported, because they may
// be data of the broken frame. Call Reset once the line was silent.
var (
	ErrChecksum = errors.New("frame: checksum differs")
	ErrStuffing = errors.New("frame: stuffed byte that no sender writes")
	ErrTooLong  = errors.New("frame: longer than the protocol allows")
	ErrLength   = errors.New("frame: length field that no sender writes")
)

// Event is what a decoder found.
type Event int

// Events. A control byte is reported only between frames, never inside one.
const (
	None    Event = iota // nothing complete: all bytes were taken, feed more
	Message              // a whole frame with a good checksum: see Payload
	EOT                  // 0x04
	ENQ                  // 0x05
	ACK                  // 0x06
	NAK                  // 0x15
	CAN                  // 0x18
)

// String names the event for a trace.
func (e Event) String() string {
	switch e {
	case None:
		return "none"
	case Message:
		return "message"
	case EOT:
		return "EOT"
	case ENQ:
		return "ENQ"
	case ACK:
		return "ACK"
	case NAK:
		return "NAK"
	case CAN:
		return "CAN"
	}
	return "?"
}

// Control bytes of the protocols.
const (
	ByteSTX = 0x02
	ByteETX = 0x03
	ByteEOT = 0x04
	ByteENQ = 0x05
	ByteACK = 0x06
	ByteDLE = 0x10
	ByteDC3 = 0x13
	ByteNAK = 0x15
	ByteSYN = 0x16
	ByteETB = 0x17
	ByteCAN = 0x18
)

// control returns the event of a byte between frames.
func control(b byte) Event {
	switch b {
	case ByteEOT:
		return EOT
	case ByteENQ:
		return ENQ
	case ByteACK:
		return ACK
	case ByteNAK:
		return NAK
	case ByteCAN:
		return CAN
	}
	return None
}
