package payment

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrAmount is matched by the errors about an amount that is not accepted.
var ErrAmount = errors.New("payment: amount not accepted")

// MaxMinor is the largest amount taken, in minor units: the twelve digits of
// ISO 8583 field 4 and EMV tag 9F02.
const MaxMinor = 999_999_999_999

// Money is an amount in minor units of a currency.
type Money struct {
	Minor    int64  `json:"minor"`    // minor units: cents for EUR, yen for JPY
	Currency string `json:"currency"` // ISO 4217 letters
}

// Check refuses an unknown currency and an amount that is zero, negative or
// longer than twelve digits.
func (m Money) Check() error {
	if _, err := LookupCurrency(m.Currency); err != nil {
		return err
	}
	if m.Minor <= 0 {
		return fmt.Errorf("%w: it must be greater than zero", ErrAmount)
	}
	if m.Minor > MaxMinor {
		return fmt.Errorf("%w: it has more than twelve digits", ErrAmount)
	}
	return nil
}

// Add returns m+n. Different currencies and an overflow are errors.
func (m Money) Add(n Money) (Money, error) {
	if m.Currency != n.Currency {
		return Money{}, fmt.Errorf("%w: two currencies in one sum", ErrAmount)
	}
	if (n.Minor > 0 && m.Minor > math.MaxInt64-n.Minor) || (n.Minor < 0 && m.Minor < math.MinInt64-n.Minor) {
		return Money{}, fmt.Errorf("%w: the sum does not fit", ErrAmount)
	}
	return Money{Minor: m.Minor + n.Minor, Currency: m.Currency}, nil
}

// String prints the amount in major units with its currency: "12.50 EUR",
// "1250 JPY". An unknown currency is printed in minor units and says so.
func (m Money) String() string {
	c, err := LookupCurrency(m.Currency)
	if err != nil {
		return fmt.Sprintf("%d minor units of %q", m.Minor, m.Currency)
	}
	sign, u := "", uint64(m.Minor)
	if m.Minor < 0 {
		sign, u = "-", uint64(-(m.Minor+1))+1
	}
	digits := fmt.Sprintf("%0*d", c.Exponent+1, u)
	if c.Exponent == 0 {
		return sign + digits + " " + c.Code
	}
	at := len(digits) - c.Exponent
	return sign + digits[:at] + "." + digits[at:] + " " + c.Code
}

// ParseMajor reads a decimal number of major units ("12.5") as minor units of
// a currency. It takes plain digits with at most one '.', and refuses signs,
// exponents and digits beyond the currency's minor unit.
func ParseMajor(s, currency string) (Money, error) {
	c, err := LookupCurrency(currency)
	if err != nil {
		return Money{}, err
	}
	whole, frac, dotted := strings.Cut(s, ".")
	if whole == "" || (dotted && frac == "") || len(frac) > c.Exponent || len(whole) > 12 {
		return Money{}, fmt.Errorf("%w: write digits with at most %d after the point", ErrAmount, c.Exponent)
	}
	frac += strings.Repeat("0", c.Exponent-len(frac))
	var minor int64
	for _, r := range whole + frac {
		if r < '0' || r > '9' {
			return Money{}, fmt.Errorf("%w: write digits with at most one point", ErrAmount)
		}
		minor = minor*10 + int64(r-'0')
		if minor > MaxMinor {
			return Money{}, fmt.Errorf("%w: it has more than twelve digits", ErrAmount)
		}
	}
	return Money{Minor: minor, Currency: currency}, nil
}

// Amounts are the parts of what the till asks for, in minor units of Currency.
// Total is what the cardholder pays and includes the others.
type Amounts struct {
	Total     int64  `json:"total"`
	Currency  string `json:"currency"`
	Tip       int64  `json:"tip,omitempty"`
	Cashback  int64  `json:"cashback,omitempty"`
	Surcharge int64  `json:"surcharge,omitempty"`
	Tax       int64  `json:"tax,omitempty"`
}

// Money is the total.
func (a Amounts) Money() Money { return Money{Minor: a.Total, Currency: a.Currency} }

// Check refuses a total that [Money.Check] refuses, a negative part, and parts
// that together exceed the total.
func (a Amounts) Check() error {
	if err := a.Money().Check(); err != nil {
		return err
	}
	left := a.Total
	for _, part := range []int64{a.Tip, a.Cashback, a.Surcharge, a.Tax} {
		if part < 0 {
			return fmt.Errorf("%w: a part of it is negative", ErrAmount)
		}
		if part > left {
			return fmt.Errorf("%w: its parts exceed the total", ErrAmount)
		}
		left -= part
	}
	return nil
}
