// Package ccid drives chip card readers of the USB class CCID: readers without
// a kernel, which pass APDUs between the host and a card.
//
// Start with [Driver]: its devices are a drivers.APDUChannel, that is an
// emv.Transceiver with power and card detection, and feed the host kernel
// (emv/contact). The codec alone is [ParseMessage] and [Message.Append]; what
// a reader can do is [ParseConfiguration].
//
// Exchange levels: extended APDU (commands of any length, chained over several
// messages), short APDU (up to 261 bytes) and TPDU, where the host runs T=0 or
// T=1 itself (emv/apdu). Readers of the character level are refused: their
// waiting times are those of single characters and cannot be kept from here.
//
// The transport is message-oriented: one Read is one message of the bulk IN or
// of the interrupt endpoint; their first bytes tell them apart. It may also
// implement [Controller] for the descriptor and the class requests.
//
// A command that would carry a PIN in the clear (VERIFY, CHANGE REFERENCE DATA,
// RESET RETRY COUNTER, on any channel) is refused here. Once an answer is
// missing the card has to be powered anew: what comes late is never paired with
// another command.
//
// Source: USB Device Class Specification for Integrated Circuit Card Interface
// Devices, revision 1.1 (sections 5.1 descriptor, 5.3 control, 6.1 to 6.3
// messages); ISO/IEC 7816-3. What it does not do: secure PIN entry on the
// reader's keypad, several slots (the first is used), the contactless side,
// readers behind PC/SC.
package ccid
