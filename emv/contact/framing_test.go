package contact

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
)

// TestSchemesByAuthenticationByPadding runs every scheme with every kind of
// data authentication, padded as cards pad, over the framing: what is signed
// is found genuine, and approved offline only then.
func TestSchemesByAuthenticationByPadding(t *testing.T) {
	schemes := []string{"visa-credit", "mastercard-credit", "maestro", "amex", "jcb", "discover", "unionpay", "elo-credit"}
	kinds := []struct {
		kind virtualcard.ODA
		name string
		ok   TVR
	}{
		{virtualcard.ODANone, "none", TVR{0x80}},
		{virtualcard.ODASDA, "SDA", TVR{0x02}},
		{virtualcard.ODADDA, "DDA", TVR{}},
		{virtualcard.ODACDA, "CDA", TVR{}},
	}
	config := testConfig(t)
	config.Keys.AllowSDA = true
	for i, scheme := range schemes {
		for _, k := range kinds {
			padding := [][]byte{nil, {0}, {0xFF}, {0, 0xFF}}[(i+int(k.kind))%4]
			card := cardOf(t, scheme, func(p *virtualcard.Profile) {
				p.ODA, p.Padding, p.CVMList, p.IACOnline, p.AUC = k.kind, padding, "00000000000000001F00", "0000000000", "FFC0"
			})
			s, _, out := run(t, overVPCD(t, card, nil), config, 1234)
			want := emv.Approved
			if k.kind == virtualcard.ODANone {
				want = emv.OnlineRequest
			}
			if s.tvr != k.ok || out.Decision != want {
				t.Errorf("%s %s padding %X: %s TVR %s %v", scheme, k.name, padding, out.Decision, out.TVR, out.Reasons)
			}
		}
	}
	// SDA is off by default.
	s, _, _ := run(t, cardOf(t, "amex", nil), testConfig(t), 1234)
	if !s.tvr.Has(ODANotPerformed) || s.tvr.Has(SDASelected) {
		t.Errorf("SDA by default: TVR %X", s.tvr)
	}
}

// TestIssuerOverTheFraming is the second half over the framing.
func TestIssuerOverTheFraming(t *testing.T) {
	for _, c := range []struct {
		name     string
		host     func(h *emv.HostResponse, v cryptogram.Verified)
		decision emv.Decision
		arc      string
		reversal bool
	}{
		{"right answer", func(*emv.HostResponse, cryptogram.Verified) {}, emv.Approved, "00", false},
		{"wrong answer", func(h *emv.HostResponse, _ cryptogram.Verified) { h.IssuerAuth[3] ^= 0x10 }, emv.Declined, "00", true},
		{"answer of wrong length", func(h *emv.HostResponse, _ cryptogram.Verified) { h.IssuerAuth = h.IssuerAuth[:7] }, emv.Declined, "00", true},
		{"scripts before and after", func(h *emv.HostResponse, v cryptogram.Verified) {
			a, err := v.PINUnblock()
			if err != nil {
				panic(err)
			}
			h.Scripts = cryptogram.AppendScript(h.Scripts, 0x71, [4]byte{1}, a)
			h.Scripts = cryptogram.AppendScript(h.Scripts, 0x72, [4]byte{2}, a)
		}, emv.Approved, "00", false},
		{"silence", func(h *emv.HostResponse, _ cryptogram.Verified) { *h = emv.HostResponse{Sent: true} }, emv.Declined, "", false},
		{"deferral", func(h *emv.HostResponse, _ cryptogram.Verified) { *h = emv.HostResponse{} }, emv.Declined, "Z3", false},
	} {
		for _, profile := range []string{"mastercard-credit", "unionpay"} {
			t.Run(c.name+"/"+profile, func(t *testing.T) {
				card := cardOf(t, profile, nil)
				s, _, out := run(t, overVPCD(t, card, nil), testConfig(t), 20000)
				if out.Decision != emv.OnlineRequest {
					t.Fatal(out.Decision)
				}
				h, v := answer(t, card, out, "00", true)
				c.host(&h, v)
				last, err := s.Complete(guard(t), h)
				decision, reversal := c.decision, c.reversal
				if c.name == "answer of wrong length" {
					// In-AC authentication: the list pads it, the card judges it.
					decision, reversal = last.Decision, last.Decision != emv.Approved
				}
				if err != nil || last.Decision != decision || last.ARC != c.arc || last.ReversalNeeded != reversal {
					t.Errorf("%s %q reversal %v %v %v", last.Decision, last.ARC, last.ReversalNeeded, err, last.Reasons)
				}
				if !h.Reached && last.Cryptogram != out.Cryptogram {
					t.Error("the first cryptogram is lost")
				}
				if c.name == "scripts before and after" {
					if got, _ := tlv.Find(last.Field55, 0x9F5B); len(got) != 10 {
						t.Errorf("9F5B %X, TVR %s", got, last.TVR)
					}
				}
				r := s.Receipt()
				if r.AID != card.Profile().AID || r.AC != last.Cryptogram || r.TVR != last.TVR || r.Name == "" {
					t.Errorf("receipt %+v", r)
				}
			})
		}
	}
}

// A card that is slower than its deadline over the framing.
func TestSlowCardOverTheFraming(t *testing.T) {
	config := testConfig(t)
	config.Timeout = 10 * time.Millisecond
	_, err := readOf(t, overVPCD(t, cardOf(t, "no-cvm", nil), &virtualcard.ServeOptions{Delay: time.Minute}), config)
	if !errors.Is(err, emv.ErrCardRemoved) || !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
}

// TestExplain names what the values mean.
func TestExplain(t *testing.T) {
	for _, c := range []struct{ kind, value, want string }{
		{"TVR", "0000000000", "[no bit is set]"},
		{"tac", "0400000000", "[CDA failed]"},
		{"95", "0000008000", "[transaction exceeds floor limit]"},
		{"TSI", "0400", "[script processing was performed]"},
		{"CVM", "3F0000", "[no method was performed]"},
		{"CVM", "3F0001", "[no method was performed: failed]"},
		{"9F34", "440302", "[enciphered offline PIN if the terminal supports it successful]"},
		{"CVMLIST", "000003E80000000042061F00", "[amount X 1000, amount Y 0, in minor units of the application currency online PIN, if under X; else the next rule no CVM required, always; else fail]"},
		{"CID", "81", "[ARQC service not allowed]"},
		{"AIP", "2100", "[DDA supported CDA supported]"},
		{"CAPS", "002808", "[signature no CVM required CDA]"},
		{"AUC", "0140", "[at terminals other than ATMs international cashback]"},
	} {
		got, err := Explain(c.kind, mustHex(c.value))
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s %s: %v %v", c.kind, c.value, got, err)
		}
	}
	for _, k := range Explained() {
		if list, err := Legend(k); err != nil || len(list) < 4 {
			t.Errorf("legend of %s: %v %v", k, list, err)
		}
	}
	if list, _ := Legend("tvr"); len(list) < 27 || list[0] != "byte 1 80  offline data authentication was not performed" {
		t.Errorf("legend of TVR: %v", list)
	}
	if _, err := Legend("NOTHING"); !errors.Is(err, ErrExplain) {
		t.Error(err)
	}
	for _, k := range append(Explained(), "NOTHING") {
		if _, err := Explain(k, make([]byte, 7)); !errors.Is(err, ErrExplain) {
			t.Errorf("%s of seven bytes: %v", k, err)
		}
	}
}
