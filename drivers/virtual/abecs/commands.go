package abecs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tillbridge/p2pe/dukpt"
)

// pinpadTimeout is how long the pad waits for a customer where the host gives
// no time of its own.
const pinpadTimeout = 2 * time.Minute

// handler plays one command.
type handler struct {
	run func(*session, command) (answer, error)
	// abecs commands need the secure channel.
	abecs bool
	// clear answers are never encrypted.
	clear bool
}

func plain(f func(*session, command) answer) func(*session, command) (answer, error) {
	return func(s *session, c command) (answer, error) { return f(s, c), nil }
}

var handlers map[string]handler

func init() { // a literal would refer to itself through the handlers
	handlers = map[string]handler{
		"OPN": {run: plain((*session).opn), clear: true},
		"CLO": {run: plain((*session).clo), clear: true},
		"CLX": {run: plain((*session).clo), clear: true},
		"GIX": {run: plain((*session).gix)},
		"DSP": {run: plain((*session).dsp)},
		"DEX": {run: plain((*session).dex)},
		"GTS": {run: plain((*session).gts)},
		"TLI": {run: plain((*session).tli)},
		"TLR": {run: plain((*session).tlr)},
		"TLE": {run: plain((*session).tle)},
		"RMC": {run: (*session).rmc},
		"GKY": {run: (*session).gky},
		"GPN": {run: (*session).gpn},
		"CHP": {run: plain((*session).chp)},
		"MNU": {run: (*session).mnu, abecs: true},
		"CEX": {run: (*session).cex, abecs: true},
		"GCX": {run: (*session).gcx, abecs: true},
		"GED": {run: plain((*session).ged), abecs: true},
		"GTK": {run: plain((*session).gtk), abecs: true},
		"EBX": {run: plain((*session).ebx), abecs: true},
		"GOX": {run: (*session).gox, abecs: true},
		"FCX": {run: plain((*session).fcx), abecs: true},
	}
}

// command acknowledges and answers one packet.
func (s *session) command(payload []byte) error {
	refused, err := s.acknowledge()
	if err != nil || refused {
		return err
	}
	s.last = nil
	if len(payload) > 0 && payload[0] == secureMark {
		if s.secure == nil {
			return s.respond([]byte("ERR003"), true)
		}
		clear, err := s.secure.open(payload)
		if err != nil {
			s.secure = nil
			return s.respond([]byte("ERR009"), true)
		}
		if strings.HasPrefix(string(clear), "OPN") {
			s.secure = nil
			return s.respond([]byte("ERR009"), true)
		}
		payload = clear
	} else if s.secure != nil && !s.pad.o.Clear && !strings.HasPrefix(string(payload), "OPN") {
		s.secure = nil
		return s.respond([]byte("ERR009"), true)
	}
	c, err := parseCommand(payload)
	h, known := handlers[c.id]
	if len(payload) < 3 || !known {
		return s.respond([]byte("ERR010"), false)
	}
	reply := func(a answer) error { return s.respond(appendAnswer(nil, c.id, a), h.clear) }
	switch {
	case err != nil && c.id != "DSP": // an old DSP may be written without length
		return reply(fail(statBadParam))
	case !s.open && c.id != "OPN":
		return reply(fail(statBadCall))
	case h.abecs && s.secure == nil && !s.pad.o.Clear:
		return reply(fail(statNoSecure))
	}
	a, err := h.run(s, c)
	if err != nil {
		return err
	}
	if c.id == "CLO" || c.id == "CLX" {
		err := reply(a)
		s.secure, s.open, s.card = nil, false, nil
		return err
	}
	return reply(a)
}

// opn opens the pad, in the classic form or with a secure channel.
func (s *session) opn(c command) answer {
	s.open, s.secure, s.card = true, nil, nil
	if len(c.blocks) == 0 {
		return answer{}
	}
	if s.pad.o.Old {
		return answer{}
	}
	block, ch, err := openSecure(c.blocks[0])
	if err != nil {
		s.open = false
		return fail(statBadParam)
	}
	s.secure = ch
	return answer{block: block}
}

func (s *session) clo(c command) answer {
	if len(c.blocks) == 1 {
		s.pad.show(text(c.blocks[0]))
	}
	return answer{}
}

// text keeps what a display of the pad shows: Latin-1, carriage returns as
// line ends.
func text(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch {
		case c == '\r':
			out.WriteByte('\n')
		case c >= 0x20:
			out.WriteRune(rune(c))
		}
	}
	return out.String()
}

func (s *session) dsp(c command) answer {
	if len(c.blocks) != 1 || len(c.blocks[0]) != 32 {
		return fail(statBadParam)
	}
	s.pad.show(text(c.blocks[0][:16]) + "\n" + text(c.blocks[0][16:]))
	return answer{}
}

// dex has a block of a length and that many characters.
func (s *session) dex(c command) answer {
	if len(c.blocks) != 1 {
		return fail(statBadParam)
	}
	b := c.blocks[0]
	if n, ok := digits(b, 3); ok && n == len(b)-3 {
		b = b[3:]
	}
	s.pad.show(text(b))
	return answer{}
}

// gix answers with what is asked for, or with everything.
func (s *session) gix(c command) answer {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam)
	}
	ids, asked := l.get(inIDList)
	if asked && len(ids)%2 != 0 {
		return fail(statBadParam)
	}
	var a answer
	if !asked {
		for _, id := range gixAll {
			if v := s.pad.info(id); v != nil {
				a.add(id, v)
			}
		}
		return a
	}
	for ; len(ids) >= 2; ids = ids[2:] {
		id := uint16(ids[0])<<8 | uint16(ids[1])
		if v := s.pad.info(id); v != nil {
			a.add(id, v)
		}
	}
	return a
}

var gixAll = []uint16{0x8001, 0x8003, 0x8004, 0x8005, 0x8006, 0x8007, 0x8008, 0x8009, 0x800A, 0x8010, 0x8011,
	0x8012, 0x8013, 0x8020, 0x8021, 0x8030, 0x8031, 0x8032, 0x8033, 0x8034, 0x8035, 0x8036}

// info is one piece of what the pad says of itself; nil means that it has
// none.
func (p *Pad) info(id uint16) []byte {
	str := func(v string) []byte { return []byte(v) }
	slots := func(use string) []byte {
		m := make([]byte, 100)
		for i := range m {
			m[i] = '0'
			if p.vault.has(use, i) {
				m[i] = '1'
			}
		}
		return m
	}
	switch id {
	case 0x8001:
		return str(p.o.Serial)
	case 0x8003:
		return str(p.o.Model + ";16MB")
	case 0x8004:
		return str(p.o.Maker)
	case 0x8005:
		return str("1000000000")
	case 0x8006:
		return str("VIRTUAL 1.0")
	case 0x8007:
		return str("2.12")
	case 0x8008, 0x8009, 0x800A:
		return str("001.00 261130   ")
	case 0x8010, 0x8011, 0x8012, 0x8013:
		return str("VIRTUAL")
	case 0x8020:
		return str("0416")
	case 0x8021:
		return str("064128")
	case 0x8030, 0x8031, 0x8032, 0x8033:
		return []byte(strings.Repeat("0", 100))
	case 0x8034:
		return []byte(strings.Repeat("2", 100))
	case 0x8035:
		return slots("pin")
	case 0x8036:
		return slots("data")
	}
	slot := int(id & 0xFF)
	if slot > 99 {
		return nil
	}
	switch id >> 8 {
	case 0x91:
		if k, ok := p.vault.peek("pin", slot); ok {
			return k
		}
	case 0x92:
		if k, ok := p.vault.peek("data", slot); ok {
			return k
		}
	case 0x93:
		if v, ok := p.vault.version(twoDigits(slot)); ok {
			return str(v)
		}
		if slot == 0 {
			return str("0000000000")
		}
	}
	return nil
}

// rmc asks for the card until it is out.
func (s *session) rmc(c command) (answer, error) {
	if len(c.blocks) != 1 || len(c.blocks[0]) != 32 {
		return fail(statBadParam), nil
	}
	s.pad.show(text(c.blocks[0]))
	s.card = nil
	for s.pad.inSlot() != nil {
		if _, err := s.ask(needRemoval, 0); err != nil {
			return answer{}, err
		}
		s.pad.takeOut()
	}
	return answer{}, nil
}

var keyStatus = map[string]int{"ok": statOK, "f1": statF1, "f2": statF1 + 1, "f3": statF1 + 2, "f4": statF1 + 3, "back": statBack, "cancel": statCancel}

// gky waits for a key; the key is the status.
func (s *session) gky(command) (answer, error) {
	step, err := s.ask(needKey, 0)
	if err != nil {
		return answer{}, err
	}
	if step.Do == "cancel" {
		return fail(statCancel), nil
	}
	st, ok := keyStatus[step.Key]
	if !ok {
		st = statOK
	}
	return answer{status: st}, nil
}

// limit is the inactivity time of a command.
func (l params) limit(def time.Duration) time.Duration {
	if v, ok := l.get(inTimeout); ok && len(v) == 1 && v[0] > 0 {
		return time.Duration(v[0]) * time.Second
	}
	return def
}

// mnu shows a menu and returns the number of the entry, from 01.
func (s *session) mnu(c command) (answer, error) {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam), nil
	}
	var options []string
	for _, p := range l {
		if p.id == inMenu {
			if len(p.value) > 24 {
				return fail(statBadParam), nil
			}
			options = append(options, text(p.value))
		}
	}
	if len(options) == 0 {
		return fail(statMissing), nil
	}
	if len(options) > 20 {
		return fail(statBadParam), nil
	}
	title, _ := l.get(inMessage)
	s.pad.show(strings.Join(append([]string{text(title)}, options...), "\n"))
	step, err := s.ask(needMenu, l.limit(pinpadTimeout))
	switch {
	case err != nil:
		return answer{}, err
	case step.Do == "timeout":
		return fail(statTimeout), nil
	case step.Do == "cancel" || step.N < 1 || step.N > len(options):
		return fail(statCancel), nil
	}
	var a answer
	a.addText(outValue, twoDigits(step.N))
	return a, nil
}

// cex waits for the first of several events.
func (s *session) cex(c command) (answer, error) {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam), nil
	}
	opt, ok := l.get(inCEXOpt)
	if !ok {
		return fail(statMissing), nil
	}
	if len(opt) != 6 {
		return fail(statBadParam), nil
	}
	event := func(code string) answer {
		var a answer
		a.addText(outEvent, code)
		return a
	}
	if opt[2] == '2' {
		if s.pad.inSlot() == nil {
			return event("91"), nil
		}
		step, err := s.ask(needRemoval, l.limit(0))
		if err != nil {
			return answer{}, err
		}
		if step.Do == "timeout" {
			return fail(statTimeout), nil
		}
		s.pad.takeOut()
		return event("91"), nil
	}
	if opt[2] == '1' && s.pad.inSlot() != nil {
		return event("92"), nil
	}
	def := time.Duration(0)
	if opt[3] == '1' {
		def = pinpadTimeout
	}
	for {
		want := needCard
		if opt[1] != '1' && opt[2] != '1' && opt[3] != '1' {
			want = needKey
		}
		step, err := s.ask(want, l.limit(def))
		if err != nil {
			return answer{}, err
		}
		switch step.Do {
		case "timeout":
			if _, given := l.get(inTimeout); !given {
				return event("93"), nil
			}
			return fail(statTimeout), nil
		case "cancel":
			if opt[0] == '1' {
				return event("13"), nil
			}
		case "key":
			if opt[0] == '1' {
				st := keyStatus[step.Key]
				return event(twoDigits(st)), nil
			}
		case "insert":
			if opt[2] != '1' {
				continue
			}
			if _, err := s.pad.put(step); err != nil {
				return fail(statInternal), nil
			}
			return event("92"), nil
		case "tap":
			if opt[3] != '1' {
				continue
			}
			// The card stays in the customer's hand: GCX will see it.
			s.pad.customer.again(step)
			return event("94"), nil
		case "swipe":
			if opt[1] != '1' {
				continue
			}
			in, err := s.pad.put(step)
			if err != nil {
				return fail(statInternal), nil
			}
			s.card = in
			s.readStripe(in)
			a := event("90")
			left, right := maskWidths(l, 6, 4)
			addMaskedTracks(&a, in, left, right)
			return a, nil
		}
	}
}

// again puts a step back in front.
func (c *customer) again(s Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.AfterMS = 0
	c.steps = append([]Step{s}, c.steps...)
}

func (s *session) readStripe(in *inserted) {
	in.pan, in.track1, in.track2 = in.card.PAN(), in.card.Track1(), strings.ReplaceAll(in.card.Track2(), "D", "=")
	in.read = true
}

// maskWidths reads PANMASK "eedd".
func maskWidths(l params, left, right int) (int, int) {
	if v := l.text(inPANMask, 4, ""); v != "" {
		if n, err := strconv.Atoi(v); err == nil {
			return n / 100, n % 100
		}
	}
	return left, right
}

func masked(digits string, left, right int) string {
	if left+right >= len(digits) {
		return digits
	}
	return digits[:left] + strings.Repeat("*", len(digits)-left-right) + digits[len(digits)-right:]
}

// addMaskedTracks adds the truncated tracks: number masked, discretionary data
// left out.
func addMaskedTracks(a *answer, in *inserted, left, right int) {
	if in.track1 != "" {
		if pan, rest, ok := strings.Cut(strings.TrimPrefix(in.track1, "B"), "^"); ok {
			name, tail, _ := strings.Cut(rest, "^")
			a.addText(outTrack1M, "B"+masked(pan, left, right)+"^"+name+"^"+tail[:min(7, len(tail))])
		}
	}
	if in.track2 != "" {
		if pan, rest, ok := strings.Cut(in.track2, "="); ok {
			a.addText(outTrack2M, masked(pan, left, right)+"="+rest[:min(7, len(rest))])
		}
	}
}

// chp passes APDUs to the chip: block of slot (1), operation (1) and, for an
// APDU, length (3) and hex. Operations: 0 off, 1 on, 2 APDU.
func (s *session) chp(c command) answer {
	if len(c.blocks) != 1 || len(c.blocks[0]) < 2 {
		return fail(statBadParam)
	}
	b := c.blocks[0]
	in := s.pad.inSlot()
	if in == nil {
		return fail(statNoCard)
	}
	reply := func(r []byte) answer { return answer{block: fmt.Appendf(nil, "%03d%X", len(r), r)} }
	switch b[1] {
	case '0':
		in.card.Reset()
		return answer{}
	case '1':
		in.card.Reset()
		return reply(in.card.ATR())
	case '2':
		n, ok := digits(b[2:], 3)
		if !ok || len(b) != 5+2*n {
			return fail(statBadParam)
		}
		apdu := bcd(string(b[5:]))
		if apdu == nil {
			return fail(statBadParam)
		}
		r, err := in.Transmit(s.ctx, apdu)
		if err != nil {
			return fail(statChipComms)
		}
		return reply(r)
	}
	return fail(statBadParam)
}

// status turns an error of the kernel into the protocol's.
func status(err error, contactless bool) int {
	var sw statusError
	switch {
	case errors.Is(err, errCardGone) && contactless:
		return statCTLSComms
	case errors.Is(err, errCardGone):
		return statNoCard
	case errors.Is(err, errNoApps):
		return statNoApp
	case errors.Is(err, errAppBlock):
		return statBlocked
	case errors.Is(err, errData):
		return statCardData
	case errors.As(err, &sw):
		return statCardBad
	case errors.Is(err, errNoKey), errors.Is(err, dukpt.ErrExhausted):
		return statNoKey
	}
	return statInternal
}
