package payment_test

import (
	"errors"
	"fmt"
	"time"

	"tillbridge/agent/payment"
)

// A payment whose answer was lost may not be guessed: the table refuses it, and
// the record says what a till may believe.
func ExamplePayment_Move() {
	at := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	p := payment.New("pay_1", "till-1", "key-1", "digest", payment.Request{Amount: payment.Amounts{Total: 1250, Currency: "EUR"}}, at)
	steps := []struct {
		to    payment.State
		learn payment.Facts
	}{
		{payment.State{Status: payment.InProgress, Stage: payment.StageWaitingCard}, 0},
		{payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Armed},
		{payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing}, payment.Sent},
		{payment.State{Status: payment.Declined, Stage: payment.StageByIssuer}, 0}, // a guess
		{payment.State{Status: payment.InDoubt, Stage: payment.StageReversing}, payment.ReversalDurable},
		{payment.State{Status: payment.Succeeded}, payment.Approved}, // a late approval
		{payment.State{Status: payment.Reversed}, payment.ReversalAcked},
	}
	for _, s := range steps {
		if err := p.Move(s.to, s.learn, at, ""); errors.Is(err, payment.ErrTransition) {
			fmt.Println("refused:", s.to)
			continue
		}
		fmt.Println(p.State, "money moved:", p.MoneyMoved(), "retry:", p.Retry())
	}
	// Output:
	// in_progress/waiting_card money moved: no retry: wait
	// in_progress/authorizing money moved: unknown retry: wait
	// in_progress/authorizing money moved: unknown retry: wait
	// refused: declined/by_issuer
	// in_doubt/reversing money moved: unknown retry: forbidden
	// refused: succeeded
	// reversed money moved: returned retry: safe
}
