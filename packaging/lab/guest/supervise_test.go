//go:build lab && usb && linux

package guest

import (
	"context"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
)

// counter is one device under a supervisor, with its history.
type counter struct {
	*drivers.Supervisor

	mu        sync.Mutex
	events    []drivers.Event
	recovered int
}

// supervise runs a supervisor over a bus until the end of the test.
func supervise(t *testing.T, bus drivers.Bus, driver drivers.Driver, ports []string, params map[string]string) *counter {
	t.Helper()
	c := &counter{}
	s, err := drivers.NewSupervisor(drivers.SupervisorOptions{
		Buses: []drivers.Bus{bus}, Drivers: []drivers.Driver{driver},
		Devices: []drivers.DeviceConfig{{Name: "device", Protocol: driver.Name(), Ports: ports, Params: params}},
		Events: func(e drivers.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		},
		Recover: func(context.Context, string, drivers.Device) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.recovered++
			return nil
		},
		Poll: 300 * time.Millisecond, Debounce: 300 * time.Millisecond, BackoffFirst: 200 * time.Millisecond, BackoffMax: 2 * time.Second,
		OpenTimeout: time.Minute, CheckTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Supervisor = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if t.Failed() {
			for _, e := range c.history() {
				t.Logf("%s %s %s", e.At.Format("05.000"), e.State, e.Detail)
			}
		}
	})
	return c
}

func (c *counter) history() []drivers.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]drivers.Event(nil), c.events...)
}

// recoveries is how often a cut operation was settled.
func (c *counter) recoveries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recovered
}

// ready waits until the device is ready.
func (c *counter) ready(ctx context.Context, t *testing.T) drivers.DeviceStatus {
	t.Helper()
	return c.reaches(ctx, t, drivers.StateReady)
}

func (c *counter) reaches(ctx context.Context, t *testing.T, want drivers.State) drivers.DeviceStatus {
	t.Helper()
	eventually(ctx, t, "the device is "+string(want), func() bool { return c.Devices()[0].State == want })
	return c.Devices()[0]
}

// do runs fn on the device.
func (c *counter) do(ctx context.Context, t *testing.T, fn func(context.Context, drivers.Device) error) error {
	t.Helper()
	return c.Do(ctx, "device", func(d drivers.Device) error { return fn(ctx, d) })
}
