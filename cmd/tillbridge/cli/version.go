package cli

import (
	"runtime"
	"tillbridge/drivers/usbport"

	"github.com/spf13/cobra"
)

func versionVerb(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if e.json {
				return e.object(map[string]any{
					"schema": "version/1", "version": e.version, "go": runtime.Version(),
					"os": runtime.GOOS, "arch": runtime.GOARCH, "usb": usbport.Built,
				})
			}
			usb := "without USB"
			if usbport.Built {
				usb = "with USB"
			}
			e.printf("tillbridge %s (%s, %s/%s, %s)\n", e.version, runtime.Version(), runtime.GOOS, runtime.GOARCH, usb)
			return nil
		},
	}
}
