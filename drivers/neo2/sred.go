package neo2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
	"tillbridge/p2pe/mask"
	"tillbridge/p2pe/profile"
)

// Tags of the reader's own (guide; encrypted data output formats).
const (
	tagKSN         tlv.Tag = 0xDFEE12
	tagMSR         tlv.Tag = 0xDFEE23
	tagAttribution tlv.Tag = 0xDFEE26 // [U]: the attribution byte of answers to 60-xx
	tagPINKSN      tlv.Tag = 0xDFEE51
	tagInterfaces  tlv.Tag = 0xDFEF37 // [U]: interfaces that 02-40 offers: 01 stripe, 02 contactless, 04 contact
	tagFailure     tlv.Tag = 0xFFEE1F
)

// sensitive tags hold card data: they count only as ciphertext or masked, and
// in the clear they fail the read.
var sensitive = []tlv.Tag{0x57, 0x5A, 0x56, 0x9F6B, 0x5F20, 0x9F0B}

// dropped tags never travel on, whatever form they have: expiry date,
// discretionary data, PIN block, what 02-40 and 60-xx wrap tracks in.
var dropped = []tlv.Tag{0x5F24, 0x9F1F, 0x9F20, 0x99, tagMSR, 0xDFEE25}

// Attribution is the byte in which the reader says what it did to card data.
type Attribution byte

// Entry is the interface that the card came by.
func (a Attribution) Entry() (emv.Entry, bool) {
	switch a & 0x19 {
	case 0x00:
		return emv.EntryContact, true
	case 0x01, 0x11:
		return emv.EntryContactless, true
	case 0x08, 0x09:
		return emv.EntrySwipe, true
	}
	return "", false
}

// stripeData reports that a tap gave the data of a stripe and no cryptogram.
func (a Attribution) stripeData() bool { return a&0x19 == 0x11 }

// AES reports the algorithm: AES, or TDES. ok is false for one that is not
// known.
func (a Attribution) AES() (aes, ok bool) { return a&0x06 == 0x02, a&0x04 == 0 }

// Protected reports that encryption is on for what the card gave: bit 6 for
// EMV data, bit 7 for stripes, both for a tap in stripe mode.
func (a Attribution) Protected() bool {
	switch e, ok := a.Entry(); {
	case !ok:
		return false
	case a.stripeData():
		return a&0xC0 == 0xC0
	case e == emv.EntrySwipe:
		return a&0x80 != 0
	default:
		return a&0x40 != 0
	}
}

// cardData is what an answer to a read may hold of a card.
type cardData struct {
	envelope p2pe.Envelope
	masked   string // of 5A or 57, digits and '*'
	service  string
}

// readCard takes ciphertext and KSN from data objects, whose attribution was
// a. Whatever stands in the clear fails the read with drivers.ErrRefused.
func readCard(a Attribution, data []byte, set Settings) (cardData, error) {
	refuse := func(why string) (cardData, error) {
		return cardData{}, fmt.Errorf("%w (%s)", drivers.ErrRefused, why)
	}
	if !a.Protected() {
		return refuse(fmt.Sprintf("attribution %02X: encryption is off for this card: turn SRED on in the reader", byte(a)))
	}
	aes, ok := a.AES()
	if !ok {
		return refuse(fmt.Sprintf("attribution %02X: the algorithm is not known", byte(a)))
	}
	entry, _ := a.Entry()
	swiped := entry == emv.EntrySwipe
	c := cardData{envelope: p2pe.Envelope{Scheme: p2pe.SchemeTDESDUKPT, DeviceProfile: "idtech", KeyVariant: set.KeyVariant, Algorithm: "TDEA",
		Mode: "CBC", Padding: p2pe.PaddingZero, EncryptionState: fmt.Sprintf("attribution %02X", byte(a))}}
	block := 8
	if aes {
		block, c.envelope.Algorithm = 16, "AES-128"
	}
	var stripe []byte
	for w := Walk(data); ; {
		if !w.Next() {
			if w.Err() != nil {
				return cardData{}, w.Err()
			}
			break
		}
		o := w.Object()
		if o.Tag.Constructed() && leaks(o, block, 0) {
			return refuse(fmt.Sprintf("tag %s holds what is not ciphertext", o.Tag))
		}
		if o.Tag == tagKSN {
			switch {
			case c.envelope.KSN != "":
				return refuse("two KSNs")
			case len(o.Value) == 12 && aes:
				c.envelope.Scheme, c.envelope.KeyVariant = p2pe.SchemeAESDUKPT, p2pe.VariantAESDataEncrypt
			case len(o.Value) != 10:
				return refuse("a KSN of another length")
			}
			var err error
			if c.envelope.KSN, err = p2pe.ParseKSN(hex.EncodeToString(o.Value)); err != nil {
				return cardData{}, err
			}
			continue
		}
		if o.Tag == tagMSR {
			switch {
			case !swiped:
				return refuse("the record of a stripe in the answer of a chip")
			case stripe != nil:
				return refuse("two records of a stripe")
			}
			stripe = o.Value
			continue
		}
		if !slices.Contains(sensitive, o.Tag) || len(o.Value) == 0 {
			continue
		}
		switch protectionOf(o, block) {
		case Masked:
			if o.Tag == 0x5A || o.Tag == 0x57 {
				m, s := maskedNumber(o.Value)
				if c.masked == "" || o.Tag == 0x5A {
					c.masked = m
				}
				if s != "" {
					c.service = s
				}
			}
		case Enciphered:
			var field *[]byte
			switch o.Tag {
			case 0x57:
				field = &c.envelope.TLV57
			case 0x5A:
				field = &c.envelope.PAN
			case 0x56:
				field = &c.envelope.Track1
			case 0x9F6B:
				field = &c.envelope.Track2
			default:
				continue
			}
			if *field != nil && !bytes.Equal(*field, o.Value) {
				return refuse(fmt.Sprintf("two ciphertexts of tag %s", o.Tag))
			}
			*field = append([]byte(nil), o.Value...)
		default:
			return refuse(fmt.Sprintf("tag %s is not ciphertext", o.Tag))
		}
	}
	if swiped {
		if stripe == nil {
			return refuse("no record of a stripe, which the attribution names")
		}
		got, err := readStripe(stripe, set)
		if err == nil && c.envelope.KSN != "" && c.envelope.KSN != got.envelope.KSN {
			return refuse("two KSNs")
		}
		return got, err
	}
	if c.envelope.Empty() {
		return refuse("no ciphertext of a card number")
	}
	if c.envelope.KSN == "" {
		return refuse("no KSN with the ciphertext")
	}
	return c, nil
}

// readStripe reads the record of a swipe in the maker's enhanced format, which
// says of itself what is enciphered and carries a KSN.
func readStripe(record []byte, set Settings) (cardData, error) {
	e, err := profile.Parse(profile.IDTech, record, &profile.Expect{Variant: set.KeyVariant})
	if err != nil {
		return cardData{}, fmt.Errorf("%w (%w)", drivers.ErrRefused, err)
	}
	return cardData{envelope: e, masked: e.MaskedPAN, service: e.ServiceCode}, nil
}

// checkClear fails where an answer holds card data in the clear.
func checkClear(data []byte) error {
	w := Walk(data)
	for w.Next() {
		if o := w.Object(); leaks(o, 8, 0) {
			return fmt.Errorf("%w (tag %s is not ciphertext)", drivers.ErrRefused, o.Tag)
		}
	}
	return w.Err()
}

// leaks reports whether an object, or one within it, holds card data in the
// clear. Not every tag of the reader's own that counts as a template is one:
// where no objects are found in it, it is searched for a number.
func leaks(o Object, block, depth int) bool {
	switch {
	case slices.Contains(sensitive, o.Tag):
		return len(o.Value) > 0 && protectionOf(o, block) == Unmarked
	case !o.Tag.Constructed():
		return false
	case depth > 8:
		return true
	}
	w := Walk(o.Value)
	for w.Next() {
		if leaks(w.Object(), block, depth+1) {
			return true
		}
	}
	return w.Err() != nil && (mask.Contains(string(o.Value)) || mask.Contains(hex.EncodeToString(o.Value)))
}

// protectionOf judges a sensitive object: what its length says, and what its
// bytes look like. Unmarked means clear. Ciphertext of one block looks like a
// number once in some ten thousand: the card is then presented again.
func protectionOf(o Object, block int) Protection {
	whole := len(o.Value)%block == 0
	switch {
	case o.Protection == Enciphered && whole && !holdsNumber(o.Value) && !looksClear(o):
		return Enciphered
	case o.Protection != Enciphered && masked(o.Value):
		return Masked
	case o.Protection == Unmarked && whole && !holdsNumber(o.Value) && !looksClear(o):
		return Enciphered
	}
	return Unmarked
}

// text reports whether v could be read: a name or a track.
func text(v []byte) bool {
	for _, c := range v {
		if (c < 0x20 || c > 0x7E) && c != 0 {
			return false
		}
	}
	return true
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// holdsNumber reports whether v is a card number or a track, packed or as
// text.
func holdsNumber(v []byte) bool {
	if text(v) && mask.Contains(string(v)) {
		return true
	}
	digits := hex.EncodeToString(v)
	if i := strings.IndexFunc(digits, notDigit); i >= 0 {
		digits = digits[:i]
	}
	// Its padding is zeros, and so may be its own last digits.
	for n := min(19, len(digits)); n >= 12 && strings.Trim(digits[n:], "0") == ""; n-- {
		if mask.IsPAN(digits[:n]) {
			return true
		}
	}
	return false
}

// looksClear reports whether an object has the form of clear data, also of a card whose number has no check digit: text in
// a tag of text, a number filled up with F, a track.
func looksClear(o Object) bool {
	switch o.Tag {
	case 0x56, 0x5F20, 0x9F0B:
		return text(o.Value)
	}
	packed := hex.EncodeToString(o.Value)
	i := strings.IndexFunc(packed, notDigit)
	if i < 12 || i > 19 {
		return false
	}
	rest := packed[i+1:]
	switch packed[i] {
	case 'f':
		return strings.Trim(rest, "f") == ""
	case 'd':
		return len(rest) >= 7 && strings.IndexFunc(rest[:7], notDigit) < 0
	}
	return false
}

// masked reports whether v is a masked number, track or name. Readers mask
// with the nibble C in packed digits and with '*' in text.
func masked(v []byte) bool {
	if text(v) {
		digits, run := 0, 0
		for _, c := range v {
			if digits++; c < '0' || c > '9' {
				digits = 0
			}
			run = max(run, digits)
		}
		return strings.Count(string(v), "*") >= 3 && run <= 6
	}
	number, _, _ := strings.Cut(strings.TrimRight(hex.EncodeToString(v), "f0"), "d")
	hidden := strings.Count(number, "c")
	return len(number) >= 12 && hidden >= 3 && len(number)-hidden <= 10 && strings.Trim(number, "0123456789c") == ""
}

// maskedNumber truncates what a reader calls masked to first six and last four
// digits, whatever it sent. service is the service code where the track shows
// it.
func maskedNumber(v []byte) (masked, service string) {
	text := strings.ToLower(hex.EncodeToString(v))
	number, rest, isTrack := strings.Cut(strings.TrimRight(text, "f"), "d")
	if len(number) < 13 || len(number) > 19 {
		return "", ""
	}
	out := []byte(number)
	for i, c := range out {
		if c < '0' || c > '9' || i >= 6 && i < len(out)-4 {
			out[i] = '*'
		}
	}
	if isTrack && len(rest) >= 7 {
		service = rest[4:7]
		if strings.ContainsFunc(service, func(r rune) bool { return r < '0' || r > '9' }) {
			service = ""
		}
	}
	return string(out), service
}
