package api

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tillbridge/agent/payment"
)

// Longest texts, in characters.
const (
	MaxReference = 64
	MaxID        = 64
	MaxText      = 256
	MaxMetadata  = 32 // entries
	MaxDeadline  = 600
)

// Check judges a decoded request by itself. The error is a [*FieldError].
func (r *PaymentRequest) Check() error {
	if err := checkAmount(r.Amount); err != nil {
		return err
	}
	for _, c := range []struct {
		field, value string
		allowed      []string
	}{
		{"intent", r.Intent, []string{"sale", "auth", "verify"}},
		{"capture", r.Capture, []string{"automatic", "manual"}},
		{"offline", r.Offline, []string{"forbid", "allow", "force"}},
	} {
		if c.value != "" && !slices.Contains(c.allowed, c.value) {
			return invalid(c.field, "must be one of "+strings.Join(c.allowed, ", "))
		}
	}
	for i, e := range r.Entry {
		if !slices.Contains([]string{"contact", "contactless", "swipe", "keyed"}, e) {
			return invalid("entry["+strconv.Itoa(i)+"]", "must be one of contact, contactless, swipe, keyed")
		}
	}
	if r.Deadline < 0 || r.Deadline > MaxDeadline {
		return invalid("deadline", "must be 0 to "+strconv.Itoa(MaxDeadline)+" seconds")
	}
	if t := r.Tender; t != nil && (t.Index < 1 || t.Of < t.Index || t.Of > 99) {
		return invalid("tender", "must count from 1: index at most of, of at most 99")
	}
	if len(r.Metadata) > MaxMetadata {
		return invalid("metadata", "must have at most "+strconv.Itoa(MaxMetadata)+" entries")
	}
	if err := checkTexts([]text{{"register_id", r.RegisterID, MaxID}, {"device_id", r.DeviceID, MaxID}, {"reference", r.Reference, MaxReference}, {"sale_id", r.SaleID, MaxReference}, {"cashier", r.Cashier, MaxID}}); err != nil {
		return err
	}
	if c := r.Customer; c != nil {
		if err := checkTexts([]text{{"customer.crm_id", c.CRMID, MaxID}, {"customer.email", c.Email, MaxText}, {"customer.phone", c.Phone, MaxID}}); err != nil {
			return err
		}
		if c.ConsentAt != "" {
			if _, err := time.Parse(time.RFC3339, c.ConsentAt); err != nil {
				return invalid("customer.consent_at", "must be a time such as 2026-11-30T10:00:00Z")
			}
		}
	}
	for i, l := range r.LineItems {
		at := "line_items[" + strconv.Itoa(i) + "]"
		if err := checkTexts([]text{{at + ".sku", l.SKU, MaxText}, {at + ".name", l.Name, MaxText}}); err != nil {
			return err
		}
	}
	for k, v := range r.Metadata {
		if err := checkTexts([]text{{"metadata." + k, k, MaxID}, {"metadata." + k, v, MaxText}}); err != nil {
			return err
		}
	}
	return nil
}

// Check judges a decoded request by itself. The error is a [*FieldError].
func (r *RefundRequest) Check() error {
	if r.PaymentID == "" && r.Amount == nil {
		return invalid("payment_id", "is missing; name the payment to give back")
	}
	if r.Amount != nil {
		if err := checkAmount(Amount{Total: r.Amount.Total, Currency: r.Amount.Currency}); err != nil {
			return err
		}
	}
	return checkTexts([]text{{"payment_id", r.PaymentID, MaxID}, {"register_id", r.RegisterID, MaxID}, {"reference", r.Reference, MaxReference}, {"reason", r.Reason, MaxText}})
}

// Check judges a decoded request by itself. The error is a [*FieldError].
func (r *ResolveRequest) Check() error {
	if !slices.Contains([]string{"succeeded", "declined", "reversed", "failed"}, r.Outcome) {
		return invalid("outcome", "must be one of succeeded, declined, reversed, failed")
	}
	if len(strings.TrimSpace(r.Evidence)) < 8 {
		return invalid("evidence", "must say how you know: the acquirer's portal, the settlement report, the terminal's journal")
	}
	return checkTexts([]text{{"evidence", r.Evidence, MaxText}})
}

func checkAmount(a Amount) error {
	if a.Currency == "" {
		return invalid("amount.currency", "is missing; write ISO 4217 letters such as EUR")
	}
	if _, err := payment.LookupCurrency(a.Currency); err != nil {
		return invalid("amount.currency", "is no active ISO 4217 code; write three capital letters such as EUR")
	}
	if a.Total <= 0 {
		return invalid("amount.total", "must be greater than zero, in minor units: 1999 for 19.99; money goes back with POST /v1/refunds")
	}
	if a.Total > payment.MaxMinor {
		return invalid("amount.total", "has more than twelve digits")
	}
	left := a.Total
	for _, part := range []struct {
		field string
		value int64
	}{{"tip", a.Tip}, {"cashback", a.Cashback}, {"surcharge", a.Surcharge}, {"tax", a.Tax}} {
		if part.value < 0 {
			return invalid("amount."+part.field, "must not be negative")
		}
		if part.value > left {
			return invalid("amount."+part.field, "makes the parts larger than amount.total, which includes them")
		}
		left -= part.value
	}
	return nil
}

type text struct {
	field, value string
	longest      int
}

func checkTexts(texts []text) error {
	for _, t := range texts {
		if utf8.RuneCountInString(t.value) > t.longest {
			return invalid(t.field, "is longer than "+strconv.Itoa(t.longest)+" characters")
		}
		if strings.ContainsFunc(t.value, unicode.IsControl) {
			return invalid(t.field, "holds control characters")
		}
	}
	return nil
}

// CheckKey judges the value of Idempotency-Key and returns it without the
// quotes that the header draft puts around it. The error is a [*FieldError].
func CheckKey(header string) (string, error) {
	const field = "Idempotency-Key"
	k := strings.TrimSpace(header)
	if len(k) >= 2 && k[0] == '"' && k[len(k)-1] == '"' {
		k = k[1 : len(k)-1]
	}
	if k == "" {
		return "", &FieldError{ErrorCode: "request.key_missing", Field: field, Problem: "is missing; send one key per sale attempt of the customer, kept across retries"}
	}
	if HoldsCardNumber(k) {
		return "", cardData(field)
	}
	if len(k) > 128 {
		return "", &FieldError{ErrorCode: "request.key_invalid", Field: field, Problem: "is longer than 128 characters"}
	}
	for i := range len(k) {
		if c := k[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == ',' {
			return "", &FieldError{ErrorCode: "request.key_invalid", Field: field, Problem: "must be printable ASCII without spaces, commas and quotes"}
		}
	}
	return k, nil
}
