package abecs

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"tillbridge/p2pe/mask"
)

// gcx waits for a card, chooses the application and reads it; a contactless
// card makes its cryptogram here.
func (s *session) gcx(c command) (answer, error) {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam), nil
	}
	if l.missing(inDate, inTime) {
		return fail(statMissing), nil
	}
	date, hour := bcd(l.text(inDate, 6, "x")), bcd(l.text(inTime, 6, "x"))
	amount, _, ok1 := l.number(inAmount, 12)
	other, _, ok2 := l.number(inCashback, 12)
	if date == nil || hour == nil || !ok1 || !ok2 {
		return fail(statBadParam), nil
	}
	s.card = nil
	opt := l.text(inGCXOpt, 5, "00000")
	in := s.pad.inSlot()
	if in != nil {
		s.pad.again(in)
	}
	for in == nil {
		s.pad.show("INSERT OR SWIPE CARD")
		step, err := s.ask(needCard, l.limit(pinpadTimeout))
		if err != nil {
			return answer{}, err
		}
		switch step.Do {
		case "timeout":
			return fail(statTimeout), nil
		case "cancel":
			return fail(statCancel), nil
		case "tap":
			if opt[0] != '1' {
				continue
			}
		}
		if in, err = s.pad.put(step); err != nil {
			return fail(statInternal), nil
		}
	}
	left, right := maskWidths(l, 99, 0)
	if in.entry == "swipe" {
		s.card = in
		s.readStripe(in)
		var a answer
		a.addText(outCardType, "00")
		a.addText(outICCStat, "0")
		addMaskedTracks(&a, in, min(left, 6), max(right, 4))
		a.addText(outExpiry, expiryText(in.card.Expiry()))
		return a, nil
	}
	contactless := in.entry == "contactless"
	if s.pad.customer.pulls("GCX") {
		s.pad.pull(in)
	}
	k := newKernel(s.ctx, in, contactless)
	k.data[0x9A], k.data[0x9F21] = date, hour
	k.data[0x9F41] = []byte{0, 0, 0, 1}
	currency := l.text(inCurrency, 3, "")
	kind := byte(0)
	if v, ok := l.get(inType); ok && len(v) == 1 {
		kind = v[0]
	}
	k.amounts(amount, other, kind, currency)
	if v, ok := l.get(inEMVData); ok {
		k.keep(v)
	}
	st, err := s.choose(k, l)
	if err != nil {
		return answer{}, err
	}
	if st != statOK {
		return fail(st), nil
	}
	in.kernel, in.pan, in.track2 = k, k.pan(), k.track2()
	in.read = true
	s.card = in
	if err := s.notify("SELECIONADO:", k.label); err != nil {
		return answer{}, err
	}
	if contactless {
		if amount > k.app.ctlsLimit {
			return fail(statOtherIF), nil
		}
		if st := s.firstCryptogram(in, amount, 0, false, false, currency); st != statOK {
			return fail(st), nil
		}
	}

	var a answer
	a.addText(outAIDInfo, fmt.Sprintf("%s%s%02d", k.app.acquirer, k.app.record, k.app.kind))
	a.addText(outLabel, cutText(k.label, 16))
	a.addText(outDevice, "00")
	if contactless {
		a.addText(outCardType, "06")
	} else {
		a.addText(outCardType, "03")
		a.addText(outICCStat, "0")
	}
	if in.track2 != "" {
		addMaskedTracks(&a, in, min(left, 6), max(right, 4))
	}
	a.addText(outPANM, masked(in.pan, left, right))
	psn := "00"
	if v := k.data[0x5F34]; len(v) == 1 {
		psn = hex.EncodeToString(v)
	}
	a.addText(outPSN, psn)
	if v := k.data[0x5F28]; len(v) == 2 {
		a.addText(outIssuer, hex.EncodeToString(v)[1:])
	}
	if v := k.data[0x5F20]; printable(v) {
		a.addText(outHolder, cutText(strings.TrimSpace(string(v)), 26))
	}
	if v := k.data[0x5F24]; len(v) == 3 {
		a.addText(outExpiry, hex.EncodeToString(v))
	}
	if tags, ok := l.get(inTagList); ok {
		a.add(outEMVData, k.emvData(tags))
	}
	return a, nil
}

func cutText(s string, n int) string { return s[:min(len(s), n)] }

// expiryText turns YYMM into the YYMMDD of the protocol: the month's last day.
func expiryText(yymm string) string {
	t, err := time.Parse("0601", yymm)
	if err != nil {
		return yymm
	}
	return t.AddDate(0, 1, -1).Format("060102")
}

// notify tells the host what the display shows during a blocking command.
func (s *session) notify(line1, line2 string) error {
	text := fmt.Sprintf("%-16.16s%-16.16s", line1, line2)
	s.pad.show(line1 + "\n" + line2)
	return s.respond([]byte("NTM000032"+text), false)
}

// pull takes the card away from under a command.
func (p *Pad) pull(in *inserted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in.gone = true
	if p.slot == in {
		p.slot = nil
	}
}

// firstCryptogram decides and asks the card; it writes the books.
func (s *session) firstCryptogram(in *inserted, amount, floor int64, exception, force bool, currency string) int {
	k := in.kernel
	k.tvr, k.tsi = [5]byte{}, [2]byte{}
	k.set(0, 0x80) // offline data authentication was not performed
	k.restrictions()
	k.cvm(amount)
	k.risk(amount, floor, exception, force)
	got, err := k.generate(k.action(true), 0x8C)
	if err != nil {
		return status(err, k.contactless)
	}
	in.first = got
	if currency == "" {
		currency = k.app.currency
	}
	line := Payment{
		Card: mask.PAN(in.pan), Entry: in.entry, Amount: amount, Currency: currency, Type: int(k.data[0x9C][0]),
		First: [...]string{"declined", "approved", "online"}[got], ATC: int(k.data[0x9F36][0])<<8 | int(k.data[0x9F36][1]),
		Cryptogram: strings.ToUpper(hex.EncodeToString(k.data[0x9F26])),
	}
	if got != online {
		line.Final = line.First
		s.pad.finish(in)
	}
	in.line = s.pad.enter(line)
	return statOK
}

// gox verifies the cardholder and asks the card for its first cryptogram.
func (s *session) gox(c command) (answer, error) {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam), nil
	}
	if l.missing(inAcquirer, inMethodP, inKeyIdx) {
		return fail(statMissing), nil
	}
	in := s.card
	if in == nil || in.kernel == nil || in.began {
		return fail(statBadCall), nil
	}
	k := in.kernel
	method := l.text(inMethodP, 1, "")
	slot, ok := digits([]byte(l.text(inKeyIdx, 2, "")), 2)
	amount, given, ok1 := l.number(inAmount, 12)
	other, _, ok2 := l.number(inCashback, 12)
	opt := l.text(inGOXOpt, 5, "00000")
	if !ok || !ok1 || !ok2 || method == "" {
		return fail(statBadParam), nil
	}
	if s.pad.customer.pulls("GOX") {
		s.pad.pull(in)
	}
	in.began = true
	if k.contactless {
		if v, _ := k.lookup(0x9F02); given && !sameAmount(v, amount) {
			return fail(statBadParam), nil // the cryptogram is over another amount
		}
	} else {
		if s.pad.isGone(in) {
			return fail(statNoCard), nil
		}
		kind := k.data[0x9C][0]
		if v, ok := l.get(inType); ok && len(v) == 1 {
			kind = v[0]
		}
		if !given {
			amount = bcdValue(k.data[0x9F02])
		}
		k.amounts(amount, other, kind, l.text(inCurrency, 3, ""))
		if v, ok := l.get(inEMVData); ok {
			k.keep(v)
		}
		floor := k.app.floor
		if v, ok := l.get(inTrmPar); ok {
			if len(v) != 10 {
				return fail(statBadParam), nil
			}
			floor = int64(v[0])<<24 | int64(v[1])<<16 | int64(v[2])<<8 | int64(v[3])
		}
		// The PIN comes before the cryptogram; whether it is asked for is
		// decided by the card's list.
		k.tvr, k.pinAsk, k.sign = [5]byte{}, false, false
		k.cvm(amount)
		if k.pinAsk {
			if a, done, err := s.pinFor(in, method, slot, l); err != nil || done {
				return a, err
			}
		}
		currency := l.text(inCurrency, 3, "")
		if st := s.firstCryptogram(in, amount, floor, opt[0] == '1', opt[1] == '1', currency); st != statOK {
			return fail(st), nil
		}
	}
	if k.contactless && k.pinAsk && in.first == online {
		if a, done, err := s.pinFor(in, method, slot, l); err != nil || done {
			s.pad.settle(in.line, "declined")
			return a, err
		}
	}
	flag := func(on bool) string {
		if on {
			return "1"
		}
		return "0"
	}
	res := map[outcome]string{approved: "0", declined: "1", online: "2"}[in.first] + flag(k.sign)
	withPIN := in.pin != nil && in.first == online
	if withPIN {
		res += "2"
	} else {
		res += "0"
	}
	var a answer
	a.addText(outGOX, res+"000")
	if withPIN {
		a.add(outPINBlock, in.pin.block)
		a.add(outKSN, in.pin.ksn)
	}
	if tags, ok := l.get(inTagList); ok {
		a.add(outEMVData, k.emvData(tags))
	}
	return a, nil
}

func sameAmount(v []byte, amount int64) bool { return bcdValue(v) == amount }

func bcdValue(b []byte) (v int64) {
	for _, c := range b {
		v = v*100 + int64(c>>4)*10 + int64(c&15)
	}
	return v
}

// ged returns data of the card in use.
func (s *session) ged(c command) answer {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam)
	}
	tags, ok := l.get(inTagList)
	if !ok {
		return fail(statMissing)
	}
	if s.card == nil || s.card.kernel == nil {
		return fail(statBadCall)
	}
	var a answer
	a.add(outEMVData, s.card.kernel.emvData(tags))
	return a
}

// fcx gives the host's answer to the card.
func (s *session) fcx(c command) answer {
	l, err := c.params()
	if err != nil {
		return fail(statBadParam)
	}
	opt, ok := l.get(inFCXOpt)
	if !ok {
		return fail(statMissing)
	}
	if len(opt) != 4 || opt[0] < '0' || opt[0] > '2' {
		return fail(statBadParam)
	}
	arc := l.text(inARC, 2, "")
	if opt[0] != '2' && arc == "" {
		return fail(statMissing)
	}
	in := s.card
	if in == nil || in.kernel == nil || !in.began || in.done {
		return fail(statBadCall)
	}
	k := in.kernel
	if s.pad.customer.pulls("FCX") {
		s.pad.pull(in)
	}
	s.pad.finish(in)
	data, _ := l.get(inEMVData)
	var got outcome
	if k.contactless {
		// The card is gone since the tap: the host decides.
		got = declined
		if opt[0] == '0' {
			got = approved
		}
	} else {
		if opt[0] == '2' {
			arc = "Z3"
		}
		if got, err = k.complete(opt[0] == '0', opt[0] != '2', arc, data); err != nil {
			s.pad.settle(in.line, "declined")
			return fail(status(err, false))
		}
	}
	if _, ok := s.pad.faults.Play("card-declines"); ok {
		got = declined
	}
	var a answer
	if got == approved {
		s.pad.settle(in.line, "approved")
		a.addText(outFCX, "000")
	} else {
		s.pad.settle(in.line, "declined")
		a.addText(outFCX, "100")
	}
	if len(k.scripts) > 0 {
		a.add(outScripts, k.scripts)
	}
	if tags, ok := l.get(inTagList); ok {
		a.add(outEMVData, k.emvData(tags))
	}
	return a
}
