package mask

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// The errors of a whitelist. Each text says what to do.
var (
	// ErrWhitelist is matched by every error of [ParseWhitelist].
	ErrWhitelist error = &fault{"card.prefix_list", "mask: the list of clear prefixes is refused"}
	// ErrClearPAN says that a clear field holds a payment card number.
	ErrClearPAN error = &fault{"card.clear_number", "mask: a payment card number came in clear: dropped; " +
		"switch the reader's encryption on and check its list of clear prefixes"}
	// ErrNotListed says that a clear number has no prefix of the list.
	ErrNotListed error = &fault{"card.clear_unlisted", "mask: a number came in clear and its prefix is not on the signed list: dropped; " +
		"add the prefix to the list if the card is no payment card"}
)

const (
	whitelistHead = "tillbridge-clear-prefixes/1"
	signatureLine = "signature "
	longestPrefix = 12
)

// Whitelist is the signed list of prefixes of cards that are no payment cards
// (gift, loyalty, fuel), which a reader may send in clear. The zero value
// lists nothing. The list never opens a payment range: [Whitelist.Check]
// looks at issuer and check digit again whatever the list says.
type Whitelist struct {
	version  uint64
	prefixes []string
}

// Version returns the list's version, which only grows.
func (w *Whitelist) Version() uint64 { return w.version }

// ParseWhitelist reads a list and verifies its signature with key. The file is
// text: the line "tillbridge-clear-prefixes/1", "version N", one prefix of 6 to
// 12 digits a line, then "signature " and the base64 of the Ed25519 signature
// over every byte before that line. A version below least is an old list put
// back and is refused, and so is a prefix inside a range of payment cards.
func ParseWhitelist(file []byte, key ed25519.PublicKey, least uint64) (*Whitelist, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: no public key of 32 bytes is configured", ErrWhitelist)
	}
	at := bytes.LastIndex(file, []byte("\n"+signatureLine))
	if at < 0 {
		return nil, fmt.Errorf("%w: it has no signature line: fetch it again from who issued it", ErrWhitelist)
	}
	body := file[:at+1]
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(file[at+1+len(signatureLine):])))
	if err != nil || !ed25519.Verify(key, body, signature) {
		return nil, fmt.Errorf("%w: its signature is wrong: fetch it again from who issued it", ErrWhitelist)
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if len(lines) < 2 || lines[0] != whitelistHead {
		return nil, fmt.Errorf("%w: its first line is not %q", ErrWhitelist, whitelistHead)
	}
	number, ok := strings.CutPrefix(lines[1], "version ")
	version, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return nil, fmt.Errorf("%w: its second line has no version number", ErrWhitelist)
	}
	if version < least {
		return nil, fmt.Errorf("%w: version %d is older than version %d already in use", ErrWhitelist, version, least)
	}
	w := &Whitelist{version: version}
	for i, line := range lines[2:] {
		if len(line) < 6 || len(line) > longestPrefix || !allDigits(line) {
			return nil, fmt.Errorf("%w: line %d is not a prefix of 6 to 12 digits", ErrWhitelist, i+3)
		}
		if paymentPrefix(line) {
			return nil, fmt.Errorf("%w: line %d opens a range of payment cards", ErrWhitelist, i+3)
		}
		w.prefixes = append(w.prefixes, line)
	}
	return w, nil
}

// paymentPrefix reports whether numbers with this prefix are payment cards of
// a major brand.
func paymentPrefix(prefix string) bool {
	six, _ := strconv.Atoi(prefix[:6])
	for _, r := range issuers {
		if six >= r.low && six <= r.high {
			return r.major
		}
	}
	return false
}

// Check judges a field that a reader sent in clear. Text without twelve digits
// in a row passes. A payment card number in it, in any form of [Scan], is
// [ErrClearPAN] whatever the list says; another number must begin with a
// listed prefix, else [ErrNotListed]. The errors do not repeat the field.
func (w *Whitelist) Check(field []byte) error {
	for _, f := range Scan(field) {
		number := digitsOf(field[f.Start:f.End])
		plainForm := f.Form == FormASCII || f.Form == FormTrack1 || f.Form == FormTrack2
		if r, ok := plain(number); !plainForm || ok && r.major || !w.listed(number) {
			return ErrClearPAN
		}
	}
	for i := 0; i < len(field); {
		if class[field[i]]&isDigit == 0 {
			i++
			continue
		}
		j := i
		for j < len(field) && class[field[j]]&isDigit != 0 {
			j++
		}
		if j-i >= 12 && !w.listed(field[i:j]) {
			return ErrNotListed
		}
		i = j
	}
	return nil
}

func (w *Whitelist) listed(number []byte) bool {
	if w == nil {
		return false
	}
	for _, p := range w.prefixes {
		if bytes.HasPrefix(number, []byte(p)) {
			return true
		}
	}
	return false
}

// digitsOf returns the digits of a found number without separators, up to the
// field separator of a track.
func digitsOf(text []byte) []byte {
	var d []byte
	for _, c := range text {
		if len(d) > 0 && (c == '=' || c == '^' || c == 'D' || c == 'd') {
			break
		}
		if class[c]&isDigit != 0 {
			d = append(d, c)
		}
	}
	return d
}

// SignWhitelist appends the signature line to a list whose last line ends in a
// newline. It is for the tool of the issuer and for tests.
func SignWhitelist(body []byte, key ed25519.PrivateKey) []byte {
	line := signatureLine + base64.StdEncoding.EncodeToString(ed25519.Sign(key, body)) + "\n"
	return append(bytes.Clone(body), line...)
}
