// Package neo2 is an ID TECH reader that speaks NEO 2 (ViVOtech2 protocol 2):
// the device's side, on a serial line or as HID reports, with a small EMV
// terminal of its own, a DUKPT key, a customer and a line that can misbehave.
// It is written from knowledge/protocols/idtech-neo2.md and the EMV books and
// shares nothing with the driver but the checksum.
//
// Use first: [Serve] runs a reader as a process of its own, [New] and
// [Reader.Run] run one on a line that a test holds.
//
// # The process
//
// Serve prints one line of JSON and then one for every command:
//
//	{"ready":true,"addr":"/tmp/x/reader0","pty":"/dev/pts/7","serial":"0123456789ABCDEF","link":"serial"}
//
// addr is a link in Options.Dir that names the pty (Linux), or host:port. With
// Options.HID it is always host:port, and reports of 64 bytes follow one
// another on the stream. The process ends when standard input ends.
//
// The customer's steps are queued; each is taken when the reader waits for
// what it fits. "after_ms" is how long the customer thinks.
//
//	{"do":"insert","card":"visa"}   chip card into the slot
//	{"do":"tap","card":"visa"}      contactless
//	{"do":"swipe","card":"visa"}    magnetic stripe
//	{"do":"cancel"}                 the customer gives up
//	{"do":"walk-away"}              nobody comes
//	{"do":"pull","at":"60-11"}      takes the card away when 60-11 (or 60-10, 60-12, 02-40) begins
//	{"do":"auto","card":"visa"}     from now on: insert that card; "entry" is "insert", "tap" or "swipe"
//	{"do":"forget"}                 drops the queued steps
//
// The faults are played on the next answers; "n" is how often (1).
//
//	{"do":"fault","fault":"bad-crc"}             an answer with a wrong checksum
//	{"do":"fault","fault":"split","ms":250}      an answer in pieces with pauses
//	{"do":"fault","fault":"duplicate"}           an answer twice
//	{"do":"fault","fault":"noise"}               garbage before an answer
//	{"do":"fault","fault":"late","ms":15000}     an answer that late
//	{"do":"fault","fault":"drop-answer"}         an answer is not sent
//	{"do":"fault","fault":"hang-up"}             the port closes in the middle of an answer
//	{"do":"fault","fault":"card-declines"}       the card refuses at 60-12 what the host approved
//	{"do":"fault","fault":"encryption-off"}      card data in the clear, and the attribution says so
//	{"do":"fault","fault":"clear-data"}          card data in the clear under an attribution that says "on"
//	{"do":"fault","fault":"no-attribution"}      the attribution is left out
//	{"do":"fault","fault":"wrong-attribution"}   it names a stripe for a chip and a chip for a stripe
//	{"do":"fault","fault":"no-ksn"}              the KSN is left out
//	{"do":"fault","fault":"wrong-amount"}        9F02 of an answer is one more
//	{"do":"fault","fault":"wrong-currency"}      5F2A of an answer is another
//	{"do":"fault","fault":"odd-result"}          a result code that no guide knows
//	{"do":"fault","fault":"clear"}               no more faults
//
// The port and the books:
//
//	{"do":"unplug"}  {"do":"replug","link":"reader1"}  {"do":"restart"}
//	{"do":"books"}   the reader's own account of every payment
//	{"do":"status"}  what it waits for
//	{"do":"cards"}   names and masked numbers of the cards
//	{"do":"load-key","ksn":"FFFF9876543211E00000","key":"…"}  an initial key for card data
//
// # What it does not do
//
// No offline data authentication, no PIN, one contactless flow for all
// schemes. Codes and layouts that the guide's known pages do not show are
// marked in the source. It is a simulator for published test cards.
package neo2
