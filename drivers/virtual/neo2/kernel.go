package neo2

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"tillbridge/emv/tlv"
)

// The reader's own small terminal, from EMV Books 1 to 4: selection by name,
// processing options, records, restrictions left out, online PIN or none, and
// the two cryptograms. It does no offline data authentication, which the TVR
// says.

var (
	errCardGone = errors.New("neo2: the card is gone")
	errCardData = errors.New("neo2: the card's data are not usable")
	errNoApps   = errors.New("neo2: no application in common")
)

// chip is what the kernel talks to.
type chip interface {
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

// aids are the applications of the reader's terminal data.
var aids = []string{"A0000000031010", "A0000000032010", "A0000000041010", "A0000000043060", "A000000025", "A0000000651010", "A0000001523010", "A0000003330101"}

// kind of a cryptogram, as bits of P1 and CID.
type kind byte

const (
	aac  kind = 0x00
	tc   kind = 0x40
	arqc kind = 0x80
)

type kernel struct {
	ctx   context.Context
	card  chip
	data  map[tlv.Tag][]byte
	tvr   [5]byte
	tsi   [2]byte
	first kind
}

func (k *kernel) send(c []byte) ([]byte, uint16, error) {
	var out []byte
	for range 16 {
		r, err := k.card.Transmit(k.ctx, c)
		if err != nil {
			return nil, 0, errCardGone
		}
		if len(r) < 2 {
			return nil, 0, errCardData
		}
		sw := uint16(r[len(r)-2])<<8 | uint16(r[len(r)-1])
		out = append(out, r[:len(r)-2]...)
		switch sw >> 8 {
		case 0x61:
			c = []byte{0x00, 0xC0, 0x00, 0x00, byte(sw)}
			continue
		case 0x6C:
			c = append([]byte(nil), c...)
			c[len(c)-1] = byte(sw)
			continue
		}
		return out, sw, nil
	}
	return nil, 0, errCardData
}

func apdu(cla, ins, p1, p2 byte, data []byte) []byte {
	c := []byte{cla, ins, p1, p2}
	if len(data) > 0 {
		c = append(append(c, byte(len(data))), data...)
	}
	return append(c, 0)
}

// keep stores primitive objects; the first one of a tag stays.
func (k *kernel) keep(b []byte) {
	it := tlv.IterDeep(b)
	for it.Next() {
		e := it.Element()
		if _, there := k.data[e.Tag]; !there && !e.Tag.Constructed() {
			k.data[e.Tag] = append([]byte(nil), e.Value...)
		}
	}
}

// start selects, gets the processing options and reads the records.
func (k *kernel) start() error {
	selected := false
	for _, a := range aids {
		name, _ := hex.DecodeString(a)
		fci, sw, err := k.send(apdu(0x00, 0xA4, 0x04, 0x00, name))
		if err != nil {
			return err
		}
		if sw != 0x9000 {
			continue
		}
		k.keep(fci)
		if df := k.data[0x84]; len(df) >= 5 {
			k.data[0x9F06], k.data[0x4F] = df, df
		}
		selected = true
		break
	}
	if !selected {
		return errNoApps
	}
	un := make([]byte, 4)
	rand.Read(un)
	for t, v := range map[tlv.Tag]string{0x9F33: "E0F8C8", 0x9F40: "F000F0A001", 0x9F35: "22", 0x9F1A: "0276", 0x9F09: "0096", 0x9F1E: "3031323334353637",
		0x9F66: "36004000", 0x9F34: "3F0000", 0x9F1B: "00000000", 0x9F01: "000000000001", 0x9F15: "5999"} {
		if k.data[t] == nil || t == 0x9F09 {
			k.data[t], _ = hex.DecodeString(v)
		}
	}
	k.data[0x9F37] = un
	var pdol []byte
	if raw, ok := k.data[0x9F38]; ok {
		d, err := tlv.ParseDOL(raw)
		if err != nil {
			return errCardData
		}
		pdol = d.Append(nil, k.lookup)
	}
	r, sw, err := k.send(apdu(0x80, 0xA8, 0x00, 0x00, tlv.Append(nil, 0x83, pdol)))
	if err != nil {
		return err
	}
	if sw != 0x9000 {
		return fmt.Errorf("%w: %04X to the processing options", errCardData, sw)
	}
	if v, ok := tlv.Get(r, 0x80); ok && len(v) >= 2 {
		k.data[0x82], k.data[0x94] = v[:2], v[2:]
	} else {
		k.keep(r)
	}
	for afl := k.data[0x94]; len(afl) >= 4; afl = afl[4:] {
		for n := int(afl[1]); n <= int(afl[2]); n++ {
			rec, sw, err := k.send(apdu(0x00, 0xB2, byte(n), afl[0]&0xF8|4, nil))
			if err != nil {
				return err
			}
			if sw != 0x9000 {
				return errCardData
			}
			k.keep(rec)
		}
	}
	if len(k.data[0x57]) == 0 || len(k.data[0x5A]) == 0 || k.data[0x8C] == nil || len(k.data[0x82]) != 2 {
		return errCardData
	}
	return nil
}

func (k *kernel) lookup(t tlv.Tag) ([]byte, bool) {
	switch t {
	case 0x95:
		return k.tvr[:], true
	case 0x9B:
		return k.tsi[:], true
	}
	v, ok := k.data[t]
	return v, ok
}

// authenticate is action analysis and the first cryptogram.
func (k *kernel) authenticate(force bool) error {
	k.tvr, k.tsi = [5]byte{0x80}, [2]byte{0x48, 0x00} // no offline data authentication; CVM and risk were done
	k.data[0x9F34] = []byte{0x1F, 0x00, 0x02}         // no CVM
	if force {
		k.tvr[3] |= 0x08
	}
	ask := tc
	if force || k.over([]tlv.Tag{0x9F0F}, 0xFF) {
		ask = arqc
	}
	got, err := k.generate(ask, 0x8C)
	k.first = got
	return err
}

// over reports whether an action code of the card meets the TVR.
func (k *kernel) over(codes []tlv.Tag, missing byte) bool {
	for _, t := range codes {
		v, ok := k.data[t]
		for i := range k.tvr {
			m := missing
			if ok {
				m = 0
				if i < len(v) {
					m = v[i]
				}
			}
			if k.tvr[i]&m != 0 {
				return true
			}
		}
	}
	return false
}

func (k *kernel) generate(ask kind, list tlv.Tag) (kind, error) {
	d, err := tlv.ParseDOL(k.data[list])
	if err != nil {
		return aac, errCardData
	}
	k.tsi[0] |= 0x20
	r, sw, err := k.send(apdu(0x80, 0xAE, byte(ask), 0x00, d.Append(nil, k.lookup)))
	if err != nil {
		return aac, err
	}
	if sw != 0x9000 {
		return aac, errCardData
	}
	for _, t := range []tlv.Tag{0x9F27, 0x9F36, 0x9F26, 0x9F10} {
		delete(k.data, t)
	}
	if v, ok := tlv.Get(r, 0x80); ok && len(v) >= 11 {
		k.data[0x9F27], k.data[0x9F36], k.data[0x9F26], k.data[0x9F10] = v[:1], v[1:3], v[3:11], v[11:]
	} else {
		k.keep(r)
	}
	if len(k.data[0x9F27]) != 1 || len(k.data[0x9F26]) != 8 || len(k.data[0x9F36]) != 2 {
		return aac, errCardData
	}
	return kind(k.data[0x9F27][0] & 0xC0), nil
}

// complete gives the issuer's answer to the card (Book 3 sections 10.9 to
// 10.11). ask is what the terminal asks for.
func (k *kernel) complete(answered bool, host []byte) (kind, error) {
	ask := aac
	if answered {
		arc, _ := tlv.Find(host, 0x8A)
		k.data[0x8A] = arc
		switch string(arc) {
		case "00", "08", "10", "11":
			ask = tc
		}
		if auth, ok := tlv.Find(host, 0x91); ok {
			k.data[0x91] = auth
			if k.data[0x82][0]&0x04 != 0 {
				c := apdu(0x00, 0x82, 0x00, 0x00, auth)
				_, sw, err := k.send(c[:len(c)-1])
				if err != nil {
					return aac, err
				}
				k.tsi[0] |= 0x10
				if sw != 0x9000 {
					k.tvr[4] |= 0x40
				}
			}
		}
	} else {
		k.data[0x8A] = []byte("Z3")
		if !k.over([]tlv.Tag{0x9F0D}, 0xFF) {
			ask, k.data[0x8A] = tc, []byte("Y3")
		}
	}
	k.script(host, 0x71, 0x20)
	got, err := k.generate(ask, 0x8D)
	if err != nil {
		return aac, err
	}
	k.script(host, 0x72, 0x10)
	if ask != tc {
		return aac, nil
	}
	return got, nil
}

func (k *kernel) script(host []byte, template tlv.Tag, failed byte) {
	it := tlv.Iter(host)
	for it.Next() {
		if it.Tag() != template {
			continue
		}
		k.tsi[0] |= 0x04
		in := tlv.Iter(it.Value())
		for in.Next() {
			if in.Tag() != 0x86 || len(in.Value()) < 4 {
				continue
			}
			r, err := k.card.Transmit(k.ctx, in.Value())
			if err != nil || len(r) < 2 || r[len(r)-2] != 0x90 && r[len(r)-2] != 0x62 && r[len(r)-2] != 0x63 {
				k.tvr[4] |= failed
				break
			}
		}
	}
}
