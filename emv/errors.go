package emv

import "errors"

// Ends of a [Session] step that callers branch on. A session wraps the one
// that holds, with the device's own code beside it; any other error is a
// fault of device or link.
var (
	// ErrCancelled: the cardholder pressed cancel, or Cancel was called and the
	// device confirmed.
	ErrCancelled = errors.New("emv: cancelled")
	// ErrNoCard: no card came, or the cardholder did nothing, in the time given.
	ErrNoCard = errors.New("emv: nobody acted in time")
	// ErrCardRemoved: the card was pulled before the step was over.
	ErrCardRemoved = errors.New("emv: card removed too early")
	// ErrCardUnusable: the card answers and cannot be used here: no common
	// application, blocked, unreadable.
	ErrCardUnusable = errors.New("emv: this card cannot be used here")
)
