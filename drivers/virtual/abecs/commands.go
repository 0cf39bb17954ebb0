package abecs

import (
	"errors"
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
