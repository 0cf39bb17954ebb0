// Package seal turns card data and keys into ciphertext on this machine: the
// encrypters for readers that deliver clear data, and the sealers that keep
// key states and records on disk.
//
// Of the encrypters use [NewDUKPT] (AES DUKPT with a CMAC) or [NewJWE] (a
// public key pinned by its thumbprint, no secret on this machine). They exist
// for readers without encryption of their own, and are off by default: card
// data are clear in this process for the microseconds until [DUKPT.Encrypt]
// returns, and the machine is in scope of whatever rules the store is under.
// That is encryption on receipt, and is never called anything more.
//
// Sources: ANSI X9.24-3:2017 (keys), NIST SP 800-38A and 800-38B (CBC, CMAC),
// RFC 7516 and 7518 (JWE).
package seal
