// Package contact is the contact kernel of EMV Books 1 to 4 in software: from
// the list of applications to the last cryptogram.
//
// Start with [New]: a [Session] is an emv.Session over an emv.Transceiver, for
// one transaction, with a [Config] that says what the terminal is. Its
// callbacks are a secure PIN pad ([PINPad]), a person who chooses
// ([Chooser]), an [Encrypter], and the exception file ([CardFile]). Card data
// leave a session only through the encrypter; errors are an [*Error] without
// card data.
//
// The steps that decide are pure functions over data, in a file of its own: [Restrict]
// (restrict.go), [CVM] (cvm.go), [Risk] (risk.go), [Analyse] (taa.go). Their
// rules name book and section.
//
// Sources: EMV Contact Specifications Book 1 (sections 11, 12), Book 3
// (sections 6 to 10, Annexes A and C), Book 4 (sections 6 to 12, Annex A).
//
// Where it is stricter than the books, for a shop's safety: terminal risk
// management is done whatever the card's profile says; nothing is approved
// offline without data authentication unless
// [Config.UnauthenticatedOffline] is set; SDA and plaintext PIN are off unless
// configured; the number in track 2 must be that of 5A; after a host that may
// have been asked is silent the card is asked to decline. Where the books leave
// a choice: no advice is sent, no TC is hashed unless a list asks, and there is
// no language selection and no transaction log.
//
// What may be said of it: it implements the flow of Books 1 to 4 and is tested
// with public transcripts, vectors and cards that nobody here wrote. It has no
// letter of approval. It is for readers without a kernel of their own where
// the acquirer accepts that, for tests, and to explain what a pad's kernel did.
//
// It never sees a PIN: offline PIN goes through a callback that returns a
// status. Contactless kernels (Books A to D) are not part of it.
package contact
