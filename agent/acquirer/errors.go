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

// kinds are the sentinels with their stable codes and what a person does next.
var kinds = []struct {
	err        error
	code, next string
}{
	{ErrUnreachable, "host.unreachable", "check the network and the acquirer's address"},
	{ErrUntrusted, "host.untrusted", "check the pinned authority, the server name and the clock"},
	{ErrTimeout, "host.timeout", "if it repeats, call the acquirer"},
	{ErrDisconnected, "host.disconnected", "if it repeats, check the network"},
	{ErrCanceled, "host.canceled", ""},
	{ErrClosed, "host.closed", "the agent is stopping"},
	{ErrInvalid, "host.request_invalid", "check terminal, merchant and currency in the configuration"},
	{ErrUnusable, "host.answer_unusable", "if it repeats, call the acquirer"},
	{ErrBusy, "host.stan_busy", "wait for the first request"},
	{ErrUnsupported, "host.unsupported", "this acquirer's dialect does not have it"},
}

// Error says what failed, why, whether something was sent, and what to do.
func (e *Error) Error() string {
	text := fmt.Sprintf("acquirer: %s: %v", e.Op, e.Err)
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	if e.Sent {
		text += "; the request may have reached the host and is settled by inquiry or reversal"
	} else {
		text += "; nothing was sent"
	}
	for _, k := range kinds {
		if errors.Is(e.Err, k.err) && k.next != "" {
			return text + ": " + k.next
		}
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the stable dotted code of design/technician.md.
func (e *Error) Code() string {
	for _, k := range kinds {
		if errors.Is(e.Err, k.err) {
			return k.code
		}
	}
	return "host.error"
}
