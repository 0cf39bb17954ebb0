package contact

import (
	"errors"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
)

// Reasons of an [Error], matched with errors.Is beside the sentinels of
// package emv.
var (
	ErrFormat       = errors.New("the card's data cannot be read")
	ErrDuplicate    = errors.New("the card gave a data object twice")
	ErrMissing      = errors.New("the card lacks mandatory data")
	ErrNumber       = errors.New("the card number is not 12 to 19 digits, or differs within the card")
	ErrFileLocator  = errors.New("the card's file locator is malformed")
	ErrStatus       = errors.New("the card refused a command")
	ErrBlocked      = errors.New("the card is blocked")
	ErrNoCandidate  = errors.New("no application is common to card and terminal")
	ErrCryptogram   = errors.New("the card's cryptogram answer is not one that was asked for")
	ErrNoAnswer     = errors.New("the card gave no answer in time")
	ErrAmount       = errors.New("the amount cannot be given to a card")
	ErrTerms        = errors.New("the session lacks date or currency, or does not allow a card with contacts")
	ErrOrder        = errors.New("the steps of the session were called out of order")
	ErrEncrypter    = errors.New("the card data could not be encrypted")
	ErrConfig       = errors.New("contact: the configuration is unusable")
	ErrNotForwarded = errors.New("contact: the command was not passed to a card")
)

// Error is how a step of a session fails. It holds no card data: a cause is
// kept for errors.Is and never printed.
type Error struct {
	Step string // "selection", "initiate", "records", "oda", "cvm", "risk", "generate ac", ...
	// Class is the sentinel of package emv to branch on, nil for a fault of
	// reader or caller.
	Class  error
	Reason error
	// Status is the card's SW1 SW2 when that is the reason, else 0.
	Status apdu.Status
	cause  error
}

// Error names step and reason and says what to do.
func (e *Error) Error() string {
	s := "contact: " + e.Step + ": " + e.Reason.Error()
	if e.Status != 0 {
		s += " (status " + e.Status.String() + ")"
	}
	switch {
	case errors.Is(e.Class, emv.ErrCardRemoved):
		s += ": insert the card again and leave it in"
	case errors.Is(e.Class, emv.ErrCardUnusable):
		s += ": ask for another card"
	case errors.Is(e.Class, emv.ErrCancelled):
		s += ": start again"
	}
	return s
}

// Unwrap gives class, reason and cause.
func (e *Error) Unwrap() []error {
	var out []error
	for _, err := range []error{e.Class, e.Reason, e.cause} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// Code is the stable code for `tillbridge explain`.
func (e *Error) Code() string {
	switch {
	case errors.Is(e.Class, emv.ErrCancelled):
		return "card.cancelled"
	case errors.Is(e.Class, emv.ErrCardRemoved):
		return "card.removed"
	case errors.Is(e.Class, emv.ErrCardUnusable):
		return "card.unusable"
	case errors.Is(e.Reason, ErrNoAnswer):
		return "card.silent"
	}
	return "card.kernel"
}

// unusable is a card that cannot be used here.
func unusable(step string, reason error, sw apdu.Status) error {
	return &Error{Step: step, Class: emv.ErrCardUnusable, Reason: reason, Status: sw}
}
