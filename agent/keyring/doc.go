// Package keyring looks after the keys of this machine's software encryption:
// how they come in (a ceremony and a key block), what is known of them (the
// registry), how many are left, and how they are destroyed.
//
// [Open] first: it runs the built-in self-tests on published answers and
// refuses to go on when one fails. Then [Keyring.Import] loads an initial key
// from a key block under a protection key that a [Ceremony] put together,
// [Keyring.Source] gives its keys to the encrypter of p2pe/seal, and
// [Keyring.Zeroize] destroys them. [Keyring.Status] is for people and programs.
//
// Every change is a line of registry.log in the directory: who, when, which
// serial number and check value, each line bound to the one before by its
// digest. There is no key in it, nor anything that looks like a card number.
//
// Rules: ANSI X9.24-1 (components, parity, check values), PCI PIN 18-3 (key
// blocks). Components are put in by two people or more; published test keys are
// refused always. A machine holds one live key set at a time.
//
// What it does not do: it is no secure device. An administrator of this machine
// can read the keys that are still to be used.
package keyring
