// Package abecs drives PIN pads that speak the ABECS protocol (versions 2.12
// and 2.20): pads with a resident EMV kernel on serial, USB CDC or Bluetooth.
//
// Start with [New], which makes the drivers.Driver. The device that it opens is
// a drivers.CardSession (its kernel, as an emv.Session), Display, Input,
// TableLoader, SecureReader and CardRemover.
//
// The layers, each usable alone: the codec ([AppendCommand], [AppendParams],
// [Parse], [Response]) is pure; link.go holds the timers, acknowledgements,
// retries and cancelling; secure.go the encrypted channel of OPN; driver.go,
// session.go and the files beside them the commands.
//
// What the driver promises:
//
//   - Every packet after OPN is encrypted. A pad that knows no secure channel
//     is refused, and so is a clear answer where an encrypted one is due.
//   - Card data leaves the pad as DUKPT ciphertext. Commands that would return
//     clear tracks or a clear card number are refused before they are sent
//     ([CheckCommand]), and an answer without a KSN is not card data.
//   - An answer is paired with its command: what arrives before the pad took
//     the command, and what bears another name, is dropped; after a failure the
//     next command begins with CAN and EOT.
//   - GOX, and GCX where contactless is allowed, are the bytes after which money
//     may move (design/payments.md R1). Neither is ever repeated by the driver
//     on its own once the pad has taken it, except as the protocol says after
//     an answer that no card gave.
//   - An offline approval of the pad needs the card's cryptogram; where the card
//     asked for the host, the host decides.
//   - A pad that holds other tables than the configured file (parameter
//     "tables", see [ParseTables]) is loaded when it is opened.
//   - A trace holds no clear packet that may carry card data ([Driver.CardData]).
//   - A cryptogram over another amount or currency than the one asked for is an
//     error ([ErrAmount]), never an approval.
//   - After silence of a host that may have been reached the card is asked to
//     decline (FCX option 1, R5).
//
// Source: the facts of the ABECS protocol in knowledge/protocols/abecs.md.
//
// What it does not do: master/session keys, multimedia files, kernel
// configuration beyond table records. Nothing here is certified.
package abecs
