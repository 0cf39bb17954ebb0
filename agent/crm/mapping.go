package crm

import (
	"encoding/json"
	"fmt"

	"tillbridge/agent/payment"
)

// Identity is where the events of this agent come from.
type Identity struct {
	Source       string // "/chain/store/lane"; "" means "/tillbridge"
	StoreID      string
	TZ           string // IANA name
	AgentVersion string
	HideLast4    bool // leave the last four digits out
}

// MapPayment returns the [Mapper] for a log of [payment.Event] in JSON. It
// takes an event only when something has ended or is in doubt; steps on the
// way are [ErrNotEvent]. Fields are listed one by one: what is not listed here
// cannot reach a CRM.
func MapPayment(id Identity) Mapper {
	if id.Source == "" {
		id.Source = "/tillbridge"
	}
	return func(it Item) (Event, error) {
		var e payment.Event
		if err := json.Unmarshal(it.Body, &e); err != nil {
			return Event{}, fmt.Errorf("stored event %d is no JSON of a payment event", it.ID)
		}
		kind, ok := typeOf(e)
		if !ok {
			return Event{}, ErrNotEvent
		}
		d := e.Data
		ev := Event{
			ID: e.ID, Source: id.Source, Type: kind, Time: e.Time, RecordedTime: it.Recorded, Subject: e.Subject,
			PartitionKey: it.Key, Sequence: it.ID, CorrelationID: d.SaleID,
			Data: Data{
				PaymentID: d.PaymentID, SaleID: d.SaleID, TenderIndex: d.TenderIndex, TenderCount: d.TenderCount,
				Kind: kindOf(d.Kind), Outcome: outcomeOf(d.Outcome), DeclineGroup: string(d.DeclineGroup),
				AmountMinor: d.AmountMinor, Currency: d.Currency, Exponent: d.Exponent, TipMinor: d.TipMinor, TaxMinor: d.TaxMinor,
				CashbackMinor: d.CashbackMinor, SurchargeMinor: d.SurchargeMinor, RequestedMinor: d.RequestedMinor, ApprovedMinor: d.ApprovedMinor,
				AdjustmentSeq: d.AdjustmentSeq, RefundableRemainingMinor: d.RefundableMinor,
				EntryMode: d.EntryMode, CVM: d.CVM, Scheme: d.Scheme, Funding: d.Funding, Method: d.Method, OfflineApproved: d.OfflineApproved, AID: d.AID,
				CardToken: d.CardToken, TokenDomain: d.TokenDomain, PAR: d.PAR, Last4: d.Last4,
				AuthCode: d.AuthCode, RRN: d.RRN, STAN: d.STAN, ResponseCode: d.ResponseCode,
				MerchantID: d.MerchantID, StoreID: id.StoreID, TerminalID: d.TerminalID, Lane: d.Lane, CashierRef: d.CashierRef,
				BusinessDate: d.BusinessDate, TZ: id.TZ, Reference: d.Reference, AgentVersion: id.AgentVersion, SchemaVersion: 1,
			},
		}
		if d.StoreID != "" {
			ev.Data.StoreID = d.StoreID
		}
		if id.HideLast4 {
			ev.Data.Last4 = ""
		}
		if ev.PartitionKey == "" {
			ev.PartitionKey = d.PaymentID
		}
		if d.OperationID != "" {
			// An operation's event tells its own movement; what the payment
			// took stands in the payment's event.
			ev.Data.OriginalPaymentID, ev.Data.ApprovedMinor = d.PaymentID, d.AmountMinor
			if d.Outcome != payment.Succeeded {
				ev.Data.ApprovedMinor = 0
			}
		}
		if t := d.Durations; t != (payment.Timings{}) {
			ev.Data.DurationsMS = &Durations{Card: t.CardMS, Host: t.HostMS, Total: t.TotalMS}
		}
		if c := d.Customer; c != nil {
			ev.Data.Customer = &Customer{CRMRef: c.CRMID, Consent: c.Consent}
			if c.Consent { // without it a CRM learns no way to reach the person
				ev.Data.Customer.Email, ev.Data.Customer.Phone = c.Email, c.Phone
			}
		}
		return ev, nil
	}
}

// typeOf names what the CRM is told, if anything.
func typeOf(e payment.Event) (string, bool) {
	switch e.Type {
	case payment.EventSucceeded:
		return TypeApproved, true
	case payment.EventDeclined, payment.EventForwardDeclined:
		return TypeDeclined, true
	case payment.EventCanceled:
		return TypeCanceled, true
	case payment.EventAcceptedOffline:
		return TypeAcceptedOffline, true
	case payment.EventReversed:
		return TypeReversed, true
	case payment.EventInDoubt:
		return TypeInDoubt, true
	case payment.EventRefundSucceeded:
		return TypeRefunded, true
	case payment.EventRefundDeclined, payment.EventRefundFailed:
		return TypeRefundFailed, true
	}
	return "", false
}

func kindOf(kind string) string {
	if kind == "payment" {
		return "sale"
	}
	return kind
}

// outcomeOf is one of the five words in which this project speaks of money.
func outcomeOf(s payment.Status) string {
	switch s {
	case payment.Succeeded, payment.Authorized, payment.AcceptedOffline:
		return "approved"
	case payment.Declined:
		return "declined"
	case payment.Canceled, payment.Reversed:
		return "cancelled"
	case payment.Failed, payment.Pending:
		return "not started"
	}
	return "unknown"
}
