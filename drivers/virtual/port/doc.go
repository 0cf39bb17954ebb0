// Package port is the socket at which a host finds a virtual device: what the
// devices of the neighbouring packages share, and no protocol.
//
// Use first: [Process] makes a program of a device. It opens the port, prints
// one line of JSON that names it, and then takes one JSON object a line from
// standard input; "do" says what. It plays the port's own commands itself:
//
//	{"do":"unplug"}                  the port is gone
//	{"do":"replug","link":"pad1"}    it is back, a pty under another name
//	{"do":"restart"}                 power off and on
//
// Everything else goes to the device. Every answer has "ok", and "error" when
// that is false.
//
// [Port] is one socket: a pty that a link in a directory names (Linux), or a
// TCP address. A device is served one host after the other. [OpenPTY] gives a
// bare line, [Faults] counts down what a device shall do wrong.
//
// What it does not do: it looks into no byte, and a pty has no modem lines, no
// parity and no bit timing.
package port
