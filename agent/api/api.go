// Package api holds the wire types of the till's HTTP API, version 1, and the
// strict decoder for what a till sends.
//
// Start with [Decode] for a request body and [Problem] for an error. The
// handlers are in package server, the client of the command line in package
// client, the socket and named pipe in package local.
//
// Rules of every type here: amounts are whole minor units with an ISO 4217
// code; times are RFC 3339; enums are open, so that a client must accept values
// it does not know; no field takes or gives a card number, and every text that
// comes in is searched for one.
//
// Source: design/payments.md sections 1 and 3, RFC 9457 (problem details), RFC
// 7240 (Prefer), draft-ietf-httpapi-idempotency-key-header-07.
//
// It does no I/O and holds no rule about what a payment may do.
package api

import "time"

// MaxBody is the largest request body in bytes.
const MaxBody = 64 << 10

// Amount is what the cardholder pays, in minor units.
type Amount struct {
	Total     int64  `json:"total"`
	Currency  string `json:"currency"`
	Tip       int64  `json:"tip,omitempty"`
	Cashback  int64  `json:"cashback,omitempty"`
	Surcharge int64  `json:"surcharge,omitempty"`
	Tax       int64  `json:"tax,omitempty"`
}

// PaymentRequest is the body of POST /v1/payments.
type PaymentRequest struct {
	Amount        Amount            `json:"amount"`
	RegisterID    string            `json:"register_id,omitempty"` // empty: the register of the key
	DeviceID      string            `json:"device_id,omitempty"`   // must be a device of the register
	Intent        string            `json:"intent,omitempty"`      // sale (default), auth, verify
	Capture       string            `json:"capture,omitempty"`     // automatic (default), manual
	Offline       string            `json:"offline,omitempty"`     // forbid (default), allow, force
	Entry         []string          `json:"entry,omitempty"`       // contact, contactless, swipe, keyed (on the pad)
	AcceptPartial bool              `json:"accept_partial,omitempty"`
	Reference     string            `json:"reference,omitempty"`
	SaleID        string            `json:"sale_id,omitempty"`
	Customer      *Customer         `json:"customer,omitempty"`
	LineItems     []LineItem        `json:"line_items,omitempty"` // checked; not kept by this version
	Tender        *Tender           `json:"tender,omitempty"`
	Cashier       string            `json:"cashier,omitempty"`
	Deadline      int               `json:"deadline,omitempty"`  // seconds
	Supersede     bool              `json:"supersede,omitempty"` // cancel the payment that blocks the register first
	Metadata      map[string]string `json:"metadata,omitempty"`
}

// Customer is the person, for the CRM.
type Customer struct {
	CRMID     string `json:"crm_id,omitempty"`
	Email     string `json:"email,omitempty"`
	Phone     string `json:"phone,omitempty"`
	Consent   bool   `json:"consent,omitempty"`
	ConsentAt string `json:"consent_at,omitempty"` // RFC 3339
}

// LineItem is one line of the sale.
type LineItem struct {
	SKU      string `json:"sku,omitempty"`
	Name     string `json:"name,omitempty"`
	Quantity int64  `json:"quantity,omitempty"`
	Total    int64  `json:"total,omitempty"` // minor units
}

// Tender is the place in a split sale, counted from 1.
type Tender struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// RefundRequest is the body of POST /v1/refunds.
type RefundRequest struct {
	PaymentID  string `json:"payment_id,omitempty"`  // empty: unlinked, for managers
	Amount     *Money `json:"amount,omitempty"`      // empty: all that may still go back
	RegisterID string `json:"register_id,omitempty"` // empty: the register of the key
	Reference  string `json:"reference,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// Money is an amount in minor units.
type Money struct {
	Total    int64  `json:"total"`
	Currency string `json:"currency"`
}

// VoidRequest is the body of POST /v1/payments/{id}/void; it may be empty.
type VoidRequest struct {
	Reason string `json:"reason,omitempty"`
}

// CancelRequest is the body of POST /v1/payments/{id}/cancel; it may be empty.
type CancelRequest struct {
	Reason string `json:"reason,omitempty"`
}

// ResolveRequest is the body of POST /v1/payments/{id}/resolve: a manager
// closes a payment in doubt.
type ResolveRequest struct {
	Outcome  string `json:"outcome"` // succeeded, declined, reversed, failed
	Evidence string `json:"evidence"`
}

// Payment is what the API says of a payment.
type Payment struct {
	ID         string `json:"id"`
	Status     string `json:"status"`
	Stage      string `json:"stage,omitempty"`
	MoneyMoved string `json:"money_moved"` // no, yes, held, promised, returned, unknown
	Retry      string `json:"retry"`       // safe, never, forbidden, wait

	Amount         Amount `json:"amount"`
	AmountApproved int64  `json:"amount_approved"`
	AmountCaptured int64  `json:"amount_captured,omitempty"`
	AmountRefunded int64  `json:"amount_refunded"`
	Refundable     int64  `json:"amount_refundable"`

	RegisterID string   `json:"register_id"`
	DeviceID   string   `json:"device_id,omitempty"`
	Reference  string   `json:"reference,omitempty"`
	SaleID     string   `json:"sale_id,omitempty"`
	Intent     string   `json:"intent"`
	Capture    string   `json:"capture"`
	Tender     *Tender  `json:"tender,omitempty"`
	Card       *Card    `json:"card,omitempty"`
	EMV        *EMV     `json:"emv,omitempty"`
	Receipt    []string `json:"receipt,omitempty"`

	ApprovalCode string   `json:"approval_code,omitempty"`
	HostRef      *HostRef `json:"host_ref,omitempty"`

	Code            string            `json:"code,omitempty"`
	Reason          string            `json:"reason,omitempty"`
	DeclineGroup    string            `json:"decline_group,omitempty"`
	CancelRequested bool              `json:"cancel_requested,omitempty"`
	Operations      []string          `json:"operations,omitempty"`
	Timings         Timings           `json:"timings"`
	Created         time.Time         `json:"created"`
	Updated         time.Time         `json:"updated"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	Links           map[string]string `json:"links"`
}

// Card is what may be said of a card.
type Card struct {
	Brand   string `json:"brand,omitempty"`
	Last4   string `json:"last4,omitempty"`
	BIN6    string `json:"bin6,omitempty"`
	Entry   string `json:"entry,omitempty"`
	Funding string `json:"funding,omitempty"`
	Token   string `json:"token,omitempty"`
	PAR     string `json:"par,omitempty"`
}

// EMV is what a receipt must show.
type EMV struct {
	AID      string `json:"aid,omitempty"`
	AppLabel string `json:"app_label,omitempty"`
	TVR      string `json:"tvr,omitempty"`
	TSI      string `json:"tsi,omitempty"`
	ARC      string `json:"arc,omitempty"`
	AC       string `json:"ac,omitempty"`
	CVM      string `json:"cvm,omitempty"`
}

// HostRef is how the acquirer knows the payment.
type HostRef struct {
	STAN         string `json:"stan,omitempty"`
	RRN          string `json:"rrn,omitempty"`
	ResponseCode string `json:"response_code,omitempty"`
	TerminalID   string `json:"terminal_id,omitempty"`
	MerchantID   string `json:"merchant_id,omitempty"`
}

// Timings are milliseconds.
type Timings struct {
	DeviceMS int64 `json:"device_ms"`
	CardMS   int64 `json:"card_ms"`
	HostMS   int64 `json:"host_ms"`
	TotalMS  int64 `json:"total_ms"`
}

// Operation is what the API says of a refund or void.
type Operation struct {
	ID           string            `json:"id"`
	Kind         string            `json:"kind"`
	PaymentID    string            `json:"payment_id,omitempty"`
	Status       string            `json:"status"`
	Stage        string            `json:"stage,omitempty"`
	MoneyMoved   string            `json:"money_moved"`
	Retry        string            `json:"retry"`
	Amount       Money             `json:"amount"`
	RegisterID   string            `json:"register_id"`
	Reference    string            `json:"reference,omitempty"`
	ApprovalCode string            `json:"approval_code,omitempty"`
	HostRef      *HostRef          `json:"host_ref,omitempty"`
	Code         string            `json:"code,omitempty"`
	Reason       string            `json:"reason,omitempty"`
	DeclineGroup string            `json:"decline_group,omitempty"`
	Receipt      []string          `json:"receipt,omitempty"`
	Created      time.Time         `json:"created"`
	Updated      time.Time         `json:"updated"`
	Links        map[string]string `json:"links"`
}

// PaymentList is the body of GET /v1/payments, newest first.
type PaymentList struct {
	Payments []Payment `json:"payments"`
	// Next is the value of after for the following page; empty at the end.
	Next string `json:"next,omitempty"`
}

// Event is one entry of the log, in every transport.
type Event struct {
	ID      string    `json:"id"`
	Seq     uint64    `json:"seq"`
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Subject string    `json:"subject"`
	Schema  string    `json:"schema"`
	Data    any       `json:"data"`
}

// EventList is the body of GET /v1/events without a stream.
type EventList struct {
	Events []Event `json:"events"`
	Next   uint64  `json:"next"` // value of after for the following page
}

// Version is the body of GET /v1/version.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go,omitempty"`
	API     string `json:"api"` // "1"
}

// Readiness is the body of GET /readyz.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// Check is one line of it.
type Check struct {
	Name   string `json:"name"` // dotted, as doctor names it
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}
