package acquirer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/dukpt"
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

// panOf reads the card number from deciphered data: packed digits as in tag 57
// (D or F ends the number), or text, with or without sentinels. Packed digits
// are tried first: text of twelve digits or more is never a packed number,
// because it would have over nineteen digits.
func panOf(clear []byte) (string, error) {
	packed := func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
	for _, text := range []string{packed(clear), packed(bytes.TrimRight(clear, "\x00")),
		strings.TrimPrefix(strings.TrimLeft(strings.TrimRightFunc(string(clear), func(r rune) bool { return r == 0 || r == ' ' || r == 0xFFFD }), ";%"), "B")} {
		if i := strings.IndexAny(text, "=^?DF"); i >= 0 {
			text = text[:i]
		}
		if len(text) >= 12 && len(text) <= 19 && number(text) && luhn(text) {
			return text, nil
		}
	}
	return "", errNoCard
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
	mu     sync.Mutex
	bases  map[p2pe.Scheme]*bdk.Base
	issuer cryptogram.Issuer
	jwe    recipient // made once, never replaced
}

func newKeys(k Keys) (*keys, error) {
	jwe, err := newRecipient()
	if err != nil {
		return nil, err
	}
	ks := &keys{jwe: jwe}
	return ks, ks.set(k)
}

// NewKeys returns fresh base keys of 16 bytes for one run, beside the issuer
// keys of the virtual cards, which are published test keys.
func NewKeys() Keys {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return Keys{TDESBDK: hex.EncodeToString(b[:16]), AESBDK: hex.EncodeToString(b[16:])}
}

func (k *keys) set(given Keys) error {
	bases := map[p2pe.Scheme]*bdk.Base{}
	for scheme, text := range map[p2pe.Scheme]string{p2pe.SchemeTDESDUKPT: given.TDESBDK, p2pe.SchemeAESDUKPT: given.AESBDK} {
		if text == "" {
			continue
		}
		raw, err := hex.DecodeString(text)
		if err != nil {
			return fmt.Errorf("sandbox: the base key of %s is not hex", scheme)
		}
		base, err := bdk.New(scheme, raw)
		clear(raw)
		if err != nil {
			return fmt.Errorf("sandbox: the base key of %s: %w", scheme, err)
		}
		bases[scheme] = base
	}
	issuer := cryptogram.TestIssuer()
	for _, p := range []struct {
		text string
		to   *cryptogram.Key
	}{{given.IssuerAC, &issuer.AC}, {given.IssuerMAC, &issuer.MAC}, {given.IssuerEnc, &issuer.Enc}} {
		if p.text == "" {
			continue
		}
		key, err := cryptogram.ParseKey(p.text)
		if err != nil {
			return fmt.Errorf("sandbox: an issuer key: %w", err)
		}
		*p.to = key
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bases, k.issuer = bases, issuer
	return nil
}

// SetKeys replaces the base keys.
func (h *Host) SetKeys(k Keys) error { return h.keys.set(k) }

// InitialKey returns the initial key of the device that a key serial number
// names, as hex, to be loaded into a virtual pad. It is this host's own
// injection room: the key must not be logged.
func (h *Host) InitialKey(ksn string) (string, error) {
	serial, err := p2pe.ParseKSN(ksn)
	if err != nil {
		return "", err
	}
	base, err := h.keys.base(serial)
	if err != nil {
		return "", err
	}
	key, err := base.Initial(serial)
	if err != nil {
		return "", err
	}
	defer clear(key)
	return strings.ToUpper(hex.EncodeToString(key)), nil
}

// base returns the base key for a serial number: ten bytes (or eight, without
// its FFFF) are TDES, twelve are AES.
func (k *keys) base(serial p2pe.KSN) (*bdk.Base, error) {
	scheme := p2pe.SchemeTDESDUKPT
	if len(serial) == 24 {
		scheme = p2pe.SchemeAESDUKPT
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if b := k.bases[scheme]; b != nil {
		return b, nil
	}
	return nil, errNoKey
}

func (k *keys) transaction(ksn string) (*dukpt.Transaction, error) {
	serial, err := p2pe.ParseKSN(ksn)
	if err != nil {
		return nil, err
	}
	base, err := k.base(serial)
	if err != nil {
		return nil, err
	}
	return base.Transaction(serial)
}

// decipher opens one ciphertext of an envelope under its transaction's key.
func (k *keys) decipher(e envelope, ct []byte) ([]byte, error) {
	t, err := k.transaction(e.ksn)
	if err != nil {
		return nil, err
	}
	if e.algorithm == "" {
		e.algorithm = "TDEA"
		if len(e.ksn) == 24 {
			e.algorithm = "AES-128"
		}
	}
	kind, ok := map[string]dukpt.KeyType{"AES-128": dukpt.AES128, "AES-192": dukpt.AES192, "AES-256": dukpt.AES256,
		"TDEA": dukpt.TDES2, "TDEA-2": dukpt.TDES2, "TDEA-3": dukpt.TDES3}[e.algorithm]
	if !ok {
		return nil, fmt.Errorf("%w: algorithm %q", errNoKey, e.algorithm)
	}
	variant := e.variant
	if variant == "" {
		variant = p2pe.VariantDataRequest
		if len(e.ksn) == 24 {
			variant = p2pe.VariantAESDataEncrypt
		}
	}
	key, err := bdk.DataKey(t, variant, kind)
	if err != nil {
		return nil, err
	}
	defer key.Erase()
	block, err := blockCipher(key.Bytes(), strings.HasPrefix(e.algorithm, "AES")) // some readers use AES under a TDES DUKPT key
	if err != nil {
		return nil, err
	}
	n := block.BlockSize()
	if len(ct) == 0 || len(ct)%n != 0 {
		return nil, bad("a ciphertext of %d bytes", len(ct))
	}
	out := make([]byte, len(ct))
	switch e.mode {
	case "ECB":
		for i := 0; i < len(ct); i += n {
			block.Decrypt(out[i:], ct[i:])
		}
	case "CBC", "":
		iv := e.iv
		if len(iv) == 0 {
			iv = make([]byte, n)
		}
		if len(iv) != n {
			return nil, bad("an initialisation vector of %d bytes", len(iv))
		}
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, ct)
	default:
		return nil, fmt.Errorf("%w: mode %q", errNoKey, e.mode)
	}
	if e.padding == "iso9797-2" {
		if i := bytes.LastIndexByte(out, 0x80); i >= 0 {
			out = out[:i]
		}
	}
	return out, nil
}

func blockCipher(key []byte, isAES bool) (cipher.Block, error) {
	if isAES {
		return aes.NewCipher(key)
	}
	if len(key) == 16 {
		key = append(bytes.Clone(key), key[:8]...)
	}
	return des.NewTripleDESCipher(key)
}

// pin opens a PIN block. Its text holds no digit of PIN or card.
func (k *keys) pin(ksn string, format int, block []byte, pan string) (string, error) {
	t, err := k.transaction(ksn)
	if err != nil {
		return "", err
	}
	return bdk.PIN(t, format, block, pan)
}

// verify checks the card's cryptogram and keeps what answers it. psn is DE23,
// of which tag 5F34 takes precedence.
func (k *keys) verify(chip []byte, c *cardData, psn string) error {
	if v, ok := tlv.Find(chip, 0x5F34); ok && len(v) == 1 {
		psn = fmt.Sprintf("%02X", v[0])
	}
	if len(psn) > 2 {
		psn = psn[len(psn)-2:]
	}
	k.mu.Lock()
	issuer := k.issuer
	k.mu.Unlock()
	v, err := issuer.Verify(cryptogram.Request{PAN: c.pan, PSN: psn, Data: chip})
	if err != nil {
		return err
	}
	c.answer = v.Answer
	return nil
}
