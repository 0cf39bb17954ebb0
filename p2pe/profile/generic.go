package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"tillbridge/p2pe"
)

// parseGeneric reads the normal form as JSON, for readers whose own software
// delivers it. Unknown members are refused: a member that is not understood
// might be the card number.
func parseGeneric(data []byte) (p2pe.Envelope, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var e p2pe.Envelope
	if err := d.Decode(&e); err != nil {
		return p2pe.Envelope{}, fmt.Errorf("%w: it is not the JSON of an envelope", ErrForm)
	}
	if _, err := d.Token(); err != io.EOF {
		return p2pe.Envelope{}, fmt.Errorf("%w: something follows the JSON of the envelope", ErrForm)
	}
	if e.DeviceProfile != Generic {
		return p2pe.Envelope{}, fmt.Errorf("%w: its profile is %q", ErrAttribution, e.DeviceProfile)
	}
	if e.KSN != "" {
		ksn, err := p2pe.ParseKSN(string(e.KSN))
		if err != nil {
			return p2pe.Envelope{}, fmt.Errorf("%w: %w", ErrForm, err)
		}
		e.KSN = ksn
	}
	return e, nil
}
