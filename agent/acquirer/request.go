package acquirer

import (
	"fmt"
	"log/slog"
	"time"

	"tillbridge/emv"
	"tillbridge/p2pe"
)

// Kind is what a [Request] asks for.
type Kind string

// The kinds of a request. Each is one message that may move money.
const (
	Sale          Kind = "sale"          // authorise and capture at once
	Authorization Kind = "authorization" // hold; a Capture follows
	Refund        Kind = "refund"        // money back: linked with Original, else unlinked
	Void          Kind = "void"          // cancel a booked request before settlement; needs Original
	Capture       Kind = "capture"       // collect a held authorisation; needs Original
	Verify        Kind = "verify"        // account check with amount zero
)

// Request is one request to the host. The caller owns its identity: STAN,
// Time and TerminalID are durable before the request is sent, because a
// reversal names them.
type Request struct {
	Kind Kind
	// Reference is the caller's own id of the operation (a payment or refund id),
	// at most 40 printable ASCII characters. It is the same in every message
	// about one operation.
	Reference string
	// STAN is the system trace audit number, 1 to 999999, new for each request
	// of the terminal (DE11).
	STAN       int
	Time       time.Time // local date and time at the terminal (DE12, DE13)
	TerminalID string    // at most 8 characters (DE41)
	MerchantID string    // at most 15 characters (DE42)
	Amounts    emv.Amounts
	Entry      emv.Entry
	// PANSequence is tag 5F34 (DE23), or -1 when absent.
	PANSequence int
	// Card is the card data as ciphertext. It may be empty where Token or
	// Original stands for the card.
	Card p2pe.Envelope
	// Token is the host's token of the card, where the card is not present.
	Token string
	// PIN is the enciphered PIN block, or empty.
	PIN p2pe.PINBlock
	// Field55 is the BER-TLV sequence of the chip (DE55), or empty.
	Field55 []byte
	// Original is the request that a void, a capture or a linked refund is about.
	Original *Original
	// AcceptPartial says that a partial approval may be offered to the customer.
	AcceptPartial bool
}

// Original names an earlier request to the host.
type Original struct {
	Kind       Kind
	STAN       int
	Time       time.Time // as in its Request
	TerminalID string
	MerchantID string
	Amounts    emv.Amounts
	Reference  string
	// RRN, ApprovalCode and Token are what the host answered; they are empty
	// where no answer came.
	RRN          string
	ApprovalCode string
	Token        string
}

// AsOriginal returns the name of r for a reversal, inquiry or void, completed by
// what the host answered; a zero Result adds nothing.
func (r Request) AsOriginal(answer Result) Original {
	return Original{
		Kind: r.Kind, STAN: r.STAN, Time: r.Time, TerminalID: r.TerminalID, MerchantID: r.MerchantID,
		Amounts: r.Amounts, Reference: r.Reference,
		RRN: answer.RRN, ApprovalCode: answer.ApprovalCode, Token: answer.Token,
	}
}

// Reason is why a reversal is sent.
type Reason string

// The reasons of a reversal.
const (
	NoAnswer      Reason = "no_answer"      // the answer was lost
	CardRefused   Reason = "card_refused"   // the host approved and the card did not
	CustomerLeft  Reason = "customer"       // cancelled after approval
	LateAnswer    Reason = "late_answer"    // the answer came after the payment had been given up
	PartialAmount Reason = "partial_refuse" // a partial approval was refused
)

// Reversal asks the host to undo Original. It needs no card data.
type Reversal struct {
	// STAN is the reversal's own number. It stays the same over all repeats.
	STAN     int
	Time     time.Time // local time of the reversal's first attempt
	Original Original
	Reason   Reason
	// Attempt is 0 for the first sending and grows by one with each repeat; the
	// host sees from it (0420 or 0421) that this is one and the same reversal.
	Attempt int
	// Field55 is the chip data of a reversal where the host wants it, or empty.
	Field55 []byte
}

// Advice tells the host of an approved transaction that it did not authorise.
type Advice struct {
	Request
	// Attempt is 0 for the first sending and grows with each repeat.
	Attempt int
	// ApprovalCode is the code of the card or the voice centre, or empty. It is
	// never invented (design/payments.md section 4 rule 5).
	ApprovalCode string
}

// Inquiry asks for the state of Original.
type Inquiry struct {
	STAN     int // the inquiry's own
	Time     time.Time
	Original Original
}

// String names the request without card data, chip data or token.
func (r Request) String() string {
	return fmt.Sprintf("%s stan=%06d terminal=%s %d %s", r.Kind, r.STAN, r.TerminalID, r.Amounts.Amount, r.Amounts.Currency)
}

// Format implements fmt.Formatter with String for every verb.
func (r Request) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.String()) }

// LogValue implements slog.LogValuer with String.
func (r Request) LogValue() slog.Value { return slog.StringValue(r.String()) }

// String names the advice as its Request.
func (a Advice) String() string { return "advice " + a.Request.String() }

// Format implements fmt.Formatter with String for every verb.
func (a Advice) Format(f fmt.State, _ rune) { fmt.Fprint(f, a.String()) }

// LogValue implements slog.LogValuer with String.
func (a Advice) LogValue() slog.Value { return slog.StringValue(a.String()) }

// String names the reversal without chip data or token.
func (r Reversal) String() string {
	return fmt.Sprintf("reversal stan=%06d attempt=%d of stan=%06d terminal=%s (%s)",
		r.STAN, r.Attempt, r.Original.STAN, r.Original.TerminalID, r.Reason)
}

// Format implements fmt.Formatter with String for every verb.
func (r Reversal) Format(f fmt.State, _ rune) { fmt.Fprint(f, r.String()) }

// LogValue implements slog.LogValuer with String.
func (r Reversal) LogValue() slog.Value { return slog.StringValue(r.String()) }
