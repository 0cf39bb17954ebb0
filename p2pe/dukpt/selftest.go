package dukpt

import (
	"bytes"
	"encoding/hex"

	"tillbridge/p2pe"
	"tillbridge/p2pe/internal/derive"
)

// ErrSelfTest says that a known answer does not come out: this program or the
// machine's memory is damaged and no key may be used.
var ErrSelfTest error = p2pe.NewFault("keys.selftest", "dukpt: the self-test fails: use no key of this machine, install the program again and test the memory")

// SelfTest derives the first keys of the published sequences of TDES DUKPT,
// AES-128 and AES-256 DUKPT, and one AES-192 key, through the same state that
// works with real ones. It takes well under a millisecond; call it at each
// start and refuse to go on when it fails.
func SelfTest() error {
	for _, c := range knownAnswers {
		s, err := Load(known(c.initial), c.serial)
		if err != nil {
			return ErrSelfTest
		}
		t, err := s.Next()
		if err != nil || !bytes.Equal(derive.Reveal(t), known(c.first)) {
			return ErrSelfTest
		}
		var k Key
		if c.kind < 0 {
			k, err = DataKey(t, Request)
			if err == nil {
				block := known("3430313233343536") // "40123456"
				derive.TDESCipher(k.Bytes()).Encrypt(block, block)
				k = derive.NewKey(block)
			}
		} else {
			k, err = Working(t, DataEncrypt, c.kind)
		}
		if err != nil || !k.Equal(known(c.data)) {
			return ErrSelfTest
		}
		s.Erase()
	}
	// AES-192: a transaction key far from the start, walked to.
	key := known("6761EF1EE29DC2E2F59E0C6F4F1393A99099E7D609BF51D6")
	derive.AESWalk(key, 0x82884A7F, 0xE2434304)
	if !bytes.Equal(key, known("76F56FAB814AB5098BB8530F0DFF21BE42B4CA8646B56CF8")) {
		return ErrSelfTest
	}
	return nil
}

// knownAnswers are of the annex of X9.24-1 and the supplement of X9.24-3. data
// is the data key of the first transaction, for TDES (kind -1) the first block
// enciphered under it.
var knownAnswers = []struct {
	initial string
	serial  p2pe.KSN
	first   string
	kind    KeyType
	data    string
}{
	{"6AC292FAA1315B4D858AB3A3D7D5933A", "FFFF9876543210E00000", "042666B49184CFA368DE9628D0397BC9", -1, "FC0D53B7EA1FDA9E"},
	{"1273671EA26AC29AFA4D1084127652A1", "123456789012345600000000", "4F21B565BAD9835E112B6465635EAE44", AES128, "A35C412EFD41FDB98B69797C02DCD08F"},
	{"CE9CE0C101D1138F97FB6CAD4DF045A7083D4EAE2D35A31789D01CCF0949550F", "123456789012345600000000",
		"54AC2B32B145EA4A554CB8BC44B17467063A799856B1CCC2A138D36E8DBF78B3", AES256, "71EB36C9A6B7F801D1D1700C29741FC5A5C4E9B45D742DA7AF6992B8AA29AF58"},
}

func known(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("dukpt: a known answer is not hex")
	}
	return b
}
