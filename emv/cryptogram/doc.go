// Package cryptogram computes what an EMV issuer computes: card keys from
// issuer keys, session keys, application cryptograms (ARQC, TC, AAC), the
// issuer's answer (ARPC) and secure messaging for issuer scripts.
//
// Start with [Issuer]: Verify checks the cryptogram of a field 55, Answer
// gives tag 91, Script makes a MACed command. The functions below it are the
// single steps, each named by its book section.
//
// It is the issuer's side, for the virtual acquirer and the virtual card
// alone: a point of sale holds none of these keys. [Key] prints as "***".
//
// Source: EMV 4.3 Book 2 section 8.1 (cryptograms), 8.2 (issuer
// authentication), section 9 (secure messaging), Annex A1 (padding, MAC,
// derivations); EMV 4.1 Book 2 Annex A1.3.1 (tree session keys); the data
// layouts of Visa CVN 10, 18 and 22 and of M/Chip as public test tools use
// them. What it does not do: hold keys in hardware, AES cryptograms, and the
// PIN functions of a host except those of its vector set.
package cryptogram
