package serialport

import (
	"errors"
	"os"
	"strconv"

	"go.bug.st/serial/enumerator"
	"golang.org/x/sys/windows"

	"tillbridge/drivers"
)

// scanUSB lists the serial ports behind USB from the registry.
func scanUSB() ([]drivers.Port, error) {
	details, err := enumerator.GetDetailedPortsList()
	if err != nil {
		return nil, err
	}
	var ports []drivers.Port
	for _, d := range details {
		if !d.IsUSB {
			continue
		}
		vid, _ := strconv.ParseUint(d.VID, 16, 16)
		pid, _ := strconv.ParseUint(d.PID, 16, 16)
		ports = append(ports, drivers.Port{Kind: drivers.KindSerial, Path: d.Name,
			VID: uint16(vid), PID: uint16(pid), Serial: d.SerialNumber, Product: d.Product})
	}
	return ports, nil
}

func describe(*drivers.Port) {}

func nodeOf(string) string { return "" } // a COM port is no file

func openWriter(string) *os.File { return nil }

func isGone(err error) bool {
	return errors.Is(err, windows.ERROR_FILE_NOT_FOUND) || errors.Is(err, windows.ERROR_PATH_NOT_FOUND) ||
		errors.Is(err, windows.ERROR_DEVICE_NOT_CONNECTED) || errors.Is(err, windows.ERROR_GEN_FAILURE)
}
