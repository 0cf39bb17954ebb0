//go:build !windows

package config

import "path/filepath"

// DefaultPath is where `run` looks for the configuration.
func DefaultPath() string { return "/etc/tillbridge/tillbridge.toml" }

func dataDir() string { return "/var/lib/tillbridge" }

func controlPath(data string) string { return filepath.Join(data, "control.sock") }
