// Package acquirer holds the seam between the engine and whoever authorises a
// payment: a bank's host, a processor or a gateway.
//
// Start with [Link]. The engine makes a [Request], records it as authorizing
// (design/payments.md R1), and only then calls Authorize. What comes back is a
// [Result], whose [Outcome] is one of four: Approved, Declined, Unknown,
// NotSent. The zero value is Unknown, so that a forgotten field can never look
// like an answer. [Outcome.Sent] says whether a byte may have left; a link says
// NotSent only with proof.
//
// A link never repeats a request by itself, never turns silence into a
// decline, and never gives the answer of one request to another. Repeats of
// reversals and advices belong to the caller, who keeps them in its store and
// counts them in [Reversal.Attempt] and [Advice.Attempt].
//
// Package tillbridge/agent/acquirer/iso8583 implements Link over ISO 8583.
//
// Source of terms: ISO 8583:1987 (data elements are called DE and a number),
// EMV Book 4 section 12 (field 55, 8A, 91, 71, 72). What a response code
// allows is a table, see [Classify].
//
// What this package does not do: it stores nothing, allots no STAN, and holds
// no key. Card data enters as ciphertext (p2pe.Envelope, p2pe.PINBlock) and
// is passed on as such.
package acquirer

import "context"

// Link is one connection to an authorising host. Its methods may be called from
// several goroutines and end by the context's deadline or the link's own limit,
// whichever is first.
//
// Every method returns a valid first value also beside an error. The error is
// nil when the host answered, and else an [*Error] that says why not.
type Link interface {
	// Authorize sends a sale, authorisation, refund, void or capture, once.
	Authorize(ctx context.Context, r Request) (Result, error)
	// Advise tells the host of something that has already happened (a capture of
	// an offline approval). It is repeated by the caller until acknowledged.
	Advise(ctx context.Context, a Advice) (Ack, error)
	// Reverse undoes a request whose answer was lost, or refused by the card. It
	// is durable before it is sent and repeated by the caller until [Ack.Ended].
	Reverse(ctx context.Context, r Reversal) (Ack, error)
	// Inquire asks what became of a request. "Not found" is no proof that
	// nothing was booked (design/payments.md R3).
	Inquire(ctx context.Context, q Inquiry) (Finding, error)
	// Echo asks whether the host is there. It moves no money.
	Echo(ctx context.Context) error
}
