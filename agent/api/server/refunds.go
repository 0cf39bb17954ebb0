package server

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

// createRefund is POST /v1/refunds.
func (s *Server) createRefund(c *call) error {
	var body api.RefundRequest
	if err := c.decode(&body, false); err != nil {
		return err
	}
	if err := body.Check(); err != nil {
		return err
	}
	if body.PaymentID == "" && !c.cred.Role.may(manager) {
		return &Error{ErrorCode: "auth.role", Detail: "a refund without payment_id needs a manager's key"}
	}
	r := Refund{PaymentID: body.PaymentID, Reference: body.Reference, Why: body.Reason}
	if body.Amount != nil {
		r.Amount = payment.Money{Minor: body.Amount.Total, Currency: body.Amount.Currency}
	}
	register := body.RegisterID
	if body.PaymentID != "" {
		p, err := s.o.Engine.Payment(c.r.Context(), body.PaymentID)
		if err != nil {
			return err
		}
		if !c.cred.sees(p.Request.RegisterID) {
			return &Error{ErrorCode: "payment.not_found", Detail: "no payment of this register has this id"}
		}
		if r.Amount.Currency != "" && r.Amount.Currency != p.Request.Amount.Currency {
			return &api.FieldError{ErrorCode: "request.invalid_field", Field: "amount.currency", Problem: "is not the currency of the payment"}
		}
		if register == "" && c.cred.Register == "" {
			register = p.Request.RegisterID
		}
	}
	var err error
	if r.RegisterID, err = c.register(register); err != nil {
		return err
	}
	body.RegisterID = r.RegisterID
	claim, err := c.claim(body)
	if err != nil {
		return err
	}
	o, replayed, err := s.o.Engine.StartRefund(c.r.Context(), claim, r)
	if err != nil {
		return err
	}
	return s.operation(c, o, replayed)
}

// operation answers for a refund or void as createPayment does for a payment.
func (s *Server) operation(c *call, o payment.Operation, replayed bool) error {
	path := "/v1/refunds/" + url.PathEscape(o.ID)
	c.w.Header().Set("Location", path)
	if replayed {
		if o.State.Status == payment.Pending || o.State.Status == payment.InProgress {
			return &Error{ErrorCode: "request.in_progress", Detail: "the operation that this key began has not ended; follow Location", Location: path, Operation: &o}
		}
		c.w.Header().Set("Idempotency-Replayed", "true")
		return c.reply(http.StatusOK, viewOperation(&o))
	}
	d := c.wait(s.o.MaxWait)
	if d == 0 {
		return c.reply(http.StatusCreated, viewOperation(&o))
	}
	c.applied(d)
	if later, err := s.waitOperation(c.r.Context(), o.ID, d); err == nil {
		o = later
	}
	if !ended(o.State) {
		return c.reply(http.StatusAccepted, viewOperation(&o))
	}
	return c.reply(http.StatusOK, viewOperation(&o))
}

// ended reports whether an operation has its answer.
func ended(st payment.State) bool {
	switch st.Status {
	case payment.Succeeded, payment.Declined, payment.Canceled, payment.Failed:
		return true
	}
	return false
}

func (s *Server) waitOperation(ctx context.Context, id string, d time.Duration) (payment.Operation, error) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		changed := s.o.Engine.Changed()
		o, err := s.o.Engine.Operation(ctx, id)
		if err != nil || ended(o.State) {
			return o, err
		}
		select {
		case <-changed:
		case <-t.C:
			return o, nil
		case <-ctx.Done():
			return o, nil
		}
	}
}

// getRefund is GET /v1/refunds/{id}; voids have the same form and are found
// there too.
func (s *Server) getRefund(c *call) error {
	o, err := s.o.Engine.Operation(c.r.Context(), c.r.PathValue("id"))
	if err != nil {
		return err
	}
	if !c.cred.sees(o.RegisterID) {
		return &Error{ErrorCode: "refund.not_found", Detail: "no refund of this register has this id"}
	}
	if d := c.wait(s.o.MaxWait); d > 0 && !ended(o.State) {
		c.applied(d)
		if o, err = s.waitOperation(c.r.Context(), o.ID, d); err != nil {
			return err
		}
	}
	return c.reply(http.StatusOK, viewOperation(&o))
}
