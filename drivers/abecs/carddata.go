package abecs

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
	"tillbridge/p2pe/profile"
)

// Tags that are asked for. None holds card data (see CheckCommand).
var (
	gcxTags = tagList(0x4F, 0x50, 0x84, 0x9F06, 0x9F12)
	// goxTags make field 55 and what the receipt and a technician need.
	goxTags = tagList(0x9F26, 0x9F27, 0x9F10, 0x9F37, 0x9F36, 0x95, 0x9A, 0x9C, 0x9F02, 0x5F2A, 0x82, 0x9F1A, 0x9F34,
		0x9F33, 0x9F35, 0x9F1E, 0x84, 0x9F09, 0x9F03, 0x5F34, 0x9F06, 0x9B, 0x8A, 0x9F6E, 0x9F7C)
)

func tagList(tags ...tlv.Tag) []byte {
	var b []byte
	for _, t := range tags {
		b = tlv.AppendTag(b, t)
	}
	return b
}

// cardData asks for card number and track 2 as ciphertext. The pad gives them
// once. The caller has the link.
func (d *device) cardData(ctx context.Context, c emv.Card) (p2pe.Envelope, error) {
	p := []Param{
		{Tracks, []byte("1010")},
		{MethodData, []byte(d.set.DataMethod)},
		{KeyIndex, fmt.Appendf(nil, "%02d", d.set.DataSlot)},
	}
	iv := make([]byte, 8)
	if d.set.DataMethod == "51" {
		p = append(p, Param{IV, iv})
	}
	r, err := d.params(ctx, "GTK", false, p...)
	if err != nil {
		return p2pe.Envelope{}, err
	}
	e, err := envelopeOf(r)
	if err != nil {
		return p2pe.Envelope{}, d.fail("GTK", err)
	}
	e.DeviceSerial = d.id.Serial
	e.Mode = "ECB"
	if d.set.DataMethod == "51" {
		e.Mode, e.IV = "CBC", iv
	}
	if d.set.DataMethod == "30" {
		e.KeyVariant = p2pe.VariantPIN
	}
	e.EncryptionState = fmt.Sprintf("method %s, slot %02d", d.set.DataMethod, d.set.DataSlot)
	e.MaskedPAN, e.BIN, e.Last4, e.ServiceCode = c.MaskedPAN, c.BIN6, c.Last4, c.ServiceCode
	if err := judge(e); err != nil {
		return p2pe.Envelope{}, d.fail("GTK", err)
	}
	return e, nil
}

// judge refuses card data that are not what the profile of these pads says: a
// serial number that no pad counts to, digits in clear in place of ciphertext,
// a masked number that shows too much.
func judge(e p2pe.Envelope) error {
	e.DeviceSerial = "" // the pad's own, known before; its digits are no card's
	if len(e.Track2) > 0 && len(e.PAN) == 8 {
		e.PAN = nil // too short to tell ciphertext from digits; the track tells
	}
	if err := profile.Check(&e, nil); err != nil {
		return fmt.Errorf("%w (GTK: %w)", drivers.ErrRefused, err)
	}
	return nil
}

// envelopeOf reads the answer to GTK. Data without a KSN are not ciphertext
// and are refused. Where number and track have KSNs of their own the track is
// kept, because it holds the number.
func envelopeOf(r Response) (p2pe.Envelope, error) {
	e := p2pe.Envelope{Scheme: p2pe.SchemeTDESDUKPT, DeviceProfile: "abecs", KeyVariant: p2pe.VariantDataRequest,
		Algorithm: "TDEA", Padding: "abecs"}
	part := func(data, key ID) ([]byte, p2pe.KSN, error) {
		v, ok := r.Find(data)
		if !ok || len(v) == 0 {
			return nil, "", nil
		}
		k, ok := r.Find(key)
		if !ok || len(k) != 10 || len(v)%8 != 0 {
			return nil, "", fmt.Errorf("%w (GTK: the pad sent card data without the KSN of its encryption)", drivers.ErrRefused)
		}
		ksn, err := p2pe.ParseKSN(hex.EncodeToString(k))
		return append([]byte(nil), v...), ksn, err
	}
	pan, panKSN, err := part(PANData, PANKSN)
	if err != nil {
		return p2pe.Envelope{}, err
	}
	track, trackKSN, err := part(Track2, Track2KSN)
	if err != nil {
		return p2pe.Envelope{}, err
	}
	if v, ok := r.Find(Track1); ok && len(v) > 0 {
		if _, ok := r.Find(Track1KSN); !ok {
			return p2pe.Envelope{}, fmt.Errorf("%w (GTK: track 1 in clear)", drivers.ErrRefused)
		}
	}
	switch {
	case track != nil:
		e.Track2, e.KSN = track, trackKSN
		if panKSN == trackKSN {
			e.PAN = pan
		}
	case pan != nil:
		e.PAN, e.KSN = pan, panKSN
	default:
		return p2pe.Envelope{}, fmt.Errorf("%w: the pad sent no card data", ErrMalformed)
	}
	return e, nil
}

// askPIN asks for the PIN of the card that the pad has just read: an empty
// number makes it use its own.
func (d *device) askPIN(ctx context.Context) (p2pe.PINBlock, error) {
	block := fmt.Appendf(nil, "3%02d%032d%02d%-19s1%02d%02d", d.set.PINSlot, 0, 0, "", 4, 12)
	block = append(block, s32("ENTER PIN")...)
	packet, err := AppendCommand(nil, "GPN", block)
	if err != nil {
		return p2pe.PINBlock{}, d.fail("GPN", err)
	}
	r, err := d.send(ctx, packet, true)
	if err != nil {
		return p2pe.PINBlock{}, err
	}
	b := r.Block(0)
	if len(b) != 36 {
		return p2pe.PINBlock{}, d.fail("GPN", fmt.Errorf("%w: PIN block", ErrMalformed))
	}
	pin, err := hex.DecodeString(string(b[:16]))
	if err != nil {
		return p2pe.PINBlock{}, d.fail("GPN", fmt.Errorf("%w: PIN block", ErrMalformed))
	}
	ksn, err := p2pe.ParseKSN(string(b[16:]))
	if err != nil {
		return p2pe.PINBlock{}, d.fail("GPN", err)
	}
	return p2pe.PINBlock{KSN: ksn, Block: pin}, nil
}

// maskedPAN truncates what the pad calls a masked number to the first six and
// the last four digits, whatever it sent, and to fewer first digits where fewer
// than six (American Express: five) would be removed, as package mask does.
func maskedPAN(s string) (masked, bin, last4 string) {
	if len(s) < 13 || len(s) > 19 {
		return "", "", ""
	}
	first := min(6, len(s)-10)
	if len(s) == 15 && (s[:2] == "34" || s[:2] == "37") {
		first = 6
	}
	out := []byte(s)
	for i, c := range out {
		if c < '0' || c > '9' || i >= first && i < len(out)-4 {
			out[i] = '*'
		}
	}
	masked = string(out)
	if bin = masked[:6]; strings.Contains(bin, "*") {
		bin = ""
	}
	if last4 = masked[len(masked)-4:]; strings.Contains(last4, "*") {
		last4 = ""
	}
	return masked, bin, last4
}

// serviceCode finds the service code in a truncated track 2: three digits
// after separator and expiry date.
func serviceCode(track string) string {
	i := strings.IndexAny(track, "=D")
	if i < 0 || len(track) < i+8 {
		return ""
	}
	code := track[i+5 : i+8]
	if _, ok := number([]byte(code)); !ok {
		return ""
	}
	return code
}

func aidOf(data []byte) string {
	for _, t := range []tlv.Tag{0x4F, 0x84, 0x9F06} {
		if v, ok := tlv.Find(data, t); ok && len(v) >= 5 && len(v) <= 16 {
			return strings.ToUpper(hex.EncodeToString(v))
		}
	}
	return ""
}
