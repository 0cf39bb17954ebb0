// Package profile turns what readers and PIN pads send as encrypted card data
// into the normal form, p2pe.Envelope, and refuses what is not what the device
// profile says: encryption off, another maker's format, another device, a
// serial number or a key that does not belong, digits in a field that should
// be masked.
//
// Use [Parse] with a profile name and the device's bytes, or [ParseABECS] with
// the fields of a GTK response; [Check] judges an envelope that a driver has
// built. The package holds no key and does no cryptography: it cannot open
// what it carries. Which key variant, mode and padding apply is a property of
// the profile or of status bits that the device sends, never a constant.
//
// Sources: ID TECH document 80172501 (enhanced encrypted output), MagTek
// 99875483 (MagneSafe V5 keyboard output), ABECS 2.12 section GTK. Unkeyed
// hashes of card numbers, which some ID TECH formats carry, are dropped.
// MagTek's CRCs and MagnePrint data are not judged.
package profile

import (
	"fmt"
	"slices"
	"strings"

	"tillbridge/p2pe"
	"tillbridge/p2pe/mask"
)

// Errors to branch on. No text holds a digit of a card.
var (
	// ErrForm: the bytes are not of the profile's format.
	ErrForm error = p2pe.NewFault("card.format", "profile: the data are not in the reader's format")
	// ErrEncryptionOff: the device says that it does not encrypt.
	ErrEncryptionOff error = p2pe.NewFault("card.encryption_off", "profile: the reader's encryption is off: the data were dropped; "+
		"have the reader's maker or acquirer switch it on")
	// ErrAttribution: the data are from another device, maker or key than configured.
	ErrAttribution error = p2pe.NewFault("card.wrong_reader", "profile: the data do not belong to the configured reader")
	// ErrLeak: a field that should be masked or encrypted holds a card number.
	ErrLeak error = p2pe.NewFault("card.clear_number", "profile: the reader sent a card number in clear: the data were dropped; "+
		"check the reader's masking and encryption settings")
	// ErrExhausted: the reader has used up its keys.
	ErrExhausted error = p2pe.NewFault("keys.reader_exhausted", "profile: the reader's keys are used up: it needs a new key from the acquirer")
)

// The profile names, as in Envelope.DeviceProfile.
const (
	ABECS    = "abecs"
	IDTech   = "idtech"
	MagTek   = "magtek"
	Generic  = "generic"
	Software = "software" // made by p2pe/seal, for readers that deliver clear data
)

// Expect is what the configuration says of a reader. Empty fields are not
// compared.
type Expect struct {
	Serial  string      // device serial number
	Device  string      // p2pe.KSN.Device: which key the reader holds
	Scheme  p2pe.Scheme // key management
	Variant string      // key variant; for MagTek it chooses, because the data do not say
}

// Parse reads the bytes that a reader sent. The name chooses the format: data
// in another format are refused, never guessed. A nil Expect compares nothing.
func Parse(name string, data []byte, want *Expect) (p2pe.Envelope, error) {
	if want == nil {
		want = &Expect{}
	}
	var e p2pe.Envelope
	var err error
	switch name {
	case IDTech:
		e, err = parseIDTech(data)
	case MagTek:
		e, err = parseMagTek(data, want.Variant)
	case Generic:
		e, err = parseGeneric(data)
	case ABECS:
		err = fmt.Errorf("%w: ABECS data come as fields: use ParseABECS", ErrForm)
	default:
		err = fmt.Errorf("%w: profile %q is not known: use idtech, magtek, abecs or generic", ErrForm, name)
	}
	if err != nil {
		return p2pe.Envelope{}, err
	}
	if err := Check(&e, want); err != nil {
		return p2pe.Envelope{}, err
	}
	return e, nil
}

// rule is what a profile's data may look like.
type rule struct {
	schemes  []p2pe.Scheme
	variants []string
	modes    []string
	paddings []string
}

var rules = map[string]rule{
	ABECS: {
		schemes:  []p2pe.Scheme{p2pe.SchemeTDESDUKPT},
		variants: []string{p2pe.VariantDataRequest, p2pe.VariantPIN},
		modes:    []string{"ECB", "CBC"},
		paddings: []string{p2pe.PaddingABECS},
	},
	IDTech: {
		schemes:  []p2pe.Scheme{p2pe.SchemeTDESDUKPT, p2pe.SchemeAESDUKPT},
		variants: []string{p2pe.VariantDataRequest, p2pe.VariantPIN, p2pe.VariantAESDataEncrypt, p2pe.VariantAESDataBoth},
		modes:    []string{"CBC"},
		paddings: []string{p2pe.PaddingZero},
	},
	MagTek: {
		schemes:  []p2pe.Scheme{p2pe.SchemeTDESDUKPT},
		variants: []string{p2pe.VariantPIN, p2pe.VariantDataRequest},
		modes:    []string{"CBC"},
		paddings: []string{p2pe.PaddingZero},
	},
	Generic: {
		schemes: []p2pe.Scheme{p2pe.SchemeTDESDUKPT, p2pe.SchemeAESDUKPT, p2pe.SchemeJWE},
	},
	Software: {
		schemes: []p2pe.Scheme{p2pe.SchemeAESDUKPT, p2pe.SchemeJWE},
	},
}

// Check judges an envelope against its profile and against the configuration:
// form (p2pe.Envelope.Check), scheme, variant, mode and padding of the
// profile, the device's own word on its encryption, serial number and key, and
// card numbers in any clear field. A driver calls it for what it built.
func Check(e *p2pe.Envelope, want *Expect) error {
	if want == nil {
		want = &Expect{}
	}
	r, ok := rules[e.DeviceProfile]
	if !ok {
		return fmt.Errorf("%w: profile %q is not known", ErrAttribution, e.DeviceProfile)
	}
	if err := off(e.EncryptionState); err != nil {
		return err
	}
	if e.Empty() {
		return fmt.Errorf("%w (no ciphertext came)", ErrEncryptionOff)
	}
	if err := leak(e); err != nil {
		return err
	}
	if err := e.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	for _, c := range []struct {
		what, got string
		allowed   []string
	}{
		{"scheme", string(e.Scheme), texts(r.schemes)}, {"key variant", e.KeyVariant, r.variants},
		{"mode", e.Mode, r.modes}, {"padding", e.Padding, r.paddings},
	} {
		if len(c.allowed) > 0 && !holds(c.allowed, c.got) {
			return fmt.Errorf("%w: no reader of profile %s uses %s %q", ErrAttribution, e.DeviceProfile, c.what, c.got)
		}
	}
	for _, c := range []struct{ what, got, want string }{
		{"serial number", e.DeviceSerial, want.Serial}, {"key serial number", e.KSN.Device(), want.Device},
		{"scheme", string(e.Scheme), string(want.Scheme)}, {"key variant", e.KeyVariant, want.Variant},
	} {
		if c.want != "" && c.got != c.want {
			return fmt.Errorf("%w: another %s than configured: if the reader was exchanged, bind it again (tillbridge devices bind)", ErrAttribution, c.what)
		}
	}
	return nil
}

func texts(schemes []p2pe.Scheme) []string {
	out := make([]string, len(schemes))
	for i, s := range schemes {
		out[i] = string(s)
	}
	return out
}

func holds(list []string, s string) bool {
	return slices.Contains(list, s)
}

// off judges what a device says of its own encryption.
func off(state string) error {
	state = strings.ToLower(strings.TrimSpace(state))
	if state == "0" || strings.HasPrefix(state, "clear") && !strings.HasPrefix(state, "clear=") {
		return ErrEncryptionOff
	}
	for word := range strings.FieldsFuncSeq(state, func(r rune) bool { return r < 'a' || r > 'z' }) {
		switch word {
		case "off", "none", "no", "not", "disabled", "inactive", "false", "unencrypted", "invalid", "plain", "plaintext", "cleartext":
			return ErrEncryptionOff
		}
	}
	return nil
}

// leak looks for card numbers in everything of e that is not ciphertext, and in
// "ciphertext" that is readable text.
func leak(e *p2pe.Envelope) error {
	if slices.ContainsFunc([]string{e.DeviceSerial, e.MaskedPAN, e.BIN, e.Last4, e.ServiceCode, e.PAR, e.EncryptionState, e.KeyVariant,
		string(e.Scheme), e.Algorithm, e.Mode, e.Padding, string(e.IV), string(e.MAC)}, mask.Contains) {
		return ErrLeak
	}
	if e.MaskedPAN != "" && mask.CheckMasked(e.MaskedPAN) != nil {
		return ErrLeak
	}
	for _, c := range [][]byte{e.PAN, e.Track1, e.Track2, e.TLV57} {
		if len(mask.Scan(c)) > 0 {
			return ErrLeak
		}
	}
	if e.JWE != "" {
		return checkJWE(e.JWE)
	}
	return nil
}

// fillMasked sets the clear parts from a masked number.
func fillMasked(e *p2pe.Envelope, masked string) error {
	if masked == "" {
		return nil
	}
	if err := mask.CheckMasked(masked); err != nil {
		return ErrLeak
	}
	lead := strings.IndexFunc(masked, func(r rune) bool { return r < '0' || r > '9' })
	tail := strings.LastIndexFunc(masked, func(r rune) bool { return r < '0' || r > '9' })
	first, last := masked[:lead], masked[tail+1:]
	if len(first) > 6 {
		first = first[:6] // store no more than the first six, whatever the device shows
	}
	if len(first) == 6 {
		e.BIN = first
	}
	if len(last) == 4 {
		e.Last4 = last
	}
	e.MaskedPAN = first + strings.Repeat("*", len(masked)-len(first)-len(last)) + last
	return nil
}

// maskedNumber returns the number of a masked track: what stands between its
// sentinel (and, in track 1, the format code) and its field separator.
func maskedNumber(track string) (string, error) {
	switch {
	case strings.HasPrefix(track, "%"):
		track = track[1:]
		if track == "" {
			return "", fmt.Errorf("%w: a masked track is empty", ErrForm)
		}
		end := strings.IndexByte(track, '^')
		if end < 1 {
			return "", fmt.Errorf("%w: a masked track 1 has no field separator", ErrForm)
		}
		return track[1:end], nil
	case strings.HasPrefix(track, ";"):
		end := strings.IndexByte(track, '=')
		if end < 0 {
			return "", fmt.Errorf("%w: a masked track 2 has no field separator", ErrForm)
		}
		return track[1:end], nil
	}
	return "", fmt.Errorf("%w: a masked track has no start sentinel", ErrForm)
}
