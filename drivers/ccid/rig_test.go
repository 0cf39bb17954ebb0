package ccid_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
)

// scale returns small, or large where TILLBRIDGE_LARGE asks for it.
func scale(small, large int) int {
	if os.Getenv("TILLBRIDGE_LARGE") != "" {
		return large
	}
	return small
}

// usb is a line in memory with the reader's control endpoint beside it.
type usb struct {
	*drivertest.End
	reader *virtual.Reader
	aborts *[]byte // sequence numbers of ABORT requests; may be nil
}

func (u usb) Control(_ context.Context, requestType, request byte, value, index uint16, data []byte) (int, error) {
	if u.aborts != nil && requestType == 0x21 && request == 1 {
		*u.aborts = append(*u.aborts, byte(value>>8))
	}
	return u.reader.Control(requestType, request, value, index, data)
}

var port = drivers.Port{Kind: drivers.KindUSB, Path: "usb:1-1", Class: 0x0B, Product: "Virtual reader", Serial: "1", VID: 0x08E6, PID: 0x4433}

// plug serves a virtual reader and opens it.
func plug(t *testing.T, o *virtual.Options) (*ccid.Reader, *virtual.Reader) {
	t.Helper()
	v, err := virtual.New(o)
	if err != nil {
		t.Fatal(err)
	}
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port, Room: 1 << 20})
	var served sync.WaitGroup
	served.Go(func() { _ = v.Serve(context.Background(), device.Stream()) })
	d, err := ccid.Driver{}.Open(t.Context(), usb{End: host, reader: v}, drivers.Config{Name: "reader"})
	if err != nil {
		host.Close()
		served.Wait()
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); served.Wait() })
	return d.(*ccid.Reader), v
}

// within is a context with a generous end.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// echo is a card that answers with what it was asked: P1 P2 and the length of
// its data, then as many bytes as Le asks for.
type echo struct{ t0 bool }

func (e echo) ATR() []byte {
	if e.t0 {
		return []byte{0x3B, 0x60, 0, 0}
	}
	return []byte{0x3B, 0xE0, 0x00, 0x00, 0x81, 0x31, 0x20, 0x45, 0xE0 ^ 0x81 ^ 0x31 ^ 0x20 ^ 0x45}
}

func (echo) Reset() {}

func (e echo) Transmit(_ context.Context, c []byte) ([]byte, error) {
	if len(c) < 4 {
		return []byte{0x67, 0}, nil
	}
	out := []byte{c[2], c[3], byte(len(c) >> 8), byte(len(c))}
	for i := range int(c[2]) << 4 {
		out = append(out, byte(i)^c[3])
	}
	return append(out, 0x90, 0), nil
}

// kinds are the levels and protocols that a reader can have.
func kinds() map[string]virtual.Options {
	return map[string]virtual.Options{
		"short":      {Level: virtual.Short, Card: echo{}},
		"extended":   {Level: virtual.Extended, MaxMessage: 65554, Card: echo{}},
		"chained":    {Level: virtual.Extended, MaxMessage: 30, Card: echo{}},
		"tpdu T=0":   {Level: virtual.TPDU, Card: echo{t0: true}},
		"tpdu T=1":   {Level: virtual.TPDU, Card: echo{}},
		"reader ifs": {Level: virtual.TPDU, Features: 0x04BE, Card: echo{}},
	}
}

// params are the settings for a line without a control endpoint.
func params(o virtual.Options) map[string]string {
	p := map[string]string{"level": map[uint32]string{virtual.Short: "short", virtual.Extended: "extended", virtual.TPDU: "tpdu"}[o.Level]}
	if o.MaxMessage != 0 {
		p["message"] = fmt.Sprint(o.MaxMessage)
	}
	return p
}

// peer serves a reader fresh from power-on.
func peer(o virtual.Options) func(io.ReadWriteCloser) {
	return func(line io.ReadWriteCloser) {
		v, err := virtual.New(&o)
		if err != nil {
			panic(err)
		}
		_ = v.Serve(context.Background(), line)
	}
}
