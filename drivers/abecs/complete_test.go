package abecs

import (
	"bytes"
	"encoding/hex"
	"testing"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
)

// What a host declined reaches the card as a decline, whatever its code.
func TestDeclineIsNeverToldAsApproval(t *testing.T) {
	for _, arc := range []string{"00", "08", "10", "11", "Y1", "Y3", "", "0", "000"} {
		if option, told := completion(emv.HostResponse{Reached: true, Sent: true, ARC: arc}); option != hostDeclined || told != "05" {
			t.Errorf("declined with %q: option %c, code %q", arc, option, told)
		}
	}
	if option, told := completion(emv.HostResponse{Reached: true, Sent: true, ARC: "51"}); option != hostDeclined || told != "51" {
		t.Errorf("declined with 51: option %c, code %q", option, told)
	}
	if option, told := completion(emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "10"}); option != hostApproved || told != "10" {
		t.Errorf("approved with 10: option %c, code %q", option, told)
	}
}

// Nothing but scripts goes to the pad as scripts.
func TestScriptsAreScriptsAlone(t *testing.T) {
	const first, last = "7106860400DA0000", "720E9F180411223344860500DA000000"
	unhex := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	for name, c := range map[string]struct{ scripts, want string }{
		"both":                  {first + last, first + last},
		"a code behind them":    {first + "8A023030", first},
		"issuer authentication": {"910A11223344556677883030" + last, last},
		"damage":                {first + "7220", first},
	} {
		p, err := fcx(emv.HostResponse{Reached: true, Sent: true, ARC: "51", IssuerAuth: unhex("11223344556677883030"), Scripts: unhex(c.scripts)})
		if err != nil {
			t.Fatal(err)
		}
		want := append(tlv.Append(nil, 0x91, unhex("11223344556677883030")), unhex(c.want)...)
		found := false
		for _, x := range p {
			if x.ID == EMVDataIn {
				found = true
				if !bytes.Equal(x.Value, want) {
					t.Errorf("%s: %X", name, x.Value)
				}
			}
		}
		if !found {
			t.Errorf("%s: no data for the card", name)
		}
	}
}
