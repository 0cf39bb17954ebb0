package zvt

import "unicode/utf8"

// Charset is how the terminal codes text: [CP437] unless it agreed to another
// (tag 14: n means ISO 8859-n).
type Charset byte

// Charsets. Only Latin-1 of the ISO family is read; of the others the ASCII
// half is.
const (
	CP437  Charset = 0xFF
	Latin1 Charset = 0x01
)

// cp437 holds the characters 80 to FF of code page 437.
var cp437 = []rune("ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0")

// Text decodes text of the terminal. Control characters become spaces; a NUL
// ends it.
func (c Charset) Text(b []byte) string { return string(c.appendText(nil, b)) }

func (c Charset) appendText(dst, b []byte) []byte {
	for _, x := range b {
		switch {
		case x == 0:
			return dst
		case x < 0x20 || x == 0x7F:
			dst = append(dst, ' ')
		case x < 0x80:
			dst = append(dst, x)
		case c == CP437:
			dst = utf8.AppendRune(dst, cp437[x-0x80])
		case c == Latin1 && x >= 0xA0:
			dst = utf8.AppendRune(dst, rune(x))
		default:
			dst = append(dst, '?')
		}
	}
	return dst
}

// Append encodes text for the terminal; what the charset lacks becomes '?'.
func (c Charset) Append(dst []byte, text string) []byte {
next:
	for _, r := range text {
		switch {
		case r >= 0x20 && r < 0x7F:
			dst = append(dst, byte(r))
			continue
		case c == Latin1 && r >= 0xA0 && r <= 0xFF:
			dst = append(dst, byte(r))
			continue
		case c == CP437:
			for i, have := range cp437 {
				if have == r {
					dst = append(dst, byte(0x80+i))
					continue next
				}
			}
		}
		dst = append(dst, '?')
	}
	return dst
}
