package iso8583

import "strconv"

// Check judges the values of an unpacked message: digits where ISO 8583:1987
// has them, track 2 characters, dates and times that exist (zero stands for
// "not known", as terminal hosts send it), no message type that is not known.
// Its error is a [*FormatError]. It does not ask for the presence of elements.
func (m Message) Check() error {
	if m.MTI[0] > '2' || m.MTI[1] < '1' || m.MTI[1] > '8' {
		return &FormatError{"check", 0, "no known class of message"}
	}
	for _, id := range []int{2, 3, 4, 5, 6, 11, 32, 33} {
		if !digits(m.Text(id), -1) {
			return &FormatError{"check", id, "holds a character that is not a digit"}
		}
	}
	if v, ok := m.Fields[35]; ok && !track2(v) {
		return &FormatError{"check", 35, "is not track 2 data"}
	}
	if v := m.Text(7); v != "" && !(digits(v, 10) && date(v[:4]) && clock(v[4:])) {
		return &FormatError{"check", 7, "is no date and time"}
	}
	if v := m.Text(12); len(v) == 6 && !(digits(v, 6) && clock(v)) {
		return &FormatError{"check", 12, "is no time"}
	}
	if v := m.Text(13); len(v) == 4 && !(digits(v, 4) && date(v)) {
		return &FormatError{"check", 13, "is no date"}
	}
	if v, ok := m.Fields[39]; ok {
		for _, c := range v {
			if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z') {
				return &FormatError{"check", 39, "is no response code"}
			}
		}
	}
	return nil
}

func track2(v []byte) bool {
	seps := 0
	for i, c := range v {
		switch {
		case c >= '0' && c <= '9':
		case c == '=' || c == 'D':
			seps++
		case (c == 'B' || c == ';') && i == 0, (c == 'F' || c == '?') && i == len(v)-1:
		default:
			return false
		}
	}
	return seps <= 1
}

func date(mmdd string) bool {
	month, _ := strconv.Atoi(mmdd[:2])
	day, _ := strconv.Atoi(mmdd[2:])
	return month <= 12 && day <= 31
}

func clock(hhmmss string) bool {
	return hhmmss[:2] < "24" && hhmmss[2:4] < "60" && hhmmss[4:] < "61"
}
