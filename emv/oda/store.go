package oda

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/big"
)

// Environment keeps test keys apart from live ones.
type Environment string

// Environments.
const (
	Live Environment = "live"
	Test Environment = "test"
)

// Date is a calendar day of the Gregorian calendar.
type Date struct{ Year, Month, Day int }

// ParseDate reads six BCD digits YYMMDD (9A, 5F24). Years 00 to 49 are 2000 to
// 2049, 50 to 99 are 1950 to 1999 (Book 4 section 6.7.3).
func ParseDate(b []byte) (Date, bool) {
	if len(b) != 3 {
		return Date{}, false
	}
	var n [3]int
	for i, c := range b {
		if c>>4 > 9 || c&15 > 9 {
			return Date{}, false
		}
		n[i] = int(c>>4)*10 + int(c&15)
	}
	d := Date{century(n[0]), n[1], n[2]}
	return d, d.Month >= 1 && d.Month <= 12 && d.Day >= 1 && d.Day <= 31
}

func century(yy int) int {
	if yy < 50 {
		return 2000 + yy
	}
	return 1900 + yy
}

// After reports whether d is later than o.
func (d Date) After(o Date) bool {
	if d.Year != o.Year {
		return d.Year > o.Year
	}
	if d.Month != o.Month {
		return d.Month > o.Month
	}
	return d.Day > o.Day
}

func (d Date) zero() bool { return d == Date{} }

// RID is a registered application provider identifier, the first five bytes of
// an AID.
type RID [5]byte

// RIDOf takes it from an AID.
func RIDOf(aid []byte) (RID, bool) {
	var r RID
	return r, copy(r[:], aid) == len(r)
}

// String is upper-case hex.
func (r RID) String() string { return fmt.Sprintf("%X", r[:]) }

// CAKey is a certification authority's public key.
type CAKey struct {
	RID      RID
	Index    byte   // 8F of the card
	Modulus  []byte // big-endian, 48 to 248 bytes
	Exponent []byte // big-endian: 03 or 010001
	// Sum is the SHA-1 that the scheme publishes with the key; see [CAKey.SHA1].
	// Empty means that none was published.
	Sum []byte
	// Expiry is the last day of use; zero means none is known.
	Expiry Date
}

// SHA1 is the sum over RID, index, modulus and exponent (Book 2 section 11.2.2).
func (k CAKey) SHA1() [20]byte {
	h := sha1.New()
	h.Write(k.RID[:])
	h.Write([]byte{k.Index})
	h.Write(k.Modulus)
	h.Write(k.Exponent)
	return [20]byte(h.Sum(nil))
}

// Errors of [Store.Add].
var (
	ErrSum      = errors.New("oda: the key does not have its published sum; get it again from the acquirer")
	ErrKey      = errors.New("oda: not a certification authority key")
	ErrConflict = errors.New("oda: another key of this RID and index is loaded; test and live keys must not be mixed")
)

type keyID struct {
	rid   RID
	index byte
}

type storedKey struct {
	CAKey
	pub public
}

// Store holds the CA keys of one environment and the revoked certificates. Fill
// it, then use it from any number of goroutines.
type Store struct {
	env     Environment
	keys    map[keyID]storedKey
	revoked map[revocation]bool
	// AllowSDA lets [Select] choose static data authentication. It is off by
	// default: schemes are giving it up, and data that it accepts can be copied.
	AllowSDA bool
}

type revocation struct {
	keyID
	serial [3]byte
}

// NewStore makes an empty store.
func NewStore(env Environment) *Store {
	return &Store{env: env, keys: map[keyID]storedKey{}, revoked: map[revocation]bool{}}
}

// Environment is what the store was made for.
func (s *Store) Environment() Environment { return s.env }

// Add takes a key whose environment is env. A key of another environment, a
// wrong sum and a second, different key of the same RID and index are refused;
// the same key twice is fine.
func (s *Store) Add(env Environment, k CAKey) error {
	if env != s.env {
		return fmt.Errorf("%w: a %s key for a %s store", ErrConflict, env, s.env)
	}
	if len(k.Modulus) < 48 || len(k.Modulus) > 248 || k.Modulus[0] == 0 {
		return fmt.Errorf("%w: a modulus of %d bytes", ErrKey, len(k.Modulus))
	}
	pub, ok := newPublic(k.Modulus, k.Exponent)
	if !ok {
		return fmt.Errorf("%w: the exponent is neither 3 nor 65537, or the modulus is even", ErrKey)
	}
	if sum := k.SHA1(); len(k.Sum) > 0 && !bytes.Equal(k.Sum, sum[:]) {
		return fmt.Errorf("%w (RID %s, index %02X)", ErrSum, k.RID, k.Index)
	}
	id := keyID{k.RID, k.Index}
	if old, ok := s.keys[id]; ok && (!bytes.Equal(old.Modulus, k.Modulus) || !bytes.Equal(old.Exponent, k.Exponent)) {
		return fmt.Errorf("%w (RID %s, index %02X)", ErrConflict, k.RID, k.Index)
	}
	s.keys[id] = storedKey{k, pub}
	return nil
}

// Revoke refuses the issuer certificate with this serial number under a key
// (Book 2 section 5.1.2, Book 4 certificate revocation list).
func (s *Store) Revoke(rid RID, index byte, serial [3]byte) {
	s.revoked[revocation{keyID{rid, index}, serial}] = true
}

// Len is the number of keys.
func (s *Store) Len() int { return len(s.keys) }

// Key returns the key of a RID and index, whether or not it has expired.
func (s *Store) Key(rid RID, index byte) (CAKey, bool) {
	k, ok := s.keys[keyID{rid, index}]
	return k.CAKey, ok
}

// public is an RSA public key.
type public struct {
	n    *big.Int
	size int
	e    int
}

func newPublic(modulus, exponent []byte) (public, bool) {
	e := 0
	switch {
	case bytes.Equal(exponent, []byte{3}):
		e = 3
	case bytes.Equal(exponent, []byte{1, 0, 1}):
		e = 65537
	default:
		return public{}, false
	}
	if len(modulus) == 0 || modulus[len(modulus)-1]&1 == 0 {
		return public{}, false
	}
	return public{new(big.Int).SetBytes(modulus), len(modulus), e}, true
}

// recover is the public operation (Book 2 Annex B2.1.3). b must be as long as
// the modulus.
func (p public) recover(b []byte) ([]byte, bool) {
	if len(b) != p.size {
		return nil, false
	}
	x := new(big.Int).SetBytes(b)
	if x.Cmp(p.n) >= 0 {
		return nil, false
	}
	if p.e == 3 {
		var sq, q big.Int
		sq.Mul(x, x)
		q.QuoRem(&sq, p.n, &sq)
		x.Mul(&sq, x)
		q.QuoRem(x, p.n, x)
	} else {
		x.Exp(x, big.NewInt(int64(p.e)), p.n)
	}
	return x.FillBytes(make([]byte, p.size)), true
}
