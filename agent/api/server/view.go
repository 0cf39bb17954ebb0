package server

import (
	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

func amountOf(a payment.Amounts) api.Amount {
	return api.Amount{Total: a.Total, Currency: a.Currency, Tip: a.Tip, Cashback: a.Cashback, Surcharge: a.Surcharge, Tax: a.Tax}
}

// viewPayment is what the API says of a record. The idempotency key, the digest
// and the credential stay inside.
func viewPayment(p *payment.Payment) api.Payment {
	v := api.Payment{
		ID: p.ID, Status: string(p.State.Status), Stage: string(p.State.Stage),
		MoneyMoved: string(p.MoneyMoved()), Retry: string(p.Retry()),
		Amount: amountOf(p.Request.Amount), AmountApproved: p.Approved, AmountCaptured: p.Captured, AmountRefunded: p.Refunded, Refundable: p.Refundable(),
		RegisterID: p.Request.RegisterID, DeviceID: p.DeviceID, Reference: p.Request.Reference, SaleID: p.Request.SaleID,
		Intent: string(p.Request.Intent), Capture: p.Request.Capture, Receipt: p.Receipt,
		ApprovalCode: p.Host.ApprovalCode, HostRef: hostOf(p.Host),
		Code: p.Code, Reason: p.Reason, DeclineGroup: string(p.DeclineGroup), CancelRequested: !p.CancelAsked.IsZero(),
		Operations: p.Operations, Created: p.Created, Updated: p.Updated, Metadata: p.Request.Metadata,
		Timings: api.Timings(p.Timings),
		Links:   map[string]string{"self": "/v1/payments/" + p.ID},
	}
	if v.Intent == "" {
		v.Intent = string(payment.IntentSale)
	}
	if v.Capture == "" {
		v.Capture = "automatic"
	}
	if t := p.Request.Tender; t != nil {
		v.Tender = &api.Tender{Index: t.Index, Of: t.Of}
	}
	c := api.Card{Brand: p.Card.Brand, Last4: p.Card.Last4, BIN6: p.Card.BIN6, Entry: p.Card.Entry, Funding: p.Card.Funding, Token: p.Card.Token, PAR: p.Card.PAR}
	if c != (api.Card{}) {
		v.Card = &c
	}
	e := api.EMV{AID: p.EMV.AID, AppLabel: p.EMV.AppLabel, TVR: p.EMV.TVR, TSI: p.EMV.TSI, ARC: p.EMV.ARC, AC: p.EMV.Cryptogram, CVM: p.EMV.CVMText}
	if e != (api.EMV{}) {
		v.EMV = &e
	}
	switch {
	case p.State.Status == payment.Pending, p.State.Status == payment.InProgress, p.State.Status == payment.RequiresConfirmation:
		v.Links["cancel"] = v.Links["self"] + "/cancel"
	case p.Voidable():
		v.Links["void"] = v.Links["self"] + "/void"
	}
	if p.Refundable() > 0 {
		v.Links["refund"] = "/v1/refunds"
	}
	return v
}

func hostOf(h payment.HostRef) *api.HostRef {
	v := api.HostRef{STAN: h.STAN, RRN: h.RRN, ResponseCode: h.ResponseCode, TerminalID: h.TerminalID, MerchantID: h.MerchantID}
	if v == (api.HostRef{}) {
		return nil
	}
	return &v
}

func viewOperation(o *payment.Operation) api.Operation {
	v := api.Operation{
		ID: o.ID, Kind: string(o.Kind), PaymentID: o.PaymentID, Status: string(o.State.Status), Stage: string(o.State.Stage),
		MoneyMoved: string(o.MoneyMoved()), Retry: string(o.Retry()), Amount: api.Money{Total: o.Amount.Minor, Currency: o.Amount.Currency},
		RegisterID: o.RegisterID, Reference: o.Reference, ApprovalCode: o.Host.ApprovalCode, HostRef: hostOf(o.Host),
		Code: o.Code, Reason: o.Reason, DeclineGroup: string(o.DeclineGroup), Receipt: o.Receipt, Created: o.Created, Updated: o.Updated,
		Links: map[string]string{"self": "/v1/refunds/" + o.ID},
	}
	if o.PaymentID != "" {
		v.Links["payment"] = "/v1/payments/" + o.PaymentID
	}
	return v
}

func viewEvent(e payment.Event) api.Event {
	return api.Event{ID: e.ID, Seq: e.Seq, Type: string(e.Type), Time: e.Time, Subject: e.Subject, Schema: e.Schema, Data: e.Data}
}
