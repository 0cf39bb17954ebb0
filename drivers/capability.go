package drivers

import (
	"context"
	"time"

	"tillbridge/emv"
)

// Result is how an operation on a semi-integrated terminal ended. There is no
// sixth: what is not understood is Unknown.
type Result string

// Results of a terminal's operation.
const (
	Approved   Result = "approved"
	Declined   Result = "declined"
	Cancelled  Result = "cancelled"
	NotStarted Result = "not_started" // proof that the terminal did not begin
	Unknown    Result = "unknown"     // ask LastTransaction before anything else
)

// TerminalRequest is an operation for a terminal that authorises by itself.
type TerminalRequest struct {
	Op       TerminalOp
	Amount   int64  // minor units, greater than zero
	Currency string // ISO 4217 letters
	// CurrencyNumeric is the ISO 4217 number (978).
	CurrencyNumeric int
	// Original names the operation that Reversal, Capture or Refund is about.
	Original TerminalReference
	// AcceptPartial allows an approval of less than Amount.
	AcceptPartial bool
	// Persist makes a result durable before the terminal is told that we have
	// it. It is called at most once per result; if it fails the driver does not
	// acknowledge and answers Unknown.
	Persist func(ctx context.Context, a TerminalAnswer) error
	// Progress receives the terminal's intermediate texts. It must not block.
	Progress func(text string)
}

// TerminalOp is what a terminal is asked to do.
type TerminalOp string

// Operations of a terminal.
const (
	OpSale        TerminalOp = "sale"
	OpReversal    TerminalOp = "reversal"
	OpRefund      TerminalOp = "refund"
	OpReservation TerminalOp = "reservation" // pre-authorisation
	OpCapture     TerminalOp = "capture"     // booking of a reservation
	OpRelease     TerminalOp = "release"     // reversal of a reservation

	// OpEndOfDay is never asked for with Perform; a record of the terminal may
	// be one.
	OpEndOfDay TerminalOp = "end_of_day"
)

// TerminalReference is how the terminal names a finished operation.
type TerminalReference struct {
	TerminalID string
	Receipt    string // receipt number, decimal digits
	Trace      string // trace number (STAN), decimal digits
	Date, Time string // as printed by the terminal: MMDD, HHMMSS
}

// TerminalAnswer is what the terminal said. It holds no clear card data.
type TerminalAnswer struct {
	Result Result
	Op     TerminalOp
	// Amount is what was approved, minor units. It may be less than asked.
	Amount          int64
	CurrencyNumeric int // 0 when the terminal did not say
	Reference       TerminalReference
	// Original is the trace number of an older operation that this one is
	// about, decimal digits; empty when it stands alone. A record that has one
	// is no sale.
	Original  string
	MaskedPAN string
	Last4     string
	Brand     string
	AuthCode  string
	Entry     emv.Entry
	CVM       string
	// Raw is the terminal's own result code, Text its words.
	Raw, Text string
	// Receipt holds the lines the terminal printed through us, redacted.
	Receipt []string
}

// PaymentTerminal is a semi-integrated terminal.
type PaymentTerminal interface {
	// Perform runs one operation. Its answer's Result is Unknown when the
	// terminal's own word is missing; err explains and may be nil.
	Perform(ctx context.Context, r TerminalRequest) (TerminalAnswer, error)
	// Abort asks a running Perform to stop. It may be called from another
	// goroutine and only asks: Perform gives the result.
	Abort(ctx context.Context) error
}

// LastTransaction is a terminal that can be asked what it did last.
type LastTransaction interface {
	// Last returns the terminal's own record. Result NotStarted means that it
	// says it has none.
	Last(ctx context.Context) (TerminalAnswer, error)
}

// CardSession is a pad with a resident EMV kernel.
type CardSession interface {
	// Begin prepares one payment. The session ends with Complete, Cancel or
	// the device's Close.
	Begin(ctx context.Context) (emv.Session, error)
}

// SecureReader reads a card without a payment (loyalty first, or stripe): the
// result is ciphertext.
type SecureReader interface {
	ReadCard(ctx context.Context, t emv.Terms) (emv.Card, error)
}

// APDUChannel is a reader without a kernel.
type APDUChannel interface {
	emv.Transceiver
	// Power resets the card and returns its ATR (ISO/IEC 7816-3).
	Power(ctx context.Context) (atr []byte, err error)
	PowerOff(ctx context.Context) error
	// WaitCard returns when a card is present, or absent.
	WaitCard(ctx context.Context, present bool) error
}

// Display shows text on the device: printable ASCII, lines separated by '\n'.
type Display interface {
	Display(ctx context.Context, text string) error
}

// Input asks the cardholder for a choice or for digits that are not a PIN.
type Input interface {
	Menu(ctx context.Context, title string, options []string) (index int, err error)
	Key(ctx context.Context) (string, error)
}

// CardRemover asks the customer to take the card out and returns when that is
// done. Call it after the result of a payment is durable: it may wait long.
type CardRemover interface {
	RemoveCard(ctx context.Context, text string) error
}

// TableLoader loads EMV tables.
type TableLoader interface {
	// TableVersion is the version that the device holds, or empty.
	TableVersion(ctx context.Context) (string, error)
	LoadTables(ctx context.Context, version string, records []string) error
}

// Settlement is a terminal's end of day.
type Settlement struct {
	Result Result
	Raw    string
	Time   time.Time
	// Totals by kind of card, minor units.
	Totals []SettlementTotal
	Trace  string
	Lines  []string
}

// SettlementTotal is one line of a Settlement.
type SettlementTotal struct {
	Brand  string
	Count  int
	Amount int64
}

// Settler is a terminal with an end of day.
type Settler interface {
	Settle(ctx context.Context) (Settlement, error)
}
