package replay_test

import (
	"context"
	"fmt"

	"tillbridge/emv/replay"
)

// A fragment is entered at its own step: here the card refuses the conditions
// of use, and there is no other application to take.
func Example() {
	list, err := replay.Parse([]byte(`{"transcripts":[{"name":"refused","exchanges":[{"capdu":"80A8000002830000","rapdu":"6985"}]}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	r := replay.Run(context.Background(), list[0], &replay.Options{Strict: true})
	fmt.Println(r.Entry, r.Outcome, r.LastCommand)
	// Output: initiate card_unusable 80A8000002830000
}
