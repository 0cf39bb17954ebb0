// Package pin is the PIN side of a pad: it derives PIN keys and makes and
// reads ISO 9564-1 PIN blocks.
//
// Virtual pads, p2pe/bdk and tests import it and nothing else does: the agent
// carries PIN blocks and cannot open one. For what the agent checks see
// p2pe.PINBlock.
//
// Use [Key], then [Encode] and [Encipher]; the host side [Decipher] and
// [Decode]. Sources: ISO 9564-1:2017 section 9 (formats 0, 1, 2, 3 and 4), ANSI
// X9.24-1 table A-1 (variant FF at bytes 7 and 15) and X9.24-3 (usage 1000).
package pin

import (
	"fmt"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/internal/derive"
)

// Key derives the PIN encryption key of a transaction: for TDES DUKPT the PIN
// variant, and k must be TDES2; for AES DUKPT usage 1000 with a TDES or AES
// key type not stronger than the initial key.
func Key(t *dukpt.Transaction, k dukpt.KeyType) (dukpt.Key, error) {
	if t.Erased() {
		return dukpt.Key{}, dukpt.ErrErased
	}
	raw := derive.Reveal(t)
	if t.Scheme() == p2pe.SchemeTDESDUKPT {
		if k != dukpt.TDES2 {
			return dukpt.Key{}, fmt.Errorf("%w: TDES DUKPT gives a TDES2 PIN key, not %s", dukpt.ErrWorkingKey, k)
		}
		key := derive.NewKey(raw)
		derive.TDESVariant(key.Bytes(), raw, derive.VariantPIN)
		return key, nil
	}
	algorithm, strength := derive.Algorithm{}, 0
	switch k {
	case dukpt.TDES2:
		algorithm, strength = derive.Algorithm{ID: 0, Bits: 128}, 80
	case dukpt.TDES3:
		algorithm, strength = derive.Algorithm{ID: 1, Bits: 192}, 112
	case dukpt.AES128, dukpt.AES192, dukpt.AES256:
		bits := uint16(128 + 64*(k-dukpt.AES128))
		algorithm, strength = derive.Algorithm{ID: 2 + uint16(k-dukpt.AES128), Bits: bits}, int(bits)
	default:
		return dukpt.Key{}, fmt.Errorf("%w: no PIN block is enciphered with %s", dukpt.ErrWorkingKey, k)
	}
	if strength > 8*len(raw) {
		return dukpt.Key{}, fmt.Errorf("%w: %s is stronger than the initial key", dukpt.ErrWorkingKey, k)
	}
	return derive.AESWorking(raw, derive.Serial(t), derive.UsagePIN, algorithm), nil
}
