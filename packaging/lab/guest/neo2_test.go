//go:build lab && usb && linux

package guest

import (
	"context"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/neo2"
	"tillbridge/drivers/usbport"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv/virtualcard"
	"tillbridge/packaging/lab/usbdev"
)

// A NEO 2 reader on HID sells, beside a keyboard in the same device; pulled in
// the middle of a sale and plugged in elsewhere it is found again, and its books
// hold each sale once.
func TestNEO2OnHID(t *testing.T) {
	ctx := begin(t)
	reader, err := virtual.New(virtual.Options{HID: true, Key: &virtual.InitialKey{KSN: "FFFF9876543211E00000", Key: "89ABCDEF0123456776543210FEDCBA98"},
		Cards: map[string]*virtualcard.Card{"visa": newPadCard(t)}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(port int) (pull func()) {
		pad := usbdev.NewPad(usbdev.PadOptions{VID: 0x0ACD, PID: 0x3530, Maker: "ID TECH", Product: "VP3300", Serial: "0123456789ABCDEF", Keyboard: true})
		power, off := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); reader.Run(power, pad.Line()) }()
		out := attach(t, pad.Device, port)
		stop := func() { out(); off(); <-done } // it has its power from the bus
		t.Cleanup(stop)
		return stop
	}
	pull := run(1)
	device := supervise(t, usbport.New(nil), neo2.New(), nil, nil)
	st := device.ready(ctx, t)
	if st.Identity.Serial == "" || st.Port.Kind != drivers.KindHID {
		t.Errorf("%+v", st)
	}
	step := func(s virtual.Step) {
		t.Helper()
		if err := reader.Do(s); err != nil {
			t.Fatal(err)
		}
	}
	step(virtual.Step{Do: "insert", Card: "visa"})
	start := time.Now()
	if err := device.do(ctx, t, approved(1100)); err != nil {
		t.Fatal(err)
	}
	say(t, "a sale in %v", time.Since(start).Round(time.Millisecond))
	cut := make(chan error, 1)
	go func() { cut <- device.do(ctx, t, approved(2200)) }()
	eventually(ctx, t, "the reader waits for a card", func() bool { return reader.Waiting() == "card" })
	pull()
	if err := <-cut; err == nil {
		t.Error("a sale without its reader went through")
	}
	device.reaches(ctx, t, drivers.StateAbsent)
	run(4)
	now := device.ready(ctx, t)
	if now.Port.Location == st.Port.Location || now.Identity.Serial != st.Identity.Serial {
		t.Errorf("%+v", now)
	}
	step(virtual.Step{Do: "insert", Card: "visa"})
	if err := device.do(ctx, t, approved(3300)); err != nil {
		t.Errorf("after the replug: %v", err)
	}
	charged := map[int64]int{}
	for _, b := range reader.Books() {
		if b.Final == "approved" {
			charged[b.Amount]++
		}
	}
	if charged[1100] != 1 || charged[2200] != 0 || charged[3300] != 1 {
		t.Errorf("%v", charged)
	}
	if device.recoveries() != 1 {
		t.Errorf("%d cut operations were settled", device.recoveries())
	}
}
