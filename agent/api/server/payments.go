package server

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

// createPayment is POST /v1/payments: 201 with Location at once, or with
// Prefer: wait=N 200 when it has ended and 202 when it has not.
func (s *Server) createPayment(c *call) error {
	var body api.PaymentRequest
	if err := c.decode(&body, false); err != nil {
		return err
	}
	if err := body.Check(); err != nil {
		return err
	}
	register, err := c.register(body.RegisterID)
	if err != nil {
		return err
	}
	body.RegisterID = register
	if err := s.fits(&body); err != nil {
		return err
	}
	claim, err := c.claim(body)
	if err != nil {
		return err
	}
	p, replayed, err := s.o.Engine.StartPayment(c.r.Context(), claim, requestOf(&body))
	if err != nil {
		return err
	}
	path := "/v1/payments/" + url.PathEscape(p.ID)
	if replayed {
		if running(p.State) {
			return &Error{ErrorCode: "request.in_progress", Detail: "the payment that this key began has not ended; follow Location", Location: path, Payment: &p}
		}
		c.w.Header().Set("Idempotency-Replayed", "true")
		c.w.Header().Set("Location", path)
		return c.reply(http.StatusOK, viewPayment(&p))
	}
	c.w.Header().Set("Location", path)
	d := c.wait(s.o.MaxWait)
	if d == 0 {
		return c.reply(http.StatusCreated, viewPayment(&p))
	}
	c.applied(d)
	if ended, err := s.waitPayment(c.r.Context(), p.ID, d); err == nil {
		p = ended
	} // else the caller hears the state at the start, which is true as well
	return c.reply(statusOf(p.State), viewPayment(&p))
}

// fits holds a request to what the configuration says of its register.
func (s *Server) fits(b *api.PaymentRequest) error {
	device, currency := "", ""
	if s.o.Lane != nil {
		device, currency = s.o.Lane(b.RegisterID)
	}
	if b.DeviceID != "" && b.DeviceID != device {
		return &api.FieldError{ErrorCode: "request.invalid_field", Field: "device_id", Problem: "is not the device of this register; leave it out, or name the register of that device"}
	}
	if currency != "" && b.Amount.Currency != currency {
		return &api.FieldError{ErrorCode: "request.invalid_field", Field: "amount.currency", Problem: "is not the currency of this register, which is " + currency}
	}
	return nil
}

// running reports whether the request that began the record is still at work.
func running(st payment.State) bool {
	return st.Status == payment.Pending || st.Status == payment.InProgress || st.Status == payment.RequiresConfirmation
}

func statusOf(st payment.State) int {
	if st.Final() {
		return http.StatusOK
	}
	return http.StatusAccepted
}

func (c *call) applied(d time.Duration) {
	c.w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(d/time.Second)))
}

// register returns the register that a request is about.
func (c *call) register(asked string) (string, error) {
	switch {
	case asked == "" && c.cred.Register == "":
		return "", &api.FieldError{ErrorCode: "request.invalid_field", Field: "register_id", Problem: "is missing; this key is not bound to one register"}
	case asked == "":
		return c.cred.Register, nil
	case !c.cred.sees(asked):
		return "", &Error{ErrorCode: "auth.scope", Detail: "this key belongs to another register than register_id names"}
	}
	return asked, nil
}

func requestOf(b *api.PaymentRequest) payment.Request {
	r := payment.Request{
		Amount:     payment.Amounts{Total: b.Amount.Total, Currency: b.Amount.Currency, Tip: b.Amount.Tip, Cashback: b.Amount.Cashback, Surcharge: b.Amount.Surcharge, Tax: b.Amount.Tax},
		RegisterID: b.RegisterID, Intent: payment.Intent(b.Intent), Capture: b.Capture, Offline: payment.OfflineMode(b.Offline), Entry: b.Entry,
		AcceptPartial: b.AcceptPartial, Reference: b.Reference, SaleID: b.SaleID, Cashier: b.Cashier, DeadlineS: b.Deadline, Supersede: b.Supersede, Metadata: b.Metadata,
	}
	if c := b.Customer; c != nil {
		r.Customer = &payment.Customer{CRMID: c.CRMID, Email: c.Email, Phone: c.Phone, Consent: c.Consent}
		r.Customer.ConsentAt, _ = time.Parse(time.RFC3339, c.ConsentAt) // checked; empty is zero
	}
	if t := b.Tender; t != nil {
		r.Tender = &payment.Tender{Index: t.Index, Of: t.Of}
	}
	return r
}

// waitPayment returns the payment when it has ended, when a person has to
// answer, or after d, whichever is first.
func (s *Server) waitPayment(ctx context.Context, id string, d time.Duration) (payment.Payment, error) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		changed := s.o.Engine.Changed()
		p, err := s.o.Engine.Payment(ctx, id)
		if err != nil || p.State.Final() || p.State.Status == payment.RequiresConfirmation {
			return p, err
		}
		select {
		case <-changed:
		case <-t.C:
			return p, nil
		case <-ctx.Done():
			return p, nil
		}
	}
}

// find returns a payment that the credential may see.
func (s *Server) find(c *call) (payment.Payment, error) {
	id := c.r.PathValue("id")
	if len(id) > api.MaxID || api.HoldsCardNumber(id) {
		return payment.Payment{}, &Error{ErrorCode: "payment.not_found", Detail: "no payment has this id"}
	}
	p, err := s.o.Engine.Payment(c.r.Context(), id)
	if err != nil {
		return p, err
	}
	if !c.cred.sees(p.Request.RegisterID) {
		return payment.Payment{}, &Error{ErrorCode: "payment.not_found", Detail: "no payment of this register has this id"}
	}
	return p, nil
}

// getPayment is GET /v1/payments/{id}; with Prefer: wait=N it waits for the end.
func (s *Server) getPayment(c *call) error {
	p, err := s.find(c)
	if err != nil {
		return err
	}
	if d := c.wait(s.o.MaxWait); d > 0 && !p.State.Final() {
		c.applied(d)
		if p, err = s.waitPayment(c.r.Context(), p.ID, d); err != nil {
			return err
		}
	}
	return c.reply(http.StatusOK, viewPayment(&p))
}

const (
	defaultPage = 50
	longestPage = 200
)

// listPayments is GET /v1/payments?reference=&idempotency_key=&register_id=&status=&after=&limit=:
// the answer to a till that lost power.
func (s *Server) listPayments(c *call) error {
	f := Filter{Limit: defaultPage, RegisterID: c.cred.Register}
	for name, values := range c.r.URL.Query() {
		v := values[0]
		if len(values) > 1 {
			return &Error{ErrorCode: "request.query", Detail: "a parameter stands more than once"}
		}
		if api.HoldsCardNumber(v) || api.HoldsCardNumber(name) {
			return &api.FieldError{ErrorCode: "request.card_data", Field: "(query)", Problem: "holds what looks like a card number"}
		}
		switch name {
		case "reference":
			f.Reference = v
		case "idempotency_key":
			f.Key = v
			if c.cred.Role == RolePOS || c.cred.Role == RoleManager {
				f.Credential = c.cred.ID
			}
		case "register_id":
			if !c.cred.sees(v) {
				return &Error{ErrorCode: "auth.scope", Detail: "this key belongs to another register than register_id names"}
			}
			f.RegisterID = v
		case "status":
			if v != "open" && !known(v) {
				return &Error{ErrorCode: "request.query", Detail: "status is open, or a status such as succeeded or in_doubt"}
			}
			f.Status = v
		case "after":
			f.After = v
		case "limit":
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > longestPage {
				return &Error{ErrorCode: "request.query", Detail: "limit is 1 to " + strconv.Itoa(longestPage)}
			}
			f.Limit = n
		default:
			return &Error{ErrorCode: "request.query", Detail: "parameters are reference, idempotency_key, register_id, status, after, limit"}
		}
	}
	page, err := s.o.Engine.Payments(c.r.Context(), f)
	if err != nil {
		return err
	}
	list := api.PaymentList{Payments: make([]api.Payment, 0, len(page))}
	for i := range page {
		list.Payments = append(list.Payments, viewPayment(&page[i]))
	}
	if len(page) == f.Limit {
		list.Next = page[len(page)-1].ID
	}
	return c.reply(http.StatusOK, list)
}

func known(status string) bool {
	for _, st := range payment.States() {
		if string(st.Status) == status {
			return true
		}
	}
	return false
}

// lastPayment is GET /v1/registers/{id}/last_payment.
func (s *Server) lastPayment(c *call) error {
	id := c.r.PathValue("id")
	if !c.cred.sees(id) {
		return &Error{ErrorCode: "auth.scope", Detail: "this key belongs to another register"}
	}
	page, err := s.o.Engine.Payments(c.r.Context(), Filter{RegisterID: id, Limit: 1})
	if err != nil {
		return err
	}
	if len(page) == 0 {
		return &Error{ErrorCode: "payment.not_found", Detail: "this register has no payment"}
	}
	return c.reply(http.StatusOK, viewPayment(&page[0]))
}

// cancelPayment is POST /v1/payments/{id}/cancel: a request, 202 with the state
// so far. It is idempotent.
func (s *Server) cancelPayment(c *call) error {
	var body api.CancelRequest
	if err := c.decode(&body, true); err != nil {
		return err
	}
	claim, err := c.claim(body)
	if err != nil {
		return err
	}
	p, err := s.find(c)
	if err != nil {
		return err
	}
	if p, err = s.o.Engine.CancelPayment(c.r.Context(), claim, p.ID); err != nil {
		return err
	}
	if d := c.wait(s.o.MaxWait); d > 0 && !p.State.Final() {
		c.applied(d)
		if later, err := s.waitPayment(c.r.Context(), p.ID, d); err == nil {
			p = later
		}
	}
	status := http.StatusAccepted
	if p.State.Status == payment.Canceled {
		status = http.StatusOK
	}
	return c.reply(status, viewPayment(&p))
}

// voidPayment is POST /v1/payments/{id}/void: the answer is the operation.
func (s *Server) voidPayment(c *call) error {
	var body api.VoidRequest
	if err := c.decode(&body, true); err != nil {
		return err
	}
	claim, err := c.claim(body)
	if err != nil {
		return err
	}
	p, err := s.find(c)
	if err != nil {
		return err
	}
	o, replayed, err := s.o.Engine.VoidPayment(c.r.Context(), claim, p.ID, body.Reason)
	if err != nil {
		return err
	}
	return s.operation(c, o, replayed)
}

// resolvePayment is POST /v1/payments/{id}/resolve, for a manager.
func (s *Server) resolvePayment(c *call) error {
	var body api.ResolveRequest
	if err := c.decode(&body, false); err != nil {
		return err
	}
	if err := body.Check(); err != nil {
		return err
	}
	claim, err := c.claim(body)
	if err != nil {
		return err
	}
	p, err := s.find(c)
	if err != nil {
		return err
	}
	if p, err = s.o.Engine.ResolvePayment(c.r.Context(), claim, p.ID, payment.Status(body.Outcome), body.Evidence); err != nil {
		return err
	}
	return c.reply(http.StatusOK, viewPayment(&p))
}
