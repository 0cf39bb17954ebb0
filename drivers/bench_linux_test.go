package drivers

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// BenchmarkIdle64 reports the share of one core that 64 idle supervised
// devices take, at the default intervals. One operation is one second.
func BenchmarkIdle64(b *testing.B) {
	bus := newShelf()
	var o SupervisorOptions
	for i := range 64 {
		path := fmt.Sprintf("/dev/pad%d", i)
		bus.put(path, fmt.Sprint(i))
		o.Devices = append(o.Devices, DeviceConfig{Name: fmt.Sprint(i), Protocol: "toy", Ports: []string{path}})
	}
	o.Buses, o.Drivers = []Bus{bus}, []Driver{toy{}}
	s, err := NewSupervisor(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for i := range 64 {
		if err := s.Do(b.Context(), fmt.Sprint(i), func(Device) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	from, wall := cpu(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(100*float64(cpu(b)-from)/float64(time.Since(wall)), "%core")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReplug reports the time from plug to Ready on a bus that is scanned
// every 10 ms: the supervisor's own share, without its pauses.
func BenchmarkReplug(b *testing.B) {
	bus := newShelf()
	s, err := NewSupervisor(SupervisorOptions{Buses: []Bus{bus}, Drivers: []Driver{toy{}}, Poll: 10 * time.Millisecond, Debounce: time.Millisecond,
		Devices: []DeviceConfig{{Name: "pad", Protocol: "toy", Ports: []string{"/dev/pad*"}}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for i := 0; b.Loop(); i++ {
		path := fmt.Sprintf("/dev/pad%d", i)
		bus.put(path, "A1")
		if err := s.Do(b.Context(), "pad", func(Device) error { return nil }); err != nil {
			b.Fatal(err)
		}
		bus.take(path)
		for s.Devices()[0].State == StateReady {
			time.Sleep(time.Millisecond)
		}
	}
}
