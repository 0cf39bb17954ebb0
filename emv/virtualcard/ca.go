package virtualcard

import (
	crand "crypto/rand"
	"crypto/sha1"
	"fmt"
	"io"
	"math/big"
	"sync"
)

// Sizes of the moduli in bytes. Each key is too long for the certificate of
// the one above it, so that remainders are used (Book 2 section 5.1).
const (
	caBytes     = 144
	issuerBytes = 128
	cardBytes   = 112
)

// CA is a certification authority made for a run, with one issuer below it. A
// terminal needs its public part.
type CA struct {
	key    *rsaKey
	issuer *rsaKey // of all cards that it certifies
	// Index is the key index (8F), the same for every RID.
	Index byte

	mu    sync.Mutex
	cards map[string]*rsaKey // by PAN: a card made again has the same key
}

// card returns the key of the card with this number, made on first use.
func (a *CA) card(random io.Reader, pan string) (*rsaKey, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.cards[pan]; k != nil {
		return k, nil
	}
	k, err := newRSA(random, cardBytes)
	if err != nil {
		return nil, err
	}
	if a.cards == nil {
		a.cards = map[string]*rsaKey{}
	}
	a.cards[pan] = k
	return k, nil
}

// NewCA makes one, repeatable when seed is not 0. It takes some tens of
// milliseconds, as does the first card with a key of its own; share it between
// cards. It is safe for use by several goroutines.
func NewCA(seed uint64) (*CA, error) {
	r := crand.Reader
	if seed != 0 {
		r = seeded(seed ^ 0xCA)
	}
	k, err := newRSA(r, caBytes)
	if err != nil {
		return nil, err
	}
	issuer, err := newRSA(r, issuerBytes)
	if err != nil {
		return nil, err
	}
	return &CA{key: k, issuer: issuer, Index: 0xEE}, nil
}

// Modulus is big-endian.
func (a *CA) Modulus() []byte { return a.key.modulus() }

// Exponent is big-endian: 03.
func (a *CA) Exponent() []byte { return []byte{3} }

// String names the index.
func (a *CA) String() string { return fmt.Sprintf("test CA key %02X", a.Index) }

// GoString is String.
func (a *CA) GoString() string { return a.String() }

// Format prints String for every verb.
func (a *CA) Format(s fmt.State, _ rune) { fmt.Fprint(s, a.String()) }

// rsaKey is a key with exponent 3. Not for anything but test cards: the
// arithmetic is not constant in time.
type rsaKey struct{ n, d *big.Int }

func newRSA(r io.Reader, size int) (*rsaKey, error) {
	three := big.NewInt(3)
	for range 100 {
		p, err := prime(r, size*4)
		if err != nil {
			return nil, err
		}
		q, err := prime(r, size*4)
		if err != nil {
			return nil, err
		}
		n := new(big.Int).Mul(p, q)
		if p.Cmp(q) == 0 || n.BitLen() != size*8 {
			continue
		}
		one := big.NewInt(1)
		phi := new(big.Int).Mul(p.Sub(p, one), q.Sub(q, one))
		if d := new(big.Int).ModInverse(three, phi); d != nil {
			return &rsaKey{n, d}, nil
		}
	}
	return nil, fmt.Errorf("virtualcard: no RSA key of %d bytes was found", size)
}

// prime finds a prime p of bits with p mod 3 = 2 by searching upwards from a
// random odd number whose two highest bits are set.
func prime(r io.Reader, bits int) (*big.Int, error) {
	b := make([]byte, bits/8)
	for {
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		b[0] |= 0xC0
		b[len(b)-1] |= 1
		p := new(big.Int).SetBytes(b)
		two, three, m := big.NewInt(2), big.NewInt(3), new(big.Int)
		for range 4096 {
			if m.Mod(p, three).Int64() == 2 && p.ProbablyPrime(1) {
				if p.BitLen() == bits {
					return p, nil
				}
				break
			}
			p.Add(p, two)
		}
	}
}

func (k *rsaKey) size() int       { return (k.n.BitLen() + 7) / 8 }
func (k *rsaKey) modulus() []byte { return k.n.FillBytes(make([]byte, k.size())) }

// apply is the private operation on a block of the modulus' size.
func (k *rsaKey) apply(b []byte) []byte {
	x := new(big.Int).SetBytes(b)
	return x.Exp(x, k.d, k.n).FillBytes(make([]byte, k.size()))
}

// certify signs header and modulus of a public key as Book 2 tables 2 and 3
// have it: what does not fit becomes the remainder, what is left is BB. tail
// is hashed after remainder and exponent.
func (k *rsaKey) certify(header []byte, modulus, tail []byte) (cert, remainder []byte) {
	room := k.size() - len(header) - 22
	body := append([]byte(nil), header...)
	if len(modulus) > room {
		body = append(body, modulus[:room]...)
		remainder = modulus[room:]
	} else {
		body = append(body, modulus...)
		for range room - len(modulus) {
			body = append(body, 0xBB)
		}
	}
	return k.sign(body, append(append(append([]byte(nil), remainder...), 3), tail...)), remainder
}

// sign makes 6A, body, SHA-1 of body and tail, BC; body must fill the block.
func (k *rsaKey) sign(body, tail []byte) []byte {
	h := sha1.New()
	h.Write(body)
	h.Write(tail)
	block := append([]byte{0x6A}, body...)
	block = h.Sum(block)
	return k.apply(append(block, 0xBC))
}

// signPadded is sign with BB up to the block's size.
func (k *rsaKey) signPadded(body, tail []byte) []byte {
	full := append([]byte(nil), body...)
	for len(full) < k.size()-22 {
		full = append(full, 0xBB)
	}
	return k.sign(full, tail)
}
