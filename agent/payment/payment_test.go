package payment

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestCurrenciesAreWellFormed(t *testing.T) {
	numbers := map[int]string{}
	for _, c := range Currencies() {
		if len(c.Code) != 3 || c.Numeric <= 0 || c.Numeric > 999 {
			t.Errorf("%+v is malformed", c)
		}
		if other := numbers[c.Numeric]; other != "" {
			t.Errorf("%s and %s share number %d", c.Code, other, c.Numeric)
		}
		numbers[c.Numeric] = c.Code
		back, err := CurrencyByNumber(c.Numeric)
		if err != nil || back != c {
			t.Errorf("number %d gives %v, %v", c.Numeric, back, err)
		}
	}
	for code, want := range map[string][2]int{"EUR": {978, 2}, "JPY": {392, 0}, "KWD": {414, 3}, "USD": {840, 2}, "BHD": {48, 3}, "CLP": {152, 0}, "BRL": {986, 2}} {
		c, err := LookupCurrency(code)
		if err != nil || c.Numeric != want[0] || c.Exponent != want[1] {
			t.Errorf("%s is %+v, %v", code, c, err)
		}
	}
	for _, bad := range []string{"", "eur", "XXX", "EURO", "XAU"} {
		if _, err := LookupCurrency(bad); !errors.Is(err, ErrCurrency) {
			t.Errorf("%q is accepted: %v", bad, err)
		}
	}
}

func TestAmountsRefuseWhatNobodyPays(t *testing.T) {
	for name, a := range map[string]Amounts{
		"zero":               {Total: 0, Currency: "EUR"},
		"negative":           {Total: -1, Currency: "EUR"},
		"thirteen digits":    {Total: MaxMinor + 1, Currency: "EUR"},
		"unknown currency":   {Total: 1, Currency: "EUX"},
		"negative tip":       {Total: 100, Tip: -1, Currency: "EUR"},
		"parts exceed total": {Total: 100, Tip: 60, Cashback: 60, Currency: "EUR"},
		"parts overflow":     {Total: 100, Tip: 1<<63 - 1, Cashback: 1<<63 - 1, Currency: "EUR"},
	} {
		if a.Check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := (Amounts{Total: 100, Tip: 10, Cashback: 90, Currency: "EUR"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestMoneyInMajorUnits(t *testing.T) {
	for want, m := range map[string]Money{"12.50 EUR": {1250, "EUR"}, "1250 JPY": {1250, "JPY"}, "1.250 KWD": {1250, "KWD"}, "0.05 EUR": {5, "EUR"}, "-0.05 EUR": {-5, "EUR"}} {
		if m.String() != want {
			t.Errorf("%+v prints %q, not %q", m, m, want)
		}
	}
	for s, want := range map[string]int64{"12.5": 1250, "12": 1200, "0.01": 1, "12.50": 1250} {
		if m, err := ParseMajor(s, "EUR"); err != nil || m.Minor != want {
			t.Errorf("%q is %v, %v", s, m, err)
		}
	}
	for _, bad := range []string{"", ".5", "1.", "1.234", "-1", "+1", "1e2", "1,5", "1.2.3", "99999999999999", "١"} {
		if m, err := ParseMajor(bad, "EUR"); err == nil {
			t.Errorf("%q is accepted as %v", bad, m)
		}
	}
}

func FuzzParseMajor(f *testing.F) {
	for _, s := range []string{"12.50", "0", "1e9", "999999999999", "0.001", "-4", "１"} {
		f.Add(s, "EUR")
		f.Add(s, "KWD")
	}
	f.Fuzz(func(t *testing.T, s, currency string) {
		m, err := ParseMajor(s, currency)
		if err != nil {
			return
		}
		if m.Minor < 0 || m.Minor > MaxMinor {
			t.Fatalf("%q gives %d", s, m.Minor)
		}
	})
}

func FuzzFacts(f *testing.F) {
	f.Add([]byte(`["armed","sent"]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`["new"]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Facts
		if json.Unmarshal(b, &x) != nil {
			return
		}
		again, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &y); err != nil || x != y {
			t.Fatalf("%v and %v, %v", x, y, err)
		}
	})
}

func TestMoveKeepsARefusedRecordUnchanged(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	p := New("pay_1", "till", "k", "d", Request{Amount: Amounts{Total: 100, Currency: "EUR"}}, at)
	before, _ := json.Marshal(p)
	if err := p.Move(State{Succeeded, StageNone}, Armed|Sent|Approved, at, ""); !errors.Is(err, ErrTransition) {
		t.Fatalf("pending became succeeded: %v", err)
	}
	if after, _ := json.Marshal(p); string(before) != string(after) {
		t.Fatalf("a refused move changed the record")
	}
}

func TestRefundsAndVoidsExcludeEachOther(t *testing.T) {
	p := Payment{State: State{Succeeded, StageNone}, Facts: Armed | Sent | Approved, Approved: 1000}
	if p.Refundable() != 1000 || !p.Voidable() {
		t.Fatal("a fresh sale is neither refundable nor voidable")
	}
	p.RefundsOpen = 400
	if p.Refundable() != 600 || p.Voidable() {
		t.Fatal("an open refund is not counted")
	}
	p.RefundsOpen, p.Refunded = 0, 1000
	if p.Refundable() != 0 || p.Voidable() {
		t.Fatal("a refunded sale can go back twice")
	}
	p.Refunded, p.VoidID = 0, "op_1"
	if p.Refundable() != 0 || p.Voidable() {
		t.Fatal("a void under way leaves room for another")
	}
}

func TestUnknownStatesSayTheWorst(t *testing.T) {
	s := State{"new_status", "x"}
	if s.Valid() || s.MoneyMoved() != MovedUnknown || s.Retry() != RetryForbidden {
		t.Fatalf("%s: %s, %s", s, s.MoneyMoved(), s.Retry())
	}
}

func TestTimelineIsBounded(t *testing.T) {
	p := New("pay_1", "till", "k", "d", Request{}, time.Time{})
	for range 1000 {
		if err := p.Move(State{Pending, StageWakingDevice}, 0, time.Time{}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.Steps) != MaxSteps || p.Steps[0].State.Stage != StageQueued {
		t.Fatalf("%d steps, first %s", len(p.Steps), p.Steps[0].State)
	}
}
