package profile

import (
	"fmt"
	"strings"

	"tillbridge/p2pe"
)

// Fields are the parts of an ABECS GTK response with what was asked for.
type Fields struct {
	Serial string // 8001, of the GIX response
	Method string // MTHDDAT as sent: "30", "50", "51"
	IV     []byte // as sent with a CBC method, or empty for zeros
	// Encrypted data: 804A, 8044, 8045 and the serial numbers of their keys.
	PAN, Track1, Track2          []byte
	PANKSN, Track1KSN, Track2KSN string
	// Truncated is the truncated track 2 (8042), or the truncated number.
	Truncated string
}

// ParseABECS builds the envelope of a GTK response. A response to a request
// without a method carries clear tracks and is [ErrEncryptionOff].
func ParseABECS(f Fields, want *Expect) (p2pe.Envelope, error) {
	var none p2pe.Envelope
	e := p2pe.Envelope{
		Scheme: p2pe.SchemeTDESDUKPT, DeviceProfile: ABECS, DeviceSerial: f.Serial, Algorithm: "TDEA", IV: f.IV,
		Padding: p2pe.PaddingABECS, PAN: f.PAN, Track1: f.Track1, Track2: f.Track2, EncryptionState: "method=" + f.Method,
	}
	switch f.Method {
	case "":
		return none, ErrEncryptionOff
	case "30":
		e.KeyVariant, e.Mode = p2pe.VariantPIN, "ECB"
	case "50":
		e.KeyVariant, e.Mode = p2pe.VariantDataRequest, "ECB"
	case "51":
		e.KeyVariant, e.Mode = p2pe.VariantDataRequest, "CBC"
	case "00", "01", "10", "11":
		return none, fmt.Errorf("%w: method %s enciphers under a fixed key: have DUKPT keys loaded and use method 50 or 51", ErrAttribution, f.Method)
	case "90", "91":
		return none, fmt.Errorf("%w: method %s makes a random key under RSA, which no acquirer link here carries", ErrAttribution, f.Method)
	default:
		return none, fmt.Errorf("%w: method %q is not known", ErrForm, f.Method)
	}
	for _, c := range []struct {
		ct  []byte
		ksn string
	}{{f.PAN, f.PANKSN}, {f.Track1, f.Track1KSN}, {f.Track2, f.Track2KSN}} {
		if len(c.ct) == 0 {
			continue
		}
		ksn, err := p2pe.ParseKSN(c.ksn)
		if err != nil {
			return none, fmt.Errorf("%w: %w", ErrForm, err)
		}
		if e.KSN != "" && e.KSN != ksn {
			return none, fmt.Errorf("%w: its parts have different key serial numbers", ErrAttribution)
		}
		e.KSN = ksn
	}
	if f.Truncated != "" {
		number, _, _ := strings.Cut(f.Truncated, "=")
		number, _, _ = strings.Cut(number, "D")
		if err := fillMasked(&e, strings.TrimPrefix(number, ";")); err != nil {
			return none, err
		}
	}
	if err := Check(&e, want); err != nil {
		return none, err
	}
	return e, nil
}
