package payment

import (
	"fmt"
	"time"
)

// Kind is what an operation does to its payment.
type Kind string

// Kinds of operation: every one that can move money is a record of its own (R0).
const (
	KindRefund    Kind = "refund"
	KindVoid      Kind = "void"
	KindCapture   Kind = "capture"
	KindIncrement Kind = "increment"
	KindAdjust    Kind = "adjust"
	KindForward   Kind = "forward"
)

// Operation is a refund, void, capture, increment, adjust or forward under a
// payment. A refund without PaymentID is unlinked.
type Operation struct {
	ID         string `json:"id"` // "ref_…" for a refund, "op_…" for the others
	Kind       Kind   `json:"kind"`
	PaymentID  string `json:"payment_id,omitempty"`
	Credential string `json:"credential"`
	Key        string `json:"idempotency_key"`
	Digest     string `json:"digest"`
	RegisterID string `json:"register_id"`
	DeviceID   string `json:"device_id,omitempty"`
	Amount     Money  `json:"amount"`
	Reference  string `json:"reference,omitempty"`
	Why        string `json:"why,omitempty"` // the till's reason, scanned by the API

	State State `json:"state"`
	Facts Facts `json:"facts"`

	// Booked is set in the commit that adds the operation's effect to its
	// payment; the effect is added once.
	Booked bool `json:"booked,omitempty"`

	Host         HostRef      `json:"host,omitzero"`
	Terminal     TerminalRef  `json:"terminal,omitzero"`
	Reversal     *Reversal    `json:"reversal,omitempty"` // repeats: a void is sent until it has an answer
	Reason       string       `json:"reason,omitempty"`
	Code         string       `json:"code,omitempty"`
	DeclineGroup DeclineGroup `json:"decline_group,omitempty"`
	Decision     *Decision    `json:"decision,omitempty"`
	Receipt      []string     `json:"receipt,omitempty"`
	BusinessDate string       `json:"business_date,omitempty"`
	Created      time.Time    `json:"created"`
	Updated      time.Time    `json:"updated"`
	Steps        []Step       `json:"steps"`
}

// OperationTransition is a row of the table of operations.
type OperationTransition struct {
	From, To Status
	Needs    []Facts // one of these sets must be known; empty means no need
	Bars     Facts   // none of these may be known
}

// OperationTransitions is the whole table of an operation
// (design/payments.md section 2). Canceled and failed are reached only while
// nothing was sent or with the proof that nothing began.
var OperationTransitions = []OperationTransition{
	{From: Pending, To: InProgress},
	{From: Pending, To: Canceled, Bars: Sent},
	{From: Pending, To: Failed, Bars: Sent},
	{From: InProgress, To: Succeeded, Needs: []Facts{Armed | Sent | Approved}, Bars: Denied | ReversalDurable},
	{From: InProgress, To: Declined, Needs: []Facts{Sent | Denied}, Bars: Approved},
	{From: InProgress, To: Declined, Bars: Sent | Approved},
	{From: InProgress, To: Canceled, Bars: Sent | Approved},
	{From: InProgress, To: Canceled, Needs: []Facts{Denied, NotStarted}, Bars: Approved},
	{From: InProgress, To: Failed, Bars: Sent | Approved},
	{From: InProgress, To: Failed, Needs: []Facts{NotStarted}, Bars: Approved},
	{From: InProgress, To: InDoubt, Needs: []Facts{Armed}},
	{From: InDoubt, To: Succeeded, Needs: []Facts{Approved, Decided}, Bars: Denied | ReversalDurable},
	{From: InDoubt, To: Declined, Needs: []Facts{Denied, Decided, ReversalDurable | ReversalAcked}, Bars: Approved},
	{From: InDoubt, To: Failed, Bars: Sent | Approved},
	{From: InDoubt, To: Failed, Needs: []Facts{NotStarted, Decided, ReversalDurable | ReversalAcked}, Bars: Approved},
}

// OperationAllowed returns nil when an operation with these facts may go from
// one state to the other.
func OperationAllowed(from, to State, f Facts) error {
	if !from.Valid() || !to.Valid() {
		return fmt.Errorf("%w: operation %s to %s: not a state", ErrTransition, from, to)
	}
	if from.Status == to.Status {
		switch from.Status {
		case Pending, InProgress, InDoubt:
			if to.Status == InProgress && f.Has(Armed) && to.Stage != StageAuthorizing {
				return fmt.Errorf("%w: operation %s to %s with facts [%s]", ErrTransition, from, to, f)
			}
			return nil
		}
		return fmt.Errorf("%w: operation %s is final", ErrTransition, from)
	}
	for _, t := range OperationTransitions {
		if t.From == from.Status && t.To == to.Status && (Transition{Needs: t.Needs, Bars: t.Bars}).holds(f) {
			return nil
		}
	}
	return fmt.Errorf("%w: operation %s to %s with facts [%s]", ErrTransition, from, to, f)
}

// NewOperation returns an operation that is queued.
func NewOperation(id string, k Kind, paymentID, credential, key, digest, register string, amount Money, at time.Time) Operation {
	o := Operation{ID: id, Kind: k, PaymentID: paymentID, Credential: credential, Key: key, Digest: digest,
		RegisterID: register, Amount: amount, State: State{Pending, StageQueued}, Created: at, Updated: at}
	o.Steps = appendStep(o.Steps, Step{At: at, State: o.State})
	return o
}

// Move changes the state if the table allows it with the facts that will hold
// after learn was added. On error nothing changed.
func (o *Operation) Move(to State, learn Facts, at time.Time, note string) error {
	f := o.Facts | learn
	if err := OperationAllowed(o.State, to, f); err != nil {
		return fmt.Errorf("moving %s: %w", o.ID, err)
	}
	o.State, o.Facts, o.Updated = to, f, at
	o.Steps = appendStep(o.Steps, Step{At: at, State: to, Note: note})
	return nil
}

// NoteLate records an approval that came after the reversal was durable. It
// changes no state.
func (o *Operation) NoteLate(at time.Time, note string) {
	o.Facts |= LateApproval
	o.Updated = at
	o.Steps = appendStep(o.Steps, Step{At: at, State: o.State, Note: note})
}

// MoneyMoved says what a till may believe of this operation's own money
// movement: yes when a refund was given or a capture taken.
func (o *Operation) MoneyMoved() Moved {
	switch {
	case o.State.Status == Succeeded && o.Kind == KindVoid:
		return MovedReturned
	case o.State.Status == Declined, o.State.Status == Canceled, o.State.Status == Failed:
		return MovedNo
	}
	return o.State.MoneyMoved()
}

// Retry says whether the operation may be asked for again under a new key.
func (o *Operation) Retry() Retry { return o.State.Retry() }

// OperationAfterRestart is R2 for an operation found at start.
func OperationAfterRestart(s State, f Facts) (to State, change bool) {
	switch s.Status {
	case Pending:
		return State{Failed, StageDevice}, true
	case InProgress:
		if !f.Has(Armed) {
			return State{Failed, StageDevice}, true
		}
		return State{InDoubt, StageQueryingHost}, true
	}
	return s, false
}
