// Package neo2 drives ID TECH readers that speak NEO 2 (ViVOtech2 protocol 2)
// on a serial line or as HID reports: VP3300, VP5300, VP6300, VP6800, VP8300
// and their like, which have an EMV kernel of their own.
//
// Start with [New], which makes the drivers.Driver. The device that it opens is
// a drivers.CardSession (its kernel, as an emv.Session).
//
// The layers, each usable alone: the codec ([Append], [Parse], [Decoder],
// [AppendReports], [Reports], [Walk]) is pure; link.go holds timers and
// retries; driver.go, session.go and the files beside them the commands.
//
// A payment by chip has three phases: 60-10 reads the card, 60-11 authenticates
// and asks for the first cryptogram, 60-12 gives the issuer's answer. A tap is
// one command, 02-40, which runs the card to its cryptogram; with more than one
// way to pay allowed 02-40 offers them all and a card in the slot goes on with
// 60-11.
//
// What the driver promises:
//
//   - 02-40 and 60-11 are the bytes after which money may move
//     (design/payments.md R1). Neither is ever sent twice for one payment, and
//     60-10 and 60-12 are not either; what is lost ends the payment.
//   - Card data is taken as ciphertext with its KSN, under an attribution byte
//     that says that encryption was on. Anything else of a card, and an answer
//     without that byte, is drivers.ErrRefused; clear values are dropped.
//   - A KSN that was used already is the answer of an earlier payment, and
//     drivers.ErrRefused.
//   - A cryptogram over another amount, currency or date than asked for is
//     [ErrAmount], never an approval; a code that is not known is no approval.
//   - After a failure the next command begins with 05-01 (cancel) and a line
//     that fell silent.
//   - After silence of a host that may have been reached the card is asked to
//     decline (R5).
//
// Source: knowledge/protocols/idtech-neo2.md, after the NEO 2 Interface
// Developer's Guide 80139403-002 Rev 88.1. What is marked [U] in the tables of
// status.go, sred.go and commands.go was not seen in a page of the guide and
// has to be confirmed on a device before a reader may be called supported.
//
// What it does not do: PIN entry on keypads that the host drives (62-xx): a
// request for it (61-02) is answered as not allowed; MIFARE, VAS, SAM, update
// of firmware and of the terminal's data. Nothing here is certified.
package neo2
