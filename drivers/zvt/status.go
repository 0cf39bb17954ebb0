package zvt

import (
	"bytes"
	"fmt"
	"strings"
)

// Status is a status information (04 0F): the terminal's word on a payment, a
// reversal, a refund or an end of day. It holds no clear card data: a PAN is
// cut to what may be shown as it is read, tracks, CVV and expiry are dropped.
type Status struct {
	Result     byte // BMP 27
	HasResult  bool
	Amount     int64 // BMP 04, minor units
	HasAmount  bool
	Currency   int // BMP 49, ISO 4217 number, 0 when absent
	Trace      string
	OrigTrace  string
	Receipt    string
	Turnover   string
	TerminalID string
	VUNumber   string
	Date       string // MMDD
	Time       string // HHMMSS
	First6     string // of the PAN, "" when masked by the terminal
	Last4      string
	CardType   byte // BMP 8A
	CardName   string
	AuthCode   string // BMP 3B, printable
	Text       string // BMP 3C
	// PaymentType is BMP 19.
	PaymentType byte
	CVM         byte // tag 1F10
	HasCVM      bool
	Technology  byte // tag 1F12
	HasTech     bool
	AID         string // tag 43, hex
	ErrorText   string // tag 1F17
	ErrorCode   string // tag 1F16, hex
	LastReceipt string // tag 1F1F
	Totals      []byte // BMP 60, end of day
}

// ParseStatus reads the data of 04 0F. An error means that the data could not
// be read to their end, or contradict themselves; what stands before is in the
// Status, and a caller that decides about money treats the result as unknown.
func ParseStatus(data []byte, c Charset) (Status, error) {
	var room [256]byte
	var at places
	s := Status{}
	buf := room[:0]
	var err error
	for rest := data; len(rest) > 0; {
		f, r, e := NextField(rest, len(data)-len(rest))
		if e != nil {
			if err == nil {
				err = e
			}
			break
		}
		if buf, e = s.take(f, c, buf, &at); e != nil && err == nil {
			err = e
		}
		rest = r
	}
	s.settle(string(buf), &at)
	return s, err
}

// textField names a text of a Status.
type textField byte

const (
	textTrace textField = iota
	textLongTrace
	textOrigTrace
	textReceipt
	textTurnover
	textTerminalID
	textVUNumber
	textDate
	textTime
	textFirst6
	textLast4
	textCardName
	textAuthCode
	textText
	textAID
	textErrorText
	textErrorCode
	textLastReceipt
	maxTexts
)

// places says where the texts of a status stand in one buffer, so that all of
// them cost one allocation.
type places [maxTexts]struct{ from, to int32 }

// keep notes that a text was appended to what was from bytes long.
func (p *places) keep(f textField, from int, buf []byte) []byte {
	p[f].from, p[f].to = int32(from), int32(len(buf))
	return buf
}

// settle hands the texts out.
func (s *Status) settle(all string, p *places) {
	text := func(f textField) string { return all[p[f].from:p[f].to] }
	s.Trace, s.OrigTrace = text(textTrace), text(textOrigTrace)
	s.Receipt, s.Turnover = text(textReceipt), text(textTurnover)
	s.TerminalID, s.Date, s.Time = text(textTerminalID), text(textDate), text(textTime)
	s.First6, s.Last4 = text(textFirst6), text(textLast4)
	s.AID, s.ErrorCode, s.LastReceipt = text(textAID), text(textErrorCode), text(textLastReceipt)
	s.VUNumber, s.CardName = strings.TrimSpace(text(textVUNumber)), strings.TrimSpace(text(textCardName))
	s.AuthCode, s.Text = strings.TrimSpace(text(textAuthCode)), strings.TrimSpace(text(textText))
	s.ErrorText = strings.TrimSpace(text(textErrorText))
	if long := text(textLongTrace); long != "" && strings.Trim(s.Trace, "0") == "" {
		s.Trace = long
	}
	// Zeros are no number: two payments would have the same.
	if strings.Trim(s.Trace, "0") == "" {
		s.Trace = ""
	}
	if strings.Trim(s.Receipt, "0") == "" {
		s.Receipt = ""
	}
}

// digitFields are the BMPs whose digits are a text.
var digitFields = [256]textField{bmpTrace: textTrace + 1, bmpOrigTrace: textOrigTrace + 1, bmpReceipt: textReceipt + 1,
	bmpTurnover: textTurnover + 1, bmpTerminalID: textTerminalID + 1, bmpDate: textDate + 1, bmpTime: textTime + 1}

func (s *Status) take(f Field, c Charset, buf []byte, p *places) ([]byte, error) {
	v, from := f.Value, len(buf)
	if d := digitFields[f.ID]; d != 0 {
		return p.keep(d-1, from, appendDigits(buf, v)), nil
	}
	switch f.ID {
	case bmpResult:
		if s.HasResult && s.Result != v[0] {
			return buf, fmt.Errorf("%w: two results", ErrMalformed)
		}
		s.Result, s.HasResult = v[0], true
	case bmpAmount:
		n, err := BCD(v)
		if err != nil {
			return buf, fmt.Errorf("%w in BMP %02X", err, f.ID)
		}
		if s.HasAmount && s.Amount != n {
			return buf, fmt.Errorf("%w: two amounts", ErrMalformed)
		}
		s.Amount, s.HasAmount = n, true
	case bmpCurrency:
		n, err := BCD(v)
		if err != nil {
			return buf, fmt.Errorf("%w in BMP %02X", err, f.ID)
		}
		if s.Currency != 0 && s.Currency != int(n) {
			return buf, fmt.Errorf("%w: two currencies", ErrMalformed)
		}
		s.Currency = int(n)
	case bmpVUNumber:
		return p.keep(textVUNumber, from, c.appendText(buf, v)), nil
	case bmpPAN:
		return p.pan(v, buf), nil
	case bmpCardType:
		s.CardType = v[0]
	case bmpCardName:
		return p.keep(textCardName, from, c.appendText(buf, v)), nil
	case bmpAID:
		return p.keep(textAuthCode, from, appendPrintable(buf, v)), nil
	case bmpText:
		return p.keep(textText, from, c.appendText(buf, v)), nil
	case bmpPaymentType:
		s.PaymentType = v[0]
	case bmpTotals:
		s.Totals = bytes.Clone(v)
	case bmpContainer:
		return s.container(v, c, buf, p)
	}
	return buf, nil
}

func (s *Status) container(v []byte, c Charset, buf []byte, p *places) ([]byte, error) {
	for at, rest := 0, v; len(rest) > 0; {
		_, r, err := NextElement(rest, at)
		if err != nil {
			return buf, err
		}
		at, rest = at+len(rest)-len(r), r
	}
	if b, ok := Find(v, tagCVM); ok && len(b) == 1 {
		s.CVM, s.HasCVM = b[0], true
	}
	if b, ok := Find(v, tagCardTechnology); ok && len(b) == 1 {
		s.Technology, s.HasTech = b[0], true
	}
	if b, ok := Find(v, tagAID); ok {
		buf = p.keep(textAID, len(buf), appendHex(buf, b))
	}
	if b, ok := Find(v, tagErrorText); ok {
		buf = p.keep(textErrorText, len(buf), c.appendText(buf, b))
	}
	if b, ok := Find(v, tagErrorCode); ok {
		buf = p.keep(textErrorCode, len(buf), appendHex(buf, b))
	}
	if b, ok := Find(v, tagLastReceipt); ok {
		buf = p.keep(textLastReceipt, len(buf), appendDigits(buf, b))
	}
	if b, ok := Find(v, tagLongTrace); ok {
		buf = p.keep(textLongTrace, len(buf), appendDigits(buf, b))
	}
	return buf, nil
}

// pan keeps first six and last four digits of BMP 22. E nibbles stand for
// digits that the terminal masked. A PAN shorter than 12 digits, or longer than
// 19, shows nothing.
func (p *places) pan(v, buf []byte) []byte {
	var pan [20]byte
	n := 0
	for _, x := range v {
		for _, d := range [2]byte{x >> 4, x & 0x0F} {
			if d == 0x0F {
				continue
			}
			if n == len(pan) {
				return buf
			}
			pan[n] = '0' + d
			if n++; d > 9 {
				pan[n-1] = '*'
			}
		}
	}
	if n < 12 || n > 19 {
		return buf
	}
	if part := pan[:6]; bytes.IndexByte(part, '*') < 0 {
		buf = p.keep(textFirst6, len(buf), append(buf, part...))
	}
	if part := pan[n-4 : n]; bytes.IndexByte(part, '*') < 0 {
		buf = p.keep(textLast4, len(buf), append(buf, part...))
	}
	return buf
}

func appendPrintable(dst, v []byte) []byte {
	for _, b := range v {
		if b >= 0x20 && b < 0x7F {
			dst = append(dst, b)
		}
	}
	return dst
}

func appendHex(dst, v []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, b := range v {
		dst = append(dst, hex[b>>4], hex[b&15])
	}
	return dst
}

// Intermediate is an intermediate status (04 FF).
type Intermediate struct {
	Code byte
	// TimeoutMinutes overrides the wait for the completion; -1 when absent.
	TimeoutMinutes int
	Lines          []string
}

// ParseIntermediate reads the data of 04 FF.
func ParseIntermediate(data []byte, c Charset) (Intermediate, error) {
	i := Intermediate{TimeoutMinutes: -1}
	if len(data) == 0 {
		return i, fmt.Errorf("%w: empty intermediate status", ErrMalformed)
	}
	i.Code = data[0]
	if len(data) == 1 {
		return i, nil
	}
	n, err := BCD(data[1:2])
	if err != nil {
		return i, err
	}
	i.TimeoutMinutes = int(n)
	fields, err := ParseFields(data[2:])
	if err != nil {
		return i, err
	}
	if v, ok := fieldOf(fields, bmpContainer); ok {
		if b, ok := Find(v, tagDisplayBlock); ok {
			v = b
		}
		i.Lines, err = lines(v, c)
	}
	return i, err
}

// Print is what the terminal wants printed: lines, and of which receipt.
type Print struct {
	Lines []string
	// Receipt is 1 merchant, 2 customer, 3 administration, 0 not said.
	Receipt byte
	// Last is set when an attribute says that the receipt ends here.
	Last bool
}

// ParsePrintLine reads the data of 06 D1: an attribute, text, and perhaps a
// container. The text holds no byte 06, which begins the container.
func ParsePrintLine(data []byte, c Charset) (Print, error) {
	var p Print
	if len(data) == 0 {
		return p, fmt.Errorf("%w: empty print line", ErrMalformed)
	}
	p.Last = data[0] == 0x81 || data[0] == 0x80
	text := data[1:]
	if at := bytes.IndexByte(text, bmpContainer); at >= 0 {
		fields, err := ParseFields(text[at:])
		if err != nil {
			return p, err
		}
		if v, ok := fieldOf(fields, bmpContainer); ok {
			if b, ok := Find(v, tagReceiptType); ok && len(b) == 1 {
				p.Receipt = b[0]
			}
		}
		text = text[:at]
	}
	p.Lines = []string{c.Text(text)}
	return p, nil
}

// ParsePrintBlock reads the data of 06 D3: a container with lines.
func ParsePrintBlock(data []byte, c Charset) (Print, error) {
	var p Print
	fields, err := ParseFields(data)
	if err != nil {
		return p, err
	}
	v, ok := fieldOf(fields, bmpContainer)
	if !ok {
		return p, fmt.Errorf("%w: print block without container", ErrMalformed)
	}
	if b, ok := Find(v, tagReceiptType); ok && len(b) == 1 {
		p.Receipt = b[0]
	}
	if b, ok := Find(v, tagPrintBlock); ok {
		v = b
	}
	p.Lines, err = lines(v, c)
	return p, err
}

// lines returns the text lines (tag 07) of a block.
func lines(block []byte, c Charset) ([]string, error) {
	elements, err := ParseContainer(block)
	var out []string
	for _, e := range elements {
		if e.Tag == tagTextLine {
			out = append(out, c.Text(e.Value))
		}
	}
	return out, err
}

// Completion is what 06 0F carries.
type Completion struct {
	StatusByte byte // BMP 19 of a registration: 01 initialisation, 02 diagnosis, 04 OPT needed
	HasStatus  bool
	TerminalID string
	Currency   int
	Charset    Charset // tag 14 echoed, or CP437
	// Software and State are the answer to a status enquiry; HasState says that
	// they are there.
	Software string
	State    byte
	HasState bool
}

// ParseCompletion reads the data of 06 0F. The answer to a status enquiry has
// a form of its own, software version (LLLVAR) and terminal status, which is
// asked for with enquiry.
func ParseCompletion(data []byte, enquiry bool) (Completion, error) {
	c := Completion{Charset: CP437}
	if enquiry {
		if len(data) == 1 { // no version: the terminal status alone
			c.State, c.HasState = data[0], true
			return c, nil
		}
		if len(data) >= 4 && data[0]&0xF0 == 0xF0 && data[1]&0xF0 == 0xF0 && data[2]&0xF0 == 0xF0 {
			n := int(data[0]&0x0F)*100 + int(data[1]&0x0F)*10 + int(data[2]&0x0F)
			if len(data) < 3+n+1 {
				return c, fmt.Errorf("%w: status enquiry answer ends in the version", ErrMalformed)
			}
			c.Software = CP437.Text(data[3 : 3+n])
			c.State, c.HasState = data[3+n], true
			data = data[3+n+1:]
		}
		if !c.HasState {
			return c, fmt.Errorf("%w: not the answer to a status enquiry", ErrMalformed)
		}
	}
	fields, err := ParseFields(data)
	for _, f := range fields {
		switch f.ID {
		case bmpPaymentType:
			c.StatusByte, c.HasStatus = f.Value[0], true
		case bmpTerminalID:
			c.TerminalID = digits(f.Value)
		case bmpCurrency:
			n, _ := BCD(f.Value)
			c.Currency = int(n)
		case bmpContainer:
			if b, ok := Find(f.Value, tagCharset); ok && len(b) == 1 {
				c.Charset = Charset(b[0])
			}
		}
	}
	return c, err
}
