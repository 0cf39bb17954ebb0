package mask

// Brand is a card scheme as the issuer number tells it.
type Brand string

// The brands of the table. Unknown is the zero value.
const (
	Unknown         Brand = ""
	Visa            Brand = "visa"
	Mastercard      Brand = "mastercard"
	AmericanExpress Brand = "amex"
	Discover        Brand = "discover"
	Diners          Brand = "diners"
	JCB             Brand = "jcb"
	UnionPay        Brand = "unionpay"
	Maestro         Brand = "maestro"
	Mir             Brand = "mir"
	RuPay           Brand = "rupay"
	Elo             Brand = "elo"
	Hipercard       Brand = "hipercard"
	Troy            Brand = "troy"
	Verve           Brand = "verve"
	Dankort         Brand = "dankort"
	UATP            Brand = "uatp"
)

// wide reports whether eight leading digits may be kept (FAQ 1091).
func (b Brand) wide() bool {
	switch b {
	case Visa, Mastercard, Discover, JCB, UnionPay, Diners:
		return true
	}
	return false
}

// issuer is a range of six-digit issuer numbers with the lengths it uses.
type issuer struct {
	low, high int // first six digits, inclusive
	brand     Brand
	lengths   uint32 // bit n set: n digits occur
	major     bool   // common enough to be looked for without other marks
}

const (
	len12to19 = 0xff << 12
	len16to19 = 0xf << 16
	len14to19 = 0x3f << 14
)

// issuers is ordered; the first range that holds the number wins, so the
// narrow ranges stand before the wide ones.
var issuers = [...]issuer{
	{100000, 199999, UATP, 1 << 15, false},
	{220000, 220499, Mir, len16to19, true},
	{222100, 272099, Mastercard, 1 << 16, true},
	{300000, 305999, Diners, len14to19, true},
	{309500, 309599, Diners, len14to19, true},
	{340000, 349999, AmericanExpress, 1 << 15, true},
	{352800, 358999, JCB, len16to19, true},
	{360000, 369999, Diners, len14to19, true},
	{370000, 379999, AmericanExpress, 1 << 15, true},
	{380000, 399999, Diners, len14to19, true},
	{400000, 499999, Visa, 1<<13 | 1<<16 | 1<<19, true},
	{501900, 501999, Dankort, 1 << 16, true},
	{506099, 506198, Verve, 1<<16 | 1<<18 | 1<<19, true},
	{506700, 506799, Elo, 1 << 16, true},
	{508500, 508999, RuPay, 1 << 16, true},
	{509000, 509999, Elo, 1 << 16, true},
	{510000, 559999, Mastercard, 1 << 16, true},
	{500000, 509999, Maestro, len12to19, false},
	{560000, 589999, Maestro, len12to19, false},
	{601100, 601199, Discover, len16to19, true},
	{606282, 606282, Hipercard, 1<<13 | 1<<16 | 1<<19, true},
	{606985, 607984, RuPay, 1 << 16, true},
	{608001, 608500, RuPay, 1 << 16, true},
	{620000, 629999, UnionPay, len16to19, true},
	{636297, 636297, Elo, 1 << 16, true},
	{636368, 636368, Elo, 1 << 16, true},
	{644000, 649999, Discover, len16to19, true},
	{650000, 659999, Discover, len16to19, true},
	{810000, 819999, UnionPay, len16to19, true},
	{979200, 979299, Troy, 1 << 16, true},
	{600000, 699999, Maestro, len12to19, false},
}

// byFirst[d] is the window of issuers whose ranges may begin with digit d.
var byFirst = func() (index [10][2]int) {
	for d := range index {
		index[d] = [2]int{len(issuers), 0}
		for i, r := range issuers {
			if r.low/100000 <= d && d <= r.high/100000 {
				index[d][0] = min(index[d][0], i)
				index[d][1] = max(index[d][1], i+1)
			}
		}
	}
	return index
}()

// lookup returns the range that digits begin with and whether their number
// fits it. len(digits) is at least six and all are digits.
func lookup(digits []byte) (issuer, bool) {
	six := 0
	for _, c := range digits[:6] {
		six = six*10 + int(c-'0')
	}
	window := byFirst[six/100000]
	for i := window[0]; i < window[1]; i++ {
		if r := &issuers[i]; six >= r.low && six <= r.high {
			return *r, len(digits) < 32 && r.lengths&(1<<len(digits)) != 0
		}
	}
	return issuer{}, false
}

// BrandOf returns the brand whose issuer range and length fit the number, or
// Unknown. It looks at no check digit.
func BrandOf(pan string) Brand {
	if len(pan) < 12 || len(pan) > 19 || !allDigits(pan) {
		return Unknown
	}
	if r, ok := lookup([]byte(pan)); ok {
		return r.brand
	}
	return Unknown
}

// IsPAN reports whether s is a payment card number: 12 to 19 digits with an
// issuer range and length of the table and a right check digit.
func IsPAN(s string) bool { return BrandOf(s) != Unknown && Luhn([]byte(s)) }

// doubled[d] is the digit sum of 2d.
var doubled = [10]byte{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}

// Luhn reports whether the decimal digits end in the right check digit
// (ISO/IEC 7812-1 annex B). Fewer than two digits, or anything that is not a
// digit, is false.
func Luhn(digits []byte) bool {
	if len(digits) < 2 {
		return false
	}
	sum, twice := 0, false
	for i := len(digits) - 1; i >= 0; i-- {
		d := digits[i] - '0'
		if d > 9 {
			return false
		}
		if twice {
			d = doubled[d]
		}
		sum += int(d)
		twice = !twice
	}
	return sum%10 == 0
}
