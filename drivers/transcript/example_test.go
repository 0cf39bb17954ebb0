package transcript_test

import (
	"bytes"
	"context"
	"fmt"

	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/transcript"
)

// A recording shows that the same number came twice and never which.
func ExampleRecord() {
	ctx := context.Background()
	host, device := drivertest.Pipe(drivertest.PipeOptions{})
	var file bytes.Buffer
	line := transcript.Record(host, &file, transcript.RecordOptions{})
	for range 2 {
		line.Write(ctx, []byte("card?"))
		device.Write(ctx, []byte("PAN 4761739001010119 OK"))
		line.Read(ctx, make([]byte, 64))
	}
	line.Close()

	entries, err := transcript.ParseTranscript(&file)
	fmt.Println(len(entries), err)
	first, second := entries[1], entries[3]
	fmt.Printf("%s\n", first.Data)
	fmt.Println(first.Cut[0].Mark == second.Cut[0].Mark)
	// Output:
	// 5 <nil>
	// PAN **************** OK
	// true
}
