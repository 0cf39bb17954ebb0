//go:build unix && !linux

package serialport

import (
	"os"

	"tillbridge/drivers"
)

// Other systems have named ports only: the library's list there needs cgo or
// opens every port.
func scanUSB() ([]drivers.Port, error) { return nil, nil }

func describe(*drivers.Port) {}

func user(string) (int, string) { return 0, "" }

func openWriter(string) *os.File { return nil }
