// Package usbdev is the device's side of USB in software: full-speed devices
// that answer the transfers of a host controller, which come as URBs of the
// USB/IP protocol over a stream.
//
// Start with [New] and [Device.Serve]. On Linux the stream is one end of a
// socket pair whose other end was written into the attach file of vhci_hcd; its
// end is the unplug. [Device.Send] queues what the host will read, [Options.Out]
// gets what it wrote, [Pad] makes both a line of HID reports.
//
// Data travel in packets, as on the wire: a transfer IN ends with a short packet
// or a full buffer, a packet that does not fit is an overflow, and an endpoint
// that stalled stays halted until the host clears it.
//
// Sources: USB 2.0 chapters 5.5 to 5.8 and 9, HID 1.11 sections 6 and 7, the
// kernel's description of USB/IP (Documentation/usb/usbip_protocol.rst). It
// shares nothing with package usbport.
//
// What it does not do: isochronous transfers, several configurations, alternate
// settings, remote wakeup, speeds other than full.
package usbdev
