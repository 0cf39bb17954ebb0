package abecs

import (
	"strings"
	"time"
)

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
