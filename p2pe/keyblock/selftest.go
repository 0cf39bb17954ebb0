package keyblock

import (
	"bytes"
	"encoding/hex"

	"tillbridge/p2pe"
)

// ErrSelfTest says that a published block does not open to its key.
var ErrSelfTest error = p2pe.NewFault("keys.selftest", "keyblock: the self-test fails: import no key on this machine, install the program again and test the memory")

// SelfTest opens a published block of each version that is read without a flag
// and sees that a changed one is refused. Call it before an import.
func SelfTest() error {
	for _, c := range [...]struct{ block, kbpk, key string }{
		{"B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E",
			"DD7515F2BFC17F85CE48F3CA25CB21F6", "3F419E1CB7079442AA37474C2EFBF8B8"},
		{"D0144P0AE00E00002C77FA3F4A553BED6E88AE5C172A4166E3D4ACA8E2AC71C158A476FAC12C13C3829DE55D3AB54C48F4C4FEF7AC75E90FC47F1B77E7B19A73ED46E64410082557",
			"88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6", "3F419E1CB7079442AA37474C2EFBF8B8"},
		{"E0084B0TV16N0000B2AE5E26BBA7F246E84D5EA24167E208A6B66EF2E27E55A52DB52F0AEACB94C57547",
			"3235362D62697420414553207772617070696E67202849534F20323030333829", "777261707065642033444553206B6579"},
	} {
		kbpk, err1 := hex.DecodeString(c.kbpk)
		want, err2 := hex.DecodeString(c.key)
		k, err := Open(c.block, kbpk, &Policy{AllowExportable: true})
		if err != nil || err1 != nil || err2 != nil || !bytes.Equal(k.Bytes(), want) {
			return ErrSelfTest
		}
		changed := []byte(c.block)
		changed[5] ^= 1 // the usage: only the MAC knows
		if _, err := Open(string(changed), kbpk, &Policy{AllowExportable: true}); err == nil {
			return ErrSelfTest
		}
	}
	return nil
}
