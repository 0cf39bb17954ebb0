// Package mask keeps card numbers out of everything that is written: it
// truncates a number for display and storage, finds numbers in text and bytes,
// and wraps the log and any io.Writer so that what slipped in does not come
// out.
//
// Use first: [PAN] for a number that is known to be one, [Redact] for free
// text, [NewHandler] around the log, [NewWriter] around a trace, [Scan] for
// bytes of unknown origin (bundles, API bodies, files), [Known] to prove in a
// test that one number is nowhere. [ParseWhitelist] loads the signed list of
// prefixes that a reader may send in clear.
//
// Sources: PCI DSS v4 requirements 3.4.1 and 3.5.1 and PCI SSC FAQ 1091 and
// 1492 for truncation; ISO/IEC 7812-1 for length, issuer number and check
// digit; ISO/IEC 7813 for the track forms.
//
// Limits: a number is recognised by length, issuer range and check digit, so
// one digit string in some hundreds that is no card is taken for one; dates,
// UUIDs, key serial numbers, trade item numbers (EAN, UPC) and retrieval
// references are not. A number buried without any mark
// inside exactly 20 or 24 digits, or inside random binary bytes, is not found
// ([Known] finds it there). Digits of other scripts, compressed and encrypted
// data are not looked into.
package mask

// fault is an error with a dotted code. The package stands alone, so that the
// CRM side, which knows no card data, may import it.
type fault struct{ code, text string }

func (f *fault) Error() string { return f.text }
func (f *fault) Code() string  { return f.code }

// ErrNotPAN says that a string is not 12 to 19 decimal digits. The text does
// not repeat the string.
var ErrNotPAN error = &fault{"card.not_a_number", "mask: not a card number of 12 to 19 digits: nothing of it is shown"}

// Hidden is printed where a number cannot be truncated safely.
const Hidden = "***"

// Truncated is what may be shown and stored of a card number.
type Truncated struct {
	First  string // leading digits, at most six (eight from [TruncateWide])
	Last   string // last four digits
	Length int    // digits of the whole number, 12 to 19
}

// String returns first digits, a star for each removed one, last digits.
func (t Truncated) String() string {
	gone := t.Length - len(t.First) - len(t.Last)
	if t.Length == 0 || gone < 4 {
		return Hidden
	}
	var room [19]byte
	b := append(room[:0], t.First...)
	for range gone {
		b = append(b, '*')
	}
	return string(append(b, t.Last...))
}

// Truncate keeps at most the first six and the last four digits of a number of
// 12 to 19 digits, by the number's length: at least six digits are removed
// (five for the 15 digits of American Express), so a short number shows fewer
// leading digits. Anything else is [ErrNotPAN] and yields the zero value.
func Truncate(pan string) (Truncated, error) { return truncate(pan, 6) }

// TruncateWide keeps eight leading digits where the brand's rule allows it (16
// digits or more of Visa, Mastercard, Discover, JCB, UnionPay, Diners), else
// what [Truncate] keeps. Two truncations of one number must not meet in one
// place: a store uses the one or the other, this product [Truncate].
func TruncateWide(pan string) (Truncated, error) { return truncate(pan, 8) }

func truncate(pan string, first int) (Truncated, error) {
	if len(pan) < 12 || len(pan) > 19 || !allDigits(pan) {
		return Truncated{}, ErrNotPAN
	}
	brand := BrandOf(pan)
	if first > 6 && (len(pan) < 16 || !brand.wide()) {
		first = 6
	}
	remove := 6
	switch {
	case brand == AmericanExpress && len(pan) == 15:
		remove = 5
	case first > 6:
		remove = 4
	}
	if most := len(pan) - 4 - remove; first > most {
		first = most
	}
	// A copy, so that what is kept does not keep the whole number in memory.
	kept := pan[:first] + pan[len(pan)-4:]
	return Truncated{First: kept[:first], Last: kept[first:], Length: len(pan)}, nil
}

// PAN returns the text form of [Truncate], or "***" when pan is not a card
// number: it never returns what it was not able to cut.
func PAN(pan string) string {
	t, err := Truncate(pan)
	if err != nil {
		return Hidden
	}
	return t.String()
}

// CheckMasked reports whether a masked number that a device sent shows no more
// than may be shown: 12 to 19 characters, each a digit or one of "*", "X",
// "x", at most eight leading and four trailing digits, none between, and at
// least four removed. The error does not repeat the text.
func CheckMasked(masked string) error {
	if len(masked) < 12 || len(masked) > 19 {
		return ErrNotPAN
	}
	lead, gone, tail := 0, 0, 0
	for i := range len(masked) {
		switch c := masked[i]; {
		case c == '*' || c == 'X' || c == 'x':
			if tail > 0 {
				return errMasked
			}
			gone++
		case c >= '0' && c <= '9':
			if gone == 0 {
				lead++
			} else {
				tail++
			}
		default:
			return errMasked
		}
	}
	if lead > 8 || tail > 4 || gone < 4 {
		return errMasked
	}
	return nil
}

var errMasked error = &fault{"card.clear_number", "mask: a masked card number shows more than first eight and last four digits: " +
	"set the device to mask, it is treated as a leak"}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
