package payment

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Facts are what is durably known of a payment beside its state. They are
// written in the commit that they are true from, and the transition table's
// conditions read them: a crash cannot make the agent forget that something
// was sent.
type Facts uint16

// The facts of a payment.
const (
	// Armed: R1's record. From here on money may move.
	Armed Facts = 1 << iota
	// Sent: a byte that can approve may have left, to the host or to a terminal
	// that authorises by itself. Written before the first such byte.
	Sent
	// Approved: the host or the terminal said yes.
	Approved
	// Denied: the host or the terminal said no, or that it ended without taking.
	Denied
	// NotStarted: the one who can approve gave proof that it never began.
	NotStarted
	// CardApproved: the card approved offline (TC).
	CardApproved
	// Refused: card, cardholder, signature or amount refused what was approved.
	Refused
	// ReversalDurable: a reversal is recorded; it is sent until acknowledged.
	ReversalDurable
	// ReversalAcked: the reversal was acknowledged.
	ReversalAcked
	// Changing: a void or a capture of this payment was sent and has no answer.
	Changing
	// LateApproval: an approval arrived after the reversal was durable. It is
	// recorded and never honoured.
	LateApproval
	// Decided: a person closed the payment, with evidence.
	Decided
)

var factNames = []string{"armed", "sent", "approved", "denied", "not_started", "card_approved", "refused",
	"reversal_durable", "reversal_acked", "changing", "late_approval", "decided"}

// Has reports whether all of g are known.
func (f Facts) Has(g Facts) bool { return f&g == g }

// Any reports whether one of g is known.
func (f Facts) Any(g Facts) bool { return f&g != 0 }

// String lists the names, separated by commas.
func (f Facts) String() string { return strings.Join(f.names(), ",") }

func (f Facts) names() []string {
	names := []string{}
	for i, n := range factNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// MarshalJSON writes the names: a record stays readable and the bits may move.
func (f Facts) MarshalJSON() ([]byte, error) { return json.Marshal(f.names()) }

// UnmarshalJSON reads what MarshalJSON wrote. An unknown name is an error: a
// record of a newer version must not lose what it knew.
func (f *Facts) UnmarshalJSON(b []byte) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		return fmt.Errorf("payment: reading facts: %w", err)
	}
	*f = 0
next:
	for _, n := range names {
		for i, known := range factNames {
			if n == known {
				*f |= 1 << i
				continue next
			}
		}
		return fmt.Errorf("payment: the record knows a fact of a newer version; upgrade the agent")
	}
	return nil
}
