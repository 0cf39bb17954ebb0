package acquirer

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/p2pe"
	"tillbridge/p2pe/keyblock"
)

// KeyBlock is an initial key on its way to a till that encrypts itself: the
// block, and the key that protects it in two components for two people, with
// the check values of the paper that comes with them. It must not be logged.
type KeyBlock struct {
	Block      string   `json:"block"`
	Components []string `json:"components"`
	KCV        string   `json:"kcv"`     // of the protection key
	KeyKCV     string   `json:"key_kcv"` // of the initial key
}

// String returns "***".
func (KeyBlock) String() string { return "***" }

// InitialKeyBlock returns the AES initial key of the device that a key serial
// number names, in a key block of version D under a protection key made for it.
func (h *Host) InitialKeyBlock(ksn string) (KeyBlock, error) {
	serial, err := p2pe.ParseKSN(ksn)
	if err != nil {
		return KeyBlock{}, err
	}
	if serial.Scheme() != p2pe.SchemeAESDUKPT {
		return KeyBlock{}, fmt.Errorf("sandbox: key blocks are made of AES keys: give 24 hex digits, the last eight zeros")
	}
	base, err := h.keys.base(serial)
	if err != nil {
		return KeyBlock{}, err
	}
	key, err := base.Initial(serial)
	if err != nil {
		return KeyBlock{}, err
	}
	defer clear(key)
	var one, two [32]byte
	_, _ = rand.Read(one[:]) // never fails
	_, _ = rand.Read(two[:])
	protection := make([]byte, len(one))
	for i := range protection {
		protection[i] = one[i] ^ two[i]
	}
	defer clear(protection)
	block, err := keyblock.Seal(keyblock.Header{Version: 'D', Usage: "B1", Algorithm: 'A', Mode: 'X', KeyVersion: "00", Exportability: 'N',
		Blocks: []keyblock.OptionalBlock{{ID: "IK", Data: serial.Device()}}}, key, protection, rand.Reader)
	if err != nil {
		return KeyBlock{}, err
	}
	out := KeyBlock{Block: block, Components: []string{upper(one[:]), upper(two[:])}}
	for _, v := range []struct {
		of []byte
		to *string
	}{{protection, &out.KCV}, {key, &out.KeyKCV}} {
		kcv, err := keyblock.CMACKCV(v.of, false)
		if err != nil {
			return KeyBlock{}, err
		}
		*v.to = upper(kcv)
	}
	return out, nil
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
