package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// Needle looks for one known number in every form, without issuer or check
// digit, so it finds it inside random bytes too and never takes another for
// it. It is the tool of a test that plants a number and then reads every file.
type Needle struct{ forms [][]byte }

// Known returns a Needle for the digits of pan. Fewer than eight digits make
// the Needle find nothing.
func Known(pan string) *Needle {
	if len(pan) < 8 || !allDigits(pan) {
		return &Needle{}
	}
	wide := func(at int) []byte {
		b := make([]byte, 2*len(pan))
		for i := range len(pan) {
			b[2*i+at] = pan[i]
		}
		return b
	}
	packed := func(digits string) []byte {
		b, _ := hex.DecodeString(digits[:len(digits)&^1])
		return b
	}
	var groups [4]string
	for i := range groups {
		lo, hi := min(4*i, len(pan)), min(4*i+4, len(pan))
		if i == len(groups)-1 {
			hi = len(pan)
		}
		groups[i] = pan[lo:hi]
	}
	raw := [][]byte{[]byte(pan), wide(0)[:2*len(pan)-1], wide(1)[1:], packed(pan), packed(pan[1:])}
	for _, sep := range []string{" ", "-", ".", ",", ":"} {
		raw = append(raw, []byte(strings.Join(groups[:], sep)), []byte(strings.Join(strings.Split(pan, ""), sep)))
	}
	n := &Needle{forms: raw}
	for _, r := range raw {
		h := hex.EncodeToString(r)
		n.forms = append(n.forms, []byte(h), []byte(strings.ToUpper(h)))
		// The characters of base64 that depend on these bytes alone, in each phase.
		for phase := range 3 {
			padded := append(make([]byte, phase), r...)
			whole := len(padded) / 3 * 3
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				text := enc.EncodeToString(padded[:whole])
				skip := 0
				if phase > 0 {
					skip = 4
				}
				if len(text)-skip >= 8 {
					n.forms = append(n.forms, []byte(text[skip:]))
				}
			}
		}
	}
	return n
}

// In returns the offset of the first form found in data, or -1.
func (n *Needle) In(data []byte) int {
	first := -1
	for _, f := range n.forms {
		if at := bytes.Index(data, f); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	return first
}
