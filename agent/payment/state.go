package payment

import "slices"

// Status is coarse and stable: a till codes on it.
type Status string

// The statuses of a payment (design/payments.md section 2). An [Operation]
// uses pending, in_progress, succeeded, declined, canceled, failed, in_doubt.
const (
	Pending              Status = "pending"
	InProgress           Status = "in_progress"
	RequiresConfirmation Status = "requires_confirmation"
	Authorized           Status = "authorized"
	Succeeded            Status = "succeeded"
	AcceptedOffline      Status = "accepted_offline"
	Declined             Status = "declined"
	Canceled             Status = "canceled"
	Failed               Status = "failed"
	InDoubt              Status = "in_doubt"
	Reversed             Status = "reversed"
)

// Stage is fine and may grow: people and timelines read it.
type Stage string

// The stages, by the status they belong to.
const (
	// of pending
	StageQueued       Stage = "queued"
	StageWakingDevice Stage = "waking_device"
	// of in_progress; authorizing is the durable record of R1
	StageWaitingCard      Stage = "waiting_card"
	StageReading          Stage = "reading"
	StageWaitingPIN       Stage = "waiting_pin"
	StageWaitingSignature Stage = "waiting_signature"
	StageWaitingCustomer  Stage = "waiting_customer"
	StageAuthorizing      Stage = "authorizing"
	// of requires_confirmation
	StageDuplicate Stage = "challenge_duplicate"
	StageOffline   Stage = "challenge_offline"
	StagePartial   Stage = "challenge_partial"
	StageSignature Stage = "challenge_signature"
	// of accepted_offline
	StageStored         Stage = "stored"
	StageApprovedByCard Stage = "approved_by_card"
	StageForwarding     Stage = "forwarding"
	// of declined
	StageByCard              Stage = "by_card"
	StageByIssuer            Stage = "by_issuer"
	StageByRule              Stage = "by_rule"
	StageOfflineAfterForward Stage = "offline_after_forward"
	StageAuthorizationLapsed Stage = "authorization_lapsed"
	// of canceled
	StageByCustomer Stage = "by_customer"
	StageByPOS      Stage = "by_pos"
	StageTimedOut   Stage = "timed_out"
	// of failed
	StageDevice Stage = "device"
	StageConfig Stage = "config"
	StageHost   Stage = "host"
	StageStore  Stage = "store"
	// of in_doubt; held waits for a person. accepted_offline has held too.
	StageQueryingDevice Stage = "querying_device"
	StageQueryingHost   Stage = "querying_host"
	StageReversing      Stage = "reversing"
	StageHeld           Stage = "held"
	// StageNone is the stage of authorized, succeeded and reversed.
	StageNone Stage = ""
)

// Moved answers: did the cardholder's money move?
type Moved string

// Answers of [State.MoneyMoved].
const (
	MovedNo       Moved = "no"
	MovedYes      Moved = "yes"
	MovedHeld     Moved = "held"     // reserved on the card, not taken
	MovedPromised Moved = "promised" // accepted offline; the issuer has not been asked
	MovedReturned Moved = "returned" // taken or reserved, and given back
	MovedUnknown  Moved = "unknown"  // nobody may guess
)

// Retry answers: may the till run the sale again?
type Retry string

// Answers of [State.Retry].
const (
	RetrySafe      Retry = "safe"      // another card or another try charges once
	RetryNever     Retry = "never"     // the sale is done: a retry would be a second sale
	RetryForbidden Retry = "forbidden" // do not run the card again
	RetryWait      Retry = "wait"      // not finished: ask again
)

// State is status and stage.
type State struct {
	Status Status `json:"status"`
	Stage  Stage  `json:"stage"`
}

// String prints "status/stage" or "status".
func (s State) String() string {
	if s.Stage == StageNone {
		return string(s.Status)
	}
	return string(s.Status) + "/" + string(s.Stage)
}

// stateRow is one line of the table of design/payments.md section 2.
type stateRow struct {
	status Status
	stages []Stage
	moved  Moved
	retry  Retry
}

var stateTable = []stateRow{
	{Pending, []Stage{StageQueued, StageWakingDevice}, MovedNo, RetryWait},
	{InProgress, []Stage{StageWaitingCard, StageReading, StageWaitingPIN, StageWaitingSignature, StageWaitingCustomer}, MovedNo, RetryWait},
	{InProgress, []Stage{StageAuthorizing}, MovedUnknown, RetryWait},
	{RequiresConfirmation, []Stage{StageDuplicate, StageOffline}, MovedNo, RetryWait},
	{RequiresConfirmation, []Stage{StagePartial, StageSignature}, MovedUnknown, RetryWait},
	{Authorized, []Stage{StageNone}, MovedHeld, RetryNever},
	{Succeeded, []Stage{StageNone}, MovedYes, RetryNever},
	{AcceptedOffline, []Stage{StageStored, StageApprovedByCard, StageForwarding, StageHeld}, MovedPromised, RetryNever},
	{Declined, []Stage{StageByCard, StageByIssuer, StageByRule}, MovedNo, RetrySafe},
	{Declined, []Stage{StageOfflineAfterForward, StageAuthorizationLapsed}, MovedNo, RetryNever},
	{Canceled, []Stage{StageByCustomer, StageByPOS, StageTimedOut}, MovedNo, RetrySafe},
	{Failed, []Stage{StageDevice, StageConfig, StageHost, StageStore}, MovedNo, RetrySafe},
	{InDoubt, []Stage{StageQueryingDevice, StageQueryingHost, StageReversing, StageHeld}, MovedUnknown, RetryForbidden},
	{Reversed, []Stage{StageNone}, MovedReturned, RetrySafe},
}

// States returns every state a payment can take, in the order of the table.
func States() []State {
	var all []State
	for _, r := range stateTable {
		for _, g := range r.stages {
			all = append(all, State{r.status, g})
		}
	}
	return all
}

func (s State) row() (stateRow, bool) {
	for _, r := range stateTable {
		if r.status != s.Status {
			continue
		}
		if slices.Contains(r.stages, s.Stage) {
			return r, true
		}
	}
	return stateRow{}, false
}

// Valid reports whether the table lists the state.
func (s State) Valid() bool { _, ok := s.row(); return ok }

// MoneyMoved says what a till may believe. A state outside the table is
// unknown, never "no".
func (s State) MoneyMoved() Moved {
	if r, ok := s.row(); ok {
		return r.moved
	}
	return MovedUnknown
}

// Retry says whether the till may run the sale again. A state outside the
// table is forbidden.
func (s State) Retry() Retry {
	if r, ok := s.row(); ok {
		return r.retry
	}
	return RetryForbidden
}

// Final reports whether the payment itself has ended: nothing of it runs any
// more. A void or a capture may still move it.
func (s State) Final() bool {
	switch s.Status {
	case Authorized, Succeeded, Declined, Canceled, Failed, Reversed:
		return true
	case AcceptedOffline:
		return s.Stage == StageStored || s.Stage == StageApprovedByCard
	}
	return false
}

// Open reports whether the payment waits for something: `status=open` of the
// API. It is the opposite of Final, and an in-doubt payment is open.
func (s State) Open() bool { return !s.Final() }
