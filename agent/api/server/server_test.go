package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

const testCard = "4111111111111111" // published test number

// books is an Engine that keeps records in memory, as its interface says.
type books struct {
	mu      sync.Mutex
	pays    []*payment.Payment
	ops     []*payment.Operation
	claims  map[string][2]string // scope and key: digest, id
	log     []payment.Event
	changed chan struct{}
	charged int // payments begun
	fail    error
}

func newBooks() *books {
	return &books{claims: map[string][2]string{}, changed: make(chan struct{})}
}

type coded struct {
	code string
	by   payment.Payment
}

func (e coded) Error() string { return "engine says " + e.code }
func (e coded) Code() string  { return e.code }

type busy struct{ coded }

func (e busy) Blocking() payment.Payment { return e.by }

func (b *books) touch(ev payment.Event) {
	ev.Seq = uint64(len(b.log) + 1)
	b.log = append(b.log, ev)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *books) StartPayment(_ context.Context, c Claim, r payment.Request) (payment.Payment, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return payment.Payment{}, false, b.fail
	}
	if old, ok := b.claims[c.Credential+"\x00"+c.Key]; ok {
		if old[0] != c.Digest {
			return payment.Payment{}, false, coded{code: "request.key_reused"}
		}
		p, err := b.find(old[1])
		return p, true, err
	}
	for _, p := range b.pays {
		if p.State.Open() && p.Request.RegisterID == r.RegisterID {
			return payment.Payment{}, false, busy{coded{"device.busy", *p}}
		}
	}
	p := payment.New(fmt.Sprintf("pay_%d", len(b.pays)+1), c.Credential, c.Key, c.Digest, r, time.Unix(0, 0))
	b.claims[c.Credential+"\x00"+c.Key] = [2]string{c.Digest, p.ID}
	b.pays = append(b.pays, &p)
	b.charged++
	b.touch(payment.EventOf("evt_"+p.ID, payment.EventCreated, &p, time.Unix(0, 0)))
	return p, false, nil
}

// end brings a payment to a state, without asking the table.
func (b *books) end(id string, st payment.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pays {
		if p.ID == id {
			p.State = st
			if st.Status == payment.Succeeded {
				p.Approved = p.Request.Amount.Total
			}
			b.touch(payment.EventOf(fmt.Sprintf("evt_%d", len(b.log)), payment.EventFor(st), p, time.Unix(0, 0)))
		}
	}
}

func (b *books) find(id string) (payment.Payment, error) {
	for _, p := range b.pays {
		if p.ID == id {
			return *p, nil
		}
	}
	return payment.Payment{}, coded{code: "payment.not_found"}
}

func (b *books) Payment(_ context.Context, id string) (payment.Payment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(id)
}

func (b *books) Payments(_ context.Context, f Filter) ([]payment.Payment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []payment.Payment
	for _, p := range slices.Backward(b.pays) {
		if (f.Reference == "" || f.Reference == p.Request.Reference) && (f.RegisterID == "" || f.RegisterID == p.Request.RegisterID) &&
			(f.Key == "" || f.Key == p.Key && (f.Credential == "" || f.Credential == p.Credential)) &&
			(f.Status == "" || f.Status == "open" && p.State.Open() || f.Status == string(p.State.Status)) && len(list) < f.Limit {
			list = append(list, *p)
		}
	}
	return list, nil
}

func (b *books) CancelPayment(_ context.Context, _ Claim, id string) (payment.Payment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.find(id)
	if err == nil && p.State.Status == payment.Succeeded {
		return p, coded{code: "payment.too_late_to_cancel"}
	}
	return p, err
}

func (b *books) operation(c Claim, k payment.Kind, id string, m payment.Money) (payment.Operation, bool, error) {
	if old, ok := b.claims[c.Credential+"\x00"+c.Key]; ok {
		if old[0] != c.Digest {
			return payment.Operation{}, false, coded{code: "request.key_reused"}
		}
		for _, o := range b.ops {
			if o.ID == old[1] {
				return *o, true, nil
			}
		}
	}
	p, err := b.find(id)
	if err != nil {
		return payment.Operation{}, false, err
	}
	o := payment.NewOperation(fmt.Sprintf("op_%d", len(b.ops)+1), k, id, c.Credential, c.Key, c.Digest, p.Request.RegisterID, m, time.Unix(0, 0))
	o.State = payment.State{Status: payment.Succeeded}
	b.claims[c.Credential+"\x00"+c.Key] = [2]string{c.Digest, o.ID}
	b.ops = append(b.ops, &o)
	b.charged++
	return o, false, nil
}

func (b *books) VoidPayment(_ context.Context, c Claim, id, _ string) (payment.Operation, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, _ := b.find(id)
	return b.operation(c, payment.KindVoid, id, p.Request.Amount.Money())
}

func (b *books) ResolvePayment(_ context.Context, _ Claim, id string, outcome payment.Status, _ string) (payment.Payment, error) {
	b.end(id, payment.State{Status: outcome})
	return b.Payment(context.Background(), id)
}

func (b *books) StartRefund(_ context.Context, c Claim, r Refund) (payment.Operation, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.operation(c, payment.KindRefund, r.PaymentID, r.Amount)
}

func (b *books) Operation(_ context.Context, id string) (payment.Operation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.ops {
		if o.ID == id {
			return *o, nil
		}
	}
	return payment.Operation{}, coded{code: "refund.not_found"}
}

func (b *books) Events(_ context.Context, after uint64, limit int) ([]payment.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if after >= uint64(len(b.log)) {
		return nil, nil
	}
	return slices.Clone(b.log[after:min(int(after)+limit, len(b.log))]), nil
}

func (b *books) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *books) begun() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.charged
}

// house is a server over books, with a key per register and one for the manager.
type house struct {
	t      *testing.T
	books  *books
	server *Server
	web    *httptest.Server
	keys   map[string]string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, books: newBooks(), keys: map[string]string{}}
	var creds []Credential
	for _, c := range []Credential{{ID: "c1", Register: "lane1", Role: RolePOS}, {ID: "c2", Register: "lane2", Role: RolePOS}, {ID: "boss", Role: RoleManager}, {ID: "ro", Role: RoleReadOnly}} {
		k, hash := NewKey()
		c.Hash = hash
		h.keys[c.ID] = k.Reveal()
		creds = append(creds, c)
	}
	var err error
	h.server, err = New(Options{Engine: h.books, Keys: NewKeyring(creds...), Origins: []string{"https://pos.example"}, Heartbeat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	h.web = httptest.NewServer(h.server.Handler())
	t.Cleanup(func() {
		h.server.stop()
		h.web.CloseClientConnections()
		h.web.Close()
	})
	return h
}

// ask sends a request; headers are "Name: value". The key of c1 is sent unless
// an Authorization header is given.
func (h *house) ask(method, path, body string, headers ...string) (*http.Response, map[string]any) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.web.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.keys["c1"])
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "Host":
			req.Host = value
		case value == "":
			req.Header.Del(name)
		default:
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if strings.Contains(string(text), testCard) {
		h.t.Errorf("%s %s: the answer repeats the card number", method, path)
	}
	var m map[string]any
	_ = json.Unmarshal(text, &m)
	return resp, m
}

func (h *house) as(id string) string { return "Authorization: Bearer " + h.keys[id] }

const sale = `{"amount":{"total":1250,"currency":"EUR"},"reference":"order 7"}`

func TestPaymentStartsAndReplays(t *testing.T) {
	h := newHouse(t)
	resp, m := h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	if resp.StatusCode != 201 || resp.Header.Get("Location") != "/v1/payments/pay_1" || m["status"] != "pending" || m["money_moved"] != "no" || m["register_id"] != "lane1" {
		t.Fatalf("%d %v %v", resp.StatusCode, resp.Header, m)
	}
	// while it runs: 409 with the place to look
	resp, m = h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	if resp.StatusCode != 409 || resp.Header.Get("Location") != "/v1/payments/pay_1" || m["code"] != "request.in_progress" || m["payment_id"] != "pay_1" || resp.Header.Get("Content-Type") != api.ProblemType {
		t.Errorf("while running: %d %v", resp.StatusCode, m)
	}
	h.books.end("pay_1", payment.State{Status: payment.Succeeded})
	// spaces and order of the body do not make another request; quotes of the header draft are no part of the key
	resp, m = h.ask("POST", "/v1/payments", `{ "reference":"order 7", "amount":{"currency":"EUR","total":1250}, "register_id":"lane1" }`, `Idempotency-Key: "k1"`)
	if resp.StatusCode != 200 || resp.Header.Get("Idempotency-Replayed") != "true" || m["id"] != "pay_1" || m["status"] != "succeeded" || m["money_moved"] != "yes" || m["retry"] != "never" {
		t.Errorf("replay: %d %v %v", resp.StatusCode, resp.Header, m)
	}
	if n := h.books.begun(); n != 1 {
		t.Errorf("%d payments were begun, want 1", n)
	}
}

func TestSameKeyOtherBodyIsRefused(t *testing.T) {
	h := newHouse(t)
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	h.books.end("pay_1", payment.State{Status: payment.Succeeded})
	resp, m := h.ask("POST", "/v1/payments", `{"amount":{"total":1251,"currency":"EUR"},"reference":"order 7"}`, "Idempotency-Key: k1")
	if resp.StatusCode != 422 || m["code"] != "request.key_reused" || m["retry"] != "forbidden" {
		t.Errorf("another amount: %d %v", resp.StatusCode, m)
	}
	resp, _ = h.ask("POST", "/v1/refunds", `{"payment_id":"pay_1"}`, "Idempotency-Key: k1")
	if resp.StatusCode != 422 {
		t.Errorf("the key of a sale for a refund: %d", resp.StatusCode)
	}
	// another credential's key is another key
	resp, _ = h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1", h.as("c2"))
	if resp.StatusCode != 201 {
		t.Errorf("the same key of another register: %d", resp.StatusCode)
	}
}

func TestEveryMoneyCallNeedsAKey(t *testing.T) {
	h := newHouse(t)
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	for _, c := range []struct{ path, body string }{
		{"/v1/payments", sale}, {"/v1/payments/pay_1/cancel", ""}, {"/v1/payments/pay_1/void", ""},
		{"/v1/refunds", `{"payment_id":"pay_1"}`}, {"/v1/payments/pay_1/resolve", `{"outcome":"declined","evidence":"portal shows nothing"}`},
	} {
		resp, m := h.ask("POST", c.path, c.body, h.as("boss"))
		if c.path == "/v1/payments" {
			resp, m = h.ask("POST", c.path, c.body)
		}
		if resp.StatusCode != 400 || m["code"] != "request.key_missing" || m["money_moved"] != "no" {
			t.Errorf("%s without a key: %d %v", c.path, resp.StatusCode, m)
		}
	}
	if n := h.books.begun(); n != 1 {
		t.Errorf("%d begun, want 1", n)
	}
}

func TestBadBodiesChargeNothing(t *testing.T) {
	h := newHouse(t)
	with := func(field, value string) string {
		return `{"amount":{"total":1250,"currency":"EUR"},"` + field + `":` + value + `}`
	}
	amount := func(s string) string { return `{"amount":` + s + `}` }
	spaced := "4111 1111 1111 1111"
	for _, c := range []struct {
		name, body    string
		code          string
		field, detail string
	}{
		{"not JSON", `amount=12`, "request.not_json", "", ""},
		{"half an object", `{"amount":{"total":1`, "request.not_json", "", ""},
		{"empty", "", "request.media_type", "", ""},
		{"a list", `[1]`, "request.not_json", "", ""},
		{"two objects", sale + sale, "request.not_json", "", ""},
		{"a name twice", `{"amount":{"total":1,"currency":"EUR","total":2}}`, "request.not_json", "", "twice"},
		{"not UTF-8", "{\"reference\":\"\xff\"}", "request.not_json", "", ""},
		{"too deep", strings.Repeat(`{"amount":`, 50) + "1" + strings.Repeat("}", 50), "request.not_json", "", ""},
		{"too large", with("reference", `"`+strings.Repeat("x", api.MaxBody)+`"`), "request.too_large", "", ""},
		{"unknown field", with("refrence", `"x"`), "request.unknown_field", "refrence", "reference"},
		{"unknown field of an object", amount(`{"total":1,"curency":"EUR"}`), "request.unknown_field", "amount.curency", "amount.currency"},
		{"field of another object", with("total", "5"), "request.unknown_field", "total", "amount.total"},
		{"other case", with("Reference", `"x"`), "request.unknown_field", "Reference", "reference"},
		{"negative", amount(`{"total":-100,"currency":"EUR"}`), "request.invalid_field", "amount.total", "refunds"},
		{"zero", amount(`{"total":0,"currency":"EUR"}`), "request.invalid_field", "amount.total", ""},
		{"fractional", amount(`{"total":12.50,"currency":"EUR"}`), "request.invalid_field", "amount.total", "minor units"},
		{"exponent", amount(`{"total":1e3,"currency":"EUR"}`), "request.invalid_field", "amount.total", ""},
		{"in quotes", amount(`{"total":"1250","currency":"EUR"}`), "request.invalid_field", "amount.total", ""},
		{"thirteen digits", amount(`{"total":1000000000000,"currency":"EUR"}`), "request.invalid_field", "amount.total", ""},
		{"larger than any integer", amount(`{"total":99999999999999999999999,"currency":"EUR"}`), "request.invalid_field", "amount.total", "large"},
		{"unknown currency", amount(`{"total":1,"currency":"XXX"}`), "request.invalid_field", "amount.currency", ""},
		{"small letters", amount(`{"total":1,"currency":"eur"}`), "request.invalid_field", "amount.currency", ""},
		{"no currency", amount(`{"total":1}`), "request.invalid_field", "amount.currency", ""},
		{"no amount", `{}`, "request.invalid_field", "amount.currency", ""},
		{"null", with("reference", "null"), "request.invalid_field", "reference", ""},
		{"negative tip", amount(`{"total":10,"currency":"EUR","tip":-1}`), "request.invalid_field", "amount.tip", ""},
		{"parts above total", amount(`{"total":10,"currency":"EUR","tip":6,"tax":5}`), "request.invalid_field", "amount.tax", ""},
		{"unknown intent", with("intent", `"steal"`), "request.invalid_field", "intent", ""},
		{"long deadline", with("deadline", "100000"), "request.invalid_field", "deadline", ""},
		{"control characters", with("reference", `"a\u0007"`), "request.invalid_field", "reference", ""},
		{"long reference", with("reference", `"`+strings.Repeat("x", 65)+`"`), "request.invalid_field", "reference", ""},
		{"card number", with("reference", `"`+testCard+`"`), "request.card_data", "reference", ""},
		{"card number with spaces", with("reference", `"pan `+spaced+`"`), "request.card_data", "reference", ""},
		{"card number escaped", with("reference", `"\u0034111111111111111"`), "request.card_data", "reference", ""},
		{"card number as amount", amount(`{"total":` + testCard + `,"currency":"EUR"}`), "request.card_data", "amount.total", ""},
		{"card number in metadata", with("metadata", `{"a":"`+testCard+`"}`), "request.card_data", "metadata.a", ""},
		{"card number as a metadata name", with("metadata", `{"`+testCard+`":"a"}`), "request.card_data", "metadata.(a field name)", ""},
		{"card number as a field name", with(testCard, `1`), "request.card_data", "(a field name)", ""},
		{"card number in customer", with("customer", `{"email":"`+testCard+`@x"}`), "request.card_data", "customer.email", ""},
		{"card number as phone", with("customer", `{"phone":"`+testCard+`"}`), "request.card_data", "customer.phone", ""},
		{"card number in line items", with("line_items", `[{"name":"`+testCard+`"}]`), "request.card_data", "line_items[0].name", ""},
		{"card number in an unknown field", with("pan", `"`+testCard+`"`), "request.card_data", "pan", ""},
		{"register of another key", with("register_id", `"lane2"`), "auth.scope", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, m := h.ask("POST", "/v1/payments", c.body, "Idempotency-Key: "+strings.ReplaceAll(c.name, " ", "-"))
			if resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Fatalf("status %d", resp.StatusCode)
			}
			if m["code"] != c.code || m["money_moved"] != "no" || m["retry"] != "safe" {
				t.Errorf("got %v", m)
			}
			if c.field != "" && m["field"] != c.field {
				t.Errorf("field %v, want %s", m["field"], c.field)
			}
			if d := fmt.Sprint(m["detail"], m["nearest"]); !strings.Contains(d, c.detail) {
				t.Errorf("detail %q does not say %q", d, c.detail)
			}
			for _, name := range []string{"type", "title", "status", "category", "operator_message", "doc"} {
				if m[name] == nil {
					t.Errorf("member %s is missing", name)
				}
			}
		})
	}
	if n := h.books.begun(); n != 0 {
		t.Errorf("%d payments were begun by bad requests", n)
	}
}

func TestBadHeadersChargeNothing(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		code    string
	}{
		{"card number as key", []string{"Idempotency-Key: " + testCard}, 400, "request.card_data"},
		{"card number in a key", []string{"Idempotency-Key: sale-" + testCard + "-1"}, 400, "request.card_data"},
		{"long key", []string{"Idempotency-Key: " + strings.Repeat("k", 129)}, 400, "request.key_invalid"},
		{"key with spaces", []string{"Idempotency-Key: a b"}, 400, "request.key_invalid"},
		{"empty key", []string{`Idempotency-Key: ""`}, 400, "request.key_missing"},
		{"form", []string{"Idempotency-Key: k", "Content-Type: text/plain"}, 415, "request.media_type"},
		{"no credential", []string{"Idempotency-Key: k", "Authorization: "}, 401, "auth.missing"},
		{"wrong credential", []string{"Idempotency-Key: k", "Authorization: Bearer tbk_wrong"}, 401, "auth.unknown_key"},
		{"other scheme", []string{"Idempotency-Key: k", "Authorization: Basic eDp5"}, 401, "auth.missing"},
		{"read-only credential", []string{"Idempotency-Key: k", h.as("ro")}, 403, "auth.role"},
		{"manager without a register", []string{"Idempotency-Key: k", h.as("boss")}, 400, "request.invalid_field"},
		{"rebound name", []string{"Idempotency-Key: k", "Host: evil.example:8710"}, 421, "auth.host"},
		{"rebound address", []string{"Idempotency-Key: k", "Host: 192.0.2.1"}, 421, "auth.host"},
		{"foreign page", []string{"Idempotency-Key: k", "Origin: https://evil.example"}, 403, "auth.origin"},
		{"page without origin", []string{"Idempotency-Key: k", "Origin: null"}, 403, "auth.origin"},
		{"similar origin", []string{"Idempotency-Key: k", "Origin: https://pos.example.evil"}, 403, "auth.origin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, m := h.ask("POST", "/v1/payments", sale, c.headers...)
			if resp.StatusCode != c.status || m["code"] != c.code || m["money_moved"] != "no" {
				t.Errorf("%d %v, want %d %s", resp.StatusCode, m, c.status, c.code)
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("a refused page is named as allowed")
			}
		})
	}
	if n := h.books.begun(); n != 0 {
		t.Errorf("%d payments were begun", n)
	}
}

func TestHostNamesOfThisMachine(t *testing.T) {
	h := newHouse(t)
	for _, host := range []string{"127.0.0.1", "127.0.0.1:8710", "localhost:1", "LOCALHOST", "[::1]:8710", "localhost."} {
		if resp, _ := h.ask("GET", "/healthz", "", "Host: "+host); resp.StatusCode != 200 {
			t.Errorf("Host %s: %d", host, resp.StatusCode)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/version", "/v1/events"} {
		if resp, _ := h.ask("GET", path, "", "Host: rebound.example"); resp.StatusCode != 421 {
			t.Errorf("%s under a foreign name: %d", path, resp.StatusCode)
		}
	}
}

func TestAllowedOrigin(t *testing.T) {
	h := newHouse(t)
	resp, _ := h.ask("OPTIONS", "/v1/payments", "", "Origin: https://pos.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true", "Authorization: ")
	if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "https://pos.example" || resp.Header.Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
	}
	resp, _ = h.ask("OPTIONS", "/v1/payments", "", "Origin: https://evil.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true")
	if resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Private-Network") != "" {
		t.Errorf("foreign preflight: %d %v", resp.StatusCode, resp.Header)
	}
	if _, err := New(Options{Engine: h.books, Keys: NewKeyring(), Origins: []string{"*"}}); err == nil {
		t.Error("origin * was accepted")
	}
}

func TestWaitAnswersWhenItHasEnded(t *testing.T) {
	h := newHouse(t)
	go func() {
		for h.books.begun() == 0 {
			time.Sleep(time.Millisecond)
		}
		h.books.end("pay_1", payment.State{Status: payment.Declined, Stage: payment.StageByIssuer})
	}()
	resp, m := h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1", "Prefer: wait=60")
	if resp.StatusCode != 200 || m["status"] != "declined" || m["retry"] != "safe" || resp.Header.Get("Preference-Applied") != "wait=60" {
		t.Errorf("%d %v", resp.StatusCode, m)
	}
	resp, m = h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k2", "Prefer: wait=1")
	if resp.StatusCode != 202 || m["status"] != "pending" {
		t.Errorf("not ended in time: %d %v", resp.StatusCode, m)
	}
}

func TestBusyRegisterNamesWhatBlocksIt(t *testing.T) {
	h := newHouse(t)
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	resp, m := h.ask("POST", "/v1/payments", `{"amount":{"total":5,"currency":"EUR"}}`, "Idempotency-Key: k2")
	b, _ := m["blocking"].(map[string]any)
	if resp.StatusCode != 409 || m["code"] != "device.busy" || m["payment_id"] != "pay_1" || b["payment_id"] != "pay_1" || b["amount"].(map[string]any)["total"] != 1250.0 || m["money_moved"] != "no" {
		t.Errorf("%d %v", resp.StatusCode, m)
	}
}

func TestUnlistedErrorSaysNobodyKnows(t *testing.T) {
	h := newHouse(t)
	h.books.fail = fmt.Errorf("commit of %s failed", testCard)
	resp, m := h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	if resp.StatusCode != 500 || m["code"] != "internal" || m["money_moved"] != "unknown" || strings.Contains(fmt.Sprint(m), "commit") {
		t.Errorf("%d %v", resp.StatusCode, m)
	}
}

func TestCancelVoidRefundResolve(t *testing.T) {
	h := newHouse(t)
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	if resp, m := h.ask("POST", "/v1/payments/pay_1/cancel", "", "Idempotency-Key: c1"); resp.StatusCode != 202 || m["id"] != "pay_1" {
		t.Errorf("cancel: %d %v", resp.StatusCode, m)
	}
	h.books.end("pay_1", payment.State{Status: payment.Succeeded})
	if resp, m := h.ask("POST", "/v1/payments/pay_1/cancel", "", "Idempotency-Key: c2"); resp.StatusCode != 409 || m["code"] != "payment.too_late_to_cancel" {
		t.Errorf("late cancel: %d %v", resp.StatusCode, m)
	}
	if resp, m := h.ask("POST", "/v1/payments/pay_1/void", `{"reason":"wrong amount"}`, "Idempotency-Key: v1"); resp.StatusCode != 201 || m["kind"] != "void" || m["money_moved"] != "returned" {
		t.Errorf("void: %d %v", resp.StatusCode, m)
	}
	if resp, m := h.ask("POST", "/v1/payments/pay_1/void", `{"reason":"wrong amount"}`, "Idempotency-Key: v1"); resp.StatusCode != 200 || resp.Header.Get("Idempotency-Replayed") != "true" || m["id"] != "op_1" {
		t.Errorf("void again: %d %v", resp.StatusCode, m)
	}
	resp, m := h.ask("POST", "/v1/refunds", `{"payment_id":"pay_1","amount":{"total":100,"currency":"EUR"}}`, "Idempotency-Key: r1")
	if resp.StatusCode != 201 || m["kind"] != "refund" || resp.Header.Get("Location") != "/v1/refunds/op_2" {
		t.Errorf("refund: %d %v", resp.StatusCode, m)
	}
	if resp, m := h.ask("GET", "/v1/refunds/op_2", ""); resp.StatusCode != 200 || m["payment_id"] != "pay_1" {
		t.Errorf("refund read: %d %v", resp.StatusCode, m)
	}
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
	}{
		{"refund of nothing", `{}`, nil, 400},
		{"unlinked, by a till", `{"amount":{"total":1,"currency":"EUR"}}`, nil, 403},
		{"other currency", `{"payment_id":"pay_1","amount":{"total":1,"currency":"USD"}}`, nil, 400},
		{"negative", `{"payment_id":"pay_1","amount":{"total":-1,"currency":"EUR"}}`, nil, 400},
		{"of another register", `{"payment_id":"pay_1"}`, []string{h.as("c2")}, 404},
		{"card number", `{"payment_id":"` + testCard + `"}`, nil, 400},
	} {
		if resp, m := h.ask("POST", "/v1/refunds", c.body, append(c.headers, "Idempotency-Key: x")...); resp.StatusCode != c.status {
			t.Errorf("%s: %d %v", c.name, resp.StatusCode, m)
		}
	}
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k9")
	h.books.end("pay_2", payment.State{Status: payment.InDoubt, Stage: payment.StageHeld})
	doubt := `{"outcome":"declined","evidence":"the acquirer's portal shows no sale"}`
	if resp, m := h.ask("POST", "/v1/payments/pay_2/resolve", doubt, "Idempotency-Key: z"); resp.StatusCode != 403 || m["code"] != "auth.role" {
		t.Errorf("a till resolves: %d %v", resp.StatusCode, m)
	}
	if resp, _ := h.ask("POST", "/v1/payments/pay_2/resolve", doubt, "Idempotency-Key: z", h.as("boss")); resp.StatusCode != 200 {
		t.Errorf("a manager resolves: %d", resp.StatusCode)
	}
}

func TestListsAndScope(t *testing.T) {
	h := newHouse(t)
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k1")
	h.ask("POST", "/v1/payments", sale, "Idempotency-Key: k2", h.as("c2"))
	for _, c := range []struct {
		path, as string
		status   int
		ids      string
	}{
		{"/v1/payments", "c1", 200, "pay_1"},
		{"/v1/payments", "boss", 200, "pay_2 pay_1"},
		{"/v1/payments?status=open&register_id=lane1", "c1", 200, "pay_1"},
		{"/v1/payments?status=succeeded", "c1", 200, ""},
		{"/v1/payments?reference=order+7", "c1", 200, "pay_1"},
		{"/v1/payments?idempotency_key=k1", "c1", 200, "pay_1"},
		{"/v1/payments?idempotency_key=k2", "c1", 200, ""},
		{"/v1/payments?register_id=lane2", "c1", 403, ""},
		{"/v1/payments?status=lost", "c1", 400, ""},
		{"/v1/payments?limit=0", "c1", 400, ""},
		{"/v1/payments?refrence=x", "c1", 400, ""},
		{"/v1/payments?reference=" + testCard, "c1", 400, ""},
		{"/v1/payments/pay_2", "c1", 404, ""},
		{"/v1/payments/" + testCard, "c1", 404, ""},
		{"/v1/payments/pay_9", "c1", 404, ""},
		{"/v1/registers/lane1/last_payment", "c1", 200, ""},
		{"/v1/registers/lane2/last_payment", "c1", 403, ""},
		{"/v1/registers/lane3/last_payment", "boss", 404, ""},
		{"/v1/nothing", "c1", 404, ""},
		{"/v1/refunds", "c1", 405, ""},
	} {
		resp, m := h.ask("GET", c.path, "", h.as(c.as))
		var ids []string
		list, _ := m["payments"].([]any)
		for _, p := range list {
			ids = append(ids, p.(map[string]any)["id"].(string))
		}
		if resp.StatusCode != c.status || strings.Join(ids, " ") != c.ids {
			t.Errorf("%s as %s: %d %v, want %d %s", c.path, c.as, resp.StatusCode, ids, c.status, c.ids)
		}
	}
}

// follow reads a stream until the entry with that id came.
func (h *house) follow(last int, path string, headers ...string) []string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 60*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", h.web.URL+path, nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+h.keys["c1"])
	for _, line := range headers {
		if name, value, ok := strings.Cut(line, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		h.t.Fatalf("%d %s", resp.StatusCode, kind)
	}
	var ids []string
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		if id, ok := strings.CutPrefix(sc.Text(), "id: "); ok {
			if ids = append(ids, id); id == fmt.Sprint(last) {
				return ids
			}
		}
	}
	h.t.Fatalf("the stream ended after %v: %v", ids, sc.Err())
	return nil
}

func (h *house) happen(n int, lane string) {
	h.books.mu.Lock()
	defer h.books.mu.Unlock()
	for range n {
		p := payment.New(fmt.Sprintf("pay_x%d", len(h.books.log)), "c", "k", "", payment.Request{Amount: payment.Amounts{Total: 1, Currency: "EUR"}, RegisterID: lane}, time.Unix(0, 0))
		h.books.touch(payment.EventOf(fmt.Sprintf("evt_%d", len(h.books.log)), payment.EventUpdated, &p, time.Unix(0, 0)))
	}
}

func TestEventStreamResumesWithoutALoss(t *testing.T) {
	h := newHouse(t)
	h.happen(253, "lane1") // more than two pages
	for _, c := range []struct {
		path, header string
		first        int
	}{
		{"/v1/events", "", 1},
		{"/v1/events?after=2", "", 3},
		{"/v1/events", "Last-Event-ID: 2", 3},
		{"/v1/events?after=1", "Last-Event-ID: 250", 251}, // the header is the newer word
	} {
		got := h.follow(253, c.path, c.header)
		if len(got) != 253-c.first+1 {
			t.Errorf("%s %s: %d entries, want %d", c.path, c.header, len(got), 253-c.first+1)
		}
		for i, id := range got {
			if id != fmt.Sprint(i+c.first) {
				t.Errorf("%s %s: entry %d has id %s, want %d", c.path, c.header, i, id, i+c.first)
				break
			}
		}
	}
	// what happens while somebody listens arrives as well
	done := make(chan []string, 1)
	go func() { done <- h.follow(255, "/v1/events?after=253") }()
	h.happen(1, "lane1")
	h.happen(1, "lane1")
	if got := strings.Join(<-done, " "); got != "254 255" {
		t.Errorf("live: %s", got)
	}
}

func TestEventsOfOtherRegistersStayAway(t *testing.T) {
	h := newHouse(t)
	h.happen(150, "lane2")
	h.happen(1, "lane1")
	if got := strings.Join(h.follow(151, "/v1/events"), " "); got != "151" {
		t.Errorf("stream: %s", got)
	}
	_, m := h.ask("GET", "/v1/events?after=0", "")
	if list := m["events"].([]any); len(list) != 1 || m["next"] != 151.0 {
		t.Errorf("page: %d entries, next %v", len(list), m["next"])
	}
	if resp, m := h.ask("GET", "/v1/events?after=abc", ""); resp.StatusCode != 400 {
		t.Errorf("after=abc: %d %v", resp.StatusCode, m)
	}
	if resp, m := h.ask("GET", "/v1/events", "", "Last-Event-ID: evt_1"); resp.StatusCode != 400 {
		t.Errorf("Last-Event-ID: evt_1: %d %v", resp.StatusCode, m)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	h := newHouse(t)
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, l, h.server.Handler()) }()
	req, _ := http.NewRequest("GET", "http://"+l.Addr().String()+"/v1/events", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+h.keys["c1"])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	io.Copy(io.Discard, resp.Body) // the stream has ended
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:1", ":0", "example.com:80", "nonsense"} {
		if l, err := Listen(addr); err == nil {
			l.Close()
			t.Errorf("listens on %s", addr)
		}
	}
}

func TestHealthReadyVersionMetrics(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/healthz", "/readyz", "/v1/version", "/metrics"} {
		if resp, _ := h.ask("GET", path, "", "Authorization: "); resp.StatusCode != 200 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	h.server.o.Ready = func(context.Context) api.Readiness {
		return api.Readiness{Checks: []api.Check{{Name: "store.open", Detail: "locked"}}}
	}
	if resp, m := h.ask("GET", "/readyz", ""); resp.StatusCode != 503 || m["ready"] != false {
		t.Errorf("not ready: %d %v", resp.StatusCode, m)
	}
}

func TestKeysNeverPrint(t *testing.T) {
	k, hash := NewKey()
	b, _ := json.Marshal(map[string]any{"k": k})
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %q %x", k, k, k, k, k, k), string(b)} {
		if strings.Contains(s, k.Reveal()) || strings.Contains(s, fmt.Sprintf("%x", k.Reveal())) {
			t.Errorf("the key prints: %s", s)
		}
	}
	if back, err := ParseHash(hash.String()); err != nil || back != HashOf(k.Reveal()) {
		t.Errorf("hash: %v", err)
	}
	for _, s := range []string{"", "sha256:", "sha256:00", "md5:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("g", 64)} {
		if _, err := ParseHash(s); err == nil {
			t.Errorf("hash %q was accepted", s)
		}
	}
}
