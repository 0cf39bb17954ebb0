// Package oda is offline data authentication: it checks that a card's data
// were signed under a certification authority's key (SDA), and that the card
// itself holds a key certified there (DDA, CDA, fDDA).
//
// Start with a [Store] of [CAKey]s for one environment. [Select] says which
// method card and terminal share; [StaticData] builds what was signed from the
// records; [Store.SDA] or [Store.CardKey] checks the chain; [CardKey.DDA] and
// [CardKey.CDA] check the card's signature. Every refusal is a [*Failure] with
// the bits it sets in the terminal verification results.
//
// Keys are held by environment, RID and index: test and live keys share
// numbers. A certificate is good to the end of its month. SDA proves nothing
// about a card, only about data that can be copied; it is off unless
// [Store].AllowSDA is set.
//
// Source: EMV 4.3 Book 2 sections 5, 6 and 11, Book 3 section 10.3; fDDA as in
// contactless kernel 3 (Book C-3 Annex C). It has no I/O and no clock: the
// date of the transaction is given. What it does not do: elliptic curves, XDA,
// and any judgement of a key's strength. It is tested with public chains and
// is not approved by anyone.
package oda
