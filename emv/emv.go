// Package emv holds the seam between a payment and whatever runs the EMV
// exchange: a pad's resident kernel (ABECS, ID TECH NEO2) or our own contact
// kernel (package tillbridge/emv/contact) behind a transparent reader.
//
// Start with [Session]: one card, one payment, four steps. A driver with a
// resident kernel implements it; emv/contact implements it over a
// [Transceiver]. The engine knows only this package and never learns which of
// the two it talks to.
//
// Source of terms: EMV Contact Specifications, Books 1 to 4 (4.3 and 4.4).
// Tags, TVR, TSI and cryptogram names are the books' own.
//
// What this package does not do: it holds no kernel, does no I/O and reads no
// clock. The software kernel behind it is unapproved: it has no letter of
// approval and nothing here may be called certified or compliant.
package emv

import (
	"context"
	"time"

	"tillbridge/p2pe"
)

// Transceiver exchanges one APDU. Command and response are raw C-APDU and
// R-APDU bytes (Book 1 section 11); the response ends with SW1 SW2. It returns
// an error when the card did not answer: the card may still have acted.
type Transceiver interface {
	Transmit(ctx context.Context, command []byte) (response []byte, err error)
}

// Session is one card in one payment. Calls come in the order Read, Authorize,
// Complete; Cancel may come at any time, also from another goroutine, and ends
// the session. Every method returns by its context's deadline.
type Session interface {
	// Read waits for a card, selects the application and reads its data. Money
	// cannot move before Read returns, except in a contactless read of a pad
	// that runs the whole card exchange here: such a session says so in
	// [Card.CryptogramMade].
	Read(ctx context.Context, t Terms) (Card, error)
	// Authorize verifies the cardholder, does terminal risk management and
	// action analysis and asks for the first cryptogram. From its first byte
	// on money may move.
	Authorize(ctx context.Context, a Amounts) (Outcome, error)
	// Complete gives the issuer's answer (or its absence) to the card. The card
	// may still refuse: an approved HostResponse with a declined Outcome needs
	// a reversal.
	Complete(ctx context.Context, h HostResponse) (Outcome, error)
	// Cancel ends the session as far as the device lets it and returns what
	// happened: nil when the device confirmed.
	Cancel(ctx context.Context) error
}

// Entry is how the card data reached the device.
type Entry string

// The entries of the local API (design/payments.md section 1).
const (
	EntryContact     Entry = "contact"
	EntryContactless Entry = "contactless"
	EntrySwipe       Entry = "swipe"
	EntryKeyed       Entry = "keyed"
)

// TransactionType is the first two digits of the ISO 8583 processing code,
// tag 9C, as a BCD byte: 0x00 purchase, 0x09 with cashback, 0x20 refund.
type TransactionType byte

// Transaction types used by the engine.
const (
	Purchase TransactionType = 0x00
	Cashback TransactionType = 0x09
	Refund   TransactionType = 0x20
)

// Amounts are what the card is asked to authorise. Both are integer minor
// units of Currency.
type Amounts struct {
	Amount   int64  // amount, authorised (9F02), including Other
	Other    int64  // amount, other (9F03): cashback
	Currency string // ISO 4217 letters, for people and records
	// CurrencyNumeric is the ISO 4217 number (978), tag 5F2A.
	CurrencyNumeric int
	// Exponent is the number of minor-unit digits (2), tag 5F36.
	Exponent int
}

// Terms say what the session is for, before a card is seen.
type Terms struct {
	Amounts
	Type    TransactionType
	Entries []Entry   // allowed entries; empty means all the device has
	Time    time.Time // local date and time of the transaction (9A, 9F21)
	// Reference is a number of at most 8 digits that the device may show or
	// keep (a pad's transaction counter). Zero means none.
	Reference int
}

// Card is what Read found. It holds no clear card data: Data is ciphertext,
// MaskedPAN at most first six and last four.
type Card struct {
	Entry     Entry
	AID       string // application identifier, upper-case hex
	Label     string // application label (50) or preferred name (9F12), printable ASCII
	MaskedPAN string // first six and last four with '*' between, or empty
	Last4     string
	BIN6      string
	// PANSequence is the PAN sequence number (5F34), or -1 when absent.
	PANSequence int
	ServiceCode string // three digits, or empty
	Data        p2pe.Envelope
	// CryptogramMade is set when the device already asked the card for a
	// cryptogram (contactless). Where Outcome then has a Decision, it is what the
	// card answered and Authorize is not called; else Authorize tells.
	CryptogramMade bool
	Outcome        Outcome
}

// Decision is what the card and the kernel decided.
type Decision string

// Decisions of a kernel (Book 4 section 6; entry point outcomes of Book A).
const (
	Approved          Decision = "approved"
	Declined          Decision = "declined"
	OnlineRequest     Decision = "online_request"
	Deferred          Decision = "deferred"
	TryAgain          Decision = "try_again"
	SelectNext        Decision = "select_next"
	TryOtherInterface Decision = "try_other_interface"
	EndApplication    Decision = "end_application"
)

// Outcome is the result of Authorize or Complete.
type Outcome struct {
	Decision Decision
	CVM      string // CVM results (9F34), upper-case hex
	CVMText  string // "online PIN", "signature", "no CVM", ...
	// Signature is set when the cardholder has to sign.
	Signature bool
	TVR       string // terminal verification results (95), upper-case hex
	TSI       string // transaction status information (9B), upper-case hex
	ARC       string // authorisation response code (8A), two characters
	// Cryptogram is tag 9F26, CID tag 9F27, upper-case hex.
	Cryptogram string
	CID        string
	// Field55 is the BER-TLV sequence for the acquirer. It never contains 57,
	// 5A, 5F24, 9F1F, 9F20 or 5F20.
	Field55 []byte
	// PIN is the enciphered online PIN block with its KSN, in memory only.
	PIN p2pe.PINBlock
	// ReversalNeeded is set when the host approved and the card did not.
	ReversalNeeded bool
	// Reasons explain the decision to a technician, first cause first.
	Reasons []Reason
}

// Reason is one step of the chain that led to an outcome.
type Reason struct {
	Step string // "selection", "restrictions", "cvm", "risk", "taa", ...
	Text string // plain words, no card data
	Ref  string // book and section
}

// HostResponse is what the acquirer answered, or that it did not.
type HostResponse struct {
	// Reached is false when no answer came.
	Reached bool
	// Sent is true once one byte of the request may have left: an unreached
	// host is then asked about by reversal and the card must give an AAC
	// (design/payments.md R5).
	Sent     bool
	Approved bool
	ARC      string // 8A, two characters, as the issuer sent it
	// IssuerAuth is tag 91, without tag and length.
	IssuerAuth []byte
	// Scripts are the templates 71 and 72, each with tag and length.
	Scripts []byte
}
