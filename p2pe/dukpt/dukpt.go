// Package dukpt is the originating device's side of DUKPT: a state that holds
// future keys only and gives each key once.
//
// Use first: [Load] with an initial key, then [State.Next] for each message;
// [Transaction] gives the working keys by [DataKey], [MACKey] and [Working].
// p2pe/seal keeps a State on disk: [State.AppendState] and [Restore] are for
// it, and what they carry must be sealed and synced before a key is used.
//
// Sources: ANSI X9.24-1:2009 annex A (TDES: 21 registers, at most ten bits of
// the counter set) and ANSI X9.24-3:2017 section 6 (AES-128, 192 and 256: 32
// registers, at most sixteen bits set).
//
// What it does not do: it derives no PIN key (p2pe/dukpt/pin does, for pads),
// it knows no base key (p2pe/bdk does, for the host), and it is no secure
// device: who reads this process's memory has the future keys. Keys already
// used cannot be derived from it.
package dukpt

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/bits"

	"tillbridge/p2pe"
	"tillbridge/p2pe/internal/derive"
)

// Errors to branch on. Each text says what to do.
var (
	// ErrExhausted: every counter has been used; the device needs a new key.
	ErrExhausted error = p2pe.NewFault("keys.exhausted", "dukpt: the key set is used up: load a new initial key (tillbridge keys import)")
	// ErrInitialKey: the key or its serial number has a wrong form.
	ErrInitialKey error = p2pe.NewFault("keys.initial_key", "dukpt: not an initial key")
	// ErrState: the bytes are no exported state.
	ErrState error = p2pe.NewFault("keys.state_damaged", "dukpt: the key state is damaged: restore nothing, load a new initial key")
	// ErrErased: the state or the transaction key has been erased.
	ErrErased error = p2pe.NewFault("keys.erased", "dukpt: the key has been erased: take the next one")
)

// State is the key state of an originating device. It is not safe for
// concurrent use: one goroutine owns it. It prints its serial number alone.
type State struct {
	scheme p2pe.Scheme
	size   int      // bytes of a key: 16 (TDES); 16, 24, 32 (AES)
	serial [12]byte // serial number, the counter at zero
	// counter is the next to be used; 0 when all are used.
	counter uint32
	// registers[b] holds the key of a future counter whose lowest set bit is b.
	// Bit b of filled says whether it holds one.
	registers [derive.AESBits][32]byte
	filled    uint32
	// update is the key of counter FFFFFFFF (AES), kept apart: no counter
	// within the bit rule leads to it.
	update    [32]byte
	hasUpdate bool
	loaded    bool

	tdes derive.TDESParent // scratch
	aes  derive.AESParent
}

// Load fills a state from an initial key and erases the key: initial is all
// zero afterwards, also after an error. For TDES it has 16 bytes and serial 20
// hex digits (16, whose FFFF was stripped); for AES 16, 24 or 32 bytes and 24
// hex digits. The counter within serial must be zero: a key that was used
// elsewhere is not continued. Errors match [ErrInitialKey].
func Load(initial []byte, serial p2pe.KSN) (*State, error) {
	defer clear(initial)
	s := &State{scheme: serial.Scheme(), size: len(initial)}
	counter, ok := serial.Counter()
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: its serial number has %d characters: give 20 hex digits (TDES) or 24 (AES)", ErrInitialKey, len(serial))
	case counter != 0:
		return nil, fmt.Errorf("%w: the counter in its serial number is not zero: it belongs to a device already in use; ask for a key of its own", ErrInitialKey)
	case s.scheme == p2pe.SchemeTDESDUKPT && len(initial) != 16:
		return nil, fmt.Errorf("%w: %d bytes under a TDES serial number, which has a key of 16", ErrInitialKey, len(initial))
	case s.scheme == p2pe.SchemeAESDUKPT && len(initial) != 16 && len(initial) != 24 && len(initial) != 32:
		return nil, fmt.Errorf("%w: %d bytes under an AES serial number, which has a key of 16, 24 or 32", ErrInitialKey, len(initial))
	}
	copy(s.serial[:], serial.Full().Bytes())
	s.fill(initial, 0, s.bits())
	if s.scheme == p2pe.SchemeAESDUKPT {
		copy(s.update[:], initial)
		derive.AESWalk(s.update[:s.size], s.device(), derive.AESUpdate)
		s.hasUpdate = true
	}
	s.counter, s.loaded = 1, true
	return s, nil
}

func (s *State) bits() int {
	if s.scheme == p2pe.SchemeAESDUKPT {
		return derive.AESBits
	}
	return derive.TDESBits
}

func (s *State) mostOnes() int {
	if s.scheme == p2pe.SchemeAESDUKPT {
		return derive.AESMostOnes
	}
	return derive.TDESMostOnes
}

func (s *State) serialLen() int {
	if s.scheme == p2pe.SchemeAESDUKPT {
		return 12
	}
	return 10
}

func (s *State) device() uint32 { return binary.BigEndian.Uint32(s.serial[4:]) }

// put writes a counter into the last bytes of a serial number.
func (s *State) put(serial []byte, counter uint32) {
	at := s.serialLen() - 4
	if s.scheme == p2pe.SchemeAESDUKPT {
		binary.BigEndian.PutUint32(serial[at:], counter)
		return
	}
	fixed := binary.BigEndian.Uint32(s.serial[at:]) &^ (1<<derive.TDESBits - 1)
	binary.BigEndian.PutUint32(serial[at:], fixed|counter)
}

// fill derives from parent the keys whose lowest set bit is below n.
func (s *State) fill(parent []byte, counter uint32, n int) {
	if n == 0 {
		return
	}
	if s.scheme == p2pe.SchemeAESDUKPT {
		s.aes.Reset(parent)
	} else {
		s.tdes.Reset(parent)
	}
	var serial [12]byte
	for b := range n {
		c := counter | 1<<b
		if s.scheme == p2pe.SchemeAESDUKPT {
			s.aes.Child(s.registers[b][:s.size], s.device(), c)
		} else {
			copy(serial[:], s.serial[:])
			s.put(serial[:], c)
			s.tdes.Child(s.registers[b][:s.size], binary.BigEndian.Uint64(serial[2:10]))
		}
		s.filled |= 1 << b
	}
	s.aes, s.tdes = derive.AESParent{}, derive.TDESParent{}
}

// Next returns the key of the next counter and takes it out of the state for
// good. After the last it returns [ErrExhausted], and [ErrErased] after Erase.
func (s *State) Next() (*Transaction, error) {
	if !s.loaded {
		return nil, ErrErased
	}
	c := s.counter
	if c == 0 {
		return nil, ErrExhausted
	}
	low := bits.TrailingZeros32(c)
	register := &s.registers[low]
	if s.filled&(1<<low) == 0 {
		return nil, ErrState
	}
	s.put(s.serial[:], c)
	t := derive.Open(s.scheme, s.serial[:s.serialLen()], register[:s.size])
	if bits.OnesCount32(c) < s.mostOnes() {
		s.fill(register[:s.size], c, low)
	}
	clear(register[:])
	s.filled &^= 1 << low
	s.put(s.serial[:], 0)
	s.counter = s.after(c)
	return t, nil
}

// after returns the counter that follows c, or 0 when c is the last. A counter
// with the most bits allowed is followed by the one that adds its lowest bit:
// all between have more.
func (s *State) after(c uint32) uint32 {
	if bits.OnesCount32(c) < s.mostOnes() {
		c++
	} else {
		c += c & -c
	}
	if s.scheme == p2pe.SchemeTDESDUKPT && c >= 1<<derive.TDESBits {
		return 0
	}
	return c
}

// Skip gives up n keys without returning them, as after a restart with keys
// that were reserved and perhaps used. It stops at the end of the key set.
func (s *State) Skip(n int) error {
	for range n {
		t, err := s.Next()
		if err != nil {
			return err
		}
		t.Erase()
	}
	return nil
}

// Scheme says which kind the state is.
func (s *State) Scheme() p2pe.Scheme { return s.scheme }

// KSN returns the serial number of the next key; with a counter of zero when
// the keys are used up.
func (s *State) KSN() p2pe.KSN {
	serial := s.serial
	s.put(serial[:], s.counter)
	return p2pe.KSNOf(serial[:s.serialLen()])
}

// Total returns how many keys a full key set of this kind gives.
func (s *State) Total() uint64 {
	if s.scheme == p2pe.SchemeAESDUKPT {
		return derive.AESTotal
	}
	return derive.TDESTotal
}

// Remaining returns how many keys are left.
func (s *State) Remaining() uint64 {
	if !s.loaded || s.counter == 0 {
		return 0
	}
	return s.Total() - before(s.counter, s.mostOnes())
}

// before counts the valid counters below c: for each set bit of c, the numbers
// that share what stands above it and have zero there.
func before(c uint32, most int) uint64 {
	var n uint64
	ones := 0
	for b := 31; b >= 0; b-- {
		if c&(1<<b) == 0 {
			continue
		}
		for k := 0; k <= most-ones && k <= b; k++ {
			n += choose(b, k)
		}
		ones++
	}
	return n - 1 // zero is no counter
}

func choose(n, k int) uint64 {
	r := uint64(1)
	for i := range k {
		r = r * uint64(n-i) / uint64(i+1)
	}
	return r
}

// Erase overwrites every key of the state, which then gives none.
func (s *State) Erase() {
	for i := range s.registers {
		clear(s.registers[i][:])
	}
	clear(s.update[:])
	s.filled, s.hasUpdate, s.loaded, s.counter = 0, false, false, 0
}

// Format prints the serial number, never a key.
func (s State) Format(w fmt.State, _ rune) {
	io.WriteString(w, "dukpt{"+string(s.scheme)+" next="+string(s.KSN())+" ***}")
}

// LogValue implements slog.LogValuer with the serial number.
func (s State) LogValue() slog.Value { return slog.StringValue(string(s.KSN())) }

// MarshalJSON refuses: a state is written sealed, by AppendState.
func (s State) MarshalJSON() ([]byte, error) { return derive.Key{}.MarshalJSON() }

// Left returns how many keys are left in the set of a serial number whose key
// is the next, and how many a full set has. A counter of zero means that all
// are used. Errors match [p2pe.ErrKSN].
func Left(next p2pe.KSN) (left, total uint64, err error) {
	s := State{scheme: next.Scheme(), loaded: true}
	total = s.Total()
	counter, ok := next.Counter()
	if !ok {
		return 0, 0, next.Check()
	}
	if counter == 0 {
		return 0, total, nil
	}
	if err := next.Check(); err != nil {
		return 0, 0, err
	}
	s.counter = counter
	return s.Remaining(), total, nil
}
