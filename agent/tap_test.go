package agent

import (
	"context"
	"sync"
	"testing"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
)

// cable is a USB port: messages, a control endpoint and a number.
type cable struct {
	*drivertest.End
	reader *virtual.Reader
}

func (c cable) Control(_ context.Context, requestType, request byte, value, index uint16, data []byte) (int, error) {
	return c.reader.Control(requestType, request, value, index, data)
}

func (cable) InterfaceNumber() int { return 0 }

// wire is a serial port.
type wire struct {
	*drivertest.End
	set *int
}

func (w wire) SetLine(m drivers.LineMode) error { *w.set = m.Baud; return nil }

// Every device of the agent stands behind a tap: what its port can do beyond
// reading and writing has to be there, and nothing that the port cannot do. A
// chip card reader tells by its control endpoint how it is spoken to.
func TestATapLeavesThePortWhatItCanDo(t *testing.T) {
	v, err := virtual.New(&virtual.Options{Level: virtual.TPDU})
	if err != nil {
		t.Fatal(err)
	}
	port := drivers.Port{Kind: drivers.KindUSB, Path: "usb:1-1", Class: 0x0B}
	host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port, Room: 1 << 20})
	var served sync.WaitGroup
	served.Go(func() { _ = v.Serve(context.Background(), device.Stream()) })
	defer served.Wait()
	defer host.Close()
	tr := newTracer(t.TempDir())
	d, err := ccid.Driver{}.Open(t.Context(), tr.wrap("slot", cable{host, v}), drivers.Config{})
	if err != nil {
		t.Fatalf("a reader behind a tap: %v", err)
	}
	defer d.Close()
	if r := d.(*ccid.Reader); r.Level() != ccid.LevelTPDU || r.Descriptor().MaxMessage != 271 {
		t.Errorf("level %s, descriptor %+v", r.Level(), r.Descriptor())
	}
	if _, err := d.(drivers.APDUChannel).Power(t.Context()); err != nil {
		t.Errorf("power: %v", err)
	}

	usb := tr.wrap("usb", cable{host, v})
	if n, ok := usb.(interface{ InterfaceNumber() int }); !ok || n.InterfaceNumber() != 0 {
		t.Error("the number of the interface is gone")
	}
	if _, ok := usb.(drivers.LineSetter); ok {
		t.Error("a USB port has the speed of a serial line")
	}
	speed := 0
	serial := tr.wrap("serial", wire{host, &speed})
	if s, ok := serial.(drivers.LineSetter); !ok || s.SetLine(drivers.LineMode{Baud: 9600}) != nil || speed != 9600 {
		t.Error("the speed of a serial line is gone")
	}
	if _, ok := serial.(ccid.Controller); ok {
		t.Error("a serial line has a control endpoint")
	}
	if _, ok := tr.wrap("net", host).(drivers.LineSetter); ok {
		t.Error("a network port has the speed of a serial line")
	}
}
