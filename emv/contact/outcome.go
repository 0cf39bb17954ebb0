package contact

import (
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

// hostTags are the data objects of field 55 in the usual order. Number, track,
// expiry and discretionary data (5A, 57, 5F24, 5F20, 9F1F, 9F20) are not among
// them and never will be: they travel in the envelope.
var hostTags = []tlv.Tag{
	0x9F26, 0x9F27, 0x9F10, 0x9F37, 0x9F36, 0x95, 0x9A, 0x9C, 0x9F02, 0x5F2A, 0x82, 0x9F1A, 0x9F03,
	0x9F33, 0x9F34, 0x9F35, 0x84, 0x9F06, 0x9F09, 0x5F34, 0x9F1E, 0x9F41, 0x9F53, 0x9F6E, 0x9B,
}

// note adds a step to the reason chain. Text holds no card data.
func (s *Session) note(step, text, ref string) {
	s.reasons = append(s.reasons, emv.Reason{Step: step, Text: text, Ref: ref})
}

// field55 is the BER-TLV sequence for the acquirer.
func (s *Session) field55() []byte {
	out := make([]byte, 0, 256)
	for _, t := range hostTags {
		if v, ok := s.data.lookup(t); ok && len(v) > 0 {
			out = tlv.Append(out, t, v)
		}
	}
	if len(s.results) > 0 {
		out = tlv.Append(out, 0x9F5B, s.results)
	}
	return out
}

// outcome is what is known now as a result.
func (s *Session) outcome(d emv.Decision) emv.Outcome {
	s.data.set(fromTransaction, 0x9B, append([]byte(nil), s.tsi[:]...))
	switch {
	case s.closing:
		// The second cryptogram is over the results before the last scripts.
		s.data.set(fromTransaction, 0x95, append([]byte(nil), s.secondTVR[:]...))
	case !s.askedIssuer:
		s.data.set(fromTransaction, 0x95, append([]byte(nil), s.tvr[:]...))
	default:
		// The first cryptogram is over the results as they were then.
		s.data.set(fromTransaction, 0x95, append([]byte(nil), s.firstTVR[:]...))
	}
	out := emv.Outcome{
		Decision: d, CVM: hexOf(s.cvm.Result[:]), CVMText: s.cvmText(), Signature: s.cvm.Signature && d != emv.Declined,
		TVR: hexOf(s.tvr[:]), TSI: hexOf(s.tsi[:]), ARC: s.arc,
		Field55: s.field55(), Reasons: append([]emv.Reason(nil), s.reasons...),
	}
	// The block is the caller's from here on; an offline decision needs none.
	if d == emv.OnlineRequest {
		out.PIN, s.pin = s.pin, p2pe.PINBlock{}
	} else {
		s.pin.Erase()
	}
	out.Cryptogram = hexOf(s.data.card(0x9F26))
	out.CID = hexOf(s.data.card(0x9F27))
	return out
}

func hexOf(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Receipt is what a receipt has to show of the chip (Book 4 section 7.1 and
// the schemes' common demands), besides amounts and the masked number of
// [emv.Card].
type Receipt struct {
	AID       string `json:"aid"`
	Name      string `json:"name"` // preferred name or label
	ARC       string `json:"arc,omitempty"`
	TVR       string `json:"tvr"`
	TSI       string `json:"tsi"`
	AC        string `json:"ac,omitempty"`
	Kind      string `json:"kind,omitempty"` // TC, ARQC or AAC
	CVM       string `json:"cvm"`            // in words
	Signature bool   `json:"signature"`
}

// Receipt returns it after Authorize or Complete.
func (s *Session) Receipt() Receipt {
	r := Receipt{
		AID: hexOf(s.chosen.AID), Name: s.chosen.Name(), ARC: s.arc, TVR: hexOf(s.tvr[:]), TSI: hexOf(s.tsi[:]),
		AC: hexOf(s.data.card(0x9F26)), CVM: s.cvmText(), Signature: s.cvm.Signature,
	}
	if cid := s.data.card(0x9F27); len(cid) == 1 {
		r.Kind = KindName(cid[0])
	}
	return r
}

// KindName names the type of a cryptogram information data byte (9F27).
func KindName(cid byte) string {
	switch cid & typeMask {
	case AAC:
		return "AAC"
	case TC:
		return "TC"
	case ARQC:
		return "ARQC"
	}
	return fmt.Sprintf("%02X", cid)
}

// mask is first six and last four of a number, or nothing where that would
// show too much of it.
func mask(pan []byte) (masked, bin, last string) {
	if n := len(pan); n >= 15 {
		return string(pan[:6]) + strings.Repeat("*", n-10) + string(pan[n-4:]), string(pan[:6]), string(pan[n-4:])
	} else if n >= 12 {
		return "", "", string(pan[n-4:])
	}
	return "", "", ""
}
