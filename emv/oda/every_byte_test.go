package oda

import (
	"bytes"
	"errors"
	"testing"

	"tillbridge/emv/tlv"
)

// Each byte of everything that the chain covers is changed once, and each
// object is cut at each byte: always a typed refusal.
func TestEveryChangedOrMissingByteIsRefused(t *testing.T) {
	f := forge(t, nil, nil)
	s := f.store(t)
	refused := func(what string, i int) {
		t.Helper()
		var fail *Failure
		if err := f.dda(t, s); !errors.As(err, &fail) {
			t.Errorf("%s, byte %d: %v", what, i, err)
		}
	}
	n := 0
	for _, tag := range []tlv.Tag{0x8F, 0x90, 0x92, 0x9F32, 0x9F46, 0x9F47, 0x9F48, 0x9F4B, 0x5A} {
		good := f.tags[tag]
		for i := range good {
			b := bytes.Clone(good)
			b[i] ^= 1 << (i % 8)
			f.tags[tag] = b
			refused("changed "+tag.String(), i)
			f.tags[tag] = good[:i]
			refused("cut "+tag.String(), i)
			n += 2
		}
		f.tags[tag] = append(bytes.Clone(good), 0)
		refused("longer "+tag.String(), len(good))
		f.tags[tag] = good
	}
	good := f.static
	for i := range good {
		f.static = bytes.Clone(good)
		f.static[i] ^= 1
		refused("changed static data", i)
	}
	f.static = good
	if err := f.dda(t, s); err != nil {
		t.Fatalf("the chain itself: %v", err)
	}
	t.Logf("%d changes refused", n)
}
