package abecs

import (
	"fmt"
	"strings"
	"time"
)

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

func (s *session) readStripe(in *inserted) {
	in.pan, in.track1, in.track2 = in.card.PAN(), in.card.Track1(), strings.ReplaceAll(in.card.Track2(), "D", "=")
	in.read = true
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
