package dukpt

import (
	"fmt"

	"tillbridge/p2pe"
	"tillbridge/p2pe/internal/derive"
)

// Transaction is one key of a sequence with its serial number. It gives no key
// bytes of its own; see [DataKey], [MACKey] and [Working]. Erase it after use.
type Transaction = derive.Transaction

// Key is a working key: at most 32 bytes that print "***". Erase it after use.
type Key = derive.Key

// ErrWorkingKey is matched by every refusal to derive a working key.
var ErrWorkingKey error = p2pe.NewFault("keys.working_key", "dukpt: no such working key")

// Direction tells a request, from device to host, from a response.
type Direction int

// The directions of X9.24-1 variants.
const (
	Request Direction = iota
	Response
)

// Usage is a key usage of X9.24-3, table 2. The PIN usage 1000 is not among
// them: p2pe/dukpt/pin derives that key.
type Usage uint16

// The usages of a working key that a device may derive.
const (
	KeyEncryption Usage = derive.UsageKeyEncryption // 0002
	MACGenerate   Usage = derive.UsageMACGenerate   // 2000
	MACVerify     Usage = derive.UsageMACVerify     // 2001
	MACBoth       Usage = derive.UsageMACBoth       // 2002
	DataEncrypt   Usage = derive.UsageDataEncrypt   // 3000
	DataDecrypt   Usage = derive.UsageDataDecrypt   // 3001
	DataBoth      Usage = derive.UsageDataBoth      // 3002
)

// KeyType is the algorithm and size of a working key (X9.24-3, table 3).
type KeyType int

// The key types. HMAC keys are as long as their name says, in bits.
const (
	TDES2 KeyType = iota
	TDES3
	AES128
	AES192
	AES256
	HMAC128
	HMAC192
	HMAC256
)

var keyTypes = [...]struct {
	name      string
	algorithm derive.Algorithm
	strength  int // bits of security, for the rule below
}{
	{"TDES2", derive.Algorithm{ID: 0, Bits: 128}, 80},
	{"TDES3", derive.Algorithm{ID: 1, Bits: 192}, 112},
	{"AES128", derive.Algorithm{ID: 2, Bits: 128}, 128},
	{"AES192", derive.Algorithm{ID: 3, Bits: 192}, 192},
	{"AES256", derive.Algorithm{ID: 4, Bits: 256}, 256},
	{"HMAC128", derive.Algorithm{ID: 5, Bits: 128}, 128},
	{"HMAC192", derive.Algorithm{ID: 5, Bits: 192}, 192},
	{"HMAC256", derive.Algorithm{ID: 5, Bits: 256}, 256},
}

// String returns the name, "AES128".
func (k KeyType) String() string {
	if k < 0 || int(k) >= len(keyTypes) {
		return fmt.Sprintf("KeyType(%d)", int(k))
	}
	return keyTypes[k].name
}

// ParseKeyType reads a name as String prints it.
func ParseKeyType(name string) (KeyType, error) {
	for i, t := range keyTypes {
		if t.name == name {
			return KeyType(i), nil
		}
	}
	return 0, fmt.Errorf("%w: key type %q is not TDES2, TDES3, AES128, AES192, AES256, HMAC128, HMAC192 or HMAC256", ErrWorkingKey, name)
}

// DataKey derives the two-key TDES key for data: the variant enciphered under
// itself. t must be of TDES DUKPT.
func DataKey(t *Transaction, d Direction) (Key, error) {
	at := derive.VariantDataRequest
	if d == Response {
		at = derive.VariantDataResponse
	}
	k, err := variant(t, at)
	if err == nil {
		derive.TDESOneWay(k.Bytes())
	}
	return k, err
}

// MACKey derives the two-key TDES key for MACs, a plain variant. t must be of
// TDES DUKPT.
func MACKey(t *Transaction, d Direction) (Key, error) {
	if d == Response {
		return variant(t, derive.VariantMACResponse)
	}
	return variant(t, derive.VariantMACRequest)
}

func variant(t *Transaction, at int) (Key, error) {
	if t.Erased() {
		return Key{}, ErrErased
	}
	if t.Scheme() != p2pe.SchemeTDESDUKPT {
		return Key{}, fmt.Errorf("%w: variants belong to TDES DUKPT and the key is of %s: ask for a usage", ErrWorkingKey, t.Scheme())
	}
	k := derive.NewKey(derive.Reveal(t))
	derive.TDESVariant(k.Bytes(), derive.Reveal(t), at)
	return k, nil
}

// Working derives an AES DUKPT working key. It may be weaker than the initial
// key, never stronger. The PIN usage is refused. t must be of AES DUKPT.
func Working(t *Transaction, u Usage, k KeyType) (Key, error) {
	switch u {
	case KeyEncryption, MACGenerate, MACVerify, MACBoth, DataEncrypt, DataDecrypt, DataBoth:
	case derive.UsagePIN:
		return Key{}, fmt.Errorf("%w: a PIN key is derived inside a pad, never here", ErrWorkingKey)
	default:
		return Key{}, fmt.Errorf("%w: usage %04X is none of 0002, 2000 to 2002, 3000 to 3002", ErrWorkingKey, uint16(u))
	}
	if t.Erased() {
		return Key{}, ErrErased
	}
	if t.Scheme() != p2pe.SchemeAESDUKPT {
		return Key{}, fmt.Errorf("%w: usages belong to AES DUKPT and the key is of %s: ask for a variant", ErrWorkingKey, t.Scheme())
	}
	return working(derive.Reveal(t), derive.Serial(t), uint16(u), k)
}

// working derives without judging the usage.
func working(key, serial []byte, usage uint16, k KeyType) (Key, error) {
	if k < 0 || int(k) >= len(keyTypes) {
		return Key{}, fmt.Errorf("%w: unknown key type %d", ErrWorkingKey, int(k))
	}
	kind := keyTypes[k]
	if kind.strength > 8*len(key) {
		return Key{}, fmt.Errorf("%w: %s is stronger than the initial key of %d bits: ask for a weaker one", ErrWorkingKey, kind.name, 8*len(key))
	}
	return derive.AESWorking(key, serial, usage, kind.algorithm), nil
}

// UpdateKey derives the key of usage 0002 under which the host sends a new
// initial key (X9.24-3 6.5.3), and takes it out of the state: a second call
// returns [ErrErased]. TDES DUKPT has none.
func (s *State) UpdateKey(k KeyType) (Key, error) {
	if s.scheme != p2pe.SchemeAESDUKPT {
		return Key{}, fmt.Errorf("%w: TDES DUKPT has no update key: load the new initial key from a key block", ErrWorkingKey)
	}
	if !s.hasUpdate {
		return Key{}, ErrErased
	}
	serial := s.serial
	s.put(serial[:], derive.AESUpdate)
	key, err := working(s.update[:s.size], serial[:12], derive.UsageKeyEncryption, k)
	if err != nil {
		return Key{}, err
	}
	clear(s.update[:])
	s.hasUpdate = false
	return key, nil
}
