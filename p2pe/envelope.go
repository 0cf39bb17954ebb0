package p2pe

import (
	"fmt"
	"log/slog"
)

// Scheme is the key management under which the ciphertext was made.
type Scheme string

// The schemes of an [Envelope].
const (
	SchemeTDESDUKPT Scheme = "tdes-dukpt" // X9.24-1, KSN of 10 bytes
	SchemeAESDUKPT  Scheme = "aes-dukpt"  // X9.24-3, KSN of 12 bytes
	SchemeJWE       Scheme = "jwe"        // RFC 7516 compact form to a pinned key
)

// The values of [Envelope.KeyVariant]: which working key enciphered the data.
// Readers differ, so it is a property of the device profile.
const (
	VariantDataRequest    = "data-request"     // X9.24-1 data variant with its one-way step
	VariantDataResponse   = "data-response"    // the same, host to device
	VariantPIN            = "pin"              // X9.24-1 PIN variant, used for tracks by some readers
	VariantAESDataEncrypt = "aes-data-encrypt" // X9.24-3 usage 3000
	VariantAESDataDecrypt = "aes-data-decrypt" // usage 3001
	VariantAESDataBoth    = "aes-data-both"    // usage 3002
	VariantFixed          = "fixed"            // a fixed key of the device, no DUKPT
)

// The values of [Envelope.Padding].
const (
	PaddingNone  = "none"      // the data fill their blocks
	PaddingZero  = "zero"      // zero bytes, none if the data fill their blocks
	PaddingISO2  = "iso9797-2" // 80 and zero bytes, at least one byte
	PaddingABECS = "abecs"     // as the reader's method says
)

// Envelope is card data as ciphertext, in the normal form that the store (once
// sealed) and the acquirer see. The zero value means "no card data". It holds
// no clear PAN, track or PIN. A PIN block is not part of it: see [PINBlock].
type Envelope struct {
	Scheme        Scheme `json:"scheme,omitempty"`
	DeviceProfile string `json:"device_profile,omitempty"` // "abecs", "idtech", "magtek", "generic"
	DeviceSerial  string `json:"device_serial,omitempty"`
	KSN           KSN    `json:"ksn,omitempty"`
	KeyVariant    string `json:"key_variant,omitempty"` // "data-request", "data-both", "pin", "aes-data-encrypt", ...
	Algorithm     string `json:"alg,omitempty"`         // "TDEA", "AES-128", ...
	Mode          string `json:"mode,omitempty"`        // "ECB", "CBC", "GCM"
	IV            []byte `json:"iv,omitempty"`
	Padding       string `json:"padding,omitempty"` // "zero", "iso9797-2", "abecs", ...
	// Ciphertext by what it holds. Each is independent and may be empty.
	PAN    []byte `json:"pan,omitempty"`
	Track1 []byte `json:"track1,omitempty"`
	Track2 []byte `json:"track2,omitempty"`
	TLV57  []byte `json:"tlv57,omitempty"`
	// JWE is the compact serialisation when Scheme is SchemeJWE.
	JWE       string `json:"jwe,omitempty"`
	MaskedPAN string `json:"masked_pan,omitempty"`
	BIN       string `json:"bin,omitempty"` // six or eight digits
	Last4     string `json:"last4,omitempty"`
	// ServiceCode is three digits or empty.
	ServiceCode string `json:"service_code,omitempty"`
	PAR         string `json:"par,omitempty"`
	// MAC is over the canonical bytes with the profile's MAC key, or empty.
	MAC []byte `json:"mac,omitempty"`
	// EncryptionState is what the device said of its own encryption, verbatim.
	EncryptionState string `json:"encryption_state,omitempty"`
}

// Empty reports whether e carries no ciphertext.
func (e Envelope) Empty() bool {
	return len(e.PAN) == 0 && len(e.Track1) == 0 && len(e.Track2) == 0 && len(e.TLV57) == 0 && e.JWE == ""
}

// String names scheme, KSN and masked number; never the ciphertext.
func (e Envelope) String() string {
	return fmt.Sprintf("envelope{%s ksn=%s %s}", e.Scheme, e.KSN, e.MaskedPAN)
}

// LogValue implements slog.LogValuer with the text of String.
func (e Envelope) LogValue() slog.Value { return slog.StringValue(e.String()) }
