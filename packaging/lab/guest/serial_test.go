//go:build lab && usb && linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/serialport"
	virtualabecs "tillbridge/drivers/virtual/abecs"
	virtualzvt "tillbridge/drivers/virtual/zvt"
	"tillbridge/drivers/zvt"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

func isAdapter(p drivers.Port) bool { return p.VID == 0x0403 && p.PID == 0x6001 }

// behindAdapter runs a pad on the far side of the serial adapter until the end of
// the test. The pad has power of its own: pulling the adapter does not stop it.
func behindAdapter(t *testing.T, run func(context.Context, io.ReadWriteCloser)) {
	t.Helper()
	line, err := openLine(padLine)
	if err != nil {
		t.Fatal(err)
	}
	// What an earlier test left on the line is nobody's.
	b := make([]byte, 4096)
	for {
		line.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := line.Read(b); err != nil {
			break
		}
	}
	line.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx, line) }()
	t.Cleanup(func() { cancel(); line.Close(); <-done })
}

// theAdapter plugs the serial adapter in where a test before left it out.
func theAdapter(ctx context.Context, t *testing.T) drivers.Port {
	t.Helper()
	if m := qemu(t); m.out["adapter"] {
		m.plug(t, adapter("2"))
	}
	return find(ctx, t, serialport.New(nil), isAdapter)
}

// The adapter is found with its numbers; a blocked read ends when it is pulled,
// and it is found again at another port of the hub.
func TestSerialUnplug(t *testing.T) {
	ctx := begin(t)
	m := qemu(t)
	at := theAdapter(ctx, t)
	if at.Kind != drivers.KindSerial || at.Serial != "LAB0001" || at.Location == "" || at.Product == "" {
		t.Errorf("%+v", at)
	}
	far := make(chan []byte, 16)
	behindAdapter(t, func(ctx context.Context, line io.ReadWriteCloser) {
		b := make([]byte, 256)
		for {
			n, err := line.Read(b)
			if err != nil {
				return
			}
			far <- append([]byte(nil), b[:n]...)
			line.Write(b[:n])
		}
	})
	bus := serialport.New(nil)
	tr, err := bus.Open(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := bus.Open(ctx, at); !errors.Is(err, drivers.ErrPortHeld) {
		t.Errorf("opened twice: %v", err)
	}
	all := pattern(256)
	if _, err := tr.Write(ctx, all); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 256)
	for n := 0; n < len(back); {
		k, err := tr.Read(ctx, back[n:])
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		n += k
	}
	if string(back) != string(all) {
		t.Errorf("% X", back)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := tr.Read(short, back); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing came: %v", err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := tr.Read(ctx, back)
		read <- err
	}()
	time.Sleep(50 * time.Millisecond)
	m.pull(t, "adapter")
	if err := <-read; !errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("read: %v", err)
	}
	if _, err := tr.Write(ctx, all); !errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("write: %v", err)
	}
	if err := tr.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	eventually(ctx, t, "the port leaves", func() bool {
		ports, err := bus.Scan(ctx)
		for _, p := range ports {
			if isAdapter(p) {
				return false
			}
		}
		return err == nil
	})
	m.plug(t, adapter("4"))
	if now := find(ctx, t, bus, isAdapter); now.Location == at.Location || now.Serial != at.Serial {
		t.Errorf("%+v", now)
	}
	m.pull(t, "adapter")
	eventually(ctx, t, "the port leaves", func() bool { _, err := os.Stat("/dev/ttyUSB0"); return err != nil })
}

// sell runs a sale on a pad with its own kernel; between, where it is not nil, is
// called when the card asked for the host.
func sell(ctx context.Context, d drivers.Device, amount int64, between func()) (emv.Outcome, error) {
	s, err := d.(drivers.CardSession).Begin(ctx)
	if err != nil {
		return emv.Outcome{}, err
	}
	a := emv.Amounts{Amount: amount, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2}
	c, err := s.Read(ctx, emv.Terms{Amounts: a, Time: time.Date(2026, 11, 30, 21, 0, 0, 0, time.UTC), Entries: []emv.Entry{emv.EntryContact}})
	if err != nil {
		return emv.Outcome{}, err
	}
	if c.Data.Empty() {
		return emv.Outcome{}, errors.New("no card data")
	}
	o, err := s.Authorize(ctx, a)
	if err != nil || o.Decision != emv.OnlineRequest {
		return o, err
	}
	if between != nil {
		between()
	}
	return s.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
}

// approved runs a sale that has to be approved.
func approved(amount int64) func(context.Context, drivers.Device) error {
	return func(ctx context.Context, d drivers.Device) error {
		o, err := sell(ctx, d, amount, nil)
		if err == nil && o.Decision != emv.Approved {
			err = fmt.Errorf("the sale is %s", o.Decision)
		}
		return err
	}
}

// An ABECS pad behind the adapter sells; pulled while the customer types the PIN
// and again between card and host, it comes back, and its books hold each sale
// once.
func TestABECSBehindAdapter(t *testing.T) {
	ctx := begin(t)
	m := qemu(t)
	theAdapter(ctx, t)
	pad, err := virtualabecs.New(virtualabecs.Options{Serial: "VP000001", Cards: map[string]*virtualcard.Card{"visa": newPadCard(t)},
		Keys: []virtualabecs.InitialKey{
			{Use: "pin", Slot: 1, KSN: "FFFF9876543210E00000", Key: "6AC292FAA1315B4D858AB3A3D7D5933A"},
			{Use: "data", Slot: 2, KSN: "FFFF9876543211E00000", Key: "5AC292FAA1315B4D858AB3A3D7D5933B"}}})
	if err == nil {
		err = pad.Do(virtualabecs.Step{Do: "auto", Card: "visa", AfterMS: 1000})
	}
	if err != nil {
		t.Fatal(err)
	}
	behindAdapter(t, func(ctx context.Context, line io.ReadWriteCloser) { pad.Run(ctx, line) })
	device := supervise(t, serialport.New(nil), abecs.New(), nil, map[string]string{"pin_slot": "1", "data_slot": "2"})
	st := device.ready(ctx, t)
	if st.Identity.Serial != "VP000001" || st.Port.Serial != "LAB0001" {
		t.Errorf("%+v", st)
	}
	start := time.Now()
	if err := device.do(ctx, t, approved(1100)); err != nil {
		t.Fatal(err)
	}
	say(t, "a sale in %v, of which the customer took 2 s", time.Since(start).Round(time.Millisecond))

	replug := func(port string) {
		t.Helper()
		device.reaches(ctx, t, drivers.StateAbsent)
		m.plug(t, adapter(port))
		device.ready(ctx, t)
	}
	// The PIN: money may have moved for all that the driver knows.
	cut := make(chan error, 1)
	go func() { cut <- device.do(ctx, t, approved(2200)) }()
	eventually(ctx, t, "the pad asks for the PIN", func() bool { return pad.Waiting() == "pin" })
	m.pull(t, "adapter")
	if err := <-cut; err == nil {
		t.Error("a sale without its pad went through")
	}
	replug("4")
	if err := device.do(ctx, t, approved(3300)); err != nil {
		t.Errorf("after the first replug: %v", err)
	}
	// Between the card's cryptogram and the host's answer.
	err = device.do(ctx, t, func(ctx context.Context, d drivers.Device) error {
		o, err := sell(ctx, d, 4400, func() { m.pull(t, "adapter") })
		if err == nil {
			err = fmt.Errorf("the sale is %s", o.Decision)
		}
		return err
	})
	if !errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("pulled between card and host: %v", err)
	}
	replug("2")
	if err := device.do(ctx, t, approved(5500)); err != nil {
		t.Errorf("after the second replug: %v", err)
	}
	if device.recoveries() != 2 {
		t.Errorf("%d cut operations were settled", device.recoveries())
	}
	seen, charged := map[int64]int{}, map[int64]int{}
	for _, b := range pad.Books() {
		seen[b.Amount]++
		if b.Final == "approved" {
			charged[b.Amount]++
		}
	}
	for _, amount := range []int64{1100, 2200, 3300, 4400, 5500} {
		if seen[amount] > 1 {
			t.Errorf("%d was asked of the card %d times", amount, seen[amount])
		}
		want := 1
		if amount == 2200 || amount == 4400 { // cut off
			want = 0
		}
		if charged[amount] != want {
			t.Errorf("%d was charged %d times", amount, charged[amount])
		}
	}
}

// newPadCard is the customer's card of a pad: online PIN, no RSA.
func newPadCard(t *testing.T) *virtualcard.Card {
	t.Helper()
	p, err := virtualcard.Named("visa-credit")
	if err != nil {
		t.Fatal(err)
	}
	p.ODA = virtualcard.ODANone
	c, err := virtualcard.New(&virtualcard.Options{Seed: 7}, p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A ZVT terminal behind the adapter: pulled when the host has approved and the
// terminal has not yet told, it reverses by itself, since nobody takes its word.
// Its own record and its books agree, and nothing is charged twice.
func TestZVTBehindAdapter(t *testing.T) {
	ctx := begin(t)
	m := qemu(t)
	theAdapter(ctx, t)
	term, err := virtualzvt.New(virtualzvt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	behindAdapter(t, func(ctx context.Context, line io.ReadWriteCloser) {
		for ctx.Err() == nil {
			if term.Run(ctx, noClose{line}, true) != nil {
				return
			}
		}
	})
	device := supervise(t, serialport.New(nil), zvt.Driver{}, []string{"usb:0403:6001"}, nil)
	device.ready(ctx, t)
	perform := func(amount int64) func(context.Context, drivers.Device) error {
		return func(ctx context.Context, d drivers.Device) error {
			a, err := d.(drivers.PaymentTerminal).Perform(ctx, drivers.TerminalRequest{Op: drivers.OpSale, Amount: amount, Currency: "EUR", CurrencyNumeric: 978,
				Persist: func(context.Context, drivers.TerminalAnswer) error { return nil }})
			if err == nil && (a.Result != drivers.Approved || a.Amount != amount) {
				err = fmt.Errorf("%s %d", a.Result, a.Amount)
			}
			return err
		}
	}
	if err := term.Do(virtualzvt.Step{Do: "tap", Card: "visa"}); err != nil {
		t.Fatal(err)
	}
	if err := device.do(ctx, t, perform(1000)); err != nil { // 10.00 needs byte stuffing
		t.Fatal(err)
	}
	for _, step := range []virtualzvt.Step{{Do: "fault", Fault: "late", MS: 3000}, {Do: "tap", Card: "visa"}} {
		if err := term.Do(step); err != nil {
			t.Fatal(err)
		}
	}
	cut := make(chan error, 1)
	go func() { cut <- device.do(ctx, t, perform(2016)) }()
	eventually(ctx, t, "the host approves", func() bool { return len(term.Books().Records) == 2 })
	m.pull(t, "adapter")
	if err := <-cut; err == nil {
		t.Error("a sale without its terminal went through")
	}
	device.reaches(ctx, t, drivers.StateAbsent)
	eventually(ctx, t, "the terminal is done with the sale", func() bool { return term.Waiting() == "command" })
	m.plug(t, adapter("2"))
	device.ready(ctx, t)
	var last drivers.TerminalAnswer
	err = device.do(ctx, t, func(ctx context.Context, d drivers.Device) (err error) {
		last, err = d.(drivers.LastTransaction).Last(ctx)
		return err
	})
	b := term.Books()
	if err != nil || b.DoubleCharges != 0 || b.Sales != 1 || b.Net["978"] != 1000 {
		t.Errorf("%v, %d sales, %d undone, %d double, net %v", err, b.Sales, b.Undone, b.DoubleCharges, b.Net)
	}
	if last.Amount == 2016 && last.Result == drivers.Approved {
		t.Errorf("the record says approved, and the terminal took it back: %+v", last)
	}
	if err := term.Do(virtualzvt.Step{Do: "tap", Card: "visa"}); err != nil {
		t.Fatal(err)
	}
	if err := device.do(ctx, t, perform(3000)); err != nil {
		t.Errorf("after the replug: %v", err)
	}
	if b := term.Books(); b.Net["978"] != 4000 || b.DoubleCharges != 0 {
		t.Errorf("net %v, %d double", b.Net, b.DoubleCharges)
	}
}

// noClose keeps the line for the terminal's next power-on.
type noClose struct{ io.ReadWriter }

func (noClose) Close() error { return nil }
