package abecs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
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
	body := dst[from+1:]
	cipher.NewCBCEncrypter(c.block, make([]byte, aes.BlockSize)).CryptBlocks(body, body)
	return dst
}

// AppendOpened appends the clear packet of an encrypted one.
func (c *Channel) AppendOpened(dst, packet []byte) ([]byte, error) {
	if len(packet) < 1+aes.BlockSize || packet[0] != secureMark || (len(packet)-1)%aes.BlockSize != 0 {
		return dst, fmt.Errorf("%w: not a packet of the channel", ErrChannel)
	}
	clear := make([]byte, len(packet)-1)
	cipher.NewCBCDecrypter(c.block, make([]byte, aes.BlockSize)).CryptBlocks(clear, packet[1:])
	n := int(clear[0])<<8 | int(clear[1])
	if n > len(clear)-4 || len(clear)-4-n >= aes.BlockSize {
		return dst, fmt.Errorf("%w: length does not fit", ErrChannel)
	}
	if frame.XModem.Sum(clear[4:4+n]) != uint16(clear[2])<<8|uint16(clear[3]) {
		return dst, fmt.Errorf("%w: checksum differs", ErrChannel)
	}
	return append(dst, clear[4:4+n]...), nil
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
	session, err := rsa.DecryptPKCS1v15(rand.Reader, key, sealed) // the protocol knows no other padding
	if err != nil {
		return nil, fmt.Errorf("%w: session key does not open", ErrChannel)
	}
	return NewChannel(session)
}
