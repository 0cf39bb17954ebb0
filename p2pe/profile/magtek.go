package profile

import (
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/p2pe"
	"tillbridge/p2pe/mask"
)

// Bits of MagTek's reader encryption status, the low byte.
const (
	magtekExhausted = 1 << 0
	magtekInjected  = 1 << 1
	magtekEnabled   = 1 << 2
)

// Fields behind the masked tracks, each after a "|".
const (
	magtekStatus = iota
	magtekTrack1
	magtekTrack2
	magtekTrack3
	magtekPrintStatus
	magtekPrint
	magtekSerial
	magtekSession
	magtekKSN
	magtekCRC
	magtekCipherCRC
	magtekFormat
	magtekFields
)

// parseMagTek reads the keyboard output of MagneSafe V5 readers. The data do
// not say which variant enciphers them: PIN unless variant says otherwise.
func parseMagTek(data []byte, variant string) (p2pe.Envelope, error) {
	var none p2pe.Envelope
	text := strings.TrimRight(string(data), "\r\n")
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return none, fmt.Errorf("%w: character %d is not printable", ErrForm, i+1)
		}
	}
	tracks, rest, ok := strings.Cut(text, "|")
	if !ok || tracks != "" && tracks[0] != '%' && tracks[0] != ';' && tracks[0] != '+' {
		return none, fmt.Errorf("%w: it has no masked tracks before a separator", ErrForm)
	}
	f := strings.Split(rest, "|")
	if len(f) < magtekFields {
		return none, fmt.Errorf("%w: %d fields, it has %d: it was cut or encryption is off", ErrForm, len(f), magtekFields)
	}
	raw := func(i int) ([]byte, error) {
		b, err := hex.DecodeString(f[i])
		if err != nil {
			return nil, fmt.Errorf("%w: field %d is not hex", ErrForm, i+1)
		}
		return b, nil
	}
	status, err := raw(magtekStatus)
	if err != nil || len(status) != 2 {
		return none, fmt.Errorf("%w: its encryption status is malformed", ErrForm)
	}
	if status[1]&magtekEnabled == 0 || status[1]&magtekInjected == 0 {
		return none, ErrEncryptionOff
	}
	if status[1]&magtekExhausted != 0 {
		return none, ErrExhausted
	}
	e := p2pe.Envelope{
		Scheme: p2pe.SchemeTDESDUKPT, DeviceProfile: MagTek, DeviceSerial: f[magtekSerial], KeyVariant: p2pe.VariantPIN,
		Algorithm: "TDEA", Mode: "CBC", Padding: p2pe.PaddingZero, EncryptionState: "status=" + strings.ToUpper(f[magtekStatus]),
	}
	if variant != "" {
		e.KeyVariant = variant
	}
	if e.Track1, err = raw(magtekTrack1); err != nil {
		return none, err
	}
	if e.Track2, err = raw(magtekTrack2); err != nil {
		return none, err
	}
	if e.KSN, err = p2pe.ParseKSN(f[magtekKSN]); err != nil {
		return none, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := magtekMasked(&e, tracks); err != nil {
		return none, err
	}
	return e, nil
}

// magtekMasked reads the number of the masked tracks. The mask may be "*" or,
// by default, zeros with one digit changed so that the check digit is right: a
// number with more than that one digit between its first six and last four is
// not masked.
func magtekMasked(e *p2pe.Envelope, tracks string) error {
	for tracks != "" {
		end := strings.IndexByte(tracks, '?')
		if end < 0 {
			return fmt.Errorf("%w: a masked track has no end sentinel", ErrForm)
		}
		track := tracks[:end+1]
		tracks = tracks[end+1:]
		if track[0] == '+' {
			if mask.Contains(track) {
				return ErrLeak
			}
			continue
		}
		n, err := maskedNumber(track)
		if err != nil {
			if len(track) <= 4 { // ";E?": the track could not be read
				continue
			}
			return err
		}
		stars, err := zeroMasked(n)
		if err != nil {
			return err
		}
		if mask.Contains(track[strings.IndexAny(track, "^="):]) {
			return ErrLeak
		}
		if err := fillMasked(e, stars); err != nil {
			return err
		}
	}
	return nil
}

// zeroMasked writes a zero-masked number with stars.
func zeroMasked(n string) (string, error) {
	if strings.ContainsAny(n, "*Xx") {
		return n, nil
	}
	if len(n) < 13 || len(n) > 19 {
		return "", fmt.Errorf("%w: a masked number has %d characters", ErrForm, len(n))
	}
	middle := n[6 : len(n)-4]
	other := 0
	for i := range len(middle) {
		switch {
		case middle[i] < '0' || middle[i] > '9':
			return "", fmt.Errorf("%w: a masked number holds other characters", ErrForm)
		case middle[i] != '0':
			other++
		}
	}
	if other > 1 {
		return "", ErrLeak
	}
	return n[:6] + strings.Repeat("*", len(middle)) + n[len(n)-4:], nil
}
