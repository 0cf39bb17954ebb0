package abecs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"tillbridge/emv/tlv"
)

// The pad's own terminal, from EMV Books 1 to 4: it selects and reads
// (selection.go), verifies the cardholder (cvm.go), decides and asks for
// cryptograms (decision.go) and gives the host what it may see (taglist.go).
// It does no offline data authentication and no offline PIN.

// chip is what the kernel talks to: C-APDU in, R-APDU out.
type chip interface {
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

var (
	errCardGone = errors.New("abecs: the card is gone")
	errNoApps   = errors.New("abecs: no application in common")
	errData     = errors.New("abecs: the card's data are not usable")
	errAppBlock = errors.New("abecs: the application is blocked")
)

// statusError is a status word that ends the command.
type statusError uint16

func (e statusError) Error() string { return fmt.Sprintf("abecs: the card answered %04X", uint16(e)) }

// kernel is one card in one payment.
type kernel struct {
	ctx         context.Context
	card        chip
	contactless bool

	app     *application
	label   string
	data    map[tlv.Tag][]byte
	tvr     [5]byte
	tsi     [2]byte
	pinAsk  bool // online PIN is the method chosen
	sign    bool
	scripts []byte // 8059: results of issuer scripts
}

func newKernel(ctx context.Context, card chip, contactless bool) *kernel {
	return &kernel{ctx: ctx, card: card, contactless: contactless, data: map[tlv.Tag][]byte{}}
}

// send exchanges one APDU; T=0 procedure words are followed.
func (k *kernel) send(cla, ins, p1, p2 byte, data []byte, le bool) ([]byte, uint16, error) {
	c := []byte{cla, ins, p1, p2}
	if len(data) > 0 {
		c = append(append(c, byte(len(data))), data...)
	}
	if le {
		c = append(c, 0)
	}
	var out []byte
	for range 16 {
		r, err := k.card.Transmit(k.ctx, c)
		if err != nil {
			return nil, 0, errCardGone
		}
		if len(r) < 2 {
			return nil, 0, errData
		}
		sw := uint16(r[len(r)-2])<<8 | uint16(r[len(r)-1])
		out = append(out, r[:len(r)-2]...)
		switch sw >> 8 {
		case 0x61:
			c = []byte{0x00, 0xC0, 0x00, 0x00, byte(sw)}
			continue
		case 0x6C:
			c = append(c[:4:4], c[4:]...)
			c[len(c)-1] = byte(sw)
			continue
		}
		return out, sw, nil
	}
	return nil, 0, errData
}

func (k *kernel) selectFile(name []byte, nextOne bool) ([]byte, uint16, error) {
	p2 := byte(0)
	if nextOne {
		p2 = 2
	}
	return k.send(0x00, 0xA4, 0x04, p2, name, true)
}

// keep stores the primitive objects of b; the first one of a tag stays.
func (k *kernel) keep(b []byte) {
	it := tlv.IterDeep(b)
	for it.Next() {
		e := it.Element()
		if _, there := k.data[e.Tag]; there || e.Tag.Constructed() {
			continue
		}
		k.data[e.Tag] = append([]byte(nil), e.Value...)
	}
}

// lookup serves DOLs.
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

// terminalData fills what comes from the table and the pad.
func (k *kernel) terminalData() {
	a := k.app
	set := func(t tlv.Tag, v []byte) {
		if v != nil {
			k.data[t] = v
		}
	}
	un := make([]byte, 4)
	rand.Read(un)
	set(0x9F37, un)
	set(0x9F33, a.caps)
	set(0x9F40, a.addCaps)
	set(0x9F35, []byte{a.terminalType})
	set(0x9F1A, bcd("0"+a.country))
	if k.data[0x5F2A] == nil {
		set(0x5F2A, bcd("0"+a.currency))
	}
	set(0x5F36, []byte{byte(a.exponent)})
	set(0x9F16, []byte(a.merchant))
	set(0x9F1C, []byte(a.terminal))
	set(0x9F15, bcd(a.mcc))
	set(0x9F1E, []byte("VIRTPAD1"))
	set(0x9F01, []byte{0, 0, 0, 0, 0, 1})
	if len(a.versions) > 0 {
		set(0x9F09, a.versions[0])
	}
	set(0x9F66, []byte{0x36, 0x00, 0x40, 0x00})
	set(0x9F34, []byte{0x3F, 0x00, 0x00})
	fl := uint32(a.floor)
	set(0x9F1B, []byte{byte(fl >> 24), byte(fl >> 16), byte(fl >> 8), byte(fl)})
}

// bcd packs digits; an odd or wrong text gives nil.
func bcd(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

func (k *kernel) pan() string {
	if v, ok := k.data[0x5A]; ok {
		s, err := tlv.Digits(v)
		if err == nil && len(s) >= 8 {
			return s
		}
	}
	if v, ok := k.data[0x57]; ok {
		s := hex.EncodeToString(v)
		for i, c := range s {
			if c == 'd' {
				return s[:i]
			}
		}
	}
	return ""
}

// track2 is track 2 equivalent data (57) as text with '=' and without fill.
func (k *kernel) track2() string {
	var out []byte
	for _, c := range hex.EncodeToString(k.data[0x57]) {
		switch {
		case c == 'd':
			out = append(out, '=')
		case c == 'f':
			return string(out)
		default:
			out = append(out, byte(c))
		}
	}
	return string(out)
}

// amounts sets what is asked for; minor units.
func (k *kernel) amounts(amount, other int64, kind byte, currency string) {
	num := func(v int64) []byte { b, _ := tlv.AppendNumeric(nil, uint64(v), 6); return b }
	k.data[0x9F02], k.data[0x9F03] = num(amount), num(other)
	a := uint32(amount)
	k.data[0x81] = []byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}
	k.data[0x9C] = []byte{kind}
	if currency != "" {
		k.data[0x5F2A] = bcd("0" + currency)
	}
}

// TVR bits used here: byte index and mask (Book 3 Annex C5).
func (k *kernel) set(i int, mask byte) { k.tvr[i] |= mask }
