package cli

import (
	"encoding/json"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"tillbridge/agent"
	"tillbridge/agent/config"
)

func configVerb(e *env) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and show the configuration"}
	c.AddCommand(
		&cobra.Command{
			Use:   "validate [FILE]",
			Short: "Check a configuration and list every fault with its line",
			Args:  cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				path := e.config
				if len(args) == 1 {
					path = args[0]
				}
				cfg, err := config.Load(path)
				if err != nil {
					return err
				}
				notes, err := agent.CheckReaders(cfg, path)
				if err != nil {
					return err
				}
				if e.json {
					return e.object(map[string]any{"schema": "config.validate/1", "path": path, "valid": true,
						"registers": len(cfg.Register), "devices": len(cfg.Device), "notes": notes})
				}
				e.printf("%s is valid: %d register(s), %d device(s)\n", path, len(cfg.Register), len(cfg.Device))
				for _, n := range notes {
					e.printf("  %s\n", n)
				}
				return nil
			},
		},
		&cobra.Command{
			Use:   "show",
			Short: "Print the configuration with every default; secrets as fingerprints",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				cfg, err := e.load()
				if err != nil {
					return err
				}
				prints := map[string]string{}
				for _, r := range cfg.Register {
					prints["register "+r.ID] = r.Key.Fingerprint()
				}
				if cfg.CRM.Secret != "" {
					prints["crm"] = cfg.CRM.Secret.Fingerprint()
				}
				if e.json {
					return e.object(map[string]any{"schema": "config.show/1", "path": e.config, "config": cfg, "fingerprints": prints})
				}
				text, err := toml.Marshal(cfg)
				if err != nil {
					return err
				}
				e.printf("%s", text)
				for _, r := range cfg.Register {
					e.printf("# key of register %s: fingerprint %s\n", r.ID, prints["register "+r.ID])
				}
				if f, ok := prints["crm"]; ok {
					e.printf("# secret of the CRM: fingerprint %s\n", f)
				}
				return nil
			},
		},
		&cobra.Command{
			Use:   "schema",
			Short: "Print every key with its type, default and meaning",
			Args:  cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				keys := config.Schema()
				if e.json {
					return e.object(map[string]any{"schema": "config.schema/1", "keys": keys})
				}
				for _, k := range keys {
					def, _ := json.Marshal(k.Default)
					line := k.Key + " (" + k.Type + ")"
					if s := string(def); s != `""` && s != "null" {
						line += " = " + s
					}
					e.printf("%s\n    %s\n", line, strings.ReplaceAll(k.Text, "\n", "\n    "))
				}
				return nil
			},
		},
	)
	return c
}
