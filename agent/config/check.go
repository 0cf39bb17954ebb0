package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

var (
	identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)
	usbPort    = regexp.MustCompile(`^usb:[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$`)
	currency   = regexp.MustCompile(`^[A-Z]{3}$`)
	protocols  = []string{"abecs", "zvt", "neo2", "ccid"}
	sealers    = []string{"auto", "tpm", "systemd-creds", "dpapi", "file"}
	levels     = []string{"debug", "info", "warn", "error"}
)

// check returns what the types cannot say.
func (c *Config) check() []Fault {
	var out []Fault
	bad := func(key, format string, args ...any) {
		out = append(out, Fault{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	if !slices.Contains(levels, c.Agent.Log) {
		bad("agent.log", "%q is not a level: %s", c.Agent.Log, strings.Join(levels, ", "))
	}
	if runtime.GOOS != "windows" && len(c.Agent.Control) > 100 {
		bad("agent.control", "the socket path has %d characters and the system takes 100: set a shorter one", len(c.Agent.Control))
	}
	c.checkAPI(bad)
	c.checkLanes(bad)
	c.checkAcquirer(bad)
	c.checkCRM(bad)
	c.checkReaders(bad)
	if !slices.Contains(sealers, c.Keys.Sealer) {
		bad("keys.sealer", "%q is not a sealer: %s", c.Keys.Sealer, strings.Join(sealers, ", "))
	}
	return out
}

type faultFunc func(key, format string, args ...any)

func (c *Config) checkAPI(bad faultFunc) {
	host, port, err := net.SplitHostPort(c.API.Listen)
	switch ip := net.ParseIP(host); {
	case err != nil || port == "":
		bad("api.listen", "%q is not address:port, such as 127.0.0.1:8710", c.API.Listen)
	case host == "localhost" || ip != nil && ip.IsLoopback():
	default:
		bad("api.listen", "%q is not a loopback address: only programs on this machine may call; use 127.0.0.1:%s", c.API.Listen, port)
	}
	for _, o := range c.API.Origins {
		u, err := url.Parse(o)
		if o == "*" || err != nil || u.Host == "" || u.Path != "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("api.origins", "%q is not an origin such as https://pos.example (\"*\" is never accepted)", o)
		}
	}
}

func (c *Config) checkLanes(bad faultFunc) {
	devices := map[string]bool{}
	for i, d := range c.Device {
		key := func(name string) string { return fmt.Sprintf("device[%d].%s", i, name) }
		if !identifier.MatchString(d.Name) {
			bad(key("name"), "%q is not a name: 1 to 32 letters, digits, '.', '_' or '-'", d.Name)
		}
		if devices[d.Name] {
			bad(key("name"), "%q is the name of two devices", d.Name)
		}
		devices[d.Name] = true
		if !slices.Contains(protocols, d.Protocol) {
			bad(key("protocol"), "%q is not a protocol: %s", d.Protocol, strings.Join(protocols, ", "))
		}
		if len(d.Ports) == 0 {
			bad(key("ports"), `is empty: name a path, a glob, host:port or "usb:VID:PID"`)
		}
		for _, p := range d.Ports {
			if strings.HasPrefix(p, "usb:") && !usbPort.MatchString(p) {
				bad(key("ports"), `%q is not "usb:VID:PID" with four hex digits each`, p)
			} else if p == "" {
				bad(key("ports"), "holds an empty port")
			}
		}
	}
	registers, used := map[string]bool{}, map[string]string{}
	keys, terminals := map[Secret]string{}, map[string]string{}
	for i, r := range c.Register {
		key := func(name string) string { return fmt.Sprintf("register[%d].%s", i, name) }
		if !identifier.MatchString(r.ID) {
			bad(key("id"), "%q is not an id: 1 to 32 letters, digits, '.', '_' or '-'", r.ID)
		}
		if registers[r.ID] {
			bad(key("id"), "%q is the id of two registers", r.ID)
		}
		registers[r.ID] = true
		if !devices[r.Device] {
			bad(key("device"), "there is no [[device]] named %q", r.Device)
		} else if other, ok := used[r.Device]; ok {
			bad(key("device"), "device %q belongs to register %q already", r.Device, other)
		}
		used[r.Device] = r.ID
		if r.Key == "" {
			bad(key("key"), `is missing: name a file with the register's key, key = "file:/etc/tillbridge/%s.key"`, r.ID)
		} else if f := r.Key.fault(); f != "" {
			bad(key("key"), "%s", f)
		} else if other, ok := keys[r.Key]; ok {
			bad(key("key"), "is also the key of register %q: each register has its own", other)
		}
		keys[r.Key] = r.ID
		if len(r.TerminalID) > 8 {
			bad(key("terminal_id"), "has %d characters: 1 to 8", len(r.TerminalID))
		}
		id := r.TerminalID
		if id == "" {
			id = c.Acquirer.TerminalID
		}
		if d, _ := c.DeviceOf(r.ID); c.Acquirer.Kind != "" && d.Protocol != "zvt" && id != "" {
			if other, ok := terminals[id]; ok {
				bad(key("terminal_id"), "%q is also the terminal of register %q: STANs would meet", id, other)
			}
			terminals[id] = r.ID
		}
		if r.Currency != "" && !currency.MatchString(r.Currency) {
			bad(key("currency"), "%q is not an ISO 4217 code such as EUR", r.Currency)
		}
	}
}

func (c *Config) checkAcquirer(bad faultFunc) {
	a := c.Acquirer
	if a.Kind == "" {
		for _, d := range c.Device {
			if d.Protocol != "zvt" && d.Protocol != "" {
				bad("acquirer.kind", "is missing, and device %q needs an acquirer: \"iso8583\"", d.Name)
				return
			}
		}
		return
	}
	if a.Kind != "iso8583" {
		bad("acquirer.kind", "%q is not a kind of acquirer: iso8583", a.Kind)
		return
	}
	if _, _, err := net.SplitHostPort(a.Addr); err != nil {
		bad("acquirer.addr", "%q is not host:port", a.Addr)
	}
	if a.CA == "" {
		bad("acquirer.ca", "is missing: name the PEM file of the acquirer's certificate authority")
	}
	if len(a.MerchantID) == 0 || len(a.MerchantID) > 15 {
		bad("acquirer.merchant_id", "has %d characters: 1 to 15", len(a.MerchantID))
	}
	if len(a.TerminalID) == 0 || len(a.TerminalID) > 8 {
		bad("acquirer.terminal_id", "has %d characters: 1 to 8", len(a.TerminalID))
	}
	if a.Dialect != "ascii87" && a.Dialect != "bcd87" {
		bad("acquirer.dialect", "%q is not a dialect: ascii87, bcd87", a.Dialect)
	}
	within(bad, "acquirer.timeout", a.Timeout.Duration, time.Second, 2*time.Minute)
}

func (c *Config) checkCRM(bad faultFunc) {
	r := c.CRM
	if r.Kind == "" {
		return
	}
	if r.Kind != "webhook" {
		bad("crm.kind", "%q is not a kind of CRM: webhook", r.Kind)
		return
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" {
		bad("crm.url", "%q is not a URL", r.URL)
	} else if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		bad("crm.url", "%q is not https: only a loopback address may be reached without TLS", r.URL)
	}
	if r.Secret == "" {
		bad("crm.secret", `is missing: the webhook's signing secret, secret = "file:PATH"`)
	} else if f := r.Secret.fault(); f != "" {
		bad("crm.secret", "%s", f)
	}
	within(bad, "crm.timeout", r.Timeout.Duration, time.Second, 2*time.Minute)
}

func within(bad faultFunc, key string, d, low, high time.Duration) {
	if d < low || d > high {
		bad(key, "%s is not between %s and %s", d, low, high)
	}
}
