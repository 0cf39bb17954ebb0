package neo2

import (
	"context"
	"fmt"
	"io"
	"net"
)

// A reader on a line that a test holds: a ping is answered.
func ExampleReader_Run() {
	r, err := New(Options{Auto: "visa"})
	if err != nil {
		fmt.Println(err)
		return
	}
	far, near := net.Pipe()
	done := make(chan error)
	go func() { done <- r.Run(context.Background(), near) }()
	far.Write([]byte("ViVOtech2\x00\x18\x01\x00\x00\xB3\xCD"))
	answer := make([]byte, 16)
	io.ReadFull(far, answer)
	fmt.Printf("% X\n", answer[10:])
	far.Close()
	fmt.Println(<-done)
	// Output:
	// 18 00 00 00 FA 83
	// <nil>
}
