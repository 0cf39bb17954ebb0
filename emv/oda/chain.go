package oda

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"

	"tillbridge/emv/tlv"
)

// Data is what the chain of one card is checked against.
type Data struct {
	AID []byte // of the selected application, at least five bytes
	// Get returns a data object that was read: 8F, 90, 92, 9F32, 93, 9F46, 9F47,
	// 9F48, 5A.
	Get func(tlv.Tag) ([]byte, bool)
	// Static is the result of [StaticData].
	Static []byte
	Date   Date // of the transaction
}

// Record is an answer to READ RECORD that the AFL marks for authentication.
type Record struct {
	SFI  byte
	Data []byte // without SW1 SW2, with template 70
}

// StaticData builds the static data to be authenticated (Book 3 section 10.3):
// the records in their order, those of files 1 to 10 without the tag and length
// of their template, those of files 11 to 30 whole; then the interchange
// profile (82) when the tag list (9F4A) asks for it. A tag list that names
// anything else is a failure, and so is a record that is no template 70.
func StaticData(m Method, records []Record, tagList, aip []byte) ([]byte, error) {
	fail := func(reason error) ([]byte, error) { return nil, &Failure{m, "records", reason} }
	var out []byte
	for _, r := range records {
		it := tlv.Iter(r.Data)
		if !it.Next() || it.Tag() != 0x70 {
			return fail(ErrRecord)
		}
		if r.SFI <= 10 {
			out = append(out, it.Value()...)
		} else {
			out = append(out, r.Data...)
		}
	}
	if len(tagList) > 0 {
		if len(tagList) != 1 || tagList[0] != 0x82 {
			return fail(ErrTagList)
		}
		if len(aip) == 0 {
			return fail(ErrMissing)
		}
		out = append(out, aip...)
	}
	return out, nil
}

// issuerCert is a recovered issuer certificate (Book 2 table 6).
type issuerCert struct {
	id     [4]byte
	expiry [2]byte // MMYY
	serial [3]byte
	key    public
}

// cardCert is a recovered ICC certificate (Book 2 table 14).
type cardCert struct {
	pan    []byte // ten bytes, F-padded
	expiry [2]byte
	key    public
}

// open recovers a signed block and checks what all have in common: length,
// header, format, trailer, hash algorithm and the hash over block and tail.
// skipHash is for tests on data whose tail is not public.
func open(p public, signed []byte, format byte, smallest int, tail [][]byte, skipHash bool) ([]byte, error) {
	if len(signed) != p.size || p.size < smallest {
		return nil, ErrLength
	}
	b, ok := p.recover(signed)
	if !ok {
		return nil, ErrLength
	}
	switch {
	case b[len(b)-1] != 0xBC:
		return nil, ErrTrailer
	case b[0] != 0x6A:
		return nil, ErrHeader
	case b[1] != format:
		return nil, ErrFormat
	}
	hash := 2 // place of the hash algorithm indicator
	switch format {
	case 0x02:
		hash = 11
	case 0x04:
		hash = 17
	}
	if b[hash] != 0x01 {
		return nil, ErrHashAlgorithm
	}
	if !skipHash {
		h := sha1.New()
		h.Write(b[1 : len(b)-21])
		for _, t := range tail {
			h.Write(t)
		}
		if subtle.ConstantTimeCompare(h.Sum(nil), b[len(b)-21:len(b)-1]) != 1 {
			return nil, ErrHash
		}
	}
	return b, nil
}

// certifiedKey puts a modulus together from certificate and remainder. fields
// are algorithm, key length, exponent length; left is the part in the
// certificate with its padding.
func certifiedKey(fields, left, remainder, exponent []byte) (public, error) {
	if fields[0] != 0x01 {
		return public{}, ErrKeyAlgorithm
	}
	n := int(fields[1])
	if int(fields[2]) != len(exponent) {
		return public{}, ErrExponent
	}
	if n <= len(left) {
		if len(remainder) != 0 {
			return public{}, ErrKeyLength
		}
		left = left[:n]
	} else if len(remainder) != n-len(left) {
		return public{}, ErrKeyLength
	}
	if n < 48 || n > 248 {
		return public{}, ErrKeyLength
	}
	key, ok := newPublic(append(bytes.Clone(left), remainder...), exponent)
	if !ok {
		return public{}, ErrExponent
	}
	return key, nil
}

func openIssuer(ca public, cert, remainder, exponent []byte) (issuerCert, error) {
	b, err := open(ca, cert, 0x02, 36+1, [][]byte{remainder, exponent}, false)
	if err != nil {
		return issuerCert{}, err
	}
	c := issuerCert{id: [4]byte(b[2:6]), expiry: [2]byte(b[6:8]), serial: [3]byte(b[8:11])}
	c.key, err = certifiedKey(b[12:15], b[15:len(b)-21], remainder, exponent)
	return c, err
}

func openCard(issuer public, cert, remainder, exponent, static []byte, skipHash bool) (cardCert, error) {
	b, err := open(issuer, cert, 0x04, 42+1, [][]byte{remainder, exponent, static}, skipHash)
	if err != nil {
		return cardCert{}, err
	}
	c := cardCert{pan: b[2:12], expiry: [2]byte(b[12:14])}
	c.key, err = certifiedKey(b[18:21], b[21:len(b)-21], remainder, exponent)
	return c, err
}

// expired reports whether a certificate's month MMYY is over on a day: it is
// good through the last day of the month.
func expired(mmyy [2]byte, d Date) (bool, error) {
	end, ok := ParseDate([]byte{mmyy[1], mmyy[0], 0x01})
	if !ok {
		return false, ErrDate
	}
	return d.Year > end.Year || d.Year == end.Year && d.Month > end.Month, nil
}

// issuerOf compares an issuer identifier (3 to 8 digits, F-padded) with the
// leftmost digits of a card number in format cn.
func issuerOf(id [4]byte, pan []byte) bool {
	digits := 0
	pad := false
	for i := range 8 {
		a := nibble(id[:], i)
		if a == 15 {
			pad = true
			continue
		}
		if pad || a > 9 || i/2 >= len(pan) || a != nibble(pan, i) {
			return false
		}
		digits++
	}
	return digits >= 3
}

func nibble(b []byte, i int) byte {
	if i%2 == 0 {
		return b[i/2] >> 4
	}
	return b[i/2] & 15
}

// samePAN compares two numbers in format cn, whatever their F padding.
func samePAN(a, b []byte) bool {
	x, err := tlv.Digits(a)
	if err != nil || x == "" {
		return false
	}
	y, err := tlv.Digits(b)
	return err == nil && x == y
}

// issuer checks the first link of the chain (Book 2 section 5.3).
func (s *Store) issuer(m Method, d Data) (issuerCert, error) {
	const object = "issuer certificate"
	fail := func(reason error) (issuerCert, error) { return issuerCert{}, &Failure{m, object, reason} }
	index, ok1 := d.Get(0x8F)
	cert, ok2 := d.Get(0x90)
	exponent, ok3 := d.Get(0x9F32)
	pan, ok4 := d.Get(0x5A)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(index) != 1 || len(cert) == 0 || len(exponent) == 0 {
		return fail(ErrMissing)
	}
	rid, ok := RIDOf(d.AID)
	if !ok {
		return fail(ErrNoCAKey)
	}
	ca, ok := s.keys[keyID{rid, index[0]}]
	if !ok {
		return fail(ErrNoCAKey)
	}
	if !ca.Expiry.zero() && d.Date.After(ca.Expiry) {
		return fail(ErrCAKeyExpired)
	}
	remainder, _ := d.Get(0x92)
	c, err := openIssuer(ca.pub, cert, remainder, exponent)
	if err != nil {
		return fail(err)
	}
	if !issuerOf(c.id, pan) {
		return fail(ErrIssuerID)
	}
	if over, err := expired(c.expiry, d.Date); err != nil {
		return fail(err)
	} else if over {
		return fail(ErrExpired)
	}
	if s.revoked[revocation{keyID{rid, index[0]}, c.serial}] {
		return fail(ErrRevoked)
	}
	return c, nil
}

// SDA checks the signed static application data (Book 2 section 5.4) and
// returns the data authentication code (9F45). It works whether or not
// AllowSDA is set: that governs [Select].
func (s *Store) SDA(d Data) (code [2]byte, err error) {
	c, err := s.issuer(SDA, d)
	if err != nil {
		return code, err
	}
	fail := func(reason error) ([2]byte, error) { return [2]byte{}, &Failure{SDA, "static signature", reason} }
	signed, ok := d.Get(0x93)
	if !ok || len(signed) == 0 {
		return fail(ErrMissing)
	}
	b, err := open(c.key, signed, 0x03, 26+1, [][]byte{d.Static}, false)
	if err != nil {
		return fail(err)
	}
	return [2]byte(b[3:5]), nil
}

// CardKey is a card's certified public key.
type CardKey struct {
	method Method
	key    public
}

// CardKey checks the chain down to the card's key (Book 2 sections 5.3 and
// 6.4) for DDA or CDA.
func (s *Store) CardKey(m Method, d Data) (CardKey, error) {
	c, err := s.issuer(m, d)
	if err != nil {
		return CardKey{}, err
	}
	fail := func(reason error) (CardKey, error) { return CardKey{}, &Failure{m, "card certificate", reason} }
	cert, ok1 := d.Get(0x9F46)
	exponent, ok2 := d.Get(0x9F47)
	if !ok1 || !ok2 || len(cert) == 0 || len(exponent) == 0 {
		return fail(ErrMissing)
	}
	remainder, _ := d.Get(0x9F48)
	card, err := openCard(c.key, cert, remainder, exponent, d.Static, false)
	if err != nil {
		return fail(err)
	}
	pan, _ := d.Get(0x5A) // issuer has checked that it is there
	if !samePAN(card.pan, pan) {
		return fail(ErrPAN)
	}
	if over, err := expired(card.expiry, d.Date); err != nil {
		return fail(err)
	} else if over {
		return fail(ErrExpired)
	}
	return CardKey{m, card.key}, nil
}

// Size is the length of the modulus in bytes.
func (k CardKey) Size() int { return k.key.size }
