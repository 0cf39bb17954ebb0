package p2pe

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// ErrEnvelope is matched by every error of [Envelope.Check].
var ErrEnvelope error = NewFault("card.envelope_refused", "p2pe: the card data envelope is refused")

const canonicalHead = "tillbridge-envelope/1\x00"

// AppendCanonical appends the bytes that a MAC covers: a version line, then
// every field but MAC in the order of the struct, each as its length (four
// bytes, big endian) and its bytes. Two envelopes that differ in any field
// have different bytes, and no field can be moved into its neighbour.
func (e *Envelope) AppendCanonical(dst []byte) []byte {
	dst = append(dst, canonicalHead...)
	text := func(s string) {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
		dst = append(dst, s...)
	}
	raw := func(b []byte) {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
		dst = append(dst, b...)
	}
	text(string(e.Scheme))
	text(e.DeviceProfile)
	text(e.DeviceSerial)
	text(string(e.KSN))
	text(e.KeyVariant)
	text(e.Algorithm)
	text(e.Mode)
	raw(e.IV)
	text(e.Padding)
	raw(e.PAN)
	raw(e.Track1)
	raw(e.Track2)
	raw(e.TLV57)
	text(e.JWE)
	text(e.MaskedPAN)
	text(e.BIN)
	text(e.Last4)
	text(e.ServiceCode)
	text(e.PAR)
	text(e.EncryptionState)
	return dst
}

// Check judges the form of an envelope that carries ciphertext: a known
// scheme, a serial number that belongs to it, ciphertext in whole blocks, and
// clear parts no longer than may be shown. It opens nothing and knows no
// profile: what a device must have said is judged by p2pe/profile.
func (e *Envelope) Check() error {
	if e.Empty() {
		return fmt.Errorf("%w: it carries no ciphertext: read the card again", ErrEnvelope)
	}
	block := 0
	switch e.Scheme {
	case SchemeTDESDUKPT:
		block = 8
	case SchemeAESDUKPT:
		block = 16
	case SchemeJWE:
		if strings.Count(e.JWE, ".") != 4 || len(e.PAN)+len(e.Track1)+len(e.Track2)+len(e.TLV57) > 0 || e.KSN != "" {
			return fmt.Errorf("%w: a JWE has five parts and nothing beside it", ErrEnvelope)
		}
	default:
		return fmt.Errorf("%w: scheme %q is not known: check the device profile", ErrEnvelope, e.Scheme)
	}
	if block > 0 {
		if e.JWE != "" {
			return fmt.Errorf("%w: a JWE beside DUKPT ciphertext", ErrEnvelope)
		}
		if e.KeyVariant != VariantFixed {
			if e.KSN.Scheme() != e.Scheme {
				return fmt.Errorf("%w: its serial number has %d digits and its scheme is %s: check the device profile", ErrEnvelope, len(e.KSN), e.Scheme)
			}
			if err := e.KSN.Check(); err != nil {
				return fmt.Errorf("%w: %w", ErrEnvelope, err)
			}
		}
		if strings.HasPrefix(e.Algorithm, "AES") {
			block = 16
		} else if e.Algorithm == "TDEA" {
			block = 8
		}
		for _, c := range [...][]byte{e.PAN, e.Track1, e.Track2, e.TLV57} {
			if len(c)%block != 0 {
				return fmt.Errorf("%w: %d bytes of ciphertext are no whole number of blocks of %d: read the card again", ErrEnvelope, len(c), block)
			}
		}
		if len(e.IV) != 0 && len(e.IV) != block {
			return fmt.Errorf("%w: an initial vector of %d bytes", ErrEnvelope, len(e.IV))
		}
	}
	if len(e.BIN) > 8 || len(e.Last4) > 4 || !decimal(e.BIN) || !decimal(e.Last4) || !decimal(e.ServiceCode) || len(e.ServiceCode) > 3 {
		return fmt.Errorf("%w: a clear part is longer than it may be: check that the device masks", ErrEnvelope)
	}
	if shown := digitsIn(e.MaskedPAN); shown > 12 || len(e.MaskedPAN) > 0 && len(e.MaskedPAN)-shown < 4 {
		return fmt.Errorf("%w: its masked number shows too much: check that the device masks", ErrEnvelope)
	}
	return nil
}

func decimal(s string) bool { return digitsIn(s) == len(s) }

func digitsIn(s string) int {
	n := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			n++
		}
	}
	return n
}
