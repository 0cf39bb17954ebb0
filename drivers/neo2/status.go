package neo2

import (
	"fmt"

	"tillbridge/drivers"
	"tillbridge/emv"
)

// Status is the reader's answer to a command (guide, section on status codes).
type Status byte

// Statuses that the driver tells apart.
const (
	OK            Status = 0x00
	BadHeader     Status = 0x01
	UnknownCmd    Status = 0x02
	UnknownSub    Status = 0x03
	BadCRC        Status = 0x04
	BadParameter  Status = 0x05
	Unsupported   Status = 0x06
	BadData       Status = 0x07
	TimedOut      Status = 0x08
	Failed        Status = 0x0A
	NotAllowed    Status = 0x0B
	SubNotAllowed Status = 0x0C
	Tampered      Status = 0x1D
	Online        Status = 0x23 // contactless: the issuer has to be asked
	NoData        Status = 0x60
	Accepted      Status = 0x63 // more answers follow
)

var statusTexts = map[Status]string{
	OK: "done", BadHeader: "the frame's tag is wrong", UnknownCmd: "it does not know the command", UnknownSub: "it does not know the sub-command",
	BadCRC: "the checksum is wrong; check the cable", BadParameter: "a parameter is wrong", Unsupported: "a parameter is not supported",
	BadData: "the data are malformed", TimedOut: "nobody acted in time", Failed: "it failed", NotAllowed: "the command is not allowed now",
	SubNotAllowed: "the sub-command is not allowed now", 0x0D: "its buffer is full", 0x0E: "an event of its display", 0x10: "it is in its bootloader",
	0x11: "it is in its bootloader", 0x12: "its secure interface refuses", 0x13: "data are no multiple of eight bytes", 0x14: "its pad refuses",
	0x15: "the type of key is wrong", 0x1C: "the card refuses the APDU", Tampered: "it was tampered with: take it out of service",
	Online: "the issuer has to be asked", NoData: "it has no terminal data: load its configuration", Accepted: "accepted, more follows",
}

// Error says what the reader answered.
func (s Status) Error() string {
	if t := statusTexts[s]; t != "" {
		return "neo2: " + t
	}
	return fmt.Sprintf("neo2: the reader answered %02X, which is not known", byte(s))
}

// Is maps a status to the ends that callers branch on.
func (s Status) Is(target error) bool {
	return s == TimedOut && (target == emv.ErrNoCard || target == drivers.ErrTimeout)
}

// unsupported reports that the reader does not have a command at all.
func (s Status) unsupported() bool { return s == UnknownCmd || s == UnknownSub || s == Unsupported }

// Result is the code in two bytes that begins the answers of 60-11 and 60-12.
type Result uint16

// Results. [U]: the guide's pages that were read show 0002, 0004 and 0006; the
// others are known from programs of others. What is not in this table is
// unknown and ends the payment as such.
const (
	ApprovedOffline Result = 0x0000
	DeclinedOffline Result = 0x0001
	Approved        Result = 0x0002
	Declined        Result = 0x0003
	GoOnline        Result = 0x0004
	CallBank        Result = 0x0005
	NotAccepted     Result = 0x0006
	UseStripe       Result = 0x0007
	ResultTimeout   Result = 0x0008
)

var decisions = map[Result]emv.Decision{
	ApprovedOffline: emv.Approved, Approved: emv.Approved,
	DeclinedOffline: emv.Declined, Declined: emv.Declined, CallBank: emv.Declined, NotAccepted: emv.EndApplication,
	GoOnline: emv.OnlineRequest, UseStripe: emv.TryOtherInterface,
}

// Error says what the code means.
func (r Result) Error() string {
	if d, ok := decisions[r]; ok {
		return fmt.Sprintf("neo2: result %04X (%s)", uint16(r), d)
	}
	return fmt.Sprintf("neo2: result %04X is not known", uint16(r))
}

// Is maps a result to the ends that callers branch on.
func (r Result) Is(target error) bool {
	return r == ResultTimeout && (target == emv.ErrNoCard || target == drivers.ErrTimeout)
}

// Failure is the error code in tag FFEE1F of a failed transaction.
type Failure byte

// Failures. [U] but for their place in FFEE1F.
const (
	GoToContact  Failure = 0x02
	CardError    Failure = 0x20
	Collision    Failure = 0x21
	OverLimit    Failure = 0x22
	CardBlocked  Failure = 0x25
	CardExpired  Failure = 0x26
	CardUnknown  Failure = 0x27
	CardSilent   Failure = 0x30
	CardDeclines Failure = 0x42
)

var failureTexts = map[Failure]string{
	GoToContact: "insert the card", CardError: "the card answers with an error", Collision: "more than one card: present one alone",
	OverLimit: "the amount is too high for a tap: insert the card", CardBlocked: "the card is blocked", CardExpired: "the card has expired",
	CardUnknown: "this kind of card is not taken here", CardSilent: "the card does not answer any more: it was taken away too early",
	CardDeclines: "the card declines",
}

// Error says what happened.
func (f Failure) Error() string {
	if t := failureTexts[f]; t != "" {
		return "neo2: " + t
	}
	return fmt.Sprintf("neo2: the transaction failed with code %02X, which is not known", byte(f))
}

// Is maps a failure to the ends that callers branch on.
func (f Failure) Is(target error) bool {
	switch f {
	case CardSilent:
		return target == emv.ErrCardRemoved || target == drivers.ErrCardGone
	case CardBlocked, CardExpired, CardUnknown, CardError, CardDeclines, GoToContact, OverLimit:
		return target == emv.ErrCardUnusable
	}
	return false
}
