package cryptogram

import (
	"errors"
	"fmt"

	"tillbridge/emv/tlv"
)

// Layout says how a card application makes its cryptogram: which data, which
// session key, which padding, which answer. The card names it by the
// cryptogram version number in its issuer application data (9F10).
type Layout struct {
	Name string
	// OptionB takes derivation option B for the card key; for PANs of up to 16
	// digits there is no difference.
	OptionB bool
	Session Session
	Padding Padding
	// CVR is offset and length of the part of 9F10 that ends the data; length 0
	// means all of it.
	CVROffset, CVRLength int
	// Counters adds the eight bytes of counters at the end of M/Chip's 9F10.
	Counters bool
	// Answer is 1 or 2, the ARPC method.
	Answer int
	// Encipherment is that of script data.
	Encipherment Encipherment
	// ScriptSession is how secure messaging keys come from the card keys.
	ScriptSession Session
}

// Session is a session key method.
type Session int

// Session key methods of the layouts.
const (
	SessionNone       Session = iota // the card key itself (Visa CVN 10)
	SessionCommon                    // common method, ATC (Book 2 Annex A1.3)
	SessionRandom                    // common method, ATC and unpredictable number (M/Chip)
	SessionTree                      // EMV2000 tree, height 8, branch factor 4
	SessionCryptogram                // common method, the cryptogram (secure messaging)
	SessionVisa                      // card key with the ATC on it (Visa secure messaging)
)

// The layouts that [LayoutOf] returns.
var (
	VisaCVN10  = Layout{Name: "Visa CVN 10", Padding: PadZeros, CVROffset: 3, CVRLength: 4, Answer: 1, Encipherment: EncipherVisa, ScriptSession: SessionVisa}
	VisaCVN18  = Layout{Name: "Visa CVN 18", OptionB: true, Session: SessionCommon, Padding: PadEMV, Answer: 2, Encipherment: EncipherVisa, ScriptSession: SessionCryptogram}
	VisaCVN22  = Layout{Name: "Visa CVN 22", OptionB: true, Session: SessionCommon, Padding: PadEMV, Answer: 2, Encipherment: EncipherVisa, ScriptSession: SessionCryptogram}
	MChipCVN10 = Layout{Name: "M/Chip CVN 10", Session: SessionRandom, Padding: PadEMV, CVROffset: 2, CVRLength: 6, Answer: 1, Encipherment: EncipherMastercard, ScriptSession: SessionCryptogram}
	MChipCVN11 = Layout{Name: "M/Chip CVN 11", Session: SessionRandom, Padding: PadEMV, CVROffset: 2, CVRLength: 6, Counters: true, Answer: 1, Encipherment: EncipherMastercard, ScriptSession: SessionCryptogram}
	MChipCVN12 = Layout{Name: "M/Chip CVN 12", Session: SessionTree, Padding: PadEMV, CVROffset: 2, CVRLength: 6, Answer: 1, Encipherment: EncipherMastercard, ScriptSession: SessionCryptogram}
	MChipCVN14 = Layout{Name: "M/Chip CVN 14", Session: SessionCommon, Padding: PadEMV, CVROffset: 2, CVRLength: 6, Answer: 1, Encipherment: EncipherMastercard, ScriptSession: SessionCryptogram}
	MChipCVN15 = Layout{Name: "M/Chip CVN 15", Session: SessionCommon, Padding: PadEMV, CVROffset: 2, CVRLength: 6, Counters: true, Answer: 1, Encipherment: EncipherMastercard, ScriptSession: SessionCryptogram}
)

// ErrLayout is returned for issuer application data of an unknown version.
var ErrLayout = errors.New("cryptogram: the issuer application data name no known cryptogram version")

// LayoutOf finds the layout from the application (AID, of which the first five
// bytes count) and the issuer application data (9F10). Mastercard data carry
// the version in their second byte; all others are read as Visa's: length,
// key index, version (or length, version, key index in the 32-byte format).
func LayoutOf(aid, iad []byte) (Layout, error) {
	if len(aid) >= 5 && string(aid[:5]) == "\xA0\x00\x00\x00\x04" {
		if len(iad) < 8 {
			return Layout{}, fmt.Errorf("%w: %d bytes", ErrLayout, len(iad))
		}
		switch iad[1] {
		case 0x10:
			return MChipCVN10, nil
		case 0x11:
			return MChipCVN11, nil
		case 0x12:
			return MChipCVN12, nil
		case 0x14:
			return MChipCVN14, nil
		case 0x15:
			return MChipCVN15, nil
		}
		return Layout{}, fmt.Errorf("%w: M/Chip version %02X", ErrLayout, iad[1])
	}
	if len(iad) < 7 {
		return Layout{}, fmt.Errorf("%w: %d bytes", ErrLayout, len(iad))
	}
	if iad[0] == 0x1F {
		if iad[1] == 0x22 {
			return VisaCVN22, nil
		}
		return Layout{}, fmt.Errorf("%w: version %02X", ErrLayout, iad[1])
	}
	switch iad[2] {
	case 0x0A:
		return VisaCVN10, nil
	case 0x12:
		return VisaCVN18, nil
	}
	return Layout{}, fmt.Errorf("%w: version %02X", ErrLayout, iad[2])
}

// dataTags are what every layout begins with, in this order (Book 2 section
// 8.1.1, table 26).
var dataTags = []struct {
	tag tlv.Tag
	n   int
}{
	{0x9F02, 6}, {0x9F03, 6}, {0x9F1A, 2}, {0x95, 5}, {0x5F2A, 2}, {0x9A, 3}, {0x9C, 1}, {0x9F37, 4}, {0x82, 2}, {0x9F36, 2},
}

// ErrMissing says that a tag which the cryptogram covers is not there or has
// another length than the layout's.
var ErrMissing = errors.New("cryptogram: a data object of the cryptogram is missing or has a wrong length")

// Data returns the bytes that the cryptogram of this layout covers. lookup
// returns the value of a tag as the card saw it.
func (l Layout) Data(lookup func(tlv.Tag) ([]byte, bool)) ([]byte, error) {
	var out []byte
	for _, d := range dataTags {
		v, ok := lookup(d.tag)
		if !ok && d.tag == 0x9F03 {
			v, ok = make([]byte, 6), true // amount, other is left out when there is none
		}
		if !ok || len(v) != d.n {
			return nil, fmt.Errorf("%w: %s", ErrMissing, d.tag)
		}
		out = append(out, v...)
	}
	iad, ok := lookup(0x9F10)
	if !ok || len(iad) < l.CVROffset+l.CVRLength || l.Counters && len(iad) < 18 {
		return nil, fmt.Errorf("%w: 9F10", ErrMissing)
	}
	if l.CVRLength == 0 {
		return append(out, iad...), nil
	}
	out = append(out, iad[l.CVROffset:l.CVROffset+l.CVRLength]...)
	if l.Counters {
		out = append(out, iad[10:18]...)
	}
	return out, nil
}

// CardKey derives the card's master key by the layout's option.
func (l Layout) CardKey(issuer Key, pan, psn string) (Key, error) {
	if l.OptionB {
		return CardKeyB(issuer, pan, psn)
	}
	return CardKeyA(issuer, pan, psn)
}

// SessionKey derives a session key from a card key.
func (s Session) SessionKey(card Key, atc uint16, un [4]byte, cryptogram [8]byte) Key {
	switch s {
	case SessionCommon:
		return CommonSessionKey(card, ATCValue(atc))
	case SessionRandom:
		return CommonSessionKey(card, ATCRandomValue(atc, un))
	case SessionTree:
		k, _ := TreeSessionKey(card, atc, 8, 4, Key{}) // height and branch are fixed
		return k
	case SessionCryptogram:
		return CommonSessionKey(card, cryptogram)
	case SessionVisa:
		return VisaSessionKey(card, atc)
	}
	return card
}
