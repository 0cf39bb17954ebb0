package cli

import (
	"context"

	"github.com/spf13/cobra"

	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
)

func devicesVerb(e *env) *cobra.Command {
	c := &cobra.Command{Use: "devices", Short: "Pads, terminals and readers"}
	c.AddCommand(devicesList(e))
	return c
}

func devicesList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List devices with their state and port",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []api.Device
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				list, err = cl.Devices(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				if list == nil {
					list = []api.Device{}
				}
				return e.object(map[string]any{"schema": "devices.list/1", "devices": list})
			}
			if len(list) == 0 {
				e.printf("no device is configured\n")
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
