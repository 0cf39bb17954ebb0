package oda

import "errors"

// Method is a kind of offline data authentication.
type Method int

// Methods, in the order of preference when both sides have them (Book 3
// section 10.3): combined, dynamic, static.
const (
	None Method = iota
	SDA
	DDA
	CDA
)

// String is the short name.
func (m Method) String() string { return [...]string{"none", "SDA", "DDA", "CDA"}[m] }

// Bits of byte 1 of the terminal verification results (Book 3 Annex C5).
const (
	TVRNotPerformed byte = 0x80
	TVRSDAFailed    byte = 0x40
	TVRDataMissing  byte = 0x20
	TVRDDAFailed    byte = 0x08
	TVRCDAFailed    byte = 0x04
	TVRSDASelected  byte = 0x02
)

// Select chooses the method from the card's interchange profile (82) and byte
// 3 of the terminal capabilities (9F33). sda is [Store].AllowSDA.
func Select(aip [2]byte, capabilities byte, sda bool) Method {
	switch {
	case aip[0]&0x01 != 0 && capabilities&0x08 != 0:
		return CDA
	case aip[0]&0x20 != 0 && capabilities&0x40 != 0:
		return DDA
	case aip[0]&0x40 != 0 && capabilities&0x80 != 0 && sda:
		return SDA
	}
	return None
}

// Failure is a check that did not pass. It prints without card data.
type Failure struct {
	Method Method
	// Object is what was checked: "issuer certificate", "card certificate",
	// "static signature", "dynamic signature", "records".
	Object string
	Reason error // one of the errors below
}

// Error names method, object and reason.
func (f *Failure) Error() string {
	return "oda: " + f.Method.String() + ": " + f.Object + ": " + f.Reason.Error()
}

// Unwrap returns the reason.
func (f *Failure) Unwrap() error { return f.Reason }

// TVR is the bits to set in byte 1 of the terminal verification results: the
// method's own failure bit, and "ICC data missing" when that was the reason.
func (f *Failure) TVR() byte {
	var b byte
	switch f.Method {
	case SDA:
		b = TVRSDAFailed
	case DDA:
		b = TVRDDAFailed
	case CDA:
		b = TVRCDAFailed
	default:
		b = TVRNotPerformed
	}
	if errors.Is(f.Reason, ErrMissing) {
		b |= TVRDataMissing
	}
	return b
}

// Code is the stable code of the failure for people.
func (f *Failure) Code() string { return "emv.oda_failed" }

// Reasons of a [Failure].
var (
	ErrMissing       = errors.New("a data object is missing")
	ErrNoCAKey       = errors.New("no certification authority key of this RID and index is loaded")
	ErrCAKeyExpired  = errors.New("the certification authority key has expired")
	ErrRevoked       = errors.New("the issuer certificate is revoked")
	ErrLength        = errors.New("its length is not that of the modulus")
	ErrHeader        = errors.New("the recovered header is not 6A")
	ErrFormat        = errors.New("the recovered format is another one")
	ErrTrailer       = errors.New("the recovered trailer is not BC")
	ErrHash          = errors.New("the hash does not match")
	ErrExpired       = errors.New("the certificate has expired")
	ErrIssuerID      = errors.New("the issuer identifier is not that of the card number")
	ErrPAN           = errors.New("the card number is another one")
	ErrHashAlgorithm = errors.New("the hash algorithm is unknown")
	ErrKeyAlgorithm  = errors.New("the public key algorithm is unknown")
	ErrKeyLength     = errors.New("key length and remainder do not fit")
	ErrExponent      = errors.New("the exponent is neither 3 nor 65537, or not as certified")
	ErrDynamic       = errors.New("the dynamic data have a wrong length")
	ErrCID           = errors.New("the signed cryptogram information is not the one in the answer")
	ErrTransaction   = errors.New("the hash of the transaction data does not match")
	ErrNumber        = errors.New("the card's list does not ask for the whole unpredictable number")
	ErrTagList       = errors.New("the tag list names more than the interchange profile")
	ErrRecord        = errors.New("a record is not a template 70")
	ErrDate          = errors.New("a date cannot be read")
)
