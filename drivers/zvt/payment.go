package zvt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/p2pe/mask"
)

// errContradiction: one operation had two different results.
var errContradiction = errors.New("zvt: the terminal gave two different results for one operation")

// Perform runs one operation (ECR-Interface sections 2.2 to 2.10). The result
// that the terminal tells is made durable with r.Persist before it gets its
// answer; when that fails it gets none, and may reverse.
func (d *device) Perform(ctx context.Context, r drivers.TerminalRequest) (drivers.TerminalAnswer, error) {
	nothing := drivers.TerminalAnswer{Result: drivers.NotStarted, Op: r.Op}
	if d.doubt {
		return nothing, ErrRecoverFirst
	}
	cmd, data, err := d.command(r)
	if err != nil {
		return nothing, err
	}
	var said *drivers.TerminalAnswer
	var first []byte
	answered := byte(0)
	e := d.run(ctx, exchange{cmd: cmd, data: data, money: true, progress: r.Progress,
		status: func(data []byte) (byte, error) {
			if said != nil {
				if bytes.Equal(first, data) {
					return answered, nil // repeated by the line: the same answer
				}
				said.Result = drivers.Unknown
				return 0, errContradiction
			}
			s, err := ParseStatus(data, d.info.charset())
			if err != nil || !s.HasResult {
				return 0, fmt.Errorf("zvt: the result cannot be read: %w", errors.Join(err, ErrMalformed))
			}
			a := answerOf(s, r)
			first, said = bytes.Clone(data), &a
			if a.Result == drivers.Unknown {
				answered = 0x66 // not what was asked for: the terminal shall reverse
				return answered, nil
			}
			if r.Persist != nil {
				if err := r.Persist(ctx, a); err != nil {
					said.Result = drivers.Unknown
					return 0, fmt.Errorf("store the result: %w", err)
				}
			}
			return 0, nil
		}})
	return d.conclude(e, said, r)
}

// conclude says how an operation ended, from its exchange and the result that
// the terminal told.
func (d *device) conclude(e ended, said *drivers.TerminalAnswer, r drivers.TerminalRequest) (drivers.TerminalAnswer, error) {
	a := drivers.TerminalAnswer{Result: drivers.Unknown, Op: r.Op}
	if said != nil {
		a = *said
	}
	a.Receipt = redact(e.prints)
	switch {
	case e.how == notSent:
		a.Result = drivers.NotStarted
		return a, e.err
	case e.how == refused:
		a.Result, a.Raw, a.Text = drivers.NotStarted, fmt.Sprintf("%02X", e.code), ResultText(e.code)
		return a, nil
	case said == nil && e.how == aborted && e.code != 0:
		a.Result, a.Raw, a.Text = declinedOr(e.code), fmt.Sprintf("%02X", e.code), ResultText(e.code)
		return a, e.err
	case said != nil && a.Result == drivers.Approved && e.how == completed:
		return a, e.err // an error after the end does not undo a payment
	case said != nil && (a.Result == drivers.Declined || a.Result == drivers.Cancelled) && (e.how == completed || e.how == aborted):
		return a, e.err
	}
	// Lost, approved and then aborted, completed without a result, or a result
	// for something else: only the terminal's own record can say.
	d.doubt = true
	a.Result = drivers.Unknown
	return a, e.err
}

// Last asks the terminal for its last operation (06 20 with service byte 03:
// send the status information again, print nothing). Unknown without an error
// is a terminal that answers and does not say: Raw and Text have its reason.
func (d *device) Last(ctx context.Context) (drivers.TerminalAnswer, error) {
	data := append(append([]byte{}, d.set.password...), bmpServiceByte, 0x03)
	var said *drivers.TerminalAnswer
	var first []byte
	var unreadable error
	e := d.run(ctx, exchange{cmd: CmdRepeatReceipt, data: data,
		status: func(data []byte) (byte, error) {
			if said != nil {
				if bytes.Equal(first, data) {
					return 0, nil
				}
				said = nil
				return 0, errContradiction
			}
			s, err := ParseStatus(data, d.info.charset())
			if err != nil || !s.HasResult {
				unreadable = fmt.Errorf("zvt: the record cannot be read: %w", errors.Join(err, ErrMalformed))
				return 0, nil // it is a copy: the answer decides nothing, and the line stays fit
			}
			a := answerOf(s, drivers.TerminalRequest{})
			first, said = bytes.Clone(data), &a
			return 0, nil
		}})
	unknown := drivers.TerminalAnswer{Result: drivers.Unknown}
	switch {
	case unreadable != nil && e.how == completed && e.err == nil:
		d.doubt = false
		d.log.Warn("the terminal's record of its last operation cannot be read", "device", d.name, "err", unreadable)
		unknown.Text = "the terminal's record of its last operation cannot be read"
		return unknown, nil
	case e.how == completed && said != nil:
		d.doubt = false
		said.Receipt = redact(e.prints)
		return *said, nil
	case e.how == refused || e.how == aborted:
		unknown.Raw, unknown.Text = fmt.Sprintf("%02X", e.code), ResultText(e.code)
		switch {
		case e.err != nil:
			return unknown, e.err
		case e.code == 0x9C || e.code == 0xA0 || e.code == codeNotRegistered: // busy, not ready: later it may
			return unknown, &drivers.DeviceError{Op: "06 20", Device: d.port.Path, Raw: unknown.Raw, Err: errors.New(unknown.Text)}
		}
		d.doubt = false // it answers, and does not say: whoever asked decides
		return unknown, nil
	case e.how == completed && e.err == nil:
		d.doubt = false
		unknown.Text = "the terminal repeated a receipt without its result"
		return unknown, nil
	}
	return unknown, e.failed("06 20", d.port.Path)
}

// command codes a request.
func (d *device) command(r drivers.TerminalRequest) (Command, []byte, error) {
	bad := func(format string, args ...any) (Command, []byte, error) {
		return 0, nil, fmt.Errorf("zvt: "+format, args...)
	}
	if r.Amount <= 0 {
		return bad("the amount is %d minor units; it must be above zero", r.Amount)
	}
	amount, err := AppendBCD(nil, r.Amount, 6)
	if err != nil {
		return bad("the amount has more than twelve digits")
	}
	currency, err := AppendBCD(nil, int64(r.CurrencyNumeric), 2)
	if err != nil || r.CurrencyNumeric <= 0 || r.CurrencyNumeric > 999 {
		return bad("%d is not an ISO 4217 number", r.CurrencyNumeric)
	}
	if !bytes.Equal(currency, d.set.currency) {
		return bad("the terminal is registered for currency %X and the request has %X: set the device's parameter currency", d.set.currency, currency)
	}
	var data []byte
	field := func(id byte, v []byte) {
		if err == nil {
			data, err = AppendField(data, id, v)
		}
	}
	receipt := func() {
		n, e := strconv.ParseInt(r.Original.Receipt, 10, 64)
		if e != nil || n <= 0 {
			err = fmt.Errorf("zvt: the terminal's receipt number of the original is not known")
			return
		}
		b, e := AppendBCD(nil, n, 2)
		if e != nil {
			err = fmt.Errorf("zvt: the receipt number has more than four digits")
			return
		}
		field(bmpReceipt, b)
	}
	var cmd Command
	switch r.Op {
	case drivers.OpSale:
		cmd = CmdAuthorisation
	case drivers.OpReservation:
		cmd = CmdReservation
	case drivers.OpReversal:
		cmd, data = CmdReversal, bytes.Clone(d.set.password)
		receipt()
	case drivers.OpRefund:
		cmd, data = CmdRefund, bytes.Clone(d.set.password)
	case drivers.OpCapture:
		cmd = CmdBookTotal
		receipt()
	case drivers.OpRelease:
		cmd = CmdRelease
		receipt()
	default:
		return bad("there is no operation %q", r.Op)
	}
	field(bmpAmount, amount)
	field(bmpCurrency, currency)
	return cmd, data, err
}

// answerOf turns a status information into an answer, judged against what was
// asked for. An approval of nothing, of more than was asked, or in another
// currency is Unknown.
func answerOf(s Status, r drivers.TerminalRequest) drivers.TerminalAnswer {
	a := drivers.TerminalAnswer{
		Result: declinedOr(s.Result), Op: r.Op, Amount: s.Amount, CurrencyNumeric: s.Currency,
		Reference: drivers.TerminalReference{TerminalID: s.TerminalID, Receipt: s.Receipt, Trace: s.Trace, Date: s.Date, Time: s.Time},
		Last4:     s.Last4, Brand: safe(s.CardName), AuthCode: safe(s.AuthCode),
		Entry: entryOf(s), CVM: cvmOf(s), Raw: fmt.Sprintf("%02X", s.Result), Text: safe(textOf(s)),
	}
	if strings.Trim(s.OrigTrace, "0") != "" {
		a.Original = s.OrigTrace
	}
	if r.Op == "" && s.Totals != nil {
		a.Op = drivers.OpEndOfDay
	}
	if s.Last4 != "" {
		a.MaskedPAN = s.First6 + "******" + s.Last4
	}
	if s.Result != 0 {
		a.Amount = 0
		return a
	}
	a.Result = drivers.Approved
	if r.Op == "" {
		if !s.HasAmount {
			a.Amount = 0
		}
		return a // the terminal's own record: the caller compares
	}
	if otherOriginal(a.Original, r.Original.Trace) {
		a.Result = drivers.Unknown
	}
	whole := r.Op == drivers.OpReversal || r.Op == drivers.OpRelease
	switch {
	case !s.HasAmount && whole:
		a.Amount = r.Amount // it takes back the whole receipt
	case a.Amount <= 0 || a.Amount > r.Amount:
		a.Result = drivers.Unknown
	case a.Amount != r.Amount && r.Op != drivers.OpSale && r.Op != drivers.OpReservation:
		a.Result = drivers.Unknown
	}
	if s.Currency != 0 && s.Currency != r.CurrencyNumeric {
		a.Result = drivers.Unknown
	}
	return a
}

// otherOriginal reports whether the terminal names another payment than the
// one that was to be taken back or booked: receipt numbers begin again. BMP 37
// holds six digits.
func otherOriginal(said, named string) bool {
	x, err1 := strconv.ParseInt(said[max(0, len(said)-6):], 10, 64)
	y, err2 := strconv.ParseInt(named[max(0, len(named)-6):], 10, 64)
	return err1 == nil && err2 == nil && x != y
}

// declinedOr returns Cancelled for the code of an abort, else Declined.
func declinedOr(code byte) drivers.Result {
	if code == 0x6C {
		return drivers.Cancelled
	}
	return drivers.Declined
}

func textOf(s Status) string {
	for _, t := range []string{s.Text, s.ErrorText} {
		if t != "" {
			return t
		}
	}
	return ResultText(s.Result)
}

// Payment types and card technology (BMP 19, tag 1F12).
func entryOf(s Status) emv.Entry {
	if s.HasTech {
		switch s.Technology {
		case 0x00:
			return emv.EntrySwipe
		case 0x01:
			return emv.EntryContact
		case 0x02:
			return emv.EntryContactless
		}
	}
	return ""
}

func cvmOf(s Status) string {
	if !s.HasCVM {
		return ""
	}
	switch s.CVM {
	case 0x00:
		return "no CVM"
	case 0x01:
		return "signature"
	case 0x02:
		return "online PIN"
	case 0x03:
		return "enciphered offline PIN"
	case 0x04:
		return "plaintext offline PIN"
	case 0x05:
		return "enciphered offline PIN and signature"
	case 0x06:
		return "plaintext offline PIN and signature"
	case 0x07:
		return "online PIN and signature"
	}
	return ""
}

// safe cuts card numbers out of what the terminal wrote freely.
func safe(text string) string { return mask.Redact(text) }

func redact(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, mask.Redact(l))
	}
	return out
}

// Settle does an end of day (06 50). Approved means that the terminal told the
// result 00 and the end.
func (d *device) Settle(ctx context.Context) (drivers.Settlement, error) {
	out := drivers.Settlement{Result: drivers.NotStarted, Time: time.Now()}
	if d.doubt {
		return out, ErrRecoverFirst
	}
	var first []byte
	var said Status
	e := d.run(ctx, exchange{cmd: CmdEndOfDay, data: d.set.password, money: true,
		status: func(data []byte) (byte, error) {
			if first != nil {
				if bytes.Equal(first, data) {
					return 0, nil
				}
				said.HasResult = false
				return 0, errContradiction
			}
			s, err := ParseStatus(data, d.info.charset())
			if err != nil || !s.HasResult {
				return 0, fmt.Errorf("zvt: the end of day cannot be read: %w", errors.Join(err, ErrMalformed))
			}
			totals, err := parseTotals(s.Totals)
			if err != nil {
				return 0, err
			}
			out.Trace = s.Trace
			if s.HasAmount {
				out.Totals = append(out.Totals, drivers.SettlementTotal{Brand: "all", Amount: s.Amount})
			}
			out.Totals = append(out.Totals, totals...)
			first, said = bytes.Clone(data), s
			return 0, nil
		}})
	out.Lines = redact(e.prints)
	out.Raw = fmt.Sprintf("%02X", e.code)
	failed := func(code byte) (drivers.Settlement, error) {
		out.Result, out.Raw = drivers.Declined, fmt.Sprintf("%02X", code)
		return out, &drivers.DeviceError{Op: "06 50", Device: d.port.Path, Raw: out.Raw, Err: errors.New(ResultText(code))}
	}
	switch {
	case e.how == notSent:
		return out, e.err
	case said.HasResult && said.Result != 0 && e.how != lost:
		return failed(said.Result)
	case e.how == refused, e.how == aborted && !said.HasResult && e.code != 0:
		return failed(e.code)
	case e.how == aborted && e.err == nil:
		e.err = errContradiction
	case e.how == completed && said.HasResult:
		out.Result = drivers.Approved
		return out, e.failed("06 50", d.port.Path)
	case e.how == completed && e.err == nil:
		e.err = errors.New("the terminal ended the end of day without its result: see its own receipt")
	}
	out.Result = drivers.Unknown
	return out, &drivers.DeviceError{Op: "06 50", Device: d.port.Path, Err: cmp.Or(e.err, errOutOfTurn)}
}

// parseTotals reads BMP 60: receipt numbers of first and last payment, then
// count (1 byte) and amount (6 bytes BCD) for each kind of card.
func parseTotals(b []byte) ([]drivers.SettlementTotal, error) {
	if len(b) < 4 {
		return nil, nil
	}
	names := []string{"ec", "JCB", "Eurocard", "Amex", "Visa", "Diners", "others"}
	var out []drivers.SettlementTotal
	for i, rest := 0, b[4:]; len(rest) >= 7; i, rest = i+1, rest[7:] {
		amount, err := BCD(rest[1:7])
		if err != nil {
			return nil, err
		}
		name := "others"
		if i < len(names) {
			name = names[i]
		}
		out = append(out, drivers.SettlementTotal{Brand: name, Count: int(rest[0]), Amount: amount})
	}
	return out, nil
}
