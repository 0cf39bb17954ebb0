package abecs_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"tillbridge/drivers/frame"
	"tillbridge/drivers/virtual/abecs"
)

// A pad on a line that a test holds: CAN is answered by EOT in every state.
func ExamplePad_Run() {
	pad, err := abecs.New(abecs.Options{Auto: "visa"})
	if err != nil {
		fmt.Println(err)
		return
	}
	host, device := net.Pipe()
	done := make(chan error)
	go func() { done <- pad.Run(context.Background(), device) }()

	host.Write([]byte{frame.ByteCAN})
	answer := make([]byte, 1)
	io.ReadFull(host, answer)
	fmt.Printf("%02X\n", answer)
	host.Close()
	fmt.Println(<-done, len(pad.Books()))
	// Output:
	// 04
	// <nil> 0
}
