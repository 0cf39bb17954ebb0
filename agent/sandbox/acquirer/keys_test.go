package acquirer

import (
	"encoding/hex"
	"testing"

	"tillbridge/p2pe"
)

// The numbers are published test numbers.
func TestCardNumberOfEveryFormOfClearData(t *testing.T) {
	for name, c := range map[string]struct{ hex, want string }{
		"packed track 2":              {"4761739001010010D2512201000000000F", "4761739001010010"},
		"packed number of 4s and 2s":  {"4242424242424242FFFFFFFFFFFFFFFF", "4242424242424242"},
		"packed, fifteen digits":      {"378282246310005F", "378282246310005"},
		"packed track, fifteen":       {"378282246310005D25122010000000FF", "378282246310005"},
		"packed, sixteen exactly":     {"4761739001010010", "4761739001010010"},
		"packed, zero filled":         {"47617390010100100000000000000000", "4761739001010010"},
		"text track 2":                {hex.EncodeToString([]byte(";4761739001010010=25122010000?\x00\x00")), "4761739001010010"},
		"text track 2, no sentinels":  {hex.EncodeToString([]byte("4761739001010010=25122010000")), "4761739001010010"},
		"text track 2 with D":         {hex.EncodeToString([]byte("4761739001010010D25122010000")), "4761739001010010"},
		"text track 1":                {hex.EncodeToString([]byte("%B4761739001010010^TEST/CARD^2512201?")), "4761739001010010"},
		"text number":                 {hex.EncodeToString([]byte("4761739001010010")), "4761739001010010"},
		"noise of a wrong key":        {"9F3C0A77D1E2B45566", ""},
		"a number that is not Luhn's": {"4761739001010011D2512", ""},
		"nothing":                     {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := hex.DecodeString(c.hex)
			if err != nil && len(c.hex)%2 == 1 {
				raw, err = hex.DecodeString(c.hex + "F")
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := panOf(raw)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("not the number (%v)", err)
			}
		})
	}
}

func TestKeysRefuseWhatIsNoKey(t *testing.T) {
	for _, k := range []Keys{{TDESBDK: "xyz"}, {TDESBDK: "00"}, {AESBDK: "0011"}, {IssuerAC: "12"}} {
		if _, err := newKeys(k); err == nil {
			t.Error("accepted")
		}
	}
	ks, err := newKeys(NewKeys())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []envelope{{ksn: "", track2: make([]byte, 8)}, {ksn: "FFFF9876543210E00001", algorithm: "ROT13", track2: make([]byte, 8)},
		{ksn: "FFFF9876543210E00001", algorithm: "TDEA", mode: "GCM", track2: make([]byte, 8)},
		{ksn: "FFFF9876543210E00001", algorithm: "TDEA", mode: "CBC", variant: p2pe.VariantDataRequest, track2: make([]byte, 7)},
		{ksn: "FFFF9876543210E00001", algorithm: "TDEA", mode: "CBC", iv: make([]byte, 3), track2: make([]byte, 8)},
		{ksn: "FFFF9876543210E00000", algorithm: "TDEA", track2: make([]byte, 8)}} {
		if _, err := ks.open(e); err == nil {
			t.Errorf("opened under %q", e.algorithm)
		}
	}
}
