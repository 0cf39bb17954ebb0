package contact

// Cryptogram types of GENERATE AC, P1 bits 8 and 7 (Book 3 table 12), in the
// order in which a card may lower them.
const (
	AAC  byte = 0x00 // declined
	TC   byte = 0x40 // approved offline
	ARQC byte = 0x80 // go online
)

// ActionCodes are one set of issuer action codes (9F0D, 9F0E, 9F0F) and
// terminal action codes. A nil issuer code means that the card has none.
type ActionCodes struct {
	IACDefault, IACDenial, IACOnline []byte // 5 bytes or nil
	TACDefault, TACDenial, TACOnline TVR
}

// HostState says what is known about reaching the acquirer.
type HostState int

// States of the way to the acquirer.
const (
	// HostPossible: an online-capable terminal that has not tried yet.
	HostPossible HostState = iota
	// HostUnable: online-capable, and the host cannot be reached.
	HostUnable
	// OfflineOnly: a terminal without any way online.
	OfflineOnly
)

// Action is the verdict of terminal action analysis.
type Action struct {
	Cryptogram byte // AAC, TC or ARQC
	// Code is the set that matched: "denial", "online", "default", or "" when
	// none did.
	Code string
	// Bits are the TVR bits that met an action code.
	Bits TVR
	// Issuer and Terminal say whose code met them.
	Issuer, Terminal bool
}

// Analyse is terminal action analysis (Book 3 section 10.7): denial codes
// first, then the online codes (or, for a terminal that cannot go online, the
// default codes). An absent issuer code is all zeros for denial and all ones
// for online and default.
func Analyse(tvr TVR, c ActionCodes, host HostState) Action {
	if a, ok := meet(tvr, c.IACDenial, 0x00, c.TACDenial, "denial"); ok {
		a.Cryptogram = AAC
		return a
	}
	switch host {
	case HostPossible:
		if a, ok := meet(tvr, c.IACOnline, 0xFF, c.TACOnline, "online"); ok {
			a.Cryptogram = ARQC
			return a
		}
	default:
		if a, ok := meet(tvr, c.IACDefault, 0xFF, c.TACDefault, "default"); ok {
			a.Cryptogram = AAC
			return a
		}
	}
	return Action{Cryptogram: TC}
}

func meet(tvr TVR, issuer []byte, absent byte, terminal TVR, name string) (Action, bool) {
	a := Action{Code: name}
	for i := range tvr {
		code := absent
		if len(issuer) == len(tvr) {
			code = issuer[i]
		}
		a.Issuer = a.Issuer || tvr[i]&code != 0
		a.Terminal = a.Terminal || tvr[i]&terminal[i] != 0
		a.Bits[i] = tvr[i] & (code | terminal[i])
	}
	return a, a.Issuer || a.Terminal
}
