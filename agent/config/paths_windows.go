package config

import (
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
)

// DefaultPath is where `run` looks for the configuration.
func DefaultPath() string {
	return filepath.Join(os.Getenv("ProgramData"), "tillbridge", "tillbridge.toml")
}

func dataDir() string { return filepath.Join(os.Getenv("ProgramData"), "tillbridge", "data") }

// controlPath gives each data directory a pipe of its own, so that two agents
// on one machine do not meet.
func controlPath(data string) string {
	if data == dataDir() {
		return `\\.\pipe\tillbridge`
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(filepath.Clean(data)))
	return `\\.\pipe\tillbridge-` + strconv.FormatUint(uint64(h.Sum32()), 16)
}
