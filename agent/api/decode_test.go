package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"tillbridge/p2pe/mask"
)

const testCard = "4111111111111111" // published test number

func TestDecodeReadsEveryField(t *testing.T) {
	full := `{"amount":{"total":1250,"currency":"EUR","tip":50,"cashback":0,"surcharge":0,"tax":200},"register_id":"lane1","device_id":"d","intent":"sale","capture":"automatic",
		"offline":"allow","entry":["contact","contactless"],"accept_partial":true,"reference":"order 7","sale_id":"s","customer":{"crm_id":"1","email":"a@b.example","phone":"+49301234","consent":true,"consent_at":"2026-11-30T10:00:00Z"},
		"line_items":[{"sku":"1","name":"tea","quantity":2,"total":400}],"tender":{"index":1,"of":2},"cashier":"c7","deadline":60,"supersede":true,"metadata":{"a":"b"}}`
	var r PaymentRequest
	if err := Decode([]byte(full), &r); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	back, _ := json.Marshal(r)
	var want, got map[string]any
	json.Unmarshal([]byte(full), &want)
	json.Unmarshal(back, &got)
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("field %s was lost", name)
		}
	}
	if r.Amount.Total != 1250 || r.Customer.Email != "a@b.example" || r.Tender.Of != 2 || r.LineItems[0].Quantity != 2 || r.Metadata["a"] != "b" {
		t.Errorf("got %+v", r)
	}
}

func TestErrorsCarryCodesAndNoValues(t *testing.T) {
	for _, body := range []string{`{"reference":"` + testCard + `"}`, `{"` + testCard + `":1}`, `{"amount":{"total":` + testCard + `}}`, `{"refrence":1}`, `{"amount":"12"}`, `[`} {
		err := Decode([]byte(body), &PaymentRequest{})
		f, ok := errors.AsType[*FieldError](err)
		if !ok || f.Code() == "" {
			t.Errorf("%T %v", err, err)
			continue
		}
		if strings.Contains(f.Error()+f.Field+f.Nearest, testCard) {
			t.Errorf("the error repeats the card number: %v", err)
		}
	}
}

func TestKeysOfTheHeader(t *testing.T) {
	for in, want := range map[string]string{"k1": "k1", `"k1"`: "k1", " 8e03978e-40d5-43e8-bc93-6894a57f9324 ": "8e03978e-40d5-43e8-bc93-6894a57f9324"} {
		if got, err := CheckKey(in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	for _, in := range []string{"", `""`, "a b", "a,b", "é", testCard, "sale " + testCard, strings.Repeat("k", 200), `a"b`} {
		if _, err := CheckKey(in); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
}

// FuzzDecode: what is accepted holds no card number, means the same when it is
// written again, and passes or fails its check without a panic.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"amount":{"total":1250,"currency":"EUR"},"reference":"order 7"}`,
		`{"amount":{"total":1e9,"currency":"EUR"}}`, `{"amount":{"total":-1}}`, `{"total":1}`, `{"metadata":{"a":"b","c":"d"}}`,
		`{"entry":["contact"],"tender":{"index":1,"of":2}}`, `{"reference":"\u0034111111111111111"}`, `[[[[[[[[[[1]]]]]]]]]]`, `{"a":1,"a":2}`, "", "null", "{}x",
		`{"customer":{"consent":true},"line_items":[{"name":"x"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r PaymentRequest
		if err := Decode(body, &r); err != nil {
			fe, ok := errors.AsType[*FieldError](err)
			if !ok || fe.Code() == "" {
				t.Fatalf("error of another form: %T", err)
			}
			if mask.Contains(fe.Field) {
				t.Error("the error names a card number")
			}
			return
		}
		for _, s := range []string{r.Reference, r.RegisterID, r.SaleID, r.Cashier} {
			if mask.Contains(s) {
				t.Error("a card number came through")
			}
		}
		if err := r.Check(); err == nil && (r.Amount.Total <= 0 || r.Amount.Tip < 0) {
			t.Errorf("amount %+v passed", r.Amount)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var second PaymentRequest
		if err := Decode(again, &second); err != nil {
			t.Fatalf("what was accepted is not accepted again: %v", err)
		}
		var refund RefundRequest
		if Decode(body, &refund) == nil {
			_ = refund.Check()
		}
	})
}
