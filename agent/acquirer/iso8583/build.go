package iso8583

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/emv"
	"tillbridge/p2pe"
)

// invalid is the error of a request that cannot be expressed.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", acquirer.ErrInvalid, fmt.Sprintf(format, args...))
}

// begin returns a message with what every request of an operation has.
func (d *Dialect) begin(name string, attempt int) (Message, Operation, error) {
	op, ok := d.Messages[name]
	if !ok {
		return Message{}, op, acquirer.ErrUnsupported
	}
	m := Message{Header: d.header, MTI: op.Request, Fields: map[int][]byte{}}
	if attempt > 0 && op.Repeat != "" {
		m.MTI = op.Repeat
	}
	for id, v := range d.Constants {
		m.Set(id, v)
	}
	d.put(m, 3, op.Processing)
	d.put(m, 70, op.Function)
	return m, op, nil
}

// put sets a number, zero-filled, if the dialect has the element.
func (d *Dialect) put(m Message, id int, text string) {
	if text != "" && d.has(id) {
		m.Set(id, d.number(id, text))
	}
}

// identity sets STAN, times and the terminal.
func (d *Dialect) identity(m Message, stan int, at time.Time, terminal, merchant string) error {
	if stan < 1 || stan > 999999 {
		return invalid("STAN %d: use 1 to 999999", stan)
	}
	if !printable(terminal, 8) || strings.TrimSpace(terminal) == "" || !printable(merchant, 15) {
		return invalid("terminal or merchant id: at most 8 and 15 printable characters")
	}
	if at.IsZero() {
		return invalid("no time")
	}
	d.put(m, 11, strconv.Itoa(stan))
	d.put(m, 7, at.UTC().Format("0102150405"))
	d.put(m, 12, at.Format("150405"))
	d.put(m, 13, at.Format("0102"))
	m.Set(41, fmt.Sprintf("%-8s", terminal))
	if d.has(42) && merchant != "" {
		m.Set(42, fmt.Sprintf("%-15s", merchant))
	}
	return nil
}

func (d *Dialect) amounts(m Message, a emv.Amounts) error {
	if a.Amount < 0 || a.Amount > 999999999999 || a.Other < 0 || a.Other > a.Amount {
		return invalid("an amount is not between 0 and 999999999999 minor units")
	}
	if a.CurrencyNumeric < 1 || a.CurrencyNumeric > 999 {
		return invalid("currency %d is no ISO 4217 number", a.CurrencyNumeric)
	}
	d.put(m, 4, strconv.FormatInt(a.Amount, 10))
	if d.has(49) {
		m.Set(49, fmt.Sprintf("%03d", a.CurrencyNumeric))
	}
	if a.Other > 0 {
		if !d.has(54) {
			return invalid("this host takes no cashback")
		}
		m.Set(54, fmt.Sprintf("0040%03dD%012d", a.CurrencyNumeric, a.Other))
	}
	return nil
}

// authorize builds the message of a request or an advice.
func (d *Dialect) authorize(r acquirer.Request, name string, attempt int, approval string) (Message, Operation, error) {
	m, op, err := d.begin(name, attempt)
	if err != nil {
		return m, op, err
	}
	if err := d.identity(m, r.STAN, r.Time, r.TerminalID, r.MerchantID); err != nil {
		return m, op, err
	}
	if err := d.amounts(m, r.Amounts); err != nil {
		return m, op, err
	}
	condition := op.Condition
	if condition == "" {
		condition = "00"
	}
	d.put(m, 25, condition)
	d.put(m, 22, map[emv.Entry]string{emv.EntryContact: "051", emv.EntryContactless: "071", emv.EntrySwipe: "901", emv.EntryKeyed: "011"}[r.Entry])
	if r.PANSequence >= 0 && !r.Card.Empty() {
		if r.PANSequence > 99 {
			return m, op, invalid("PAN sequence number %d", r.PANSequence)
		}
		d.put(m, 23, strconv.Itoa(r.PANSequence))
	}
	if len(r.Field55) > 0 {
		if !d.has(55) {
			return m, op, invalid("this host takes no chip data")
		}
		m.Fields[55] = r.Field55
	}
	if err := d.reference(m, r.Reference); err != nil {
		return m, op, err
	}
	if approval != "" {
		m.Set(38, fmt.Sprintf("%-6.6s", approval))
	}
	tables, err := envelopeTables(r.Card)
	if err != nil {
		return m, op, err
	}
	if tables, err = d.pin(m, tables, r.PIN); err != nil {
		return m, op, err
	}
	if r.Token != "" {
		tables = append(tables, Table{"TK", []byte(r.Token)})
	}
	if r.AcceptPartial {
		tables = append(tables, Table{"PT", []byte("1")})
	}
	switch r.Kind {
	case acquirer.Void, acquirer.Capture:
		if r.Original == nil {
			return m, op, invalid("a %s needs the request it is about", r.Kind)
		}
	case acquirer.Refund:
	default:
		if r.Card.Empty() && r.Token == "" {
			return m, op, invalid("a %s needs card data or a token", r.Kind)
		}
	}
	if r.Original != nil {
		if err := d.original(m, *r.Original); err != nil {
			return m, op, err
		}
		if d.ReversalBy == "stan" && r.Original.RRN == "" {
			return m, op, invalid("this host finds an original by its retrieval reference, and none is known: reverse instead")
		}
		if r.Token == "" && r.Original.Token != "" {
			tables = append(tables, Table{"TK", []byte(r.Original.Token)})
		}
	}
	return m, op, d.tables(m, tables)
}

// original names an earlier request by DE37, DE38 and DE90.
func (d *Dialect) original(m Message, o acquirer.Original) error {
	if o.RRN != "" {
		m.Set(37, fmt.Sprintf("%-12.12s", o.RRN))
	}
	if o.ApprovalCode != "" {
		m.Set(38, fmt.Sprintf("%-6.6s", o.ApprovalCode))
	}
	if !d.has(90) {
		return nil
	}
	op, ok := d.Messages[string(o.Kind)]
	if !ok {
		return invalid("the original is of kind %q, which this host does not have", o.Kind)
	}
	if o.STAN < 1 || o.STAN > 999999 || o.Time.IsZero() {
		return invalid("the original has no STAN or no time")
	}
	m.Set(90, fmt.Sprintf("%s%06d%s%022d", op.Request, o.STAN, o.Time.UTC().Format("0102150405"), 0))
	return nil
}

func (d *Dialect) reference(m Message, ref string) error {
	if ref == "" || !d.has(62) {
		return nil
	}
	if !printable(ref, 40) {
		return invalid("the reference has over 40 characters or unprintable ones")
	}
	m.Set(62, ref)
	return nil
}

func (d *Dialect) pin(m Message, tables []Table, p p2pe.PINBlock) ([]Table, error) {
	if p.Empty() {
		return tables, nil
	}
	switch {
	case len(p.Block) == 8 && d.has(52):
		m.Fields[52] = p.Block
	case len(p.Block) == 16 && p.Format == 4:
		tables = append(tables, Table{"PB", p.Block})
	default:
		return nil, invalid("a PIN block of this length and format cannot be sent")
	}
	return append(tables, Table{"PK", []byte(strconv.Itoa(p.Format) + string(p.KSN))}), nil
}

func (d *Dialect) tables(m Message, tables []Table) error {
	if len(tables) == 0 {
		return nil
	}
	if !d.has(63) {
		return invalid("this host has no DE63 for enciphered data")
	}
	packed, err := AppendTables(nil, tables)
	if err != nil || len(packed) > 999 {
		return invalid("the enciphered data does not fit DE63")
	}
	m.Fields[63] = packed
	return nil
}

func envelopeTables(e p2pe.Envelope) ([]Table, error) {
	if e.Empty() {
		return nil, nil
	}
	tables := []Table{{"KE", []byte(strings.Join([]string{string(e.Scheme), e.DeviceProfile, e.KeyVariant, e.Algorithm, e.Mode, e.Padding, string(e.KSN)}, "|"))}}
	for _, t := range []Table{{"IV", e.IV}, {"CP", e.PAN}, {"C1", e.Track1}, {"C2", e.Track2}, {"CT", e.TLV57}, {"CJ", []byte(e.JWE)}, {"CM", e.MAC}} {
		if len(t.Data) > 0 {
			tables = append(tables, t)
		}
	}
	if len(e.MAC) == 0 {
		return tables, nil
	}
	// The host needs every field that the MAC is over.
	var parts []byte
	for _, s := range []string{e.DeviceSerial, e.MaskedPAN, e.BIN, e.Last4, e.ServiceCode, e.PAR, e.EncryptionState} {
		if len(s) > 255 {
			return nil, invalid("a part of the card data's envelope has %d characters", len(s))
		}
		parts = append(append(parts, byte(len(s))), s...)
	}
	return append(tables, Table{"KD", parts}), nil
}

// reverse builds the reversal of an original.
func (d *Dialect) reverse(r acquirer.Reversal) (Message, Operation, error) {
	m, op, err := d.begin("reversal", r.Attempt)
	if err != nil {
		return m, op, err
	}
	o := r.Original
	stan, at := r.STAN, r.Time
	if d.ReversalBy == "stan" {
		stan, at = o.STAN, o.Time
	}
	if err := d.identity(m, stan, at, o.TerminalID, o.MerchantID); err != nil {
		return m, op, err
	}
	if err := d.amounts(m, o.Amounts); err != nil {
		return m, op, err
	}
	orig, ok := d.Messages[string(o.Kind)]
	if !ok {
		return m, op, invalid("the original is of kind %q, which this host does not have", o.Kind)
	}
	d.put(m, 3, orig.Processing)
	d.put(m, 25, "00")
	if err := d.original(m, o); err != nil {
		return m, op, err
	}
	if err := d.reference(m, o.Reference); err != nil {
		return m, op, err
	}
	if len(r.Field55) > 0 && d.has(55) {
		m.Fields[55] = r.Field55
	}
	tables := []Table{}
	if r.Reason != "" {
		tables = append(tables, Table{"RS", []byte(r.Reason)})
	}
	if o.Token != "" {
		tables = append(tables, Table{"TK", []byte(o.Token)})
	}
	return m, op, d.tables(m, tables)
}

// inquire builds the inquiry about an original. A dialect without DE90 names
// it by table "OS": MTI, STAN and local date and time.
func (d *Dialect) inquire(q acquirer.Inquiry) (Message, Operation, error) {
	m, op, err := d.begin("inquiry", 0)
	if err != nil {
		return m, op, err
	}
	o := q.Original
	if err := d.identity(m, q.STAN, q.Time, o.TerminalID, o.MerchantID); err != nil {
		return m, op, err
	}
	if err := d.amounts(m, o.Amounts); err != nil {
		return m, op, err
	}
	if err := d.original(m, o); err != nil {
		return m, op, err
	}
	if err := d.reference(m, o.Reference); err != nil {
		return m, op, err
	}
	if d.has(90) {
		return m, op, nil
	}
	if o.STAN < 1 || o.STAN > 999999 || o.Time.IsZero() {
		return m, op, invalid("the original has no STAN or no time")
	}
	return m, op, d.tables(m, []Table{{"OS", fmt.Appendf(nil, "%s%06d%s", d.Messages[string(o.Kind)].Request, o.STAN, o.Time.Format("0102150405"))}})
}

// echo builds a network message.
func (d *Dialect) echo(stan int, at time.Time, terminal, merchant string) (Message, Operation, error) {
	m, op, err := d.begin("echo", 0)
	if err != nil {
		return m, op, err
	}
	return m, op, d.identity(m, stan, at, terminal, merchant)
}

func printable(s string, most int) bool {
	if len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
