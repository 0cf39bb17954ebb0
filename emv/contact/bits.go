package contact

// TVR is the terminal verification results, tag 95 (Book 3 Annex C5).
type TVR [5]byte

// Bit is a bit of [TVR] or [TSI]: byte index from 0 in the high byte, mask in
// the low byte.
type Bit uint16

// The bits of the TVR (Book 3 Annex C5, tables 42 to 46).
const (
	ODANotPerformed       Bit = 0<<8 | 0x80
	SDAFailed             Bit = 0<<8 | 0x40
	ICCDataMissing        Bit = 0<<8 | 0x20
	OnExceptionFile       Bit = 0<<8 | 0x10
	DDAFailed             Bit = 0<<8 | 0x08
	CDAFailed             Bit = 0<<8 | 0x04
	SDASelected           Bit = 0<<8 | 0x02
	VersionsDiffer        Bit = 1<<8 | 0x80
	Expired               Bit = 1<<8 | 0x40
	NotYetEffective       Bit = 1<<8 | 0x20
	ServiceNotAllowed     Bit = 1<<8 | 0x10
	NewCard               Bit = 1<<8 | 0x08
	CVMFailed             Bit = 2<<8 | 0x80
	CVMUnrecognised       Bit = 2<<8 | 0x40
	PINTryLimitExceeded   Bit = 2<<8 | 0x20
	PINPadMissing         Bit = 2<<8 | 0x10
	PINNotEntered         Bit = 2<<8 | 0x08
	OnlinePINEntered      Bit = 2<<8 | 0x04
	FloorLimitExceeded    Bit = 3<<8 | 0x80
	LowerLimitExceeded    Bit = 3<<8 | 0x40
	UpperLimitExceeded    Bit = 3<<8 | 0x20
	RandomlySelected      Bit = 3<<8 | 0x10
	ForcedOnline          Bit = 3<<8 | 0x08
	DefaultTDOLUsed       Bit = 4<<8 | 0x80
	IssuerAuthFailed      Bit = 4<<8 | 0x40
	ScriptFailedBeforeAC2 Bit = 4<<8 | 0x20
	ScriptFailedAfterAC2  Bit = 4<<8 | 0x10
)

// Set sets bits.
func (t *TVR) Set(bits ...Bit) {
	for _, b := range bits {
		t[b>>8] |= byte(b)
	}
}

// Clear clears bits.
func (t *TVR) Clear(bits ...Bit) {
	for _, b := range bits {
		t[b>>8] &^= byte(b)
	}
}

// Has reports whether a bit is set.
func (t TVR) Has(b Bit) bool { return t[b>>8]&byte(b) != 0 }

// names are the books' words for the bits, in the order of the bytes.
var tvrNames = []struct {
	bit  Bit
	name string
}{
	{ODANotPerformed, "offline data authentication was not performed"},
	{SDAFailed, "SDA failed"},
	{ICCDataMissing, "ICC data missing"},
	{OnExceptionFile, "card appears on terminal exception file"},
	{DDAFailed, "DDA failed"},
	{CDAFailed, "CDA failed"},
	{SDASelected, "SDA selected"},
	{VersionsDiffer, "ICC and terminal have different application versions"},
	{Expired, "expired application"},
	{NotYetEffective, "application not yet effective"},
	{ServiceNotAllowed, "requested service not allowed for card product"},
	{NewCard, "new card"},
	{CVMFailed, "cardholder verification was not successful"},
	{CVMUnrecognised, "unrecognised CVM"},
	{PINTryLimitExceeded, "PIN try limit exceeded"},
	{PINPadMissing, "PIN entry required and PIN pad not present or not working"},
	{PINNotEntered, "PIN entry required, PIN pad present, but PIN was not entered"},
	{OnlinePINEntered, "online PIN entered"},
	{FloorLimitExceeded, "transaction exceeds floor limit"},
	{LowerLimitExceeded, "lower consecutive offline limit exceeded"},
	{UpperLimitExceeded, "upper consecutive offline limit exceeded"},
	{RandomlySelected, "transaction selected randomly for online processing"},
	{ForcedOnline, "merchant forced transaction online"},
	{DefaultTDOLUsed, "default TDOL used"},
	{IssuerAuthFailed, "issuer authentication failed"},
	{ScriptFailedBeforeAC2, "script processing failed before final GENERATE AC"},
	{ScriptFailedAfterAC2, "script processing failed after final GENERATE AC"},
}

// Names lists what is set, in the books' words.
func (t TVR) Names() []string {
	var out []string
	for _, n := range tvrNames {
		if t.Has(n.bit) {
			out = append(out, n.name)
		}
	}
	return out
}

// TSI is the transaction status information, tag 9B (Book 3 Annex C6).
type TSI [2]byte

// The bits of the TSI.
const (
	ODAPerformed          Bit = 0x80
	CVMPerformed          Bit = 0x40
	CardRiskPerformed     Bit = 0x20
	IssuerAuthPerformed   Bit = 0x10
	TerminalRiskPerformed Bit = 0x08
	ScriptPerformed       Bit = 0x04
)

// Set sets bits of byte 1.
func (t *TSI) Set(bits ...Bit) {
	for _, b := range bits {
		t[b>>8] |= byte(b)
	}
}

// Has reports whether a bit is set.
func (t TSI) Has(b Bit) bool { return t[b>>8]&byte(b) != 0 }

// Names lists what is set, in the books' words.
func (t TSI) Names() []string {
	var out []string
	for _, n := range []struct {
		bit  Bit
		name string
	}{
		{ODAPerformed, "offline data authentication was performed"},
		{CVMPerformed, "cardholder verification was performed"},
		{CardRiskPerformed, "card risk management was performed"},
		{IssuerAuthPerformed, "issuer authentication was performed"},
		{TerminalRiskPerformed, "terminal risk management was performed"},
		{ScriptPerformed, "script processing was performed"},
	} {
		if t.Has(n.bit) {
			out = append(out, n.name)
		}
	}
	return out
}
