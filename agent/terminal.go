package agent

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"tillbridge/agent/config"
	"tillbridge/emv/contact"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

// terminal is what our kernel is told of the shop, the same for all readers.
type terminal struct {
	config contact.Config
	keys   *oda.KeyFile // nil without a file
}

// openTerminal reads the section [kernel] and the file of keys that it names.
// What the section leaves open is chosen so that nothing is approved without
// the issuer: there is no PIN, and every amount exceeds the floor limit, which
// asks for going online, and for a decline where that is not possible.
func openTerminal(c *config.Config, path string, now time.Time) (*terminal, error) {
	k := &c.Kernel
	t := &terminal{config: contact.Config{Type: unhex(k.TerminalType)[0], Capabilities: [3]byte(unhex(k.Capabilities)), Additional: [5]byte(unhex(k.Additional))}}
	t.config.Country, _ = strconv.Atoi(k.Country)
	if k.MerchantCategory != "" {
		t.config.Data = tlv.Append(t.config.Data, 0x9F15, unhex(k.MerchantCategory))
	}
	if k.CAKeys != "" {
		data, err := os.ReadFile(k.CAKeys)
		if err != nil {
			return nil, config.Refuse(path, "kernel.ca_keys", err)
		}
		year, month, day := now.Date()
		if t.keys, err = oda.ParseKeyFile(data, oda.Environment(k.Environment), oda.Date{Year: year, Month: int(month), Day: day}); err != nil {
			return nil, config.Refuse(path, "kernel.ca_keys", fmt.Errorf("%s: %w", k.CAKeys, err))
		}
		t.config.Keys = t.keys.Store
	}
	for _, a := range k.Application {
		app := contact.Application{AID: unhex(a.AID), Exact: a.Exact, Version: [2]byte(unhex(a.Version)), DDOL: unhex(a.DDOL), TDOL: unhex(a.TDOL),
			TACDefault: tvr(a.TACDefault), TACDenial: tvr(a.TACDenial), TACOnline: tvr(a.TACOnline)}
		app.TACOnline.Set(contact.FloorLimitExceeded)
		app.TACDefault.Set(contact.FloorLimitExceeded)
		app.Data = tlv.Append(nil, 0x9F1B, []byte{0, 0, 0, 0})
		t.config.Applications = append(t.config.Applications, app)
	}
	if _, err := contact.New(nil, t.config); err != nil {
		return nil, config.Refuse(path, "kernel.application", err)
	}
	return t, nil
}

// String is what a technician needs to know of the kernel.
func (t *terminal) String() string {
	text := fmt.Sprintf("this program's own (EMV contact, not approved by anyone), %d application(s)", len(t.config.Applications))
	switch {
	case t.keys == nil:
		return text + ", no certification authority keys: card data are not authenticated"
	case len(t.keys.Expired) > 0:
		return fmt.Sprintf("%s, %d %s authority key(s), expired and not used: %s", text, t.keys.Store.Len(), t.keys.Store.Environment(), strings.Join(t.keys.Expired, ", "))
	}
	return fmt.Sprintf("%s, %d %s authority key(s)", text, t.keys.Store.Len(), t.keys.Store.Environment())
}

// lane is the kernel of one reader: 9F1C and 9F16 are how the acquirer knows
// the register, 9F1E is the reader.
func (t *terminal) lane(terminalID, merchantID, serial string, e contact.Encrypter) *contact.Config {
	c := t.config
	c.Encrypter = e
	c.Data = append([]byte(nil), c.Data...)
	for _, d := range []struct {
		tag  tlv.Tag
		text string
		size int
	}{{0x9F1C, terminalID, 8}, {0x9F16, merchantID, 15}, {0x9F1E, serial, 8}} {
		if d.text != "" {
			// Alphanumeric of fixed length: cut, or filled with spaces (Book 4 Annex B).
			c.Data = tlv.Append(c.Data, d.tag, fmt.Appendf(nil, "%-*.*s", d.size, d.size, d.text))
		}
	}
	return &c
}

// unhex decodes what the configuration has checked.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("agent: unchecked configuration: " + err.Error())
	}
	return b
}

// tvr is a terminal action code, zeros when empty.
func tvr(s string) (t contact.TVR) {
	copy(t[:], unhex(s))
	return t
}
