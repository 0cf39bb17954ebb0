package zvt

import (
	"fmt"
	"strings"
)

// status codes 04 0F of an operation. An amount below zero is left out.
func (s *session) status(o op) []byte {
	r := o.rec
	var w writer
	w.put(0x27, byte(r.Result))
	switch {
	case r.Kind == KindEndOfDay, r.Amount < 0:
	case r.Result == 0:
		w.put(0x04, toBCD(r.Amount, 6)...)
	default:
		w.put(0x04, toBCD(r.Asked, 6)...)
	}
	w.put(0x0B, toBCD(int64(r.Trace), 3)...)
	if r.Original != 0 {
		w.put(0x37, toBCD(int64(r.Original), 3)...)
	}
	w.put(0x0C, bcdText(r.At.Format("150405"))...)
	w.put(0x0D, bcdText(r.At.Format("0102"))...)
	if o.card != nil {
		w.put(0x0E, 0x28, 0x12)
		w.put(0x17, 0x00, 0x01)
		w.llvar(0x22, o.card.masked())
	}
	w.put(0x29, bcdText(s.t.o.TerminalID)...)
	w.put(0x2A, fmt.Appendf(nil, "%-15s", "100764992")...)
	if o.card != nil && r.Result == 0 {
		w.put(0x3B, fmt.Appendf(nil, "%06d\x00\x00", r.Trace)...)
	}
	if r.Result != 0 && !r.Undone {
		w.lllvar(0x3C, s.t.bytes("Zahlung nicht möglich"))
	}
	w.put(0x49, toBCD(int64(r.Currency), 2)...)
	w.put(0x87, toBCD(int64(r.Receipt), 2)...)
	w.put(0x88, toBCD(int64(r.Trace), 3)...)
	if o.card != nil {
		w.put(0x8A, o.card.kind)
		w.llvar(0x8B, append([]byte(o.card.name), 0))
	}
	if s.t.registered().tlv && o.card != nil {
		var c writer
		c.tlv(0x43, o.card.aid)
		c.tlv(0x1F10, []byte{map[string]byte{"insert": 2, "swipe": 1}[o.entry]})
		c.tlv(0x1F12, []byte{map[string]byte{"insert": 1, "tap": 2}[o.entry]})
		w.tlv(0x06, c.b)
	}
	return w.b
}

// receiptLines are what is printed of a record.
func (t *Terminal) receiptLines(r *Record) []string {
	title := map[string]string{KindSale: "Zahlung", KindReversal: "Storno", KindRefund: "Gutschrift", KindReservation: "Reservierung",
		KindCapture: "Buchung der Reservierung", KindRelease: "Freigabe der Reservierung", KindEndOfDay: "Kassenschnitt"}[r.Kind]
	head := "K U N D E N B E L E G"
	if r.Kind == KindEndOfDay {
		head = "H Ä N D L E R B E L E G"
	}
	lines := []string{head, title, fmt.Sprintf("Terminal-ID: %s", t.o.TerminalID),
		fmt.Sprintf("TA-Nr %06d  Beleg-Nr %04d", r.Trace, r.Receipt), r.At.Format("02.01.2006 15:04:05")}
	if r.Last4 != "" {
		lines = append(lines, r.Card, "############"+r.Last4)
	}
	lines = append(lines, fmt.Sprintf("Betrag %d.%02d (%03d)", r.Amount/100, r.Amount%100, r.Currency))
	switch {
	case r.Kind == KindEndOfDay:
		lines = append(lines, "Abschluss erfolgt")
	case r.Result == 0:
		lines = append(lines, "Zahlung erfolgt", "Bitte Beleg für Rückgabe aufbewahren")
	default:
		lines = append(lines, "Vorgang abgebrochen")
	}
	return lines
}

// print sends lines as 06 D3 when the register permits it, else as 06 D1.
// kind is 1 merchant, 2 customer, 3 administration.
func (s *session) print(lines []string, kind byte) error {
	reg := s.t.registered()
	if reg.config&0x80 == 0 && !reg.blocks {
		return nil
	}
	lost := func(i int) bool {
		if i != len(lines)/2 {
			return false
		}
		_, ok := s.t.faults.Play("print-lost")
		return ok
	}
	if reg.blocks && reg.tlv {
		if lost(len(lines) / 2) {
			return errDrop
		}
		var block, c, w writer
		for _, l := range lines {
			block.tlv(0x07, s.t.bytes(l))
		}
		block.tlv(0x09, []byte{0x81})
		c.tlv(0x1F07, []byte{kind})
		c.tlv(0x25, block.b)
		w.tlv(0x06, c.b)
		return s.printed(cPrintBlock, w.b)
	}
	for i, l := range lines {
		if lost(i) {
			return errDrop
		}
		attribute := byte(0)
		if i == len(lines)-1 {
			attribute = 0x81
		}
		if err := s.printed(cPrintLine, append([]byte{attribute}, s.t.bytes(l)...)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) printed(cmd uint16, data []byte) error {
	a, err := s.command(cmd, data)
	if err == nil && !a.good() {
		return errSilent
	}
	return err
}

// repeat takes 06 20. Service byte 01 asks for the status information again,
// 02 for no receipt.
func (s *session) repeat(a apdu) error {
	rest, ok := s.password(a)
	if !ok {
		return s.reply(0x8400 | codeProtocol)
	}
	r, ok := bitmaps(rest)
	if !ok {
		return s.reply(0x8400 | codeProtocol)
	}
	if err := s.reply(cReply); err != nil {
		return err
	}
	l := s.t.ledger
	l.mu.Lock()
	var status []byte
	var lines []string
	if l.last != nil {
		status, lines = l.last.status, l.last.receipt
	}
	l.mu.Unlock()
	if status == nil {
		_, err := s.command(cAborted, []byte{codeFunction})
		return err
	}
	if r.service&0x01 != 0 {
		if a, err := s.command(cStatusInfo, status); err != nil || !a.good() {
			return err // nothing is taken back: it is a copy
		}
	}
	if r.service&0x02 == 0 && s.t.registered().config&0x02 != 0 {
		if err := s.print(lines, 2); err != nil {
			return err
		}
	}
	_, err := s.command(cCompletion, nil)
	return err
}

// endOfDay takes 06 50: it closes every receipt of the day.
func (s *session) endOfDay(a apdu) error {
	if _, ok := s.password(a); !ok {
		return s.reply(0x8400 | codeProtocol)
	}
	if err := s.reply(cReply); err != nil {
		return err
	}
	if err := s.intermediate(0x0E, "Kassenschnitt"); err != nil {
		return err
	}
	var counts [7]int
	var sums [7]int64
	first, last := 0, 0
	total := int64(0)
	l := s.t.ledger
	rec := &Record{Kind: KindEndOfDay, Currency: s.t.o.Currency, At: s.t.now()}
	l.change(func() {
		for _, r := range l.records {
			if r.Closed || !r.booked() || r.Kind == KindReservation || r.Kind == KindRelease || r.Kind == KindEndOfDay {
				continue
			}
			if first == 0 {
				first = r.Receipt
			}
			last = r.Receipt
			amount := r.Amount
			if r.Kind == KindReversal || r.Kind == KindRefund {
				amount = -amount
			}
			col := 6
			for _, c := range cards {
				if c.name == r.Card {
					col = c.column
				}
			}
			counts[col]++
			sums[col] += amount
			total += amount
			r.Closed = true
		}
		rec.Amount = total
	})
	totals := append(toBCD(int64(first), 2), toBCD(int64(last), 2)...)
	for i := range counts {
		totals = append(append(totals, byte(counts[i])), toBCD(max(sums[i], 0), 6)...)
	}
	l.add(rec)
	var w writer
	w.put(0x27, 0)
	w.put(0x04, toBCD(max(total, 0), 6)...)
	w.put(0x0B, toBCD(int64(rec.Trace), 3)...)
	w.put(0x0C, bcdText(rec.At.Format("150405"))...)
	w.put(0x0D, bcdText(rec.At.Format("0102"))...)
	w.put(0x29, bcdText(s.t.o.TerminalID)...)
	w.put(0x49, toBCD(int64(rec.Currency), 2)...)
	w.put(0x87, toBCD(int64(rec.Receipt), 2)...)
	w.lllvar(0x60, totals)
	l.change(func() { rec.status, rec.receipt = w.b, s.t.receiptLines(rec) })
	if _, err := s.command(cStatusInfo, w.b); err != nil {
		return err
	}
	if s.t.registered().config&0x04 != 0 {
		if err := s.print(rec.receipt, 3); err != nil {
			return err
		}
	}
	var c writer
	c.put(0x19, 0)
	c.put(0x29, bcdText(s.t.o.TerminalID)...)
	c.put(0x49, toBCD(int64(rec.Currency), 2)...)
	_, err := s.command(cCompletion, c.b)
	return err
}

// umlauts of code page 437; Latin-1 has them at their own number.
var umlauts = map[rune]byte{'ä': 0x84, 'ö': 0x94, 'ü': 0x81, 'Ä': 0x8E, 'Ö': 0x99, 'Ü': 0x9A, 'ß': 0xE1}

// bytes codes a text in the agreed charset, CP437 by default.
func (t *Terminal) bytes(text string) []byte {
	latin := t.registered().latin1
	var out []byte
	for _, r := range text {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case latin && r <= 0xFF:
			out = append(out, byte(r))
		case umlauts[r] != 0:
			out = append(out, umlauts[r])
		default:
			out = append(out, '?')
		}
	}
	return out
}

// text decodes what the register wants displayed.
func (t *Terminal) text(b []byte) string {
	latin := t.registered().latin1
	var s strings.Builder
next:
	for _, x := range b {
		if x < 0x80 {
			s.WriteByte(x)
			continue
		}
		if latin {
			s.WriteRune(rune(x))
			continue
		}
		for r, y := range umlauts {
			if x == y {
				s.WriteRune(r)
				continue next
			}
		}
		s.WriteByte('?')
	}
	return s.String()
}
