package crm

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"tillbridge/agent/payment"
)

func stored(t *testing.T, e payment.Event) Item {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return Item{ID: 7, Key: "tok:t1", Body: b, Recorded: time.Unix(100, 0)}
}

func sold(consent bool) payment.Payment {
	p := payment.New("pay_1", "c", "k", "", payment.Request{Amount: payment.Amounts{Total: 1250, Currency: "JPY", Tip: 50}, RegisterID: "lane1", Reference: "order 7",
		Customer: &payment.Customer{CRMID: "77", Email: "a@b.example", Phone: "+4930", Consent: consent}}, time.Unix(50, 0))
	p.State, p.Approved = payment.State{Status: payment.Succeeded}, 1250
	p.Card = payment.Card{Brand: "visa", Last4: "1111", Masked: "411111******1111", Token: "t1", PAR: "PAR1"}
	p.Host = payment.HostRef{STAN: "000001", RRN: "1", ApprovalCode: "A1", ResponseCode: "00"}
	return p
}

func TestMappingOfASale(t *testing.T) {
	p := sold(true)
	ev, err := MapPayment(Identity{Source: "/chain/s1/lane1", StoreID: "s1"})(stored(t, payment.EventOf("evt_1", payment.EventSucceeded, &p, time.Unix(60, 0))))
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Check(); err != nil {
		t.Fatal(err)
	}
	d := ev.Data
	if ev.ID != "evt_1" || ev.Type != TypeApproved || ev.Sequence != 7 || ev.PartitionKey != "tok:t1" || ev.Subject != "pay_1" || ev.Source != "/chain/s1/lane1" {
		t.Errorf("envelope %+v", ev)
	}
	if d.AmountMinor != 1250 || d.ApprovedMinor != 1250 || d.Exponent != 0 || d.Currency != "JPY" || d.CardToken != "t1" || d.Outcome != "approved" || d.Kind != "sale" || d.StoreID != "s1" || d.Customer.Email != "a@b.example" {
		t.Errorf("data %+v", d)
	}
	b, _ := ev.AppendJSON(nil)
	if strings.Contains(string(b), "411111") {
		t.Error("the masked number reaches the CRM")
	}
}

func TestMappingKeepsPersonsWithoutConsentOut(t *testing.T) {
	p := sold(false)
	ev, err := MapPayment(Identity{HideLast4: true})(stored(t, payment.EventOf("evt_1", payment.EventSucceeded, &p, time.Unix(60, 0))))
	if err != nil {
		t.Fatal(err)
	}
	if c := ev.Data.Customer; c.Email != "" || c.Phone != "" || c.CRMRef != "77" || ev.Data.Last4 != "" {
		t.Errorf("got %+v last4 %q", c, ev.Data.Last4)
	}
}

func TestMappingOfARefund(t *testing.T) {
	p := sold(true)
	o := payment.NewOperation("ref_1", payment.KindRefund, "pay_1", "c", "k2", "", "lane1", payment.Money{Minor: 300, Currency: "JPY"}, time.Unix(70, 0))
	o.State = payment.State{Status: payment.Succeeded}
	p.Operations, p.Refunded = []string{"ref_1"}, 300
	ev, err := MapPayment(Identity{})(stored(t, payment.OperationEventOf("evt_2", payment.EventRefundSucceeded, &o, &p, time.Unix(80, 0))))
	if err != nil {
		t.Fatal(err)
	}
	if ev.Type != TypeRefunded || ev.Subject != "ref_1" || ev.Data.OriginalPaymentID != "pay_1" || ev.Data.AmountMinor != 300 || ev.Data.ApprovedMinor != 300 || ev.Data.AdjustmentSeq != 1 {
		t.Errorf("got %+v", ev)
	}
}

func TestMappingSkipsSteps(t *testing.T) {
	p := sold(true)
	m := MapPayment(Identity{})
	for _, kind := range []payment.EventType{payment.EventCreated, payment.EventUpdated, payment.EventRefundCreated, "payment.something_new"} {
		if _, err := m(stored(t, payment.EventOf("e", kind, &p, time.Unix(1, 0)))); !errors.Is(err, ErrNotEvent) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := m(Item{Body: []byte("{")}); err == nil || errors.Is(err, ErrNotEvent) {
		t.Errorf("damaged: %v", err)
	}
}
