// Package seal turns card data and keys into ciphertext on this machine: the
// encrypters for readers that deliver clear data, and the sealers that keep
// key states and records on disk.
//
// Of the encrypters use [NewDUKPT] (AES DUKPT with a CMAC) or [NewJWE] (a
// public key pinned by its thumbprint, no secret on this machine). They exist
// for readers without encryption of their own, and are off by default: card
// data are clear in this process until [DUKPT.Encrypt] returns, and longer in
// what its caller keeps of them (a kernel needs the card's records to the end of
// a payment). The machine is in scope of whatever rules the store is under.
// That is encryption on receipt, and is never called anything more.
//
// To keep keys use [OpenSealer] (TPM 2.0, systemd-creds, DPAPI or a file; a
// file, and systemd-creds without a chip, are called insecure by
// [Sealer].Insecure), [CreateJournal] and [OpenJournal] for a DUKPT state, and
// [OpenShredder] for keys of single records that are destroyed with them.
//
// Sealing makes a copy of the disk useless on another machine. It does not
// protect from an administrator of this one, and what a solid-state disk keeps
// of overwritten sectors is not claimed to be gone: it stays sealed.
//
// Sources: TCG TPM 2.0 part 3 (Create, Unseal, NV_Increment), ANSI X9.24-3:2017 (keys), NIST SP 800-38A and 800-38B (CBC, CMAC),
// RFC 7516 and 7518 (JWE).
package seal
