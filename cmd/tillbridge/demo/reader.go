package demo

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"tillbridge/agent/api/client"
)

// plainReader: a second PC has a chip reader without a kernel and without
// encryption. Its agent runs the kernel and encrypts the card data itself.
func (s *shop) plainReader(ctx context.Context) (err error) {
	s.tell.chapter("Lane 3, another PC: a plain chip reader")
	if s.reader, err = s.launch.start(ctx, "reader", "sim", "reader"); err != nil {
		return err
	}
	if err := s.writeReaderConfig(); err != nil {
		return err
	}
	if s.counter, err = s.launch.start(ctx, "counter", "sim", "counter", "--config", s.path("counter.toml"), "--reader", s.reader.text("addr")); err != nil {
		return err
	}
	s.lane3.base = "http://" + s.counter.text("addr")
	cl := client.Local(s.counter.text("control"))
	defer cl.Close()
	info, err := cl.DeviceInfo(ctx, "reader1")
	if err != nil {
		return err
	}
	s.tell.say("ok", "kernel: %s", info.Kernel)
	s.tell.say("!", "encryption: %s", info.Encryption)
	if err := s.readerSale(ctx, "visa-credit", 1875, "C-3001", "succeeded", "chip in a plain reader"); err != nil {
		return err
	}
	if err := s.acquirer.command(ctx, map[string]any{"cmd": "wrong_arpc"}, nil); err != nil {
		return err
	}
	if err := s.readerSale(ctx, "mastercard-credit", 2050, "", "declined", "the issuer's answer was forged: the card says no, the approval is taken back"); err != nil {
		return err
	}
	for limit := time.Now().Add(60 * time.Second); ; {
		q, err := cl.QueueSummary(ctx)
		if err == nil && q.Count == 0 {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%d event(s) of lane 3 still wait for the CRM: %v", q.Count, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// readerSale is one customer at the plain reader.
func (s *shop) readerSale(ctx context.Context, card string, minor int64, customer, want, story string) error {
	p, err := s.lane3.begin(ctx, s.lane3.newKey(), minor, customer)
	if err != nil {
		return err
	}
	if p, err = s.lane3.until(ctx, p.ID, 30*time.Second, func(p payment) bool { return p.Stage == "waiting_card" || p.settled() }); err != nil {
		return err
	}
	if err := s.reader.command(ctx, do("insert", card), nil); err != nil {
		return err
	}
	if p, err = s.lane3.until(ctx, p.ID, 60*time.Second, payment.settled); err != nil {
		return err
	}
	s.payment(p, story)
	if err := expect("payment "+p.ID+" ("+p.Reason+")", p.Status, want); err != nil {
		return err
	}
	s.result.Reader.Payments++
	return s.reader.command(ctx, do("remove", ""), nil)
}

// writeReaderConfig writes the second PC's configuration. Its card data are
// encrypted to the acquirer's public key: that needs no TPM, which the machine
// of a demo may not have.
func (s *shop) writeReaderConfig() error {
	key := hex.EncodeToString(random(24))
	jwe, _ := s.acquirer.ready["jwe"].(map[string]any)
	for name, text := range map[string]any{"lane3.key": key, "acquirer-key.pem": jwe["public_key"], "ca-keys.json": s.reader.text("ca_keys")} {
		if err := os.WriteFile(s.path(name), fmt.Append(nil, text), 0o600); err != nil {
			return err
		}
	}
	s.lane3 = &till{key: key, register: "lane3"}
	text := fmt.Sprintf(`# Written by "tillbridge demo".
[agent]
data = %q
log = "debug"
merchant = "demo"
store = "0002"

[api]
listen = "127.0.0.1:0"

[[register]]
id = "lane3"
device = "reader1"
key = %q
currency = "EUR"

[[device]]
name = "reader1"
protocol = "ccid"
ports = ["usb:08E6:3437"]
params = { level = "tpdu" }

[kernel]
country = "276"
merchant_category = "5411"
environment = "test"
ca_keys = %q

[[kernel.application]]
aid = "A0000000031010"
version = "0096"

[[kernel.application]]
aid = "A0000000041010"
version = "0002"

[encryption]
kind = "jwe"
public_key = %q
thumbprint = %q
key_id = %q

[acquirer]
kind = "iso8583"
addr = %q
ca = %q
server_name = "localhost"
merchant_id = "DEMOSHOP0000001"
terminal_id = "DEMO0003"
timeout = "12s"

[crm]
kind = "webhook"
url = "http://%s/events"
secret = %q
timeout = "5s"
`, s.path("counter"), "file:"+s.path("lane3.key"), s.path("ca-keys.json"), s.path("acquirer-key.pem"), jwe["thumbprint"], jwe["key_id"],
		s.acquirer.text("addr"), s.path("acquirer.pem"), s.crm.text("addr"), "file:"+s.path("crm.secret"))
	return os.WriteFile(s.path("counter.toml"), []byte(text), 0o600)
}
