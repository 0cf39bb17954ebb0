package ccid

// cardT1 is the card's side of T=1 (ISO/IEC 7816-3 section 11), for one card
// with LRC and a field size of 32 bytes.
type cardT1 struct {
	ifsd    int
	ns, nr  byte // next number to send, next number expected
	in      []byte
	out     []byte // rest of the answer
	last    []byte // last block sent
	waiting bool   // a WTX request is out: the answer follows its response
}

const cardIFSC = 32

// block answers one block; nil is a card that says nothing.
func (t *cardT1) block(raw []byte, fault Fault, run func([]byte) []byte) []byte {
	out := t.answer(raw, fault == WTX, run)
	if out == nil {
		return nil
	}
	if out[1]&0xC0 != 0x80 || out[1]&0x0F == 0 { // an R-block about damage is never asked for again
		t.last = out
	}
	if fault == BadLRC {
		out = append([]byte(nil), out...)
		out[len(out)-1] ^= 0x55
	}
	return out
}

func (t *cardT1) answer(raw []byte, wtx bool, run func([]byte) []byte) []byte {
	sum := byte(0)
	for _, b := range raw {
		sum ^= b
	}
	if len(raw) < 4 || int(raw[2]) != len(raw)-4 || sum != 0 {
		return t.r(1)
	}
	pcb, inf := raw[1], raw[3:len(raw)-1]
	switch {
	case pcb&0x80 == 0: // I-block
		if pcb>>6&1 != t.nr || len(inf) > cardIFSC {
			return t.r(2)
		}
		t.nr ^= 1
		t.in = append(t.in, inf...)
		if pcb&0x20 != 0 {
			return t.r(0)
		}
		command := t.in
		t.in = nil
		if t.out = run(command); t.out == nil {
			return nil
		}
		if wtx {
			t.waiting = true
			return t.frame(0xC3, []byte{4})
		}
		return t.i()
	case pcb&0x40 == 0: // R-block
		switch {
		case t.waiting: // the request for time once more
			return t.last
		case pcb>>4&1 == t.ns && len(t.out) > 0:
			return t.i()
		case pcb>>4&1 == t.ns: // it waits for an answer to what did not come here
			return t.r(0)
		case t.last != nil:
			return t.last
		}
		return t.r(0)
	}
	switch pcb {
	case 0xC0: // RESYNCH
		*t = cardT1{ifsd: t.ifsd}
		return t.frame(0xE0, nil)
	case 0xC1:
		if len(inf) == 1 && inf[0] > 0 && inf[0] < 0xFF {
			t.ifsd = int(inf[0])
			return t.frame(0xE1, inf)
		}
	case 0xC2:
		t.in, t.out = nil, nil
		return t.frame(0xE2, nil)
	case 0xE3:
		if t.waiting {
			t.waiting = false
			return t.i()
		}
	}
	return t.r(2)
}

// i sends the next part of the answer.
func (t *cardT1) i() []byte {
	n := min(t.ifsd, len(t.out))
	part := t.out[:n]
	t.out = t.out[n:]
	pcb := t.ns << 6
	if len(t.out) > 0 {
		pcb |= 0x20
	}
	t.ns ^= 1
	return t.frame(pcb, part)
}

func (t *cardT1) r(code byte) []byte { return t.frame(0x80|t.nr<<4|code, nil) }

func (t *cardT1) frame(pcb byte, inf []byte) []byte {
	out := append([]byte{0, pcb, byte(len(inf))}, inf...)
	sum := byte(0)
	for _, b := range out {
		sum ^= b
	}
	return append(out, sum)
}
