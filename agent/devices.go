package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"tillbridge/agent/api"
	"tillbridge/agent/api/server"
	"tillbridge/agent/config"
	"tillbridge/agent/engine"
	"tillbridge/drivers"
	"tillbridge/drivers/abecs"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/neo2"
	"tillbridge/drivers/netport"
	"tillbridge/drivers/serialport"
	"tillbridge/drivers/usbport"
	"tillbridge/drivers/zvt"
)

// driverList are the protocols of this program.
func driverList() []drivers.Driver {
	return []drivers.Driver{abecs.New(), zvt.Driver{}, neo2.New(), ccid.Driver{}}
}

// fleet is the devices of the configuration under their supervisor.
type fleet struct {
	supervisor *drivers.Supervisor
	registers  map[string]string        // device -> register
	encryption string                   // of readers that do not encrypt: software or none
	config     map[string]config.Device // by name of the device
	trace      *tracer
	changes    *prometheus.CounterVec
}

func newFleet(c *config.Config, buses []drivers.Bus, log *slog.Logger, registry *prometheus.Registry) (*fleet, error) {
	f := &fleet{registers: map[string]string{}, encryption: "none", config: map[string]config.Device{}, trace: newTracer(filepath.Join(c.Agent.Data, "traces")),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tillbridge_device_state_changes_total", Help: "Changes of a device's state, by device and new state.",
		}, []string{"device", "state"})}
	if err := registry.Register(f.changes); err != nil {
		return nil, err
	}
	if c.Kernel.Set() && c.Encryption.Kind != "" {
		f.encryption = "software"
	}
	var serials, hosts []string
	var list []drivers.DeviceConfig
	usb := false // a device may stand on USB
	for _, d := range c.Device {
		usb = usb || len(d.Ports) == 0
		f.config[d.Name] = d
		for _, drv := range driverList() {
			if r, ok := drv.(drivers.Redactor); ok && drv.Name() == d.Protocol {
				f.trace.redactors[d.Name] = r
			}
		}
		for _, p := range d.Ports {
			switch {
			case strings.HasPrefix(p, "usb:"):
				usb = true
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
	all := []drivers.Bus{serialport.New(&serialport.Options{Paths: serials}), netport.New(&netport.Options{Addresses: hosts})}
	if usbport.Built || usb {
		// Where this program has no USB, the bus says so for a device that needs it.
		all = append(all, usbport.New(nil))
	}
	all = append(all, buses...)
	var err error
	f.supervisor, err = drivers.NewSupervisor(drivers.SupervisorOptions{
		Buses:   all,
		Drivers: driverList(),
		Devices: list,
		Log:     log,
		Wrap:    f.trace.wrap,
		Events: func(e drivers.Event) {
			f.changes.WithLabelValues(e.Device, string(e.State)).Inc()
			if e.State == drivers.StateReady || e.State == drivers.StateFaulted || e.State == drivers.StateAbsent {
				log.Info("device", "name", e.Device, "state", string(e.State), "port", e.Port, "serial", e.Identity.Serial, "detail", e.Detail)
			}
		},
	})
	if err != nil {
		return f, err
	}
	return f, registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tillbridge_device_stuck_calls", Help: "Calls to devices that did not end in their time and have not returned.",
	}, func() (n float64) {
		for _, d := range f.supervisor.Devices() {
			n += float64(d.Stuck)
		}
		return n
	}))
}

func (f *fleet) run(ctx context.Context) error {
	defer f.trace.stop()
	return f.supervisor.Run(ctx)
}

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
			Port: d.Port.Path, State: states[d.State], Detail: d.Detail, Since: &since, Replugs: d.Replugs, Encryption: f.encryptionOf(d.Protocol),
		})
	}
	return out
}

// encryptionOf is what makes ciphertext of card data behind a protocol.
func (f *fleet) encryptionOf(protocol string) string {
	switch {
	case config.PlainReader(protocol):
		return f.encryption
	case protocol == "zvt":
		return "terminal"
	}
	return "device"
}

// encryptionText says it in words.
func (a *running) encryptionText(ctx context.Context, d api.Device) (text string, fault error) {
	switch d.Encryption {
	case "software":
		return a.encrypt.text(ctx)
	case "terminal":
		return "by the terminal, which authorises by itself: no card data come to this PC", nil
	case "device":
		return "by the device: this program carries its ciphertext and has no key for it", nil
	}
	return "none: this reader hands out card data in the clear, so it takes no payments; add [kernel] and [encryption] to the configuration", nil
}

// Devices lists the pads.
func (c control) Devices(context.Context) ([]api.Device, error) { return c.a.fleet.devices(), nil }

// DeviceInfo is one device, and every port with why it was taken or not.
func (c control) DeviceInfo(ctx context.Context, id string) (api.DeviceInfo, error) {
	out := api.DeviceInfo{Schema: "devices.info/1", Ports: []api.PortInfo{}, BusFaults: c.a.fleet.supervisor.BusFaults()}
	found := false
	for i, d := range c.a.fleet.devices() {
		if d.ID == id {
			found = true
			identity := c.a.fleet.supervisor.Devices()[i].Identity
			out.Device, out.Kernel, out.Keys = d, identity.Kernel, identity.Keys
			if c.a.terminal != nil && config.PlainReader(d.Driver) {
				out.Kernel = c.a.terminal.String()
			}
			var fault error
			if out.Encryption, fault = c.a.encryptionText(ctx, d); fault != nil {
				alert := notEncrypted(fault)
				out.NotReady = &alert
			}
			if d.Encryption == "software" {
				out.Keys = c.a.encrypt.left()
			}
		}
	}
	if !found {
		return out, noDevice(id)
	}
	for _, p := range c.a.fleet.supervisor.Ports() {
		info := api.PortInfo{Kind: string(p.Port.Kind), Path: p.Port.Path, Location: p.Port.Location, Serial: p.Port.Serial,
			Product: p.Port.Product, Device: p.Device, Why: p.Why}
		if p.Port.VID != 0 {
			info.VID, info.PID = fmt.Sprintf("%04X", p.Port.VID), fmt.Sprintf("%04X", p.Port.PID)
		}
		out.Ports = append(out.Ports, info)
	}
	return out, nil
}

func noDevice(id string) error {
	return &server.Error{ErrorCode: "control.not_found", Detail: fmt.Sprintf("no device is named %.40q: see `tillbridge devices list`", id)}
}

// DeviceTest asks a device who it is and how it is, and lets it show a text. It
// waits for a payment that runs there.
func (c control) DeviceTest(ctx context.Context, id string) (api.DeviceTest, error) {
	t := api.DeviceTest{Schema: "devices.test/1", ID: id, OK: true, Checks: []api.Check{}}
	if _, ok := c.a.fleet.config[id]; !ok {
		return t, noDevice(id)
	}
	check := func(name, detail string, err error) {
		if err != nil {
			t.OK, detail = false, drivers.Plain(err)
		}
		t.Checks = append(t.Checks, api.Check{Name: name, OK: err == nil, Detail: detail})
	}
	err := c.a.fleet.supervisor.Do(ctx, id, func(d drivers.Device) error {
		identity, err := d.Identify(ctx)
		check("identify", strings.TrimSpace(identity.Vendor+" "+identity.Model+" "+identity.Serial+" "+identity.Firmware), err)
		if err != nil {
			return err
		}
		h, err := d.Health(ctx)
		if err == nil && !h.OK {
			err = errors.New(h.Detail)
		}
		check("health", h.Detail, err)
		if s, ok := d.(drivers.Display); ok {
			check("display", "the device shows TILLBRIDGE TEST", s.Display(ctx, "TILLBRIDGE TEST"))
		}
		return nil
	})
	if err != nil && len(t.Checks) == 0 {
		check("open", "", err)
	}
	return t, nil
}

// Rescan looks for devices now.
func (c control) Rescan(context.Context) error {
	c.a.fleet.supervisor.Rescan()
	return nil
}
