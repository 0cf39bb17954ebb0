package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"sync"

	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/internal/derive"
	"tillbridge/p2pe/profile"
)

// KeySource gives each transaction key once, and only after the state that no
// longer holds it is durable. The counter journal is one; a bare dukpt.State
// is one for tests.
type KeySource interface {
	Next() (*dukpt.Transaction, error)
}

// ErrEnvelopeMAC says that an envelope was changed or is of another key.
var ErrEnvelopeMAC error = p2pe.NewFault("card.envelope_mac", "seal: the envelope's MAC is wrong: it was changed or belongs to another key")

// DUKPT encrypts clear card data under AES DUKPT: a data key of usage 3000 in
// CBC mode with a random initial vector and ISO 9797-1 padding method 2, and a
// CMAC under a MAC key of usage 2000 over the envelope's canonical bytes, which
// begin with scheme and serial number. It is safe for concurrent use.
type DUKPT struct {
	mu     sync.Mutex
	keys   KeySource
	serial string
	buf    []byte // canonical bytes: ciphertext and public parts
	cmac   derive.CMAC
}

// NewDUKPT returns an encrypter that takes its keys from source, and names
// serial as the reader's serial number in each envelope.
func NewDUKPT(source KeySource, serial string) *DUKPT {
	return &DUKPT{keys: source, serial: serial}
}

const blockSize = aes.BlockSize

// Encrypt makes an envelope of c and erases c, also when it fails. The number
// itself is encrypted only where no track holds it. A key is taken from the
// source for each call; one that fails afterwards is lost, never used again.
func (d *DUKPT) Encrypt(c *Clear) (p2pe.Envelope, error) {
	defer c.Erase()
	d.mu.Lock()
	defer d.mu.Unlock()
	e := p2pe.Envelope{
		Scheme: p2pe.SchemeAESDUKPT, DeviceProfile: profile.Software, DeviceSerial: d.serial, KeyVariant: p2pe.VariantAESDataEncrypt,
		Algorithm: "AES-128", Mode: "CBC", Padding: p2pe.PaddingISO2, EncryptionState: "software",
	}
	if err := c.describe(&e); err != nil {
		return p2pe.Envelope{}, err
	}
	t, err := d.keys.Next()
	if err != nil {
		return p2pe.Envelope{}, fmt.Errorf("seal: take a key: %w", err)
	}
	defer t.Erase()
	e.KSN = t.KSN()
	block, err := workingCipher(t, dukpt.DataEncrypt)
	if err != nil {
		return p2pe.Envelope{}, err
	}
	pan := c.PAN
	if len(c.Track1)+len(c.Track2) > 0 {
		pan = nil
	}
	// One piece of memory holds the vector, the ciphertexts and the MAC.
	out := make([]byte, blockSize, 2*blockSize+padded(pan)+padded(c.Track1)+padded(c.Track2))
	rand.Read(out[:blockSize])
	e.IV = out[:blockSize:blockSize]
	for _, part := range [...]struct {
		clear []byte
		to    *[]byte
	}{{pan, &e.PAN}, {c.Track1, &e.Track1}, {c.Track2, &e.Track2}} {
		if len(part.clear) == 0 {
			continue
		}
		from := len(out)
		out = append(out, part.clear...)
		out = append(out, 0x80)
		for len(out)%blockSize != 0 {
			out = append(out, 0)
		}
		ct := out[from:len(out):len(out)]
		encryptCBC(block, e.IV, ct)
		*part.to = ct
	}
	if block, err = workingCipher(t, dukpt.MACGenerate); err != nil {
		return p2pe.Envelope{}, err
	}
	d.cmac.Reset(block)
	d.buf = e.AppendCanonical(d.buf[:0])
	from := len(out)
	out = d.cmac.Append(out, d.buf)
	e.MAC = out[from:len(out):len(out)]
	return e, nil
}

func padded(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return (len(b)/blockSize + 1) * blockSize
}

// encryptCBC enciphers whole blocks in place. The chain is written out because
// crypto/cipher's encrypter copies the vector and key state for each call.
func encryptCBC(block cipher.Block, iv, data []byte) {
	for ; len(data) > 0; data = data[blockSize:] {
		for i := range blockSize {
			data[i] ^= iv[i]
		}
		block.Encrypt(data[:blockSize], data[:blockSize])
		iv = data[:blockSize]
	}
}

// workingCipher sets up AES-128 under a working key of t.
func workingCipher(t *dukpt.Transaction, usage dukpt.Usage) (cipher.Block, error) {
	key, err := dukpt.Working(t, usage, dukpt.AES128)
	if err != nil {
		return nil, fmt.Errorf("seal: derive a working key: %w", err)
	}
	defer key.Erase()
	return aes.NewCipher(key.Bytes())
}

// VerifyMAC reports whether the MAC of an envelope that DUKPT made is right
// under t, the transaction of its serial number. It compares in constant time
// and looks at nothing else before.
func VerifyMAC(e *p2pe.Envelope, t *dukpt.Transaction) error {
	block, err := workingCipher(t, dukpt.MACGenerate)
	if err != nil {
		return err
	}
	if len(e.MAC) != blockSize || !derive.NewCMAC(block).Verify(e.MAC, e.AppendCanonical(nil)) {
		return ErrEnvelopeMAC
	}
	return nil
}
