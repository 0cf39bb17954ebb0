package abecs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"

	"tillbridge/emv/tlv"
)

// The pad's own terminal, from EMV Books 1 to 4. It does no offline data
// authentication and no offline PIN.

// chip is what the kernel talks to: C-APDU in, R-APDU out.
type chip interface {
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

// application is an entry of the AID table (record type 1 of chapter 5).
type application struct {
	acquirer, record string
	aid              []byte
	kind             int
	label            string
	versions         [][]byte // 9F09
	country          string
	currency         string
	exponent         int
	merchant         string
	mcc              string
	terminal         string
	caps             []byte // 9F33
	addCaps          []byte // 9F40
	terminalType     byte   // 9F35
	tacDefault       []byte
	tacDenial        []byte
	tacOnline        []byte
	floor            int64
	tdol, ddol       []byte
	ctlsMode         byte // 0: not contactless
	ctlsLimit        int64
	ctlsCVM          int64
}

// candidate is an application that card and pad share.
type candidate struct {
	app      *application
	name     []byte // DF name to select
	label    string
	priority byte // 1 is first, 0 last
}

// outcome of the first and second GENERATE AC.
type outcome byte

const (
	declined outcome = iota
	approved
	online
)

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

// find builds the candidate list (Book 1 section 12): the directory, else the
// list of AIDs.
func (k *kernel) find(apps []*application) ([]candidate, error) {
	list, err := k.directory(apps)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if list, err = k.byName(apps); err != nil {
			return nil, err
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i].priority, list[j].priority
		return a != 0 && (b == 0 || a < b)
	})
	if len(list) == 0 {
		return nil, errNoApps
	}
	return list, nil
}

func (k *kernel) directory(apps []*application) ([]candidate, error) {
	dir := "1PAY.SYS.DDF01"
	if k.contactless {
		dir = "2PAY.SYS.DDF01"
	}
	fci, sw, err := k.selectFile([]byte(dir), false)
	if err != nil || sw != 0x9000 {
		return nil, err
	}
	var entries [][]byte
	collect := func(b []byte) {
		it := tlv.IterDeep(b)
		for it.Next() {
			if e := it.Element(); e.Tag == 0x61 {
				entries = append(entries, e.Value)
			}
		}
	}
	if sfi, ok := tlv.Find(fci, 0x88); ok && len(sfi) == 1 && sfi[0] >= 1 && sfi[0] <= 10 {
		for n := byte(1); n <= 32; n++ {
			rec, sw, err := k.send(0x00, 0xB2, n, sfi[0]<<3|4, nil, true)
			if err != nil {
				return nil, err
			}
			if sw != 0x9000 {
				break
			}
			collect(rec)
		}
	} else {
		collect(fci)
	}
	var list []candidate
	for _, e := range entries {
		name, _ := tlv.Find(e, 0x4F)
		a := match(apps, name)
		if a == nil {
			continue
		}
		list = append(list, newCandidate(a, name, e))
	}
	return list, nil
}

// match finds the table's application for a name of the card: the longest AID
// that it begins with.
func match(apps []*application, name []byte) *application {
	var best *application
	for _, a := range apps {
		if len(name) >= len(a.aid) && bytes.HasPrefix(name, a.aid) && (best == nil || len(a.aid) > len(best.aid)) {
			best = a
		}
	}
	return best
}

func newCandidate(a *application, name, data []byte) candidate {
	c := candidate{app: a, name: append([]byte(nil), name...), label: a.label}
	if v, ok := tlv.Find(data, 0x9F12); ok && printable(v) {
		c.label = string(v)
	} else if v, ok := tlv.Find(data, 0x50); ok && printable(v) {
		c.label = string(v)
	}
	if v, ok := tlv.Find(data, 0x87); ok && len(v) == 1 {
		c.priority = v[0] & 0x0F
	}
	return c
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return len(b) > 0
}

func (k *kernel) byName(apps []*application) ([]candidate, error) {
	var list []candidate
	blocked := false
	seen := map[string]bool{}
	for _, a := range apps {
		for again := false; ; again = true {
			fci, sw, err := k.selectFile(a.aid, again)
			if err != nil {
				return nil, err
			}
			if sw == 0x6283 {
				blocked = true
				continue
			}
			if sw != 0x9000 {
				break
			}
			name, ok := tlv.Find(fci, 0x84)
			if !ok || seen[string(name)] {
				break
			}
			seen[string(name)] = true
			list = append(list, newCandidate(a, name, fci))
			if bytes.Equal(name, a.aid) {
				break
			}
		}
	}
	if len(list) == 0 && blocked {
		return nil, errAppBlock
	}
	return list, nil
}

// start selects the candidate finally, gets its processing options and reads
// its records (Book 3 sections 10.1 and 10.2).
func (k *kernel) start(c candidate) error {
	fci, sw, err := k.selectFile(c.name, false)
	if err != nil {
		return err
	}
	if sw == 0x6283 {
		return errAppBlock
	}
	if sw != 0x9000 {
		return statusError(sw)
	}
	k.app, k.label = c.app, c.label
	k.keep(fci)
	k.data[0x9F06] = c.name
	k.data[0x4F] = c.name
	k.terminalData()
	var pdol []byte
	if raw, ok := k.data[0x9F38]; ok {
		d, err := tlv.ParseDOL(raw)
		if err != nil {
			return errData
		}
		pdol = d.Append(nil, k.lookup)
	}
	r, sw, err := k.send(0x80, 0xA8, 0x00, 0x00, tlv.Append(nil, 0x83, pdol), true)
	if err != nil {
		return err
	}
	if sw != 0x9000 {
		return statusError(sw)
	}
	if v, ok := tlv.Get(r, 0x80); ok {
		if len(v) < 2 {
			return errData
		}
		k.data[0x82], k.data[0x94] = v[:2], v[2:]
	} else {
		k.keep(r)
	}
	if len(k.data[0x82]) != 2 || len(k.data[0x94])%4 != 0 {
		return errData
	}
	for afl := k.data[0x94]; len(afl) >= 4; afl = afl[4:] {
		sfi, from, to := afl[0]>>3, afl[1], afl[2]
		if sfi == 0 || sfi > 30 || from == 0 || to < from {
			return errData
		}
		for n := int(from); n <= int(to); n++ {
			rec, sw, err := k.send(0x00, 0xB2, byte(n), sfi<<3|4, nil, true)
			if err != nil {
				return err
			}
			if sw != 0x9000 {
				return errData
			}
			k.keep(rec)
		}
	}
	if k.pan() == "" || k.data[0x8C] == nil && k.data[0x9F26] == nil {
		return errData
	}
	return nil
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

// cvm walks the list (Book 3 section 10.5). pinBypass is not offered.
func (k *kernel) cvm(amount int64) {
	result := func(rule, cond, res byte) { k.data[0x9F34] = []byte{rule, cond, res} }
	if k.contactless {
		switch {
		case amount > k.app.ctlsCVM && k.app.caps[1]&0x40 != 0:
			k.pinAsk = true
			result(0x42, 0x00, 0x00)
			k.set(2, 0x04)
		default:
			result(0x1F, 0x00, 0x02)
		}
		k.tsi[0] |= 0x40
		return
	}
	list := k.data[0x8E]
	if k.data[0x82][0]&0x10 == 0 || len(list) < 10 || len(list)%2 != 0 {
		result(0x3F, 0x00, 0x00)
		if k.data[0x82][0]&0x10 != 0 {
			k.set(0, 0x20) // ICC data missing
		}
		return
	}
	k.tsi[0] |= 0x40
	num := func(b []byte) int64 { return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3]) }
	x, y := num(list[:4]), num(list[4:8])
	kind := k.data[0x9C][0]
	for rules := list[8:]; len(rules) >= 2; rules = rules[2:] {
		rule, cond := rules[0], rules[1]
		sameCurrency := bytes.Equal(k.data[0x9F42], k.data[0x5F2A])
		ok := false
		switch cond {
		case 0x00:
			ok = true
		case 0x01:
			ok = kind == 0x01 && k.app.terminalType&0x0F > 3
		case 0x02:
			ok = kind != 0x01 && kind != 0x09
		case 0x03:
			ok = k.supports(rule)
		case 0x04:
			ok = kind == 0x01
		case 0x05:
			ok = kind == 0x09
		case 0x06:
			ok = sameCurrency && amount < x
		case 0x07:
			ok = sameCurrency && amount > x
		case 0x08:
			ok = sameCurrency && amount < y
		case 0x09:
			ok = sameCurrency && amount > y
		}
		if !ok {
			continue
		}
		if k.supports(rule) {
			switch rule & 0x3F {
			case 0x02:
				k.pinAsk = true
				k.set(2, 0x04)
				result(rule, cond, 0x00)
				return
			case 0x1E:
				k.sign = true
				result(rule, cond, 0x00)
				return
			case 0x1F:
				result(rule, cond, 0x02)
				return
			}
		} else if m := rule & 0x3F; m == 0x01 || m == 0x04 {
			k.set(2, 0x10) // PIN entry required, pad does not do it
		}
		if rule&0x40 == 0 {
			result(rule, cond, 0x01)
			k.set(2, 0x80)
			return
		}
	}
	result(0x3F, 0x00, 0x01)
	k.set(2, 0x80)
}

// supports reports whether the pad's capabilities (9F33) hold a method.
func (k *kernel) supports(rule byte) bool {
	caps := k.app.caps
	if len(caps) != 3 {
		return false
	}
	switch rule & 0x3F {
	case 0x02:
		return caps[1]&0x40 != 0
	case 0x1E:
		return caps[1]&0x20 != 0
	case 0x1F:
		return caps[1]&0x08 != 0
	}
	return false // offline PIN in any form: not in this pad
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

// sensitive tags are never returned to the host.
var sensitive = map[tlv.Tag]bool{0x57: true, 0x5A: true, 0x56: true, 0x9F6B: true, 0x9F1F: true, 0x9F20: true}

// emvData returns the objects that a tag list asks for, as far as there are.
func (k *kernel) emvData(list []byte) []byte {
	var out []byte
	for len(list) > 0 {
		t, n := firstTag(list)
		if n == 0 {
			return out
		}
		list = list[n:]
		if sensitive[t] {
			continue
		}
		if v, ok := k.lookup(t); ok {
			out = tlv.Append(out, t, v)
		}
	}
	return out
}

// firstTag reads the tag that list begins with; n is 0 where there is none.
func firstTag(list []byte) (t tlv.Tag, n int) {
	if len(list) == 0 {
		return 0, 0
	}
	t, n = tlv.Tag(list[0]), 1
	if list[0]&0x1F != 0x1F {
		return t, 1
	}
	for n < len(list) && n < 4 {
		t, n = t<<8|tlv.Tag(list[n]), n+1
		if list[n-1]&0x80 == 0 {
			return t, n
		}
	}
	return 0, 0
}
