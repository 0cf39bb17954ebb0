package replay

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"tillbridge/emv/oda"
)

// ErrKeys says that a file is not a list of certification authority keys.
var ErrKeys = errors.New("replay: not a list of certification authority keys")

// ParseKeys reads a JSON list of keys ("keys": rid, index, modulus, exponent,
// sha1 in hex) into a store for test recordings. A key that another one of the
// same RID and index contradicts is left out from the second on, and so are
// keys of a kind that no card uses any more; skipped counts both.
func ParseKeys(b []byte) (store *oda.Store, skipped int, err error) {
	var doc struct {
		Keys []struct {
			RID, Index, Modulus, Exponent, SHA1 string
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Keys) == 0 {
		return nil, 0, ErrKeys
	}
	store = oda.NewStore(oda.Test)
	for i, e := range doc.Keys {
		var raw [5][]byte
		for j, text := range []string{e.RID, e.Index, e.Modulus, e.Exponent, e.SHA1} {
			if raw[j], err = hex.DecodeString(text); err != nil {
				return nil, 0, fmt.Errorf("%w: key %d is not hex", ErrKeys, i+1)
			}
		}
		if len(raw[0]) != 5 || len(raw[1]) != 1 {
			return nil, 0, fmt.Errorf("%w: key %d has no RID and index", ErrKeys, i+1)
		}
		k := oda.CAKey{RID: oda.RID(raw[0]), Index: raw[1][0], Modulus: raw[2], Exponent: bytes.TrimLeft(raw[3], "\x00"), Sum: raw[4]}
		if store.Add(oda.Test, k) != nil {
			skipped++
		}
	}
	return store, skipped, nil
}
