package config

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kernel is what the terminal is, for readers without a kernel of their own
// (protocol ccid). The names in brackets are those of EMV Book 4 Annex A and
// Book 3 Annex A. Nothing is approved without the issuer: the floor limit is
// 0, and there is no PIN, because a plain reader has no secure keys.
type Kernel struct {
	// Country is the ISO 3166 number of the shop's country (9F1A): "276".
	Country string `toml:"country" json:"country"`
	// TerminalType is 9F35. Default "21": attended, online only.
	TerminalType string `toml:"terminal_type" json:"terminal_type"`
	// Capabilities is 9F33. Default "200848": chip with contacts, no
	// verification, DDA and CDA. "202848" adds the signature, where somebody
	// checks it.
	Capabilities string `toml:"capabilities" json:"capabilities"`
	// Additional is 9F40. Default "6000002000": goods, services, a display for
	// the cashier.
	Additional string `toml:"additional_capabilities" json:"additional_capabilities"`
	// MerchantCategory is 9F15, four digits. Default none.
	MerchantCategory string `toml:"merchant_category" json:"merchant_category"`
	// CAKeys is a JSON file of certification authority keys and revoked issuer
	// certificates. Default none: no card's data are authenticated here, and the
	// issuer is told so.
	CAKeys string `toml:"ca_keys" json:"ca_keys"`
	// Environment is live or test: keys of the other are refused. Default live.
	Environment string `toml:"environment" json:"environment"`
	// Application are the card applications that the acquirer allows, in the
	// order in which they are tried.
	Application []Application `toml:"application" json:"application"`
}

// Application is one card application.
type Application struct {
	// AID is 5 to 16 bytes in hex (9F06). A card's longer name matches.
	AID string `toml:"aid" json:"aid"`
	// Exact refuses a card's longer names. Default false.
	Exact bool `toml:"exact" json:"exact"`
	// Version is the application version number of the terminal (9F09), two
	// bytes in hex, as the acquirer gives it.
	Version string `toml:"version" json:"version"`
	// TACDefault, TACDenial and TACOnline are terminal action codes, five bytes
	// in hex. Default zeros: the card's own codes decide.
	TACDefault string `toml:"tac_default" json:"tac_default"`
	TACDenial  string `toml:"tac_denial" json:"tac_denial"`
	TACOnline  string `toml:"tac_online" json:"tac_online"`
	// FloorLimit is 9F1B in minor units and must be 0.
	FloorLimit int `toml:"floor_limit" json:"floor_limit"`
	// DDOL and TDOL are used when the card has none, in hex. Default 9F3704 and
	// none.
	DDOL string `toml:"ddol" json:"ddol"`
	TDOL string `toml:"tdol" json:"tdol"`
}

// Set reports whether the file has the section, with more than what has a default.
func (k *Kernel) Set() bool {
	return k.Country != "" || len(k.Application) > 0 || k.CAKeys != "" || k.MerchantCategory != ""
}

// Encryption is how card data of readers that do not encrypt become
// ciphertext: in this process, before anything else sees them.
type Encryption struct {
	// Kind is dukpt (the key that `keys import` loaded), jwe (the acquirer's
	// public key), or empty for none.
	Kind string `toml:"kind" json:"kind"`
	// Key is the serial number of the imported key, 16 hex digits (dukpt).
	// Default: the one that is loaded.
	Key string `toml:"key" json:"key"`
	// PublicKey is a PEM file with the acquirer's key (jwe).
	PublicKey string `toml:"public_key" json:"public_key"`
	// Thumbprint is the SHA-256 of that key's PKIX form in hex, from the acquirer
	// by another way than the file (jwe).
	Thumbprint string `toml:"thumbprint" json:"thumbprint"`
	// KeyID is the name by which the acquirer knows it (jwe).
	KeyID string `toml:"key_id" json:"key_id"`
}

var (
	decimal4  = regexp.MustCompile(`^[0-9]{4}$`)
	country   = regexp.MustCompile(`^[0-9]{3}$`)
	keySerial = regexp.MustCompile(`^[0-9A-Fa-f]{16}$`)
)

// PlainReader reports whether devices of a protocol hand out clear card data.
func PlainReader(protocol string) bool { return protocol == "ccid" }

// checkReaders judges the sections for readers without a kernel of their own.
func (c *Config) checkReaders(bad faultFunc) {
	for i, d := range c.Device {
		if PlainReader(d.Protocol) && len(d.Serial) > 64 {
			bad(fmt.Sprintf("device[%d].serial", i), "has %d characters, and the message to the acquirer has room for 64: leave it out, and the device's name stands for it", len(d.Serial))
		}
	}
	for i, r := range c.Register {
		d, ok := c.DeviceOf(r.ID)
		if !ok || !PlainReader(d.Protocol) {
			continue
		}
		where := fmt.Sprintf("register[%d].device", i)
		if !c.Kernel.Set() {
			bad(where, "%q is a reader without a kernel: add a [kernel] with country and [[kernel.application]] as the acquirer gives them", d.Name)
		}
		if c.Encryption.Kind == "" {
			bad(where, "%q hands out card data in the clear and nothing encrypts them: add [encryption] with kind = \"dukpt\" (after `tillbridge keys import`) or \"jwe\"", d.Name)
		}
	}
	if c.Kernel.Set() {
		c.Kernel.check(bad)
	}
	c.Encryption.check(bad)
}

func (k *Kernel) check(bad faultFunc) {
	if !country.MatchString(k.Country) || k.Country == "000" {
		bad("kernel.country", `%q is not a number of ISO 3166 such as "276"`, k.Country)
	}
	bytes := func(key, v string, n int) []byte {
		b, err := hex.DecodeString(v)
		if err != nil || len(b) != n {
			bad(key, "%q is not %d bytes in hex", v, n)
			return nil
		}
		return b
	}
	if t := bytes("kernel.terminal_type", k.TerminalType, 1); t != nil && !slices.Contains([]byte{0x21, 0x22, 0x24, 0x25}, t[0]) {
		bad("kernel.terminal_type", `%q is none of "21", "22", "24", "25": this agent serves a merchant's terminal that can go online`, k.TerminalType)
	}
	if b := bytes("kernel.capabilities", k.Capabilities, 3); b != nil {
		switch {
		case b[0] != 0x20:
			bad("kernel.capabilities", `%q: byte 1 is 20, chip with contacts: a plain reader takes neither swipes nor keyed numbers`, k.Capabilities)
		case b[1]&^0x28 != 0:
			bad("kernel.capabilities", `%q: byte 2 has bits other than signature (20) and no verification (08): a plain reader has no secure keys for a PIN`, k.Capabilities)
		case b[2]&^0x48 != 0:
			bad("kernel.capabilities", `%q: byte 3 has bits other than DDA (40) and CDA (08): data that static authentication accepts can be copied, and a plain reader keeps no card`, k.Capabilities)
		}
	}
	bytes("kernel.additional_capabilities", k.Additional, 5)
	if k.MerchantCategory != "" && !decimal4.MatchString(k.MerchantCategory) {
		bad("kernel.merchant_category", "%q is not four digits", k.MerchantCategory)
	}
	if k.Environment != "live" && k.Environment != "test" {
		bad("kernel.environment", "%q is neither live nor test", k.Environment)
	}
	if len(k.Application) == 0 {
		bad("kernel.application", "there is none: add a [[kernel.application]] with aid and version for each card application that the acquirer allows")
	}
	seen := map[string]bool{}
	for i, a := range k.Application {
		key := func(name string) string { return fmt.Sprintf("kernel.application[%d].%s", i, name) }
		id := strings.ToUpper(a.AID)
		if b, err := hex.DecodeString(id); err != nil || len(b) < 5 || len(b) > 16 {
			bad(key("aid"), `%q is not 5 to 16 bytes in hex such as "A0000000031010"`, a.AID)
		} else if seen[id] {
			bad(key("aid"), "%q is there twice", a.AID)
		}
		seen[id] = true
		bytes(key("version"), a.Version, 2)
		for _, code := range [][2]string{{"tac_default", a.TACDefault}, {"tac_denial", a.TACDenial}, {"tac_online", a.TACOnline}} {
			if code[1] != "" {
				bytes(key(code[0]), code[1], 5)
			}
		}
		if a.FloorLimit != 0 {
			bad(key("floor_limit"), "%d: this agent asks the issuer for every payment, set 0 or leave it out", a.FloorLimit)
		}
		for _, list := range [][2]string{{"ddol", a.DDOL}, {"tdol", a.TDOL}} {
			if b, err := hex.DecodeString(list[1]); err != nil || len(b) > 252 {
				bad(key(list[0]), "%q is not a data object list in hex such as \"9F3704\"", list[1])
			}
		}
	}
}

func (e *Encryption) check(bad faultFunc) {
	jwe := [][2]string{{"public_key", e.PublicKey}, {"thumbprint", e.Thumbprint}, {"key_id", e.KeyID}}
	switch e.Kind {
	case "":
		for _, k := range append(jwe, [2]string{"key", e.Key}) {
			if k[1] != "" {
				bad("encryption.kind", `is missing: "dukpt" or "jwe"`)
				return
			}
		}
	case "dukpt":
		if e.Key != "" && !keySerial.MatchString(e.Key) {
			bad("encryption.key", "%q is not the serial number of an imported key, 16 hex digits: see `tillbridge keys status`", e.Key)
		}
		for _, k := range jwe {
			if k[1] != "" {
				bad("encryption."+k[0], `belongs to kind = "jwe"`)
			}
		}
	case "jwe":
		if e.Key != "" {
			bad("encryption.key", `belongs to kind = "dukpt"; the acquirer's public key is public_key`)
		}
		for _, k := range jwe {
			if k[1] == "" {
				bad("encryption."+k[0], "is missing: the acquirer gives key, thumbprint and key id")
			}
		}
		if len(e.KeyID) > 64 {
			bad("encryption.key_id", "has %d characters: 1 to 64", len(e.KeyID))
		} else if strings.ContainsFunc(e.KeyID, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) }) {
			// JSON writes one of them as six, and the message to the acquirer is short.
			bad("encryption.key_id", `has a space, a letter beyond ASCII or one of "\<>&: copy the name as the acquirer wrote it`)
		}
		if b, err := hex.DecodeString(e.Thumbprint); e.Thumbprint != "" && (err != nil || len(b) != 32) {
			bad("encryption.thumbprint", "is not a SHA-256 in hex, 64 digits")
		}
	default:
		bad("encryption.kind", `%q is not a kind of encryption: dukpt, jwe`, e.Kind)
	}
}

// defaults of the two sections.
func (k *Kernel) defaults() {
	for _, d := range []struct {
		to    *string
		value string
	}{
		{&k.TerminalType, "21"}, {&k.Capabilities, "200848"}, {&k.Additional, "6000002000"}, {&k.Environment, "live"},
	} {
		if *d.to == "" {
			*d.to = d.value
		}
	}
}
