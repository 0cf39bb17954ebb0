// Package engine runs operations: it takes a till's request, drives the device
// of that register, asks the acquirer, keeps every step in the store, and
// settles what a crash or a lost answer left open.
//
// Start with [Open], then [Engine.Run] in a goroutine of the composition root,
// then [Engine.StartPayment]. Everything that a till may ask later is answered
// from the store: [Engine.Payment], [Engine.Payments], [Engine.LastPayment],
// [Engine.Events]. [Engine.Changed] wakes those who wait.
//
// The order of durable steps is the point of this package
// (design/payments.md, R0 to R6):
//
//  1. record, idempotency key and first event: one commit, before anything;
//  2. authorizing (amount, STAN, device): one commit, before the first byte
//     after which money may move;
//  3. sent: one commit, before the first byte to the host. A terminal that
//     authorises by itself has 2 and 3 in one;
//  4. result and its event: one commit. A result that cannot be stored keeps
//     its register: it is tried again until it is stored or the process ends;
//  5. a reversal is stored before it is sent, and repeated until acknowledged.
//
// A card that is read and authorised by a pad or by our own kernel is in pad.go;
// a terminal that authorises by itself is in terminal.go and terminalsettle.go.
//
// What it does not do: it knows no protocol of a device or a host, opens no
// port, speaks no HTTP and keeps no clear card data. Ciphertext of a card lives
// in memory between the read and the host's answer and is never stored; a PIN
// block likewise. Offline acceptance (design/payments.md section 4) is not
// implemented here: a payment whose host is out of reach fails, and says that
// nothing moved.
package engine
