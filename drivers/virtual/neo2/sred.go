package neo2

import (
	"encoding/hex"
	"strings"

	"tillbridge/emv/tlv"
)

// Attribution byte: interface in bits 4, 3 and 0, algorithm in bits 2 and 1
// (00 TDES), what is encrypted in bits 7 (stripes) and 6 (EMV).
const (
	fromContact     = 0x00
	fromContactless = 0x01
	fromStripe      = 0x08
	emvOn           = 0x40
	msrOn           = 0x80
)

// protect appends the card's number and track as the reader gives them out:
// masked, then enciphered, each marked in the first octet of its length (A1
// masked, C1 enciphered: known from outputs of readers, not from the guide),
// behind the KSN. It returns the attribution.
func (s *session) protect(dst []byte, from byte, pan, track []byte) (out []byte, attribution byte, err error) {
	attribution = from
	f := s.r.faults
	_, off := f.Play("encryption-off")
	if s.r.sred()&0x01 != 0 && !off {
		attribution |= emvOn
	}
	if s.r.sred()&0x02 != 0 && !off {
		attribution |= msrOn
	}
	if _, ok := f.Play("wrong-attribution"); ok {
		attribution ^= fromStripe
	}
	covered := attribution&emvOn != 0
	if from == fromStripe {
		covered = attribution&msrOn != 0
	}
	_, leak := f.Play("clear-data")
	if !covered || leak {
		if leak {
			if _, ksn, err := s.r.vault.seal(); err == nil {
				dst = tlv.Append(dst, 0xDFEE12, ksn)
			}
		}
		return tlv.Append(tlv.Append(dst, 0x5A, pan), 0x57, track), attribution, nil
	}
	enc, ksn, err := s.r.vault.seal()
	if err != nil {
		return dst, 0, err
	}
	if _, ok := f.Play("no-ksn"); !ok {
		dst = tlv.Append(dst, 0xDFEE12, ksn)
	}
	for _, x := range []struct {
		tag   byte
		value []byte
	}{{0x5A, pan}, {0x57, track}} {
		if !s.r.o.Plain {
			m := hidden(x.value)
			dst = append(append(dst, x.tag, 0xA1, byte(len(m))), m...)
			c := enc(x.value)
			dst = append(append(dst, x.tag, 0xC1, byte(len(c))), c...)
			continue
		}
		dst = tlv.Append(dst, tlv.Tag(x.tag), enc(x.value))
	}
	return dst, attribution, nil
}

// hidden masks packed digits with the nibble C: first six and last four of the
// number stay, and of the rest of a track its separator.
func hidden(v []byte) []byte {
	text := []byte(hex.EncodeToString(v))
	end := len(text)
	for i, c := range text {
		if c == 'd' || c == 'f' {
			end = i
			break
		}
	}
	for i, c := range text {
		if c < '0' || c > '9' || i < 6 || i >= end-4 && i < end || i >= end+5 && i < end+8 && end+8 < len(text) {
			continue
		}
		text[i] = 'c'
	}
	out, _ := hex.DecodeString(string(text))
	return out
}

// stripe is the record of a swipe in the maker's enhanced format (80172501):
// track 2 masked and enciphered, and the KSN.
func (s *session) stripe(track2 string) ([]byte, error) {
	enc, ksn, err := s.r.vault.seal()
	if err != nil {
		return nil, err
	}
	text := ";" + strings.ReplaceAll(track2, "D", "=") + "?"
	masked := []byte(text)
	number := strings.IndexByte(text, '=')
	for i := range masked {
		if c := masked[i]; c >= '0' && c <= '9' && !(i >= 1 && i <= 6 || i >= number-4 && i < number) {
			masked[i] = '*'
		}
	}
	body := []byte{0x80, 0x1F, 0, byte(len(text)), 0, 0x02, 0x82}
	body = append(body, masked...)
	body = append(body, enc([]byte(text))...)
	body = append(body, ksn...)
	var lrc, sum byte
	for _, c := range body {
		lrc ^= c
		sum += c
	}
	out := append([]byte{0x02, byte(len(body)), byte(len(body) >> 8)}, body...)
	return append(out, lrc, sum, 0x03), nil
}
