package api

import "strings"

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// Problem is an error as RFC 9457 writes it, with what a till, a cashier and a
// technician each need. It implements error and Code.
type Problem struct {
	Type     string `json:"type"` // "urn:tillbridge:problem:" + slug of the code
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`

	ErrorCode  string `json:"code"`     // dotted, known to `tillbridge explain`
	Category   string `json:"category"` // device, card, host, network, config, security, request, limit
	MoneyMoved string `json:"money_moved"`
	Retry      string `json:"retry"`                 // safe, after, forbidden, never
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
	PaymentID  string `json:"payment_id,omitempty"`

	// Field is the place in the body, as in amount.total.
	Field string `json:"field,omitempty"`
	// Nearest is the known name that was probably meant.
	Nearest string `json:"nearest,omitempty"`
	// Blocking is the payment that holds the register.
	Blocking *Blocking `json:"blocking,omitempty"`

	OperatorMessage map[string]string `json:"operator_message,omitempty"`
	TechnicianHint  string            `json:"technician_hint,omitempty"`
	Doc             string            `json:"doc,omitempty"`
	TraceID         string            `json:"trace_id,omitempty"`
}

// Blocking names the payment that a busy register works on.
type Blocking struct {
	PaymentID string `json:"payment_id"`
	Status    string `json:"status"`
	Amount    Amount `json:"amount"`
}

// Error implements error with code and detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.ErrorCode + ": " + p.Title
	}
	return p.ErrorCode + ": " + p.Detail
}

// Code is the dotted code.
func (p *Problem) Code() string { return p.ErrorCode }

// ProblemURN returns the type of a code.
func ProblemURN(code string) string {
	return "urn:tillbridge:problem:" + strings.NewReplacer(".", "-", "_", "-").Replace(code)
}

// FieldError says what is wrong with one field of a request. It never repeats
// a value.
type FieldError struct {
	ErrorCode string // request.not_json, request.unknown_field, request.invalid_field, request.card_data
	Field     string // "amount.total"; empty for the body as a whole
	Nearest   string
	Problem   string // "must be …"
}

func (e *FieldError) Error() string {
	s := "body "
	if e.Field != "" {
		s = e.Field + " "
	}
	s += e.Problem
	if e.Nearest != "" {
		s += "; did you mean " + e.Nearest + "?"
	}
	return s
}

// Code is the dotted code.
func (e *FieldError) Code() string { return e.ErrorCode }
