// Package ccid is the reader's side of USB CCID in memory: a chip card reader
// with one slot, at any exchange level, with a card behind it.
//
// Start with [New], then [Reader.Serve] on a line where one Write is one
// message: bulk messages both ways, and the reader's notifications of the
// interrupt endpoint between its answers. [Reader.Control] is the control
// endpoint: descriptors and the class requests. [Reader.Insert] and
// [Reader.Remove] move the card, [Reader.Do] makes the next exchange go wrong.
//
// At the APDU levels the card gets what the host sent; at the TPDU level the
// reader plays the card's side of T=0 or of the blocks of T=1.
//
// It is written from the USB CCID class specification 1.1 and ISO/IEC 7816-3
// sections 10 to 12, not from this project's driver, and shares no code with it.
// What it does not do: keypad and display, more slots, the wire's timing.
package ccid
