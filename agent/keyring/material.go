package keyring

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"

	"tillbridge/p2pe"
	"tillbridge/p2pe/keyblock"
)

// Errors of key material. No text holds a digit of a key.
var (
	ErrPublished error = p2pe.NewFault("keys.published", "keyring: this is a published test key, which is never loaded: use keys made for this shop")
	ErrWeak      error = p2pe.NewFault("keys.weak", "keyring: the key is weak")
	ErrParity    error = p2pe.NewFault("keys.parity", "keyring: the parity of the key is wrong: a digit was probably mistyped; type the component again")
	ErrLength    error = p2pe.NewFault("keys.length", "keyring: the key has a wrong length")
)

// Algorithm is what a key is for.
type Algorithm int

// The algorithms.
const (
	TDES Algorithm = iota + 1
	AES
)

// String returns "TDES" or "AES".
func (a Algorithm) String() string {
	if a == AES {
		return "AES"
	}
	return "TDES"
}

// ParseAlgorithm reads "tdes" or "aes" in any case.
func ParseAlgorithm(s string) (Algorithm, error) {
	switch strings.ToLower(s) {
	case "tdes":
		return TDES, nil
	case "aes":
		return AES, nil
	}
	return 0, fmt.Errorf("keyring: %q is not an algorithm: tdes or aes", s)
}

// size judges the length of a key in bytes.
func (a Algorithm) size(n int) error {
	if n == 16 || n == 24 || a == AES && n == 32 {
		return nil
	}
	if a == AES {
		return fmt.Errorf("%w: %d bytes: an AES key has 16, 24 or 32 (32, 48 or 64 hex digits)", ErrLength, n)
	}
	return fmt.Errorf("%w: %d bytes: a TDES key has 16 or 24 (32 or 48 hex digits)", ErrLength, n)
}

// strength is what a key of n bytes withstands, in bits: SP 800-57 table 2.
func strength(a Algorithm, n int) int {
	switch {
	case a == AES:
		return 8 * n
	case n == 16:
		return 80
	}
	return 112
}

// CheckValues name a key without showing it, in upper-case hex.
type CheckValues struct {
	// Older is the first three bytes of a block of zeros enciphered; TDES only.
	Older string `json:"older,omitempty"`
	// CMAC is the first five bytes of the CMAC of a block of zeros.
	CMAC string `json:"cmac"`
}

// Of returns the check values of a key.
func (a Algorithm) Of(key []byte) (CheckValues, error) {
	if err := a.size(len(key)); err != nil {
		return CheckValues{}, err
	}
	var v CheckValues
	mac, err := keyblock.CMACKCV(key, a == TDES)
	if err != nil {
		return v, err
	}
	v.CMAC = strings.ToUpper(hex.EncodeToString(mac))
	if a == TDES {
		old, err := keyblock.KCV(key)
		if err != nil {
			return v, err
		}
		v.Older = strings.ToUpper(hex.EncodeToString(old))
	}
	return v, nil
}

// String prints both, the older first.
func (v CheckValues) String() string {
	if v.Older == "" {
		return v.CMAC + " (CMAC)"
	}
	return v.Older + " (" + v.CMAC + " CMAC)"
}

// Match reports whether a value on paper, at least six hex digits in any case,
// is one of these.
func (v CheckValues) Match(paper string) bool {
	paper = strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(paper), " ", ""))
	if len(paper) < 6 {
		return false
	}
	return v.Older != "" && paper == v.Older || strings.HasPrefix(v.CMAC, paper)
}

//go:embed published.txt
var publishedText string

// published holds the digests of keys that stand in books.
var published = func() map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(publishedText) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			m[line] = true
		}
	}
	return m
}()

// isPublished also knows a published key whose parity was changed, and one of
// 16 bytes within a longer one.
func isPublished(key []byte) bool {
	for _, k := range [][]byte{key, key[:min(16, len(key))], key[max(0, len(key)-16):], key[:min(24, len(key))]} {
		plain := bytes.Clone(k)
		for i := range plain {
			plain[i] &= 0xFE
		}
		sum := sha256.Sum256(plain)
		clear(plain)
		if published[hex.EncodeToString(sum[:16])] {
			return true
		}
	}
	return false
}

// judgeKey refuses a key that no shop may work with. Parity is not its
// business: derived keys have none.
func judgeKey(a Algorithm, key []byte) error {
	if err := a.size(len(key)); err != nil {
		return err
	}
	if isPublished(key) {
		return ErrPublished
	}
	if repeats(key) {
		return fmt.Errorf("%w: it repeats a pattern: make a random one", ErrWeak)
	}
	if a == AES {
		return nil
	}
	var parts [3][8]byte
	n := len(key) / 8
	defer func() { parts = [3][8]byte{} }()
	for i := range n {
		for j := range 8 {
			parts[i][j] = key[8*i+j] & 0xFE
		}
		if weakDES[parts[i]] {
			return fmt.Errorf("%w: part %d is a weak or semi-weak DES key: make another", ErrWeak, i+1)
		}
	}
	for i := range n {
		for j := range i {
			if parts[i] == parts[j] {
				return fmt.Errorf("%w: parts %d and %d are equal, which makes it a shorter key: make another", ErrWeak, j+1, i+1)
			}
		}
	}
	return nil
}

// repeats reports a period of eight bytes or less, or bytes in steps of one.
func repeats(key []byte) bool {
	for period := 1; period <= 8; period++ {
		if bytes.Equal(key[period:], key[:len(key)-period]) {
			return true
		}
	}
	for _, step := range []byte{1, 0xFF, 0x11, 0xEF} {
		same := true
		for i := 1; i < len(key); i++ {
			same = same && key[i]-key[i-1] == step
		}
		if same {
			return true
		}
	}
	return false
}

// oddParity reports whether every byte has an odd number of bits set.
func oddParity(key []byte) bool {
	ok := true
	for _, b := range key {
		ok = ok && bits.OnesCount8(b)%2 == 1
	}
	return ok
}

// setParity makes every byte odd.
func setParity(key []byte) {
	for i, b := range key {
		key[i] = b ^ byte(bits.OnesCount8(b)+1)&1
	}
}

// weakDES are the four weak and twelve semi-weak DES keys (SP 800-67 3.3.2),
// parity bits cleared.
var weakDES = func() map[[8]byte]bool {
	m := map[[8]byte]bool{}
	for _, text := range []string{
		"0101010101010101", "FEFEFEFEFEFEFEFE", "E0E0E0E0F1F1F1F1", "1F1F1F1F0E0E0E0E",
		"011F011F010E010E", "1F011F010E010E01", "01E001E001F101F1", "E001E001F101F101",
		"01FE01FE01FE01FE", "FE01FE01FE01FE01", "1FE01FE00EF10EF1", "E01FE01FF10EF10E",
		"1FFE1FFE0EFE0EFE", "FE1FFE1FFE0EFE0E", "E0FEE0FEF1FEF1FE", "FEE0FEE0FEF1FEF1",
	} {
		b, _ := hex.DecodeString(text)
		for i := range b {
			b[i] &= 0xFE
		}
		m[[8]byte(b)] = true
	}
	return m
}()
