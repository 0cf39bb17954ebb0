package abecs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/abecs"
	"tillbridge/emv"
)

// Every fault of the pad's line, twice over, from each step of a
// sale on: whatever the driver concludes agrees with the pad's own books, and
// where it concludes nothing it says so.
func TestEveryFaultFromEveryStep(t *testing.T) {
	approved, times := 0, []int{2}
	if os.Getenv("TILLBRIDGE_LARGE") == "1" {
		times = []int{1, 2, 3, 4}
	}
	for _, fault := range []string{"drop-ack", "bad-crc", "nak", "split", "duplicate", "noise", "stall", "late", "drop-response", "hang-up", "card-declines"} {
		for _, n := range times {
			for at := range 4 {
				t.Run(fmt.Sprintf("%s %d times from step %d", fault, n, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := (&shelf{auto: true}).pad()
						host, device := drivertest.Pipe(drivertest.PipeOptions{})
						done := make(chan struct{})
						go func() { defer close(done); p.Run(context.Background(), device.Stream()) }()
						dev, err := driver.Open(t.Context(), host, drivers.Config{Params: params})
						if err != nil {
							t.Fatal(err)
						}
						defer func() { dev.Close(); <-done }()
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
						defer cancel()
						o, err := faulty(ctx, dev, func(step int) {
							if step == at {
								do(t, p, virtual.Step{Do: "fault", Fault: fault, N: n, MS: 15000})
							}
						})
						books := p.Books()
						if len(books) > 1 || len(books) == 1 && (books[0].Amount != 1000 || books[0].Currency != "978") {
							t.Errorf("the pad's books %+v", books)
						}
						switch {
						case err != nil:
							var de *drivers.DeviceError
							if !errors.As(err, &de) || o.Decision == emv.Approved {
								t.Errorf("%v with %v", o.Decision, err)
							}
						case len(books) != 1 || (o.Decision == emv.Approved) != (books[0].Final == "approved"):
							t.Errorf("the driver says %v, the pad %+v", o.Decision, books)
						case o.Decision != emv.Approved && !o.ReversalNeeded:
							t.Error("the host approved, the card did not, and nothing is reversed")
						case o.Decision == emv.Approved:
							approved++
						}
					})
				})
			}
		}
	}
	if approved < 10 {
		t.Errorf("%d sales were approved: the faults stop everything", approved)
	}
}

// faulty is a sale that the host approves; each is told before each step.
func faulty(ctx context.Context, dev drivers.Device, each func(step int)) (emv.Outcome, error) {
	each(0)
	pay, err := dev.(drivers.CardSession).Begin(ctx)
	if err != nil {
		return emv.Outcome{}, err
	}
	each(1)
	if _, err := pay.Read(ctx, terms(emv.EntryContact)); err != nil {
		return emv.Outcome{}, err
	}
	each(2)
	o, err := pay.Authorize(ctx, terms().Amounts)
	if err != nil || o.Decision != emv.OnlineRequest {
		return o, err
	}
	each(3)
	return pay.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
}
