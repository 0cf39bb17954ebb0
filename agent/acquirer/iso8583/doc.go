// Package iso8583 is an acquirer.Link over ISO 8583 messages on TCP with TLS.
//
// Start with [Open], which takes [Options] and returns a [*Link]. The message
// format of a host is data: a [Dialect], read by [ParseDialect] from JSON or
// taken by name with [Named]. It says how each data element is packed, which
// message each operation uses, and how a reversal names its original. Two are
// built in: "ascii87" (ASCII text, binary bitmap, 0100/0200/0420 with DE90) and
// "bcd87" (packed BCD with a TPDU, 0200/0400 repeating the sale's STAN).
//
// One goroutine owns the connection. Requests of several callers share it and
// answers are paired by terminal and STAN, then checked against message type,
// processing code, amount and transmission time. An answer that fits no open
// request is logged and given to nobody. The link never repeats a request by
// itself.
//
// Encoding and bitmaps are those of github.com/moov-io/iso8583; its errors may
// quote field values and are never passed on: see [FormatError].
//
// Sources: ISO 8583:1987 for message types and data elements (DE); the private
// parts, DE62 (the caller's reference) and DE63 (tables, see [Table]), are
// this program's own, as every acquirer's are.
//
// What this package does not do: it computes no MAC (DE64), settles no batch
// (0500), and loads no keys. It must not be called certified by any acquirer.
package iso8583
