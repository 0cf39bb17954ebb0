package contact

import "tillbridge/emv"

// Restrictions is what processing restrictions look at (Book 3 section 10.4).
// Dates are YYMMDD as six BCD digits in three bytes; a nil slice means that
// the card has no such object.
type Restrictions struct {
	CardVersion     []byte // 9F08, 2 bytes
	TerminalVersion []byte // 9F09, 2 bytes
	UsageControl    []byte // 9F07, 2 bytes
	IssuerCountry   []byte // 5F28, 2 bytes
	TerminalCountry []byte // 9F1A, 2 bytes
	Effective       []byte // 5F25
	Expiry          []byte // 5F24
	Today           [3]byte
	Type            emv.TransactionType
	// Cashback is set when the amount has a cashback part (9F03 not zero).
	Cashback bool
	ATM      bool
}

// Restrict compares application versions, usage control and dates, and returns
// the bits for the TVR. It never ends a transaction.
func Restrict(r Restrictions) (bits []Bit) {
	// 10.4.1: an absent version counts as equal.
	if len(r.CardVersion) == 2 && string(r.CardVersion) != string(r.TerminalVersion) {
		bits = append(bits, VersionsDiffer)
	}
	if usageRefused(r) {
		bits = append(bits, ServiceNotAllowed)
	}
	// 10.4.3: the dates.
	if len(r.Effective) == 3 && later(r.Effective, r.Today) {
		bits = append(bits, NotYetEffective)
	}
	// Expiry is mandatory in the card; without it nothing shows that the card is
	// valid.
	if len(r.Expiry) != 3 || earlier(r.Expiry, r.Today) {
		bits = append(bits, Expired)
	}
	return bits
}

// Application usage control, byte 1 and byte 2 (Book 3 Annex C2).
const (
	aucDomesticCash     = 0x80
	aucForeignCash      = 0x40
	aucDomesticGoods    = 0x20
	aucForeignGoods     = 0x10
	aucDomesticServices = 0x08
	aucForeignServices  = 0x04
	aucATM              = 0x02
	aucNotATM           = 0x01
	aucDomesticCashback = 0x80
	aucForeignCashback  = 0x40
)

// usageRefused is Book 3 section 10.4.2.
func usageRefused(r Restrictions) bool {
	if len(r.UsageControl) != 2 {
		return false
	}
	auc1, auc2 := r.UsageControl[0], r.UsageControl[1]
	where := byte(aucNotATM)
	if r.ATM {
		where = aucATM
	}
	if auc1&where == 0 {
		return true
	}
	// The rest needs the issuer's country; without it the test is not done.
	if len(r.IssuerCountry) != 2 {
		return false
	}
	domestic := string(r.IssuerCountry) == string(r.TerminalCountry)
	pick := func(dom, foreign byte) byte {
		if domestic {
			return dom
		}
		return foreign
	}
	switch r.Type {
	case 0x01, 0x17: // cash, cash disbursement
		if auc1&pick(aucDomesticCash, aucForeignCash) == 0 {
			return true
		}
	case emv.Purchase, emv.Cashback:
		// A terminal does not know goods from services: both bits clear refuses.
		if auc1&pick(aucDomesticGoods|aucDomesticServices, aucForeignGoods|aucForeignServices) == 0 {
			return true
		}
	}
	if (r.Cashback || r.Type == emv.Cashback) && auc2&pick(aucDomesticCashback, aucForeignCashback) == 0 {
		return true
	}
	return false
}

// later reports whether YYMMDD a is after b. Years 50 to 99 are 1950 to 1999
// (Book 4 section 6.7.3).
func later(a []byte, b [3]byte) bool   { return dateKey([3]byte(a)) > dateKey(b) }
func earlier(a []byte, b [3]byte) bool { return dateKey([3]byte(a)) < dateKey(b) }

func dateKey(d [3]byte) int {
	century := 1 << 24
	if d[0] >= 0x50 {
		century = 0
	}
	return century | int(d[0])<<16 | int(d[1])<<8 | int(d[2])
}
