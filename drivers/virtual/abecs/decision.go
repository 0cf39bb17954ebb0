package abecs

import (
	"bytes"

	"tillbridge/emv/tlv"
)

// outcome of the first and second GENERATE AC.
type outcome byte

const (
	declined outcome = iota
	approved
	online
)

// restrictions is Book 3 section 10.4.
func (k *kernel) restrictions() {
	if v := k.data[0x9F08]; len(v) == 2 && len(k.app.versions) > 0 {
		same := false
		for _, w := range k.app.versions {
			same = same || bytes.Equal(v, w)
		}
		if !same {
			k.set(1, 0x80)
		}
	}
	if auc := k.data[0x9F07]; len(auc) == 2 {
		domestic := bytes.Equal(k.data[0x5F28], k.data[0x9F1A])
		goods := byte(0x10 | 0x04) // international goods, services
		if domestic {
			goods = 0x20 | 0x08
		}
		if auc[0]&0x01 == 0 || k.data[0x9C][0] == 0 && auc[0]&goods == 0 {
			k.set(1, 0x10)
		}
	}
	today := k.data[0x9A]
	if d := k.data[0x5F25]; len(d) == 3 && bytes.Compare(century(d), century(today)) > 0 {
		k.set(1, 0x20)
	}
	if d := k.data[0x5F24]; len(d) == 3 && bytes.Compare(century(d), century(today)) < 0 {
		k.set(1, 0x40)
	}
}

// century makes YYMMDD comparable: 50 to 99 are 19xx (Book 4 section 6.7.3).
func century(d []byte) []byte {
	if len(d) == 0 || d[0] >= 0x50 {
		return append([]byte{0x19}, d...)
	}
	return append([]byte{0x20}, d...)
}

// risk is terminal risk management (Book 3 section 10.6), without velocity
// checking.
func (k *kernel) risk(amount, floor int64, exception, force bool) {
	k.tsi[0] |= 0x08
	if exception {
		k.set(0, 0x10)
	}
	if amount >= floor {
		k.set(3, 0x80)
	}
	if force {
		k.set(3, 0x08)
	}
}

// action is terminal action analysis (Book 3 section 10.7): what to ask the
// card for.
func (k *kernel) action(canGoOnline bool) outcome {
	hit := func(tac []byte, iac tlv.Tag, def byte) bool {
		v, ok := k.data[iac]
		for i := range 5 {
			m := def
			if ok && i < len(v) {
				m = v[i]
			}
			if i < len(tac) {
				m |= tac[i]
			}
			if k.tvr[i]&m != 0 {
				return true
			}
		}
		return false
	}
	if hit(k.app.tacDenial, 0x9F0E, 0x00) {
		return declined
	}
	if canGoOnline {
		if hit(k.app.tacOnline, 0x9F0F, 0xFF) {
			return online
		}
		return approved
	}
	if hit(k.app.tacDefault, 0x9F0D, 0xFF) {
		return declined
	}
	return approved
}

// generate asks for a cryptogram with CDOL1 or CDOL2.
func (k *kernel) generate(ask outcome, list tlv.Tag) (outcome, error) {
	d, err := tlv.ParseDOL(k.data[list])
	if err != nil {
		return declined, errData
	}
	if list == 0x8C {
		k.tsi[0] |= 0x20 // card risk management was performed, as seen by CDOL2
	}
	p1 := map[outcome]byte{declined: 0x00, approved: 0x40, online: 0x80}[ask]
	r, sw, err := k.send(0x80, 0xAE, p1, 0x00, d.Append(nil, k.lookup), true)
	if err != nil {
		return declined, err
	}
	if sw != 0x9000 {
		return declined, statusError(sw)
	}
	for _, t := range []tlv.Tag{0x9F27, 0x9F36, 0x9F26, 0x9F10} {
		delete(k.data, t)
	}
	if v, ok := tlv.Get(r, 0x80); ok {
		if len(v) < 11 {
			return declined, errData
		}
		k.data[0x9F27], k.data[0x9F36], k.data[0x9F26] = v[:1], v[1:3], v[3:11]
		if len(v) > 11 {
			k.data[0x9F10] = v[11:]
		}
	} else {
		k.keep(r)
	}
	cid := k.data[0x9F27]
	if len(cid) != 1 || len(k.data[0x9F26]) != 8 || len(k.data[0x9F36]) != 2 {
		return declined, errData
	}
	switch cid[0] & 0xC0 {
	case 0x40:
		return approved, nil
	case 0x80:
		return online, nil
	}
	return declined, nil
}

// complete gives the issuer's answer to the card (Book 3 sections 10.9 to
// 10.11).
func (k *kernel) complete(hostApproved, reached bool, arc string, emvData []byte) (outcome, error) {
	if arc != "" {
		k.data[0x8A] = []byte(arc)
	}
	if auth, ok := tlv.Find(emvData, 0x91); ok && reached {
		k.data[0x91] = auth
		if k.data[0x82][0]&0x04 != 0 {
			_, sw, err := k.send(0x00, 0x82, 0x00, 0x00, auth, false)
			if err != nil {
				return declined, err
			}
			k.tsi[0] |= 0x10
			if sw != 0x9000 {
				k.set(4, 0x40)
			}
		}
	}
	if err := k.script(emvData, 0x71, 0x20); err != nil {
		return declined, err
	}
	ask := declined
	switch {
	case reached && hostApproved:
		ask = approved
	case !reached:
		ask = k.action(false)
	}
	got, err := k.generate(ask, 0x8D)
	if err != nil {
		return declined, err
	}
	if err := k.script(emvData, 0x72, 0x10); err != nil {
		return got, nil // the decision stands
	}
	if ask != approved || got != approved {
		return declined, nil
	}
	return approved, nil
}

// script runs the commands of an issuer script template.
func (k *kernel) script(emvData []byte, template tlv.Tag, failed byte) error {
	it := tlv.Iter(emvData)
	for it.Next() {
		e := it.Element()
		if e.Tag != template {
			continue
		}
		k.tsi[0] |= 0x04
		id := make([]byte, 4)
		if v, ok := tlv.Find(e.Value, 0x9F18); ok {
			copy(id, v)
		}
		result, n := byte(0x20), byte(0)
		in := tlv.Iter(e.Value)
		for in.Next() {
			c := in.Element()
			if c.Tag != 0x86 {
				continue
			}
			n++
			if len(c.Value) < 4 {
				result = 0x10 | n
				break
			}
			r, err := k.card.Transmit(k.ctx, c.Value)
			if err != nil {
				return errCardGone
			}
			if len(r) < 2 || r[len(r)-2] != 0x90 && r[len(r)-2] != 0x62 && r[len(r)-2] != 0x63 {
				result = 0x10 | n
				k.set(4, failed)
				break
			}
		}
		k.scripts = append(append(k.scripts, result), id...)
	}
	return nil
}
