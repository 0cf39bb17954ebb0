package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// Sealer seals the bodies of records and events: the store sees sealed bytes
// only. name is authenticated with the body, so that bodies cannot be
// exchanged between records.
type Sealer interface {
	Seal(name string, plain []byte) ([]byte, error)
	Unseal(name string, sealed []byte) ([]byte, error)
}

// KeySealer is AES-256-GCM under one key. A sealed body is a form byte (1), a
// random nonce of 12 bytes, and ciphertext with its tag of 16 bytes. One key
// may seal about 2^32 bodies (NIST SP 800-38D section 8.3): a shop needs
// centuries for that.
type KeySealer struct{ aead cipher.AEAD }

// NewKeySealer returns a sealer for a key of 32 bytes, which it does not keep.
func NewKeySealer(key []byte) (*KeySealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("engine: the store key has %d bytes; it needs 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("engine: making the store cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("engine: making the store cipher: %w", err)
	}
	return &KeySealer{aead: aead}, nil
}

const sealedForm = 1

var errUnseal = errors.New("engine: the sealed body does not open: wrong key, or damaged")

// Seal seals plain under name.
func (k *KeySealer) Seal(name string, plain []byte) ([]byte, error) {
	out := make([]byte, 1+k.aead.NonceSize(), 1+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out[0] = sealedForm
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("engine: drawing a nonce: %w", err)
	}
	return k.aead.Seal(out, out[1:], plain, []byte(name)), nil
}

// Unseal opens what Seal made under the same name.
func (k *KeySealer) Unseal(name string, sealed []byte) ([]byte, error) {
	n := 1 + k.aead.NonceSize()
	if len(sealed) < n+k.aead.Overhead() || sealed[0] != sealedForm {
		return nil, errUnseal
	}
	plain, err := k.aead.Open(nil, sealed[1:n], sealed[n:], []byte(name))
	if err != nil {
		return nil, errUnseal
	}
	return plain, nil
}

// String hides the key.
func (*KeySealer) String() string { return "***" }

// GoString hides the key.
func (*KeySealer) GoString() string { return "***" }
