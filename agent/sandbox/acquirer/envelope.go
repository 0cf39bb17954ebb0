package acquirer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"tillbridge/p2pe/dukpt"
)

// What a till's own software sends has no reader behind it that vouches for it:
// under DUKPT it carries a MAC, which is required; a JWE carries its own.

var errMAC = errors.New("sandbox: the MAC over the card data is missing or wrong")

// softwareProfile is the second part of table KE for such data.
const softwareProfile = "software"

// checkMAC verifies table CM over what was sent: a CMAC under the transaction's
// MAC key (X9.24-3 usage 2000) over "tillbridge-envelope/1", a zero byte, and
// each field behind its length of four bytes. The parts that are in no other
// table come in KD, each behind a length of one byte.
func (k *keys) checkMAC(e envelope, t tables) error {
	clear, ok := clearParts(t["KD"])
	if !ok {
		return errMAC
	}
	data := []byte("tillbridge-envelope/1\x00")
	add := func(fields ...string) {
		for _, f := range fields {
			data = append(binary.BigEndian.AppendUint32(data, uint32(len(f))), f...)
		}
	}
	add(e.scheme, e.profile, clear[0], e.ksn, e.variant, e.algorithm, e.mode, string(e.iv), e.padding,
		string(e.pan), string(e.track1), string(e.track2), string(e.tlv57), "")
	add(clear[1:]...)
	tx, err := k.transaction(e.ksn)
	if err != nil {
		return err
	}
	key, err := dukpt.Working(tx, dukpt.MACGenerate, dukpt.AES128)
	if err != nil {
		return err
	}
	defer key.Erase()
	mac, err := cmac(key.Bytes(), data)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(mac, t["CM"]) != 1 {
		return errMAC
	}
	return nil
}

// clearParts reads table KD: serial, masked number, BIN, last four, service
// code, PAR, what was said of the encryption.
func clearParts(b []byte) ([]string, bool) {
	var out []string
	for len(b) > 0 {
		n := int(b[0])
		if n > len(b)-1 {
			return nil, false
		}
		out = append(out, string(b[1:1+n]))
		b = b[1+n:]
	}
	return out, len(out) == 7
}

// cmac is NIST SP 800-38B with AES.
func cmac(key, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	const n = aes.BlockSize
	double := func(b []byte) []byte {
		out, carry := make([]byte, n), byte(0)
		for i := n - 1; i >= 0; i-- {
			out[i] = b[i]<<1 | carry
			carry = b[i] >> 7
		}
		out[n-1] ^= 0x87 * carry
		return out
	}
	last := make([]byte, n)
	block.Encrypt(last, last)
	last = double(last)
	if len(data) == 0 || len(data)%n != 0 {
		last = double(last)
		data = append(append([]byte{}, data...), 0x80)
		for len(data)%n != 0 {
			data = append(data, 0)
		}
	}
	mac := make([]byte, n)
	for at := 0; at < len(data); at += n {
		for i := range mac {
			mac[i] ^= data[at+i]
			if at+n == len(data) {
				mac[i] ^= last[i]
			}
		}
		block.Encrypt(mac, mac)
	}
	return mac, nil
}

// recipient is the host's key for JWE and how clients name and pin it.
type recipient struct {
	key                    *ecdh.PrivateKey
	id, public, thumbprint string
}

// newRecipient makes a key on P-256 for one run.
func newRecipient() (recipient, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return recipient{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	if err != nil {
		return recipient{}, err
	}
	sum := sha256.Sum256(der)
	return recipient{key: key, id: "sandbox-" + hex.EncodeToString(sum[:4]), thumbprint: hex.EncodeToString(sum[:]),
		public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, nil
}

// open deciphers a JWE in compact form: ECDH-ES in direct mode with A256GCM
// (RFC 7518 sections 4.6 and 5.3) and nothing else.
func (r *recipient) open(compact string) ([]byte, error) {
	fail := func(what string) ([]byte, error) { return nil, fmt.Errorf("sandbox: the JWE's %s", what) }
	parts := strings.Split(compact, ".")
	if len(parts) != 5 {
		return fail("form is not compact")
	}
	raw := make([][]byte, 5)
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return fail("parts are not base64url")
		}
	}
	var h struct {
		Alg, Enc, Kid string
		Epk           struct{ Kty, Crv, X, Y string }
	}
	if json.Unmarshal(raw[0], &h) != nil || h.Alg != "ECDH-ES" || h.Enc != "A256GCM" || h.Kid != r.id || h.Epk.Crv != "P-256" || len(raw[1]) != 0 {
		return fail("header is not ECDH-ES, A256GCM and our key")
	}
	x, errX := base64.RawURLEncoding.DecodeString(h.Epk.X)
	y, errY := base64.RawURLEncoding.DecodeString(h.Epk.Y)
	peer, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, x...), y...))
	if errX != nil || errY != nil || err != nil {
		return fail("ephemeral key is none")
	}
	z, err := r.key.ECDH(peer)
	if err != nil {
		return fail("ephemeral key is none")
	}
	// Concat KDF (NIST SP 800-56A 5.8.1): one round gives 256 bits.
	input := append([]byte{0, 0, 0, 1}, z...)
	for _, field := range []string{h.Enc, "", ""} {
		input = append(binary.BigEndian.AppendUint32(input, uint32(len(field))), field...)
	}
	key := sha256.Sum256(binary.BigEndian.AppendUint32(input, 256))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil || len(raw[2]) != gcm.NonceSize() {
		return fail("initialisation vector has a wrong length")
	}
	clear, err := gcm.Open(nil, raw[2], append(raw[3], raw[4]...), []byte(parts[0]))
	if err != nil {
		return fail("tag is wrong")
	}
	return clear, nil
}

// openJWE reads the card number from the claims of a JWE.
func (k *keys) openJWE(compact string) (cardData, error) {
	clear, err := k.jwe.open(compact)
	if err != nil {
		return cardData{}, err
	}
	var claims struct{ PAN, Track1, Track2 string }
	if json.Unmarshal(clear, &claims) != nil {
		return cardData{}, errNoCard
	}
	for _, text := range []string{claims.Track2, claims.PAN, claims.Track1} {
		if text == "" {
			continue
		}
		pan, err := panOf([]byte(text))
		return cardData{pan: pan}, err
	}
	return cardData{}, errNoCard
}
