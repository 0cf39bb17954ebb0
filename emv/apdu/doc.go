// Package apdu holds the command and response formats of chip cards and the
// transmission protocols below them, as pure state machines.
//
// Start with [Command] and [ParseResponse]. A reader that exchanges whole
// APDUs is wrapped by [Follow], which fetches answers (61xx) and corrects Le
// (6Cxx). A reader that exchanges T=0 TPDUs is wrapped by [T0]. A reader that
// exchanges T=1 blocks is driven by [T1], which holds sequence numbers,
// chaining, waiting time extension, retries and resynchronisation and does no
// I/O: the caller sends what it says and gives back what came. [ParseATR] says
// which of them a card speaks.
//
// Source: ISO/IEC 7816-3:2006 sections 8 (ATR), 10 (T=0), 11 (T=1), 12 (APDU
// over both), ISO/IEC 7816-4 section 5 (APDU), EMV 4.3 Book 1 sections 8, 9
// and 11. What this package does not do: time (it says how long to wait, the
// caller waits), voltage classes, PPS, logical channels.
//
// Commands and responses print without their data: those may hold a PIN or a
// card number.
package apdu
