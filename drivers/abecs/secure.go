package abecs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"tillbridge/drivers/frame"
)

// ErrChannel is a packet of the secure channel that cannot be trusted, or a
// clear one where an encrypted one is due. The device has to be opened again.
var ErrChannel = errors.New("abecs: the secure channel is broken; open the device again")

// secureMark begins the payload of an encrypted packet.
const secureMark = 0x12

// Channel is the key of the secure channel. It encrypts with AES-128-CBC under
// an initial vector of zero: length and [frame.XModem] of the clear packet in
// two bytes each, the packet, zeros to a multiple of 16. It prints as "***".
type Channel struct{ block cipher.Block }

// NewChannel makes the channel of a session key of 16 bytes.
func NewChannel(key []byte) (*Channel, error) {
	if len(key) != 16 {
		return nil, fmt.Errorf("%w: session key of %d bytes", ErrChannel, len(key))
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, ErrChannel
	}
	return &Channel{block: b}, nil
}

// AppendSealed appends the encrypted packet of a clear one.
func (c *Channel) AppendSealed(dst, clear []byte) []byte {
	crc := frame.XModem.Sum(clear)
	from := len(dst)
	dst = append(dst, secureMark, byte(len(clear)>>8), byte(len(clear)), byte(crc>>8), byte(crc))
	dst = append(dst, clear...)
	for (len(dst)-from-1)%aes.BlockSize != 0 {
		dst = append(dst, 0)
	}
	// CBC by hand: the library's allocates for each packet.
	var zero [aes.BlockSize]byte
	before := zero[:]
	for body := dst[from+1:]; len(body) > 0; body = body[aes.BlockSize:] {
		b := body[:aes.BlockSize]
		subtle.XORBytes(b, b, before)
		c.block.Encrypt(b, b)
		before = b
	}
	return dst
}

// AppendOpened appends the clear packet of an encrypted one. The two must not
// overlap.
func (c *Channel) AppendOpened(dst, packet []byte) ([]byte, error) {
	if len(packet) < 1+aes.BlockSize || packet[0] != secureMark || (len(packet)-1)%aes.BlockSize != 0 {
		return dst, fmt.Errorf("%w: not a packet of the channel", ErrChannel)
	}
	from := len(dst)
	dst = append(dst, packet[1:]...)
	clear := dst[from:]
	for i := 0; i < len(clear); i += aes.BlockSize {
		b := clear[i : i+aes.BlockSize]
		c.block.Decrypt(b, b)
		if i > 0 {
			subtle.XORBytes(b, b, packet[1+i-aes.BlockSize:1+i])
		}
	}
	n := int(clear[0])<<8 | int(clear[1])
	if n > len(clear)-4 || len(clear)-4-n >= aes.BlockSize {
		return dst[:from], fmt.Errorf("%w: length does not fit", ErrChannel)
	}
	if frame.XModem.Sum(clear[4:4+n]) != uint16(clear[2])<<8|uint16(clear[3]) {
		return dst[:from], fmt.Errorf("%w: checksum differs", ErrChannel)
	}
	copy(clear, clear[4:4+n])
	return dst[:from+n], nil
}

// String returns "***".
func (*Channel) String() string { return "***" }

// GoString returns "***".
func (*Channel) GoString() string { return "***" }

// openBlock is the block of a secure OPN: mode 0, modulus of 256 bytes and
// exponent in hex.
func openBlock(key *rsa.PublicKey) []byte {
	e := big.NewInt(int64(key.E)).Bytes()
	return fmt.Appendf(nil, "0256%s%d%s", strings.ToUpper(hex.EncodeToString(key.N.FillBytes(make([]byte, 256)))),
		len(e), strings.ToUpper(hex.EncodeToString(e)))
}

// errNoChannel is an old pad: it answers OPN without data.
var errNoChannel = errors.New("abecs: the pad has no secure channel; card data cannot be protected on the line; use a pad of protocol 2.12 or later")

// openedChannel reads the answer to a secure OPN.
func openedChannel(r Response, key *rsa.PrivateKey) (*Channel, error) {
	b := r.Block(0)
	if b == nil {
		return nil, errNoChannel
	}
	if len(b) != 3+512 || string(b[:3]) != "256" {
		return nil, fmt.Errorf("%w: answer to OPN", ErrMalformed)
	}
	sealed := make([]byte, 256)
	if _, err := hex.Decode(sealed, b[3:]); err != nil {
		return nil, fmt.Errorf("%w: answer to OPN", ErrMalformed)
	}
	//lint:ignore SA1019 the protocol knows no other padding, and a failure ends the open
	session, err := rsa.DecryptPKCS1v15(rand.Reader, key, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: session key does not open", ErrChannel)
	}
	return NewChannel(session)
}
