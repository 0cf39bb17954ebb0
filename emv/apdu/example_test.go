package apdu_test

import (
	"fmt"

	"tillbridge/emv/apdu"
)

// A reader driver moves blocks; the state machine says which.
func ExampleT1() {
	engine := apdu.NewT1(&apdu.T1Options{IFSC: 32, NoIFS: true})
	step, err := engine.Begin(apdu.Command{INS: 0x84, Le: 8}.Bytes())
	fmt.Printf("send %X %v\n", step.Send, err)
	// The card asks for more time, then answers.
	step, err = engine.Receive([]byte{0x00, 0xC3, 0x01, 0x02, 0xC0})
	fmt.Printf("send %X wait x%d %v\n", step.Send, step.WTX, err)
	step, err = engine.Receive([]byte{0x00, 0x00, 0x02, 0x90, 0x00, 0x92})
	fmt.Printf("done %t %X %v\n", step.Done, step.Response, err)
	// Output:
	// send 000005008400000889 <nil>
	// send 00E30102E0 wait x2 <nil>
	// done true 9000 <nil>
}
