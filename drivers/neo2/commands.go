package neo2

// Command and sub-command. Those marked [U] were not seen in a page of the
// guide.
type op struct {
	command, sub byte
	name         string
}

var (
	opPing         = op{0x18, 0x01, "18-01"}
	opCancel       = op{0x05, 0x01, "05-01"}
	opActivate     = op{0x02, 0x40, "02-40"}
	opStart        = op{0x60, 0x10, "60-10"}
	opAuthenticate = op{0x60, 0x11, "60-11"}
	opComplete     = op{0x60, 0x12, "60-12"}
	opFirmware     = op{0x29, 0x00, "29-00"} // [U]
	opUID          = op{0x29, 0x17, "29-17"}
	opGetSRED      = op{0xC7, 0x37, "C7-37"} // [U] one byte: bit 0 EMV, bit 1 stripes
	opSetSRED      = op{0xC7, 0x36, "C7-36"} // [U] the same byte
	opKeys         = op{0x81, 0x02, "81-02"} // [U] one byte a key: 00 none, 01 there, FF used up; the first is for card data
)

// sredOn is encryption of EMV data and of stripes.
const sredOn = 0x03

// Requests of the reader while 60-xx runs.
const (
	fromReader    = 0x61
	readerDisplay = 0x01 // text, or a menu
	readerPIN     = 0x02
)

// Offers of tag DFEF37 [U].
const (
	offerSwipe   = 0x01
	offerTap     = 0x02
	offerContact = 0x04
)

// retriable commands may be sent again where no answer came: they move no
// money and change nothing that a second one would change again.
func (o op) retriable() bool {
	switch o.command {
	case 0x18, 0x05, 0x29, 0xC7, 0x81:
		return true
	}
	return false
}
