package dukpt

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"tillbridge/p2pe"
	"tillbridge/p2pe/internal/derive"
)

// The exported form, version 1, big endian: "TBDK", version, scheme (1 TDES, 2
// AES), bytes of a key, flags (1: update key), serial number (12 bytes, zero
// padded), counter (4), filled (4), update key, then the filled registers from
// bit 0 up. It holds keys in clear: only a sealed file may hold it.
const exportVersion = 1

var exportMagic = [4]byte{'T', 'B', 'D', 'K'}

const exportHead = 4 + 4 + 12 + 4 + 4

// AppendState appends the state for a sealed file. The caller erases the bytes
// once they are sealed.
func (s *State) AppendState(dst []byte) ([]byte, error) {
	if !s.loaded {
		return dst, ErrErased
	}
	scheme, flags := byte(1), byte(0)
	if s.scheme == p2pe.SchemeAESDUKPT {
		scheme = 2
	}
	if s.hasUpdate {
		flags = 1
	}
	dst = append(dst, exportMagic[:]...)
	dst = append(dst, exportVersion, scheme, byte(s.size), flags)
	dst = append(dst, s.serial[:]...)
	dst = binary.BigEndian.AppendUint32(dst, s.counter)
	dst = binary.BigEndian.AppendUint32(dst, s.filled)
	if s.hasUpdate {
		dst = append(dst, s.update[:s.size]...)
	}
	for b := range s.registers {
		if s.filled&(1<<b) != 0 {
			dst = append(dst, s.registers[b][:s.size]...)
		}
	}
	return dst, nil
}

// Restore reads what AppendState wrote and erases it: data is all zero
// afterwards. A form that no State can have is [ErrState].
func Restore(data []byte) (*State, error) {
	defer clear(data)
	if len(data) < exportHead || [4]byte(data[:4]) != exportMagic {
		return nil, fmt.Errorf("%w (no key state)", ErrState)
	}
	if data[4] != exportVersion {
		return nil, fmt.Errorf("%w (version %d is not known to this program: install the one that wrote it)", ErrState, data[4])
	}
	s := &State{size: int(data[6]), loaded: true, hasUpdate: data[7] == 1}
	switch {
	case data[5] == 1 && s.size == 16 && data[7] == 0:
		s.scheme = p2pe.SchemeTDESDUKPT
	case data[5] == 2 && (s.size == 16 || s.size == 24 || s.size == 32) && data[7] <= 1:
		s.scheme = p2pe.SchemeAESDUKPT
	default:
		return nil, fmt.Errorf("%w (kind %d, key of %d bytes)", ErrState, data[5], data[6])
	}
	copy(s.serial[:], data[8:20])
	s.counter = binary.BigEndian.Uint32(data[20:])
	s.filled = binary.BigEndian.Uint32(data[24:])
	zeroCounter := s.serial
	s.put(zeroCounter[:], 0)
	if zeroCounter != s.serial || s.scheme == p2pe.SchemeTDESDUKPT && (s.serial[10] != 0 || s.serial[11] != 0) {
		return nil, fmt.Errorf("%w (serial number)", ErrState)
	}
	if s.filled != s.expected() || bits.OnesCount32(s.counter) > s.mostOnes() ||
		s.scheme == p2pe.SchemeTDESDUKPT && s.counter > derive.TDESLast {
		return nil, fmt.Errorf("%w (counter and keys disagree)", ErrState)
	}
	rest := data[exportHead:]
	keys := bits.OnesCount32(s.filled)
	if s.hasUpdate {
		keys++
	}
	if len(rest) != keys*s.size {
		return nil, fmt.Errorf("%w (%d bytes of keys, %d expected)", ErrState, len(rest), keys*s.size)
	}
	if s.hasUpdate {
		copy(s.update[:], rest[:s.size])
		rest = rest[s.size:]
	}
	for b := range s.registers {
		if s.filled&(1<<b) != 0 {
			copy(s.registers[b][:], rest[:s.size])
			rest = rest[s.size:]
		}
	}
	return s, nil
}

// expected returns which registers a state at its counter holds: for each bit
// b, the next counter from here that has b as its lowest bit exists within the
// rule, and its key has been derived from what stands above.
func (s *State) expected() uint32 {
	var filled uint32
	c := s.counter
	if c == 0 {
		return 0
	}
	low := bits.TrailingZeros32(c)
	for b := range s.bits() {
		switch {
		case b == low:
			filled |= 1 << b
		case b > low && c&(1<<b) == 0:
			// Derived with the part of c above b, which must have had room.
			if bits.OnesCount32(c>>b>>1) < s.mostOnes() {
				filled |= 1 << b
			}
		}
	}
	return filled
}
