package frame_test

import (
	"fmt"

	"tillbridge/drivers/frame"
)

func ExampleDC3() {
	wire := append([]byte{frame.ByteACK}, frame.AppendDC3(nil, []byte("OPN000"))...)
	var d frame.DC3
	for p := wire; len(p) > 0; {
		n, ev, err := d.Feed(p)
		if err != nil {
			fmt.Println(err)
		}
		p = p[n:]
		switch ev {
		case frame.Message:
			fmt.Printf("message %s\n", d.Payload())
		case frame.ACK:
			fmt.Println("ACK")
		}
	}
	// Output:
	// ACK
	// message OPN000
}
