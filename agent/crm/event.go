package crm

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"tillbridge/p2pe/mask"
)

// SpecVersion is the CloudEvents version of every event.
const SpecVersion = "1.0"

// Schema names the version of [Data].
const Schema = "urn:tillbridge:crm:payment:1"

// The event types (knowledge of the field: "pos." and what happened).
const (
	TypeApproved        = "pos.payment.approved"
	TypeDeclined        = "pos.payment.declined"
	TypeCanceled        = "pos.payment.canceled"
	TypeAcceptedOffline = "pos.payment.accepted_offline"
	TypeRefunded        = "pos.payment.refunded"
	TypeRefundFailed    = "pos.payment.refund_failed"
	TypeVoided          = "pos.payment.voided"
	TypeReversed        = "pos.payment.reversed"
	TypeInDoubt         = "pos.payment.in_doubt"
)

// Event is one CloudEvent. Its id is the idempotency key of the receiver and
// was stored before the event was first sent.
type Event struct {
	ID            string
	Source        string    // "/chain/store/lane"
	Type          string    // one of the Type constants; receivers accept others
	Time          time.Time // when it happened
	RecordedTime  time.Time // when it was stored
	Subject       string    // the payment or refund
	PartitionKey  string    // whose order it keeps: the customer, else the payment
	Sequence      uint64    // grows within Source
	CorrelationID string    // the sale, for split tenders
	CausationID   string    // the event that this one follows
	Data          Data
}

// Data is what the receiver learns. Amounts are minor units of Currency.
type Data struct {
	PaymentID    string `json:"payment_id"`
	SaleID       string `json:"sale_id,omitempty"`
	TenderIndex  int    `json:"tender_index,omitempty"`
	TenderCount  int    `json:"tender_count,omitempty"`
	Kind         string `json:"kind"`    // "sale", "refund", "void", ...
	Outcome      string `json:"outcome"` // "approved", "declined", "cancelled", "not started", "unknown"
	DeclineGroup string `json:"decline_group,omitempty"`

	AmountMinor    int64  `json:"amount_minor"`
	Currency       string `json:"currency"`
	Exponent       int    `json:"exponent"`
	TipMinor       int64  `json:"tip_minor,omitempty"`
	TaxMinor       int64  `json:"tax_minor,omitempty"`
	CashbackMinor  int64  `json:"cashback_minor,omitempty"`
	SurchargeMinor int64  `json:"surcharge_minor,omitempty"`
	RequestedMinor int64  `json:"requested_minor,omitempty"`
	ApprovedMinor  int64  `json:"approved_minor"`

	OriginalPaymentID        string `json:"original_payment_id,omitempty"`
	AdjustmentSeq            int    `json:"adjustment_seq,omitempty"`
	RefundableRemainingMinor int64  `json:"refundable_remaining_minor,omitempty"`

	EntryMode       string `json:"entry_mode,omitempty"`
	CVM             string `json:"cvm,omitempty"`
	Scheme          string `json:"scheme,omitempty"`
	Funding         string `json:"funding,omitempty"`
	Method          string `json:"method,omitempty"`
	OfflineApproved bool   `json:"offline_approved,omitempty"`
	AID             string `json:"aid,omitempty"`

	CardToken   string `json:"card_token,omitempty"`
	TokenDomain string `json:"token_domain,omitempty"`
	PAR         string `json:"par,omitempty"`
	Last4       string `json:"last4,omitempty"`

	AuthCode     string `json:"auth_code,omitempty"`
	RRN          string `json:"rrn,omitempty"`
	STAN         string `json:"stan,omitempty"`
	AcquirerRef  string `json:"acquirer_ref,omitempty"`
	ResponseCode string `json:"response_code,omitempty"`

	MerchantID   string `json:"merchant_id,omitempty"`
	StoreID      string `json:"store_id,omitempty"`
	TerminalID   string `json:"terminal_id,omitempty"`
	Lane         string `json:"lane,omitempty"`
	CashierRef   string `json:"cashier_ref,omitempty"`
	BusinessDate string `json:"business_date,omitempty"`
	TZ           string `json:"tz,omitempty"`
	Reference    string `json:"reference,omitempty"`

	Customer    *Customer  `json:"customer,omitempty"`
	DurationsMS *Durations `json:"durations_ms,omitempty"`

	AgentVersion  string `json:"agent_version,omitempty"`
	SchemaVersion int    `json:"schema_version"`
}

// Customer is what the till said of the person.
type Customer struct {
	CRMRef    string `json:"crm_ref,omitempty"`
	LoyaltyID string `json:"loyalty_id,omitempty"`
	Email     string `json:"email,omitempty"`
	Phone     string `json:"phone,omitempty"`
	Consent   bool   `json:"consent,omitempty"`
}

// Durations of the phases in milliseconds.
type Durations struct {
	Card  int64 `json:"card,omitempty"`
	Host  int64 `json:"host,omitempty"`
	Total int64 `json:"total,omitempty"`
}

// wire is the flat JSON form of an Event: attribute names are lower case as
// CloudEvents asks, and the sequence is a string so that no receiver reads it
// as a float and so that it sorts as text.
type wire struct {
	SpecVersion        string          `json:"specversion"`
	ID                 string          `json:"id"`
	Source             string          `json:"source"`
	Type               string          `json:"type"`
	Time               string          `json:"time"`
	RecordedTime       string          `json:"recordedtime,omitempty"`
	Subject            string          `json:"subject,omitempty"`
	PartitionKey       string          `json:"partitionkey,omitempty"`
	Sequence           string          `json:"sequence,omitempty"`
	CorrelationID      string          `json:"correlationid,omitempty"`
	CausationID        string          `json:"causationid,omitempty"`
	DataContentType    string          `json:"datacontenttype"`
	DataSchema         string          `json:"dataschema"`
	DataClassification string          `json:"dataclassification"`
	Data               json.RawMessage `json:"data"`
}

// AppendJSON appends the structured-mode JSON of e to dst.
func (e Event) AppendJSON(dst []byte) ([]byte, error) {
	d := e.Data
	if d.SchemaVersion == 0 {
		d.SchemaVersion = 1
	}
	data, err := json.Marshal(d)
	if err != nil {
		return dst, fmt.Errorf("encode event data: %w", err)
	}
	w := wire{
		SpecVersion: SpecVersion, ID: e.ID, Source: e.Source, Type: e.Type,
		Time: e.Time.UTC().Format(time.RFC3339Nano), Subject: e.Subject, PartitionKey: e.PartitionKey,
		CorrelationID: e.CorrelationID, CausationID: e.CausationID,
		DataContentType: "application/json", DataSchema: Schema, DataClassification: "confidential", Data: data,
	}
	if !e.RecordedTime.IsZero() {
		w.RecordedTime = e.RecordedTime.UTC().Format(time.RFC3339Nano)
	}
	if e.Sequence != 0 {
		w.Sequence = fmt.Sprintf("%020d", e.Sequence)
	}
	b, err := json.Marshal(w)
	if err != nil {
		return dst, fmt.Errorf("encode event: %w", err)
	}
	return append(dst, b...), nil
}

// EventError says which attribute of an event is wrong, without its value.
type EventError struct {
	Attribute string
	Problem   string
}

func (e *EventError) Error() string {
	return "event attribute " + e.Attribute + ": " + e.Problem
}

// Code is the code of the explain catalogue.
func (e *EventError) Code() string { return "crm.event_invalid" }

var currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)

// Check says whether e may leave the house: the attributes that CloudEvents
// requires, a currency, amounts that are not negative, and no card number in
// any text. The error is an [*EventError] and shows no value.
func (e Event) Check() error {
	for _, a := range []struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			return &EventError{a.name, "is empty"}
		}
	}
	if e.Time.IsZero() {
		return &EventError{"time", "is not set"}
	}
	if !currencyForm.MatchString(e.Data.Currency) {
		return &EventError{"data.currency", "is not three capital letters"}
	}
	for _, a := range []struct {
		name  string
		value int64
	}{{"amount_minor", e.Data.AmountMinor}, {"approved_minor", e.Data.ApprovedMinor}, {"tip_minor", e.Data.TipMinor}, {"cashback_minor", e.Data.CashbackMinor}} {
		if a.value < 0 {
			return &EventError{"data." + a.name, "is negative"}
		}
	}
	body, err := e.AppendJSON(nil)
	if err != nil {
		return err
	}
	if len(mask.Scan(body)) > 0 {
		return &EventError{"data", "holds what looks like a card number"}
	}
	return nil
}

// ErrNotEvent is what a [Mapper] returns for a record of which the receiver
// learns nothing; it is acknowledged without being sent.
var ErrNotEvent = errors.New("record is no event for this sink")

// A Mapper makes the event of a stored item. [ErrNotEvent] skips the item; any
// other error puts it aside as dead, for no later attempt would read it better.
type Mapper func(Item) (Event, error)
