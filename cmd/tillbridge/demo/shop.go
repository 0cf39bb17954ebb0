package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tillbridge/agent/api/client"
)

// shop is everything that stands in it.
type shop struct {
	o      Options
	dir    string
	tell   *narrator
	launch *launcher
	result *Result

	pad, zvt, reader, acquirer, crm, agent *process

	counter *process // the agent of lane 3

	lane1, lane2, lane3 *till
	control             string // of the agent
	canaries            []canary
	first               payment // the morning's first sale
}

func (s *shop) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// open starts everything and the agent.
func (s *shop) open(ctx context.Context) error {
	s.tell.chapter("The shop opens")
	for _, d := range []string{"logs", "agent", "pad", "books"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.acquirer, err = s.launch.start(ctx, "acquirer", "sim", "acquirer", "--books", s.path("books", "acquirer.json")); err != nil {
		return err
	}
	if err := os.WriteFile(s.path("acquirer.pem"), []byte(s.acquirer.text("ca")), 0o600); err != nil {
		return err
	}
	s.tell.say("ok", "acquirer: ISO 8583 over TLS on %s", s.acquirer.text("addr"))

	secret := "whsec_" + base64.StdEncoding.EncodeToString(random(32))
	if err := os.WriteFile(s.path("crm.secret"), []byte(secret), 0o600); err != nil {
		return err
	}
	if s.crm, err = s.launch.start(ctx, "crm", "sim", "crm", "--ledger", s.path("books", "crm.json"),
		"--secret-file", s.path("crm.secret"), "--record", s.path("books", "crm-requests.txt")); err != nil {
		return err
	}
	s.tell.say("ok", "CRM: signed webhooks on http://%s", s.crm.text("addr"))

	if err := s.openPad(ctx); err != nil {
		return err
	}
	if s.zvt, err = s.launch.start(ctx, "terminal", "sim", "zvt", "--books", s.path("books", "terminal.json")); err != nil {
		return err
	}
	s.tell.say("ok", "terminal: ZVT on %s", s.zvt.text("addr"))
	if err := s.writeConfig(); err != nil {
		return err
	}
	return s.startAgent(ctx)
}

// openPad starts the pad and loads its keys, as an injection room does.
func (s *shop) openPad(ctx context.Context) (err error) {
	if s.pad, err = s.launch.start(ctx, "pad", "sim", "pad", "--dir", s.path("pad"), "--link", "pad0"); err != nil {
		return err
	}
	for _, use := range []string{"data", "pin"} {
		ksn := "FFFF" + strings.ToUpper(hex.EncodeToString(random(5))) + "E00000"
		var key struct {
			Key string `json:"key"`
		}
		if err := s.acquirer.command(ctx, map[string]any{"cmd": "initial_key", "ksn": ksn}, &key); err != nil {
			return err
		}
		s.canaries = append(s.canaries, keyCanary(key.Key))
		if err := s.pad.command(ctx, map[string]any{"do": "load-key", "use": use, "slot": 0, "ksn": ksn, "key": key.Key}, nil); err != nil {
			return err
		}
	}
	pans, err := cardNumbers()
	if err != nil {
		return err
	}
	for _, pan := range pans {
		s.canaries = append(s.canaries, cardCanary(pan))
	}
	s.tell.say("ok", "PIN pad: ABECS on %s, keys made for this run", s.pad.text("addr"))
	return nil
}

func (s *shop) writeConfig() error {
	keys := map[string]string{"lane1": hex.EncodeToString(random(24)), "lane2": hex.EncodeToString(random(24))}
	for lane, key := range keys {
		if err := os.WriteFile(s.path(lane+".key"), []byte(key), 0o600); err != nil {
			return err
		}
	}
	port := s.path("pad", "pad*")
	if addr := s.pad.text("addr"); !strings.HasPrefix(addr, s.dir) {
		port = addr // no ptys here: the pad speaks TCP
	}
	text := fmt.Sprintf(`# Written by "tillbridge demo".
[agent]
data = %q
log = "debug"
merchant = "demo"
store = "0001"

[api]
listen = "127.0.0.1:0"

[[register]]
id = "lane1"
device = "pad1"
key = %q
terminal_id = "DEMO0001"
currency = "EUR"

[[register]]
id = "lane2"
device = "terminal1"
key = %q
currency = "EUR"

[[device]]
name = "pad1"
protocol = "abecs"
ports = [%q]

[[device]]
name = "terminal1"
protocol = "zvt"
ports = [%q]

[acquirer]
kind = "iso8583"
addr = %q
ca = %q
server_name = "localhost"
merchant_id = "DEMOSHOP0000001"
terminal_id = "DEMO0001"
timeout = "12s"

[crm]
kind = "webhook"
url = "http://%s/events"
secret = %q
timeout = "5s"
`, s.path("agent"), "file:"+s.path("lane1.key"), "file:"+s.path("lane2.key"), port, s.zvt.text("addr"),
		s.acquirer.text("addr"), s.path("acquirer.pem"), s.crm.text("addr"), "file:"+s.path("crm.secret"))
	s.lane1 = &till{key: keys["lane1"], register: "lane1"}
	s.lane2 = &till{key: keys["lane2"], register: "lane2"}
	return os.WriteFile(s.path("tillbridge.toml"), []byte(text), 0o600)
}

// startAgent starts the agent and tells the tills where it is.
func (s *shop) startAgent(ctx context.Context) (err error) {
	if s.agent, err = s.launch.start(ctx, "agent", "run", "--ready-line", "--config", s.path("tillbridge.toml")); err != nil {
		return err
	}
	ms, _ := s.agent.ready["start_ms"].(float64)
	s.result.Agent.StartMS = max(s.result.Agent.StartMS, int64(ms))
	base := "http://" + s.agent.text("addr")
	s.lane1.base, s.lane2.base = base, base
	s.control = s.agent.text("control")
	s.tell.say("ok", "agent: ready after %d ms, tills call %s", int64(ms), base)
	return s.devicesReady(ctx, 30*time.Second)
}

// devicesReady waits until both devices are open.
func (s *shop) devicesReady(ctx context.Context, limit time.Duration) error {
	cl := client.Local(s.control)
	defer cl.Close()
	deadline := time.Now().Add(limit)
	for {
		list, err := cl.Devices(ctx)
		text := ""
		ready := err == nil
		for _, d := range list {
			if d.State != "idle" && d.State != "busy" {
				ready = false
				text = d.ID + " is " + d.State + ": " + d.Detail
			}
		}
		if ready {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the devices are not ready after %s: %s%v", limit, text, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// customer queues what the next customer does at the pad.
func (s *shop) customer(ctx context.Context, steps ...map[string]any) error {
	for _, step := range steps {
		if !s.o.Hurry && step["after_ms"] == nil {
			step["after_ms"] = 250
		}
		if err := s.pad.command(ctx, step, nil); err != nil {
			return err
		}
	}
	return nil
}

func do(what, card string) map[string]any {
	m := map[string]any{"do": what}
	if card != "" {
		m["card"] = card
	}
	return m
}

// chip is a customer who inserts a card and knows its PIN.
func (s *shop) chip(ctx context.Context, card string) error {
	return s.customer(ctx, do("insert", card), do("pin", ""), do("remove", ""))
}

// sale plays a sale on the pad's lane and expects how it ends.
func (s *shop) sale(ctx context.Context, t *till, minor int64, customer, want, story string) (payment, error) {
	p, err := t.begin(ctx, t.newKey(), minor, customer)
	if err != nil {
		return p, err
	}
	if p, err = t.until(ctx, p.ID, 90*time.Second, payment.settled); err != nil {
		return p, err
	}
	s.payment(p, story)
	return p, expect("payment "+p.ID+" ("+p.Reason+")", p.Status, want)
}

func (s *shop) payment(p payment, story string) {
	mark := "ok"
	if p.Status != "succeeded" {
		mark = "no"
	}
	card := ""
	if p.Card.Last4 != "" {
		card = " " + strings.TrimSpace(p.Card.Brand+" ****"+p.Card.Last4)
	}
	s.tell.say(mark, "%-9s %s EUR%s  %s (money moved: %s)", p.Status, amount(p.Amount.Total), card, story, p.MoneyMoved)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
