package iso8583

import (
	"strings"
	"testing"

	"tillbridge/p2pe"
)

// The host gets every field that a MAC is over, and nothing more of a card
// whose envelope has none.
func TestMACGoesWithWhatItIsOver(t *testing.T) {
	e := p2pe.Envelope{Scheme: p2pe.SchemeAESDUKPT, DeviceProfile: "software", DeviceSerial: "R1", KSN: "7A6B5C4D3E2F100100000001", Track2: make([]byte, 48),
		MaskedPAN: "411111******1111", BIN: "411111", Last4: "1111", ServiceCode: "201", EncryptionState: "software"}
	find := func(tables []Table, id string) string {
		for _, t := range tables {
			if t.ID == id {
				return string(t.Data)
			}
		}
		return ""
	}
	tables, err := envelopeTables(e)
	if err != nil || find(tables, "KD") != "" || find(tables, "CM") != "" {
		t.Errorf("without a MAC: %v %v", tables, err)
	}
	e.MAC = make([]byte, 16)
	if tables, err = envelopeTables(e); err != nil || find(tables, "CM") == "" ||
		find(tables, "KD") != "\x02R1\x10411111******1111\x06411111\x041111\x03201\x00\x08software" {
		t.Errorf("with a MAC: %q %v", tables, err)
	}
	e.DeviceSerial = strings.Repeat("x", 256)
	if _, err := envelopeTables(e); err == nil {
		t.Error("a part that no length can name is sent")
	}
}
