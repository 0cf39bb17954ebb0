// Package foreign holds tests in which host programs written by others talk to
// the virtual devices: a device and a driver from one hand could agree on one
// mistake. `make foreign` runs them; a plain `go test` skips them.
//
// Card and chip reader have Debian's PC/SC stack as their peer: pcscd with
// libccid's serial driver against the virtual CCID reader on a pty, pcscd with
// vsmartcard's vpcd against the virtual card on TCP, and scriptor and
// opensc-tool, which know neither, as the programs on top. They are run as
// they are packaged; nothing of them is part of this tree.
//
// The tests look at both sides: at what the foreign program printed, and at
// what the card and the reader say they were asked.
//
// Registers for ZVT and hosts for ABECS (bezahl-online/zvt, ecrterm,
// mniak/bcpinpad, PauloLeal/go-pinpad, abecs-rust) are in no package registry
// that a build of this project may rely on. They were run once, and what they
// said is played to the virtual devices by a plain `go test`: see
// testdata/foreign of packages zvt and abecs beside this one.
package foreign
