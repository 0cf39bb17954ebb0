package oda

import (
	"crypto/sha1"
	"crypto/subtle"

	"tillbridge/emv/tlv"
)

// dynamic is the recovered part of a dynamic signature.
type dynamic struct {
	number []byte // ICC dynamic number (9F4C), 2 to 8 bytes
	rest   []byte // what follows it in the dynamic data
}

// openDynamic recovers signed dynamic application data (Book 2 tables 17 and
// 22). A right hash does not make up for dynamic data of a wrong length.
func openDynamic(p public, signed, terminal []byte) (dynamic, error) {
	b, err := open(p, signed, 0x05, 25, [][]byte{terminal}, false)
	if err != nil {
		return dynamic{}, err
	}
	n := int(b[3])
	if n > p.size-25 || n < 3 {
		return dynamic{}, ErrDynamic
	}
	data := b[4 : 4+n]
	idn := int(data[0])
	if idn < 2 || idn > 8 || 1+idn > n {
		return dynamic{}, ErrDynamic
	}
	return dynamic{data[1 : 1+idn], data[1+idn:]}, nil
}

// DDA checks the answer to INTERNAL AUTHENTICATE (9F4B): terminal is the DDOL
// data that were sent (Book 2 section 6.5.2). It returns the ICC dynamic number
// (9F4C).
func (k CardKey) DDA(signed, terminal []byte) ([]byte, error) {
	if len(signed) == 0 {
		return nil, &Failure{k.method, "dynamic signature", ErrMissing}
	}
	d, err := openDynamic(k.key, signed, terminal)
	if err != nil {
		return nil, &Failure{k.method, "dynamic signature", err}
	}
	return d.number, nil
}

// FDDA checks a contactless fast signature: terminal is the unpredictable
// number, amount (9F02), currency (5F2A) and card authentication related data
// (9F69), one after the other (Book C-3 Annex C, version 01).
func (k CardKey) FDDA(signed, terminal []byte) ([]byte, error) { return k.DDA(signed, terminal) }

// CDAInput is what a combined signature covers.
type CDAInput struct {
	Signed []byte // 9F4B
	UN     []byte // 9F37 as sent in this GENERATE AC
	CID    byte   // 9F27 of the answer
	PDOL   []byte // data of GET PROCESSING OPTIONS, without 83 and length
	CDOL1  []byte // data of the first GENERATE AC
	CDOL2  []byte // data of the second, nil for a signature on the first
	// Response is the value of template 77 of the answer, with 9F4B in it.
	Response []byte
}

// CDAResult is what the signature yields: the cryptogram is only in there.
type CDAResult struct {
	Number     []byte  // 9F4C
	Cryptogram [8]byte // 9F26
}

// CDA checks the combined signature of a GENERATE AC answer (Book 2 section
// 6.6.2): dynamic data, the cryptogram information inside, and the hash over
// what was sent and what came back without the signature, in the card's order.
func (k CardKey) CDA(in CDAInput) (CDAResult, error) {
	fail := func(reason error) (CDAResult, error) {
		return CDAResult{}, &Failure{k.method, "dynamic signature", reason}
	}
	if len(in.Signed) == 0 {
		return fail(ErrMissing)
	}
	d, err := openDynamic(k.key, in.Signed, in.UN)
	if err != nil {
		return fail(err)
	}
	if len(d.rest) < 29 {
		return fail(ErrDynamic)
	}
	if d.rest[0] != in.CID {
		return fail(ErrCID)
	}
	sum, err := transactionHash(in)
	if err != nil {
		return fail(err)
	}
	if subtle.ConstantTimeCompare(sum[:], d.rest[9:29]) != 1 {
		return fail(ErrTransaction)
	}
	return CDAResult{d.number, [8]byte(d.rest[1:9])}, nil
}

func transactionHash(in CDAInput) (sum [20]byte, err error) {
	h := sha1.New()
	h.Write(in.PDOL)
	h.Write(in.CDOL1)
	h.Write(in.CDOL2)
	it := tlv.Iter(in.Response)
	for it.Next() {
		if it.Tag() != 0x9F4B {
			h.Write(it.Raw())
		}
	}
	if it.Err() != nil {
		return sum, ErrTransaction
	}
	h.Sum(sum[:0])
	return sum, nil
}

// Public returns the key's modulus and exponent, big-endian. A PIN pad needs
// them to encipher an offline PIN (Book 2 section 7).
func (k CardKey) Public() (modulus, exponent []byte) {
	if k.key.n == nil {
		return nil, nil
	}
	exponent = []byte{3}
	if k.key.e == 65537 {
		exponent = []byte{1, 0, 1}
	}
	return k.key.n.FillBytes(make([]byte, k.key.size)), exponent
}
