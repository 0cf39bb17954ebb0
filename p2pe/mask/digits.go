package mask

// view is one text under search.
type view struct {
	s    *scanner
	b    []byte
	at   span
	form Form
}

// group is a maximal run of digits.
type group struct{ start, end int }

func (g group) len() int { return g.end - g.start }

const (
	maxGroups = 96 // groups of one cluster held at a time
	maxGap    = 5  // separator bytes between two groups of one number
)

func (v *view) report(start, end int, form Form, brand Brand) {
	if v.form != "" {
		form = v.form
	}
	v.s.add(v.at.start(start), v.at.end(end), form, brand)
}

// digits walks the runs of digits, gathers runs that only separators part into
// clusters, and judges each run and each cluster.
func (v *view) digits() {
	b := v.b
	var groups [maxGroups]group
	n, total := 0, 0
	for i := 0; i < len(b); {
		if class[b[i]]&isDigit == 0 {
			i++
			continue
		}
		if i > 0 && b[i-1] == '%' && escaped(b[i:]) {
			i += 2 // the digits of "%20" are a separator
			continue
		}
		g := group{start: i}
		for i < len(b) && class[b[i]]&isDigit != 0 {
			i++
		}
		g.end = i
		if g.len() >= 12 && !v.inUUID(g) {
			v.run(g)
		}
		if n > 0 && !v.joined(groups[n-1].end, g.start) {
			if total >= 12 && n > 1 {
				v.cluster(groups[:n])
			}
			n, total = 0, 0
		}
		if n == maxGroups {
			v.cluster(groups[:n])
			n = copy(groups[:], groups[maxGroups-24:])
		}
		groups[n] = g
		n++
		total += g.len()
	}
	if total >= 12 && n > 1 {
		v.cluster(groups[:n])
	}
}

// joined reports whether only separators stand in b[from:to], and few.
func (v *view) joined(from, to int) bool {
	if to-from > maxGap {
		return false
	}
	if to-from == 3 && v.b[from] == '%' && escaped(v.b[from+1:]) {
		return true
	}
	for _, c := range v.b[from:to] {
		if class[c]&isSep == 0 {
			return false
		}
	}
	return true
}

// escaped reports whether b begins with the two digits of a separator escaped
// as in a URL: space, plus, comma, dash, dot.
func escaped(b []byte) bool {
	if len(b) < 2 || b[0] != '2' {
		return false
	}
	switch b[1] {
	case '0', 'B', 'C', 'D', 'E', 'b', 'c', 'd', 'e':
		return true
	}
	return false
}

// plain reports whether digits are a card number as a whole.
func plain(digits []byte) (issuer, bool) {
	if len(digits) < 12 || len(digits) > 19 {
		return issuer{}, false
	}
	r, ok := lookup(digits)
	return r, ok && Luhn(digits) && !otherCode(digits)
}

// otherCode reports whether digits are rather a trade item number or a
// retrieval reference. One in ten of these has a right check digit of a card by
// chance, and lines of a receipt are full of them; cards of 12 to 14 digits are
// rare.
func otherCode(d []byte) bool {
	switch len(d) {
	case 12:
		// Retrieval reference (ISO 8583 field 37): last digit of the year, day
		// of the year, hour, six digits. Of the years whose digit begins an
		// issuer range, only those ending in 6 meet cards in use.
		day := int(d[1]-'0')*100 + int(d[2]-'0')*10 + int(d[3]-'0')
		hour := int(d[4]-'0')*10 + int(d[5]-'0')
		if d[0] == '6' && day >= 1 && day <= 366 && hour < 24 {
			return true
		}
		return gtin(d)
	case 13, 14:
		return gtin(d)
	}
	return false
}

// gtin reports whether digits end in the check digit of a trade item number:
// weights three and one from the right.
func gtin(d []byte) bool {
	sum := 0
	for i := range d {
		n := int(d[len(d)-1-i] - '0')
		if i%2 == 1 {
			n *= 3
		}
		sum += n
	}
	return sum%10 == 0
}

// run judges one unbroken run of twelve digits or more.
func (v *view) run(g group) {
	b := v.b
	d := b[g.start:g.end]
	before, after := v.before(g.start), v.after(g.end)

	// Track forms: what ends before a field separator is a number whatever its
	// issuer, when the sentinel stands before it; else by issuer and digit.
	if after == '^' || after == '=' || after == 'D' || after == 'd' {
		if v.track(g, before, after) {
			return
		}
	}
	word := class[before]&isLetter != 0 || class[after]&isLetter != 0
	if word {
		v.runInWord(g)
		return
	}
	if r, ok := plain(d); ok {
		v.report(g.start, g.end, FormASCII, r.brand)
		return
	}
	if v.padded(g) || v.counted(g) {
		return
	}
	if len(d) >= 20 {
		v.long(g)
	}
}

func (v *view) before(i int) byte {
	if i == 0 {
		return 0
	}
	return v.b[i-1]
}

func (v *view) after(i int) byte {
	if i >= len(v.b) {
		return 0
	}
	return v.b[i]
}

// padded finds a number that zeros lengthen: before it, or behind it where the
// run is longer than any number.
func (v *view) padded(g group) bool {
	d := v.b[g.start:g.end]
	lead := 0
	for lead < len(d) && d[lead] == '0' {
		lead++
	}
	d = d[lead:]
	if lead > 0 {
		if r, ok := plain(d); ok {
			v.report(g.start, g.end, FormASCII, r.brand)
			return true
		}
	}
	if g.len() < 20 {
		return false
	}
	for n := 19; n >= 14; n-- {
		if len(d) <= n || !zerosOnly(d[n:]) {
			continue
		}
		if r, ok := plain(d[:n]); ok && r.major {
			v.report(g.start, g.end, FormASCII, r.brand)
			return true
		}
	}
	return false
}

func zerosOnly(d []byte) bool {
	for _, c := range d {
		if c != '0' {
			return false
		}
	}
	return true
}

// counted finds a number behind its own length in two digits (LLVAR of ISO
// 8583), alone or with the next fields (six and twelve digits) behind it. The
// lengths 17 and 18 are left out: they are rare, and a time in nanoseconds
// begins with them.
func (v *view) counted(g group) bool {
	d := v.b[g.start:g.end]
	for at := 0; at+14 <= len(d) && (at == 0 || d[at-1] == '0'); at++ {
		n := int(d[at]-'0')*10 + int(d[at+1]-'0')
		rest := len(d) - at - 2 - n
		if n < 13 || n == 17 || n == 18 || n > 19 || rest != 0 && rest < 12 {
			continue
		}
		if r, ok := plain(d[at+2 : at+2+n]); ok && r.major {
			v.report(g.start+at, g.start+at+2+n, FormASCII, r.brand)
			return true
		}
	}
	return false
}

// long looks into a run of 20 digits or more: for a number followed by a
// plausible expiry at its start, and for any number of a major brand where the
// run has not the length of a key serial number.
func (v *view) long(g group) {
	d := v.b[g.start:g.end]
	for n := 16; n >= 15; n-- {
		if r, ok := plain(d[:n]); ok && r.major && expiry(d[n:]) {
			v.report(g.start, g.end, FormTrack2, r.brand)
			return
		}
	}
	if len(d) == 20 || len(d) == 24 {
		return
	}
	for i := 0; i+15 <= len(d); i++ {
		for n := 16; n >= 15; n-- {
			if i+n > len(d) {
				continue
			}
			if r, ok := plain(d[i : i+n]); ok && r.major {
				v.report(g.start+i, g.start+i+n, FormASCII, r.brand)
				i += n - 1
				break
			}
		}
	}
}

// expiry reports whether d begins with a plausible YYMM.
func expiry(d []byte) bool {
	if len(d) < 4 || class[d[0]]&class[d[1]]&class[d[2]]&class[d[3]]&isDigit == 0 {
		return false
	}
	month := int(d[2]-'0')*10 + int(d[3]-'0')
	return month >= 1 && month <= 12 && d[0] >= '1' && d[0] <= '5'
}

// runInWord judges a run that letters touch. In a hexadecimal word (an
// identifier, a key serial number, a dump) only a marked number counts; in any
// other word the whole run must be one.
func (v *view) runInWord(g group) {
	b := v.b
	d := b[g.start:g.end]
	from, to, hex := v.word(g)
	if !hex {
		if r, ok := plain(d); ok && r.major && len(d) >= 14 {
			v.report(g.start, g.end, FormASCII, r.brand)
			return
		}
		if len(d) >= 20 {
			v.padded(g)
		}
		return
	}
	if v.tagged(g) {
		return
	}
	// At the start, followed by the pad nibbles of packed digits.
	if g.start == from && padNibbles(b[g.end:to]) {
		if r, ok := plain(d); ok && r.major {
			v.report(g.start, to, FormASCII, r.brand)
			return
		}
	}
	// Behind one letter, as the format code of track 1. More letters than one
	// are the head of a key serial number (FFFF and sixteen digits).
	if g.end == to && g.start-from == 1 {
		if r, ok := plain(d); ok && r.major && len(d) >= 14 {
			v.report(g.start, g.end, FormASCII, r.brand)
		}
	}
}

func padNibbles(b []byte) bool {
	for _, c := range b {
		if c != 'F' && c != 'f' {
			return false
		}
	}
	return len(b) > 0
}

// word returns the letters and digits around g and whether all are hex digits.
func (v *view) word(g group) (from, to int, hex bool) {
	b := v.b
	from, to, hex = g.start, g.end, true
	const far = 512
	for from > 0 && g.start-from < far && class[b[from-1]]&(isLetter|isDigit) != 0 {
		from--
		hex = hex && class[b[from]]&isHex != 0
	}
	for to < len(b) && to-g.end < far && class[b[to]]&(isLetter|isDigit) != 0 {
		hex = hex && class[b[to]]&isHex != 0
		to++
	}
	return from, to, hex
}

// tagged finds EMV tag 5A with its length before or at the start of the run,
// as in a hex dump of TLV.
func (v *view) tagged(g group) bool {
	b := v.b
	d := b[g.start:g.end]
	// 5A 0A: nineteen digits and a pad nibble; the run begins behind the A.
	if g.start >= 4 && is5A(b[g.start-4:]) && b[g.start-2] == '0' && (b[g.start-1]|0x20) == 'a' && len(d) >= 19 {
		if r, ok := plain(d[:19]); ok {
			v.report(g.start, g.start+19, FormASCII, r.brand)
			return true
		}
	}
	if g.start < 2 || !is5A(b[g.start-2:]) || len(d) < 2 || d[0] != '0' {
		return false
	}
	n := 2 * int(d[1]-'0')
	for ; n >= 12; n-- { // the last nibble may be a pad
		if len(d) >= 2+n {
			if r, ok := plain(d[2 : 2+n]); ok {
				v.report(g.start+2, g.start+2+n, FormASCII, r.brand)
				return true
			}
		}
	}
	return false
}

func is5A(b []byte) bool { return b[0] == '5' && (b[1] == 'A' || b[1] == 'a') }

// inUUID reports whether g lies in the text form of a UUID of a known version
// (RFC 9562) that has a letter in it, so that it cannot be a number.
func (v *view) inUUID(g group) bool {
	b := v.b
	// Of a UUID only the last group can hold twelve digits.
	if g.len() != 12 {
		return false
	}
	return uuidAt(b, g.end-36)
}

func uuidAt(b []byte, at int) bool {
	if at < 0 || at+36 > len(b) {
		return false
	}
	u := b[at : at+36]
	letters := false
	for i, c := range u {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if class[c]&isHex == 0 {
				return false
			}
			letters = letters || class[c]&isLetter != 0
		}
	}
	variant := u[19] | 0x20
	return letters && u[14] >= '1' && u[14] <= '8' && (u[19] == '8' || u[19] == '9' || variant == 'a' || variant == 'b')
}
