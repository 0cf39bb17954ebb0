// Package keyblock reads and writes key blocks: a key enciphered together with
// what it may be used for (ASC X9.143, formerly TR-31, and ISO 20038).
//
// Use [Open] with a [Policy] to import a key, [Seal] to export one, [Describe]
// to look at a header without the protection key (nothing in it is proven),
// [KCV] and [CMACKCV] for check values.
//
// Versions: B (TDES, derived keys, CMAC) and D (AES, derived keys, CMAC) are
// read and written, E (ISO 20038, AES in counter mode) is read. A and C (TDES
// variants, deprecated) are read when [Policy].Legacy says so, to migrate old
// keys.
//
// The MAC is compared in constant time before any header field is believed:
// until then the header serves only to find where the parts begin. Sources:
// ASC X9 TR-31:2018 sections 4 and 5, ANSI X9.143:2021, ISO 20038:2017. The
// printed samples 8.2, 8.3.2.1 and 8.3.2.2 of X9.143:2021 are invalid as
// printed and are refused.
//
// It does not manage components or keep keys: see p2pe/seal.
package keyblock

import (
	"fmt"
	"log/slog"
	"strings"

	"tillbridge/p2pe"
	"tillbridge/p2pe/internal/derive"
)

// Errors to branch on. No text holds key material.
var (
	ErrFormat     error = p2pe.NewFault("keyblock.format", "keyblock: not a key block")
	ErrVersion    error = p2pe.NewFault("keyblock.version", "keyblock: the version is not accepted")
	ErrProtection error = p2pe.NewFault("keyblock.protection_key", "keyblock: the protection key does not fit the version")
	ErrMAC        error = p2pe.NewFault("keyblock.mac", "keyblock: the MAC is wrong: the protection key is another one or the block was changed; "+
		"compare the protection key's check value with the sender's")
	ErrKey        error = p2pe.NewFault("keyblock.key", "keyblock: the enciphered key is malformed")
	ErrUsage      error = p2pe.NewFault("keyblock.usage", "keyblock: the key is for another use")
	ErrAlgorithm  error = p2pe.NewFault("keyblock.algorithm", "keyblock: the key is of another algorithm")
	ErrMode       error = p2pe.NewFault("keyblock.mode", "keyblock: the key has another mode of use")
	ErrComponent  error = p2pe.NewFault("keyblock.component", "keyblock: the block holds a component of a key, not the whole key: ask the sender for the whole key in one block")
	ErrExportable error = p2pe.NewFault("keyblock.exportable", "keyblock: the key may be exported again: ask the sender for a block with exportability N")
	ErrCheckValue error = p2pe.NewFault("keyblock.check_value", "keyblock: a check value within the block is wrong: ask the sender for a new block")
	ErrSerial     error = p2pe.NewFault("keyblock.serial_number", "keyblock: the block names no usable key serial number: ask the sender for one with a KS or IK block")
)

// Header is the clear part of a block. Fields are the characters of the
// standard's tables.
type Header struct {
	Version       byte   // 'A' to 'E'
	Usage         string // two characters, "B1" is a DUKPT initial key, "K0", "P0", "M3"…
	Algorithm     byte   // 'T' TDES, 'A' AES, 'D' DES, 'H' HMAC, 'R' RSA, 'E' EC, 'S' DSA
	Mode          byte   // 'B', 'C', 'D', 'E', 'G', 'N', 'S', 'T', 'V', 'X', 'Y' or a digit
	KeyVersion    string // two characters, "00" when unused
	Exportability byte   // 'E' exportable, 'N' not, 'S' sensitive
	Context       byte   // '0' to '2'
	Blocks        []OptionalBlock
}

// OptionalBlock is one optional block of the header.
type OptionalBlock struct {
	ID   string // two characters
	Data string // printable ASCII, without id and length
}

// Optional returns the data of the first optional block with an id.
func (h *Header) Optional(id string) (string, bool) {
	for _, b := range h.Blocks {
		if b.ID == id {
			return b.Data, true
		}
	}
	return "", false
}

// KSN returns the serial number of a DUKPT initial key, its counter zero: from
// block KS (16 or 20 hex digits, TDES) or IK (16 hex digits, AES; KS of 24 or
// 16 is read as well).
func (h *Header) KSN() (p2pe.KSN, error) {
	text, ok := h.Optional("KS")
	if h.Algorithm == 'A' {
		if id, found := h.Optional("IK"); found {
			text, ok = id, true
		}
		if len(text) == 16 {
			text += "00000000"
		}
	} else if len(text) == 16 {
		// The eight bytes of a TDES serial number with a stripped counter, as
		// the standard's examples have it, are the first of ten.
		text += "0000"
	}
	if !ok {
		return "", ErrSerial
	}
	ksn, err := p2pe.ParseKSN(text)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSerial, err)
	}
	// The form of the serial number must not make a key of one algorithm the
	// initial key of the other's DUKPT.
	want := p2pe.SchemeTDESDUKPT
	if h.Algorithm == 'A' {
		want = p2pe.SchemeAESDUKPT
	}
	if ksn.Scheme() != want {
		return "", fmt.Errorf("%w: a serial number of %d digits beside a key of algorithm %c", ErrSerial, len(ksn), h.Algorithm)
	}
	return ksn, nil
}

// Key is an opened block. It prints its header alone.
type Key struct {
	Header   Header
	material derive.Secret
}

// Bytes returns the key's own bytes; they change to zero with Erase.
func (k *Key) Bytes() []byte { return k.material }

// Erase overwrites the key.
func (k *Key) Erase() { clear(k.material); k.material = nil }

// Format prints the header, never the key.
func (k Key) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "key{version %c usage %s ***}", k.Header.Version, k.Header.Usage)
}

// LogValue implements slog.LogValuer with the text of Format.
func (k Key) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// MarshalJSON refuses.
func (k Key) MarshalJSON() ([]byte, error) { return derive.Key{}.MarshalJSON() }

// Policy is what an importer demands. The zero value accepts any use of
// versions B, D and E and refuses exportable keys.
type Policy struct {
	Usage           []string // accepted usages; none means any
	Algorithm       string   // accepted algorithms, one character each; "" means any
	Mode            string   // accepted modes, one character each; "" means any
	AllowExportable bool     // accept exportability E and S
	Legacy          bool     // read versions A and C
	Whole           bool     // refuse a component (key version "c" and a character)
}

// InitialKey is the policy for a DUKPT initial key.
var InitialKey = Policy{Usage: []string{"B1"}, Algorithm: "TA", Mode: "X", Whole: true}

// judge enforces the policy on a header whose MAC has been verified.
func (p *Policy) judge(h *Header) error {
	if len(p.Usage) > 0 {
		ok := false
		for _, u := range p.Usage {
			ok = ok || u == h.Usage
		}
		if !ok {
			return fmt.Errorf("%w: usage %s, wanted %s: ask the sender for a block with that usage", ErrUsage, h.Usage, strings.Join(p.Usage, " or "))
		}
	}
	if p.Algorithm != "" && strings.IndexByte(p.Algorithm, h.Algorithm) < 0 {
		return fmt.Errorf("%w: %c, wanted one of %s", ErrAlgorithm, h.Algorithm, p.Algorithm)
	}
	if p.Mode != "" && strings.IndexByte(p.Mode, h.Mode) < 0 {
		return fmt.Errorf("%w: %c, wanted one of %s", ErrMode, h.Mode, p.Mode)
	}
	if p.Whole && h.KeyVersion != "" && h.KeyVersion[0] == 'c' {
		return ErrComponent
	}
	if h.Exportability != 'N' && !p.AllowExportable { // S: exportable as well, under a key of lesser trust
		return ErrExportable
	}
	return nil
}

// Open verifies a block's MAC with the protection key, then enforces p on its
// header and returns the key. kbpk has 16 or 24 bytes for versions A, B and C,
// and 16, 24 or 32 for D and E; the caller erases it. A nil p is the zero
// Policy. Nothing is returned half-made.
func Open(block string, kbpk []byte, p *Policy) (*Key, error) {
	if p == nil {
		p = &Policy{}
	}
	parts, err := split(block)
	if err != nil {
		return nil, err
	}
	if v := parts.header.Version; (v == 'A' || v == 'C') && !p.Legacy {
		return nil, fmt.Errorf("%w: %c is deprecated: ask the sender for version B or D, or allow old versions to migrate", ErrVersion, v)
	}
	payload, err := parts.open(kbpk)
	if err != nil {
		return nil, err
	}
	defer clear(payload)
	// From here on the header is proven.
	key, err := unpack(payload, parts.header.Algorithm)
	if err != nil {
		return nil, err
	}
	k := &Key{Header: parts.header, material: key}
	if err := p.judge(&k.Header); err != nil {
		k.Erase()
		return nil, err
	}
	if err := k.checkValues(kbpk); err != nil {
		k.Erase()
		return nil, err
	}
	return k, nil
}

// Describe reads a header without the protection key. Nothing in it is proven:
// show it, decide nothing by it.
func Describe(block string) (Header, error) {
	parts, err := split(block)
	if err != nil {
		return Header{}, err
	}
	return parts.header, nil
}

// unpack takes the key out of the deciphered payload: its length in bits (two
// bytes, big endian), the key, random padding.
func unpack(payload []byte, algorithm byte) ([]byte, error) {
	if len(payload) < 3 {
		return nil, fmt.Errorf("%w: no room for a key", ErrKey)
	}
	n := int(payload[0])<<8 | int(payload[1])
	if n == 0 || n%8 != 0 || n/8 > len(payload)-2 {
		return nil, fmt.Errorf("%w: a length of %d bits in %d bytes", ErrKey, n, len(payload)-2)
	}
	n /= 8
	ok := true
	switch algorithm {
	case 'T':
		ok = n == 8 || n == 16 || n == 24
	case 'D':
		ok = n == 8
	case 'A':
		ok = n == 16 || n == 24 || n == 32
	}
	if !ok {
		return nil, fmt.Errorf("%w: a key of %d bytes for algorithm %c", ErrKey, n, algorithm)
	}
	return append([]byte(nil), payload[2:2+n]...), nil
}
