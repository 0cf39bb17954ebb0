package neo2_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/neo2"
	"tillbridge/drivers/netport"
	"tillbridge/drivers/serialport"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// The driver over the ports of the machine, against the reader's own process:
// a pty, TCP, and HID reports on TCP.
func TestOverRealPorts(t *testing.T) {
	for name, o := range map[string]virtual.Options{"pty": {}, "tcp": {Listen: "127.0.0.1:0"}, "hid reports on tcp": {HID: true}} {
		t.Run(name, func(t *testing.T) {
			if name == "pty" && runtime.GOOS != "linux" {
				t.Skip("no pty on this system")
			}
			o.Dir, o.Key, o.Cards = t.TempDir(), newKey(), map[string]*virtualcard.Card{"visa": theCard()}
			inR, inW := io.Pipe()
			outR, outW := io.Pipe()
			end := make(chan error, 1)
			go func() {
				end <- virtual.Serve(context.Background(), inR, outW, o)
				outW.Close()
			}()
			defer func() { inW.Close(); outR.Close(); <-end }()
			lines := bufio.NewScanner(outR)
			line := func() map[string]any {
				if !lines.Scan() {
					t.Fatal("the reader ended")
				}
				var m map[string]any
				if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
					t.Fatal(err)
				}
				return m
			}
			addr := line()["addr"].(string)
			io.WriteString(inW, `{"do":"auto","card":"visa","after_ms":1}`+"\n")
			line()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			var bus drivers.Bus = serialport.New(&serialport.Options{LockDir: t.TempDir()})
			p := drivers.Port{Kind: drivers.KindSerial, Path: addr, Explicit: true}
			params := map[string]string{}
			if strings.Contains(addr, ":") {
				bus, p.Kind = netport.New(&netport.Options{Addresses: []string{addr}}), drivers.KindTCP
			}
			if o.HID {
				params["link"] = "hid"
			}
			transport, err := bus.Open(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			dev, err := neo2.New().Open(ctx, transport, drivers.Config{Name: "reader", Log: slog.New(slog.DiscardHandler), Params: params})
			if err != nil {
				t.Fatal(err)
			}
			for _, entries := range [][]emv.Entry{{emv.EntryContact}, nil} {
				if _, o, err := pay(ctx, dev, terms(1990, entries...), approval); err != nil || o.Decision != emv.Approved {
					t.Errorf("%s %v", o.Decision, err)
				}
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
			io.WriteString(inW, `{"do":"books"}`+"\n")
			books := line()["books"].([]any)
			for _, b := range books {
				if b := b.(map[string]any); b["amount"] != 1990.0 || b["final"] != "approved" {
					t.Error(b)
				}
			}
			if len(books) != 2 {
				t.Errorf("%d payments in the books", len(books))
			}
		})
	}
}
