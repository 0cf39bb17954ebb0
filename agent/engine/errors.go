package engine

import (
	"errors"
	"fmt"

	"tillbridge/agent/payment"
)

// What callers branch on with errors.Is.
var (
	// ErrNotFound: no record with that id.
	ErrNotFound = errors.New("no such record")
	// ErrNoRefund: no refund with that id.
	ErrNoRefund = errors.New("no such refund")
	// ErrRegister: no register with that id.
	ErrRegister = errors.New("no such register")
	// ErrInvalid: the request is not acceptable; nothing was stored.
	ErrInvalid = errors.New("request not acceptable")
	// ErrKeyMismatch: the idempotency key was used for another request.
	ErrKeyMismatch = errors.New("idempotency key was used for a different request")
	// ErrBusy: another payment holds the register; the error is a *BusyError.
	ErrBusy = errors.New("register is busy")
	// ErrClosedLane: the register is closed until a person settled something.
	ErrClosedLane = errors.New("register is closed")
	// ErrTooLate: the payment can no longer be cancelled; a void can undo it.
	ErrTooLate = errors.New("too late to cancel")
	// ErrNotAllowed: the record's state does not allow it.
	ErrNotAllowed = errors.New("not possible in this state")
	// ErrAmountLimit: more than may be given back.
	ErrAmountLimit = errors.New("amount exceeds what may be given back")
	// ErrStore: the store did not answer; whether something was stored is not
	// known. The same key finds out.
	ErrStore = errors.New("store did not answer")
	// ErrFull: the store takes nothing new.
	ErrFull = errors.New("store is full")
	// ErrStopped: the engine is not running.
	ErrStopped = errors.New("engine is not running")
	// ErrRecord: a record cannot be read. It is kept as it is.
	ErrRecord = errors.New("record cannot be read")
)

// Error is an error of the engine that a person may see.
type Error struct {
	Err    error  // one of the sentinels
	ID     string // payment or operation, or empty
	Detail string // plain words and what to do next; no card data
	Moved  payment.Moved
	Again  payment.Retry
}

// Error says what and why.
func (e *Error) Error() string {
	s := "engine: " + e.Err.Error()
	if e.ID != "" {
		s += " (" + e.ID + ")"
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// MoneyMoved says what the till may believe; empty counts as "no".
func (e *Error) MoneyMoved() payment.Moved {
	if e.Moved == "" {
		return payment.MovedNo
	}
	return e.Moved
}

// Retry says whether the till may try again; empty counts as "safe".
func (e *Error) Retry() payment.Retry {
	if e.Again == "" {
		return payment.RetrySafe
	}
	return e.Again
}

// Code returns the stable dotted code of design/technician.md.
func (e *Error) Code() string {
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrNotFound, "payment.not_found"}, {ErrNoRefund, "refund.not_found"}, {ErrRegister, "register.unknown"}, {ErrInvalid, "request.invalid"},
		{ErrKeyMismatch, "request.key_reused"}, {ErrBusy, "device.busy"}, {ErrClosedLane, "register.closed"},
		{ErrTooLate, "payment.too_late_to_cancel"}, {ErrNotAllowed, "payment.not_allowed"},
		{ErrAmountLimit, "refund.not_allowed"}, {ErrStore, "store.unavailable"}, {ErrFull, "store.full"},
		{ErrStopped, "engine.stopping"}, {ErrRecord, "store.record_unreadable"},
	} {
		if errors.Is(e.Err, c.err) {
			return c.code
		}
	}
	return "engine.error"
}

// PaymentID is the payment or operation that the error is about, or empty.
func (e *Error) PaymentID() string { return e.ID }

// BusyError says which payment holds the register: a till that changed tender
// without cancelling must learn whose amount the pad is waiting for.
type BusyError struct {
	RegisterID string
	// By holds the register. Of an operation at a terminal only ID, register,
	// amount and state are filled.
	By payment.Payment
}

// Error names the blocking payment and its amount.
func (e *BusyError) Error() string {
	return fmt.Sprintf("engine: register %s is busy with %s over %s (%s): cancel it, or send supersede", e.RegisterID, e.By.ID, e.By.Request.Amount.Money(), e.By.State)
}

// Is matches ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// Code returns the stable dotted code of design/technician.md.
func (e *BusyError) Code() string { return "device.busy" }

// Blocking is the payment that holds the register.
func (e *BusyError) Blocking() payment.Payment { return e.By }

// MoneyMoved is "no": the refused request moved nothing.
func (e *BusyError) MoneyMoved() payment.Moved { return payment.MovedNo }

// Retry is safe once the register is free; while its payment is in doubt the
// card must not be run again, here or elsewhere.
func (e *BusyError) Retry() payment.Retry {
	if e.By.State.Status == payment.InDoubt {
		return payment.RetryForbidden
	}
	return payment.RetrySafe
}

func refuse(err error, id, format string, args ...any) error {
	return &Error{Err: err, ID: id, Detail: fmt.Sprintf(format, args...)}
}
