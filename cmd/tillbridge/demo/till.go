package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// till is a point of sale: a plain HTTP client written from the API's
// description, as a till's author would.
type till struct {
	base, key, register string
	n                   int
	http                http.Client
}

// payment is what the till reads of an answer.
type payment struct {
	ID         string `json:"id"`
	Status     string `json:"status"`
	Stage      string `json:"stage"`
	MoneyMoved string `json:"money_moved"`
	Amount     struct {
		Total    int64  `json:"total"`
		Currency string `json:"currency"`
	} `json:"amount"`
	AmountRefunded int64 `json:"amount_refunded"`
	Card           struct {
		Brand string `json:"brand"`
		Last4 string `json:"last4"`
	} `json:"card"`
	Reason string `json:"reason"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (p payment) settled() bool {
	switch p.Status {
	case "pending", "in_progress", "requires_confirmation", "in_doubt":
		return false
	}
	return true
}

// call sends one request. Statuses of 400 and above are errors, except that the
// body is decoded for the caller.
func (t *till) call(ctx context.Context, method, path, key, wait string, body, out any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if wait != "" {
		req.Header.Set("Prefer", "wait="+wait)
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, bytes.TrimSpace(b))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// newKey makes one key for one sale attempt of the customer.
func (t *till) newKey() string {
	t.n++
	return fmt.Sprintf("%s-sale-%04d", t.register, t.n)
}

// begin starts a payment and returns at once.
func (t *till) begin(ctx context.Context, key string, minor int64, customer string) (p payment, err error) {
	body := map[string]any{"amount": map[string]any{"total": minor, "currency": "EUR"}, "reference": "order-" + key}
	if customer != "" {
		body["customer"] = map[string]any{"crm_id": customer}
	}
	err = t.call(ctx, "POST", "/v1/payments", key, "", body, &p)
	return p, err
}

// get reads a payment, waiting up to wait seconds for its end.
func (t *till) get(ctx context.Context, id, wait string) (p payment, err error) {
	err = t.call(ctx, "GET", "/v1/payments/"+id, "", wait, nil, &p)
	return p, err
}

// until reads a payment until it is as wanted.
func (t *till) until(ctx context.Context, id string, limit time.Duration, wanted func(payment) bool) (payment, error) {
	deadline := time.Now().Add(limit)
	for {
		p, err := t.get(ctx, id, "")
		if err == nil && wanted(p) {
			return p, nil
		}
		if time.Now().After(deadline) {
			if err == nil {
				err = fmt.Errorf("payment %s is still %s/%s after %s", id, p.Status, p.Stage, limit)
			}
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// operation is a refund or a void.
type operation struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
}

func (t *till) void(ctx context.Context, id string) (o operation, err error) {
	err = t.call(ctx, "POST", "/v1/payments/"+id+"/void", t.newKey(), "30", map[string]any{"reason": "wrong article"}, &o)
	return o, err
}

func (t *till) refund(ctx context.Context, id string, minor int64) (o operation, err error) {
	err = t.call(ctx, "POST", "/v1/refunds", t.newKey(), "30",
		map[string]any{"payment_id": id, "amount": map[string]any{"total": minor, "currency": "EUR"}, "reason": "returned"}, &o)
	return o, err
}

func (t *till) cancel(ctx context.Context, id string) (p payment, err error) {
	err = t.call(ctx, "POST", "/v1/payments/"+id+"/cancel", t.newKey(), "30", map[string]any{"reason": "changed their mind"}, &p)
	return p, err
}

// all lists every payment of the register.
func (t *till) all(ctx context.Context) ([]payment, error) {
	var out []payment
	after := ""
	for {
		var page struct {
			Payments []payment `json:"payments"`
			Next     string    `json:"next"`
		}
		path := "/v1/payments?limit=100"
		if after != "" {
			path += "&after=" + after
		}
		if err := t.call(ctx, "GET", path, "", "", nil, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Payments...)
		if page.Next == "" {
			return out, nil
		}
		after = page.Next
	}
}
