// Command tillbridge is the agent beside the counter: it drives PIN pads, runs
// the EMV exchange, keeps payments in a crash-proof store and forwards them to
// the CRM. Package cli holds its verbs; README.md says how to start.
package main

import (
	"os"

	"tillbridge/cmd/tillbridge/cli"
)

// version is set by the linker (Makefile).
var version = "unknown"

func main() {
	os.Exit(cli.Main(version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
