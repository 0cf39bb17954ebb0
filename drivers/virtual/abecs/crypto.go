package abecs

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
)

// pinBlock is an enciphered PIN block with its KSN.
type pinBlock struct{ block, ksn []byte }

func (pinBlock) String() string   { return "***" }
func (pinBlock) GoString() string { return "***" }

// encipherPIN makes an ISO format 0 block under the next key of a slot.
func (s *session) encipherPIN(digits, pan string, slot int) (*pinBlock, int) {
	t, err := s.pad.vault.next("pin", slot)
	if err != nil {
		return nil, status(err, false)
	}
	defer t.Erase()
	clear, err := pin.Encode(0, digits, pan, nil)
	if err != nil {
		return nil, statCrypto
	}
	key, err := pin.Key(t, dukpt.TDES2)
	if err != nil {
		return nil, statCrypto
	}
	defer key.Erase()
	b, err := pin.Encipher(key.Bytes(), clear, pan)
	if err != nil {
		return nil, statCrypto
	}
	return &pinBlock{b, t.KSN().Bytes()}, statOK
}

// dataCipher enciphers blocks of one command. A nil cipher leaves them clear.
type dataCipher struct {
	method string
	slot   int
	iv     []byte
	vault  *vault
	// Methods 90 and 91: a random key, and itself under the host's RSA key.
	krand, sealed []byte
}

// newDataCipher reads the parameters of a data method.
func (s *session) newDataCipher(l params) (*dataCipher, int) {
	method, ok := l.get(inMethodD)
	if !ok {
		return nil, statOK
	}
	d := &dataCipher{method: string(method), iv: make([]byte, 8), vault: s.pad.vault}
	if iv, ok := l.get(inIV); ok {
		if len(iv) != 8 {
			return nil, statBadParam
		}
		d.iv = iv
	}
	switch d.method {
	case "30", "50", "51":
		slot, ok := digits([]byte(l.text(inKeyIdx, 2, "")), 2)
		if !ok {
			return nil, statMissing
		}
		d.slot = slot
		if !s.pad.vault.has(d.use(), slot) {
			return nil, statNoKey
		}
	case "90", "91":
		mod, ok1 := l.get(inModulus)
		exp, ok2 := l.get(inExponent)
		if !ok1 || !ok2 {
			return nil, statMissing
		}
		if len(mod) != 256 {
			return nil, statBadParam
		}
		d.krand = make([]byte, 16)
		rand.Read(d.krand)
		sealed, err := rsaWrap(mod, exp, d.krand)
		if err != nil {
			return nil, statBadParam
		}
		d.sealed = sealed
	case "00", "01", "10", "11":
		return nil, statNoKey // no master keys in this pad
	default:
		return nil, statBadParam
	}
	return d, statOK
}

// use is the kind of key that a method takes.
func (d *dataCipher) use() string {
	if d.method == "30" {
		return "pin"
	}
	return "data"
}

// encrypt enciphers whole blocks of eight bytes; a DUKPT key serves one call.
func (d *dataCipher) encrypt(clear []byte) (out, ksn []byte, st int) {
	var key []byte
	if d.krand != nil {
		key = d.krand
	} else {
		t, err := d.vault.next(d.use(), d.slot)
		if err != nil {
			return nil, nil, status(err, false)
		}
		defer t.Erase()
		var k dukpt.Key
		if d.method == "30" {
			k, err = pin.Key(t, dukpt.TDES2)
		} else {
			k, err = dukpt.DataKey(t, dukpt.Request)
		}
		if err != nil {
			return nil, nil, statCrypto
		}
		defer k.Erase()
		key, ksn = k.Bytes(), t.KSN().Bytes()
	}
	c, err := des.NewTripleDESCipher(append(append([]byte(nil), key...), key[:8]...))
	if err != nil || len(clear)%8 != 0 {
		return nil, nil, statCrypto
	}
	out = make([]byte, len(clear))
	if strings.HasSuffix(d.method, "1") {
		cipher.NewCBCEncrypter(c, d.iv).CryptBlocks(out, clear)
		return out, ksn, statOK
	}
	for i := 0; i < len(clear); i += 8 {
		c.Encrypt(out[i:], clear[i:])
	}
	return out, ksn, statOK
}

// packed writes digits two a byte, '=' as D, filled with F to whole blocks.
func packed(digits string) []byte {
	digits = strings.ReplaceAll(digits, "=", "D")
	for len(digits)%16 != 0 {
		digits += "F"
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil
	}
	return b
}

// gtk gives out number and tracks of the card that was read, once.
func (s *session) gtk(c command) answer {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam)
	}
	which, ok := l.get(inTracks)
	if !ok {
		return fail(statMissing)
	}
	if len(which) != 4 {
		return fail(statBadParam)
	}
	open := 0
	if v, ok := l.get(inOpen); ok {
		n, good := digits(v, 1)
		if !good || len(v) != 1 || n%2 != 0 {
			return fail(statBadParam)
		}
		open = n
	}
	d, st := s.newDataCipher(l)
	if st != statOK {
		return fail(st)
	}
	in := s.card
	if in == nil || !in.read {
		return fail(statBadCall)
	}
	in.read = false
	var a answer
	put := func(want byte, id, ksnID uint16, value string, ascii bool) {
		if want != '1' || value == "" || st != statOK {
			return
		}
		if d == nil { // the protocol allows it; no driver of ours asks for it
			a.addText(id, value)
			return
		}
		n := open
		if ascii {
			n = 0
		}
		n = min(n, len(value))
		var clear []byte
		if ascii {
			for clear = []byte(value); len(clear)%8 != 0; {
				clear = append(clear, 0)
			}
		} else if clear = packed(value[n:]); clear == nil {
			st = statCardData
			return
		}
		sealed, ksn, failed := d.encrypt(clear)
		if failed != statOK {
			st = failed
			return
		}
		head, _ := hex.DecodeString(value[:n])
		a.add(id, append(head, sealed...))
		if ksn != nil {
			a.add(ksnID, ksn)
		}
	}
	put(which[0], outPAN, outPANK, in.pan, false)
	put(which[1], outTrack1, outTrack1K, in.track1, true)
	put(which[2], outTrack1+1, outTrack1K+1, in.track2, false)
	if st != statOK {
		return fail(st)
	}
	if d != nil && d.krand != nil {
		a.add(outKRand, d.sealed)
	}
	return a
}

// ebx enciphers data of the host.
func (s *session) ebx(c command) answer {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam)
	}
	data, ok := l.get(inDataIn)
	if !ok || l.missing(inMethodD) {
		return fail(statMissing)
	}
	if len(data) == 0 || len(data)%8 != 0 {
		return fail(statBadParam)
	}
	d, st := s.newDataCipher(l)
	if st != statOK {
		return fail(st)
	}
	if d.use() == "pin" {
		return fail(statBadParam) // a PIN key enciphers no chosen data
	}
	out, ksn, st := d.encrypt(data)
	if st != statOK {
		return fail(st)
	}
	var a answer
	a.add(outDataOut, out)
	if ksn != nil {
		a.add(outKSN, ksn)
	}
	if d.krand != nil {
		a.add(outKRand, d.sealed)
	}
	return a
}
