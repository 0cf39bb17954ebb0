package abecs

import (
	"bytes"
	"errors"
	"testing"

	"tillbridge/p2pe"
	"tillbridge/p2pe/profile"
)

// What the pad calls ciphertext is judged before it goes on.
func TestCardDataAreJudged(t *testing.T) {
	good := p2pe.Envelope{Scheme: p2pe.SchemeTDESDUKPT, DeviceProfile: "abecs", DeviceSerial: "4111111111111111", KeyVariant: p2pe.VariantDataRequest,
		Algorithm: "TDEA", Mode: "ECB", Padding: "abecs", KSN: "FFFF9876543210E00003", PAN: bytes.Repeat([]byte{0x9C}, 8),
		Track2: bytes.Repeat([]byte{0x9C, 0x31}, 12), MaskedPAN: "541333******4111", BIN: "541333", Last4: "4111", EncryptionState: "method 50, slot 01"}
	for _, c := range []struct {
		name   string
		change func(*p2pe.Envelope)
		want   error
	}{
		{"good", func(*p2pe.Envelope) {}, nil},
		{"text in place of ciphertext", func(e *p2pe.Envelope) { e.Track2 = []byte("4111111111111111=2912101") }, profile.ErrLeak},
		{"packed digits in place of ciphertext", func(e *p2pe.Envelope) {
			e.Track2 = []byte("\x41\x11\x11\x11\x11\x11\x11\x11\xD2\x91\x21\x01\x12\x34\x56\x7F")
		}, profile.ErrLeak},
		{"a masked number that shows too much", func(e *p2pe.Envelope) { e.MaskedPAN = "541333***4111" }, profile.ErrLeak},
		{"a fresh key's counter", func(e *p2pe.Envelope) { e.KSN = "FFFF9876543210E00000" }, p2pe.ErrKSN},
		{"a counter over the limit", func(e *p2pe.Envelope) { e.KSN = "FFFF9876543210FFFFFF" }, p2pe.ErrKSN},
	} {
		e := good
		c.change(&e)
		if err := judge(e); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// A short number keeps fewer digits: 6 and 4 of 13 would leave three unknown.
func TestMaskedNumbersByLength(t *testing.T) {
	for in, want := range map[string]string{
		"4222222222222": "422******2222", "422222*****2222": "42222******2222", "371449*****8431": "371449*****8431", "5413330089604111": "541333******4111",
	} {
		got, bin, _ := maskedPAN(in)
		if got != want || len(bin) != 0 && len(bin) != 6 {
			t.Errorf("%d digits: %s (%s), want %s", len(in), got, bin, want)
		}
	}
}
