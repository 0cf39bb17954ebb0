package contact_test

import (
	"context"
	"fmt"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/contact"
	"tillbridge/emv/virtualcard"
)

// A sale with a virtual card in a terminal that knows no key: the card is asked
// to go online.
func Example() {
	p, _ := virtualcard.Named("no-pse")
	card, _ := virtualcard.New(&virtualcard.Options{Seed: 1}, p)
	s, err := contact.New(card, contact.Config{
		Applications: []contact.Application{{AID: []byte{0xA0, 0, 0, 0, 3, 0x10, 0x10}, Version: [2]byte{0, 2}}},
		Country:      840,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	amounts := emv.Amounts{Amount: 1234, Currency: "USD", CurrencyNumeric: 840, Exponent: 2}
	got, err := s.Read(ctx, emv.Terms{Amounts: amounts, Time: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)})
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := s.Authorize(ctx, amounts)
	fmt.Println(got.MaskedPAN, out.Decision, err)
	// Nobody could be asked, and nothing was sent:
	out, err = s.Complete(ctx, emv.HostResponse{})
	fmt.Println(out.Decision, out.ARC, err)
	// Output:
	// 401288******1881 online_request <nil>
	// declined Z3 <nil>
}
