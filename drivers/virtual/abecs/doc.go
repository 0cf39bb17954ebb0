// Package abecs is a PIN pad that speaks the ABECS protocol: the device's
// side, with its own small EMV terminal, DUKPT keys, a customer at the keypad
// and a line that can misbehave. It is written from the protocol's text (2.12)
// and from the EMV books, and shares nothing with the driver but the framing.
//
// Use first: [Serve] runs a pad as a process of its own, [New] and [Pad.Run]
// run one on a line that a test holds.
//
// # The process
//
// Serve prints one line of JSON and then one for every command:
//
//	{"ready":true,"addr":"/tmp/x/pad0","pty":"/dev/pts/7","serial":"VP000001"}
//
// addr is a link in Options.Dir that names the pty (Linux), or host:port
// elsewhere. The process ends when standard input ends. Commands are one line
// of JSON each; "do" says what, and every answer has "ok".
//
// The customer's steps are queued; each is taken when the pad waits for what it
// fits. "after_ms" is how long the customer thinks.
//
//	{"do":"insert","card":"visa"}      chip card into the slot
//	{"do":"tap","card":"visa"}         contactless
//	{"do":"swipe","card":"visa"}       magnetic stripe
//	{"do":"pin"}                       the card's own PIN; {"do":"pin","digits":"1111"} another
//	{"do":"wrong-pin"}                 a PIN that is not the card's
//	{"do":"cancel"}                    red key, whatever the pad waits for
//	{"do":"walk-away"}                 nobody answers, whatever the pad waits for
//	{"do":"remove"}                    takes the card out when asked, or now when its payment is over
//	{"do":"pull","at":"GOX"}           takes the card out too early: when GOX (or GCX, FCX) begins
//	{"do":"key","key":"ok"}            ok, f1 to f4, back, cancel
//	{"do":"choose","n":2}              an entry of a menu, from 1
//	{"do":"auto","card":"visa"}        from now on: insert that card, right PIN, remove; "entry" is
//	                                   "insert" (default), "tap" or "swipe"; without card: nobody
//	{"do":"forget"}                    drops the queued steps
//
// The line's faults are played on the next frames; "n" is how often (1).
//
//	{"do":"fault","fault":"drop-ack"}            the acknowledgement is not sent
//	{"do":"fault","fault":"bad-crc"}             a response with a wrong checksum
//	{"do":"fault","fault":"nak"}                 the command is refused
//	{"do":"fault","fault":"split","ms":250}      a response in pieces with pauses
//	{"do":"fault","fault":"duplicate"}           a response twice
//	{"do":"fault","fault":"noise"}               garbage before a response
//	{"do":"fault","fault":"stall","ms":3000}     silence before the acknowledgement
//	{"do":"fault","fault":"late","ms":15000}     the response comes that late
//	{"do":"fault","fault":"drop-response"}       the response is not sent
//	{"do":"fault","fault":"hang-up"}             the port closes in the middle of a response
//	{"do":"fault","fault":"card-declines"}       the card refuses at FCX what the host approved
//	{"do":"fault","fault":"clear"}               no more faults
//
// The port and the books:
//
//	{"do":"unplug"}                      the port is gone
//	{"do":"replug","link":"pad1"}        it is back, under another name
//	{"do":"restart","link":"pad1"}       power off and on: session and channel are lost
//	{"do":"books"}                       answers with the pad's own account of every payment
//	{"do":"status"}                      what the pad waits for, and what it shows
//	{"do":"cards"}                       names and masked numbers of the cards
//	{"do":"load-key","use":"data","slot":0,"ksn":"FFFF9876543210E00000","key":"…"}
//	                                     an initial key (never a base derivation key)
//
// # What it does not do
//
// The small terminal does no offline data authentication and no offline PIN,
// and sets the TVR accordingly. Multimedia commands, master/session keys and
// DES DUKPT are absent and answered as a pad without them answers. It is a
// simulator for published test cards: keys lie in its state file in the clear.
package abecs
