package virtualcard

import (
	"fmt"
	"strings"
)

// ODA is the offline data authentication that a profile supports.
type ODA int

// Kinds of offline data authentication (Book 2 sections 5 and 6).
const (
	ODANone ODA = iota
	ODASDA
	ODADDA
	ODACDA // DDA and combined
)

// IssuerAuth is how a profile takes the issuer's answer.
type IssuerAuth int

// Ways of issuer authentication.
const (
	AuthNone     IssuerAuth = iota
	AuthExternal            // EXTERNAL AUTHENTICATE
	AuthInAC                // tag 91 in CDOL2
)

// Profile is what a card is made of. Values are copied by [New]. It prints
// without number, name and PIN.
type Profile struct {
	Name  string // "visa-credit", for configuration and tests
	AID   string // hex
	Label string
	// Preferred is the application preferred name (9F12), empty for none.
	Preferred string
	// Priority is the low nibble of 87; Confirm sets its high bit.
	Priority byte
	Confirm  bool
	// AppType is the ABECS kind: 1 credit, 2 debit.
	AppType int

	PAN, PSN    string // digits; PSN two
	Expiry      string // YYMM
	Cardholder  string
	ServiceCode string // three digits
	Language    string
	Country     int // ISO 3166 number
	Currency    int // ISO 4217 number

	ODA        ODA
	IssuerAuth IssuerAuth
	// CVN is the cryptogram version: 0x0A, 0x12, 0x22 (Visa's layouts), or 0x10,
	// 0x11, 0x12, 0x14, 0x15 with a Mastercard AID.
	CVN byte
	// Format1 answers GPO, INTERNAL AUTHENTICATE and GENERATE AC by template 80;
	// a combined signature always comes in 77.
	Format1 bool
	PDOL    string // hex, empty for none
	// CVMList is tag 8E as hex.
	CVMList string
	AUC     string // 9F07 as hex
	// IACDefault, IACDenial and IACOnline are 9F0D, 9F0E and 9F0F as hex;
	// empty leaves the tag out.
	IACDefault, IACDenial, IACOnline string

	PIN      string
	PINTries int

	// OnlineAlways makes the card answer ARQC where a TC is asked for.
	OnlineAlways bool
	// LowerOffline and UpperOffline are the consecutive offline limits (9F14,
	// 9F23): above the lower one the card asks to go online, above the upper
	// one it declines when that is not possible. 0 means no limit.
	LowerOffline, UpperOffline int

	// NoPSE leaves out the payment system environment.
	NoPSE bool
	// PSEBlocked answers 6283 to its selection: the terminal takes the list of
	// its own applications (Book 1 section 12.3.2).
	PSEBlocked bool
	// Padding is written between and after data objects of each record: 00 and
	// FF are what ISO 7816-4 allows.
	Padding []byte
	// SignedSFI is the file of the signed record: 1 to 10 are hashed without
	// their template, 11 to 30 with it (Book 3 section 10.3). 0 means 1.
	SignedSFI int
	// Blocked starts the application blocked (6283 to SELECT, AAC alone).
	Blocked bool
	// Declines makes the card answer AAC to the first GENERATE AC, and
	// DeclinesSecond to the second, whatever the terminal asks.
	Declines, DeclinesSecond bool
	// RefusesGPO answers 6985 to GET PROCESSING OPTIONS.
	RefusesGPO bool
}

// String names the profile and the last four digits.
func (p Profile) String() string {
	last := ""
	if len(p.PAN) > 4 {
		last = p.PAN[len(p.PAN)-4:]
	}
	return fmt.Sprintf("%s (%s, ************%s)", p.Name, p.Label, last)
}

// GoString is String.
func (p Profile) GoString() string { return p.String() }

// Format prints String for every verb.
func (p Profile) Format(s fmt.State, _ rune) { fmt.Fprint(s, p.String()) }

// MarshalJSON writes the text of String.
func (p Profile) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", p.String()), nil }

// CVM lists of the profiles (Book 3 Annex C3): amounts X and Y, then rules.
const (
	cvmOnlinePINSignature = "0000000000000000" + "42031E031F03"          // online PIN, else signature, else none
	cvmOfflinePIN         = "0000000000000000" + "4103" + "42031E031F03" // plaintext PIN, online PIN, signature, none
	cvmEnciphered         = "0000000000000000" + "4403" + "42031E031F03" // enciphered PIN, online PIN, signature, none
	cvmOnlinePIN          = "0000000000000000" + "0201" + "42031F03"     // cash: online PIN; else online PIN, none
	cvmNone               = "0000000000000000" + "1F03"
)

// Profiles returns all profiles, each a copy. The card numbers are the
// schemes' and processors' published test numbers.
func Profiles() []Profile {
	base := Profile{
		AppType: 1, PSN: "01", Expiry: "3512", Cardholder: "TEST/CARD", ServiceCode: "201", Language: "enpt",
		Country: 840, Currency: 840, AUC: "FF00", IssuerAuth: AuthExternal, CVN: 0x12,
		CVMList: cvmOnlinePINSignature, IACDefault: "B0509C8800", IACDenial: "0000000000", IACOnline: "B0709C9800",
		PIN: "1234", PINTries: 3, Priority: 1,
	}
	with := func(f func(*Profile)) Profile { p := base; f(&p); return p }
	return []Profile{
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "visa-credit", "A0000000031010", "VISA CREDIT", "4761739001010119"
			p.CVN, p.ODA, p.Format1 = 0x0A, ODADDA, true
			p.PDOL = "9F1A02"
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "visa-debit", "A0000000032010", "VISA DEBIT", "4111111111111111"
			p.ODA, p.AppType, p.CVMList = ODACDA, 2, cvmOnlinePIN
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "mastercard-credit", "A0000000041010", "MASTERCARD", "5413330089020011"
			p.Preferred, p.CVN, p.ODA, p.IssuerAuth = "Mastercard Test", 0x11, ODACDA, AuthInAC
			p.CVMList = cvmOfflinePIN
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "maestro", "A0000000043060", "MAESTRO", "6799998900000060018"
			p.CVN, p.ODA, p.IssuerAuth, p.AppType, p.CVMList = 0x14, ODADDA, AuthInAC, 2, cvmOnlinePIN
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "amex", "A00000002501", "AMERICAN EXPRESS", "378282246310005"
			p.PSN, p.ODA = "00", ODASDA
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "jcb", "A0000000651010", "JCB CREDIT", "3566002020360505"
			p.ODA, p.Country, p.Currency, p.Language = ODADDA, 392, 392, "jaen"
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "discover", "A0000001523010", "DISCOVER", "6011111111111117"
			p.ODA, p.CVMList = ODACDA, cvmEnciphered
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "unionpay", "A000000333010102", "UNIONPAY CREDIT", "6200000000000005"
			p.ODA, p.IssuerAuth, p.Country, p.Currency, p.CVMList = ODADDA, AuthInAC, 156, 156, cvmOnlinePIN
			p.Padding = []byte{0}
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "elo-credit", "A0000006510101", "ELO CREDITO", "6362970000457013"
			p.ODA, p.Country, p.Currency, p.Language = ODACDA, 76, 986, "pten"
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "offline-pin", "A0000000031010", "VISA OFFLINE PIN", "4242424242424242"
			p.ODA, p.CVMList, p.LowerOffline, p.UpperOffline = ODADDA, cvmOfflinePIN, 2, 4
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "no-cvm", "A0000000041010", "NO CVM", "5555555555554444"
			p.CVN, p.ODA, p.CVMList, p.IssuerAuth = 0x10, ODACDA, cvmNone, AuthNone
			p.SignedSFI, p.Padding = 11, []byte{0xFF}
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "no-pse", "A0000000031010", "VISA NO PSE", "4012888888881881"
			p.NoPSE, p.ODA, p.CVN, p.OnlineAlways = true, ODANone, 0x22, true
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "blocked", "A0000000031010", "VISA BLOCKED", "4917610000000000"
			p.Blocked, p.ODA = true, ODANone
		}),
		with(func(p *Profile) {
			p.Name, p.AID, p.Label, p.PAN = "declining", "A0000000041010", "MC DECLINING", "2223003122003222"
			p.CVN, p.ODA, p.DeclinesSecond, p.IssuerAuth = 0x15, ODANone, true, AuthInAC
		}),
	}
}

// Named returns the profile of that name.
func Named(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("virtualcard: there is no profile %q; choose one of %s", name, strings.Join(names, ", "))
}
