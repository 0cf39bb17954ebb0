package abecs

import (
	"fmt"
	"strings"
	"time"
)

// pinFor asks for the PIN of the card in use. done is set where the answer is
// final.
func (s *session) pinFor(in *inserted, method string, slot int, l params) (a answer, done bool, err error) {
	if method != "3" || !s.pad.vault.has("pin", slot) {
		return fail(statNoKey), true, nil
	}
	if v, ok := l.get(inMessage); ok {
		s.pad.show(text(v))
	}
	pin, st, err := s.enterPIN(in, l.limit(pinpadTimeout))
	if err != nil || st != statOK {
		return fail(st), true, err
	}
	if in.entry == "contact" && s.pad.isGone(in) {
		return fail(statNoCard), true, nil
	}
	b, st := s.encipherPIN(pin, in.pan, slot)
	if st != statOK {
		return fail(st), true, nil
	}
	in.pin = b
	return answer{}, false, nil
}

// enterPIN is the customer at the keypad.
func (s *session) enterPIN(in *inserted, limit time.Duration) (string, int, error) {
	step, err := s.ask(needPIN, limit)
	switch {
	case err != nil:
		return "", 0, err
	case step.Do == "timeout":
		return "", statTimeout, nil
	case step.Do == "cancel":
		return "", statCancel, nil
	}
	own := "1234"
	if in != nil {
		own = in.card.PIN()
	}
	switch {
	case step.Do == "wrong-pin":
		return wrongPIN(own), statOK, nil
	case step.Digits != "":
		return step.Digits, statOK, nil
	}
	return own, statOK, nil
}

// wrongPIN is a PIN of the same length whose last digit differs.
func wrongPIN(own string) string {
	b := []byte(own)
	b[len(b)-1] = '0' + (b[len(b)-1]-'0'+1)%10
	return string(b)
}

// gpn captures a PIN for a number that the host gives, or for the card that
// was read.
func (s *session) gpn(c command) (answer, error) {
	if len(c.blocks) != 1 {
		return fail(statBadParam), nil
	}
	f := &fields{rest: string(c.blocks[0])}
	method, slot := f.text(1), int(f.number(2, 10))
	f.text(32)
	n, pan := int(f.number(2, 10)), f.text(19)
	if f.text(1) != "1" {
		f.bad = true
	}
	least, most := f.number(2, 10), f.number(2, 10)
	msg := f.text(32)
	if f.bad || f.rest != "" || n > 19 || least < 4 || most < least || most > 12 {
		return fail(statBadParam), nil
	}
	number := strings.TrimSpace(pan[:n])
	if n == 0 {
		if s.card == nil || !s.card.read {
			return fail(statBadCall), nil
		}
		number = s.card.pan
	}
	if method != "3" || !s.pad.vault.has("pin", slot) {
		return fail(statNoKey), nil
	}
	s.pad.show(text([]byte(msg)))
	pin, st, err := s.enterPIN(s.card, pinpadTimeout)
	if err != nil || st != statOK {
		return fail(st), err
	}
	if len(pin) < int(least) || len(pin) > int(most) {
		return fail(statCancel), nil
	}
	b, st := s.encipherPIN(pin, number, slot)
	if st != statOK {
		return fail(st), nil
	}
	return answer{block: fmt.Appendf(nil, "%X%X", b.block, b.ksn)}, nil
}
