package mask

// The longest tracks of ISO/IEC 7813, in characters.
const (
	longestTrack1 = 79
	longestTrack2 = 40
)

// track judges a run that ends before a track's field separator and reports
// the whole track.
func (v *view) track(g group, before, after byte) bool {
	b := v.b
	d := b[g.start:g.end]
	rest := b[g.end+1:]
	start := g.start
	if after == '^' {
		if before == 'B' || before == 'b' {
			start--
			if v.before(start) == '%' {
				start--
			}
		}
		marked := start < g.start && len(d) <= 19
		r, ok := endsInPAN(d)
		if !marked && !ok {
			return false
		}
		v.report(start, v.trackEnd(g.end, longestTrack1, FormTrack1), FormTrack1, r.brand)
		return true
	}
	if !expiry(rest) {
		return false
	}
	if after != '=' && (len(rest) < 7 || class[rest[4]]&class[rest[5]]&class[rest[6]]&isDigit == 0) {
		return false // "D" is a hex digit as well: ask for the service code
	}
	if before == ';' {
		start--
	}
	marked := start < g.start && len(d) <= 19
	r, ok := endsInPAN(d)
	if !marked && !ok {
		return false
	}
	v.report(start, v.trackEnd(g.end, longestTrack2, FormTrack2), FormTrack2, r.brand)
	return true
}

// endsInPAN reports whether some tail of d is a card number: a dump may hold
// tag and length digits before it.
func endsInPAN(d []byte) (issuer, bool) {
	if r, ok := plain(d); ok {
		return r, true
	}
	for n := min(19, len(d)); n >= 12; n-- {
		at := len(d) - n
		if r, ok := plain(d[at:]); ok && (r.major || at >= 4 && d[at-4] == '5' && d[at-3] == '7') {
			return r, true
		}
	}
	return issuer{}, false
}

// trackEnd returns where the track whose separator stands at sep ends: behind
// the end sentinel, or before the first character that no track has.
func (v *view) trackEnd(sep, longest int, form Form) int {
	b := v.b
	i := sep + 1
	for ; i < len(b) && i-sep < longest; i++ {
		c := b[i]
		if c == '?' {
			return i + 1
		}
		if form == FormTrack1 && (c < 0x20 || c > 0x5f) && c != '^' && class[c]&isLetter == 0 {
			break
		}
		if form == FormTrack2 && class[c]&isDigit == 0 && c != '=' && c != 'F' && c != 'f' && c != 'D' {
			break
		}
	}
	return i
}

// trackTail extends a grouped number by the track that follows it.
func (v *view) trackTail(start, end int) {
	switch v.after(end) {
	case '^':
		v.report(start, v.trackEnd(end, longestTrack1, FormTrack1), FormTrack1, "")
	case '=':
		v.report(start, v.trackEnd(end, longestTrack2, FormTrack2), FormTrack2, "")
	}
}
