package acquirer

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// Keys are the base keys of the host as hex, generated for one run. They print
// as "***".
type Keys struct {
	TDESBDK string `json:"tdes_bdk,omitempty"` // 16 bytes, X9.24-1
	AESBDK  string `json:"aes_bdk,omitempty"`  // 16, 24 or 32 bytes, X9.24-3
	// Issuer master keys of 16 bytes: cryptogram, script integrity, script
	// confidentiality.
	IssuerAC  string `json:"issuer_ac,omitempty"`
	IssuerMAC string `json:"issuer_mac,omitempty"`
	IssuerEnc string `json:"issuer_enc,omitempty"`
}

// String returns "***".
func (Keys) String() string { return "***" }

// Format prints "***" for every verb.
func (Keys) Format(f fmt.State, _ rune) { fmt.Fprint(f, "***") }

// LogValue returns "***".
func (Keys) LogValue() slog.Value { return slog.StringValue("***") }

// cardData is deciphered card data. It prints "***" and is never kept.
type cardData struct {
	pan    string
	answer func(code string, approved bool) ([]byte, error) // tag 91, nil without a verified cryptogram
}

func (cardData) String() string               { return "***" }
func (cardData) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "***") }
func (cardData) LogValue() slog.Value         { return slog.StringValue("***") }
func (cardData) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

// envelope is table KE with its ciphertexts.
type envelope struct {
	scheme, profile, variant, algorithm, mode, padding, ksn string
	iv, pan, track1, track2, tlv57                          []byte
}

var (
	errNoKey  = errors.New("sandbox: no key for this scheme")
	errNoCard = errors.New("sandbox: the clear text is no card data")
)

func parseEnvelope(ke string, t tables) (envelope, error) {
	f := strings.Split(ke, "|")
	if len(f) != 7 {
		return envelope{}, bad("table KE has %d parts", len(f))
	}
	return envelope{scheme: f[0], profile: f[1], variant: f[2], algorithm: f[3], mode: f[4], padding: f[5], ksn: f[6],
		iv: t["IV"], pan: t["CP"], track1: t["C1"], track2: t["C2"], tlv57: t["CT"]}, nil
}

// panOf reads the card number from deciphered data: packed nibbles (PAN, D or
// F) or text, with or without sentinels.
func panOf(clear []byte) (string, error) {
	text := string(clear)
	if len(clear) > 0 && (clear[0] == ';' || clear[0] == '%' || clear[0] == 'B' || clear[0] >= '0' && clear[0] <= '9' && strings.IndexFunc(text, func(r rune) bool { return r == '=' || r == '^' }) > 0) {
		text = strings.TrimLeft(text, ";%B")
	} else if all := strings.TrimRight(text, "\x00 "); len(all) >= 12 && number(all) {
		text = all
	} else {
		var b strings.Builder
		for _, c := range clear {
			b.WriteByte("0123456789=====F"[c>>4])
			b.WriteByte("0123456789=====F"[c&0x0F])
		}
		text = b.String()
	}
	if i := strings.IndexAny(text, "=^FD"); i >= 0 {
		text = text[:i]
	}
	if len(text) < 12 || len(text) > 19 || !number(text) || !luhn(text) {
		return "", errNoCard
	}
	return text, nil
}

func luhn(s string) bool {
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// open deciphers the card data of an envelope.
func (k *keys) open(e envelope) (cardData, error) {
	for _, ct := range [][]byte{e.track2, e.tlv57, e.pan, e.track1} {
		if len(ct) == 0 {
			continue
		}
		clear, err := k.decipher(e, ct)
		if err != nil {
			return cardData{}, err
		}
		pan, err := panOf(clear)
		clear = nil
		if err != nil {
			return cardData{}, err
		}
		return cardData{pan: pan}, nil
	}
	return cardData{}, errNoCard
}

// keys is what the host has of keys; SetKeys replaces it.
type keys struct {
	mu sync.Mutex
	k  Keys
}

func newKeys(k Keys) (*keys, error) { return &keys{k: k}, nil }

// SetKeys replaces the base keys.
func (h *Host) SetKeys(k Keys) error {
	h.keys.mu.Lock()
	defer h.keys.mu.Unlock()
	h.keys.k = k
	return nil
}
func (k *keys) decipher(e envelope, ct []byte) ([]byte, error) { return nil, errNoKey }
func (k *keys) pin(ksn string, format int, block []byte, pan string) (string, error) {
	return "", errNoKey
}
func (k *keys) verify(chip []byte, c *cardData, psn string) error { return errNoKey }
