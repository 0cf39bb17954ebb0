package ccid

import "context"

// cardT0 is the card's side of T=0 (ISO/IEC 7816-3 sections 10.3 and 12.2): a
// command has data or an answer and never both, an answer to data waits for
// GET RESPONSE, and a wrong P3 is answered with the right one. A card that does
// this by itself is passed through.
type cardT0 struct {
	waiting []byte // data for GET RESPONSE
	status  []byte // SW1 SW2 behind them
	again   []byte // CLA INS P1 P2 of a command whose P3 was wrong
}

// command answers one TPDU, nil when the card is gone.
func (t *cardT0) command(ctx context.Context, tpdu []byte, run func(context.Context, []byte) []byte) []byte {
	p3 := int(tpdu[4])
	if len(tpdu) > 5 {
		*t = cardT0{}
		answer := run(ctx, tpdu)
		if len(answer) <= 2 {
			return answer
		}
		t.waiting, t.status = answer[:len(answer)-2], answer[len(answer)-2:]
		return []byte{0x61, byte(min(len(t.waiting), 256))}
	}
	if p3 == 0 {
		p3 = 256
	}
	fetch := tpdu[1] == 0xC0 && t.again == nil
	if t.waiting == nil || !fetch && string(t.again) != string(tpdu[:4]) {
		*t = cardT0{}
		answer := run(ctx, tpdu)
		if len(answer) <= 2 {
			return answer
		}
		t.waiting, t.status = answer[:len(answer)-2], answer[len(answer)-2:]
	}
	if p3 > len(t.waiting) {
		if !fetch {
			t.again = append([]byte(nil), tpdu[:4]...)
		}
		return []byte{0x6C, byte(len(t.waiting))}
	}
	out := append([]byte(nil), t.waiting[:p3]...)
	if t.waiting = t.waiting[p3:]; len(t.waiting) > 0 {
		t.again = nil
		return append(out, 0x61, byte(min(len(t.waiting), 256)))
	}
	out = append(out, t.status...)
	*t = cardT0{}
	return out
}
