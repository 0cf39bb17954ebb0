package payment

import (
	"fmt"
	"time"
)

// Intent is what the till wants.
type Intent string

// Intents of a payment.
const (
	IntentSale   Intent = "sale"
	IntentAuth   Intent = "auth" // reserve; capture later
	IntentVerify Intent = "verify"
)

// OfflineMode is what the till allows when the acquirer is out of reach.
type OfflineMode string

// Offline modes of a request.
const (
	OfflineForbid OfflineMode = "forbid"
	OfflineAllow  OfflineMode = "allow"
	OfflineForce  OfflineMode = "force"
)

// Customer is the till's knowledge of the person, for the CRM. It is never
// shown to the acquirer.
type Customer struct {
	CRMID     string    `json:"crm_id,omitempty"`
	Email     string    `json:"email,omitempty"`
	Phone     string    `json:"phone,omitempty"`
	Consent   bool      `json:"consent,omitempty"` // may be contacted
	ConsentAt time.Time `json:"consent_at,omitzero"`
}

// Tender is this payment's place in a split sale, counted from 1.
type Tender struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// Request is what the till asked for, as kept in the record.
type Request struct {
	Amount        Amounts           `json:"amount"`
	RegisterID    string            `json:"register_id"`
	Intent        Intent            `json:"intent,omitempty"`  // empty means sale
	Capture       string            `json:"capture,omitempty"` // "automatic" (default) or "manual"
	Offline       OfflineMode       `json:"offline,omitempty"` // empty means forbid
	Entry         []string          `json:"entry,omitempty"`   // contact, contactless, swipe, keyed; empty means all
	AcceptPartial bool              `json:"accept_partial,omitempty"`
	Reference     string            `json:"reference,omitempty"` // the till's own order id
	SaleID        string            `json:"sale_id,omitempty"`   // joins the tenders of one sale; empty means Reference
	Customer      *Customer         `json:"customer,omitempty"`
	Tender        *Tender           `json:"tender,omitempty"`
	Cashier       string            `json:"cashier,omitempty"`   // pseudonym
	DeadlineS     int               `json:"deadline,omitempty"`  // seconds the card may take; 0 means the agent's default
	Supersede     bool              `json:"supersede,omitempty"` // cancel the blocking payment of this register first
	Metadata      map[string]string `json:"metadata,omitempty"`
}

// Card is what a record keeps of a card: no number beyond first six and last
// four, no expiry, no track.
type Card struct {
	Brand       string `json:"brand,omitempty"`
	BIN6        string `json:"bin6,omitempty"`
	Last4       string `json:"last4,omitempty"`
	Masked      string `json:"masked,omitempty"` // first six and last four with '*' between
	Entry       string `json:"entry,omitempty"`
	Funding     string `json:"funding,omitempty"`
	PANSequence int    `json:"pan_seq"` // -1 when the card has none
	Token       string `json:"token,omitempty"`
	TokenDomain string `json:"token_domain,omitempty"` // whose token it is
	PAR         string `json:"par,omitempty"`          // payment account reference
}

// EMV is what receipts and technicians need of the exchange, upper-case hex.
type EMV struct {
	AID        string `json:"aid,omitempty"`
	AppLabel   string `json:"app_label,omitempty"`
	TVR        string `json:"tvr,omitempty"`
	TSI        string `json:"tsi,omitempty"`
	ARC        string `json:"arc,omitempty"`
	Cryptogram string `json:"ac,omitempty"`
	CVM        string `json:"cvm,omitempty"`
	CVMText    string `json:"cvm_text,omitempty"`
}

// HostRef is how the acquirer knows the exchange.
type HostRef struct {
	STAN         string    `json:"stan,omitempty"` // six digits, unique per terminal and day
	RRN          string    `json:"rrn,omitempty"`  // field 37
	ApprovalCode string    `json:"approval_code,omitempty"`
	ResponseCode string    `json:"response_code,omitempty"` // field 39
	TerminalID   string    `json:"terminal_id,omitempty"`
	MerchantID   string    `json:"merchant_id,omitempty"`
	MTI          string    `json:"mti,omitempty"`             // of the request
	Processing   string    `json:"processing_code,omitempty"` // field 3 of the request
	Sent         time.Time `json:"transmitted,omitzero"`      // field 7 of the request
	AcquirerTime string    `json:"acquirer_time,omitempty"`   // fields 12 and 13 of the answer
}

// TerminalRef is how a semi-integrated terminal knows the exchange.
type TerminalRef struct {
	TerminalID string `json:"terminal_id,omitempty"`
	Receipt    string `json:"receipt,omitempty"`
	Trace      string `json:"trace,omitempty"`
	Date       string `json:"date,omitempty"` // MMDD
	Time       string `json:"time,omitempty"` // HHMMSS
}

// Reversal is a durable order to give the money back; it is repeated until
// acknowledged or held.
type Reversal struct {
	ID       string    `json:"id"`
	STAN     string    `json:"stan,omitempty"` // of the reversal itself, where the host wants one
	Reason   string    `json:"reason"`         // "no_answer", "card_refused", "partial", "restart", "void", ...
	Then     State     `json:"then"`           // where the payment goes once acknowledged
	Attempts int       `json:"attempts"`
	NextAt   time.Time `json:"next_at,omitzero"` // wall time of the next try
	Delay    int64     `json:"delay_ms"`         // backoff that led to NextAt, for a clock that jumps
	LastCode string    `json:"last_code,omitempty"`
	Refusals int       `json:"refusals,omitempty"` // answers that refused it
	Recorded time.Time `json:"recorded"`
	AckedAt  time.Time `json:"acked_at,omitzero"`
	HeldWhy  string    `json:"held_why,omitempty"`
	// NotFound: it ended because the host knew no such request.
	NotFound bool `json:"not_found,omitempty"`
	// Again: an approval came after that end; it is sent until it is done.
	Again bool `json:"again,omitempty"`
}

// Decision is a person's closing of a payment or operation in doubt.
type Decision struct {
	Outcome  Status    `json:"outcome"`
	By       string    `json:"by"` // credential, never a name the agent invents
	Evidence string    `json:"evidence"`
	At       time.Time `json:"at"`
	From     State     `json:"from"`
}

// Step is one line of a record's timeline.
type Step struct {
	At    time.Time `json:"at"`
	State State     `json:"state"`
	Note  string    `json:"note,omitempty"`
}

// MaxSteps bounds a record's timeline; the newest steps beyond it replace the
// middle, never the first half.
const MaxSteps = 64

// Timings are how long the parts took, in milliseconds.
type Timings struct {
	DeviceMS int64 `json:"device_ms"`
	CardMS   int64 `json:"card_ms"`
	HostMS   int64 `json:"host_ms"`
	TotalMS  int64 `json:"total_ms"`
}

// Payment is the record of one payment.
type Payment struct {
	ID         string  `json:"id"` // "pay_…"
	Credential string  `json:"credential"`
	Key        string  `json:"idempotency_key"`
	Digest     string  `json:"digest"` // of the request's body, hex
	Request    Request `json:"request"`
	DeviceID   string  `json:"device_id,omitempty"`

	State State `json:"state"`
	Facts Facts `json:"facts"`

	// Approved is what was approved, minor units of the request's currency.
	Approved int64 `json:"approved"`
	// Captured is what was captured of an authorisation.
	Captured int64 `json:"captured,omitempty"`
	// Refunded is what succeeded refunds gave back.
	Refunded int64 `json:"refunded,omitempty"`
	// RefundsOpen is what refunds that have no final answer may give back.
	RefundsOpen int64 `json:"refunds_open,omitempty"`
	// Operations are the ids of the operations under this payment.
	Operations []string `json:"operations,omitempty"`
	// VoidID is the void that is under way or done, if any.
	VoidID string `json:"void_id,omitempty"`

	Card         Card         `json:"card,omitzero"`
	EMV          EMV          `json:"emv,omitzero"`
	Host         HostRef      `json:"host,omitzero"`
	Terminal     TerminalRef  `json:"terminal,omitzero"`
	Reversal     *Reversal    `json:"reversal,omitempty"`
	Receipt      []string     `json:"receipt,omitempty"` // lines, redacted
	Reason       string       `json:"reason,omitempty"`  // why declined, failed or in doubt: plain words
	Code         string       `json:"code,omitempty"`    // stable code of Reason
	DeclineGroup DeclineGroup `json:"decline_group,omitempty"`
	Decision     *Decision    `json:"decision,omitempty"`
	// BusinessDate is the shop's day, YYYY-MM-DD.
	BusinessDate string    `json:"business_date,omitempty"`
	Created      time.Time `json:"created"`
	Updated      time.Time `json:"updated"`
	Deadline     time.Time `json:"deadline,omitzero"`
	Timings      Timings   `json:"timings"`
	Steps        []Step    `json:"steps"`
	// CancelAsked is when the till asked to cancel.
	CancelAsked time.Time `json:"cancel_asked,omitzero"`
}

// DeclineGroup sorts declines by what may be done next (knowledge/iso8583.md).
type DeclineGroup string

// Groups of declines.
const (
	DeclineNever DeclineGroup = "never" // this card must not be tried again
	DeclineLater DeclineGroup = "later" // may be tried later, a limited number of times
	DeclineData  DeclineGroup = "data"  // new data needed: wrong PIN, expired
	DeclineSetup DeclineGroup = "setup" // the merchant's or terminal's set-up
	DeclineCard  DeclineGroup = "card"  // the card itself said no
	DeclineOther DeclineGroup = "other" // not listed
)

// New returns a payment that is queued. Amounts are checked by the caller.
func New(id, credential, key, digest string, r Request, at time.Time) Payment {
	p := Payment{ID: id, Credential: credential, Key: key, Digest: digest, Request: r, Created: at, Updated: at,
		State: State{Pending, StageQueued}, Card: Card{PANSequence: -1}}
	p.step(at, "")
	return p
}

// MoneyMoved says what a till may believe now.
func (p *Payment) MoneyMoved() Moved {
	if p.State.Status == RequiresConfirmation && p.Facts.Has(Sent) {
		return MovedUnknown
	}
	return p.State.MoneyMoved()
}

// Retry says whether the till may run the sale again.
func (p *Payment) Retry() Retry { return p.State.Retry() }

// Move changes the state if the table allows it with the facts that will hold
// after learn was added, and adds a line to the timeline. On error nothing
// changed.
func (p *Payment) Move(to State, learn Facts, at time.Time, note string) error {
	f := p.Facts | learn
	if err := Allowed(p.State, to, f); err != nil {
		return fmt.Errorf("moving %s: %w", p.ID, err)
	}
	p.State, p.Facts, p.Updated = to, f, at
	p.step(at, note)
	return nil
}

// BeginChange records [Changing] in the commit that comes before the void or
// capture is sent.
func (p *Payment) BeginChange() { p.Facts |= Changing }

// EndChange forgets [Changing]: the void or capture got its answer. The caller
// moves the payment in the same commit.
func (p *Payment) EndChange() { p.Facts &^= Changing }

func (p *Payment) step(at time.Time, note string) {
	p.Steps = appendStep(p.Steps, Step{At: at, State: p.State, Note: note})
}

func appendStep(steps []Step, s Step) []Step {
	if len(steps) >= MaxSteps {
		steps = append(steps[:MaxSteps/2:MaxSteps/2], steps[MaxSteps/2+1:]...)
	}
	return append(steps, s)
}

// Taken is what the cardholder paid and may get back: captured, or approved.
func (p *Payment) Taken() int64 {
	if p.State.Status != Succeeded {
		return 0
	}
	if p.Captured > 0 {
		return p.Captured
	}
	return p.Approved
}

// Refundable is what a new refund may take at most, minor units: what was
// taken less what went back and less what may still go back.
func (p *Payment) Refundable() int64 {
	if p.VoidID != "" {
		return 0
	}
	if left := p.Taken() - p.Refunded - p.RefundsOpen; left > 0 {
		return left
	}
	return 0
}

// Voidable reports whether a void may start: nothing went back, nothing is
// going back, and no other void is under way.
func (p *Payment) Voidable() bool {
	switch p.State.Status {
	case Succeeded, Authorized:
		return p.VoidID == "" && p.Refunded == 0 && p.RefundsOpen == 0 && !p.Facts.Any(Changing|ReversalDurable)
	}
	return false
}

// CustomerKey names the cardholder for order and matching: PAR, else token,
// else empty.
func (p *Payment) CustomerKey() string {
	switch {
	case p.Card.PAR != "":
		return "par:" + p.Card.PAR
	case p.Card.Token != "":
		return "tok:" + p.Card.Token
	}
	return ""
}

// OrderKey is the key under which this payment's events keep their order:
// the customer's, or the payment's own while no card is known.
func (p *Payment) OrderKey() string {
	if k := p.CustomerKey(); k != "" {
		return k
	}
	return p.ID
}

// NoteLate records an approval that came after the reversal was durable. It
// changes no state.
func (p *Payment) NoteLate(at time.Time, note string) {
	p.Facts |= LateApproval
	p.Updated = at
	p.step(at, note)
}
