// Package guest holds the tests of the lab: our transports and drivers on a real
// Linux USB stack, in a guest whose init is this package's test binary.
//
// Each test begins with begin, which prints its end on the console for package
// main of packaging/lab to judge; README.md there says how to add one. The
// devices are QEMU's own (a chip card reader, an FTDI serial adapter) and HID
// pads of package usbdev on the kernel's virtual host controller. The cards and
// pads behind them are those of emv/virtualcard and drivers/virtual.
//
// The tests are built with the tags lab and usb, and run nowhere but in the
// guest.
package guest
