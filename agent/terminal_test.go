package agent

import (
	"errors"
	"testing"
	"time"

	"tillbridge/agent/config"
	"tillbridge/agent/keyring"
	"tillbridge/emv/contact"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

const kernelText = `
[kernel]
country = "276"
merchant_category = "5411"
[[kernel.application]]
aid = "A0000000031010"
version = "0096"
tac_denial = "0010000000"
tac_online = "DC4004F800"
[[kernel.application]]
aid = "A0000000041010"
exact = true
version = "0002"
ddol = "9F3704"
`

func kernelConfig(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("x.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever action codes the acquirer gives, or none: every amount asks for going
// online, and for a decline where that is not possible.
func TestEveryAmountGoesOnline(t *testing.T) {
	k, err := openTerminal(kernelConfig(t, kernelText), "x.toml", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range k.config.Applications {
		var tvr contact.TVR
		tvr.Set(contact.Risk(contact.RiskData{Amount: 1, Lower: -1, Upper: -1, ATC: -1, LastOnlineATC: -1, Random: 99}, a.Risk)...)
		zeros := make([]byte, 5)
		codes := contact.ActionCodes{IACDefault: zeros, IACDenial: zeros, IACOnline: zeros, TACDefault: a.TACDefault, TACDenial: a.TACDenial, TACOnline: a.TACOnline}
		for host, want := range map[contact.HostState]byte{contact.HostPossible: contact.ARQC, contact.HostUnable: contact.AAC} {
			if got := contact.Analyse(tvr, codes, host); got.Cryptogram != want {
				t.Errorf("%X, host %d: asks for %s", a.AID, host, contact.KindName(got.Cryptogram))
			}
		}
		if v, ok := tlv.Find(a.Data, 0x9F1B); !ok || len(v) != 4 || v[0]|v[1]|v[2]|v[3] != 0 {
			t.Errorf("%X: floor limit %X", a.AID, v)
		}
	}
	if a := k.config.Applications; a[0].TACDenial != (contact.TVR{0, 0x10}) || !a[1].Exact || a[1].Version != [2]byte{0, 2} || len(a[1].DDOL) != 3 {
		t.Errorf("applications: %+v", a)
	}
	if k.config.Country != 276 || k.config.Type != 0x21 || k.config.Pad != nil || k.config.PlaintextPIN || k.config.UnauthenticatedOffline {
		t.Errorf("terminal: %+v", k.config)
	}
}

func TestTerminalDataOfALane(t *testing.T) {
	k, err := openTerminal(kernelConfig(t, kernelText), "x.toml", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	one, two := k.lane("TERM1", "SHOP", "READER-NUMBER-1", nil), k.lane("TERM2", "SHOP", "", nil)
	for tag, want := range map[tlv.Tag]string{0x9F15: "T\x11", 0x9F1C: "TERM1   ", 0x9F16: "SHOP           ", 0x9F1E: "READER-N"} {
		if v, _ := tlv.Find(one.Data, tag); string(v) != want {
			t.Errorf("%X: %q", tag, v)
		}
	}
	if v, _ := tlv.Find(two.Data, 0x9F1C); string(v) != "TERM2   " {
		t.Errorf("the second lane is %q", v)
	}
	if _, ok := tlv.Find(two.Data, 0x9F1E); ok {
		t.Error("a reader without a number has one")
	}
	if one.Encrypter != nil {
		t.Error("an encrypter from nowhere")
	}
}

func TestKeyMustBeTheNamedOneAndAES(t *testing.T) {
	aes := keyring.Set{Device: "7A6B5C4D3E2F1001", Scheme: p2pe.SchemeAESDUKPT}
	for _, c := range []struct {
		set   keyring.Set
		named string
		want  error
	}{
		{aes, "", nil},
		{aes, "7a6b5c4d3e2f1001", nil},
		{aes, "7A6B5C4D3E2F1002", errOtherKey},
		{keyring.Set{Device: "FFFF9876543210", Scheme: p2pe.SchemeTDESDUKPT}, "", errNotAES},
	} {
		if err := judgeKey(c.set, c.named); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%v, %q: %v", c.set, c.named, err)
		}
	}
}
