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
// What is not here: registers for ZVT and hosts for ABECS. Those that are
// known (bezahl-online/zvt, mniak/bcpinpad, PauloLeal/go-pinpad, ecrterm) are
// in no registry that a build of this project may rely on. What a register of
// others sends, and what it can take, is held by a test of
// drivers/virtual/zvt that was made from its source.
package foreign
