package virtualcard

import (
	"crypto/sha1"
	"crypto/subtle"
	"io"

	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
)

// Cryptogram types, the two high bits of P1 and of 9F27.
const (
	aac  = 0x00
	tc   = 0x40
	arqc = 0x80
)

// internalAuthenticate signs the terminal's data (Book 2 section 6.5.1).
func (a *application) internalAuthenticate(m command, random io.Reader) ([]byte, int) {
	if a.icc == nil || !a.tx.started {
		return nil, swConditions
	}
	if m.p1 != 0 || m.p2 != 0 {
		return nil, swP1P2
	}
	if len(m.data) != 4 || m.le == 0 {
		return nil, swLength
	}
	number := make([]byte, 8)
	io.ReadFull(random, number)
	body := append([]byte{0x05, 1, 9, 8}, number...)
	sdad := a.icc.signPadded(body, m.data)
	if a.p.Format1 {
		return tlv.Append(nil, 0x80, sdad), swOK
	}
	return tlv.Append(nil, 0x77, tlv.Append(nil, 0x9F4B, sdad)), swOK
}

// split cuts the data of a GENERATE AC by its list.
func split(d tlv.DOL, data []byte) (map[tlv.Tag][]byte, bool) {
	if d.Size() != len(data) {
		return nil, false
	}
	out := map[tlv.Tag][]byte{}
	for _, e := range d {
		out[e.Tag] = data[:e.Length]
		data = data[e.Length:]
	}
	return out, true
}

// generateAC is GENERATE AC (Book 3 section 6.5.5), first and second.
func (a *application) generateAC(m command, random io.Reader) ([]byte, int) {
	want := m.p1 & 0xC0
	if !a.tx.started || a.tx.step > 1 || a.tx.step == 1 && a.tx.first != arqc {
		return nil, swConditions
	}
	if want == 0xC0 || m.p1&0x2F != 0 || m.p2 != 0 || a.tx.step == 1 && want == arqc {
		return nil, swP1P2
	}
	if m.le == 0 {
		return nil, swLength
	}
	dol := a.cdol1
	if a.tx.step == 1 {
		dol = a.cdol2
	}
	values, ok := split(dol, m.data)
	if !ok {
		return nil, swLength
	}
	var give byte
	if a.tx.step == 0 {
		give = a.decideFirst(want)
		a.tx.first = give
		a.tx.un = [4]byte(values[0x9F37])
		a.tx.cdol1Data = append([]byte(nil), m.data...)
	} else {
		give = a.decideSecond(want, values)
	}
	a.tx.step++
	iad := a.iad(give)
	values[0x82] = a.aip[:]
	values[0x9F36] = []byte{byte(a.atc >> 8), byte(a.atc)}
	values[0x9F10] = iad
	data, err := a.layout.Data(func(t tlv.Tag) ([]byte, bool) { v, ok := values[t]; return v, ok })
	if err != nil {
		return nil, swConditions
	}
	key := a.layout.Session.SessionKey(a.keys.AC, a.atc, [4]byte(values[0x9F37]), [8]byte{})
	ac := cryptogram.AC(key, data, a.layout.Padding)
	if a.tx.step == 1 {
		a.tx.ac = ac
	}
	a.settle(give)

	if m.p1&0x10 != 0 && a.p.ODA == ODACDA && give != aac {
		return a.combined(give, ac, iad, values, m.data, random), swOK
	}
	if a.p.Format1 {
		b := []byte{give, byte(a.atc >> 8), byte(a.atc)}
		return tlv.Append(nil, 0x80, append(append(b, ac[:]...), iad...)), swOK
	}
	b := tlv.Append(nil, 0x9F27, []byte{give})
	b = tlv.Append(b, 0x9F36, values[0x9F36])
	b = tlv.Append(b, 0x9F26, ac[:])
	b = tlv.Append(b, 0x9F10, iad)
	return tlv.Append(nil, 0x77, b), swOK
}

// combined is the answer with signature (Book 2 section 6.6.1).
func (a *application) combined(cid byte, ac [8]byte, iad []byte, values map[tlv.Tag][]byte, data []byte, random io.Reader) []byte {
	head := tlv.Append(tlv.Append(nil, 0x9F27, []byte{cid}), 0x9F36, values[0x9F36])
	tail := tlv.Append(nil, 0x9F10, iad)
	h := sha1.New()
	h.Write(a.tx.pdolData)
	h.Write(a.tx.cdol1Data)
	if a.tx.step == 2 {
		h.Write(data)
	}
	h.Write(head)
	h.Write(tail)
	number := make([]byte, 8)
	io.ReadFull(random, number)
	body := append([]byte{0x05, 1, 38, 8}, number...)
	body = append(append(body, cid), ac[:]...)
	body = h.Sum(body)
	sdad := a.icc.signPadded(body, values[0x9F37])
	return tlv.Append(nil, 0x77, append(tlv.Append(head, 0x9F4B, sdad), tail...))
}

// decideFirst is card action analysis for the first cryptogram (Book 3 section
// 10.8): the card may ask for more than the terminal, never for less.
func (a *application) decideFirst(want byte) byte {
	switch {
	case want == aac, a.blocked, a.p.Declines:
		return aac
	case want == arqc:
		return arqc
	case a.p.OnlineAlways, a.unfinished, a.authFailed, a.tx.pinDone && !a.tx.pinOK,
		a.p.LowerOffline > 0 && a.offline >= a.p.LowerOffline:
		return arqc
	}
	return tc
}

// decideSecond is the one after the issuer's answer, or after its absence
// (ARC Y3 or Z3).
func (a *application) decideSecond(want byte, values map[tlv.Tag][]byte) byte {
	if want == aac || a.blocked || a.p.DeclinesSecond {
		return aac
	}
	arc := string(values[0x8A])
	if arc == "Y3" || arc == "Z3" {
		if arc == "Z3" || a.p.UpperOffline > 0 && a.offline >= a.p.UpperOffline {
			return aac
		}
		return tc
	}
	if a.p.IssuerAuth == AuthInAC {
		a.authenticate(values[0x91])
	}
	if a.p.IssuerAuth != AuthNone && a.tx.authDone && !a.tx.authOK || a.p.IssuerAuth == AuthInAC && !a.tx.authOK {
		return aac
	}
	if a.tx.authOK && a.layout.Answer == 2 && !a.tx.approved {
		return aac
	}
	return tc
}

// settle keeps the counters that live on.
func (a *application) settle(give byte) {
	switch {
	case a.tx.step == 1 && give == arqc:
		a.unfinished = true
	case a.tx.step == 1 && give == tc:
		a.offline++
	case a.tx.step == 2:
		a.unfinished = false
		if a.tx.authDone {
			a.authFailed = !a.tx.authOK
		}
		if a.tx.authOK || a.p.IssuerAuth == AuthNone && give == tc {
			a.offline, a.lastOnline = 0, a.atc
		} else if give == tc {
			a.offline++
		}
		a.scripts, a.scriptFailed = 0, false
	}
}

// externalAuthenticate takes tag 91 (Book 3 section 6.5.4), once.
func (a *application) externalAuthenticate(m command) int {
	if a.p.IssuerAuth != AuthExternal || a.tx.step != 1 || a.tx.first != arqc || a.tx.authDone {
		return swConditions
	}
	if m.p1 != 0 || m.p2 != 0 {
		return swP1P2
	}
	if len(m.data) < 8 || len(m.data) > 16 {
		return swLength
	}
	if a.authenticate(m.data) {
		return swOK
	}
	return swWarning
}

// authenticate checks issuer authentication data by the layout's method.
func (a *application) authenticate(data []byte) bool {
	a.tx.authDone, a.tx.authOK = true, false
	key := a.layout.Session.SessionKey(a.keys.AC, a.atc, a.tx.un, a.tx.ac)
	if a.layout.Answer == 2 {
		if len(data) < 8 {
			return false
		}
		want := cryptogram.ARPC2(key, a.tx.ac, [4]byte(data[4:8]), data[8:])
		a.tx.authOK = subtle.ConstantTimeCompare(want[:], data[:4]) == 1
		a.tx.approved = a.tx.authOK && data[5]&0x80 != 0
		return a.tx.authOK
	}
	if len(data) < 10 {
		return false
	}
	want := cryptogram.ARPC1(key, a.tx.ac, [2]byte(data[8:10]))
	a.tx.authOK = subtle.ConstantTimeCompare(want[:], data[:8]) == 1
	return a.tx.authOK
}

// iadTemplate is the issuer application data before the first cryptogram.
func (a *application) iadTemplate() []byte {
	if len(a.aid) >= 5 && string(a.aid[:5]) == "\xA0\x00\x00\x00\x04" {
		b := make([]byte, 18) // key index, version, 6 bytes CVR, 2 bytes, 8 bytes counters
		b[0], b[1] = 1, a.p.CVN
		return b
	}
	if a.p.CVN == 0x22 {
		b := make([]byte, 32) // length, version, key index, 4 bytes CVR, issuer's own
		b[0], b[1], b[2] = 0x1F, 0x22, 1
		return b
	}
	return []byte{6, 1, a.p.CVN, 3, 0, 0, 0} // length, key index, version, CVR
}

// iad is the issuer application data of this cryptogram: card verification
// results with both cryptogram types, PIN, issuer authentication and scripts.
func (a *application) iad(give byte) []byte {
	b := a.iadTemplate()
	first, second := a.tx.first>>6, byte(2) // 2: not requested
	if a.tx.step == 2 {
		second = give >> 6
	}
	types := second<<6 | first<<4
	var flags, history byte
	if a.tx.pinDone {
		flags |= 0x04
		if !a.tx.pinOK {
			flags |= 0x02
		}
	}
	if a.tx.authDone && !a.tx.authOK {
		flags |= 0x08
	}
	if a.unfinished && a.tx.step == 1 {
		history |= 0x80
	}
	if a.tries == 0 {
		history |= 0x40
	}
	if a.p.LowerOffline > 0 && a.offline >= a.p.LowerOffline {
		history |= 0x20
	}
	if a.lastOnline == 0 {
		history |= 0x10
	}
	if a.authFailed {
		history |= 0x08
	}
	scripts := min(a.scripts, 15) << 4
	if a.scriptFailed {
		scripts |= 0x08
	}
	switch {
	case b[0] == 0x1F:
		b[3], b[4], b[5], b[6] = 3, types|flags, history, scripts
	case len(b) == 18:
		b[2], b[3], b[4], b[5] = types, flags, history, scripts
		b[17] = byte(a.offline)
	default:
		b[4], b[5], b[6] = types|flags, history, scripts
	}
	return b
}

// script takes one command with secure messaging (Book 3 section 6.5, Book 2
// section 9): PIN CHANGE/UNBLOCK, APPLICATION BLOCK and UNBLOCK, CARD BLOCK.
func (a *application) script(m command) int {
	if a.tx.step == 0 {
		return swConditions
	}
	sw := a.runScript(m)
	if a.scripts < 15 {
		a.scripts++
	}
	a.scriptFailed = a.scriptFailed || sw != swOK
	return sw
}

func (a *application) runScript(m command) int {
	if len(m.data) < 8 || len(m.data) > 255 {
		return swLength
	}
	if a.tx.macFailed {
		return swConditions // after a wrong MAC no more scripts in this transaction
	}
	data, mac := m.data[:len(m.data)-8], m.data[len(m.data)-8:]
	header := [4]byte{m.cla, m.ins, m.p1, m.p2}
	key := a.layout.ScriptSession.SessionKey(a.keys.MAC, a.atc, a.tx.un, a.tx.ac)
	want := cryptogram.ScriptMAC(key, cryptogram.ScriptMessage(header, byte(len(m.data)), a.atc, a.tx.ac, data))
	if subtle.ConstantTimeCompare(want[:], mac) != 1 {
		a.tx.macFailed = true
		return swMAC
	}
	switch m.ins {
	case 0x1E:
		a.blocked = true
	case 0x18:
		a.blocked = false
	case 0x16:
		a.cardBlock = true
	case 0x24:
		switch m.p2 {
		case 0x00:
			a.tries = a.p.PINTries
		case 0x02:
			return a.changePIN(data)
		default:
			return swP1P2
		}
	default:
		return swINS
	}
	return swOK
}

func (a *application) changePIN(data []byte) int {
	key := a.layout.ScriptSession.SessionKey(a.keys.Enc, a.atc, a.tx.un, a.tx.ac)
	block, err := cryptogram.DecipherData(key, data, a.layout.Encipherment)
	if err != nil || len(block) != 8 {
		return swData
	}
	if a.layout.Encipherment == cryptogram.EncipherVisa {
		for i := 4; i < 8; i++ {
			block[i] ^= a.keys.AC[i]
		}
		block[0] |= 0x20
	}
	n := int(block[0] & 15)
	if block[0]>>4 != 2 || n < 4 || n > 12 {
		return swData
	}
	pin := make([]byte, 0, 12)
	for i := range 14 {
		d := block[1+i/2] >> (4 * (1 - i%2)) & 15
		switch {
		case i < n && d <= 9:
			pin = append(pin, '0'+d)
		case i >= n && d == 15:
		default:
			return swData
		}
	}
	a.pin, a.tries = string(pin), a.p.PINTries
	return swOK
}
