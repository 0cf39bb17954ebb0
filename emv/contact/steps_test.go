package contact

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

func hexb(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameBits(a, b []Bit) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func TestRestrictions(t *testing.T) {
	base := func() Restrictions {
		return Restrictions{
			CardVersion: []byte{0, 0x8C}, TerminalVersion: []byte{0, 0x8C},
			UsageControl: []byte{0xFF, 0xC0}, IssuerCountry: []byte{0x02, 0x76}, TerminalCountry: []byte{0x02, 0x76},
			Effective: []byte{0x24, 0x01, 0x01}, Expiry: []byte{0x30, 0x12, 0x31}, Today: [3]byte{0x26, 0x11, 0x30},
		}
	}
	for _, c := range []struct {
		name, ref string
		change    func(*Restrictions)
		want      []Bit
	}{
		{"nothing to object", "B3 10.4", func(*Restrictions) {}, nil},
		{"other version", "B3 10.4.1", func(r *Restrictions) { r.CardVersion = []byte{0, 2} }, []Bit{VersionsDiffer}},
		{"no version counts as equal", "B3 10.4.1", func(r *Restrictions) { r.CardVersion = nil }, nil},
		{"not valid at other than ATMs", "B3 10.4.2", func(r *Restrictions) { r.UsageControl = []byte{0xFE, 0xC0} }, []Bit{ServiceNotAllowed}},
		{"not valid at ATMs", "B3 10.4.2", func(r *Restrictions) { r.ATM = true; r.UsageControl = []byte{0xFD, 0xC0} }, []Bit{ServiceNotAllowed}},
		{"domestic goods and services off", "B3 10.4.2", func(r *Restrictions) { r.UsageControl = []byte{0xD7, 0xC0} }, []Bit{ServiceNotAllowed}},
		{"domestic services alone suffice", "B3 10.4.2", func(r *Restrictions) { r.UsageControl = []byte{0xDF, 0xC0} }, nil},
		{"abroad, only domestic", "B3 10.4.2", func(r *Restrictions) { r.IssuerCountry = []byte{0x08, 0x40}; r.UsageControl = []byte{0xAB, 0x80} }, []Bit{ServiceNotAllowed}},
		{"cashback off", "B3 10.4.2", func(r *Restrictions) { r.Cashback = true; r.UsageControl = []byte{0xFF, 0x40} }, []Bit{ServiceNotAllowed}},
		{"cash off", "B3 10.4.2", func(r *Restrictions) { r.Type = 0x01; r.UsageControl = []byte{0x7F, 0xC0} }, []Bit{ServiceNotAllowed}},
		{"no usage control", "B3 10.4.2", func(r *Restrictions) { r.UsageControl = nil }, nil},
		{"no issuer country: only the place is judged", "B3 10.4.2", func(r *Restrictions) { r.IssuerCountry = nil; r.UsageControl = []byte{0x01, 0} }, nil},
		{"not yet effective", "B3 10.4.3", func(r *Restrictions) { r.Effective = []byte{0x26, 0x12, 0x01} }, []Bit{NotYetEffective}},
		{"effective today", "B3 10.4.3", func(r *Restrictions) { r.Effective = []byte{0x26, 0x11, 0x30} }, nil},
		{"expired yesterday", "B3 10.4.3", func(r *Restrictions) { r.Expiry = []byte{0x26, 0x11, 0x29} }, []Bit{Expired}},
		{"expires today", "B3 10.4.3", func(r *Restrictions) { r.Expiry = []byte{0x26, 0x11, 0x30} }, nil},
		{"expired in the last century", "B4 6.7.3", func(r *Restrictions) { r.Expiry = []byte{0x99, 0x12, 0x31} }, []Bit{Expired}},
		{"valid to 2049", "B4 6.7.3", func(r *Restrictions) { r.Expiry = []byte{0x49, 0x12, 0x31} }, nil},
		{"no expiry", "B3 10.4.3", func(r *Restrictions) { r.Expiry = nil }, []Bit{Expired}},
	} {
		r := base()
		c.change(&r)
		if got := Restrict(r); !sameBits(got, c.want) {
			t.Errorf("%s (%s): %04x, want %04x", c.name, c.ref, got, c.want)
		}
	}
}

func TestActionAnalysis(t *testing.T) {
	ones := TVR{0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	tvr := func(bits ...Bit) (t TVR) { t.Set(bits...); return }
	for _, c := range []struct {
		name, ref string
		tvr       TVR
		codes     ActionCodes
		host      HostState
		want      byte
		code      string
	}{
		{"clean, nothing configured", "B3 10.7", TVR{}, ActionCodes{}, HostPossible, TC, ""},
		{"absent IAC-online is all ones", "B3 10.7, trap 5", tvr(NewCard), ActionCodes{}, HostPossible, ARQC, "online"},
		{"absent IAC-default is all ones", "B3 10.7, trap 5", tvr(NewCard), ActionCodes{}, HostUnable, AAC, "default"},
		{"absent IAC-denial is all zeros", "B3 10.7", ones, ActionCodes{IACOnline: make([]byte, 5)}, HostPossible, TC, ""},
		{"IAC-denial first", "B3 10.7", tvr(DDAFailed), ActionCodes{IACDenial: []byte{8, 0, 0, 0, 0}, TACOnline: ones}, HostPossible, AAC, "denial"},
		{"TAC-denial", "B3 10.7", tvr(Expired), ActionCodes{TACDenial: tvr(Expired)}, HostPossible, AAC, "denial"},
		{"IAC-online", "B3 10.7", tvr(FloorLimitExceeded), ActionCodes{IACOnline: []byte{0, 0, 0, 0x80, 0}}, HostPossible, ARQC, "online"},
		{"TAC-online alone", "B3 10.7", tvr(FloorLimitExceeded), ActionCodes{IACOnline: make([]byte, 5), TACOnline: tvr(FloorLimitExceeded)}, HostPossible, ARQC, "online"},
		{"online codes do not count when unable", "B3 10.7", tvr(FloorLimitExceeded), ActionCodes{IACOnline: ones[:], IACDefault: make([]byte, 5)}, HostUnable, TC, ""},
		{"default codes when offline only", "B3 10.7", tvr(FloorLimitExceeded), ActionCodes{IACDefault: make([]byte, 5), TACDefault: tvr(FloorLimitExceeded)}, OfflineOnly, AAC, "default"},
		{"default codes do not count while online is possible", "B3 10.7", tvr(FloorLimitExceeded), ActionCodes{IACOnline: make([]byte, 5), IACDefault: ones[:], TACDefault: ones}, HostPossible, TC, ""},
	} {
		got := Analyse(c.tvr, c.codes, c.host)
		if got.Cryptogram != c.want || got.Code != c.code {
			t.Errorf("%s (%s): %02x %q, want %02x %q", c.name, c.ref, got.Cryptogram, got.Code, c.want, c.code)
		}
	}
}

func TestRisk(t *testing.T) {
	config := RiskConfig{FloorLimit: 10000, Threshold: 2000, TargetPercent: 10, MaxTargetPercent: 50}
	base := RiskData{Amount: 1000, Random: 99, Lower: -1, Upper: -1, ATC: -1, LastOnlineATC: -1}
	for _, c := range []struct {
		name, ref string
		change    func(*RiskData)
		want      []Bit
	}{
		{"small amount", "B3 10.6.1", func(*RiskData) {}, nil},
		{"over the floor limit", "B3 10.6.1", func(d *RiskData) { d.Amount = 10001 }, []Bit{FloorLimitExceeded}},
		{"equal to the floor limit", "B3 10.6.1, trap 6", func(d *RiskData) { d.Amount = 10000 }, []Bit{FloorLimitExceeded}},
		{"one below", "B3 10.6.1", func(d *RiskData) { d.Amount = 9999 }, nil},
		{"split sale", "B3 10.6.1", func(d *RiskData) { d.Amount = 5000; d.LogTotal = 5000 }, []Bit{FloorLimitExceeded}},
		{"randomly selected at the target", "B3 10.6.2", func(d *RiskData) { d.Random = 10 }, []Bit{RandomlySelected}},
		{"not selected above the target", "B3 10.6.2", func(d *RiskData) { d.Random = 11 }, nil},
		{"biased: half way", "B3 10.6.2", func(d *RiskData) { d.Amount = 6000; d.Random = 30 }, []Bit{RandomlySelected}},
		{"biased: half way, above", "B3 10.6.2", func(d *RiskData) { d.Amount = 6000; d.Random = 31 }, nil},
		{"exception file", "B4 6.5", func(d *RiskData) { d.OnException = true }, []Bit{OnExceptionFile}},
		{"merchant wants online", "B4 6.5", func(d *RiskData) { d.ForceOnline = true }, []Bit{ForcedOnline}},
		{"no limits in the card: no velocity", "B3 10.6.3", func(d *RiskData) { d.ATC, d.LastOnlineATC = 9, 0 }, nil},
		{"within both limits", "B3 10.6.3", func(d *RiskData) { d.Lower, d.Upper, d.ATC, d.LastOnlineATC = 2, 4, 12, 10 }, nil},
		{"over the lower limit", "B3 10.6.3", func(d *RiskData) { d.Lower, d.Upper, d.ATC, d.LastOnlineATC = 2, 4, 13, 10 }, []Bit{LowerLimitExceeded}},
		{"over both", "B3 10.6.3", func(d *RiskData) { d.Lower, d.Upper, d.ATC, d.LastOnlineATC = 2, 4, 15, 10 }, []Bit{LowerLimitExceeded, UpperLimitExceeded}},
		{"counters not given", "B3 10.6.3", func(d *RiskData) { d.Lower, d.Upper = 2, 4 }, []Bit{LowerLimitExceeded, UpperLimitExceeded}},
		{"ATC not above the last online one", "B3 10.6.3", func(d *RiskData) { d.Lower, d.Upper, d.ATC, d.LastOnlineATC = 2, 4, 10, 10 }, []Bit{LowerLimitExceeded, UpperLimitExceeded}},
		{"new card", "B3 10.6.3", func(d *RiskData) { d.Lower, d.Upper, d.ATC, d.LastOnlineATC = 2, 4, 1, 0 }, []Bit{NewCard}},
	} {
		d := base
		c.change(&d)
		if got := Risk(d, config); !sameBits(got, c.want) {
			t.Errorf("%s (%s): %04x, want %04x", c.name, c.ref, got, c.want)
		}
	}
	zero := RiskConfig{}
	if got := Risk(base, zero); !sameBits(got, []Bit{FloorLimitExceeded}) {
		t.Errorf("a floor limit of zero: %04x", got)
	}
}

func TestCVMList(t *testing.T) {
	const all = capPlaintextPIN | capOnlinePIN | capSignature | capEncipheredPIN | capNoCVM
	xy := "000003E8000007D0" // X 10.00, Y 20.00
	ok := PINVerified
	for _, c := range []struct {
		name, ref, rules string
		change           func(*CVMData)
		pin              PINStatus
		result           string
		bits             []Bit
		signature        bool
	}{
		{"online PIN", "B3 10.5.2", "0200", nil, ok, "020000", []Bit{OnlinePINEntered}, false},
		{"enciphered PIN", "B3 10.5.1", "0400", nil, ok, "040002", nil, false},
		{"enciphered PIN and signature", "B3 10.5.4", "0500", nil, ok, "050000", nil, true},
		{"signature", "B3 10.5.3", "1E00", nil, ok, "1E0000", nil, true},
		{"no CVM", "B3 10.5", "1F00", nil, ok, "1F0002", nil, false},
		{"fail CVM ends, whatever its bit 7", "B3 10.5.5", "40001F00", nil, ok, "000001", []Bit{CVMFailed}, false},
		{"rejected PIN, no next", "B3 10.5.1", "04001F00", nil, PINRejected, "040001", []Bit{PINTryLimitExceeded, CVMFailed}, false},
		{"rejected PIN, next applies", "B3 10.5, trap 8", "44001F00", nil, PINRejected, "1F0002", []Bit{PINTryLimitExceeded}, false},
		{"blocked PIN", "B3 10.5.1", "0400", nil, PINBlocked, "040001", []Bit{PINTryLimitExceeded, CVMFailed}, false},
		{"bypassed PIN", "B3 10.5.1", "42001E00", nil, PINBypassed, "1E0000", []Bit{PINNotEntered}, true},
		{"pad not working", "B3 10.5.2", "0200", nil, PINPadNotWorking, "020001", []Bit{PINPadMissing, CVMFailed}, false},
		{"PIN not supported: not the condition but the bit", "B3 10.5.1", "41001F00", func(d *CVMData) { d.Capabilities &^= capPlaintextPIN }, ok, "1F0002", []Bit{PINPadMissing}, false},
		{"if supported: skipped without a bit", "B3 10.5, C3", "41031F00", func(d *CVMData) { d.Capabilities &^= capPlaintextPIN }, ok, "1F0002", nil, false},
		{"unrecognised method, next applies", "B3 10.5", "60001F00", nil, ok, "1F0002", []Bit{CVMUnrecognised}, false},
		{"unrecognised method, no next", "B3 10.5", "20001F00", nil, ok, "3F0001", []Bit{CVMUnrecognised, CVMFailed}, false},
		{"no condition holds", "B4 6.3.4.5", "1F01", nil, ok, "3F0001", []Bit{CVMFailed}, false},
		{"unknown condition is skipped", "B3 C3", "0280" + "1F00", nil, ok, "1F0002", nil, false},
		{"unattended cash", "B3 C3", "0201" + "1F00", func(d *CVMData) { d.UnattendedCash = true }, ok, "020100", []Bit{OnlinePINEntered}, false},
		{"manual cash", "B3 C3", "1E04", func(d *CVMData) { d.ManualCash = true }, ok, "1E0400", nil, true},
		{"cashback", "B3 C3", "0205", func(d *CVMData) { d.Cashback = true }, ok, "020500", []Bit{OnlinePINEntered}, false},
		{"neither cash nor cashback", "B3 C3", "1F02", nil, ok, "1F0202", nil, false},
		{"neither cash nor cashback, with cashback", "B3 C3", "1F02", func(d *CVMData) { d.Cashback = true }, ok, "3F0001", []Bit{CVMFailed}, false},
		{"under X", "B3 C3", "1F06", func(d *CVMData) { d.Amount = 999 }, ok, "1F0602", nil, false},
		{"not under X", "B3 C3", "1F06", func(d *CVMData) { d.Amount = 1000 }, ok, "3F0001", []Bit{CVMFailed}, false},
		{"under X in another currency", "B3 C3, trap 8", "1F06", func(d *CVMData) { d.Amount = 999; d.ApplicationCurrency = false }, ok, "3F0001", []Bit{CVMFailed}, false},
		{"over X", "B3 C3", "1E07", func(d *CVMData) { d.Amount = 1001 }, ok, "1E0700", nil, true},
		{"under Y", "B3 C3", "1F08", func(d *CVMData) { d.Amount = 1999 }, ok, "1F0802", nil, false},
		{"over Y", "B3 C3", "0209", func(d *CVMData) { d.Amount = 2001 }, ok, "020900", []Bit{OnlinePINEntered}, false},
	} {
		d := CVMData{Supported: true, List: hexb(t, xy+c.rules), Capabilities: all, Amount: 500, ApplicationCurrency: true}
		if c.change != nil {
			c.change(&d)
		}
		r, err := CVM(d, func(Method) (PINStatus, error) { return c.pin, nil })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := hex.EncodeToString(r.Result[:]); got != hex.EncodeToString(hexb(t, c.result)) || !sameBits(r.Bits, c.bits) || r.Signature != c.signature || !r.Performed {
			t.Errorf("%s (%s): %s %04x signature %v performed %v", c.name, c.ref, got, r.Bits, r.Signature, r.Performed)
		}
	}
}

func TestCVMNotPerformed(t *testing.T) {
	for name, d := range map[string]CVMData{
		"the card does not support it": {List: hexb(t, "00000000000000001F00")},
		"no list":                      {Supported: true},
		"a list without rules":         {Supported: true, List: make([]byte, 8)},
	} {
		r, err := CVM(d, nil)
		if err != nil || r.Performed || r.Result != [3]byte{0x3F, 0, 0} || len(r.Bits) != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for _, n := range []int{1, 7, 9, 11} {
		if _, err := CVM(CVMData{Supported: true, List: make([]byte, n)}, nil); !errors.Is(err, ErrCVMList) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	stop := errors.New("cancelled")
	if _, err := CVM(CVMData{Supported: true, List: hexb(t, "00000000000000000200"), Capabilities: 0xFF}, func(Method) (PINStatus, error) { return 0, stop }); !errors.Is(err, stop) {
		t.Errorf("cancelled PIN entry: %v", err)
	}
}
