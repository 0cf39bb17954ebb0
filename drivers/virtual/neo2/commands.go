package neo2

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"tillbridge/emv/tlv"
	"tillbridge/p2pe/mask"
)

// Statuses.
const (
	statOK         = 0x00
	statCommand    = 0x02
	statSub        = 0x03
	statCRC        = 0x04
	statParameter  = 0x05
	statTimeout    = 0x08
	statFailed     = 0x0A
	statNotAllowed = 0x0B
	statOnline     = 0x23
	statAccepted   = 0x63
)

// Error codes of FFEE1F. Their values were not seen in the guide.
const (
	codeCardError = 0x20
	codeUnknown   = 0x27
	codeSilent    = 0x30
	codeDeclined  = 0x42
)

// Result codes of 60-11 and 60-12.
const (
	resultApproved = 0x0002
	resultDeclined = 0x0003
	resultOnline   = 0x0004
	resultOffline  = 0x0000
	resultNo       = 0x0001
)

// command answers one command.
func (s *session) command(c command) error {
	if c.bad {
		return s.send(c.cmd, statCRC, nil)
	}
	switch c.cmd {
	case 0x18:
		if c.sub == 0x01 {
			return s.send(0x18, statOK, nil)
		}
	case 0x05:
		if c.sub == 0x01 {
			s.forget()
			return s.send(0x05, statOK, nil)
		}
	case 0x29:
		switch c.sub {
		case 0x00:
			return s.send(0x29, statOK, []byte(s.r.o.Firmware))
		case 0x17:
			return s.send(0x29, statOK, s.r.uid)
		}
	case 0x81:
		if s.r.o.Old {
			return s.send(c.cmd, statCommand, nil)
		}
		if c.sub == 0x02 {
			return s.send(0x81, statOK, []byte{s.r.vault.state()})
		}
	case 0xC7:
		if s.r.o.Old {
			return s.send(c.cmd, statCommand, nil)
		}
		switch {
		case c.sub == 0x37:
			return s.send(0xC7, statOK, []byte{s.r.sred()})
		case c.sub == 0x36 && s.r.o.Locked:
			return s.send(0xC7, statNotAllowed, nil)
		case c.sub == 0x36 && len(c.data) == 1:
			s.r.setSRED(c.data[0])
			return s.send(0xC7, statOK, nil)
		case c.sub == 0x36:
			return s.send(0xC7, statParameter, nil)
		}
	case 0x02:
		if c.sub == 0x40 {
			return s.activate(c)
		}
	case 0x60:
		switch c.sub {
		case 0x10:
			return s.start(c)
		case 0x11:
			return s.authenticate(c)
		case 0x12:
			return s.complete(c)
		}
	default:
		return s.send(c.cmd, statCommand, nil)
	}
	return s.send(c.cmd, statSub, nil)
}

// terms checks that the amount and the rest are there.
func terms(data []byte) bool {
	for t, n := range map[tlv.Tag]int{0x9F02: 6, 0x9A: 3, 0x9C: 1, 0x5F2A: 2} {
		if v, ok := tlv.Find(data, t); !ok || len(v) != n {
			return false
		}
	}
	return true
}

// present puts a card into slot or field and reads it.
func (s *session) present(step Step, data []byte) (*presented, error) {
	card, err := s.r.cardNamed(step.Card)
	if err != nil {
		return nil, err
	}
	p := &presented{card: card, entry: map[string]string{"insert": "contact", "tap": "contactless", "swipe": "swipe"}[step.Do]}
	card.Reset()
	if p.entry == "swipe" {
		return p, nil
	}
	p.kernel = &kernel{ctx: s.ctx, card: p, data: map[tlv.Tag][]byte{}}
	p.kernel.keep(data)
	p.gone = s.r.customer.pulls("60-10") || p.entry == "contactless" && s.r.customer.pulls("02-40")
	return p, p.kernel.start()
}

// fail is the answer of a transaction that the card ended.
func (s *session) fail(cmd byte, err error) error {
	code := byte(codeCardError)
	switch {
	case errors.Is(err, errCardGone):
		code = codeSilent
	case errors.Is(err, errNoApps):
		code = codeUnknown
	}
	s.forget()
	return s.send(cmd, statFailed, tlv.Append(nil, 0xFFEE1F, []byte{code, 0, 0, 0}))
}

// start is 60-10: fallback, two times in seconds, terms.
func (s *session) start(c command) error {
	if s.card != nil {
		return s.send(0x60, statNotAllowed, nil)
	}
	if len(c.data) < 5 || !terms(c.data[5:]) {
		return s.send(0x60, statParameter, nil)
	}
	if err := s.send(0x60, statAccepted, nil); err != nil {
		return err
	}
	if s.r.o.Asks {
		if _, err := s.request(0x01, []byte("INSERT CARD")); err != nil {
			return s.unanswered(0x60, err)
		}
	}
	limit := time.Duration(c.data[1])<<8 | time.Duration(c.data[2])
	for {
		step, err := s.ask(limit * time.Second)
		switch {
		case errors.Is(err, errCancel):
			return s.send(0x60, statFailed, nil)
		case err != nil:
			return err
		case step.Do == "timeout":
			return s.send(0x60, statTimeout, nil)
		case step.Do == "cancel":
			return s.send(0x60, statFailed, nil)
		case step.Do != "insert":
			continue
		}
		p, err := s.present(step, c.data[5:])
		if err != nil {
			return s.fail(0x60, err)
		}
		s.card, s.started = p, true
		out, attribution, err := s.cardObjects(p)
		if err != nil {
			s.forget()
			return s.send(0x60, statFailed, nil)
		}
		if _, ok := s.r.faults.Play("no-attribution"); !ok {
			out = append(tlv.Append(nil, 0xDFEE26, []byte{attribution}), out...)
		}
		return s.send(0x60, statOK, out)
	}
}

func (s *session) unanswered(cmd byte, err error) error {
	if errors.Is(err, errSilent) || errors.Is(err, errCancel) {
		s.forget()
		return s.send(cmd, statFailed, nil)
	}
	return err
}

// cardObjects are what 60-10 and 02-40 say of a card, and the attribution.
func (s *session) cardObjects(p *presented) ([]byte, byte, error) {
	if p.entry == "swipe" {
		track := p.card.Track2()
		digits := track
		if len(digits)%2 != 0 {
			digits += "F"
		}
		if s.r.sred()&0x02 == 0 || s.faulty() {
			pan := p.card.PAN()
			if len(pan)%2 != 0 {
				pan += "F"
			}
			return s.protectHex(fromStripe, pan, digits)
		}
		rec, err := s.stripe(track)
		if err != nil {
			return nil, 0, err
		}
		a := byte(fromStripe | msrOn)
		if s.r.sred()&0x01 != 0 {
			a |= emvOn
		}
		return tlv.Append(nil, 0xDFEE23, rec), a, nil
	}
	from := byte(fromContact)
	if p.entry == "contactless" {
		from = fromContactless
	}
	k := p.kernel
	out, a, err := s.protect(nil, from, k.data[0x5A], k.data[0x57])
	for _, t := range []tlv.Tag{0x50, 0x9F12, 0x84, 0x4F, 0x5F34, 0x5F24} {
		if v, ok := k.data[t]; ok {
			out = tlv.Append(out, t, v)
		}
	}
	return out, a, err
}

// faulty reports that a fault of card data is due.
func (s *session) faulty() bool {
	return s.r.faults.Due("encryption-off", "clear-data", "wrong-attribution", "no-ksn")
}

func (s *session) protectHex(from byte, pan, track string) ([]byte, byte, error) {
	p, err := tlv.AppendDigits(nil, pan, 0)
	if err != nil {
		p = nil
	}
	return s.protect(nil, from, p, hexBytes(track))
}

func hexBytes(text string) []byte {
	out := make([]byte, 0, len(text)/2)
	for i := 0; i+1 < len(text); i += 2 {
		v, err := strconv.ParseUint(text[i:i+2], 16, 8)
		if err != nil {
			return nil
		}
		out = append(out, byte(v))
	}
	return out
}

// activate is 02-40: a time in seconds, terms, and the interfaces (DFEF37).
func (s *session) activate(c command) error {
	if s.card != nil {
		return s.send(0x02, statNotAllowed, nil)
	}
	if len(c.data) < 1 || !terms(c.data[1:]) {
		return s.send(0x02, statParameter, nil)
	}
	offer := byte(0x07)
	if v, ok := tlv.Find(c.data[1:], 0xDFEF37); ok && len(v) == 1 {
		offer = v[0]
	}
	for {
		step, err := s.ask(time.Duration(c.data[0]) * time.Second)
		switch {
		case errors.Is(err, errCancel):
			return s.send(0x02, statFailed, nil)
		case err != nil:
			return err
		case step.Do == "timeout":
			return s.send(0x02, statTimeout, nil)
		case step.Do == "cancel":
			return s.send(0x02, statFailed, nil)
		case step.Do == "swipe" && offer&0x01 == 0, step.Do == "tap" && offer&0x02 == 0, step.Do == "insert" && offer&0x04 == 0:
			continue
		}
		p, err := s.present(step, c.data[1:])
		if err != nil {
			return s.fail(0x02, err)
		}
		status := byte(statOK)
		if p.entry == "contactless" {
			if err := p.kernel.authenticate(true); err != nil {
				return s.fail(0x02, err)
			}
			s.enter(p)
			switch p.kernel.first {
			case arqc:
				status = statOnline
			case aac:
				s.forget()
				return s.send(0x02, statFailed, tlv.Append(nil, 0xFFEE1F, []byte{codeDeclined, 0, 0, 0}))
			}
		}
		out, attribution, err := s.cardObjects(p)
		if err != nil {
			s.forget()
			return s.send(0x02, statFailed, nil)
		}
		switch p.entry {
		case "contact":
			s.card, s.started = p, true
		case "contactless":
			out = append(out, s.objects(p)...)
		}
		if _, ok := s.r.faults.Play("no-attribution"); !ok {
			out = append([]byte{attribution}, out...)
		}
		return s.send(0x02, status, out)
	}
}

var answerTags = []tlv.Tag{0x9F26, 0x9F27, 0x9F10, 0x9F37, 0x9F36, 0x95, 0x9A, 0x9F21, 0x9C, 0x9F02, 0x9F03, 0x5F2A, 0x82, 0x9F1A, 0x9F34,
	0x9F33, 0x9F35, 0x9F1E, 0x84, 0x9F09, 0x5F34, 0x9F06, 0x9B, 0x8A}

// objects are the data of a cryptogram.
func (s *session) objects(p *presented) []byte {
	var out []byte
	_, amount := s.r.faults.Play("wrong-amount")
	_, currency := s.r.faults.Play("wrong-currency")
	for _, t := range answerTags {
		v, ok := p.kernel.lookup(t)
		if !ok {
			continue
		}
		if t == 0x9F02 && amount || t == 0x5F2A && currency {
			v = append([]byte(nil), v...)
			v[len(v)-1] ^= 0x01
		}
		out = tlv.Append(out, t, v)
	}
	return out
}

// enter writes the first cryptogram into the books.
func (s *session) enter(p *presented) {
	k := p.kernel
	amount, _ := tlv.Numeric(k.data[0x9F02])
	currency, _ := tlv.Numeric(k.data[0x5F2A])
	p.line = s.r.enter(Payment{Card: mask.PAN(p.card.PAN()), Entry: p.entry, Amount: int64(amount), Currency: fmt.Sprintf("%03d", currency),
		First: said(k.first), Cryptogram: fmt.Sprintf("%X", k.data[0x9F26])})
}

func said(k kind) string {
	switch k {
	case tc:
		return "approved"
	case arqc:
		return "online"
	}
	return "declined"
}

func coded(code uint16, data []byte) []byte {
	return append([]byte{byte(code >> 8), byte(code)}, data...)
}

// authenticate is 60-11: forced online.
func (s *session) authenticate(c command) error {
	p := s.card
	if p == nil || !s.started {
		return s.send(0x60, statNotAllowed, nil)
	}
	if len(c.data) < 1 {
		return s.send(0x60, statParameter, nil)
	}
	s.started = false
	if err := s.send(0x60, statAccepted, nil); err != nil {
		return err
	}
	if s.r.o.Asks {
		if _, err := s.request(0x02, nil); err != nil {
			return s.unanswered(0x60, err)
		}
	}
	if s.r.customer.pulls("60-11") {
		p.gone = true
	}
	if err := p.kernel.authenticate(c.data[0] == 1); err != nil {
		return s.fail(0x60, err)
	}
	s.enter(p)
	code := uint16(resultNo)
	switch p.kernel.first {
	case arqc:
		code, s.waits = resultOnline, true
	case tc:
		code = resultOffline
	}
	if _, ok := s.r.faults.Play("odd-result"); ok {
		code = 0x7F7F
	}
	out := coded(code, s.objects(p))
	if !s.waits {
		s.forget()
	}
	return s.send(0x60, statOK, out)
}

// complete is 60-12: host result, response code, issuer authentication,
// scripts.
func (s *session) complete(c command) error {
	p := s.card
	if p == nil || !s.waits {
		return s.send(0x60, statNotAllowed, nil)
	}
	if len(c.data) < 1 {
		return s.send(0x60, statParameter, nil)
	}
	s.waits = false
	if err := s.send(0x60, statAccepted, nil); err != nil {
		return err
	}
	if s.r.customer.pulls("60-12") {
		p.gone = true
	}
	host := c.data[1:]
	arc, _ := tlv.Find(host, 0x8A)
	if _, ok := s.r.faults.Play("card-declines"); ok {
		host = tlv.Append(nil, 0x8A, []byte("05"))
	}
	got, err := p.kernel.complete(c.data[0] == 0, host)
	if err != nil {
		s.r.settle(p.line, "declined", string(arc))
		return s.fail(0x60, err)
	}
	s.r.settle(p.line, said(got), string(arc))
	code := uint16(resultDeclined)
	if got == tc {
		code = resultApproved
	}
	if _, ok := s.r.faults.Play("odd-result"); ok {
		code = 0x7F7F
	}
	out := coded(code, s.objects(p))
	s.forget()
	return s.send(0x60, statOK, out)
}
