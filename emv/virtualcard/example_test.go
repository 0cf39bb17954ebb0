package virtualcard_test

import (
	"context"
	"fmt"

	"tillbridge/emv/virtualcard"
)

func ExampleNew() {
	profile, err := virtualcard.Named("visa-debit")
	if err != nil {
		fmt.Println(err)
		return
	}
	profile.ODA = virtualcard.ODANone // no RSA chain: made at once
	card, err := virtualcard.New(nil, profile)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := card.Transmit(context.Background(), []byte{0x00, 0xA4, 0x04, 0x00, 0x05, 0xA0, 0, 0, 0, 3, 0x00})
	fmt.Printf("%v: %X %v\n", card, answer[len(answer)-2:], err)
	// Output:
	// virtual card visa-debit: 9000 <nil>
}
