package abecs_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/serialport"
)

// The same on real serial lines of the machine, in real time: what a pty does
// to the bytes and to the timers is in it. Books judge each sale.
func TestStormOnPTY(t *testing.T) {
	n := scale(20, 200)
	o := drivertest.NoiseOptions{MaxDelay: 20 * time.Millisecond, StallFor: 300 * time.Millisecond,
		Rate: map[drivertest.Fault]float64{drivertest.FaultFlip: 0.01, drivertest.FaultDuplicate: 0.01, drivertest.FaultSplit: 0.02,
			drivertest.FaultDelay: 0.02, drivertest.FaultBabble: 0.01, drivertest.FaultStall: 0.01}}
	driver := abecs.New()
	var begun, through, gaveUp atomic.Int32
	var all sync.WaitGroup
	slots := make(chan struct{}, 10)
	for i := range n {
		slots <- struct{}{}
		device, path := drivertest.PTY(t)
		all.Go(func() {
			defer func() { <-slots }()
			c := newCounter("insert")
			c.card, c.think = newCard(), 1
			done := make(chan struct{})
			go func() { defer close(done); c.peer(device) }()
			defer func() { device.Close(); <-done }()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			line, err := serialport.New(&serialport.Options{LockDir: t.TempDir()}).Open(ctx, drivers.Port{Kind: drivers.KindSerial, Path: path, Explicit: true})
			if err != nil {
				t.Errorf("open the pty: %v", err)
				return
			}
			dev, err := driver.Open(ctx, drivertest.Noise(line, 7000+uint64(i), o), drivers.Config{Name: "pad", Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				gaveUp.Add(1)
				return
			}
			begun.Add(1)
			op := saleOf(int64(500 + i))
			outcome, err := op.Run(ctx, dev)
			dev.Close()
			if err == nil {
				through.Add(1)
			} else {
				gaveUp.Add(1)
			}
			if err := c.books(op.Name, outcome, err); err != nil {
				t.Errorf("seed %d: %v", 7000+i, err)
			}
		})
	}
	all.Wait()
	t.Logf("%d lines, %d sales begun, %d through, %d gave up", n, begun.Load(), through.Load(), gaveUp.Load())
	if through.Load() == 0 {
		t.Error("not one sale came through")
	}
}
