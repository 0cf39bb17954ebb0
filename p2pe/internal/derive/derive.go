// Package derive holds the key arithmetic of DUKPT that the originating device
// (p2pe/dukpt), the host (p2pe/bdk) and the PIN side (p2pe/dukpt/pin) share,
// and the [Key] in which they hand keys to one another.
//
// Use p2pe/dukpt instead: this package is internal because it can open a
// [Transaction]. Sources: ANSI X9.24-1:2009 annex A (TDES) and ANSI
// X9.24-3:2017 section 6 (AES). It holds no state and no counter.
package derive

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"

	"tillbridge/p2pe"
)

// Key is key material of at most 32 bytes. It prints "***" and has no JSON
// form. Erase it when it has been used.
type Key struct {
	b [32]byte
	n int
}

// NewKey copies b, which holds at most 32 bytes; the caller erases b.
func NewKey(b []byte) Key {
	var k Key
	k.n = copy(k.b[:], b)
	return k
}

// Bytes returns the key's own bytes: they change to zero with Erase.
func (k *Key) Bytes() []byte { return k.b[:k.n] }

// Len returns the number of bytes; zero after Erase.
func (k *Key) Len() int { return k.n }

// Equal compares in constant time.
func (k *Key) Equal(b []byte) bool { return subtle.ConstantTimeCompare(k.Bytes(), b) == 1 }

// Erase overwrites the key.
func (k *Key) Erase() { clear(k.b[:]); k.n = 0 }

// Format prints "***" whatever the verb.
func (Key) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }

// LogValue implements slog.LogValuer with "***".
func (Key) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses.
func (Key) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("dukpt: a key is never written in clear")
}

// Transaction is one key of a DUKPT sequence with the serial number it belongs
// to. Working keys are derived from it by p2pe/dukpt.
type Transaction struct {
	scheme p2pe.Scheme
	serial [12]byte
	n      int // bytes of serial
	key    Key
}

// Open builds a transaction. serial has 10 bytes (TDES) or 12 (AES) and key
// their size.
func Open(scheme p2pe.Scheme, serial, key []byte) *Transaction {
	t := &Transaction{scheme: scheme, key: NewKey(key)}
	t.n = copy(t.serial[:], serial)
	return t
}

// Scheme says which derivation the key belongs to.
func (t *Transaction) Scheme() p2pe.Scheme { return t.scheme }

// KSN returns the key serial number that goes with what the key enciphers.
func (t *Transaction) KSN() p2pe.KSN { return p2pe.KSNOf(t.serial[:t.n]) }

// Erase overwrites the key. Working keys already derived stay valid.
func (t *Transaction) Erase() { t.key.Erase() }

// Erased reports whether the key is gone.
func (t *Transaction) Erased() bool { return t.key.n == 0 }

// Format prints the serial number, never the key.
func (t Transaction) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "transaction{%s ***}", t.KSN())
}

// LogValue implements slog.LogValuer with the serial number.
func (t Transaction) LogValue() slog.Value { return slog.StringValue(string(t.KSN())) }

// MarshalJSON refuses.
func (t Transaction) MarshalJSON() ([]byte, error) { return Key{}.MarshalJSON() }

// Reveal returns the transaction's own key bytes, which only the packages that
// derive working keys may see.
func Reveal(t *Transaction) []byte { return t.key.Bytes() }

// Serial returns the transaction's serial number bytes.
func Serial(t *Transaction) []byte { return t.serial[:t.n] }

// Secret is key material of any length that prints "***".
type Secret []byte

// Format prints "***" whatever the verb.
func (Secret) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }
