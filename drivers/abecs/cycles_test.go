//go:build linux

package abecs_test

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/serialport"
	"tillbridge/emv"
)

// TestPlugCyclesLeaveNothingBehind pulls the plug of a real port while the pad
// waits for a card, again and again; TILLBRIDGE_LARGE=1 does it 1,000 times.
// Neither goroutines nor descriptors stay.
func TestPlugCyclesLeaveNothingBehind(t *testing.T) {
	cycles := 15
	if os.Getenv("TILLBRIDGE_LARGE") == "1" {
		cycles = 1000
	}
	locks := t.TempDir()
	cycle := func() {
		device, path := drivertest.PTY(t)
		p := (&shelf{}).pad()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		gone := make(chan struct{})
		go func() { defer close(gone); p.Run(ctx, device) }()
		bus := serialport.New(&serialport.Options{Paths: []string{path}, NoUSB: true, LockDir: locks})
		port, err := bus.Open(ctx, drivers.Port{Kind: drivers.KindSerial, Path: path})
		if err != nil {
			t.Fatal(err)
		}
		dev, err := driver.Open(ctx, port, drivers.Config{Params: params})
		if err != nil {
			t.Fatal(err)
		}
		pay, err := dev.(drivers.CardSession).Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() { _, err := pay.Read(ctx, terms(emv.EntryContact)); read <- err }()
		for p.Waiting() != "card" {
			time.Sleep(time.Millisecond)
		}
		device.Close()
		if err := <-read; err == nil {
			t.Fatal("a card was read from a port that is gone")
		}
		dev.Close()
		<-gone
	}
	cycle() // what is made once is made now
	before, files := runtime.NumGoroutine(), descriptors(t)
	for range cycles {
		cycle()
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n, f := runtime.NumGoroutine(), descriptors(t)
		if n <= before && f <= files {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %d cycles: %d goroutines where %d were, %d descriptors where %d were", cycles, n, before, f, files)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
