package drivertest_test

import (
	"bytes"
	"context"
	"fmt"

	"tillbridge/drivers/drivertest"
)

// A recording shows that the same number came twice and never which.
func ExampleRecord() {
	ctx := context.Background()
	host, device := drivertest.Pipe(drivertest.PipeOptions{})
	var transcript bytes.Buffer
	line := drivertest.Record(host, &transcript, drivertest.RecordOptions{})
	for range 2 {
		line.Write(ctx, []byte("card?"))
		device.Write(ctx, []byte("PAN 4761739001010119 OK"))
		line.Read(ctx, make([]byte, 64))
	}
	line.Close()

	entries, err := drivertest.ParseTranscript(&transcript)
	fmt.Println(len(entries), err)
	first, second := entries[1], entries[3]
	fmt.Printf("%s\n", first.Data)
	fmt.Println(first.Cut[0].Mark == second.Cut[0].Mark)
	// Output:
	// 5 <nil>
	// PAN **************** OK
	// true
}
