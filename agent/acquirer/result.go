package acquirer

import (
	"fmt"
	"log/slog"
	"time"
)

// Outcome is what is known of a request to the host.
type Outcome int

// The four outcomes. Unknown is the zero value.
const (
	Unknown  Outcome = iota // a byte may have left and no usable answer came: settle by inquiry or reversal
	NotSent                 // proof that no byte left: nothing can be booked
	Approved                // the host approved; the card may still refuse
	Declined                // the host declined: final
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case NotSent:
		return "not sent"
	case Approved:
		return "approved"
	case Declined:
		return "declined"
	}
	return "unknown"
}

// Sent reports whether a byte of the request may have left.
func (o Outcome) Sent() bool { return o != NotSent }

// Result is the answer to a [Request], or its absence.
type Result struct {
	Outcome Outcome
	// ResponseCode is DE39 as the host sent it ("00", "05", in 1993 form "000").
	// Empty when no answer came.
	ResponseCode string
	Class        Class // what ResponseCode allows next
	// ARC is tag 8A for the card: the one of field 55 if the host sent it, else
	// ResponseCode if that has two characters.
	ARC string
	// ApprovedAmount is what the host approved, minor units; with Partial it is
	// less than was asked.
	ApprovedAmount int64
	Partial        bool
	ApprovalCode   string    // DE38, trimmed
	RRN            string    // DE37, trimmed
	HostRef        string    // the host's own id where it has one, else RRN
	HostTime       time.Time // DE12, DE13 of the answer in the zone of the request; zero if absent
	IssuerAuth     []byte    // tag 91, without tag and length
	Scripts        []byte    // templates 71 and 72, each with tag and length, in order
	Token          string    // the host's token of the card, or empty
	PAR            string    // payment account reference, or empty
	// Text is the host's own text for the receipt, printable ASCII, or empty.
	Text string
}

// String names outcome, code and references; never the token.
func (r Result) String() string {
	return fmt.Sprintf("%s code=%q rrn=%q", r.Outcome, r.ResponseCode, r.RRN)
}

// Format implements fmt.Formatter with String for every verb.
func (r Result) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.String()) }

// LogValue implements slog.LogValuer with String.
func (r Result) LogValue() slog.Value { return slog.StringValue(r.String()) }

// AckState is what is known of a reversal or advice.
type AckState int

// The states of an acknowledgement. AckUnknown is the zero value.
const (
	AckUnknown  AckState = iota // no answer: repeat
	AckNotSent                  // no byte left: repeat
	AckDone                     // the host did it: ended
	AckNotFound                 // the host knows of nothing to reverse: ended
	AckRefused                  // the host refuses for now: repeat with delay, or hold for a person
)

// String returns the state in lower case.
func (s AckState) String() string {
	return [...]string{"unknown", "not sent", "done", "not found", "refused"}[min(max(int(s), 0), 4)]
}

// Ack is the answer to a [Reversal] or an [Advice].
type Ack struct {
	State        AckState
	ResponseCode string // DE39, empty when no answer came
	RRN          string
}

// Ended reports whether the repeats are over.
func (a Ack) Ended() bool { return a.State == AckDone || a.State == AckNotFound }

// FindingState is what the host says of an earlier request.
type FindingState int

// The states of a finding. FoundNothing is the zero value and proves nothing.
const (
	FoundNothing  FindingState = iota // the host did not answer the inquiry
	FoundNotFound                     // the host does not know the request: no proof
	FoundApproved                     // booked; Result holds the answer that was lost
	FoundDeclined                     // declined
	FoundReversed                     // booked and reversed since
	FoundUnable                       // the host cannot answer inquiries
)

// String returns the state in lower case.
func (s FindingState) String() string {
	return [...]string{"nothing", "not found", "approved", "declined", "reversed", "unable"}[min(max(int(s), 0), 5)]
}

// Finding is the answer to an [Inquiry].
type Finding struct {
	State FindingState
	// Result is the original's answer as far as the host repeats it. Issuer
	// authentication and scripts are not repeated.
	Result Result
}
