package cli

import (
	"slices"
	"testing"

	"tillbridge/agent/api"
)

func TestBindFindsAUSBDeviceOnItsNextPort(t *testing.T) {
	for _, c := range []struct {
		port api.PortInfo
		want string
	}{
		{api.PortInfo{Kind: "serial", Path: "/dev/ttyACM3", VID: "1753", PID: "C902"}, "/dev/ttyACM*"},
		{api.PortInfo{Kind: "serial", Path: "/dev/ttyS1"}, "/dev/ttyS1"}, // stays where it is
		{api.PortInfo{Kind: "hid", Path: "/dev/hidraw2", VID: "0ACD", PID: "3810"}, "usb:0ACD:3810"},
		{api.PortInfo{Kind: "serial", Path: "COM4", VID: "1753", PID: "C902"}, "COM4"},
		{api.PortInfo{Kind: "tcp", Path: "192.0.2.1:20007"}, "192.0.2.1:20007"},
	} {
		info := api.DeviceInfo{Device: api.Device{Port: c.port.Path}, Ports: []api.PortInfo{{Kind: "serial", Path: "/dev/ttyUSB9", VID: "1111"}, c.port}}
		if got := bindPorts(info); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: %v, want %s", c.port.Path, got, c.want)
		}
	}
}
