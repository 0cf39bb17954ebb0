package acquirer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ErrMessage is matched by every error of the decoder. Its texts name elements
// and offsets, never values.
var ErrMessage = errors.New("sandbox: not an ISO 8583 message")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMessage, fmt.Sprintf(format, args...))
}

// form is one way to write ISO 8583 messages.
type form struct {
	header int    // bytes before the MTI
	mti    string // ascii, bcd, ebcdic
	bitmap string // binary, hex, ebcdic hex
	items  map[int]item
}

// item is the packing of one data element.
type item struct {
	max    int    // digits, characters or bytes
	prefix string // "", ascii, bcd, ebcdic
	digits int    // of the length prefix
	kind   string // ascii, ebcdic, raw, hex, left, right, track, signed
	pad    byte   // filler nibble of right-padded kinds
}

// message is a decoded message. Values are text or raw bytes as the item says.
type message struct {
	header []byte
	mti    string
	de     map[int][]byte
}

func (m message) text(id int) string { return string(m.de[id]) }

var kinds = map[string]string{"ascii": "ascii", "ebcdic": "ebcdic", "raw bytes": "raw", "hex text": "hex",
	"bcd left-padded": "left", "bcd right-padded": "right", "bcd track nibbles right-padded": "track", "sign byte then bcd": "signed"}

// parseItem reads "fix N kind" or "var len=P digits=D data=kind", the notation
// of the vector files and of the tables in forms.go.
func parseItem(id int, s string) (item, error) {
	f := strings.Fields(s)
	var it item
	var kind string
	switch {
	case len(f) >= 3 && f[0] == "fix":
		n, err := strconv.Atoi(f[1])
		if err != nil || n < 1 {
			return it, fmt.Errorf("sandbox: DE%d: %q", id, s)
		}
		it.max, kind = n, strings.Join(f[2:], " ")
	case len(f) >= 4 && f[0] == "var":
		it.prefix = strings.TrimPrefix(f[1], "len=")
		n, err := strconv.Atoi(strings.TrimPrefix(f[2], "digits="))
		if err != nil || n < 1 || n > 6 || it.prefix != "ascii" && it.prefix != "bcd" && it.prefix != "ebcdic" {
			return it, fmt.Errorf("sandbox: DE%d: %q", id, s)
		}
		it.digits, it.max = n, longest(id, n)
		kind = strings.TrimPrefix(strings.Join(f[3:], " "), "data=")
	default:
		return it, fmt.Errorf("sandbox: DE%d: %q", id, s)
	}
	if k, ok := strings.CutSuffix(kind, " F"); ok {
		kind, it.pad = k, 0x0F
	}
	if it.kind = kinds[kind]; it.kind == "" {
		return it, fmt.Errorf("sandbox: DE%d: kind %q", id, kind)
	}
	return it, nil
}

// longest is the greatest length that the standard allows a variable element.
func longest(id, digits int) int {
	switch id {
	case 2:
		return 19
	case 32, 33:
		return 11
	case 34, 102, 103:
		return 28
	case 35:
		return 37
	case 36:
		return 104
	}
	n := 1
	for range digits {
		n *= 10
	}
	return n - 1
}

// reader takes bytes from the front of a message.
type reader struct {
	b   []byte
	off int
}

func (r *reader) take(n int, what string) ([]byte, error) {
	if n < 0 || n > len(r.b)-r.off {
		return nil, bad("%s needs %d bytes at offset %d, %d are left", what, n, r.off, len(r.b)-r.off)
	}
	v := r.b[r.off : r.off+n]
	r.off += n
	return v, nil
}

// decode reads a whole message; every byte must belong to it.
func (f form) decode(b []byte) (message, error) {
	r := &reader{b: b}
	m := message{de: map[int][]byte{}}
	header, err := r.take(f.header, "header")
	if err != nil {
		return m, err
	}
	m.header = slices.Clone(header)
	mti, err := r.value(item{max: 4, kind: map[string]string{"ascii": "ascii", "bcd": "left", "ebcdic": "ebcdic"}[f.mti]}, "MTI")
	if err != nil {
		return m, err
	}
	if m.mti = string(mti); !number(m.mti) {
		return m, bad("the MTI is not four digits")
	}
	var present []int
	for base, more := 0, true; more; base += 64 {
		kind := map[string]string{"binary": "raw", "hex": "hex", "ebcdic hex": "ebcdic hex"}[f.bitmap]
		bits, err := r.value(item{max: 8, kind: kind}, "bitmap")
		if err != nil {
			return m, err
		}
		more = bits[0]&0x80 != 0
		if base == 128 && more {
			return m, bad("a fourth bitmap")
		}
		for i := 1; i < 64; i++ {
			if bits[i/8]&(0x80>>(i%8)) != 0 {
				present = append(present, base+i+1)
			}
		}
	}
	for _, id := range present {
		it, ok := f.items[id]
		if !ok {
			return m, bad("DE%d is not used here", id)
		}
		v, err := r.value(it, "DE"+strconv.Itoa(id))
		if err != nil {
			return m, err
		}
		m.de[id] = v
	}
	if r.off != len(b) {
		return m, bad("%d bytes are left after the last element", len(b)-r.off)
	}
	return m, nil
}

// value reads one value with its length.
func (r *reader) value(it item, what string) ([]byte, error) {
	n := it.max
	if it.prefix != "" {
		size := it.digits
		if it.prefix == "bcd" {
			size = (it.digits + 1) / 2
		}
		p, err := r.take(size, what+" length")
		if err != nil {
			return nil, err
		}
		if n, err = length(p, it.prefix); err != nil {
			return nil, bad("%s: the length is not a number", what)
		}
		if n > it.max {
			return nil, bad("%s: length %d is over %d", what, n, it.max)
		}
	}
	switch it.kind {
	case "ascii", "raw":
		v, err := r.take(n, what)
		return slices.Clone(v), err
	case "ebcdic":
		v, err := r.take(n, what)
		return fromEBCDIC(v), err
	case "hex", "ebcdic hex":
		v, err := r.take(2*n, what)
		if err != nil {
			return nil, err
		}
		if it.kind != "hex" {
			v = fromEBCDIC(v)
		}
		raw := make([]byte, n)
		if _, err := hex.Decode(raw, v); err != nil {
			return nil, bad("%s is not hex", what)
		}
		return raw, nil
	case "signed":
		sign, err := r.take(1, what)
		if err != nil {
			return nil, err
		}
		rest, err := r.value(item{max: n, kind: "left"}, what)
		return append(slices.Clone(sign), rest...), err
	}
	v, err := r.take((n+1)/2, what)
	if err != nil {
		return nil, err
	}
	nib := make([]byte, 0, 2*len(v))
	for _, c := range v {
		nib = append(nib, c>>4, c&0x0F)
	}
	if it.kind == "left" {
		nib = nib[len(nib)-n:]
	}
	out := make([]byte, n)
	for i, c := range nib[:n] {
		if c > 9 && it.kind != "track" {
			return nil, bad("%s: a nibble over 9", what)
		}
		out[i] = "0123456789ABCDEF"[c]
	}
	return out, nil
}

func length(p []byte, kind string) (int, error) {
	n := 0
	for _, c := range p {
		switch kind {
		case "bcd":
			if c>>4 > 9 || c&0x0F > 9 {
				return 0, ErrMessage
			}
			n = n*100 + int(c>>4)*10 + int(c&0x0F)
			continue
		case "ebcdic":
			c -= 0xC0
		}
		if c < '0' || c > '9' {
			return 0, ErrMessage
		}
		n = n*10 + int(c-'0')
	}
	return n, nil
}

// encode writes a message.
func (f form) encode(m message) ([]byte, error) {
	out := slices.Clone(m.header)
	mti, err := put(item{max: 4, kind: map[string]string{"ascii": "ascii", "bcd": "left", "ebcdic": "ebcdic"}[f.mti]}, []byte(m.mti))
	if err != nil {
		return nil, err
	}
	out = append(out, mti...)
	ids := slices.Sorted(maps.Keys(m.de))
	bits := make([]byte, 8)
	if len(ids) > 0 && ids[len(ids)-1] > 64 {
		bits = append(bits, make([]byte, 8)...)
		bits[0] |= 0x80
	}
	for _, id := range ids {
		bits[(id-1)/8] |= 0x80 >> ((id - 1) % 8)
	}
	switch f.bitmap {
	case "binary":
		out = append(out, bits...)
	default:
		text := []byte(strings.ToUpper(hex.EncodeToString(bits)))
		if f.bitmap == "ebcdic hex" {
			text = toEBCDIC(text)
		}
		out = append(out, text...)
	}
	for _, id := range ids {
		it, ok := f.items[id]
		if !ok {
			return nil, bad("DE%d is not used here", id)
		}
		v, err := put(it, m.de[id])
		if err != nil {
			return nil, fmt.Errorf("DE%d: %w", id, err)
		}
		out = append(out, v...)
	}
	return out, nil
}

func put(it item, v []byte) ([]byte, error) {
	n := len(v)
	if it.kind == "signed" {
		n--
	}
	var out []byte
	switch {
	case it.prefix == "" && n != it.max, n > it.max:
		return nil, bad("%d of %d", n, it.max)
	case it.prefix == "ascii":
		out = fmt.Appendf(nil, "%0*d", it.digits, n)
	case it.prefix == "ebcdic":
		out = toEBCDIC(fmt.Appendf(nil, "%0*d", it.digits, n))
	case it.prefix == "bcd":
		out, _ = hex.DecodeString(fmt.Sprintf("%0*d", (it.digits+1)/2*2, n))
	}
	nibbles := string(v)
	switch it.kind {
	case "ascii", "raw":
		return append(out, v...), nil
	case "ebcdic":
		return append(out, toEBCDIC(v)...), nil
	case "hex":
		return append(out, strings.ToUpper(hex.EncodeToString(v))...), nil
	case "signed":
		out, nibbles = append(out, v[0]), nibbles[1:]
	}
	if it.kind == "track" {
		nibbles = strings.ReplaceAll(nibbles, "=", "D")
	} else if !number(nibbles) {
		return nil, bad("a character that is not a digit")
	}
	if len(nibbles)%2 == 1 {
		if it.kind == "right" || it.kind == "track" {
			nibbles += string("0123456789ABCDEF"[it.pad])
		} else {
			nibbles = "0" + nibbles
		}
	}
	raw, err := hex.DecodeString(nibbles)
	if err != nil {
		return nil, bad("a character that is not a digit")
	}
	return append(out, raw...), nil
}

// check judges values: digits, track 2 characters, dates, response codes.
func (m message) check() error {
	if m.mti[0] > '2' || strings.IndexByte("12345678", m.mti[1]) < 0 {
		return bad("MTI of no known class")
	}
	for _, id := range []int{2, 3, 4, 11, 32, 33} {
		if !number(m.text(id)) {
			return bad("DE%d is not a number", id)
		}
	}
	if t := strings.Trim(m.text(35), ";B?F"); strings.Trim(t, "0123456789=D") != "" || strings.Count(t, "=")+strings.Count(t, "D") > 1 {
		return bad("DE35 is not track 2")
	}
	if v := m.text(7); v != "" && (len(v) != 10 || !number(v) || v[:2] > "12" || v[2:4] > "31" || v[4:6] > "23" || v[6:8] > "59") {
		return bad("DE7 is no date and time")
	}
	if v := m.text(12); len(v) == 6 && (!number(v) || v[:2] > "23" || v[2:4] > "59") {
		return bad("DE12 is no time")
	}
	if v := m.text(13); len(v) == 4 && (!number(v) || v[:2] > "12" || v[2:] > "31") {
		return bad("DE13 is no date")
	}
	for _, c := range m.text(39) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return bad("DE39 is no response code")
		}
	}
	return nil
}

func number(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// ebcdicText are the printable characters of code page 037 that messages use.
var ebcdicText = func() (to [256]byte) {
	for i := range to {
		to[i] = 0x3F
	}
	for i, c := range []byte("abcdefghi") {
		to[c], to[c-0x20] = 0x81+byte(i), 0xC1+byte(i)
	}
	for i, c := range []byte("jklmnopqr") {
		to[c], to[c-0x20] = 0x91+byte(i), 0xD1+byte(i)
	}
	for i, c := range []byte("stuvwxyz") {
		to[c], to[c-0x20] = 0xA2+byte(i), 0xE2+byte(i)
	}
	for i, c := range []byte("0123456789") {
		to[c] = 0xF0 + byte(i)
	}
	for c, e := range map[byte]byte{' ': 0x40, '.': 0x4B, '<': 0x4C, '(': 0x4D, '+': 0x4E, '&': 0x50, '$': 0x5B, '*': 0x5C, ')': 0x5D, ';': 0x5E,
		'-': 0x60, '/': 0x61, ',': 0x6B, '%': 0x6C, '_': 0x6D, '>': 0x6E, '?': 0x6F, ':': 0x7A, '#': 0x7B, '@': 0x7C, '\'': 0x7D, '=': 0x7E, '"': 0x7F} {
		to[c] = e
	}
	return to
}()

func toEBCDIC(s []byte) []byte {
	out := make([]byte, len(s))
	for i, c := range s {
		out[i] = ebcdicText[c]
	}
	return out
}

func fromEBCDIC(s []byte) []byte {
	out := make([]byte, len(s))
	for i, c := range s {
		out[i] = '?'
		for a, e := range ebcdicText {
			if e == c && c != 0x3F {
				out[i] = byte(a)
			}
		}
	}
	return out
}
