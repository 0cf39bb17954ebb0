package tlv

// Format is how a value is coded (Book 3 section 4.3).
type Format uint8

// Formats of the dictionary. FormatUnknown is treated as binary.
const (
	FormatUnknown  Format = iota
	FormatB               // binary
	FormatN               // numeric: BCD, right-justified, leading zeros
	FormatCN              // compressed numeric: digits left-justified, trailing F
	FormatA               // alphabetic
	FormatAN              // alphanumeric
	FormatANS             // alphanumeric special: text
	FormatDOL             // list of tags and lengths
	FormatTags            // list of tags
	FormatTemplate        // data objects
)

// String returns the books' short name.
func (f Format) String() string {
	return [...]string{"?", "b", "n", "cn", "a", "an", "ans", "dol", "tags", "template"}[f]
}

// Source is who supplies a data object (Book 3 Annex A).
type Source uint8

// Sources of the dictionary.
const (
	FromUnknown Source = iota
	FromICC
	FromTerminal
	FromIssuer
)

// String names the source.
func (s Source) String() string { return [...]string{"unknown", "card", "terminal", "issuer"}[s] }

// Sensitivity says whether a value may be shown.
type Sensitivity uint8

// Sensitivities, the strictest first. What the dictionary does not know is
// Hidden: only its length is shown.
const (
	// Hidden values are never shown: PIN data, tracks, unknown tags and
	// whatever may hold a copy of them (filled DOLs, certificates from which
	// the PAN can be recovered).
	Hidden Sensitivity = iota
	// PAN is shown as first six and last four digits at most.
	PAN
	// Personal values (name, birth date, bank account) show their length.
	Personal
	// Public values may be shown.
	Public
)

// String names the class.
func (s Sensitivity) String() string {
	return [...]string{"hidden", "pan", "personal", "public"}[s]
}

// Info describes a tag.
type Info struct {
	Name        string
	Format      Format
	Source      Source
	Sensitivity Sensitivity
}

// Lookup returns what the dictionary knows of a tag (Book 3 Annex A, Book C-2
// Annex A, the schemes' public tags).
func Lookup(t Tag) (Info, bool) {
	i, ok := dictionary[t]
	return i, ok
}

// FormatOf returns the format of a tag, FormatUnknown when it is not listed.
func FormatOf(t Tag) Format { return dictionary[t].Format }

// SensitivityOf returns the class of a tag, [Hidden] when it is not listed.
func SensitivityOf(t Tag) Sensitivity { return dictionary[t].Sensitivity }

// dictionary is data, one line a tag.
var dictionary = map[Tag]Info{
	0x42:   {"Issuer Identification Number (IIN)", FormatN, FromICC, Public},
	0x4F:   {"Application Identifier (ADF name)", FormatB, FromICC, Public},
	0x50:   {"Application Label", FormatANS, FromICC, Public},
	0x56:   {"Track 1 Data", FormatANS, FromICC, Hidden},
	0x57:   {"Track 2 Equivalent Data", FormatB, FromICC, Hidden},
	0x5A:   {"Application PAN", FormatCN, FromICC, PAN},
	0x5F20: {"Cardholder Name", FormatANS, FromICC, Personal},
	0x5F24: {"Application Expiration Date", FormatN, FromICC, Personal},
	0x5F25: {"Application Effective Date", FormatN, FromICC, Public},
	0x5F28: {"Issuer Country Code", FormatN, FromICC, Public},
	0x5F2A: {"Transaction Currency Code", FormatN, FromTerminal, Public},
	0x5F2D: {"Language Preference", FormatAN, FromICC, Public},
	0x5F30: {"Service Code", FormatN, FromICC, Public},
	0x5F34: {"PAN Sequence Number", FormatN, FromICC, Public},
	0x5F36: {"Transaction Currency Exponent", FormatN, FromTerminal, Public},
	0x5F50: {"Issuer URL", FormatANS, FromICC, Public},
	0x5F53: {"IBAN", FormatANS, FromICC, Personal},
	0x5F54: {"Bank Identifier Code", FormatANS, FromICC, Public},
	0x5F55: {"Issuer Country Code (alpha 2)", FormatA, FromICC, Public},
	0x5F56: {"Issuer Country Code (alpha 3)", FormatA, FromICC, Public},
	0x5F57: {"Account Type", FormatN, FromTerminal, Public},
	0x61:   {"Application Template", FormatTemplate, FromICC, Public},
	0x6F:   {"FCI Template", FormatTemplate, FromICC, Public},
	0x70:   {"READ RECORD Response Template", FormatTemplate, FromICC, Public},
	0x71:   {"Issuer Script Template 1", FormatTemplate, FromIssuer, Public},
	0x72:   {"Issuer Script Template 2", FormatTemplate, FromIssuer, Public},
	0x73:   {"Directory Discretionary Template", FormatTemplate, FromICC, Public},
	0x77:   {"Response Message Template Format 2", FormatTemplate, FromICC, Public},
	0x80:   {"Response Message Template Format 1", FormatB, FromICC, Public},
	0x81:   {"Amount, Authorised (binary)", FormatB, FromTerminal, Public},
	0x82:   {"Application Interchange Profile", FormatB, FromICC, Public},
	0x83:   {"Command Template", FormatB, FromTerminal, Hidden},
	0x84:   {"Dedicated File Name", FormatB, FromICC, Public},
	0x86:   {"Issuer Script Command", FormatB, FromIssuer, Hidden},
	0x87:   {"Application Priority Indicator", FormatB, FromICC, Public},
	0x88:   {"Short File Identifier", FormatB, FromICC, Public},
	0x89:   {"Authorisation Code", FormatANS, FromIssuer, Public},
	0x8A:   {"Authorisation Response Code", FormatAN, FromIssuer, Public},
	0x8C:   {"CDOL1", FormatDOL, FromICC, Public},
	0x8D:   {"CDOL2", FormatDOL, FromICC, Public},
	0x8E:   {"CVM List", FormatB, FromICC, Public},
	0x8F:   {"CA Public Key Index (card)", FormatB, FromICC, Public},
	0x90:   {"Issuer Public Key Certificate", FormatB, FromICC, Public},
	0x91:   {"Issuer Authentication Data", FormatB, FromIssuer, Public},
	0x92:   {"Issuer Public Key Remainder", FormatB, FromICC, Public},
	0x93:   {"Signed Static Application Data", FormatB, FromICC, Public},
	0x94:   {"Application File Locator", FormatB, FromICC, Public},
	0x95:   {"Terminal Verification Results", FormatB, FromTerminal, Public},
	0x97:   {"TDOL", FormatDOL, FromICC, Public},
	0x98:   {"Transaction Certificate Hash Value", FormatB, FromTerminal, Public},
	0x99:   {"Transaction PIN Data", FormatB, FromTerminal, Hidden},
	0x9A:   {"Transaction Date", FormatN, FromTerminal, Public},
	0x9B:   {"Transaction Status Information", FormatB, FromTerminal, Public},
	0x9C:   {"Transaction Type", FormatN, FromTerminal, Public},
	0x9D:   {"Directory Definition File Name", FormatB, FromICC, Public},
	0x9F01: {"Acquirer Identifier", FormatN, FromTerminal, Public},
	0x9F02: {"Amount, Authorised", FormatN, FromTerminal, Public},
	0x9F03: {"Amount, Other", FormatN, FromTerminal, Public},
	0x9F04: {"Amount, Other (binary)", FormatB, FromTerminal, Public},
	0x9F05: {"Application Discretionary Data", FormatB, FromICC, Hidden},
	0x9F06: {"Application Identifier (terminal)", FormatB, FromTerminal, Public},
	0x9F07: {"Application Usage Control", FormatB, FromICC, Public},
	0x9F08: {"Application Version Number (card)", FormatB, FromICC, Public},
	0x9F09: {"Application Version Number (terminal)", FormatB, FromTerminal, Public},
	0x9F0A: {"Application Selection Registered Proprietary Data", FormatB, FromICC, Public},
	0x9F0B: {"Cardholder Name Extended", FormatANS, FromICC, Personal},
	0x9F0D: {"IAC - Default", FormatB, FromICC, Public},
	0x9F0E: {"IAC - Denial", FormatB, FromICC, Public},
	0x9F0F: {"IAC - Online", FormatB, FromICC, Public},
	0x9F10: {"Issuer Application Data", FormatB, FromICC, Public},
	0x9F11: {"Issuer Code Table Index", FormatN, FromICC, Public},
	0x9F12: {"Application Preferred Name", FormatANS, FromICC, Public},
	0x9F13: {"Last Online ATC Register", FormatB, FromICC, Public},
	0x9F14: {"Lower Consecutive Offline Limit", FormatB, FromICC, Public},
	0x9F15: {"Merchant Category Code", FormatN, FromTerminal, Public},
	0x9F16: {"Merchant Identifier", FormatANS, FromTerminal, Public},
	0x9F17: {"PIN Try Counter", FormatB, FromICC, Public},
	0x9F18: {"Issuer Script Identifier", FormatB, FromIssuer, Public},
	0x9F19: {"Token Requestor ID", FormatN, FromICC, Public},
	0x9F1A: {"Terminal Country Code", FormatN, FromTerminal, Public},
	0x9F1B: {"Terminal Floor Limit", FormatB, FromTerminal, Public},
	0x9F1C: {"Terminal Identification", FormatAN, FromTerminal, Public},
	0x9F1D: {"Terminal Risk Management Data", FormatB, FromTerminal, Public},
	0x9F1E: {"Interface Device Serial Number", FormatAN, FromTerminal, Public},
	0x9F1F: {"Track 1 Discretionary Data", FormatANS, FromICC, Hidden},
	0x9F20: {"Track 2 Discretionary Data", FormatCN, FromICC, Hidden},
	0x9F21: {"Transaction Time", FormatN, FromTerminal, Public},
	0x9F22: {"CA Public Key Index (terminal)", FormatB, FromTerminal, Public},
	0x9F23: {"Upper Consecutive Offline Limit", FormatB, FromICC, Public},
	0x9F24: {"Payment Account Reference", FormatAN, FromICC, Personal},
	0x9F25: {"Last 4 Digits of PAN", FormatN, FromICC, Public},
	0x9F26: {"Application Cryptogram", FormatB, FromICC, Public},
	0x9F27: {"Cryptogram Information Data", FormatB, FromICC, Public},
	0x9F29: {"Extended Selection", FormatB, FromICC, Public},
	0x9F2A: {"Kernel Identifier", FormatB, FromICC, Public},
	0x9F2D: {"ICC PIN Encipherment Public Key Certificate", FormatB, FromICC, Hidden},
	0x9F2E: {"ICC PIN Encipherment Public Key Exponent", FormatB, FromICC, Public},
	0x9F2F: {"ICC PIN Encipherment Public Key Remainder", FormatB, FromICC, Public},
	0x9F32: {"Issuer Public Key Exponent", FormatB, FromICC, Public},
	0x9F33: {"Terminal Capabilities", FormatB, FromTerminal, Public},
	0x9F34: {"CVM Results", FormatB, FromTerminal, Public},
	0x9F35: {"Terminal Type", FormatN, FromTerminal, Public},
	0x9F36: {"Application Transaction Counter", FormatB, FromICC, Public},
	0x9F37: {"Unpredictable Number", FormatB, FromTerminal, Public},
	0x9F38: {"PDOL", FormatDOL, FromICC, Public},
	0x9F39: {"POS Entry Mode", FormatN, FromTerminal, Public},
	0x9F3A: {"Amount, Reference Currency", FormatB, FromTerminal, Public},
	0x9F3B: {"Application Reference Currency", FormatN, FromICC, Public},
	0x9F3C: {"Transaction Reference Currency Code", FormatN, FromTerminal, Public},
	0x9F3D: {"Transaction Reference Currency Exponent", FormatN, FromTerminal, Public},
	0x9F40: {"Additional Terminal Capabilities", FormatB, FromTerminal, Public},
	0x9F41: {"Transaction Sequence Counter", FormatN, FromTerminal, Public},
	0x9F42: {"Application Currency Code", FormatN, FromICC, Public},
	0x9F43: {"Application Reference Currency Exponent", FormatN, FromICC, Public},
	0x9F44: {"Application Currency Exponent", FormatN, FromICC, Public},
	0x9F45: {"Data Authentication Code", FormatB, FromICC, Public},
	0x9F46: {"ICC Public Key Certificate", FormatB, FromICC, Hidden},
	0x9F47: {"ICC Public Key Exponent", FormatB, FromICC, Public},
	0x9F48: {"ICC Public Key Remainder", FormatB, FromICC, Public},
	0x9F49: {"DDOL", FormatDOL, FromICC, Public},
	0x9F4A: {"Static Data Authentication Tag List", FormatTags, FromICC, Public},
	0x9F4B: {"Signed Dynamic Application Data", FormatB, FromICC, Public},
	0x9F4C: {"ICC Dynamic Number", FormatB, FromICC, Public},
	0x9F4D: {"Log Entry", FormatB, FromICC, Public},
	0x9F4E: {"Merchant Name and Location", FormatANS, FromTerminal, Public},
	0x9F4F: {"Log Format", FormatDOL, FromICC, Public},
	0x9F50: {"Offline Accumulator Balance", FormatN, FromICC, Public},
	0x9F51: {"Application Currency Code (proprietary) or DRDOL", FormatB, FromICC, Public},
	0x9F52: {"Application Default Action", FormatB, FromICC, Public},
	0x9F53: {"Transaction Category Code", FormatAN, FromTerminal, Public},
	0x9F54: {"Cumulative Total Transaction Amount Limit", FormatN, FromICC, Public},
	0x9F56: {"Issuer Authentication Indicator", FormatB, FromICC, Public},
	0x9F57: {"Issuer Country Code (proprietary)", FormatB, FromICC, Public},
	0x9F58: {"Lower Consecutive Offline Limit (proprietary)", FormatB, FromICC, Public},
	0x9F59: {"Upper Consecutive Offline Limit (proprietary)", FormatB, FromICC, Public},
	0x9F5A: {"Application Program Identifier", FormatB, FromICC, Public},
	0x9F5B: {"Issuer Script Results", FormatB, FromTerminal, Public},
	0x9F5C: {"Cumulative Total Transaction Amount Upper Limit", FormatN, FromICC, Public},
	0x9F5D: {"Available Offline Spending Amount", FormatN, FromICC, Public},
	0x9F61: {"Cardholder Identification Number", FormatAN, FromICC, Personal},
	0x9F62: {"PCVC3 (track 1)", FormatB, FromICC, Hidden},
	0x9F63: {"PUNATC (track 1)", FormatB, FromICC, Public},
	0x9F64: {"NATC (track 1)", FormatB, FromICC, Public},
	0x9F65: {"PCVC3 (track 2)", FormatB, FromICC, Hidden},
	0x9F66: {"Terminal Transaction Qualifiers", FormatB, FromTerminal, Public},
	0x9F67: {"NATC (track 2)", FormatB, FromICC, Public},
	0x9F69: {"Card Authentication Related Data or UDOL", FormatB, FromICC, Public},
	0x9F6A: {"Unpredictable Number (numeric)", FormatN, FromTerminal, Public},
	0x9F6B: {"Track 2 Data", FormatB, FromICC, Hidden},
	0x9F6C: {"Card Transaction Qualifiers", FormatB, FromICC, Public},
	0x9F6D: {"Mag-stripe Application Version Number", FormatB, FromTerminal, Public},
	0x9F6E: {"Form Factor Indicator or Third Party Data", FormatB, FromICC, Public},
	0x9F74: {"VLP Issuer Authorisation Code", FormatAN, FromICC, Public},
	0x9F7C: {"Customer Exclusive Data", FormatB, FromICC, Hidden},
	0x9F7D: {"DS Summary 1", FormatB, FromICC, Public},
	0x9F7E: {"Mobile Support Indicator", FormatB, FromTerminal, Public},
	0xA5:   {"FCI Proprietary Template", FormatTemplate, FromICC, Public},
	0xBF0C: {"FCI Issuer Discretionary Data", FormatTemplate, FromICC, Public},
}
