package agent_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tillbridge/p2pe/mask"
)

// TestBadRequestsChargeNothing posts what a till may get wrong to a whole
// agent: each has its code, and the acquirer has never heard of any.
func TestBadRequestsChargeNothing(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	const head = `{"amount":{"total":1000,"currency":"EUR"}`
	for name, c := range map[string]struct {
		body, key, code string
		status          int
	}{
		"not JSON":                {`total=1000`, "k1", "request.not_json", 400},
		"empty":                   {``, "k1", "request.not_json", 400},
		"half an object":          {`{"amount":{"total":10`, "k1", "request.not_json", 400},
		"too large":               {head + `,"metadata":{"a":"` + strings.Repeat("x", 70000) + `"}}`, "k1", "request.too_large", 413},
		"unknown field":           {head + `,"refrence":"x"}`, "k1", "request.unknown_field", 400},
		"negative":                {`{"amount":{"total":-1,"currency":"EUR"}}`, "k1", "request.invalid_field", 400},
		"zero":                    {`{"amount":{"total":0,"currency":"EUR"}}`, "k1", "request.invalid_field", 400},
		"fractional":              {`{"amount":{"total":19.99,"currency":"EUR"}}`, "k1", "request.invalid_field", 400},
		"exponent":                {`{"amount":{"total":1e3,"currency":"EUR"}}`, "k1", "request.invalid_field", 400},
		"beyond int64":            {`{"amount":{"total":99999999999999999999999,"currency":"EUR"}}`, "k1", "request.invalid_field", 400},
		"text for a number":       {`{"amount":{"total":"1000","currency":"EUR"}}`, "k1", "request.invalid_field", 400},
		"unknown currency":        {`{"amount":{"total":1000,"currency":"XQQ"}}`, "k1", "request.invalid_field", 400},
		"another currency":        {`{"amount":{"total":1000,"currency":"USD"}}`, "k1", "request.invalid_field", 400},
		"another device":          {head + `,"device_id":"pad2"}`, "k1", "request.invalid_field", 400},
		"another register":        {head + `,"register_id":"lane2"}`, "k1", "auth.scope", 403},
		"card in reference":       {head + `,"reference":"` + testCard + `"}`, "k1", "request.card_data", 400},
		"card with spaces":        {head + `,"reference":"4111 1111 1111 1111"}`, "k1", "request.card_data", 400},
		"card in metadata's name": {head + `,"metadata":{"` + testCard + `":"x"}}`, "k1", "request.card_data", 400},
		"card as key":             {head + `}`, testCard, "request.card_data", 400},
		"no key":                  {head + `}`, "", "request.key_missing", 400},
		"twice a name":            {`{"amount":{"total":1000,"currency":"EUR"},"amount":{"total":1,"currency":"EUR"}}`, "k1", "request.not_json", 400},
		"verify":                  {head + `,"intent":"verify"}`, "k1", "request.invalid", 422},
	} {
		a := s.call("POST", "/v1/payments", c.body, "Idempotency-Key", c.key)
		if a.Status != c.status || a.str("code") != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.Status, a.Text, c.status, c.code)
		}
		if a.str("money_moved") != "no" || a.str("retry") == "" || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json") {
			t.Errorf("%s: %s", name, a.Text)
		}
		if strings.Contains(a.Text, testCard) || strings.Contains(a.Text, "4111 1111") {
			t.Errorf("%s: the answer repeats the number", name)
		}
	}
	if a := s.call("GET", "/v1/payments", ""); a.Status != 200 || len(a.Body["payments"].([]any)) != 0 {
		t.Errorf("payments after refusals: %s", a.Text)
	}
	if n := len(s.books()["entries"].([]any)); n != 0 {
		t.Errorf("the acquirer knows %d requests", n)
	}
	// none of the refusals has taken the key
	s.chip()
	if a := s.pay("k1", tenEuro); a.Status != 200 || a.str("status") != "succeeded" || a.str("money_moved") != "yes" {
		t.Fatalf("a sale with the key of the refused ones: %d %s", a.Status, a.Text)
	}
	if bytes := s.log.Bytes(); strings.Contains(string(bytes), testCard) {
		t.Error("the log has the number")
	}
}

// TestDayOfATill is a till's day over real HTTP: sale, replay, reused key,
// busy register, supersede, cancel, refunds up to the limit, and a restart.
func TestDayOfATill(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	s.chip()
	sale := s.pay("sale-1", tenEuro)
	if sale.Status != 200 || sale.str("status") != "succeeded" {
		t.Fatalf("sale: %d %s", sale.Status, sale.Text)
	}
	id := sale.str("id")

	if a := s.pay("sale-1", tenEuro); a.Status != 200 || a.str("id") != id || a.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("replay: %d %s", a.Status, a.Text)
	}
	if a := s.pay("sale-1", `{"amount":{"total":1001,"currency":"EUR"}}`); a.Status != 422 || a.str("code") != "request.key_reused" || a.str("retry") != "forbidden" || a.str("money_moved") != "yes" {
		t.Errorf("key reused for another body: %d %s", a.Status, a.Text)
	}

	// a forgotten payment blocks the register
	first := s.call("POST", "/v1/payments", `{"amount":{"total":500,"currency":"EUR"}}`, "Idempotency-Key", "sale-2")
	if first.Status != 201 || first.Header.Get("Location") == "" {
		t.Fatalf("begin: %d %s", first.Status, first.Text)
	}
	again := s.call("POST", "/v1/payments", `{"amount":{"total":500,"currency":"EUR"}}`, "Idempotency-Key", "sale-2")
	if again.Status != 409 || again.str("code") != "request.in_progress" || again.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("same key while it runs: %d %s", again.Status, again.Text)
	}
	busy := s.call("POST", "/v1/payments", `{"amount":{"total":700,"currency":"EUR"}}`, "Idempotency-Key", "sale-3")
	blocking, _ := busy.Body["blocking"].(map[string]any)
	if busy.Status != 409 || busy.str("code") != "device.busy" || blocking == nil || blocking["payment_id"] != first.str("id") || busy.str("money_moved") != "no" {
		t.Errorf("busy register: %d %s", busy.Status, busy.Text)
	} else if amount := blocking["amount"].(map[string]any); amount["total"] != 500.0 || amount["currency"] != "EUR" {
		t.Errorf("the blocking amount: %v", amount)
	}
	super := s.call("POST", "/v1/payments", `{"amount":{"total":700,"currency":"EUR"},"supersede":true}`, "Idempotency-Key", "sale-4")
	if super.Status != 201 {
		t.Fatalf("supersede: %d %s", super.Status, super.Text)
	}
	if a := s.call("GET", "/v1/payments/"+first.str("id"), ""); a.str("status") != "canceled" || a.str("money_moved") != "no" {
		t.Errorf("the superseded one: %s", a.Text)
	}
	cancel := s.call("POST", "/v1/payments/"+super.str("id")+"/cancel", ``, "Idempotency-Key", "cancel-1", "Prefer", "wait="+waitLimit)
	if cancel.Status != 200 || cancel.str("status") != "canceled" {
		t.Errorf("cancel: %d %s", cancel.Status, cancel.Text)
	}
	if a := s.call("POST", "/v1/payments/"+super.str("id")+"/cancel", ``, "Idempotency-Key", "cancel-2"); a.Status != 200 || a.str("status") != "canceled" {
		t.Errorf("cancel twice: %d %s", a.Status, a.Text)
	}
	late := s.call("POST", "/v1/payments/"+id+"/cancel", ``, "Idempotency-Key", "cancel-3")
	if late.Status != 409 || late.str("code") != "payment.too_late_to_cancel" || late.str("money_moved") != "yes" {
		t.Errorf("cancel of a paid one: %d %s", late.Status, late.Text)
	}
	if a := s.call("POST", "/v1/payments/pay_nothing/cancel", ``, "Idempotency-Key", "cancel-4"); a.Status != 404 {
		t.Errorf("cancel of none: %d %s", a.Status, a.Text)
	}

	refund := func(key, body string) answer {
		return s.call("POST", "/v1/refunds", body, "Idempotency-Key", key, "Prefer", "wait="+waitLimit)
	}
	if a := refund("refund-0", `{"payment_id":"`+id+`","amount":{"total":1001,"currency":"EUR"}}`); a.Status != 409 || a.str("code") != "refund.not_allowed" {
		t.Errorf("refund over the limit: %d %s", a.Status, a.Text)
	}
	if a := refund("refund-0", `{"payment_id":"`+id+`","amount":{"total":100,"currency":"USD"}}`); a.Status != 400 {
		t.Errorf("refund in another currency: %d %s", a.Status, a.Text)
	}
	if a := refund("refund-1", `{"payment_id":"`+id+`","amount":{"total":600,"currency":"EUR"}}`); a.Status != 200 || a.str("status") != "succeeded" {
		t.Errorf("refund: %d %s", a.Status, a.Text)
	}
	if a := refund("refund-1", `{"payment_id":"`+id+`","amount":{"total":600,"currency":"EUR"}}`); a.Status != 200 || a.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("refund again with its key: %d %s", a.Status, a.Text)
	}
	if a := refund("refund-2", `{"payment_id":"`+id+`","amount":{"total":401,"currency":"EUR"}}`); a.Status != 409 {
		t.Errorf("refund over the rest: %d %s", a.Status, a.Text)
	}
	if a := refund("refund-3", `{"amount":{"total":401,"currency":"EUR"}}`); a.Status != 403 {
		t.Errorf("refund without a payment: %d %s", a.Status, a.Text)
	}
	if a := s.call("POST", "/v1/payments/"+id+"/void", ``, "Idempotency-Key", "void-1"); a.Status != 409 {
		t.Errorf("void over a refund: %d %s", a.Status, a.Text)
	}

	// the log's positions outlive a restart
	page := s.call("GET", "/v1/events", "")
	seen := page.Body["next"].(float64)
	if len(page.Body["events"].([]any)) == 0 {
		t.Fatal("no events")
	}
	s.end()
	s.start()
	if a := s.call("GET", "/v1/payments/"+id, ""); a.str("status") != "succeeded" || a.Body["amount_refunded"] != 600.0 {
		t.Errorf("after a restart: %s", a.Text)
	}
	for _, e := range s.call("GET", "/v1/events?after="+strconv.Itoa(int(seen)), "").Body["events"].([]any) {
		if e.(map[string]any)["seq"].(float64) <= seen {
			t.Errorf("an old event again: %v", e)
		}
	}
	if a := s.pay("sale-1", tenEuro); a.str("id") != id {
		t.Errorf("replay after a restart: %d %s", a.Status, a.Text)
	}
	b := s.books()
	if b["authorisations"] != 1.0 || b["double_charges"] != 0.0 || b["refunds"] != 1.0 || b["net"].(map[string]any)["978"] != 400.0 {
		t.Errorf("the acquirer's books: %v", b)
	}
	s.until("the CRM has everything", func() bool { return s.crm.Ledger().Net["EUR"] == 400 })
	s.end()
	s.noCardData()
}

// noCardData searches the log and every file of the run.
func (s *shop) noCardData() {
	s.t.Helper()
	look := func(name string, b []byte) {
		if strings.Contains(string(b), testCard) || mask.Contains(string(b)) && strings.HasSuffix(name, "log") {
			s.t.Errorf("%s holds a card number", name)
		}
	}
	log := s.log.Bytes()
	if len(log) == 0 {
		s.t.Error("the log is empty: nothing was searched")
	}
	look("the debug log", log)
	err := filepath.WalkDir(s.path("agent"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		look(path, b)
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}
