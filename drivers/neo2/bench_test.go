package neo2_test

import (
	"context"
	"log/slog"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/neo2"
	virtual "tillbridge/drivers/virtual/neo2"
)

// BenchmarkPing is a look at the reader, two whole exchanges, over a line in memory, both sides: what
// driver and virtual reader add to the line.
func BenchmarkPing(b *testing.B) {
	host, device := drivertest.Pipe(drivertest.PipeOptions{})
	r, err := virtual.New(virtual.Options{Key: newKey()})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); r.Run(context.Background(), device.Stream()) }()
	dev, err := neo2.New().Open(b.Context(), host, drivers.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { dev.Close(); <-done }()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dev.Health(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
