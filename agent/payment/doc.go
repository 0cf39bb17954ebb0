// Package payment is the money side of the agent as pure values: what a
// payment is, which states it may take, and what each state lets a till
// believe.
//
// Start with [Payment] and [Payment.Move]: a move that the transition table
// ([Transitions]) does not list, or whose condition on the record's durable
// [Facts] does not hold, is refused with [ErrTransition]. [State.MoneyMoved]
// and [State.Retry] answer the two questions every till has. An [Operation]
// (refund, void, capture, increment, adjust, forward) is a record of its own
// under its payment. [Event] is what the one log carries to the API, the CRM,
// the workflow and the figures.
//
// Source: design/payments.md sections 2 and 3 (the states, rules R0 to R6) and
// knowledge/crm.md section 7 (the fields of an event). Currencies are ISO 4217.
//
// What it does not do: it performs no I/O, reads no clock and logs nothing;
// times are given. It stores nothing: the engine commits. No type here has a
// field for a card number, track, PIN block or key; the masked number holds at
// most first six and last four.
package payment
