package seal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tillbridge/p2pe"
	"tillbridge/p2pe/profile"
)

// ErrPinnedKey says that a public key is not the one that is pinned, or of a
// kind that is not accepted.
var ErrPinnedKey error = p2pe.NewFault("keys.pinned_key", "seal: the public key is refused")

// JWE encrypts clear card data to a public key whose private half the acquirer
// holds: RSA-OAEP-256 for RSA keys of 2048 bits or more, ECDH-ES for keys on
// P-256, P-384 or P-521, always with A256GCM. There is no counter and no secret
// on this machine. It is safe for concurrent use.
type JWE struct {
	encrypter jose.Encrypter
	serial    string
	now       func() time.Time
}

// JWEOptions are the settings of [NewJWE].
type JWEOptions struct {
	// KeyID is the "kid" by which the acquirer knows the key. Required.
	KeyID string
	// Thumbprint is the SHA-256 of the key's PKIX form in hex: the pin, which
	// came another way than the key. Required.
	Thumbprint string
	// Serial names the reader in each envelope.
	Serial string
	// Now gives "iat"; time.Now by default.
	Now func() time.Time
}

// NewJWE parses a public key in PKIX form (DER) and refuses it with
// [ErrPinnedKey] when it is not the pinned one or too weak.
func NewJWE(pkix []byte, o *JWEOptions) (*JWE, error) {
	pin, err := hex.DecodeString(o.Thumbprint)
	sum := sha256.Sum256(pkix)
	if err != nil || subtle.ConstantTimeCompare(pin, sum[:]) != 1 {
		return nil, fmt.Errorf("%w: its thumbprint is %x: if the acquirer changed its key, pin that one after asking them", ErrPinnedKey, sum)
	}
	if o.KeyID == "" {
		return nil, fmt.Errorf("%w: it has no key id: set the one the acquirer gave", ErrPinnedKey)
	}
	key, err := x509.ParsePKIXPublicKey(pkix)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no key in PKIX form", ErrPinnedKey)
	}
	to := jose.Recipient{KeyID: o.KeyID, Key: key}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return nil, fmt.Errorf("%w: RSA of %d bits, at least 2048 are needed", ErrPinnedKey, key.N.BitLen())
		}
		to.Algorithm = jose.RSA_OAEP_256
	case *ecdsa.PublicKey:
		if c := key.Curve; c != elliptic.P256() && c != elliptic.P384() && c != elliptic.P521() {
			return nil, fmt.Errorf("%w: its curve is none of P-256, P-384 and P-521", ErrPinnedKey)
		}
		to.Algorithm = jose.ECDH_ES
	default:
		return nil, fmt.Errorf("%w: it is neither RSA nor EC", ErrPinnedKey)
	}
	j := &JWE{serial: o.Serial, now: o.Now}
	if j.now == nil {
		j.now = time.Now
	}
	j.encrypter, err = jose.NewEncrypter(jose.A256GCM, to, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPinnedKey, err)
	}
	return j, nil
}

// appendClaims appends the JSON that the acquirer finds in the JWE: "iat",
// "serial", and of "pan", "track1", "track2" what the reader gave. It is
// written here so that no copy of the data is left in strings.
func appendClaims(dst []byte, issued int64, serial string, c *Clear) []byte {
	dst = strconv.AppendInt(append(dst, `{"iat":`...), issued, 10)
	dst = appendMember(dst, "serial", []byte(serial))
	dst = appendMember(dst, "pan", c.PAN)
	dst = appendMember(dst, "track1", c.Track1)
	dst = appendMember(dst, "track2", c.Track2)
	return append(dst, '}')
}

// appendMember appends a member whose value is printable ASCII; what else a
// serial number may hold is left out.
func appendMember(dst []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(append(append(dst, `,"`...), name...), `":"`...)
	for _, b := range value {
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b >= 0x20 && b <= 0x7e:
			dst = append(dst, b)
		}
	}
	return append(dst, '"')
}

// Encrypt makes an envelope of c and erases c, also when it fails. Times are
// in seconds since 1970, inside the encrypted part ("iat").
func (j *JWE) Encrypt(c *Clear) (p2pe.Envelope, error) {
	defer c.Erase()
	e := p2pe.Envelope{Scheme: p2pe.SchemeJWE, DeviceProfile: profile.Software, DeviceSerial: j.serial, EncryptionState: "software"}
	if err := c.describe(&e); err != nil {
		return p2pe.Envelope{}, err
	}
	plain := appendClaims(make([]byte, 0, 1024), j.now().Unix(), j.serial, c)
	o, err := j.encrypter.Encrypt(plain)
	clear(plain)
	if err != nil {
		return p2pe.Envelope{}, fmt.Errorf("seal: encrypt to the pinned key: %w", err)
	}
	if e.JWE, err = o.CompactSerialize(); err != nil {
		return p2pe.Envelope{}, fmt.Errorf("seal: write the JWE: %w", err)
	}
	return e, nil
}
