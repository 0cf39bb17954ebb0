package seal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"tillbridge/p2pe"
)

// A key journal is a file of two slots of 4096 bytes. A slot, big endian: magic
// (4: "TBKJ" live, "TBKZ" zeroised), form (1), three zero bytes, sequence (8),
// anchor (8), serial number of the next key as text (length 1, 31 bytes), zero
// bytes up to 64, lengths of the sealed slot key and of the sealed state (2
// each), both, zero bytes, CRC-32C of all before (4). The state is sealed by
// AES-256-GCM under the slot key, with everything before it as additional data.
const (
	slotSize = 4096
	slotHead = 68
	slotForm = 1
)

const (
	magicLive = "TBKJ"
	magicTomb = "TBKZ"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// slot is one slot taken apart; its bytes are those of the file.
type slot struct {
	tomb   bool
	seq    uint64
	anchor uint64
	ksn    p2pe.KSN
	key    []byte // slot key, sealed by the sealer
	state  []byte // key state, sealed under the slot key
	head   []byte // what the state is bound to
}

// ErrJournal: no slot can be read.
var ErrJournal error = p2pe.NewFault("keys.journal_damaged", "seal: the key journal is damaged: restore nothing (a key would be used twice), load a new initial key")

// parseSlot reads a slot of slotSize bytes and checks its form and sum.
func parseSlot(b []byte) (slot, error) {
	if len(b) != slotSize {
		return slot{}, fmt.Errorf("%w (a slot of %d bytes)", ErrJournal, len(b))
	}
	body := b[:slotSize-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[slotSize-4:]) {
		return slot{}, fmt.Errorf("%w (checksum)", ErrJournal)
	}
	s := slot{tomb: string(b[:4]) == magicTomb, seq: binary.BigEndian.Uint64(b[8:]), anchor: binary.BigEndian.Uint64(b[16:])}
	if !s.tomb && string(b[:4]) != magicLive || b[4] != slotForm {
		return slot{}, fmt.Errorf("%w (form)", ErrJournal)
	}
	n := int(b[24])
	if n > 31 {
		return slot{}, fmt.Errorf("%w (serial number)", ErrJournal)
	}
	ksn, err := p2pe.ParseKSN(string(b[25 : 25+n]))
	if err != nil {
		return slot{}, fmt.Errorf("%w (%w)", ErrJournal, err)
	}
	s.ksn = ksn
	keyLen, stateLen := int(binary.BigEndian.Uint16(b[64:])), int(binary.BigEndian.Uint16(b[66:]))
	if slotHead+keyLen+stateLen > len(body) || !s.tomb && (keyLen == 0 || stateLen == 0) {
		return slot{}, fmt.Errorf("%w (lengths)", ErrJournal)
	}
	s.head = body[:slotHead+keyLen]
	s.key = body[slotHead : slotHead+keyLen]
	s.state = body[slotHead+keyLen : slotHead+keyLen+stateLen]
	return s, nil
}

// head writes a slot up to the sealed key.
func (s *slot) appendHead(dst []byte, stateLen int) []byte {
	magic := magicLive
	if s.tomb {
		magic = magicTomb
	}
	dst = append(dst, magic...)
	dst = append(dst, slotForm, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, s.seq)
	dst = binary.BigEndian.AppendUint64(dst, s.anchor)
	dst = append(dst, byte(len(s.ksn)))
	dst = append(dst, s.ksn...)
	for len(dst) < 64 {
		dst = append(dst, 0)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s.key)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(stateLen))
	return append(dst, s.key...)
}

// finish pads a slot and adds its sum.
func finish(b []byte) ([]byte, error) {
	if len(b) > slotSize-4 {
		return nil, fmt.Errorf("seal: the sealed state has %d bytes and a slot takes %d: use another sealer", len(b), slotSize-4)
	}
	b = append(b, make([]byte, slotSize-4-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}
