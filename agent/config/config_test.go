package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `
[agent]
data = "/tmp/tb"

[api]
listen = "127.0.0.1:8710"
origins = ["https://pos.example"]

[[register]]
id = "lane1"
device = "pad1"
key = "file:/etc/tillbridge/lane1.key"

[[device]]
name = "pad1"
protocol = "abecs"
ports = ["/dev/ttyACM*"]

[acquirer]
kind = "iso8583"
addr = "host.example:5000"
ca = "/etc/tillbridge/acquirer.pem"
merchant_id = "000000000000001"
terminal_id = "TERM0001"
timeout = "25s"

[crm]
kind = "webhook"
url = "https://crm.example/hook"
secret = "env:CRM_SECRET"
`

func TestParse(t *testing.T) {
	c, err := Parse("x.toml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Acquirer.Timeout.Duration != 25*time.Second || c.CRM.Timeout.Duration != 10*time.Second || c.Agent.Log != "info" {
		t.Errorf("timeout %v, crm %v, log %q", c.Acquirer.Timeout, c.CRM.Timeout, c.Agent.Log)
	}
	if d, ok := c.DeviceOf("lane1"); !ok || d.Name != "pad1" {
		t.Errorf("device of lane1: %v %v", d, ok)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, old, new, key, text string
		line                      int
	}{
		{"unknown key", `listen =`, `lisen =`, "api.lisen", `did you mean "listen"?`, 6},
		{"unknown key in a list", `protocol = "abecs"`, `protocl = "abecs"`, "device.protocl", `did you mean "protocol"?`, 16},
		{"unknown table", "[crm]", "[crn]", "crn", `did you mean "crm"?`, 27},
		{"not loopback", "127.0.0.1:8710", "0.0.0.0:8710", "api.listen", "not a loopback", 6},
		{"any origin", "https://pos.example", "*", "api.origins", "never accepted", 7},
		{"secret as text", "env:CRM_SECRET", "hunter2", "crm.secret", "never as text", 30},
		{"key as text", "file:/etc/tillbridge/lane1.key", "abc", "register[0].key", "never as text", 12},
		{"unknown device", `device = "pad1"`, `device = "pad2"`, "register[0].device", `no [[device]] named "pad2"`, 11},
		{"unknown protocol", `"abecs"`, `"abcs"`, "device[0].protocol", "abecs, zvt", 16},
		{"http crm", "https://crm.example", "http://crm.example", "crm.url", "not https", 29},
		{"timeout out of range", `"25s"`, `"25ms"`, "acquirer.timeout", "between 1s and 2m0s", 25},
		{"timeout not a time", `"25s"`, `"soon"`, "acquirer.timeout", "", 25},
		{"no acquirer", `kind = "iso8583"`, ``, "acquirer.kind", "needs an acquirer", 19},
		{"not toml", `[api]`, `[api`, "", "", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("x.toml", []byte(text))
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			f := e.Faults[0]
			if c.key != "" && f.Key != c.key || !strings.Contains(f.Text, c.text) || f.Line != c.line {
				t.Errorf("got line %d, key %q: %s", f.Line, f.Key, f.Text)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows a secret")
			}
		})
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(path, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := Secret("file:" + path).Value()
	if err != nil || v != "s3cret" {
		t.Errorf("value %q, %v", v, err)
	}
	if f := Secret("file:" + path).Fingerprint(); len(f) != 8 {
		t.Errorf("fingerprint %q", f)
	}
	if _, err := Secret("s3cret").Value(); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v", err)
	}
	t.Setenv("EMPTY", "")
	if _, err := Secret("env:EMPTY").Value(); err == nil {
		t.Error("an empty secret is accepted")
	}
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("[[device]]\n[[device]]\nname=1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("x", data)
		if (c == nil) == (err == nil) {
			t.Fatal("neither or both of configuration and error")
		}
	})
}

func TestSchemaExplainsEveryKey(t *testing.T) {
	n := 0
	for _, k := range Schema() {
		n++
		if k.Text == "" {
			t.Errorf("%s has no text", k.Key)
		}
	}
	if n != len(meaning) {
		t.Errorf("%d keys and %d meanings", n, len(meaning))
	}
}
