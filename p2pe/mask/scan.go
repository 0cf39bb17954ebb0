package mask

import "sort"

// Form is how a found number was written.
type Form string

// The forms that [Scan] tells apart.
const (
	FormASCII   Form = "ascii"   // digits, perhaps with separators
	FormUTF16   Form = "utf16"   // digits with zero bytes between them
	FormTrack1  Form = "track1"  // ISO/IEC 7813 track 1, number to end sentinel
	FormTrack2  Form = "track2"  // track 2 with "=" or "D"
	FormHex     Form = "hex"     // the hex form of ASCII or UTF-16 digits
	FormDecimal Form = "decimal" // decimal byte values, as %v prints a slice
	FormBase64  Form = "base64"  // any of these under base64
	FormBCD     Form = "bcd"     // two digits a byte
)

// Finding is one card number in scanned bytes. It says where, never what.
type Finding struct {
	Start, End int // byte range [Start, End)
	Form       Form
	Brand      Brand
}

// Scan returns the card numbers in data, ordered by Start and not overlapping.
// It returns nil for nothing.
func Scan(data []byte) []Finding {
	s := scanner{data: data}
	s.text(data, nil, "", 0)
	s.bcd(data, 0)
	return s.result()
}

// ScanText is [Scan] without the search for packed binary digits: what log
// lines, JSON and other text need.
func ScanText(text string) []Finding {
	s := scanner{}
	s.text([]byte(text), nil, "", 0)
	return s.result()
}

// Contains reports whether text holds a card number.
func Contains(text string) bool { return len(ScanText(text)) > 0 }

// scanner collects findings over one input.
type scanner struct {
	data  []byte
	found []Finding
}

func (s *scanner) add(start, end int, form Form, brand Brand) {
	s.found = append(s.found, Finding{start, end, form, brand})
}

func (s *scanner) result() []Finding {
	if len(s.found) < 2 {
		return s.found
	}
	sort.SliceStable(s.found, func(i, j int) bool { return s.found[i].Start < s.found[j].Start })
	out := s.found[:1]
	for _, f := range s.found[1:] {
		last := &out[len(out)-1]
		if f.Start < last.End {
			last.End = max(last.End, f.End)
			continue
		}
		out = append(out, f)
	}
	return out
}

// span maps offsets of a derived text back to the input: a nil map is the
// identity, else at[i] is where byte i came from.
type span []int

func (m span) start(i int) int {
	if m == nil {
		return i
	}
	return m[i]
}

func (m span) end(i int) int {
	if m == nil || i == 0 {
		return i
	}
	return m[i-1] + 1
}

// text looks for every textual form in b. form overrides the form of what is
// found (for derived texts), depth counts the base64 layers above.
func (s *scanner) text(b []byte, at span, form Form, depth int) {
	digits, zeros, blob := survey(b)
	if digits >= 12 {
		t := view{s: s, b: b, at: at, form: form}
		t.digits()
		t.hexPairs()
		if zeros >= 6 && widened(b) {
			if u, uat := dropZeros(b, at); u != nil {
				f := form
				if f == "" {
					f = FormUTF16
				}
				t := view{s: s, b: u, at: uat, form: f}
				t.digits()
				t.hexPairs()
			}
		}
	}
	if blob && depth < 2 {
		s.base64(b, at, depth)
	}
}

// Character classes of the scanner.
const (
	isDigit  = 1 << iota
	isHex    // 0-9 A-F a-f
	isBase64 // both alphabets
	isSep    // may stand between the digits of one number
	isLetter // A-Z a-z
	isPrint  // printable ASCII, tab, line ends
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= '0' && c <= '9':
			t[c] = isDigit | isHex | isBase64
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			t[c] = isHex | isBase64 | isLetter
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] = isBase64 | isLetter
		case c == '+', c == '/', c == '_', c == '-':
			t[c] = isBase64
		}
		switch c {
		case ' ', '-', '.', ',', ':', '_', '/', '\t', '\r', '\n', '*', '|', ';', '\'', '"', '+', '~', 0xA0, 0xC2,
			// Bytes of the wider, thinner and empty spaces and of the dashes of UTF-8:
			// U+2000 to U+2015, U+202F, U+2060, U+2212, U+3000, U+FEFF.
			0xE2, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F,
			0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0xAF, 0xE3, 0xEF, 0xBB, 0xBF:
			t[c] |= isSep
		}
		if c >= 0x20 && c < 0x7f || c == '\t' || c == '\n' || c == '\r' {
			t[c] |= isPrint
		}
	}
	return t
}()

// survey counts what decides which searches are worth their time: digits, zero
// bytes, and whether some run of the base64 alphabet is long enough for one.
func survey(b []byte) (digits, zeros int, blob bool) {
	run := 0
	for _, c := range b {
		k := class[c]
		if k&isDigit != 0 {
			digits++
		}
		if k&isBase64 != 0 {
			run++
			if run >= base64Least {
				blob = true
			}
			continue
		}
		run = 0
		if c == 0 {
			zeros++
		}
	}
	return digits, zeros, blob
}

// widened reports whether digits stand in b with one zero byte or three
// between them, six in a row.
func widened(b []byte) bool {
	for step := 2; step <= 4; step += 2 {
		for phase := range step {
			run := 0
			for i := phase; i < len(b); i += step {
				if class[b[i]]&isDigit == 0 || i+1 < len(b) && b[i+1] != 0 {
					run = 0
					continue
				}
				if run++; run == 6 {
					return true
				}
			}
		}
	}
	return false
}

// dropZeros returns b without the zero bytes and where each byte came from.
func dropZeros(b []byte, at span) ([]byte, span) {
	u := make([]byte, 0, len(b))
	m := make(span, 0, len(b))
	for i, c := range b {
		if c != 0 {
			u = append(u, c)
			m = append(m, at.start(i))
		}
	}
	return u, m
}
