package keyblock

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"tillbridge/p2pe/internal/derive"
)

// KCV returns the older check value of a TDES key of 8, 16 or 24 bytes: the
// first three bytes of a block of zeros enciphered. It is not for AES.
func KCV(key []byte) ([]byte, error) {
	k := key
	if len(key) == 8 {
		k = append(append([]byte(nil), key...), key...)
		defer clear(k)
	}
	if len(k) != 16 && len(k) != 24 {
		return nil, fmt.Errorf("%w: a TDES key has 8, 16 or 24 bytes", ErrKey)
	}
	out := make([]byte, 8)
	derive.TDESCipher(k).Encrypt(out, out)
	return out[:3], nil
}

// CMACKCV returns the check value by CMAC (X9.24-1:2017 annex A): the first
// five bytes of the CMAC of a block of zeros, for AES keys of 16, 24 or 32
// bytes; with tdes set, for TDES keys of 16 or 24 bytes, the CMAC of eight
// zeros.
func CMACKCV(key []byte, tdes bool) ([]byte, error) {
	if tdes {
		if len(key) != 16 && len(key) != 24 {
			return nil, fmt.Errorf("%w: a TDES key has 16 or 24 bytes", ErrKey)
		}
		return derive.NewCMAC(derive.TDESCipher(key)).Append(nil, make([]byte, 8))[:5], nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: an AES key has 16, 24 or 32 bytes", ErrKey)
	}
	return derive.NewCMAC(block).Append(nil, make([]byte, 16))[:5], nil
}

// checkValues compares the KC and KP blocks, where the header has them, with
// the key and its protection key: two hex digits of kind (00 older, 01 CMAC)
// and the value.
func (k *Key) checkValues(kbpk []byte) error {
	for _, b := range k.Header.Blocks {
		if b.ID != "KC" && b.ID != "KP" {
			continue
		}
		raw, err := hex.DecodeString(b.Data)
		if err != nil || len(raw) < 3 || len(raw) > 6 {
			return fmt.Errorf("%w (%s is malformed)", ErrCheckValue, b.ID)
		}
		key, tdes := kbpk, k.Header.Version < 'D'
		if b.ID == "KC" {
			key, tdes = k.material, k.Header.Algorithm == 'T'
			if !tdes && k.Header.Algorithm != 'A' {
				continue // no check value is defined for these here
			}
		}
		var want []byte
		switch {
		case raw[0] == 0 && tdes:
			want, err = KCV(key)
		case raw[0] == 0: // the older kind of AES: a block of zeros enciphered
			want, err = aesKCV(key)
		case raw[0] == 1:
			want, err = CMACKCV(key, tdes)
		default:
			return fmt.Errorf("%w (%s is of kind %02X)", ErrCheckValue, b.ID, raw[0])
		}
		got := raw[1:]
		if err != nil || len(got) > len(want) || subtle.ConstantTimeCompare(got, want[:len(got)]) != 1 {
			return fmt.Errorf("%w (%s)", ErrCheckValue, b.ID)
		}
	}
	return nil
}

func aesKCV(key []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 16)
	block.Encrypt(out, out)
	return out[:3], nil
}
