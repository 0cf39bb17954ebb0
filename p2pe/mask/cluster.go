package mask

// cluster judges runs of digits that separators part. A number is taken when
// its groups have a shape in which numbers are written; figures that merely
// stand side by side (times, amounts, addresses) have none of them.
func (v *view) cluster(groups []group) {
	b := v.b
	var digits [20]byte
	for i := 0; i < len(groups); {
		end := 0 // one past the last group of the longest number from i
		var brand Brand
		n := 0
		for j := i; j < len(groups); j++ {
			if n+groups[j].len() > 19 {
				break
			}
			n += copy(digits[n:], b[groups[j].start:groups[j].end])
			if j == i || n < 12 || !v.shaped(groups[i:j+1], n) {
				continue
			}
			if r, ok := plain(digits[:n]); ok && (r.major || n >= 16) {
				end, brand = j+1, r.brand
			}
		}
		if end == 0 {
			i++
			continue
		}
		first, last := groups[i], groups[end-1]
		if !v.uuidOver(first.start, last.end) {
			v.report(first.start, last.end, FormASCII, brand)
			v.trackTail(first.start, last.end)
		}
		i = end
	}
	v.singles(groups)
	v.byteValues(groups)
	v.uneven(groups)
}

// shaped reports whether n digits in these groups are written as card numbers
// are: equal groups (the last may be shorter or carry up to three more), or
// one of the printed layouts 4-6-5, 4-6-4 and 6-13.
func (v *view) shaped(groups []group, n int) bool {
	size := groups[0].len()
	if len(groups) == 3 && size == 4 && groups[1].len() == 6 && (groups[2].len() == 5 || groups[2].len() == 4) {
		return true
	}
	if len(groups) == 2 && size == 6 && (groups[1].len() == 13 || groups[1].len() == 10) {
		return true
	}
	if size < 2 {
		return false
	}
	if size == 2 && n < 14 {
		return false
	}
	for _, g := range groups[1 : len(groups)-1] {
		if g.len() != size {
			return false
		}
	}
	last := groups[len(groups)-1].len()
	if last > size && (size != 4 || last > 7) {
		return false
	}
	if size >= 4 {
		return true
	}
	if size == 2 && last == 1 && v.after(groups[len(groups)-1].end)|0x20 != 'f' {
		return false // packed digits end in a pad nibble
	}
	return v.evenly(groups)
}

// evenly reports whether the same separator stands between all groups.
func (v *view) evenly(groups []group) bool {
	if len(groups) < 2 {
		return true
	}
	first := v.b[groups[0].end:groups[1].start]
	for i := 1; i+1 < len(groups); i++ {
		if string(v.b[groups[i].end:groups[i+1].start]) != string(first) {
			return false
		}
	}
	return true
}

// singles finds digits written one by one ("4 1 1 1 …").
func (v *view) singles(groups []group) {
	for i := 0; i < len(groups); {
		if groups[i].len() != 1 {
			i++
			continue
		}
		j := i + 1
		for j < len(groups) && groups[j].len() == 1 && v.evenly(groups[i:j+1]) {
			j++
		}
		if j-i >= 12 && j-i <= 24 {
			var digits [24]byte
			for k, g := range groups[i:j] {
				digits[k] = v.b[g.start]
			}
			d := digits[:j-i]
			lead := 0
			for lead < len(d) && d[lead] == '0' {
				lead++
			}
			if r, ok := plain(d[lead:]); ok {
				v.report(groups[i].start, groups[j-1].end, FormASCII, r.brand)
			}
		}
		i = j
	}
}

// byteValues finds "[52 49 49 …]", the decimal values of ASCII digits.
func (v *view) byteValues(groups []group) {
	var digits [64]byte
	n, from := 0, 0
	flush := func(to int) {
		if n >= 12 {
			v.decoded(digits[:n], groups[from].start, groups[to-1].end, FormDecimal)
		}
		n = 0
	}
	for i, g := range groups {
		value := byte(0)
		if g.len() == 2 {
			value = (v.b[g.start]-'0')*10 + v.b[g.start+1] - '0'
		}
		if value < '0' || value > '9' || n == len(digits) {
			flush(i)
		}
		if value >= '0' && value <= '9' {
			if n == 0 {
				from = i
			}
			digits[n] = value
			n++
		}
	}
	flush(len(groups))
}

// uneven finds a number in groups of any sizes when the same separator parts
// them all and nothing else stands in the cluster.
func (v *view) uneven(groups []group) {
	if len(groups) > 12 || len(groups) < 2 || !v.evenly(groups) {
		return
	}
	if len(groups) == 2 && v.b[groups[0].end] == '.' && v.after(groups[1].end)|0x20 != 'e' {
		return // a fraction; with an exponent it may be a number kept as a float
	}
	var digits [20]byte
	n := 0
	for _, g := range groups {
		if n+g.len() > 19 {
			return
		}
		n += copy(digits[n:], v.b[g.start:g.end])
	}
	if n < 15 || n > 16 {
		return
	}
	if r, ok := plain(digits[:n]); ok && r.major {
		v.report(groups[0].start, groups[len(groups)-1].end, FormASCII, r.brand)
	}
}

// decoded judges digits that were found in another form; they are a strong
// sign already, so a number may lie anywhere in them.
func (v *view) decoded(d []byte, start, end int, form Form) {
	if r, ok := plain(d); ok {
		v.report(start, end, form, r.brand)
		return
	}
	for i := 0; i+13 <= len(d); i++ {
		for n := min(19, len(d)-i); n >= 13; n-- {
			if r, ok := plain(d[i : i+n]); ok && r.major {
				v.report(start, end, form, r.brand)
				return
			}
		}
	}
}

// uuidOver reports whether [start, end) lies within a UUID.
func (v *view) uuidOver(start, end int) bool {
	for at := max(0, end-36); at <= start && at+36 <= len(v.b); at++ {
		if v.b[at+8] == '-' && uuidAt(v.b, at) {
			return true
		}
	}
	return false
}
