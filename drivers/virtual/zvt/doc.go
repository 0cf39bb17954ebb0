// Package zvt is a payment terminal that speaks ZVT: the device's side, with a
// customer in front of it, a host behind it that it invents, books of its own
// and a line that can misbehave. It is written from the protocol's documents
// (PA00P015 rev 13.08, PA00P016) and shares nothing with the driver but the
// DLE framing.
//
// Use first: [Serve] runs a terminal as a process of its own, [New] and
// [Terminal.Run] run one on a line that a test holds.
//
// # The process
//
// Serve prints one line of JSON and then one for every command:
//
//	{"ready":true,"addr":"127.0.0.1:40123","terminal_id":"52000001"}
//
// addr is host:port, or a link that names a pty with Options.Serial. The
// process ends when standard input ends. Commands are one line of JSON each;
// "do" says what, and every answer has "ok".
//
// The customer's steps are queued; an operation that needs a card takes one. A
// customer stays until the next one comes: asked again for the same amount, he
// presents his card again, and the books call it a double charge.
//
//	{"do":"insert","card":"visa"}   chip card; "card" may be left out
//	{"do":"tap"}                    contactless
//	{"do":"swipe"}                  magnetic stripe and signature
//	{"do":"wrong-pin"}              a chip card, and the right PIN at the second try
//	{"do":"decline","code":5}       a card that the host declines with this result code
//	{"do":"cancel"}                 the customer presses the red key
//	{"do":"walk-away"}              nobody comes: the terminal aborts
//	{"do":"auto","card":"visa"}     from now on a customer for every amount; "entry" is insert, tap
//	                                or swipe; without card: nobody
//	{"do":"forget"}                 drops the queued steps and who stands there
//
// Faults are played once, or "n" times. The first group waits for an approval,
// the second for the next frame.
//
//	lose-status     the line drops before the 04 0F; the approval stays
//	drop-after-ack  the line drops after the reply to the 04 0F; the approval stays
//	hang-up         the line drops in the middle of the 04 0F; the terminal reverses by itself
//	print-lost      the line drops between the lines of the receipt; it reverses by itself
//	auto-reversal   it takes the reply to the 04 0F for missing, reverses and aborts
//	partial         it approves half of the amount
//	wrong-amount    it approves one minor unit more than asked
//	wrong-currency  it approves in US dollars
//	no-amount       its 04 0F names no amount
//	contradict      a second 04 0F says declined; the approval stays
//	late            "ms" (200000) pass before the 04 0F
//
//	lose-reply      the reply to a command is not sent
//	stale           an old reply and an old completion come before the reply
//	busy            the command is refused: 84 9C
//	garbage         bytes that are no frame
//	bad-crc         a frame with a wrong checksum (serial)
//	nak             a frame of the register is refused (serial)
//	drop-ack        a frame of the register is not acknowledged (serial)
//	split           a frame in pieces with pauses of "ms"
//	duplicate       a frame twice
//	stall           "ms" of silence before a frame
//	clear           no more faults
//
// The rest:
//
//	{"do":"books"}     answers with the terminal's own account
//	{"do":"status"}    what it waits for and what it shows
//	{"do":"unplug"}    the port is gone; {"do":"replug","link":"…"} brings it back
//	{"do":"restart"}   power off and on: the registration is lost
//	{"do":"clock","ms":-60000}  sets the terminal's clock off by that much
//
// # Books
//
// A payment is booked when the host approves it, and taken out again when the
// terminal reverses it by itself: when the reply to 04 0F, or to a line of the
// receipt, is missing or negative. A receipt that an end of day has closed
// cannot be reversed. See [Books].
//
// # What it does not do
//
// It knows published test cards only and has no EMV kernel, keys or PIN. Read
// card (06 C0), GeldKarte and OPT commands are refused; there is no modem.
package zvt
