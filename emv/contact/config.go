package contact

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

// Application is one application that the terminal accepts (Book 1 section
// 12.2.1) with the acquirer's settings for it.
type Application struct {
	AID []byte // 5 to 16 bytes
	// Exact refuses longer names of the card; by default a partial name is
	// enough (application selection indicator).
	Exact   bool
	Version [2]byte // 9F09
	// Terminal action codes; all zeros decide nothing.
	TACDefault, TACDenial, TACOnline TVR
	Risk                             RiskConfig
	// DDOL and TDOL are used when the card has none. An empty DDOL is 9F3704.
	DDOL, TDOL []byte
	// Data are further data objects of the terminal as TLV, over [Config.Data].
	Data []byte
}

// Config is what a terminal is. The callbacks may be nil.
type Config struct {
	Applications []Application // in the order in which they are tried
	Keys         *oda.Store    // nil: no key is known
	// Type is 9F35 as BCD: 0x22 when zero (attended, offline with online).
	Type byte
	// Capabilities is 9F33. Bits for a PIN are taken away when Pad is nil, and
	// the one for plaintext PIN unless PlaintextPIN is set. Zero means E0F8C8
	// before that, unless NoCapabilities is set.
	Capabilities   [3]byte
	NoCapabilities bool    // 9F33 is 000000
	Additional     [5]byte // 9F40
	Country        int     // 9F1A, ISO 3166 number
	// PlaintextPIN allows an offline PIN that travels to the card in clear
	// between pad and card. Off by default: schemes are giving it up.
	PlaintextPIN bool
	// Data are further data objects of the terminal as TLV (9F1C, 9F1E, 9F15...).
	Data []byte
	// Timeout bounds each command to the card; 0 means 10 seconds.
	Timeout time.Duration
	// Random gives unpredictable numbers; nil is crypto/rand.
	Random io.Reader

	Choose    Chooser
	Pad       PINPad
	Encrypter Encrypter
	Cards     CardFile
	// CardKey keys the hash by which [CardFile] knows a card; without it cards
	// are not looked up.
	CardKey []byte
	// UnauthenticatedOffline lets the action codes alone decide over a card whose
	// data were not authenticated. By default such a card is asked to go online
	// (or declines) where the codes would approve it: codes that forget a bit, or
	// that a damaged card no longer has, approve nothing.
	UnauthenticatedOffline bool
	// ForceOnline is the merchant's wish to go online.
	ForceOnline bool
}

// Chooser lets the cardholder choose or confirm. It returns an index into
// list, or an error that ends the session (emv.ErrCancelled).
type Chooser interface {
	ChooseApplication(ctx context.Context, list []Candidate) (int, error)
}

// Encrypter turns clear card data into an envelope and erases them. It is the
// only way that a card number leaves the kernel.
type Encrypter interface {
	Encrypt(*Clear) (p2pe.Envelope, error)
}

// Clear is the card's number and track 2, ASCII ("4111…=YYMMSSS…"). It prints
// "***" and has no JSON form.
type Clear struct{ PAN, Track2 []byte }

// Erase overwrites the data.
func (c *Clear) Erase() { clear(c.PAN); clear(c.Track2) }

// Format prints "***" whatever the verb.
func (Clear) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }

// String is "***".
func (Clear) String() string { return "***" }

// GoString is "***".
func (Clear) GoString() string { return "***" }

// LogValue is "***".
func (Clear) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses.
func (Clear) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("contact: card data have no JSON form")
}

// PINPad is a secure PIN entry device. The kernel never sees a digit.
type PINPad interface {
	// EnterPIN lets the cardholder enter a PIN once. For an offline method the
	// pad itself makes the VERIFY command, enciphered under Key with Challenge
	// where the method says so, and sends it to the card by Card. It returns how
	// that ended. An error ends the session (emv.ErrCancelled).
	EnterPIN(ctx context.Context, r PINRequest) (PINAnswer, error)
}

// PINRequest is what a pad needs for one entry.
type PINRequest struct {
	Method Method
	// Tries are left in the card, or -1 when it does not say. The pad warns at 1.
	Tries int
	// Modulus and Exponent of the card's key for PIN encipherment and the card's
	// Challenge (Book 2 section 7), for the enciphered methods.
	Modulus, Exponent, Challenge []byte
	// Card passes VERIFY to the card.
	Card emv.Transceiver
	// Data are the amounts for the display.
	Amounts emv.Amounts
}

// PINAnswer is how one entry ended.
type PINAnswer struct {
	Status PINStatus
	// Tries are left after [PINWrong], -1 when unknown.
	Tries int
	// Block is the enciphered PIN of [OnlinePIN].
	Block p2pe.PINBlock
}

// CardHash names a card in a [CardFile] without its number.
type CardHash [32]byte

// HashCard is HMAC-SHA-256 over number (5A as the card gave it, without
// padding) and PAN sequence number (one byte, or none).
func HashCard(key, pan, sequence []byte) (h CardHash) {
	m := hmac.New(sha256.New, key)
	m.Write([]byte{byte(len(pan))})
	m.Write(pan)
	m.Write(sequence)
	m.Sum(h[:0])
	return h
}

// CardFile is the terminal's exception file and its log of offline approvals
// (Book 4 section 6.5). Both answer at once, from memory.
type CardFile interface {
	// Listed reports whether the card is on the exception file.
	Listed(CardHash) bool
	// OfflineTotal is what was approved offline for the card in this currency
	// since it last went online, in minor units.
	OfflineTotal(card CardHash, currency int) int64
}

const defaultTimeout = 10 * time.Second

// offlineOnly reports a terminal type without a way online (Book 4 Annex A1).
func offlineOnly(kind byte) bool { return kind&0x0F == 3 || kind&0x0F == 6 }

// unattendedCash reports a type that dispenses cash by itself.
func (c *Config) atm() bool {
	return c.Type>>4 == 1 && c.Type&0x0F >= 4 && c.Additional[0]&0x80 != 0
}

// normal fills defaults and takes away what the terminal cannot do.
func (c Config) normal() (Config, error) {
	if len(c.Applications) == 0 {
		return c, fmt.Errorf("%w: no application is configured", ErrConfig)
	}
	for _, a := range c.Applications {
		if len(a.AID) < 5 || len(a.AID) > 16 {
			return c, fmt.Errorf("%w: an AID has 5 to 16 bytes", ErrConfig)
		}
		for _, d := range [][]byte{a.DDOL, a.TDOL} {
			if _, err := tlv.ParseDOL(d); err != nil {
				return c, fmt.Errorf("%w: a default data object list: %w", ErrConfig, err)
			}
		}
	}
	if c.Country < 0 || c.Country > 999 {
		return c, fmt.Errorf("%w: a country is an ISO 3166 number", ErrConfig)
	}
	if c.Type == 0 {
		c.Type = 0x22
	}
	if c.Capabilities == [3]byte{} && !c.NoCapabilities {
		c.Capabilities = [3]byte{0xE0, 0xF8, 0xC8}
	}
	if c.Pad == nil {
		c.Capabilities[1] &^= capPlaintextPIN | capOnlinePIN | capEncipheredPIN
	}
	if !c.PlaintextPIN {
		c.Capabilities[1] &^= capPlaintextPIN
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Keys == nil {
		c.Keys = oda.NewStore(oda.Live)
	}
	if c.Keys.AllowSDA {
		c.Capabilities[2] |= 0x80
	} else {
		c.Capabilities[2] &^= 0x80
	}
	return c, nil
}

var _ apdu.Exchanger = emv.Transceiver(nil)
