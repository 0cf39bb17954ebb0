package ccid_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
	"tillbridge/emv/apdu"
)

// Every fault of one exchange ends in the right answer or in an error, and the
// next exchange after a new reset is right again.
func TestFaults(t *testing.T) {
	always := []virtual.Fault{virtual.TimeExtension, virtual.WrongSeq, virtual.Late, virtual.Silent, virtual.Double, virtual.Mute,
		virtual.Parity, virtual.Removed, virtual.Overlong}
	for name, o := range kinds() {
		faults := always
		if o.Level == virtual.TPDU && name != "tpdu T=0" {
			faults = append(append([]virtual.Fault{}, always...), virtual.WTX, virtual.BadLRC)
		}
		for _, f := range faults {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, v := plug(t, &o)
					ctx := within(t)
					if _, err := r.Power(ctx); err != nil {
						t.Fatal(err)
					}
					ask(t, r, 1)
					v.Do(f)
					command := []byte{0x80, 0x10, 3, 0x33, 0}
					got, err := r.Transmit(ctx, command)
					want, _ := echo{}.Transmit(ctx, command)
					if err == nil && !bytes.Equal(got, want) {
						t.Fatalf("answered %X", got)
					}
					through := map[virtual.Fault]bool{virtual.TimeExtension: true, virtual.Double: true, virtual.WTX: true, virtual.BadLRC: true}
					if o.Level == virtual.TPDU && name != "tpdu T=0" { // T=1 asks again
						through[virtual.Mute], through[virtual.Parity] = true, true
					}
					if through[f] != (err == nil) {
						t.Fatalf("answered %X, %v", got, err)
					}
					if err != nil {
						if _, err := r.Transmit(ctx, command); !errors.Is(err, ccid.ErrPower) {
							t.Errorf("a card whose answer is missing was used on: %v", err)
						}
					}
					switch f {
					case virtual.Removed:
						if !errors.Is(err, drivers.ErrCardGone) {
							t.Errorf("a card that was pulled: %v", err)
						}
						v.Insert(echo{t0: name == "tpdu T=0"})
					case virtual.Mute:
						if err != nil && !errors.Is(err, ccid.ErrMute) {
							t.Errorf("a mute card: %v", err)
						}
					}
					n := len(v.Executed())
					if _, err := r.Power(ctx); err != nil {
						t.Fatal(err)
					}
					ask(t, r, 2)
					ask(t, r, 3)
					if got := len(v.Executed()); got != n+2 {
						t.Errorf("the card was asked %d times for two commands", got-n)
					}
				})
			})
		}
	}
}

// ask exchanges one command with an echo card.
func ask(t *testing.T, r *ccid.Reader, p1 byte) {
	t.Helper()
	command := []byte{0x80, 0x10, p1, p1 ^ 0x5A, 0}
	got, err := r.Transmit(within(t), command)
	want, _ := echo{}.Transmit(t.Context(), command)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("command %d: %X, %v", p1, got, err)
	}
}

// A command is not sent a second time while the reader asks for time, and a
// reader that asks for ever is given up.
func TestTimeExtensionForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port})
		sent := 0
		var all sync.WaitGroup
		all.Go(func() {
			line := device.Stream()
			defer line.Close()
			buf := make([]byte, 1024)
			for {
				n, err := line.Read(buf)
				if err != nil {
					return
				}
				m, err := ccid.ParseMessage(buf[:n])
				if err != nil {
					return
				}
				reply := ccid.Message{Type: ccid.SlotStatus, Seq: m.Seq}
				switch m.Type {
				case ccid.IccPowerOn:
					reply.Type, reply.Data = ccid.DataBlock, echo{t0: true}.ATR()
				case ccid.XfrBlock:
					sent++
					all.Go(func() {
						for range 100 { // every 9 s
							time.Sleep(9 * time.Second)
							if _, err := line.Write(ccid.Message{Type: ccid.DataBlock, Seq: m.Seq, P1: 0x80, P2: 1}.Append(nil)); err != nil {
								return
							}
						}
					})
					continue
				}
				if _, err := line.Write(reply.Append(nil)); err != nil {
					return
				}
			}
		})
		d, err := ccid.Driver{}.Open(t.Context(), host, drivers.Config{Params: map[string]string{"level": "short"}})
		if err != nil {
			t.Fatal(err)
		}
		r := d.(*ccid.Reader)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := r.Power(ctx); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = r.Transmit(ctx, []byte{0x80, 0x10, 1, 1, 0})
		if took := time.Since(start); !errors.Is(err, ccid.ErrNoAnswer) || took < 4*time.Minute || took > 10*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		if sent != 1 {
			t.Errorf("the command was sent %d times", sent)
		}
		r.Close()
		all.Wait()
	})
}

func TestClearPINIsRefused(t *testing.T) {
	r, v := plug(t, &virtual.Options{Card: echo{}})
	ctx := within(t)
	if _, err := r.Power(ctx); err != nil {
		t.Fatal(err)
	}
	pin := []byte{8, 0x24, 0x12, 0x34, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	for _, cla := range []byte{0x00, 0x01, 0x03, 0x0C, 0x40, 0x7F, 0x80, 0x84, 0x90, 0xA0, 0xFF} {
		for _, ins := range []byte{0x20, 0x21, 0x24, 0x25, 0x2C, 0x2D} {
			for _, p2 := range []byte{0x00, 0x80, 0x81, 0x88} {
				command := append([]byte{cla, ins, 0, p2}, pin...)
				for _, c := range [][]byte{command, append(command, 0), append([]byte{0, 0xC2, 0, 0, byte(len(command))}, command...)} {
					if _, err := r.Transmit(ctx, c); !errors.Is(err, drivers.ErrRefused) || !errors.Is(err, ccid.ErrPIN) {
						t.Errorf("class %02X instruction %02X P2 %02X: %v", cla, ins, p2, err)
					} else if strings.Contains(err.Error(), "1234") || strings.Contains(err.Error(), "2412") {
						t.Error("the error shows what was refused")
					}
				}
			}
		}
	}
	if n := len(v.Executed()); n != 0 {
		t.Errorf("%d of them reached the card", n)
	}
	// Asking for the tries left, and an RSA block, are not a PIN in the clear.
	block := append([]byte{0x00, 0x20, 0x00, 0x88, 128}, make([]byte, 128)...)
	for _, c := range [][]byte{{0x00, 0x20, 0x00, 0x80}, block} {
		if _, err := r.Transmit(ctx, c); err != nil {
			t.Errorf("%X: %v", c[:4], err)
		}
	}
}

func TestCharacterLevelIsRefused(t *testing.T) {
	v, err := virtual.New(&virtual.Options{Character: true, Card: echo{}})
	if err != nil {
		t.Fatal(err)
	}
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port})
	defer device.Close()
	_, err = ccid.Driver{}.Open(within(t), usb{End: host, reader: v}, drivers.Config{})
	if !errors.Is(err, ccid.ErrCharacterLevel) {
		t.Errorf("opened: %v", err)
	}
}

// Answers and commands of every length pass all levels that hold them.
func TestLengths(t *testing.T) {
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			r, _ := plug(t, &o)
			ctx := within(t)
			if _, err := r.Power(ctx); err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{0, 1, 2, 19, 20, 21, 31, 32, 33, 64, 100, 254, 255, 256, 1000} {
				for _, answer := range []byte{0, 1, 2, 15} {
					c := apdu.Command{CLA: 0x80, INS: 0x10, P1: answer, P2: byte(n), Data: make([]byte, n)}
					command := c.Bytes()
					if n == 0 {
						command = append(command, 0)
					}
					got, err := r.Transmit(ctx, command)
					fits := n <= 255 || o.Level == virtual.Extended || name == "tpdu T=1" || name == "reader ifs"
					if !fits {
						if err == nil {
							t.Fatalf("%d bytes passed", n)
						}
						continue
					}
					want, _ := echo{}.Transmit(ctx, command)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%d bytes of data: %d bytes came, want %d, %v", n, len(got), len(want), err)
					}
				}
			}
		})
	}
}

// WaitCard ends with the card, by notification or by asking.
func TestWaitCard(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("without notifications %v", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, v := plug(t, &virtual.Options{Empty: true})
				var all sync.WaitGroup
				all.Go(func() {
					time.Sleep(20 * time.Second)
					v.Insert(echo{})
				})
				start := time.Now()
				if err := r.WaitCard(within(t), true); err != nil || time.Since(start) > 21*time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				all.Wait()
				if _, err := r.Power(within(t)); err != nil {
					t.Fatal(err)
				}
				ask(t, r, 1)
				all.Go(func() {
					time.Sleep(10 * time.Second)
					v.Remove()
				})
				if err := r.WaitCard(within(t), false); err != nil {
					t.Error(err)
				}
				all.Wait()
				if _, err := r.Transmit(within(t), []byte{0x80, 0x10, 0, 0, 0}); !errors.Is(err, ccid.ErrPower) {
					t.Errorf("a card that was taken out: %v", err)
				}
				if _, err := r.Power(within(t)); !errors.Is(err, drivers.ErrCardGone) {
					t.Errorf("power without a card: %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if err := r.WaitCard(ctx, true); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, drivers.ErrTimeout) {
					t.Errorf("nobody came: %v", err)
				}
			})
		})
	}
}

// Closing takes the power off the card; a second method at once is busy.
func TestCloseAndBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, v := plug(t, &virtual.Options{Card: echo{}})
		if _, err := r.Power(within(t)); err != nil {
			t.Fatal(err)
		}
		v.Do(virtual.Silent)
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := r.Transmit(within(t), []byte{0x80, 0x10, 1, 1, 0}); err == nil {
				t.Error("an answer that was never sent")
			}
		})
		synctest.Wait()
		if _, err := r.Health(within(t)); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("health meanwhile: %v", err)
		}
		all.Wait()
		if _, err := r.Power(within(t)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if v.Powered() {
			t.Error("the card has power after Close")
		}
	})
}

// What is traced keeps headers, the answer to reset and status words only.
func TestTraceWithoutCardData(t *testing.T) {
	d := ccid.Driver{}
	track := []byte{0x70, 0x0A, 0x57, 0x08, 0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1D, 0x90, 0x00}
	for _, c := range []struct {
		from bool
		m    ccid.Message
		want int // bytes that stay
	}{
		{true, ccid.Message{Type: ccid.DataBlock, Data: track}, 10},
		{true, ccid.Message{Type: ccid.DataBlock, Data: track[:5]}, 10},
		{true, ccid.Message{Type: ccid.DataBlock, Data: []byte{0x90, 0}}, 12},
		{true, ccid.Message{Type: ccid.DataBlock, Data: echo{}.ATR()}, 10 + len(echo{}.ATR())},
		{true, ccid.Message{Type: ccid.EscapeAnswer, Data: track}, 10},
		{true, ccid.Message{Type: ccid.SlotStatus}, 10},
		{false, ccid.Message{Type: ccid.XfrBlock, Data: track}, 14},
		{false, ccid.Message{Type: ccid.IccPowerOn}, 10},
	} {
		wire := c.m.Append(nil)
		left := len(wire)
		for _, s := range d.CardData(c.from, wire) {
			left -= s.End - s.Start
		}
		if left != c.want {
			t.Errorf("%v: %d bytes stay, want %d", c.m, left, c.want)
		}
		for _, line := range append(d.Describe(c.from, wire), fmt.Sprintf("%+v %#v", c.m, c.m)) {
			if strings.Contains(line, "1111") {
				t.Errorf("%v: the description shows data", c.m.Type)
			}
		}
		d.CardData(c.from, wire[:len(wire)/2])
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "m", ccid.Message{Type: ccid.DataBlock, Data: track})
	if strings.Contains(log.String(), "cAp") || strings.Contains(log.String(), "EREREREd") {
		t.Error("the log shows data")
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		p  drivers.Port
		ok bool
	}{
		{port, true}, {drivers.Port{Kind: drivers.KindSerial, Explicit: true}, false},
		{drivers.Port{Kind: drivers.KindUSB, Class: 3}, false}, {drivers.Port{Kind: drivers.KindUSB, Class: 0xFF, Explicit: true}, true},
	} {
		if m := (ccid.Driver{}).Match(c.p); m.OK != c.ok || m.Why == "" {
			t.Errorf("%+v: %+v", c.p, m)
		}
	}
}

func TestParametersAreChecked(t *testing.T) {
	for _, p := range []map[string]string{{}, {"level": "character"}, {"level": "short", "message": "3"}, {"level": "short", "protocols": "2"}, {"level": "short", "pin": "1"}} {
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port})
		if _, err := (ccid.Driver{}).Open(within(t), host, drivers.Config{Params: p}); err == nil {
			t.Errorf("%v: opened", p)
		}
		device.Close()
	}
}

// After a missing answer the control request and the message of the abort carry
// the same number, and the reader works on.
func TestAbortMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, err := virtual.New(&virtual.Options{Card: echo{}})
		if err != nil {
			t.Fatal(err)
		}
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port})
		var served sync.WaitGroup
		served.Go(func() { _ = v.Serve(context.Background(), device.Stream()) })
		var asked []byte
		d, err := ccid.Driver{}.Open(within(t), usb{End: host, reader: v, aborts: &asked}, drivers.Config{})
		if err != nil {
			t.Fatal(err)
		}
		r := d.(*ccid.Reader)
		if _, err := r.Power(within(t)); err != nil {
			t.Fatal(err)
		}
		v.Do(virtual.Silent)
		if _, err := r.Transmit(within(t), []byte{0x80, 0x10, 1, 1, 0}); !errors.Is(err, ccid.ErrNoAnswer) {
			t.Fatal(err)
		}
		if _, err := r.Power(within(t)); err != nil {
			t.Fatal(err)
		}
		ask(t, r, 1)
		if len(asked) != 2 || asked[0] == asked[1] { // at open, and now
			t.Errorf("aborts asked for: %v", asked)
		}
		r.Close()
		served.Wait()
	})
}
