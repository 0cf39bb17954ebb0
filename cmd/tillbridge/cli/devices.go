package cli

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
)

func devicesVerb(e *env) *cobra.Command {
	c := &cobra.Command{Use: "devices", Short: "Pads, terminals and readers"}
	c.AddCommand(devicesList(e), devicesInfo(e), devicesTest(e), devicesWatch(e), devicesRescan(e), devicesBind(e))
	return c
}

func (e *env) devices(ctx context.Context) (list []api.Device, err error) {
	err = e.ask(ctx, func(ctx context.Context, cl *client.Client) (err error) {
		list, err = cl.Devices(ctx)
		return err
	})
	if list == nil {
		list = []api.Device{}
	}
	return list, err
}

func devicesList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List devices with their state and port",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := e.devices(c.Context())
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "devices.list/1", "devices": list})
			}
			if len(list) == 0 {
				e.printf("no device is configured: add a [[device]] to the configuration (`tillbridge config schema`)\n")
				return nil
			}
			e.table("DEVICE\tREGISTER\tPROTOCOL\tSTATE\tPORT\tMODEL\tSERIAL\tREPLUGS\tDETAIL", func(line func(string, ...any)) {
				for _, d := range list {
					line("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s", d.ID, d.RegisterID, d.Driver, d.State, d.Port, d.Model, d.Serial, d.Replugs, d.Detail)
				}
			})
			return nil
		},
	}
}

func devicesInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "info DEVICE",
		Short: "Show one device, and why each port was taken or not",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var info api.DeviceInfo
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				info, err = cl.DeviceInfo(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(info)
			}
			d := info.Device
			e.table("", func(line func(string, ...any)) {
				for _, r := range [][2]string{{"device", d.ID}, {"register", d.RegisterID}, {"protocol", d.Driver}, {"state", d.State},
					{"detail", d.Detail}, {"port", d.Port}, {"model", d.Model}, {"serial", d.Serial}, {"firmware", d.Firmware}, {"kernel", info.Kernel}, {"encrypted", info.Encryption}} {
					if r[1] != "" {
						line("%s\t%s", r[0], r[1])
					}
				}
				if n := info.NotReady; n != nil {
					line("NOT READY\t%s  [%s]", n.Text, n.Code)
				}
				if d.Since != nil {
					line("since\t%s ago", age(*d.Since))
				}
				line("came back\t%d time(s)", d.Replugs)
				var keys []string
				for k := range info.Keys {
					keys = append(keys, k)
				}
				sort.Strings(keys)
				for _, k := range keys {
					line("key %s\t%s", k, info.Keys[k])
				}
			})
			e.printf("\nports that were seen:\n")
			for _, fault := range info.BusFaults {
				e.printf("  %s\n", fault)
			}
			if len(info.Ports) == 0 && len(info.BusFaults) == 0 {
				e.printf("  none: connect the device, check its cable and power\n")
			}
			for _, p := range info.Ports {
				id := ""
				if p.VID != "" {
					id = fmt.Sprintf("  usb:%s:%s", p.VID, p.PID)
				}
				e.printf("  %s%s  %s %s\n", p.Path, id, p.Product, p.Serial)
				if p.Device != "" {
					e.printf("      taken by %s\n", p.Device)
				}
				for _, w := range p.Why {
					e.printf("      not taken by %s\n", w)
				}
			}
			return nil
		},
	}
}

func devicesTest(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "test DEVICE",
		Short: "Ask a device who it is and how it is, and let it show a text",
		Long: `Ask a device who it is and how it is, and let it show a text. No money moves. It
waits for a payment that runs on the device. Exit code 12 when the device fails.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var t api.DeviceTest
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				t, err = cl.DeviceTest(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				if err := e.object(t); err != nil {
					return err
				}
			} else {
				for _, k := range t.Checks {
					word := "OK  "
					if !k.OK {
						word = "FAIL"
					}
					e.printf("%s  %-9s %s\n", word, k.Name, k.Detail)
				}
			}
			if !t.OK {
				return silent(exitDevice)
			}
			return nil
		},
	}
}

func devicesWatch(e *env) *cobra.Command {
	var limit time.Duration
	c := &cobra.Command{
		Use:   "watch",
		Short: "Tell each change of a device until interrupted",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			last := map[string]string{}
			var ends <-chan time.Time
			if limit > 0 {
				ends = time.After(limit)
			}
			for {
				list, err := e.devices(c.Context())
				if err != nil {
					return err
				}
				for _, d := range list {
					now := strings.Join([]string{d.State, d.Port, d.Detail}, "  ")
					if last[d.ID] == now {
						continue
					}
					last[d.ID] = now
					if e.json {
						if err := e.object(map[string]any{"schema": "devices.watch/1", "at": time.Now().UTC(), "device": d}); err != nil {
							return err
						}
						continue
					}
					e.printf("%s  %s  %s\n", time.Now().Format("15:04:05"), d.ID, now)
				}
				select {
				case <-c.Context().Done():
					return silent(exitInterrupted)
				case <-ends:
					return nil
				case <-time.After(500 * time.Millisecond):
				}
			}
		},
	}
	c.Flags().DurationVar(&limit, "for", 0, "stop after this time (default: never)")
	return c
}

func devicesRescan(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "rescan",
		Short: "Look for devices now, also on ports that were refused before",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) error { return cl.Rescan(ctx) })
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "devices.rescan/1", "ok": true})
			}
			e.printf("looking; see `tillbridge devices list`\n")
			return nil
		},
	}
}

func devicesBind(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "bind DEVICE",
		Short: "Print the configuration that binds a name to the device that answers there now",
		Long: `Print the [[device]] entry that binds this name to the very device that answers
now, by its own serial number: another device on the port is then refused, and
the same device on another port is found where it is behind USB. Put it into the configuration in place
of the old entry and restart the agent. Nothing is changed by this command.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var info api.DeviceInfo
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				info, err = cl.DeviceInfo(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			d := info.Device
			if d.Serial == "" {
				return fail(exitDevice, "device.no_serial", "%s tells no serial number (state: %s): it can be bound by its port only", d.ID, d.State)
			}
			if d.Port == "" {
				return fail(exitDevice, "device.absent", "%s is not there now (%s): connect it, and bind it while it answers", d.ID, d.Detail)
			}
			ports := bindPorts(info)
			if e.json {
				return e.object(map[string]any{"schema": "devices.bind/1", "name": d.ID, "protocol": d.Driver, "ports": ports, "serial": d.Serial})
			}
			e.printf("[[device]]\nname = %q\nprotocol = %q\nports = [%q]\nserial = %q\n# keep the old entry's [device.params]\n", d.ID, d.Driver, ports[0], d.Serial)
			return nil
		},
	}
}

// bindPorts are the ports on which a device that is bound by its serial number
// is looked for: a USB device gets another port name with every plug.
func bindPorts(info api.DeviceInfo) []string {
	path := info.Device.Port
	for _, p := range info.Ports {
		switch {
		case p.Path != path || p.VID == "":
		case p.Kind != "serial":
			return []string{"usb:" + p.VID + ":" + p.PID}
		case strings.HasPrefix(path, "/dev/tty"):
			return []string{strings.TrimRight(path, "0123456789") + "*"}
		}
	}
	return []string{path}
}
