// Package acquirer is the virtual acquirer of the demo, the simulator and the
// tests: a host that speaks ISO 8583 over TLS and keeps books that judge
// whether a customer was charged twice.
//
// Start with [Run] in a test, or [Serve] behind a command line: it takes
// commands as JSON lines and prints events. [Host] has a method for each
// command. [Books] is the ledger.
//
// It is written from the standard and shares no code with the agent: its
// decoder is its own (decode.go), it derives the pad's keys from the base
// derivation key, decrypts card data and PIN, refuses a key serial number that
// was used before, verifies the card's cryptogram and answers with one of its
// own, with a token and a payment account reference. Card numbers are never
// kept: the books hold first six, last four, and a token that is a keyed hash.
//
// Two wire forms are understood and told apart by their first byte: ASCII text
// with a binary bitmap, and packed BCD behind a five-byte TPDU. Both have a
// two-byte length in front. DE63 carries tables (two bytes BCD length, two
// letters, data); which ones is listed in tables.go.
//
// Sources: ISO 8583:1987; EMV Book 2 section 8; X9.24 through p2pe/bdk.
//
// What this package does not do: settlement, clearing, MACs, risk decisions.
// It declines only for a reason of its own or on command.
package acquirer
