package agent

import (
	"fmt"

	"tillbridge/drivers"
)

// Protocols are the names of the drivers of this program.
func Protocols() []string {
	var out []string
	for _, d := range driverList() {
		out = append(out, d.Name())
	}
	return out
}

// Describer returns what explains recorded bytes of a protocol, line by line.
// The lines hold no card data: the bytes were cut before.
func Describer(protocol string) (func(fromDevice bool, wire []byte) []string, bool) {
	for _, d := range driverList() {
		if d.Name() != protocol {
			continue
		}
		if x, ok := d.(drivers.Describer); ok {
			return x.Describe, true
		}
		return func(_ bool, wire []byte) []string { return []string{fmt.Sprintf("%d bytes", len(wire))} }, true
	}
	return nil, false
}
