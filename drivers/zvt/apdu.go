package zvt

import (
	"errors"
	"fmt"
)

// Errors of decoding, matched with errors.Is. Their texts name offsets and
// never a value.
var (
	// ErrShort: the bytes end inside an APDU; more may come.
	ErrShort = errors.New("zvt: the APDU is not complete")
	// ErrMalformed: no sender writes this.
	ErrMalformed = errors.New("zvt: malformed data")
)

// Command is CLASS and INSTR of an APDU, class in the high byte.
type Command uint16

// Commands of the ECR and of the terminal (ECR-Interface chapters 2 and 3).
const (
	CmdRegistration   Command = 0x0600
	CmdAuthorisation  Command = 0x0601
	CmdLogOff         Command = 0x0602
	CmdRepeatReceipt  Command = 0x0620
	CmdReservation    Command = 0x0622
	CmdPartialRelease Command = 0x0623 // partial reversal of a reservation; lists open ones with receipt FFFF
	CmdBookTotal      Command = 0x0624
	CmdRelease        Command = 0x0625 // reversal of a reservation
	CmdReversal       Command = 0x0630
	CmdRefund         Command = 0x0631
	CmdEndOfDay       Command = 0x0650
	CmdDiagnosis      Command = 0x0670
	CmdSetTime        Command = 0x0691
	CmdInitialisation Command = 0x0693
	CmdAbort          Command = 0x06B0
	CmdReadCard       Command = 0x06C0 // returns the PAN: never sent
	CmdDisplayText    Command = 0x06E0
	CmdStatusEnquiry  Command = 0x0501
	CmdChangeBaud     Command = 0x0840

	CmdStatusInformation  Command = 0x040F
	CmdIntermediateStatus Command = 0x04FF
	CmdSetDateTime        Command = 0x0401
	CmdCompletion         Command = 0x060F
	CmdAborted            Command = 0x061E
	CmdPrintLine          Command = 0x06D1
	CmdPrintBlock         Command = 0x06D3
	CmdDialUp             Command = 0x06D8
	CmdTransmitData       Command = 0x06D9
	CmdReceiveData        Command = 0x06DA
	CmdHangUp             Command = 0x06DB

	ReplyPositive Command = 0x8000
)

// Negative returns the negative reply "84 xx" with an error id. 84 00 is
// positive by the protocol.
func Negative(code byte) Command { return 0x8400 | Command(code) }

// String is the command as the documents write it: "06 01".
func (c Command) String() string { return fmt.Sprintf("%02X %02X", byte(c>>8), byte(c)) }

// IsReply reports whether c answers a command: 80 00 or 84 xx.
func (c Command) IsReply() bool { return c == ReplyPositive || c>>8 == 0x84 }

// Positive reports whether a reply accepts: 80 00, or 84 00.
func (c Command) Positive() bool { return c == ReplyPositive || c == 0x8400 }

// APDU is one command or reply. Data is a slice of the input.
type APDU struct {
	Command Command
	Data    []byte
}

// headOf returns the lengths of head and whole of the APDU at the start of b;
// ok is false while too few bytes are there to tell.
func headOf(b []byte) (head, whole int, ok bool) {
	if len(b) < 3 {
		return 0, 0, false
	}
	if b[2] != 0xFF {
		return 3, 3 + int(b[2]), true
	}
	if len(b) < 5 {
		return 0, 0, false
	}
	return 5, 5 + int(b[3]) + int(b[4])<<8, true
}

// Scan reads the APDU at the start of b and returns how many bytes it has.
// ErrShort means that the rest has not come yet. What follows the APDU is not
// looked at: terminals exist that send zeros there (knowledge, field notes).
func Scan(b []byte) (APDU, int, error) {
	head, whole, ok := headOf(b)
	if !ok || len(b) < whole {
		return APDU{}, 0, ErrShort
	}
	return APDU{Command(b[0])<<8 | Command(b[1]), b[head:whole]}, whole, nil
}

// MaxData is the longest data block of an APDU.
const MaxData = 0xFFFF

// Append appends an APDU. Data longer than [MaxData] cannot be expressed and
// panics: it is a programming error, since no command of ours comes near.
func Append(dst []byte, c Command, data []byte) []byte {
	n := len(data)
	dst = append(dst, byte(c>>8), byte(c))
	switch {
	case n < 0xFF:
		dst = append(dst, byte(n))
	case n <= MaxData:
		dst = append(dst, 0xFF, byte(n), byte(n>>8))
	default:
		panic("zvt: data longer than an APDU")
	}
	return append(dst, data...)
}

// Reassembler cuts a byte stream (TCP) into APDUs. The zero value is ready.
type Reassembler struct {
	buf  []byte
	used int // bytes of buf given out as the last APDU
}

// Feed adds what was read.
func (r *Reassembler) Feed(p []byte) {
	r.drop()
	r.buf = append(r.buf, p...)
}

// Next returns the next whole APDU, valid until the next call. Zeros before it
// are what some terminals leave behind the APDU before: no class is 00.
func (r *Reassembler) Next() (APDU, bool) {
	r.drop()
	for r.used < len(r.buf) && r.buf[r.used] == 0 {
		r.used++
	}
	r.drop()
	a, n, err := Scan(r.buf)
	if err != nil {
		return APDU{}, false
	}
	r.used = n
	return a, true
}

// Partial reports whether the beginning of an APDU is held.
func (r *Reassembler) Partial() bool { return len(r.buf) > r.used }

// Reset forgets everything held.
func (r *Reassembler) Reset() { r.buf, r.used = r.buf[:0], 0 }

func (r *Reassembler) drop() {
	if r.used > 0 {
		r.buf = r.buf[:copy(r.buf, r.buf[r.used:])]
		r.used = 0
	}
}
