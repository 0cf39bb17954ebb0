// Package config reads the agent's configuration: one TOML file, read
// strictly. An unknown key is an error that names its line and the nearest
// known key; a value out of its range says what would be in it.
//
// Start with [Load] (a file) or [Parse] (bytes). Both return a [Config] with
// every default filled in, or an [Error] that lists all faults at once.
//
// Secrets never stand in the file: a [Secret] is a reference "file:PATH" or
// "env:NAME" and is read by [Secret.Value] at the moment of use. It prints its
// reference, and `config show` adds a fingerprint.
//
// This package opens no port and starts nothing.
package config

import (
	"net"
	"path/filepath"
	"strings"
	"time"
)

// Config is the whole file. The zero value of each field means its default.
type Config struct {
	Agent    Agent      `toml:"agent" json:"agent"`
	API      API        `toml:"api" json:"api"`
	Register []Register `toml:"register" json:"register"`
	Device   []Device   `toml:"device" json:"device"`
	Acquirer Acquirer   `toml:"acquirer" json:"acquirer"`
	CRM      CRM        `toml:"crm" json:"crm"`
	Keys     Keys       `toml:"keys" json:"keys"`

	Kernel     Kernel     `toml:"kernel" json:"kernel"`
	Encryption Encryption `toml:"encryption" json:"encryption"`
}

// Agent is the program itself.
type Agent struct {
	// Data is the data directory. Default: /var/lib/tillbridge, on Windows
	// %ProgramData%\tillbridge\data.
	Data string `toml:"data" json:"data"`
	// Log is the least level written: debug, info, warn, error. Default info.
	Log string `toml:"log" json:"log"`
	// Control is the control channel of the command line: a unix socket path, or
	// a pipe name on Windows. Default: control.sock in Data.
	Control string `toml:"control" json:"control"`
	// Merchant and Store name the shop in events. Default empty.
	Merchant string `toml:"merchant" json:"merchant"`
	Store    string `toml:"store" json:"store"`
}

// API is the till's side.
type API struct {
	// Listen is a loopback address. Default 127.0.0.1:8710.
	Listen string `toml:"listen" json:"listen"`
	// Origins are the web origins that may call ("https://pos.example"). None by
	// default; "*" is refused.
	Origins []string `toml:"origins" json:"origins"`
	// Hosts are further Host headers that are accepted beside loopback names.
	Hosts []string `toml:"hosts" json:"hosts"`
}

// Register is a till lane: who may call and which device it uses.
type Register struct {
	ID string `toml:"id" json:"id"`
	// Device is the name of a [[device]].
	Device string `toml:"device" json:"device"`
	// Key is the register's API key, by reference.
	Key Secret `toml:"key" json:"key"`
	// Currency of the till, ISO 4217 letters. Default: any.
	Currency string `toml:"currency" json:"currency"`
	// TerminalID is how the acquirer knows this register, 1 to 8 characters.
	// Default: acquirer.terminal_id; with several registers each needs its own.
	TerminalID string `toml:"terminal_id" json:"terminal_id"`
	// Manager allows resolving payments in doubt with this key. Default false.
	Manager bool `toml:"manager" json:"manager"`
}

// Device is a pad, terminal or reader.
type Device struct {
	Name string `toml:"name" json:"name"`
	// Protocol is abecs, zvt, neo2 or ccid.
	Protocol string `toml:"protocol" json:"protocol"`
	// Ports are paths, globs or by-id links of serial ports, host:port of
	// network terminals, or "usb:VID:PID" in hex. A port named here may be
	// probed with bytes of the protocol.
	Ports []string `toml:"ports" json:"ports"`
	// Serial binds the device by its own serial number. Default: any.
	Serial string `toml:"serial" json:"serial"`
	// Params are the protocol's own settings, all text.
	Params map[string]string `toml:"params" json:"params"`
}

// Acquirer is who authorises, for devices that do not do it themselves.
type Acquirer struct {
	// Kind is iso8583, or empty for none.
	Kind string `toml:"kind" json:"kind"`
	Addr string `toml:"addr" json:"addr"`
	// CA is a PEM file of the only authorities that are trusted.
	CA         string `toml:"ca" json:"ca"`
	ServerName string `toml:"server_name" json:"server_name"`
	MerchantID string `toml:"merchant_id" json:"merchant_id"` // 15 characters
	TerminalID string `toml:"terminal_id" json:"terminal_id"` // 8 characters
	// Dialect is the message specification: ascii87 or bcd87. Default ascii87.
	Dialect string `toml:"dialect" json:"dialect"`
	// Timeout is how long an answer is waited for. Default 30s.
	Timeout Duration `toml:"timeout" json:"timeout"`
	// Inquiry says that the host answers inquiries. Default false: an
	// unanswered payment is reversed.
	Inquiry bool `toml:"inquiry" json:"inquiry"`
}

// CRM is where tokenized transactions go.
type CRM struct {
	// Kind is webhook, or empty for none.
	Kind   string `toml:"kind" json:"kind"`
	URL    string `toml:"url" json:"url"`
	Secret Secret `toml:"secret" json:"secret"`
	// CA is a PEM file of the only authorities that are trusted. Default: the
	// system's.
	CA string `toml:"ca" json:"ca"`
	// Timeout of one delivery. Default 10s.
	Timeout Duration `toml:"timeout" json:"timeout"`
}

// Keys says how secrets of this machine are sealed.
type Keys struct {
	// Sealer is auto, tpm, systemd-creds, dpapi or file. Default auto: the best
	// the machine has. "file" protects against nothing that reads the disk.
	Sealer string `toml:"sealer" json:"sealer"`
	// TPM is the device of the chip. Default /dev/tpmrm0.
	TPM string `toml:"tpm" json:"tpm"`
}

// Duration is a time.Duration written as text: "30s".
type Duration struct{ time.Duration }

// UnmarshalText reads the form of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	d.Duration = v
	return err
}

// MarshalText writes the form of time.Duration.String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// defaults fills what the file left out.
func (c *Config) defaults() {
	if c.Agent.Data == "" {
		c.Agent.Data = dataDir()
	}
	if c.Agent.Log == "" {
		c.Agent.Log = "info"
	}
	if c.Agent.Control == "" {
		c.Agent.Control = controlPath(c.Agent.Data)
	}
	if c.API.Listen == "" {
		c.API.Listen = "127.0.0.1:8710"
	}
	if c.Acquirer.Timeout.Duration == 0 {
		c.Acquirer.Timeout.Duration = 30 * time.Second
	}
	if c.Acquirer.Dialect == "" {
		c.Acquirer.Dialect = "ascii87"
	}
	if c.CRM.Timeout.Duration == 0 {
		c.CRM.Timeout.Duration = 10 * time.Second
	}
	c.Kernel.defaults()
	if c.Keys.Sealer == "" {
		c.Keys.Sealer = "auto"
	}
	if c.Keys.TPM == "" {
		c.Keys.TPM = "/dev/tpmrm0"
	}
}

// StorePath is the payment store's file.
func (c *Config) StorePath() string { return filepath.Join(c.Agent.Data, "tillbridge.db") }

// DeviceOf returns the device that a register uses.
func (c *Config) DeviceOf(register string) (Device, bool) {
	for _, r := range c.Register {
		if r.ID != register {
			continue
		}
		for _, d := range c.Device {
			if d.Name == r.Device {
				return d, true
			}
		}
	}
	return Device{}, false
}

// IsTCP reports whether a port of a device is host:port.
func IsTCP(port string) bool {
	if strings.HasPrefix(port, "usb:") || strings.ContainsAny(port, `/\*?`) {
		return false
	}
	host, p, err := net.SplitHostPort(port)
	return err == nil && host != "" && p != ""
}
