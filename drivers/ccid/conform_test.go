package ccid_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	"tillbridge/emv/virtualcard"
)

// power, exchange and power off: every run leaves the card as it was.
func session(name string, commands ...[]byte) drivertest.Operation {
	return drivertest.Operation{Name: name, Run: func(ctx context.Context, d drivers.Device) (string, error) {
		ch := d.(drivers.APDUChannel)
		if err := ch.WaitCard(ctx, true); err != nil {
			return "", err
		}
		if _, err := ch.Power(ctx); err != nil {
			return "", err
		}
		var said strings.Builder
		for _, c := range commands {
			r, err := ch.Transmit(ctx, c)
			if err != nil {
				return "", err
			}
			// The wire guards content, not this layer: a length and a status are
			// what a run is compared by.
			said.WriteString(fmt.Sprintf("%d %X ", len(r), r[len(r)-2:]))
		}
		return said.String(), ch.PowerOff(ctx)
	}}
}

var selectPSE = append(append([]byte{0x00, 0xA4, 0x04, 0x00, 0x0E}, "1PAY.SYS.DDF01"...), 0)

func TestConform(t *testing.T) {
	t.Parallel()
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			profile, err := virtualcard.Named("visa-debit")
			if err != nil {
				t.Fatal(err)
			}
			profile.ODA = virtualcard.ODANone
			card, err := virtualcard.New(&virtualcard.Options{Seed: 1, T0: name == "tpdu T=0"}, profile)
			if err != nil {
				t.Fatal(err)
			}
			o.Card = card
			drivertest.Conform(t, drivertest.Subject{
				Driver:   ccid.Driver{},
				Config:   drivers.Config{Params: params(o)},
				Port:     port,
				Messages: true,
				Peer:     peer(o),
				Want:     drivers.Identity{Vendor: "USB 08E6:4433", Model: "Virtual reader", Serial: "1"},
				Operations: []drivertest.Operation{
					session("power"),
					session("read", selectPSE, []byte{0x00, 0xB2, 0x01, 0x0C, 0x00}, append(append([]byte{0, 0xA4, 4, 0, 7}, 0xA0, 0, 0, 0, 3, 0x20, 0x10), 0)),
				},
				Secrets: []string{card.PAN(), card.Track2()},
				Opens:   scale(20, 500),
			})
		})
	}
}

// exchanges is how many commands one run of the storm sends.
const exchanges = 5

// On a line that loses, doubles, delays and invents messages no answer is ever
// paired with another command.
func TestStormNoise(t *testing.T) {
	t.Parallel()
	total, through := 0, 0
	each := scale(60, 100_000/exchanges/len(kinds())+1)
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			noise := drivertest.Every(0.01)
			// A flipped bit is found by the CRC of the USB wire, below this layer.
			noise.Rate[drivertest.FaultFlip] = 0
			noise.Rate[drivertest.FaultHangUp] = 0.001
			tally := drivertest.Storm(t, drivertest.Subject{
				Driver: ccid.Driver{}, Config: drivers.Config{Params: params(o)}, Port: port, Messages: true, Peer: peer(o),
				Operations: []drivertest.Operation{{Name: "echo", Run: echoes}},
			}, each, 7000, noise)
			t.Log(tally)
			total += tally.Exchanges * exchanges
			through += tally.Through
			if tally.Through == 0 || tally.GaveUp == 0 {
				t.Error("a storm in which nothing comes through, or everything, shows nothing")
			}
		})
	}
	t.Logf("noise ccid: %d exchanges begun, %d runs of %d through", total, through, exchanges)
}

// echoes sends commands that differ and concludes "wrong" when an answer is not
// its own.
func echoes(ctx context.Context, d drivers.Device) (string, error) {
	ch := d.(drivers.APDUChannel)
	var last error
	said := 0
	for i := byte(1); i <= exchanges; i++ {
		if i == 1 || last != nil {
			if _, err := ch.Power(ctx); err != nil {
				return "", err
			}
		}
		command := []byte{0x80, 0x10, i, 0xA0 + i, 0}
		r, err := ch.Transmit(ctx, command)
		if last = err; err != nil {
			continue
		}
		want, _ := echo{}.Transmit(ctx, command)
		if !bytes.Equal(r, want) {
			return "wrong", nil
		}
		said++
	}
	if said < exchanges {
		return "", fmt.Errorf("%d of %d answered, the last with %v", said, exchanges, last)
	}
	return "all", nil
}
