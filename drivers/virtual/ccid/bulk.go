package ccid

import (
	"context"
	"encoding/binary"
)

// States of the card in bStatus.
const (
	stActive   = 0
	stInactive = 1
	stAbsent   = 2
	stFailed   = 0x40
	stTime     = 0x80
)

// hold stands for an answer that is not sent.
var hold = []byte("hold")

// reply builds a message of the reader.
func reply(kind, slot, seq, status, code, last byte, data []byte) []byte {
	out := make([]byte, 10, 10+len(data))
	out[0] = kind
	binary.LittleEndian.PutUint32(out[1:5], uint32(len(data)))
	out[5], out[6], out[7], out[8], out[9] = slot, seq, status, code, last
	return append(out, data...)
}

func (r *Reader) icc() byte {
	switch {
	case r.card == nil:
		return stAbsent
	case !r.powered:
		return stInactive
	}
	return stActive
}

// answerType is the type that answers a command (table 6.1-1).
func answerType(command byte) byte {
	switch command {
	case 0x62, 0x6F, 0x69:
		return 0x80
	case 0x6C, 0x6D, 0x61:
		return 0x82
	case 0x6B:
		return 0x83
	case 0x73:
		return 0x84
	}
	return 0x81
}

// bulk answers one message of the bulk OUT endpoint.
func (r *Reader) bulk(ctx context.Context, m []byte) [][]byte {
	if len(m) < 10 {
		return nil // not even a header to answer to
	}
	kind, slot, seq := m[0], m[5], m[6]
	fail := func(code byte) [][]byte {
		return [][]byte{reply(answerType(kind), slot, seq, stFailed|r.icc(), code, 0, nil)}
	}
	declared := binary.LittleEndian.Uint32(m[1:5])
	switch {
	case uint64(declared) != uint64(len(m)-10) || len(m) > r.o.MaxMessage:
		return fail(1)
	case slot != 0:
		return fail(5)
	}
	data := m[10:]
	if kind == 0x72 { // Abort: ends an abort that the control endpoint began, or stands alone
		matched := r.abort < 0 || r.abort == int(seq)
		if matched {
			r.abort, r.began, r.answer = -1, nil, nil
			return [][]byte{reply(0x81, slot, seq, r.icc(), 0, 0, nil)}
		}
		return fail(0xFF)
	}
	if r.abort >= 0 {
		return fail(0xFF)
	}
	plain := func() [][]byte { return [][]byte{reply(0x81, slot, seq, r.icc(), 0, 0, nil)} }
	switch kind {
	case 0x65:
		return plain()
	case 0x62:
		if r.card == nil {
			return fail(0xFE)
		}
		if m[7] > 3 {
			return fail(7)
		}
		r.card.Reset()
		r.powered, r.began, r.answer = true, nil, nil
		atr := r.card.ATR()
		r.protocol, r.t0 = firstProtocol(atr), cardT0{}
		r.t1 = &cardT1{ifsd: 32}
		if r.o.Features&0x400 != 0 {
			r.t1.ifsd = r.o.MaxIFSD
		}
		r.params = []byte{0x11, 0x00, 0x00, 0x0A, 0x00}
		if r.protocol == 1 {
			r.params = []byte{0x11, 0x10, 0x00, 0x45, 0x00, 0x20, 0x00}
		}
		return [][]byte{reply(0x80, slot, seq, r.icc(), 0, 0, atr)}
	case 0x63:
		r.powered, r.began, r.answer = false, nil, nil
		return plain()
	case 0x6C, 0x6D:
		if !r.powered {
			return fail(0xFE)
		}
		return [][]byte{reply(0x82, slot, seq, r.icc(), 0, r.protocol, r.params)}
	case 0x61:
		switch {
		case !r.powered:
			return fail(0xFE)
		case m[7] > 1 || r.o.Protocols&(1<<m[7]) == 0:
			return fail(7)
		case m[7] == 0 && len(data) != 5, m[7] == 1 && len(data) != 7:
			return fail(1)
		}
		r.protocol, r.params = m[7], append([]byte(nil), data...)
		return [][]byte{reply(0x82, slot, seq, r.icc(), 0, r.protocol, r.params)}
	case 0x6E:
		return plain()
	case 0x6F:
		return r.transfer(ctx, m, fail)
	}
	return [][]byte{reply(answerType(kind), slot, seq, stFailed|r.icc(), 0, 0, nil)}
}

// firstProtocol is the first that an answer to reset names (TD1).
func firstProtocol(atr []byte) byte {
	if len(atr) < 2 {
		return 0
	}
	at := 2
	for bit := range 3 {
		if atr[1]&(0x10<<bit) != 0 {
			at++
		}
	}
	if atr[1]&0x80 != 0 && at < len(atr) {
		return atr[at] & 15
	}
	return 0
}

// transfer is XfrBlock (6.1.4).
func (r *Reader) transfer(ctx context.Context, m []byte, fail func(byte) [][]byte) [][]byte {
	seq, data := m[6], m[10:]
	level := binary.LittleEndian.Uint16(m[8:10])
	if !r.powered {
		return fail(0xFE)
	}
	var fault Fault
	if len(r.faults) > 0 {
		fault, r.faults = r.faults[0], r.faults[1:]
	}
	switch fault {
	case Mute:
		return fail(0xFE)
	case Parity:
		return fail(0xFD)
	}
	chain := byte(0)
	var out []byte
	switch {
	case r.o.Level == Extended:
		var done bool
		if out, chain, done = r.piece(ctx, level, data); !done {
			return fail(8)
		}
	case level != 0:
		return fail(8)
	case r.o.Level == TPDU && len(data) == 3 && data[0] == 0xFF && data[2] == data[0]^data[1]:
		r.protocol = data[1] & 15
		out = append(out, data...)
	case r.o.Level == TPDU && r.protocol == 1:
		out = r.t1.block(data, fault, func(command []byte) []byte { return r.run(ctx, command) })
		if out == nil {
			return fail(0xFE)
		}
	case r.o.Level == TPDU && (len(data) < 5 || len(data) > 5 && len(data) != 5+int(data[4])):
		return fail(1) // a TPDU of T=0 has five bytes, and then the data that P3 says
	case r.o.Level == TPDU:
		out = r.t0.command(ctx, data, r.run)
	default:
		out = r.run(ctx, data)
	}
	if r.card == nil || out == nil {
		return fail(0xFE)
	}
	if fault == Removed {
		r.pull()
		return fail(0xFE)
	}
	good := reply(0x80, 0, seq, r.icc(), 0, chain, out)
	switch fault {
	case TimeExtension:
		more := reply(0x80, 0, seq, stTime|r.icc(), 2, 0, nil)
		return [][]byte{more, more, more, good}
	case WrongSeq:
		good[6]++
	case Late:
		r.late = append(r.late, good)
		return [][]byte{hold}
	case Silent:
		return nil
	case Double:
		return [][]byte{good, good}
	case Overlong:
		good[1]++
	}
	return [][]byte{good}
}

// piece takes one part of a chained command, or gives one of a chained answer.
func (r *Reader) piece(ctx context.Context, level uint16, data []byte) (out []byte, chain byte, ok bool) {
	room := r.o.MaxMessage - 10
	give := func(first bool) ([]byte, byte, bool) {
		out := r.answer[:min(room, len(r.answer))]
		r.answer = r.answer[len(out):]
		switch more := len(r.answer) > 0; {
		case first && more:
			return out, 1, true
		case first:
			return out, 0, true
		case more:
			return out, 3, true
		}
		return out, 2, true
	}
	switch level {
	case 0x0000, 0x0001:
		r.began, r.answer = append([]byte(nil), data...), nil
	case 0x0002, 0x0003:
		if r.began == nil {
			return nil, 0, false
		}
		r.began = append(r.began, data...)
	case 0x0010:
		if len(r.answer) == 0 || len(data) != 0 {
			return nil, 0, false
		}
		return give(false)
	default:
		return nil, 0, false
	}
	if level == 1 || level == 3 {
		return []byte{}, 0x10, true
	}
	command := r.began
	r.began = nil
	if r.answer = r.run(ctx, command); r.answer == nil {
		return nil, 0, true
	}
	return give(true)
}

// run lets the card answer, nil when it is gone.
func (r *Reader) run(ctx context.Context, command []byte) []byte {
	if r.card == nil {
		return nil
	}
	answer, err := r.card.Transmit(ctx, command)
	if err != nil {
		r.pull()
		return nil
	}
	r.done = append(r.done, Executed{append([]byte(nil), command...), append([]byte(nil), answer...)})
	return answer
}
