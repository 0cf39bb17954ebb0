// Package bdk is the host's side of DUKPT: from a base derivation key to the
// initial key of a device and to the key of any transaction.
//
// The virtual acquirer (agent/sandbox) and tests import it, and nothing else
// does: a base key never comes near a store's machine. Use [New], then
// [Base.Initial] to make a device and [Base.Transaction] for each message;
// working keys come from p2pe/dukpt, PIN keys from p2pe/dukpt/pin. [Open]
// deciphers data by a device profile's variant.
//
// Sources: ANSI X9.24-1:2009 annex A.3, ANSI X9.24-3:2017 section 6.
package bdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
	"tillbridge/p2pe/internal/derive"
)

// ErrBase is matched by the errors of this package that a wrong key or serial
// number causes.
var ErrBase = errors.New("bdk: refused")

// Base is a base derivation key. It prints "***".
type Base struct {
	scheme p2pe.Scheme
	key    derive.Key
}

// New copies a base key: 16 bytes for TDES; 16, 24 or 32 for AES.
func New(scheme p2pe.Scheme, key []byte) (*Base, error) {
	_, sized := derive.AESOf(len(key))
	if scheme == p2pe.SchemeTDESDUKPT && len(key) != 16 || scheme == p2pe.SchemeAESDUKPT && !sized ||
		scheme != p2pe.SchemeTDESDUKPT && scheme != p2pe.SchemeAESDUKPT {
		return nil, fmt.Errorf("%w: no base key of %s has %d bytes", ErrBase, scheme, len(key))
	}
	return &Base{scheme, derive.NewKey(key)}, nil
}

// Format prints "***".
func (Base) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }

// LogValue implements slog.LogValuer with "***".
func (Base) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses.
func (Base) MarshalJSON() ([]byte, error) { return derive.Key{}.MarshalJSON() }

// Initial derives the initial key of the device that serial names; its counter
// does not matter. For AES serial may also be the bare id of 16 hex digits.
func (b *Base) Initial(serial p2pe.KSN) ([]byte, error) {
	if b.scheme == p2pe.SchemeAESDUKPT {
		if len(serial) != 24 && len(serial) != 16 {
			return nil, fmt.Errorf("%w: an AES serial number has 24 hex digits", ErrBase)
		}
		return derive.AESInitial(b.key.Bytes(), serial.Bytes()), nil
	}
	if serial.Scheme() != p2pe.SchemeTDESDUKPT {
		return nil, fmt.Errorf("%w: a TDES serial number has 20 hex digits", ErrBase)
	}
	return derive.TDESInitial(b.key.Bytes(), serial.Full().Bytes()), nil
}

// Transaction derives the key of a serial number. A counter that no device
// uses (zero, too many bits, the update key's) is refused with p2pe.ErrKSN.
func (b *Base) Transaction(serial p2pe.KSN) (*dukpt.Transaction, error) {
	if serial.Scheme() != b.scheme {
		return nil, fmt.Errorf("%w: the base key is of %s", ErrBase, b.scheme)
	}
	initial, err := b.Initial(serial)
	if err != nil {
		return nil, err
	}
	defer clear(initial)
	return Transaction(initial, serial)
}

// Transaction derives the key of a serial number from a device's initial key.
func Transaction(initial []byte, serial p2pe.KSN) (*dukpt.Transaction, error) {
	if err := serial.Check(); err != nil {
		return nil, err
	}
	return walk(initial, serial)
}

func walk(initial []byte, serial p2pe.KSN) (*dukpt.Transaction, error) {
	raw := serial.Full().Bytes()
	counter, _ := serial.Counter()
	if serial.Scheme() == p2pe.SchemeAESDUKPT {
		if _, ok := derive.AESOf(len(initial)); !ok {
			return nil, fmt.Errorf("%w: an AES initial key has 16, 24 or 32 bytes", ErrBase)
		}
		t := derive.Open(serial.Scheme(), raw, initial)
		derive.AESWalk(derive.Reveal(t), binary.BigEndian.Uint32(raw[4:]), counter)
		return t, nil
	}
	if len(initial) != 16 {
		return nil, fmt.Errorf("%w: a TDES initial key has 16 bytes", ErrBase)
	}
	t := derive.Open(serial.Scheme(), raw, initial)
	key := derive.Reveal(t)
	fixed := binary.BigEndian.Uint64(raw[2:]) &^ (1<<derive.TDESBits - 1)
	var p derive.TDESParent
	done := uint64(0)
	for bit := uint64(1) << (derive.TDESBits - 1); bit != 0; bit >>= 1 {
		if uint64(counter)&bit != 0 {
			done |= bit
			p.Reset(key)
			p.Child(key, fixed|done)
		}
	}
	return t, nil
}

// UpdateKey derives the AES DUKPT update key (counter FFFFFFFF, usage 0002) of
// an initial key and its id of 8 bytes.
func UpdateKey(initial, id []byte, k dukpt.KeyType) (dukpt.Key, error) {
	if len(id) != 8 {
		return dukpt.Key{}, fmt.Errorf("%w: an initial key id has 8 bytes", ErrBase)
	}
	t, err := walk(initial, p2pe.KSNOf(append(append([]byte(nil), id...), 0xFF, 0xFF, 0xFF, 0xFF)))
	if err != nil {
		return dukpt.Key{}, err
	}
	defer t.Erase()
	return dukpt.Working(t, dukpt.KeyEncryption, k)
}

// DataKey returns the key of an envelope's KeyVariant: "data-request",
// "data-response", "pin" (readers that encipher tracks with the PIN variant),
// and for AES DUKPT "aes-data-encrypt", "aes-data-decrypt", "aes-data-both"
// with k as its type.
func DataKey(t *dukpt.Transaction, variant string, k dukpt.KeyType) (dukpt.Key, error) {
	switch variant {
	case p2pe.VariantDataRequest:
		return dukpt.DataKey(t, dukpt.Request)
	case p2pe.VariantDataResponse:
		return dukpt.DataKey(t, dukpt.Response)
	case p2pe.VariantPIN:
		return pin.Key(t, dukpt.TDES2)
	case p2pe.VariantAESDataEncrypt:
		return dukpt.Working(t, dukpt.DataEncrypt, k)
	case p2pe.VariantAESDataDecrypt:
		return dukpt.Working(t, dukpt.DataDecrypt, k)
	case p2pe.VariantAESDataBoth:
		return dukpt.Working(t, dukpt.DataBoth, k)
	}
	return dukpt.Key{}, fmt.Errorf("%w: key variant %q is not known", ErrBase, variant)
}
