package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reader is a shop with a plain reader, its kernel and its encryption.
const reader = `
[[register]]
id = "lane1"
device = "reader1"
key = "file:/etc/tillbridge/lane1.key"

[[device]]
name = "reader1"
protocol = "ccid"
ports = ["usb:08E6:3437"]

[acquirer]
kind = "iso8583"
addr = "host.example:5000"
ca = "/etc/tillbridge/acquirer.pem"
merchant_id = "000000000000001"
terminal_id = "TERM0001"

[kernel]
country = "276"
merchant_category = "5411"
ca_keys = "/etc/tillbridge/ca-keys.json"

[[kernel.application]]
aid = "A0000000031010"
version = "0096"
tac_online = "DC4004F800"

[[kernel.application]]
aid = "A0000000041010"
version = "0002"

[encryption]
kind = "dukpt"
key = "1234567890123456"
`

func TestReaderDefaultsAskTheIssuer(t *testing.T) {
	c, err := Parse("x.toml", []byte(reader))
	if err != nil {
		t.Fatal(err)
	}
	k := c.Kernel
	if !k.Set() || k.TerminalType != "21" || k.Capabilities != "200848" || k.Environment != "live" || k.Application[0].FloorLimit != 0 {
		t.Errorf("defaults: %+v", k)
	}
	if c, err = Parse("x.toml", []byte(good)); err != nil || c.Kernel.Set() {
		t.Errorf("a shop without readers has a kernel: %v", err)
	}
}

func TestReaderFaults(t *testing.T) {
	jwe := "kind = \"jwe\"\npublic_key = \"a.pem\"\nkey_id = \"k1\"\nthumbprint = \"" + strings.Repeat("ab", 32) + "\""
	dukpt := "kind = \"dukpt\"\nkey = \"1234567890123456\""
	for _, c := range []struct {
		name, old, new, key, text string
		line                      int
	}{
		{"no encryption", "[encryption]\n" + dukpt, "", "register[0].device", "nothing encrypts them", 4},
		{"no kernel", reader[strings.Index(reader, "[kernel]"):strings.Index(reader, "[encryption]")], "", "register[0].device", "add a [kernel]", 4},
		{"no application", reader[strings.Index(reader, "[[kernel."):strings.Index(reader, "[encryption]")], "", "kernel.application", "add a [[kernel.application]]", 19},
		{"country as letters", `"276"`, `"DE"`, "kernel.country", "ISO 3166", 20},
		{"unknown key", "merchant_category", "merchant_categry", "kernel.merchant_categry", `did you mean "merchant_category"?`, 21},
		{"unknown key of an application", `tac_online`, `tac_onlin`, "kernel.application.tac_onlin", `did you mean "tac_online"?`, 27},
		{"category", `"5411"`, `"541"`, "kernel.merchant_category", "four digits", 21},
		{"offline-only terminal", `country = "276"`, "country = \"276\"\nterminal_type = \"23\"", "kernel.terminal_type", "can go online", 21},
		{"PIN without a pad", `country = "276"`, "country = \"276\"\ncapabilities = \"20E848\"", "kernel.capabilities", "no secure keys", 21},
		{"swipes", `country = "276"`, "country = \"276\"\ncapabilities = \"600848\"", "kernel.capabilities", "neither swipes", 21},
		{"static authentication", `country = "276"`, "country = \"276\"\ncapabilities = \"2008C8\"", "kernel.capabilities", "can be copied", 21},
		{"environment", `country = "276"`, "country = \"276\"\nenvironment = \"prod\"", "kernel.environment", "live nor test", 21},
		{"AID", `"A0000000041010"`, `"A00000000"`, "kernel.application[1].aid", "5 to 16 bytes", 30},
		{"AID twice", `"A0000000041010"`, `"a0000000031010"`, "kernel.application[1].aid", "twice", 30},
		{"version", `"0002"`, `"2"`, "kernel.application[1].version", "2 bytes", 31},
		{"action code", `"DC4004F800"`, `"DC4004F8"`, "kernel.application[0].tac_online", "5 bytes", 27},
		{"floor limit", `version = "0002"`, "version = \"0002\"\nfloor_limit = 5000", "kernel.application[1].floor_limit", "asks the issuer", 32},
		{"list", `version = "0002"`, "version = \"0002\"\nddol = \"9F370\"", "kernel.application[1].ddol", "data object list", 32},
		{"kind", `"dukpt"`, `"aes"`, "encryption.kind", "dukpt, jwe", 34},
		{"serial of the key", `"1234567890123456"`, `"123"`, "encryption.key", "16 hex digits", 35},
		{"key of the other kind", dukpt, "kind = \"dukpt\"\npublic_key = \"a.pem\"", "encryption.public_key", `belongs to kind = "jwe"`, 35},
		{"JWE without a pin", dukpt, strings.Replace(jwe, "thumbprint", "#thumbprint", 1), "encryption.thumbprint", "is missing", 33},
		{"key id that JSON makes longer", dukpt, strings.Replace(jwe, `"k1"`, `"<k1>"`, 1), "encryption.key_id", "as the acquirer wrote", 36},
		{"serial too long for the message", `protocol = "ccid"`, `protocol = "ccid"` + "\nserial = \"" + strings.Repeat("S", 65) + `"`, "device[0].serial", "room for 64", 10},
		{"key id", dukpt, strings.Replace(jwe, `"k1"`, `"`+strings.Repeat("k", 65)+`"`, 1), "encryption.key_id", "1 to 64", 36},
		{"thumbprint", dukpt, strings.Replace(jwe, "abab", "ab", 1), "encryption.thumbprint", "64 digits", 37},
		{"JWE with a serial", dukpt, jwe + "\nkey = \"1234567890123456\"", "encryption.key", "public_key", 38},
		{"kind forgotten", dukpt, `key = "1234567890123456"`, "register[0].device", "nothing encrypts them", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(reader, c.old, c.new, 1)
			if text == reader {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("x.toml", []byte(text))
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			f := e.Faults[0]
			if f.Key != c.key || !strings.Contains(f.Text, c.text) || f.Line != c.line {
				t.Errorf("got line %d, key %q: %s", f.Line, f.Key, f.Text)
			}
		})
	}
	if _, err := Parse("x.toml", []byte(strings.Replace(reader, dukpt, jwe, 1))); err != nil {
		t.Error(err)
	}
}

// TestKernelOfKeysAlone: a section that lacks both of what it needs is not taken
// for none.
func TestKernelOfKeysAlone(t *testing.T) {
	for _, line := range []string{`ca_keys = "x.json"`, `merchant_category = "5411"`} {
		_, err := Parse("x.toml", []byte(good+"\n[kernel]\n"+line+"\n"))
		if err == nil || !strings.Contains(err.Error(), "kernel.country") || !strings.Contains(err.Error(), "kernel.application") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestRefuseNamesTheLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.toml")
	if err := os.WriteFile(path, []byte(reader), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := Refuse(path, "kernel.ca_keys", errors.New("no such file")).Error(); !strings.Contains(text, "line 22: kernel.ca_keys: no such file") {
		t.Error(text)
	}
}

// The examples of the README are configurations.
func TestExamplesOfTheREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```toml\n")[1:]
	if len(blocks) != 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	acquirer := good[strings.Index(good, "[acquirer]"):strings.Index(good, "[crm]")]
	for i, more := range []string{"", acquirer} {
		example, _, _ := strings.Cut(blocks[i], "```")
		if _, err := Parse("README.md", []byte(more+example)); err != nil {
			t.Error(err)
		}
	}
}
