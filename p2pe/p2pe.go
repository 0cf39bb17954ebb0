// Package p2pe holds the values of edge encryption: the key serial number and
// the envelope in which card data travels once it is ciphertext.
//
// Start with [Envelope]. Packages below hold the cryptography: dukpt and
// keyblock (device side), bdk (host side: sandbox and tests only), seal
// (sealed keys and records), mask (truncation and the leak scanner), secret
// (memory that does not print).
//
// This package does no cryptography. Encryption done by this program is never
// called P2PE: that word belongs to a validated solution with a secure device.
package p2pe
