package acquirer

import (
	"errors"
	"fmt"
)

// Why no usable answer came. Each is matched with errors.Is on the error of a
// [Link] method.
var (
	// ErrUnreachable: no connection to the host could be made.
	ErrUnreachable = errors.New("the host cannot be reached")
	// ErrUntrusted: the host's certificate does not verify.
	ErrUntrusted = errors.New("the host's certificate does not verify")
	// ErrTimeout: the time was over before an answer came.
	ErrTimeout = errors.New("no answer in time")
	// ErrDisconnected: the connection ended before the answer.
	ErrDisconnected = errors.New("the connection ended before the answer")
	// ErrCanceled: the caller gave up.
	ErrCanceled = errors.New("given up by the caller")
	// ErrClosed: the link was closed.
	ErrClosed = errors.New("the link is closed")
	// ErrInvalid: the request cannot be expressed; nothing was sent.
	ErrInvalid = errors.New("the request is not valid")
	// ErrUnusable: the host answered, and the answer says nothing of the outcome
	// (a duplicate, a format complaint, an answer that contradicts the request).
	ErrUnusable = errors.New("the answer settles nothing")
	// ErrBusy: a request with the same STAN is in flight on this terminal.
	ErrBusy = errors.New("a request with this STAN is in flight")
	// ErrUnsupported: the host has no such message.
	ErrUnsupported = errors.New("the host has no such message")
)

// Error is the error of every [Link] method. Its text holds no card data.
type Error struct {
	Op   string // "authorize", "reverse", ...
	Sent bool   // a byte may have left
	Err  error  // matches one of the sentinels
	// Detail is a safe text for a technician, or empty.
	Detail string
}

// Error says what failed, why, and whether something was sent.
func (e *Error) Error() string {
	sent := "nothing was sent"
	if e.Sent {
		sent = "the request may have reached the host"
	}
	if e.Detail != "" {
		return fmt.Sprintf("acquirer: %s: %v (%s): %s", e.Op, e.Err, e.Detail, sent)
	}
	return fmt.Sprintf("acquirer: %s: %v: %s", e.Op, e.Err, sent)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the stable dotted code of design/technician.md.
func (e *Error) Code() string {
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrUnreachable, "host.unreachable"}, {ErrUntrusted, "host.untrusted"}, {ErrTimeout, "host.timeout"},
		{ErrDisconnected, "host.disconnected"}, {ErrCanceled, "host.canceled"}, {ErrClosed, "host.closed"},
		{ErrInvalid, "host.request_invalid"}, {ErrUnusable, "host.answer_unusable"}, {ErrBusy, "host.stan_busy"},
		{ErrUnsupported, "host.unsupported"},
	} {
		if errors.Is(e.Err, c.err) {
			return c.code
		}
	}
	return "host.error"
}
