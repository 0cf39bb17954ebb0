package agent

import (
	"context"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"tillbridge/agent/api"
	"tillbridge/agent/config"
	"tillbridge/agent/engine"
	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/netport"
	"tillbridge/drivers/serialport"
	"tillbridge/drivers/zvt"
)

// driverList are the protocols of this program.
func driverList() []drivers.Driver {
	return []drivers.Driver{abecs.New(), zvt.Driver{}}
}

// fleet is the devices of the configuration under their supervisor.
type fleet struct {
	supervisor *drivers.Supervisor
	registers  map[string]string        // device -> register
	protocols  map[string]config.Device // device -> configuration
	changes    *prometheus.CounterVec
}

func newFleet(c *config.Config, log *slog.Logger, registry *prometheus.Registry) (*fleet, error) {
	f := &fleet{registers: map[string]string{}, protocols: map[string]config.Device{},
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tillbridge_device_state_changes_total", Help: "Changes of a device's state, by device and new state.",
		}, []string{"device", "state"})}
	if err := registry.Register(f.changes); err != nil {
		return nil, err
	}
	var serials, hosts []string
	var list []drivers.DeviceConfig
	for _, d := range c.Device {
		f.protocols[d.Name] = d
		for _, p := range d.Ports {
			switch {
			case strings.HasPrefix(p, "usb:"):
			case config.IsTCP(p):
				hosts = append(hosts, p)
			default:
				serials = append(serials, p)
			}
		}
		list = append(list, drivers.DeviceConfig{Name: d.Name, Protocol: d.Protocol, Ports: d.Ports, Serial: d.Serial, Params: d.Params})
	}
	for _, r := range c.Register {
		f.registers[r.Device] = r.ID
	}
	var err error
	f.supervisor, err = drivers.NewSupervisor(drivers.SupervisorOptions{
		Buses:   []drivers.Bus{serialport.New(&serialport.Options{Paths: serials}), netport.New(&netport.Options{Addresses: hosts})},
		Drivers: driverList(),
		Devices: list,
		Log:     log,
		Events: func(e drivers.Event) {
			f.changes.WithLabelValues(e.Device, string(e.State)).Inc()
			if e.State == drivers.StateReady || e.State == drivers.StateFaulted || e.State == drivers.StateAbsent {
				log.Info("device", "name", e.Device, "state", string(e.State), "port", e.Port, "serial", e.Identity.Serial, "detail", e.Detail)
			}
		},
	})
	return f, err
}

func (f *fleet) run(ctx context.Context) error { return f.supervisor.Run(ctx) }

// station is one device as the engine uses it.
func (f *fleet) station(device string) engine.Station { return station{f.supervisor, device} }

type station struct {
	s    *drivers.Supervisor
	name string
}

func (s station) Do(ctx context.Context, fn func(drivers.Device) error) error {
	return s.s.Do(ctx, s.name, fn)
}

// states are the supervisor's states in the API's words.
var states = map[drivers.State]string{
	drivers.StateAbsent: "absent", drivers.StateOpening: "opening", drivers.StateProbing: "opening", drivers.StateReady: "idle",
	drivers.StateBusy: "busy", drivers.StateRecovering: "not answering", drivers.StateFaulted: "not answering",
}

func (f *fleet) devices() []api.Device {
	out := []api.Device{}
	for _, d := range f.supervisor.Devices() {
		since := d.Since
		out = append(out, api.Device{
			ID: d.Name, RegisterID: f.registers[d.Name], Driver: d.Protocol,
			Model: strings.TrimSpace(d.Identity.Vendor + " " + d.Identity.Model), Serial: d.Identity.Serial, Firmware: d.Identity.Firmware,
			Port: d.Port.Path, State: states[d.State], Detail: d.Detail, Since: &since, Replugs: d.Replugs,
		})
	}
	return out
}

// Devices lists the pads.
func (c control) Devices(context.Context) ([]api.Device, error) { return c.a.fleet.devices(), nil }
