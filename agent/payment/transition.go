package payment

import (
	"errors"
	"fmt"
	"slices"
)

// ErrTransition is matched by every refusal of [Payment.Move] and
// [Operation.Move]. It is a defect of the caller, never of a till.
var ErrTransition = errors.New("payment: transition not allowed")

// Transition is one row of the table: from one status to another, under a
// condition on the facts.
type Transition struct {
	From, To Status
	// Needs must hold: each element is a set of which all must be known; one
	// element is enough. Empty means no need.
	Needs []Facts
	// Bars must not be known, any of them.
	Bars Facts
	// Why names the rule of design/payments.md.
	Why string
}

// Transitions is the whole table of a payment. What is not listed is refused.
var Transitions = []Transition{
	{From: Pending, To: InProgress, Why: "the device is ready"},
	{From: Pending, To: Canceled, Bars: Sent | Armed, Why: "cancelled before the card"},
	{From: Pending, To: Failed, Bars: Sent | Armed, Why: "device or configuration"},

	{From: InProgress, To: RequiresConfirmation, Why: "a question for the cashier"},
	{From: InProgress, To: Authorized, Needs: approvedFacts, Bars: notApproved, Why: "approved, capture later"},
	{From: InProgress, To: Succeeded, Needs: approvedFacts, Bars: notApproved, Why: "approved"},
	{From: InProgress, To: AcceptedOffline, Needs: []Facts{Armed}, Bars: Sent | ReversalDurable | Denied, Why: "R5: only when nothing was sent"},
	{From: InProgress, To: Declined, Bars: Sent | Approved | ReversalDurable, Why: "declined by card or rule, nothing was sent"},
	{From: InProgress, To: Declined, Needs: []Facts{Denied}, Bars: Approved | ReversalDurable, Why: "the host or terminal said no"},
	{From: InProgress, To: Canceled, Bars: Sent | Approved | ReversalDurable, Why: "cancelled, nothing was sent"},
	{From: InProgress, To: Canceled, Needs: []Facts{Denied, NotStarted}, Bars: Approved | ReversalDurable, Why: "the terminal ended without taking"},
	{From: InProgress, To: Failed, Bars: Sent | Approved | ReversalDurable, Why: "proof: nothing was sent"},
	{From: InProgress, To: Failed, Needs: []Facts{NotStarted}, Bars: Approved | ReversalDurable, Why: "proof: never started"},
	{From: InProgress, To: InDoubt, Needs: []Facts{Armed}, Why: "R2, R5, R6: past R1 without a result that can be kept"},

	{From: RequiresConfirmation, To: InProgress, Why: "the cashier said yes"},
	{From: RequiresConfirmation, To: Succeeded, Needs: approvedFacts, Bars: notApproved, Why: "partial or signature accepted"},
	{From: RequiresConfirmation, To: Authorized, Needs: approvedFacts, Bars: notApproved, Why: "partial or signature accepted"},
	{From: RequiresConfirmation, To: AcceptedOffline, Needs: []Facts{Armed}, Bars: Sent | ReversalDurable | Denied, Why: "R5: only when nothing was sent"},
	{From: RequiresConfirmation, To: Declined, Bars: Sent | Approved | ReversalDurable, Why: "the cashier said no, nothing was sent"},
	{From: RequiresConfirmation, To: Canceled, Bars: Sent | Approved | ReversalDurable, Why: "the cashier said no, nothing was sent"},
	{From: RequiresConfirmation, To: Failed, Bars: Sent | Approved | ReversalDurable, Why: "proof: nothing was sent"},
	{From: RequiresConfirmation, To: InDoubt, Needs: []Facts{Armed}, Why: "R6: an approval that is refused is reversed first"},

	{From: Authorized, To: Succeeded, Needs: settledYes, Bars: ReversalDurable | Changing, Why: "captured"},
	{From: Authorized, To: Reversed, Needs: []Facts{ReversalAcked}, Why: "voided"},
	{From: Authorized, To: Declined, Bars: Changing | ReversalDurable, Why: "the authorisation lapsed"},
	{From: Authorized, To: InDoubt, Needs: []Facts{Changing}, Why: "the answer to a capture or void was lost"},

	{From: AcceptedOffline, To: Succeeded, Needs: []Facts{Sent | Approved}, Bars: ReversalDurable, Why: "forwarded and approved"},
	{From: AcceptedOffline, To: Declined, Needs: []Facts{Sent | Denied}, Bars: Approved | ReversalDurable, Why: "forwarded and declined"},
	{From: AcceptedOffline, To: InDoubt, Needs: []Facts{Sent}, Why: "the answer to the forward was lost"},
	{From: AcceptedOffline, To: Reversed, Bars: Sent, Why: "voided before it was forwarded"},

	{From: InDoubt, To: Succeeded, Needs: settledYes, Bars: Refused | ReversalDurable | Changing, Why: "R3: proof of the approval"},
	{From: InDoubt, To: Authorized, Needs: settledYes, Bars: Refused | ReversalDurable | Changing, Why: "R3: proof of the approval"},
	{From: InDoubt, To: AcceptedOffline, Needs: []Facts{CardApproved}, Bars: Sent | ReversalDurable, Why: "the card approved, nothing was sent"},
	{From: InDoubt, To: Declined, Needs: []Facts{Denied, Decided}, Bars: Approved | ReversalDurable, Why: "R3: proof of the decline"},
	{From: InDoubt, To: Declined, Needs: []Facts{Refused | ReversalDurable | ReversalAcked}, Why: "R6: only after the reversal is acknowledged"},
	{From: InDoubt, To: Reversed, Needs: []Facts{ReversalDurable | ReversalAcked, Changing | ReversalAcked}, Why: "R3: the reversal or void is acknowledged"},
	{From: InDoubt, To: Reversed, Needs: []Facts{Decided}, Why: "a person saw the money returned"},
	{From: InDoubt, To: Failed, Bars: Sent | Approved | ReversalDurable, Why: "proof: nothing was sent"},
	{From: InDoubt, To: Failed, Needs: []Facts{NotStarted, Decided}, Bars: Approved | ReversalDurable, Why: "proof: never started"},

	{From: Succeeded, To: Reversed, Needs: []Facts{ReversalAcked}, Why: "voided before settlement"},
	{From: Succeeded, To: InDoubt, Needs: []Facts{Changing}, Why: "the answer to a void was lost"},
}

var (
	approvedFacts = []Facts{Armed | Sent | Approved}
	notApproved   = Refused | ReversalDurable | Denied
	settledYes    = []Facts{Approved, Decided}
)

// holds reports whether the row's condition holds.
func (t Transition) holds(f Facts) bool {
	if f.Any(t.Bars) {
		return false
	}
	if len(t.Needs) == 0 {
		return true
	}
	return slices.ContainsFunc(t.Needs, f.Has)
}

// Allowed returns nil when a payment with these facts may go from one state to
// the other. Within one status a payment may change its stage; a stage of
// authorizing is never left for an earlier one, and a payment whose reversal
// is durable stays reversing or held.
func Allowed(from, to State, f Facts) error {
	if !from.Valid() || !to.Valid() {
		return fmt.Errorf("%w: %s to %s: not a state", ErrTransition, from, to)
	}
	if from.Status == to.Status {
		return allowedStage(from, to, f)
	}
	listed := false
	for _, t := range Transitions {
		if t.From == from.Status && t.To == to.Status {
			listed = true
			if t.holds(f) {
				if (to.Stage == StageAuthorizationLapsed) != (from.Status == Authorized && to.Status == Declined) {
					return fmt.Errorf("%w: %s to %s", ErrTransition, from, to)
				}
				return allowedArrival(to, f)
			}
		}
	}
	if listed {
		return fmt.Errorf("%w: %s to %s with facts [%s]", ErrTransition, from, to, f)
	}
	return fmt.Errorf("%w: %s to %s is not in the table", ErrTransition, from, to)
}

func allowedStage(from, to State, f Facts) error {
	switch from.Status {
	case Pending, InProgress, InDoubt, AcceptedOffline, RequiresConfirmation:
	default:
		return fmt.Errorf("%w: %s is final; it does not become %s", ErrTransition, from, to)
	}
	return allowedArrival(to, f)
}

// allowedArrival holds the conditions that belong to a state and not to a way
// into it.
func allowedArrival(to State, f Facts) error {
	if f.Has(ReversalDurable) {
		// R3: a durable reversal has two exits.
		switch to.Status {
		case Reversed:
			return nil
		case InDoubt:
			if to.Stage == StageReversing || to.Stage == StageHeld {
				return nil
			}
		case Declined:
			if f.Has(Refused | ReversalAcked) {
				return nil
			}
		}
		return fmt.Errorf("%w: %s with facts [%s]", ErrTransition, to, f)
	}
	switch {
	case to.Status == InProgress && f.Has(Armed) && to.Stage != StageAuthorizing,
		to.Status == InProgress && to.Stage == StageAuthorizing && !f.Has(Armed),
		to.Status == InDoubt && to.Stage == StageReversing && !f.Has(Changing),
		to.Status == AcceptedOffline && (to.Stage == StageStored || to.Stage == StageApprovedByCard) && f.Has(Sent),
		to.Status == AcceptedOffline && to.Stage == StageApprovedByCard && !f.Has(CardApproved),
		to.Status == AcceptedOffline && to.Stage == StageForwarding && !f.Has(Sent),
		to.Status == RequiresConfirmation && (to.Stage == StageDuplicate || to.Stage == StageOffline) && f.Has(Sent),
		to.Status == RequiresConfirmation && (to.Stage == StagePartial || to.Stage == StageSignature) && !f.Has(Armed):
		return fmt.Errorf("%w: %s with facts [%s]", ErrTransition, to, f)
	}
	return nil
}

// AfterRestart says what a record found at start must become before anything
// else runs on its device (R2), and whether it must change at all. A payment
// that had not reached R1 has moved nothing and ends as failed or canceled by
// its caller's choice: it is returned as failed/device.
func AfterRestart(s State, f Facts) (to State, change bool) {
	switch s.Status {
	case Pending:
		return State{Failed, StageDevice}, true
	case InProgress, RequiresConfirmation:
		switch {
		case !f.Has(Armed):
			return State{Failed, StageDevice}, true
		case f.Has(ReversalDurable):
			return State{InDoubt, StageReversing}, true
		}
		return State{InDoubt, StageQueryingHost}, true
	case AcceptedOffline:
		if s.Stage == StageForwarding {
			return State{InDoubt, StageQueryingHost}, true
		}
	}
	return s, false
}
