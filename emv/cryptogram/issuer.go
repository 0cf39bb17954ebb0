package cryptogram

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"tillbridge/emv/tlv"
)

// Issuer holds an issuer's three master keys (Book 2 Annex A1.4): for
// cryptograms, for the integrity and for the confidentiality of scripts.
type Issuer struct {
	AC, MAC, Enc Key
}

// Request is what the acquirer forwards about one card: the number from the
// envelope and the data objects of field 55.
type Request struct {
	PAN string // digits, from the deciphered track or PAN
	PSN string // two digits, empty for 00
	AID []byte // 84 or 4F or 9F06
	// Data is field 55, data objects of the card's cryptogram.
	Data []byte
}

// String shows nothing of the card.
func (Request) String() string { return "cryptogram.Request{***}" }

// GoString shows nothing of the card.
func (r Request) GoString() string { return r.String() }

// Format prints String for every verb.
func (r Request) Format(s fmt.State, _ rune) { fmt.Fprint(s, r.String()) }

// Verified is what [Issuer.Verify] established.
type Verified struct {
	Layout     Layout
	ATC        uint16
	Cryptogram [8]byte
	CID        byte   // 9F27 as sent; not covered by the cryptogram itself
	cards      Issuer // card keys
	un         [4]byte
}

// ErrCryptogram says that the cryptogram is not the one that the card would
// have made over these data.
var ErrCryptogram = errors.New("cryptogram: the application cryptogram does not verify")

// Verify recomputes the cryptogram (9F26) of a request. Errors are
// [ErrCryptogram], [ErrMissing], [ErrLayout] or [ErrInput].
func (i Issuer) Verify(r Request) (Verified, error) {
	tree, err := tlv.Parse(r.Data, nil)
	if err != nil {
		return Verified{}, fmt.Errorf("read field 55: %w", err)
	}
	aid := r.AID
	for _, t := range []tlv.Tag{0x84, 0x4F, 0x9F06} {
		if v, ok := tree.Find(t); ok && len(aid) == 0 {
			aid = v
		}
	}
	iad, _ := tree.Find(0x9F10)
	layout, err := LayoutOf(aid, iad)
	if err != nil {
		return Verified{}, err
	}
	psn := r.PSN
	if v, ok := tree.Find(0x5F34); ok && psn == "" && len(v) == 1 {
		psn = fmt.Sprintf("%02X", v[0])
	}
	data, err := layout.Data(tree.Find)
	if err != nil {
		return Verified{}, err
	}
	ac, ok := tree.Find(0x9F26)
	if !ok || len(ac) != 8 {
		return Verified{}, fmt.Errorf("%w: 9F26", ErrMissing)
	}
	var v Verified
	v.Layout = layout
	if v.cards, err = i.Card(layout, r.PAN, psn); err != nil {
		return Verified{}, err
	}
	atc, _ := tree.Find(0x9F36) // Data has checked its length
	un, _ := tree.Find(0x9F37)
	v.ATC = uint16(atc[0])<<8 | uint16(atc[1])
	v.un = [4]byte(un)
	v.Cryptogram = [8]byte(ac)
	if cid, ok := tree.Find(0x9F27); ok && len(cid) == 1 {
		v.CID = cid[0]
	}
	want := AC(v.session(), data, layout.Padding)
	if subtle.ConstantTimeCompare(want[:], ac) != 1 {
		return Verified{}, ErrCryptogram
	}
	return v, nil
}

// Card derives the three keys of one card, as personalisation writes them.
func (i Issuer) Card(l Layout, pan, psn string) (Issuer, error) {
	var out Issuer
	for _, k := range []struct {
		from Key
		to   *Key
	}{{i.AC, &out.AC}, {i.MAC, &out.MAC}, {i.Enc, &out.Enc}} {
		key, err := l.CardKey(k.from, pan, psn)
		if err != nil {
			return Issuer{}, err
		}
		*k.to = key
	}
	return out, nil
}

func (v Verified) session() Key {
	return v.Layout.Session.SessionKey(v.cards.AC, v.ATC, v.un, v.Cryptogram)
}

// Answer returns the value of tag 91 for an authorisation response code (8A,
// two characters). By method 2 the card status update says approved or not and
// carries no other request.
func (v Verified) Answer(arc string, approved bool) ([]byte, error) {
	if len(arc) != 2 {
		return nil, fmt.Errorf("%w: an authorisation response code of %d characters", ErrInput, len(arc))
	}
	if v.Layout.Answer == 2 {
		csu := [4]byte{0x00, 0x00, 0x00, 0x00}
		if approved {
			csu[1] = 0x80 // issuer approves the online transaction
		}
		mac := ARPC2(v.session(), v.Cryptogram, csu, nil)
		return append(mac[:], csu[:]...), nil
	}
	arpc := ARPC1(v.session(), v.Cryptogram, [2]byte([]byte(arc)))
	return append(arpc[:], arc...), nil
}

// Script returns one issuer script command (the value of tag 86) with secure
// messaging: header is CLA INS P1 P2, CLA with the bits of secure messaging
// (84 or 8C). When encipher is set the data are enciphered first. The MAC has
// 8 bytes and covers header, ATC, cryptogram and data.
func (v Verified) Script(header [4]byte, data []byte, encipher bool) ([]byte, error) {
	if encipher {
		var err error
		key := v.Layout.ScriptSession.SessionKey(v.cards.Enc, v.ATC, v.un, v.Cryptogram)
		if data, err = EncipherData(key, data, v.Layout.Encipherment); err != nil {
			return nil, err
		}
	}
	if len(data) > 247 {
		return nil, fmt.Errorf("%w: %d bytes of script data", ErrInput, len(data))
	}
	lc := byte(len(data) + 8)
	mac := ScriptMAC(v.Layout.ScriptSession.SessionKey(v.cards.MAC, v.ATC, v.un, v.Cryptogram),
		ScriptMessage(header, lc, v.ATC, v.Cryptogram, data))
	out := append(header[:], lc)
	out = append(out, data...)
	return append(out, mac[:]...), nil
}

// ScriptMessage is what the MAC of a script command covers: header, Lc, ATC,
// cryptogram, data.
func ScriptMessage(header [4]byte, lc byte, atc uint16, cryptogram [8]byte, data []byte) []byte {
	m := append(header[:], lc, byte(atc>>8), byte(atc))
	m = append(m, cryptogram[:]...)
	return append(m, data...)
}

// PINChange returns a PIN CHANGE/UNBLOCK command (Book 3 section 6.5.10) that
// sets a new PIN without knowledge of the old one (P2 = 02).
func (v Verified) PINChange(pin string) ([]byte, error) {
	var block [8]byte
	var err error
	if v.Layout.Encipherment == EncipherVisa {
		block, err = VisaPINBlock(v.cards.AC, pin, "")
	} else {
		block, err = ISO2PINBlock(pin)
	}
	if err != nil {
		return nil, err
	}
	return v.Script([4]byte{0x84, 0x24, 0x00, 0x02}, block[:], true)
}

// PINUnblock returns a PIN CHANGE/UNBLOCK command that resets the PIN try
// counter (P2 = 00).
func (v Verified) PINUnblock() ([]byte, error) {
	return v.Script([4]byte{0x84, 0x24, 0x00, 0x00}, nil, false)
}

// BlockApplication returns an APPLICATION BLOCK command (Book 3 section 6.5.1).
func (v Verified) BlockApplication() ([]byte, error) {
	return v.Script([4]byte{0x84, 0x1E, 0x00, 0x00}, nil, false)
}

// UnblockApplication returns an APPLICATION UNBLOCK command (Book 3 section
// 6.5.2).
func (v Verified) UnblockApplication() ([]byte, error) {
	return v.Script([4]byte{0x84, 0x18, 0x00, 0x00}, nil, false)
}

// String names layout and counter; never a key.
func (v Verified) String() string { return fmt.Sprintf("verified{%s ATC %d}", v.Layout.Name, v.ATC) }

// Format prints String for every verb.
func (v Verified) Format(s fmt.State, _ rune) { fmt.Fprint(s, v.String()) }
