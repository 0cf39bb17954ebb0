package cryptogram

import (
	"bytes"
	"crypto/des"
	"fmt"
)

// Padding is how the last block of a MAC is filled (ISO/IEC 9797-1).
type Padding int

// The paddings in use.
const (
	PadZeros Padding = 1 // method 1: zeros, none when the data fill the block (Visa CVN 10)
	PadEMV   Padding = 2 // method 2: 80, then zeros; always at least one byte
)

// Pad returns data filled to a whole number of blocks; at least one block.
func Pad(data []byte, p Padding, block int) []byte {
	out := bytes.Clone(data)
	if p == PadEMV {
		out = append(out, 0x80)
	}
	for len(out) == 0 || len(out)%block != 0 {
		out = append(out, 0)
	}
	return out
}

// MAC is ISO/IEC 9797-1 algorithm 3 (the retail MAC): single DES over the
// blocks, TDES for the last (Book 2 Annex A1.2.1).
func MAC(k Key, data []byte, p Padding) [8]byte {
	left, err := des.NewCipher(k[:8])
	if err != nil {
		panic("cryptogram: " + err.Error()) // cannot happen: 8 bytes
	}
	right, err := des.NewCipher(k[8:])
	if err != nil {
		panic("cryptogram: " + err.Error())
	}
	var h [8]byte
	padded := Pad(data, p, 8)
	for i := 0; i < len(padded); i += 8 {
		for j := range h {
			h[j] ^= padded[i+j]
		}
		left.Encrypt(h[:], h[:])
	}
	right.Decrypt(h[:], h[:])
	left.Encrypt(h[:], h[:])
	return h
}

// AC is an application cryptogram over data (Book 2 section 8.1).
func AC(session Key, data []byte, p Padding) [8]byte { return MAC(session, data, p) }

// ARPC1 is the issuer's answer by method 1 (Book 2 section 8.2.1): the
// cryptogram with the two bytes of the authorisation response code on its
// left, enciphered. Tag 91 is then the eight bytes and the code.
func ARPC1(session Key, arqc [8]byte, arc [2]byte) [8]byte {
	arqc[0] ^= arc[0]
	arqc[1] ^= arc[1]
	return [8]byte(session.ecb(arqc[:]))
}

// ARPC2 is the answer by method 2 (Book 2 section 8.2.2): four bytes of MAC
// over cryptogram, card status update and proprietary data (at most 8 bytes).
// Tag 91 is then the four bytes, the update and those data.
func ARPC2(session Key, arqc [8]byte, csu [4]byte, proprietary []byte) [4]byte {
	y := append(append(bytes.Clone(arqc[:]), csu[:]...), proprietary...)
	mac := MAC(session, y, PadEMV)
	return [4]byte(mac[:4])
}

// ScriptMAC is the MAC of a secure messaging command (Book 2 section 9.2.3):
// over header, optional ATC and cryptogram, and command data. Cut it to the
// four to eight bytes that the command carries.
func ScriptMAC(session Key, message []byte) [8]byte { return MAC(session, message, PadEMV) }

// Encipherment is how command data are enciphered (Book 2 section 9.3).
type Encipherment int

// The ways of enciphering.
const (
	EncipherEMV        Encipherment = iota // padding 80, CBC
	EncipherVisa                           // one length byte before, padding 80, ECB
	EncipherMastercard                     // padding 80 only when needed, CBC
)

// EncipherData enciphers command data for secure messaging.
func EncipherData(session Key, data []byte, e Encipherment) ([]byte, error) {
	switch e {
	case EncipherEMV:
		return session.cbc(Pad(data, PadEMV, 8)), nil
	case EncipherVisa:
		if len(data) > 255 {
			return nil, fmt.Errorf("%w: %d bytes of command data", ErrInput, len(data))
		}
		return session.ecb(Pad(append([]byte{byte(len(data))}, data...), PadEMV, 8)), nil
	case EncipherMastercard:
		if len(data)%8 != 0 || len(data) == 0 {
			data = Pad(data, PadEMV, 8)
		}
		return session.cbc(data), nil
	}
	return nil, fmt.Errorf("%w: encipherment %d", ErrInput, int(e))
}

// DecipherData undoes [EncipherData], as a card does. The padding is taken
// off for EMV and Visa; Mastercard data of whole blocks come as they are.
func DecipherData(session Key, data []byte, e Encipherment) ([]byte, error) {
	if len(data) == 0 || len(data)%8 != 0 {
		return nil, fmt.Errorf("%w: enciphered data of %d bytes", ErrInput, len(data))
	}
	b := session.block()
	out := make([]byte, len(data))
	for i := 0; i < len(data); i += 8 {
		b.Decrypt(out[i:], data[i:])
		if i > 0 && e != EncipherVisa {
			for j := range 8 {
				out[i+j] ^= data[i-8+j]
			}
		}
	}
	switch e {
	case EncipherVisa:
		if int(out[0]) >= len(out) {
			return nil, fmt.Errorf("%w: deciphered length", ErrInput)
		}
		return out[1 : 1+int(out[0])], nil
	case EncipherEMV:
		end := bytes.LastIndexByte(out, 0x80)
		if end < 0 {
			return nil, fmt.Errorf("%w: deciphered padding", ErrInput)
		}
		return out[:end], nil
	}
	return out, nil
}

// VisaPINBlock is the block of a PIN change by VIS: length, PIN and F filler,
// with the right half of the card key's left part on it, and with the current
// PIN on it when that is given. PINs have 4 to 12 digits.
func VisaPINBlock(card Key, pin, current string) ([8]byte, error) {
	b, err := pinBytes(pin, 0)
	if err != nil {
		return b, err
	}
	for i := 4; i < 8; i++ {
		b[i] ^= card[i]
	}
	if current != "" {
		if !isPIN(current) {
			return [8]byte{}, fmt.Errorf("%w: a PIN has 4 to 12 digits", ErrInput)
		}
		for i := range len(current) {
			b[i/2] ^= (current[i] - '0') << (4 * (1 - i%2))
		}
	}
	return b, nil
}

// ISO2PINBlock is ISO 9564-1 format 2: 2, length, digits, F filler.
func ISO2PINBlock(pin string) ([8]byte, error) { return pinBytes(pin, 0x20) }

func isPIN(pin string) bool {
	for i := range len(pin) {
		if pin[i] < '0' || pin[i] > '9' {
			return false
		}
	}
	return len(pin) >= 4 && len(pin) <= 12
}

func pinBytes(pin string, control byte) ([8]byte, error) {
	b := [8]byte{control | byte(len(pin)), 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	if !isPIN(pin) {
		return [8]byte{}, fmt.Errorf("%w: a PIN has 4 to 12 digits", ErrInput)
	}
	for i := range len(pin) {
		shift := 4 * (1 - i%2)
		at := 1 + i/2
		b[at] = b[at]&^(15<<shift) | (pin[i]-'0')<<shift
	}
	return b, nil
}

// CVC3 is the dynamic verification code of a mag-stripe mode card: five
// decimal digits or fewer, of which the track carries the rightmost.
func CVC3(card Key, track []byte, atc uint16, un [4]byte) uint16 {
	iv := MAC(card, track, PadEMV)
	y := [8]byte{iv[6], iv[7], un[0], un[1], un[2], un[3], byte(atc >> 8), byte(atc)}
	out := card.ecb(y[:])
	return uint16(out[6])<<8 | uint16(out[7])
}
