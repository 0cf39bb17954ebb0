package payment

import "time"

// EventType names what happened. The list is open: consumers accept others.
type EventType string

// The event types of design/payments.md section 3 that this program writes.
const (
	EventCreated              EventType = "payment.created"
	EventUpdated              EventType = "payment.updated"
	EventRequiresConfirmation EventType = "payment.requires_confirmation"
	EventAuthorized           EventType = "payment.authorized"
	EventSucceeded            EventType = "payment.succeeded"
	EventDeclined             EventType = "payment.declined"
	EventCanceled             EventType = "payment.canceled"
	EventFailed               EventType = "payment.failed"
	EventInDoubt              EventType = "payment.in_doubt"
	EventReversed             EventType = "payment.reversed"
	EventAcceptedOffline      EventType = "payment.accepted_offline"
	EventForwarded            EventType = "payment.forwarded"
	EventForwardDeclined      EventType = "payment.forward_declined"

	EventRefundCreated   EventType = "refund.created"
	EventRefundUpdated   EventType = "refund.updated"
	EventRefundSucceeded EventType = "refund.succeeded"
	EventRefundDeclined  EventType = "refund.declined"
	EventRefundCanceled  EventType = "refund.canceled"
	EventRefundFailed    EventType = "refund.failed"
	EventRefundInDoubt   EventType = "refund.in_doubt"
)

// EventSchema is the version of [EventData], in every event.
const EventSchema = "payment-event/1"

// Topic is the one log: API events, CRM, workflow and figures are cursors
// over it.
const Topic = "events"

// Event is one entry of the log. Seq is given by the store; an event body in
// the store has Seq 0.
type Event struct {
	ID      string    `json:"id"`  // "evt_…", constant over every delivery
	Seq     uint64    `json:"seq"` // order in this agent
	Type    EventType `json:"type"`
	Time    time.Time `json:"time"`    // of the occurrence
	Subject string    `json:"subject"` // id of the payment, refund or operation
	Schema  string    `json:"schema"`
	Data    EventData `json:"data"`
}

// EventData is the body of an event: knowledge/crm.md section 7. Amounts are
// minor units. It holds no card data beyond first six and last four.
type EventData struct {
	PaymentID   string `json:"payment_id"`
	OperationID string `json:"operation_id,omitempty"`
	SaleID      string `json:"sale_id,omitempty"`
	Reference   string `json:"reference,omitempty"`
	TenderIndex int    `json:"tender_index,omitempty"`
	TenderCount int    `json:"tender_count,omitempty"`
	// Kind is "payment", "refund", "void", "capture".
	Kind         string       `json:"kind"`
	Outcome      Status       `json:"outcome"`
	Stage        Stage        `json:"stage,omitempty"`
	MoneyMoved   Moved        `json:"money_moved"`
	Retry        Retry        `json:"retry"`
	DeclineGroup DeclineGroup `json:"decline_group,omitempty"`
	Reason       string       `json:"reason,omitempty"`

	AmountMinor     int64  `json:"amount_minor"` // of this event's movement: what was paid, or given back
	Currency        string `json:"currency"`
	Exponent        int    `json:"exponent"`
	TipMinor        int64  `json:"tip_minor,omitempty"`
	TaxMinor        int64  `json:"tax_minor,omitempty"`
	CashbackMinor   int64  `json:"cashback_minor,omitempty"`
	SurchargeMinor  int64  `json:"surcharge_minor,omitempty"`
	RequestedMinor  int64  `json:"requested_minor"`
	ApprovedMinor   int64  `json:"approved_minor"`
	RefundedMinor   int64  `json:"refunded_minor,omitempty"` // all refunds of the payment so far
	RefundableMinor int64  `json:"refundable_remaining_minor,omitempty"`
	// AdjustmentSeq orders the operations under a payment, from 1.
	AdjustmentSeq int `json:"adjustment_seq,omitempty"`

	EntryMode       string `json:"entry_mode,omitempty"`
	CVM             string `json:"cvm,omitempty"`
	Scheme          string `json:"scheme,omitempty"`
	Funding         string `json:"funding,omitempty"`
	Method          string `json:"method"` // "card"
	OfflineApproved bool   `json:"offline_approved,omitempty"`
	AID             string `json:"aid,omitempty"`

	CardToken   string `json:"card_token,omitempty"`
	TokenDomain string `json:"token_domain,omitempty"`
	PAR         string `json:"par,omitempty"`
	CardMasked  string `json:"card_masked,omitempty"`
	Last4       string `json:"last4,omitempty"`

	AuthCode     string `json:"auth_code,omitempty"`
	RRN          string `json:"rrn,omitempty"`
	STAN         string `json:"stan,omitempty"`
	ResponseCode string `json:"response_code,omitempty"`

	MerchantID   string `json:"merchant_id,omitempty"`
	TerminalID   string `json:"terminal_id,omitempty"`
	StoreID      string `json:"store_id,omitempty"`
	Lane         string `json:"lane"`
	CashierRef   string `json:"cashier_ref,omitempty"`
	BusinessDate string `json:"business_date,omitempty"`

	Customer    *Customer         `json:"customer,omitempty"`
	CustomerKey string            `json:"customer_key,omitempty"` // PAR or token, prefixed
	Durations   Timings           `json:"durations_ms"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// EventFor names the event of a payment's arrival in a state.
func EventFor(s State) EventType {
	switch s.Status {
	case RequiresConfirmation:
		return EventRequiresConfirmation
	case Authorized:
		return EventAuthorized
	case Succeeded:
		return EventSucceeded
	case AcceptedOffline:
		return EventAcceptedOffline
	case Declined:
		if s.Stage == StageOfflineAfterForward {
			return EventForwardDeclined
		}
		return EventDeclined
	case Canceled:
		return EventCanceled
	case Failed:
		return EventFailed
	case InDoubt:
		return EventInDoubt
	case Reversed:
		return EventReversed
	}
	return EventUpdated
}

// OperationEventFor names the event of an operation's arrival in a state:
// "refund.succeeded", "void.declined", ...
func OperationEventFor(k Kind, s State) EventType {
	switch s.Status {
	case Pending:
		return EventType(string(k) + ".created")
	case InProgress:
		return EventType(string(k) + ".updated")
	}
	return EventType(string(k) + "." + string(s.Status))
}

// EventOf returns the event that says where a payment is. The id is given:
// it is drawn once and stored before the first delivery.
func EventOf(id string, t EventType, p *Payment, at time.Time) Event {
	d := dataOf(p)
	d.Kind, d.Outcome, d.Stage, d.MoneyMoved, d.Retry = "payment", p.State.Status, p.State.Stage, p.MoneyMoved(), p.Retry()
	d.AmountMinor = p.Request.Amount.Total
	if p.Approved > 0 {
		d.AmountMinor = p.Approved
	}
	return Event{ID: id, Type: t, Time: at, Subject: p.ID, Schema: EventSchema, Data: d}
}

// OperationEventOf returns the event that says where an operation of a
// payment is. p is the payment as it will be after the same commit; it is nil
// for an unlinked refund.
func OperationEventOf(id string, t EventType, o *Operation, p *Payment, at time.Time) Event {
	var d EventData
	if p != nil {
		d = dataOf(p)
		for i, other := range p.Operations {
			if other == o.ID {
				d.AdjustmentSeq = i + 1
			}
		}
	} else {
		d = EventData{Method: "card", Currency: o.Amount.Currency}
		if c, err := LookupCurrency(o.Amount.Currency); err == nil {
			d.Exponent = c.Exponent
		}
	}
	d.OperationID, d.Kind, d.Outcome, d.Stage = o.ID, string(o.Kind), o.State.Status, o.State.Stage
	d.MoneyMoved, d.Retry, d.DeclineGroup, d.Reason = o.MoneyMoved(), o.Retry(), o.DeclineGroup, o.Reason
	d.AmountMinor, d.Lane = o.Amount.Minor, o.RegisterID
	if o.Reference != "" {
		d.Reference = o.Reference
	}
	d.AuthCode, d.RRN, d.STAN, d.ResponseCode = o.Host.ApprovalCode, o.Host.RRN, o.Host.STAN, o.Host.ResponseCode
	if o.BusinessDate != "" {
		d.BusinessDate = o.BusinessDate
	}
	return Event{ID: id, Type: t, Time: at, Subject: o.ID, Schema: EventSchema, Data: d}
}

func dataOf(p *Payment) EventData {
	a := p.Request.Amount
	d := EventData{
		PaymentID: p.ID, SaleID: p.Request.SaleID, Reference: p.Request.Reference, DeclineGroup: p.DeclineGroup, Reason: p.Reason,
		Currency: a.Currency, TipMinor: a.Tip, TaxMinor: a.Tax, CashbackMinor: a.Cashback, SurchargeMinor: a.Surcharge,
		RequestedMinor: a.Total, ApprovedMinor: p.Approved, RefundedMinor: p.Refunded, RefundableMinor: p.Refundable(),
		EntryMode: p.Card.Entry, CVM: p.EMV.CVMText, Scheme: p.Card.Brand, Funding: p.Card.Funding, Method: "card",
		OfflineApproved: p.Facts.Has(CardApproved) && !p.Facts.Has(Sent), AID: p.EMV.AID,
		CardToken: p.Card.Token, TokenDomain: p.Card.TokenDomain, PAR: p.Card.PAR, CardMasked: p.Card.Masked, Last4: p.Card.Last4,
		AuthCode: p.Host.ApprovalCode, RRN: p.Host.RRN, STAN: p.Host.STAN, ResponseCode: p.Host.ResponseCode,
		MerchantID: p.Host.MerchantID, TerminalID: p.Host.TerminalID, Lane: p.Request.RegisterID, CashierRef: p.Request.Cashier,
		BusinessDate: p.BusinessDate, Customer: p.Request.Customer, CustomerKey: p.CustomerKey(), Durations: p.Timings,
		Metadata: p.Request.Metadata,
	}
	if d.SaleID == "" {
		d.SaleID = p.Request.Reference
	}
	if d.TerminalID == "" {
		d.TerminalID = p.Terminal.TerminalID
	}
	if p.Request.Tender != nil {
		d.TenderIndex, d.TenderCount = p.Request.Tender.Index, p.Request.Tender.Of
	}
	if c, err := LookupCurrency(a.Currency); err == nil {
		d.Exponent = c.Exponent
	}
	return d
}
