package zvt

import (
	"cmp"
	"errors"
	"time"
)

// op is one operation that ends with a status information.
type op struct {
	rec     *Record
	card    *card
	entry   string
	undo    func() // takes back what the record changed in others
	partial bool
}

// pay takes sale, refund and reservation: they need a card.
func (s *session) pay(a apdu) error {
	data, kind := a.data, KindSale
	switch a.cmd {
	case cReserve:
		kind = KindReservation
	case cRefund:
		kind = KindRefund
		rest, ok := s.password(a)
		if !ok {
			return s.reply(0x8400 | codeProtocol)
		}
		data = rest
	}
	r, ok := bitmaps(data)
	switch {
	case !ok || !r.hasAmount:
		return s.reply(0x8400 | codeProtocol)
	case r.currency != 0 && r.currency != s.t.o.Currency:
		return s.reply(0x8400 | codeCurrency)
	case r.amount <= 0:
		return s.reply(0x8400 | codeTooSmall)
	}
	if err := s.reply(cReply); err != nil {
		return err
	}
	who, visit, err := s.person(r.amount)
	if err != nil {
		return err
	}
	if visit == 0 {
		return s.nothing(codeAborted)
	}
	if who.Card == "" {
		who.Card = "visa"
	}
	c := cards[who.Card]
	o := op{card: &c, entry: "insert", rec: &Record{Kind: kind, Asked: r.amount, Amount: r.amount, Currency: s.t.o.Currency,
		Card: c.name, Last4: c.last4(), Visit: visit, At: s.t.now()}}
	if who.Do == "tap" || who.Do == "swipe" {
		o.entry = who.Do
	}
	o.rec.Entry = o.entry
	if who.Do == "wrong-pin" {
		if err := s.intermediate(0x15, "Falsche PIN"); err != nil {
			return err
		}
	}
	if err := s.intermediate(0x04, "Bitte warten, Autorisierung läuft"); err != nil {
		return err
	}
	if who.Do == "decline" {
		if o.rec.Result = who.Code; who.Code == 0 {
			o.rec.Result = 0x05
		}
		o.rec.Amount = 0
		return s.finish(o)
	}
	f := s.t.faults
	if _, ok := f.Play("partial"); ok {
		o.rec.Amount, o.partial = max(1, r.amount/2), true
	} else if _, ok := f.Play("wrong-amount"); ok {
		o.rec.Amount = r.amount + 1
	} else if _, ok := f.Play("wrong-currency"); ok {
		o.rec.Currency = 840
	}
	return s.finish(o)
}

// person waits for the customer. A visit of 0 means that nobody paid.
func (s *session) person(amount int64) (Step, int, error) {
	if err := s.intermediate(0x0A, "Karte vorhalten oder einstecken"); err != nil {
		return Step{}, 0, err
	}
	s.t.wait("customer")
	limit := time.NewTimer(s.t.o.Patience)
	defer limit.Stop()
	for {
		if s.abort {
			return Step{}, 0, nil
		}
		who, visit, ok, changed := s.t.customer.take(amount)
		if ok {
			if who.AfterMS > 0 {
				if err := s.listen(time.After(time.Duration(who.AfterMS)*time.Millisecond), nil); err != nil {
					return Step{}, 0, err
				}
			}
			if s.abort || who.Do == "cancel" || who.Do == "walk-away" {
				return Step{}, 0, nil
			}
			s.t.wait("reply")
			return who, visit, nil
		}
		if err := s.listen(limit.C, changed); err != nil {
			return Step{}, 0, err
		}
		select {
		case <-changed:
			continue
		default:
		}
		if !s.abort { // patience is over
			return Step{}, 0, nil
		}
	}
}

// listen hears the register until a timer or a channel ends the wait, or the
// register asks to stop.
func (s *session) listen(limit <-chan time.Time, changed <-chan struct{}) error {
	done := make(chan time.Time)
	stop := make(chan struct{})
	defer close(stop)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-limit:
		case <-changed:
		case <-stop:
			return
		}
		close(done)
	}()
	for !s.abort {
		a, err := s.receive(done)
		if errors.Is(err, errSilent) {
			return nil
		}
		if err != nil {
			return err
		}
		if a.reply() {
			continue
		}
		if again, err := s.interrupted(a); !again {
			return err
		} else if err != nil {
			return err
		}
	}
	return nil
}

// correct takes what needs no card: reversal and the end of a reservation.
func (s *session) correct(a apdu) error {
	rest := a.data
	if a.cmd != cBookTotal || len(rest) >= 3 {
		if v, ok := s.password(a); ok {
			rest = v
		} else if a.cmd == cReverse {
			return s.reply(0x8400 | codeProtocol)
		}
	}
	r, ok := bitmaps(rest)
	if !ok || r.receipt < 0 {
		return s.reply(0x8400 | codeProtocol)
	}
	if r.currency != 0 && r.currency != s.t.o.Currency {
		return s.reply(0x8400 | codeCurrency)
	}
	if err := s.reply(cReply); err != nil {
		return err
	}
	if r.receipt == 0xFFFF && a.cmd == cPartRelease {
		return s.listReservations()
	}
	l := s.t.ledger
	rec := &Record{Currency: s.t.o.Currency, Asked: r.amount, At: s.t.now()}
	o := op{rec: rec}
	refuse := func(code int) error {
		rec.Result, rec.Amount = code, 0
		return s.finish(o)
	}
	if a.cmd == cReverse {
		rec.Kind = KindReversal
		of := l.find(r.receipt, KindSale, KindCapture, KindRefund)
		switch {
		case of == nil || of.Closed || r.hasAmount && r.amount != of.Amount:
			return refuse(codeNoReversal)
		case of.Reversed:
			return refuse(codeReversed)
		}
		rec.Amount, rec.Original, rec.Card, rec.Last4, rec.Currency = of.Amount, of.Trace, of.Card, of.Last4, of.Currency
		if of.Kind == KindRefund {
			rec.Amount = of.Amount
		}
		l.change(func() { of.Reversed = true })
		o.undo = func() { of.Reversed = false }
		return s.finish(o)
	}
	of := l.find(r.receipt, KindReservation)
	rec.Kind = map[uint16]string{cBookTotal: KindCapture, cRelease: KindRelease, cPartRelease: KindRelease}[a.cmd]
	switch {
	case of == nil || of.Closed:
		return refuse(codePreauthError)
	case r.hasAmount && (r.amount <= 0 || r.amount > of.Amount), a.cmd == cBookTotal && !r.hasAmount:
		return refuse(codePreauth)
	}
	rec.Original, rec.Card, rec.Last4, rec.Amount = of.Trace, of.Card, of.Last4, of.Amount
	if a.cmd != cRelease && r.hasAmount {
		rec.Amount = r.amount
	}
	if a.cmd == cBookTotal {
		rec.Visit = of.Visit
	}
	if a.cmd == cRelease && r.hasAmount && r.amount != of.Amount {
		return refuse(codePreauth)
	}
	held := of.Amount
	l.change(func() {
		if a.cmd == cPartRelease {
			of.Amount -= rec.Amount
		}
		of.Closed = a.cmd != cPartRelease || of.Amount == 0
	})
	o.undo = func() { of.Closed, of.Amount = false, held }
	return s.finish(o)
}

// listReservations answers 06 23 with receipt FFFF.
func (s *session) listReservations() error {
	var list, c, w writer
	for _, n := range s.t.ledger.open() {
		list.tlv(0x08, toBCD(int64(n), 2))
	}
	c.tlv(0x23, list.b)
	w.tlv(0x06, c.b)
	_, err := s.command(cAborted, append([]byte{codePreauthError}, w.b...))
	return err
}

// nothing ends an operation that never got a number: no card was read.
func (s *session) nothing(code byte) error {
	var w writer
	w.put(0x27, code)
	w.put(0x29, bcdText(s.t.o.TerminalID)...)
	if _, err := s.command(cStatusInfo, w.b); err != nil {
		return err
	}
	_, err := s.command(cAborted, []byte{code})
	return err
}

// finish books an operation and tells it. The booking stands when the register
// has answered the status information and every line of the receipt; until
// then a missing or negative answer takes it back.
func (s *session) finish(o op) error {
	l, f := s.t.ledger, s.t.faults
	l.add(o.rec)
	data := s.status(o)
	l.change(func() { o.rec.status, o.rec.receipt = data, s.t.receiptLines(o.rec) })
	approved := o.rec.Result == 0
	takeBack := func() {
		if !approved {
			return
		}
		l.change(func() {
			o.rec.Undone, o.rec.Result = true, codeAborted
			if o.undo != nil {
				o.undo()
			}
			o.rec.status = s.status(op{rec: o.rec, card: o.card, entry: o.entry})
		})
	}
	if approved {
		if _, ok := f.Play("lose-status"); ok {
			return errDrop
		}
		if _, ok := f.Play("hang-up"); ok {
			wire := encode(cStatusInfo, data)
			_ = s.write(wire[:len(wire)/2])
			takeBack()
			return errDrop
		}
		if d, ok := f.Play("late"); ok {
			if err := s.listen(time.After(cmp.Or(d, 200*time.Second)), nil); err != nil {
				takeBack()
				return err
			}
		}
		if _, ok := f.Play("no-amount"); ok {
			data = s.status(op{rec: &Record{Kind: o.rec.Kind, Trace: o.rec.Trace, Receipt: o.rec.Receipt, Amount: -1, Currency: o.rec.Currency, At: o.rec.At}, card: o.card, entry: o.entry})
		}
	}
	a, err := s.command(cStatusInfo, data)
	for tries := 0; err == nil && a.cmd == 0x8400|codeBusy && tries < 30; tries++ {
		s.pause(askAgain, 0) // the goods are not ready: ask again
		a, err = s.command(cStatusInfo, data)
	}
	if err != nil {
		takeBack()
		return err
	}
	if issued, ok := partIssued(a); ok && approved && issued < o.rec.Amount {
		l.change(func() {
			o.rec.Amount = issued
			o.rec.status = s.status(o)
		})
	} else if !a.good() {
		return s.reverseItself(takeBack)
	}
	if !approved {
		_, err := s.command(cAborted, []byte{byte(o.rec.Result)})
		return err
	}
	if _, ok := f.Play("auto-reversal"); ok {
		return s.reverseItself(takeBack)
	}
	if _, ok := f.Play("drop-after-ack"); ok {
		return errDrop
	}
	if _, ok := f.Play("contradict"); ok {
		if _, err := s.command(cStatusInfo, s.status(op{rec: &Record{Result: 5, Trace: o.rec.Trace, Receipt: o.rec.Receipt, Currency: o.rec.Currency, At: o.rec.At}, card: o.card, entry: o.entry})); err != nil {
			return err
		}
	}
	if s.t.registered().config&0x02 != 0 {
		if err := s.print(o.rec.receipt, 2); err != nil {
			takeBack()
			return err
		}
	}
	_, err = s.command(cCompletion, nil)
	return err
}

// partIssued reads 84 9D: the register gave out goods for a part only.
func partIssued(a apdu) (int64, bool) {
	if a.cmd != 0x849D {
		return 0, false
	}
	r, ok := bitmaps(a.data)
	return r.amount, ok && r.hasAmount && r.amount > 0
}

func (s *session) reverseItself(takeBack func()) error {
	takeBack()
	if err := s.intermediate(0x05, "Automatischer Storno"); err != nil {
		return err
	}
	_, err := s.command(cAborted, []byte{codeAborted})
	return err
}
