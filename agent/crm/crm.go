// Package crm tells a customer relationship system what happened at the
// counter: which payment, for which token, for how much, and never with card
// data.
//
// Three parts, each usable alone:
//
//   - [Event] is the canonical event (a CloudEvents 1.0.2 envelope and its
//     data). It is made from a stored record by a [Mapper], checked by
//     [Event.Check] and written by [Event.AppendJSON].
//   - [Sink] is one receiving system. Package webhook holds the first: signed
//     HTTP requests that any middleware can take.
//   - [Forwarder] moves what an [Outbox] holds to a Sink: in order per
//     customer, again after a failure, and never so that one bad record or one
//     absent system stops the rest. Start with it.
//
// # Order
//
// An Outbox leases at most one item per key at a time, the oldest. The next
// one of the same key is leased only after the first was acknowledged or put
// aside. Different keys travel side by side.
//
// # Exactly once in effect
//
// Delivery is at least once; the id of an event never changes, so that the
// receiver can recognise what it knows. An item is acknowledged only after the
// receiver said that it has it.
//
// # What it does not do
//
// It keeps nothing itself: times of the next attempt, attempts and dead
// letters live in the Outbox. It does not match customers and it runs no
// rules. It imports no card, device or store package, so that payment and
// customer data are apart by type.
package crm
