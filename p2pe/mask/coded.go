package mask

import "encoding/base64"

// hexPairs finds the hex form of ASCII or UTF-16 digits: pairs 30 to 39, with
// zero pairs and separators (" ", ":", ",", "0x", "\x", "%") between them.
func (v *view) hexPairs() {
	b := v.b
	skip := [2]int{} // chains already walked, by parity of their start
	for i := 0; i+24 <= len(b); i++ {
		if b[i] != '3' || class[b[i+1]]&isDigit == 0 || i < skip[i&1] {
			continue
		}
		var digits [64]byte
		n, at, last := 0, i, i
		for at+1 < len(b) && n < len(digits) {
			c, d := b[at], b[at+1]
			if c == '3' && class[d]&isDigit != 0 {
				digits[n] = d
				n++
				at += 2
				last = at
				continue
			}
			if c == '0' && d == '0' || c == '2' && (d == '0' || d == 'd' || d == 'D' || d == 'e' || d == 'E') {
				at += 2 // a zero byte, a space, a dash or a dot
				continue
			}
			if k := filler(b[at:]); k > 0 && at-last < 8 {
				at += k
				continue
			}
			break
		}
		if n >= 12 {
			v.decoded(digits[:n], i, last, FormHex)
		}
		if n > 1 {
			skip[i&1] = last
			if n == len(digits) {
				skip[i&1] = last - 40
			}
		}
	}
}

// filler returns the length of what may stand between two hex pairs.
func filler(b []byte) int {
	switch b[0] {
	case ' ', ':', ',', '-', '%', '[', '\t', '\n', '\r':
		return 1
	case '0':
		if len(b) > 1 && (b[1] == 'x' || b[1] == 'X') {
			return 2
		}
	case '\\':
		if len(b) > 1 && (b[1] == 'x' || b[1] == 'u') {
			return 2
		}
	}
	return 0
}

// base64Least is the shortest run of the base64 alphabet that is decoded:
// seven packed bytes of a card number give ten characters.
const base64Least = 10

// base64 decodes each run of either alphabet and searches what comes out.
func (s *scanner) base64(b []byte, at span, depth int) {
	for i := 0; i < len(b); {
		if class[b[i]]&isBase64 == 0 {
			i++
			continue
		}
		j, lower, upper, hexOnly, url, digits := i, false, false, true, false, 0
		for j < len(b) && class[b[j]]&isBase64 != 0 {
			c := b[j]
			lower = lower || c >= 'a' && c <= 'z'
			upper = upper || c >= 'A' && c <= 'Z'
			hexOnly = hexOnly && class[c]&isHex != 0
			url = url || c == '_' || c == '-'
			if class[c]&isDigit != 0 {
				digits++
			}
			j++
		}
		token := b[i:j]
		if len(token) >= base64Least && upper && !hexOnly && 5*digits < 3*len(token) && !uuidAt(b, i) {
			s.base64Token(token, i, at, url, lower, depth)
		}
		i = j
	}
}

// base64Token decodes a token in pieces. A token may be glued to other text,
// so the other three phases are tried where the characters that digits give
// stand in step.
func (s *scanner) base64Token(token []byte, offset int, at span, url, mixed bool, depth int) {
	enc := base64.RawStdEncoding
	if url {
		enc = base64.RawURLEncoding
	}
	const piece, step = 1024, 768
	var buf [piece]byte
	for phase := range 4 {
		if phase >= len(token) || phase > 0 && !(mixed && digitPhase(token[phase:])) {
			continue
		}
		t := token[phase:]
		for from := 0; from < len(t); from += step {
			part := t[from:min(len(t), from+piece)]
			if len(part)%4 == 1 {
				part = part[:len(part)-1]
			}
			n, _ := enc.Decode(buf[:], part)
			if n < 7 {
				break
			}
			start := at.start(offset + phase + from)
			end := at.end(offset + phase + from + len(part))
			if phase == 0 {
				s.packedInside(buf[:n], from, start, end)
			}
			inner := scanner{}
			inner.text(buf[:n], nil, "", depth+1)
			for _, f := range inner.found {
				s.add(start, end, FormBase64, f.Brand)
			}
			if from+piece >= len(t) {
				break
			}
		}
	}
}

// packedInside searches decoded bytes for packed digits.
func (s *scanner) packedInside(b []byte, base, start, end int) {
	inner := scanner{}
	inner.bcd(b, base)
	for _, f := range inner.found {
		s.add(start, end, FormBase64, f.Brand)
	}
}

// digitPhase reports whether three characters four apart could each begin
// three ASCII digits.
func digitPhase(t []byte) bool {
	run := 0
	for i := 0; i < len(t); i += 4 {
		if c := t[i]; c == 'M' || c == 'N' || c == 'O' {
			run++
			if run == 3 {
				return true
			}
		} else {
			run = 0
		}
	}
	return false
}

// bcd finds packed digits in binary data: at a byte border, with a mark on
// each side that random bytes rarely show. before the number: the start, a
// zero byte, tag 5A or 57 with its length, the LLVAR length, or text; behind
// it: the end, a zero byte, a pad nibble, or a separator nibble and an expiry.
func (s *scanner) bcd(b []byte, base int) {
	for i := 0; i+7 <= len(b); i++ {
		if b[i]>>4 > 9 || b[i]&15 > 9 || b[i+5]>>4 > 9 || b[i+3]>>4 > 9 || b[i+1]>>4 > 9 {
			continue
		}
		var d [20]byte
		n := 0
		for k := i; k < len(b) && n < 20; k++ {
			if b[k]>>4 > 9 {
				break
			}
			d[n] = '0' + b[k]>>4
			n++
			if n == 20 || b[k]&15 > 9 {
				break
			}
			d[n] = '0' + b[k]&15
			n++
		}
		if n < 13 {
			continue
		}
		tagged := i >= 2 && (b[i-2] == 0x5A && b[i-1] >= 6 && b[i-1] <= 10 || b[i-2] == 0x57 && b[i-1] >= 6 && b[i-1] <= 20)
		alone := base == 0 && len(b) <= 10
		if !tagged && !alone && text(b[i:i+n/2]) {
			continue // letters and digits are packed digits too
		}
		if brand, size, ok := packed(b, i, d[:n], base == 0); ok {
			s.add(i, i+(size+1)/2, FormBCD, brand)
			i += size/2 - 1
		}
	}
}

// packed judges the digits that begin at byte i.
func packed(b []byte, i int, d []byte, whole bool) (Brand, int, bool) {
	length, exact := 0, false // a length that stands before, in bytes
	left := i == 0 && whole
	amid := false // text stands before
	switch {
	case i >= 2 && (b[i-2] == 0x5A || b[i-2] == 0x57) && b[i-1] >= 6 && b[i-1] <= 20:
		length, exact = int(b[i-1]), b[i-2] == 0x5A
		left = true
	case i >= 1 && b[i-1] == 0:
		left = true
	case i >= 1 && b[i-1] >= 0x12 && b[i-1] <= 0x19:
		left = true // LLVAR in packed digits; its length is checked below
	case i >= 3 && class[b[i-1]]&class[b[i-2]]&class[b[i-3]]&isPrint != 0:
		left, amid = true, true
	}
	if !left {
		return Unknown, 0, false
	}
	for n := min(19, len(d)); n >= 13; n-- {
		r, ok := plain(d[:n])
		if !ok || !r.major {
			continue
		}
		if exact && (n+1)/2 == length {
			return r.brand, n, true
		}
		if i >= 1 && int(b[i-1]>>4)*10+int(b[i-1]&15) == n && b[i-1] >= 0x12 {
			return r.brand, n, true
		}
		if i >= 1 && b[i-1] >= 0x12 && b[i-1] <= 0x19 && !amid && length == 0 {
			continue
		}
		end := i + n/2 // byte that holds the nibble behind the number
		switch {
		case n%2 == 1:
			low := b[end] & 15
			if low == 0xF && (end+1 == len(b) || length > 0 || b[end+1] == 0 || amid && printable(b[end+1:])) ||
				low == 0xD && packedExpiry(b[end+1:], 0) {
				return r.brand, n, true
			}
		case end == len(b) || b[end] == 0 && !zeroDigit(d, n) || b[end] == 0xFF:
			return r.brand, n, true
		case b[end]>>4 == 0xD && packedExpiry(b[end:], 1):
			return r.brand, n, true
		case amid && printable(b[end:]):
			return r.brand, n, true
		}
	}
	return Unknown, 0, false
}

// printable reports whether the next bytes, three of them if there are as
// many, are text.
func printable(b []byte) bool {
	for _, c := range b[:min(3, len(b))] {
		if class[c]&isPrint == 0 {
			return false
		}
	}
	return true
}

// text reports whether all bytes are printable.
func text(b []byte) bool {
	for _, c := range b {
		if class[c]&isPrint == 0 {
			return false
		}
	}
	return true
}

// zeroDigit reports whether the digits themselves end in zeros at n, where a
// zero byte behind them says nothing.
func zeroDigit(d []byte, n int) bool { return n > 2 && d[n-1] == '0' && d[n-2] == '0' && d[n-3] == '0' }

// packedExpiry reports whether four packed digits from nibble skip of b are a
// plausible YYMM.
func packedExpiry(b []byte, skip int) bool {
	var d [4]byte
	for k := range d {
		at := skip + k
		if at/2 >= len(b) {
			return false
		}
		nibble := b[at/2] >> 4
		if at%2 == 1 {
			nibble = b[at/2] & 15
		}
		if nibble > 9 {
			return false
		}
		d[k] = '0' + nibble
	}
	return expiry(d[:])
}
