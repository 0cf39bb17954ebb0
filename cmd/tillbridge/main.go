// Command tillbridge is the agent beside the counter: it drives PIN pads,
// keeps payments in a crash-proof store and forwards them. See README.md.
package main

import "os"

func main() { os.Exit(0) }
