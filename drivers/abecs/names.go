package abecs

import (
	"fmt"

	"tillbridge/drivers"
	"tillbridge/emv"
)

// ID is the identifier of a parameter.
type ID uint16

// String is the identifier in hex.
func (id ID) String() string { return fmt.Sprintf("%04X", uint16(id)) }

// Parameters of commands.
const (
	IDList     ID = 0x0001
	MethodPIN  ID = 0x0002 // N1
	MethodData ID = 0x0003 // N2
	TagList    ID = 0x0004
	EMVDataIn  ID = 0x0005
	CEXOptions ID = 0x0006 // A6: keys, stripe, chip, contactless
	Tracks     ID = 0x0007 // N4: PAN, tracks 1, 2, 3
	OpenDigits ID = 0x0008
	KeyIndex   ID = 0x0009 // N2
	Timeout    ID = 0x000C // X1, seconds of inactivity
	DataIn     ID = 0x000F
	Acquirer   ID = 0x0010 // N2
	Amount     ID = 0x0013 // N12
	Cashback   ID = 0x0014 // N12
	Date       ID = 0x0015 // YYMMDD
	Time       ID = 0x0016 // HHMMSS
	GCXOptions ID = 0x0017 // N5
	GOXOptions ID = 0x0018 // N5
	FCXOptions ID = 0x0019 // N4
	Terminal   ID = 0x001A // X10: floor limit, target, threshold, maximum
	Message    ID = 0x001B
	ARC        ID = 0x001C // A2
	IV         ID = 0x001D // B8
	MenuOption ID = 0x0020
	Type       ID = 0x0021 // B1
	Currency   ID = 0x0022 // N3
	PANMask    ID = 0x0023 // N4
	RSAModulus ID = 0x0024
	RSAExp     ID = 0x0025
)

// Parameters of answers.
const (
	Serial       ID = 0x8001
	PartNumber   ID = 0x8002
	Model        ID = 0x8003
	Maker        ID = 0x8004
	Capabilities ID = 0x8005
	OSVersion    ID = 0x8006
	SpecVersion  ID = 0x8007
	Kernel       ID = 0x8010
	KeyMapPIN    ID = 0x8035 // TDES DUKPT PIN slots
	KeyMapData   ID = 0x8036 // TDES DUKPT data slots
	Event        ID = 0x8040
	Track1Cut    ID = 0x8041
	Track2Cut    ID = 0x8042
	Track1       ID = 0x8044
	Track2       ID = 0x8045
	Track3       ID = 0x8046
	Track1KSN    ID = 0x8047
	Track2KSN    ID = 0x8048
	Track3KSN    ID = 0x8049
	PANData      ID = 0x804A
	PANKSN       ID = 0x804B
	PINKSN       ID = 0x804C
	Value        ID = 0x804D
	DataOut      ID = 0x804E
	CardType     ID = 0x804F
	ChipStatus   ID = 0x8050
	AIDInfo      ID = 0x8051
	PAN          ID = 0x8052
	PANSequence  ID = 0x8053
	EMVDataOut   ID = 0x8054
	Holder       ID = 0x8055
	GOXResult    ID = 0x8056
	PINBlock     ID = 0x8057
	FCXResult    ID = 0x8058
	ScriptResult ID = 0x8059
	Label        ID = 0x805B
	Country      ID = 0x805C
	Expiry       ID = 0x805D
)

// KSNPIN and KSNData are the answers that tell the KSN of a TDES DUKPT slot
// (0 to 99; the slot is the low byte in hex), TableVersion that of an
// acquirer's table.
func KSNPIN(slot int) ID           { return 0x9100 | ID(slot) }
func KSNData(slot int) ID          { return 0x9200 | ID(slot) }
func TableVersion(acquirer int) ID { return 0x9300 | ID(acquirer) }

// Status is the pad's own result code. It is an error whose text says what to
// do next; errors.Is matches it with drivers.ErrCancelled, ErrTimeout and
// ErrCardGone.
type Status int

// Status codes that callers branch on.
const (
	OK               Status = 0
	NoChannel        Status = 3
	KeyF1            Status = 4
	KeyF2            Status = 5
	KeyF3            Status = 6
	KeyF4            Status = 7
	KeyBack          Status = 8
	ChannelError     Status = 9
	InvalidCall      Status = 10
	InvalidParameter Status = 11
	TimedOut         Status = 12
	Cancelled        Status = 13
	Missing          Status = 19
	TableDiffers     Status = 20
	TableWrite       Status = 21
	Internal         Status = 40
	StripeError      Status = 41
	KeyAbsent        Status = 42
	NoCard           Status = 43
	PINBlocked       Status = 44
	Overflow         Status = 45
	CryptoError      Status = 46
	ChipMute         Status = 60
	ChipError        Status = 61
	Invalidated      Status = 67
	CardProblem      Status = 68
	CardData         Status = 69
	NoApp            Status = 70
	AppUnusable      Status = 71
	Fallback         Status = 76
	AmountError      Status = 77
	TooManyAIDs      Status = 78
	CardBlocked      Status = 79
	SeveralCards     Status = 80
	TapError         Status = 81
	TapInvalidated   Status = 82
	TapProblem       Status = 83
	TapNoApp         Status = 84
	TapUnusable      Status = 85
	SeePhone         Status = 86
	OtherInterface   Status = 87
)

var statusText = map[Status]string{
	NoChannel:        "the pad lost the secure channel; it was restarted, open it again",
	ChannelError:     "the pad could not read an encrypted packet; open it again",
	InvalidCall:      "the pad does not know this command now; check its protocol version",
	InvalidParameter: "the pad refuses a parameter; check amounts and the tables it holds",
	TimedOut:         "the customer did nothing in time; start again",
	Cancelled:        "the customer pressed cancel; ask and start again",
	Missing:          "the pad misses a parameter; check its protocol version",
	TableDiffers:     "the pad holds tables of another version; load them",
	TableWrite:       "the pad could not write its tables; load them again",
	Internal:         "the pad reports an internal error; restart it",
	StripeError:      "the stripe could not be read; swipe again or use the chip",
	KeyAbsent:        "the pad has no key in this slot; check the slot in the configuration or have the key loaded",
	NoCard:           "the card was taken out; insert it again",
	PINBlocked:       "the pad blocks PIN entry for a while; wait a minute",
	Overflow:         "the pad's answer is too long; ask for fewer tags",
	CryptoError:      "the pad could not encrypt; check its keys",
	ChipMute:         "the chip does not answer; insert the card the other way round",
	ChipError:        "the chip and the pad lost contact; insert the card again",
	Invalidated:      "the card's application is blocked; use another card",
	CardProblem:      "the card has a problem; use another card",
	CardData:         "the card's data are invalid; use another card",
	NoApp:            "the pad has no application for this card; load the tables or use another card",
	AppUnusable:      "no application of the card can be used; use another card",
	Fallback:         "the chip cannot be used; swipe the card",
	AmountError:      "the pad refuses the amount",
	TooManyAIDs:      "the pad was given too many applications",
	CardBlocked:      "the card is blocked; use another card",
	SeveralCards:     "there is more than one card at the reader; present one",
	TapError:         "the tap was too short; tap again or insert the card",
	TapInvalidated:   "the card's contactless application is blocked; insert the card",
	TapProblem:       "the card has a contactless problem; insert the card",
	TapNoApp:         "the pad has no contactless application for this card; insert it",
	TapUnusable:      "the contactless application cannot be used; insert the card",
	SeePhone:         "the customer has to confirm on the phone; tap again",
	OtherInterface:   "the card asks for another interface; insert it",
}

func (s Status) digits() string { return fmt.Sprintf("%03d", int(s)) }

// Error says what happened and what to do.
func (s Status) Error() string {
	if t, ok := statusText[s]; ok {
		return "abecs: " + t + " (" + s.digits() + ")"
	}
	return "abecs: the pad answered " + s.digits() + "; see its manual"
}

// Code is the stable code of the error catalogue.
func (s Status) Code() string { return "device.abecs." + s.digits() }

// Is matches the states of package drivers and the ends of an [emv.Session].
func (s Status) Is(target error) bool {
	switch target {
	case drivers.ErrCancelled, emv.ErrCancelled:
		return s == Cancelled
	case drivers.ErrTimeout, emv.ErrNoCard:
		return s == TimedOut
	case drivers.ErrCardGone:
		return s == NoCard
	case emv.ErrCardRemoved:
		return s == NoCard || s == ChipMute || s == ChipError
	case emv.ErrCardUnusable:
		switch s {
		case Invalidated, CardProblem, CardData, NoApp, AppUnusable, CardBlocked, TapInvalidated, TapProblem, TapNoApp, TapUnusable:
			return true
		}
	}
	return false
}
