package agent_test

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/agent"
	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
	"tillbridge/agent/config"
	"tillbridge/agent/keyring"
	"tillbridge/agent/sandbox/acquirer"
	"tillbridge/drivers"
	"tillbridge/drivers/netport"
	virtual "tillbridge/drivers/virtual/ccid"
	"tillbridge/emv/oda"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/mask"
	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
)

// A plain reader, our kernel and software encryption in the whole agent. The
// reader stands on USB in a shop; here its bulk messages travel in the packets
// of a socket, which is all that differs: the agent is given the bus.

// packetBus is a bus with one reader behind a socket.
type packetBus string

func (b packetBus) Scan(context.Context) ([]drivers.Port, error) {
	if _, err := os.Stat(string(b)); err != nil {
		return nil, nil
	}
	return []drivers.Port{{Kind: drivers.KindUSB, Path: "usb:1-1", Location: "1-1", VID: 0x08E6, PID: 0x3437, Serial: "RDR0001", Product: "Virtual Reader", Class: 0x0B}}, nil
}

func (b packetBus) Open(ctx context.Context, p drivers.Port) (drivers.Transport, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unixpacket", string(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", drivers.ErrNoPort, err)
	}
	return netport.Wrap(c, p), nil
}

// Variables by which the test's own program runs as an agent that can be killed.
const (
	childConfig = "TILLBRIDGE_TEST_AGENT_CONFIG"
	childReader = "TILLBRIDGE_TEST_AGENT_READER"
)

func TestMain(m *testing.M) {
	path := os.Getenv(childConfig)
	if path == "" {
		os.Exit(m.Run())
	}
	c, err := config.Load(path)
	if err == nil {
		err = agent.Run(context.Background(), agent.Options{Config: c, ConfigPath: path, Version: "test", Buses: []drivers.Bus{packetBus(os.Getenv(childReader))},
			Log:   slog.New(mask.NewHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			Ready: func(listen string) { fmt.Println(listen) }})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// counter is a shop with a plain reader.
type counter struct {
	*shop
	reader *virtual.Reader
	ca     *virtualcard.CA
	socket string
	tpm    string
	kind   string // of encryption
	key    string // what [encryption] has beside it
	child  *exec.Cmd

	plugged struct {
		sync.Mutex
		net.Conn
	}
}

const ksnDevice = "7A6B5C4D3E2F1001"

// openCounter makes the shop and starts nothing.
func openCounter(t *testing.T, kind string) *counter {
	t.Helper()
	s := &counter{shop: &shop{t: t, dir: t.TempDir(), log: &buffer{}}, kind: kind}
	s.acquirer = serve(t, func(ctx context.Context, in io.Reader, out io.Writer) error {
		return acquirer.Serve(ctx, in, out, acquirer.Options{Keys: acquirer.NewKeys()})
	})
	s.write("acquirer.pem", s.acquirer.ready["ca"].(string))
	s.write("lane1.key", laneKey)
	var err error
	if s.ca, err = virtualcard.NewCA(1); err != nil {
		t.Fatal(err)
	}
	s.write("ca.json", caFile(t, s.ca, "A000000003", "A000000004"))
	if s.reader, err = virtual.New(&virtual.Options{Level: virtual.TPDU, Empty: true}); err != nil {
		t.Fatal(err)
	}
	s.serveReader()
	switch kind {
	case "jwe":
		jwe := s.acquirer.ready["jwe"].(map[string]any)
		s.write("host.pem", jwe["public_key"].(string))
		s.key = fmt.Sprintf("public_key = %q\nthumbprint = %q\nkey_id = %q", s.path("host.pem"), jwe["thumbprint"], jwe["key_id"])
	case "dukpt":
		s.tpm = startTPM(t)
	}
	t.Cleanup(func() {
		if s.stop != nil {
			s.end()
		}
	})
	return s
}

// caFile is the public part of a test authority, as a file of keys.
func caFile(t testing.TB, ca *virtualcard.CA, rids ...string) string {
	t.Helper()
	var keys []map[string]string
	for _, rid := range rids {
		raw, err := hex.DecodeString(rid)
		if err != nil {
			t.Fatal(err)
		}
		k := oda.CAKey{RID: oda.RID(raw), Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent()}
		sum := k.SHA1()
		keys = append(keys, map[string]string{"rid": rid, "index": fmt.Sprintf("%02X", k.Index), "modulus": fmt.Sprintf("%X", k.Modulus),
			"exponent": fmt.Sprintf("%X", k.Exponent), "sha1": fmt.Sprintf("%X", sum)})
	}
	b, err := json.Marshal(map[string]any{"env": "test", "keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// serveReader lets one agent at a time use the reader.
func (s *counter) serveReader() {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "rdr") // a socket's path is short
	if err != nil {
		s.t.Fatal(err)
	}
	s.socket = filepath.Join(dir, "s")
	l, err := net.Listen("unixpacket", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.plugged.Lock()
			s.plugged.Conn = c
			s.plugged.Unlock()
			_ = s.reader.Serve(context.Background(), c)
			c.Close()
		}
	})
	s.t.Cleanup(func() {
		l.Close()
		served.Wait()
		os.RemoveAll(dir)
	})
}

// unplug cuts the reader off; it is plugged in again when the agent looks.
func (s *counter) unplug() {
	s.plugged.Lock()
	defer s.plugged.Unlock()
	s.plugged.Close()
}

// startTPM is swtpm, a TPM written by others.
func startTPM(t *testing.T) (socket string) {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("SWTPM_REQUIRED") != "" {
			t.Fatal("swtpm is not installed: .ci/deps apt swtpm")
		}
		t.Skip("skipped: swtpm is not installed (.ci/deps apt swtpm)")
	}
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+"c",
		"--tpmstate", "dir="+dir, "--flags", "startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	})
	for limit := time.Now().Add(guard); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		if time.Now().After(limit) {
			t.Fatal("swtpm does not listen")
		}
	}
}

// text is the configuration.
func (s *counter) text() string {
	keys := "[keys]\nsealer = \"file\"\n"
	if s.tpm != "" {
		keys = fmt.Sprintf("[keys]\nsealer = \"tpm\"\ntpm = %q\n", s.tpm)
	}
	return fmt.Sprintf(`
[agent]
data = %q
log = "debug"
[api]
listen = "127.0.0.1:0"
[[register]]
id = "lane1"
device = "reader1"
key = %q
currency = "EUR"
[[device]]
name = "reader1"
protocol = "ccid"
ports = ["usb:08E6:3437"]
params = { level = "tpdu" }
[acquirer]
kind = "iso8583"
addr = %q
ca = %q
server_name = "localhost"
merchant_id = "TESTSHOP0000001"
terminal_id = "TEST0001"
timeout = "20s"
%s
[kernel]
country = "840"
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
kind = %q
%s
`, s.path("agent"), "file:"+s.path("lane1.key"), s.acquirer.ready["addr"], s.path("acquirer.pem"), keys, s.path("ca.json"), s.kind, s.key)
}

func (s *counter) parse() *config.Config {
	s.t.Helper()
	s.write("shop.toml", s.text())
	c, err := config.Load(s.path("shop.toml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// start runs the agent in this process.
func (s *counter) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	cfg := s.parse()
	go func() {
		done <- agent.Run(ctx, agent.Options{Config: cfg, ConfigPath: s.path("shop.toml"), Version: "test", Buses: []drivers.Bus{packetBus(s.socket)},
			Log:   slog.New(mask.NewHandler(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			Ready: func(listen string) { ready <- listen }})
	}()
	s.stop = func() error { cancel(); return <-done }
	select {
	case listen := <-ready:
		s.base = "http://" + listen
	case err := <-done:
		s.stop = nil
		s.t.Fatalf("the agent ended: %v", err)
	case <-time.After(guard):
		s.t.Fatal("the agent is not ready")
	}
}

// startChild runs the agent as a process of its own.
func (s *counter) startChild() {
	s.t.Helper()
	s.parse()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.child = exec.Command(self)
	s.child.Env = append(os.Environ(), childConfig+"="+s.path("shop.toml"), childReader+"="+s.socket)
	s.child.Stderr = s.log
	out, err := s.child.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.child.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.kill)
	listen := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		listen <- strings.TrimSpace(line)
	}()
	select {
	case l := <-listen:
		if l == "" {
			s.t.Fatalf("the agent ended: %s", s.log.Bytes())
		}
		s.base = "http://" + l
	case <-time.After(guard):
		s.t.Fatal("the agent is not ready")
	}
}

// kill ends the process as a power cut does.
func (s *counter) kill() {
	if s.child != nil {
		_ = s.child.Process.Kill()
		_ = s.child.Wait()
		s.child = nil
	}
}

// load imports the acquirer's initial key as two people do.
func (s *counter) load() {
	s.t.Helper()
	b := s.acquirer.tell(`{"cmd":"key_block","ksn":"` + ksnDevice + `00000000"}`)["key_block"].(map[string]any)
	c := s.parse()
	k, err := keyring.Open(s.t.Context(), agent.KeyDir(c), &keyring.Options{Sealer: c.Keys.Sealer, TPM: c.Keys.TPM})
	if err != nil {
		s.t.Fatal(err)
	}
	defer k.Close()
	var cer *keyring.Ceremony
	people := []string{"Anna", "Ben"}
	for i, part := range b["components"].([]any) {
		component, err := keyring.ParseComponent([]byte(part.(string)))
		if err != nil {
			s.t.Fatal(err)
		}
		if cer == nil {
			if cer, err = keyring.NewCeremony(keyring.AES, component.Len()); err != nil {
				s.t.Fatal(err)
			}
			defer cer.Destroy()
		}
		if _, err := cer.Add(people[i], component); err != nil {
			s.t.Fatal(err)
		}
	}
	var protection *secret.Buffer
	if protection, err = cer.Combine(b["kcv"].(string)); err != nil {
		s.t.Fatal(err)
	}
	e, err := k.Import(s.t.Context(), keyring.Import{Block: b["block"].(string), Protection: protection, KCV: b["key_kcv"].(string), By: people})
	if err != nil {
		s.t.Fatal(err)
	}
	if e.Device != ksnDevice || e.Scheme != p2pe.SchemeAESDUKPT {
		s.t.Fatalf("loaded %s of %s", e.Device, e.Scheme)
	}
}

// chipCard is a card of a profile under the shop's test authority.
func (s *counter) chipCard(profile string) *virtualcard.Card {
	s.t.Helper()
	p, err := virtualcard.Named(profile)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := virtualcard.New(&virtualcard.Options{CA: s.ca, Seed: 3}, p)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// begin starts a sale of ten euros and waits until the reader waits for a card.
func (s *counter) begin(key string) (id string) {
	s.t.Helper()
	a := s.call("POST", "/v1/payments", tenEuro, "Idempotency-Key", key)
	id = a.str("id")
	s.until("the reader waits for a card", func() bool {
		a = s.call("GET", "/v1/payments/"+id, "")
		return a.str("stage") == "waiting_card" || a.str("status") == "failed"
	})
	if a.str("status") == "failed" {
		s.t.Fatalf("refused: %s", a.Text)
	}
	return id
}

// ended waits for the end of a payment.
func (s *counter) ended(id string) (a answer) {
	s.t.Helper()
	s.until("the payment has ended", func() bool {
		a = s.call("GET", "/v1/payments/"+id, "")
		switch a.str("status") {
		case "pending", "in_progress", "in_doubt":
			return false
		}
		return true
	})
	return a
}

// sale is a whole sale: the customer takes the card once it is decided.
func (s *counter) sale(key string, card virtual.Card) answer {
	s.t.Helper()
	id := s.begin(key)
	s.reader.Insert(card)
	a := s.ended(id)
	s.reader.Remove()
	return a
}

// entries are the acquirer's books.
func (s *counter) entries() (out []map[string]any) {
	for _, e := range s.books()["entries"].([]any) {
		out = append(out, e.(map[string]any))
	}
	return out
}

func (s *counter) info() (text, code string) {
	s.t.Helper()
	c := client.Local(s.parse().Agent.Control)
	defer c.Close()
	d, err := c.DeviceInfo(s.t.Context(), "reader1")
	if err != nil {
		s.t.Fatal(err)
	}
	if d.NotReady != nil {
		code = d.NotReady.Code
	}
	return d.Kernel + "\n" + d.Encryption, code
}

// noCard searches every file of the shop, the log and the acquirer's side for
// the number of a card.
func (s *counter) noCard(pans ...string) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		for _, pan := range pans {
			if mask.Known(pan).In(b) >= 0 {
				s.t.Errorf("%s holds a card number", d.Name())
			}
		}
		return err
	})
	if err != nil || files < 5 {
		s.t.Errorf("%d files were searched: %v", files, err)
	}
	log := s.log.Bytes()
	for _, pan := range pans {
		if len(log) == 0 || mask.Known(pan).In(log) >= 0 {
			s.t.Errorf("the log (%d bytes) holds a card number", len(log))
		}
	}
}

func (s *counter) want(a answer, status, code, moved string) {
	s.t.Helper()
	if a.str("status") != status || a.str("code") != code || a.str("money_moved") != moved {
		s.t.Errorf("want %s %q, money %s: %s\n%s", status, code, moved, a.Text, s.log.Bytes())
	}
}

func TestReaderSales(t *testing.T) {
	for _, kind := range []string{"jwe", "dukpt"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := openCounter(t, kind)
			s.parse()
			if kind == "dukpt" {
				s.load()
			}
			s.start()
			control := client.Local(s.parse().Agent.Control)
			defer control.Close()
			if _, err := control.SetTrace(t.Context(), api.TraceRequest{Action: "start", Seconds: 600}); err != nil {
				t.Fatal(err)
			}
			visa, master := s.chipCard("visa-credit"), s.chipCard("mastercard-credit")

			a := s.sale("k1", visa)
			s.want(a, "succeeded", "", "yes")
			e := s.entries()[0]
			if e["arqc"] != "verified" || e["code"] != "00" || e["amount"] != 1000.0 {
				t.Errorf("the acquirer booked %v", e)
			}
			emv, _ := a.Body["emv"].(map[string]any)
			if tvr, _ := emv["tvr"].(string); len(tvr) != 10 || tvr[:2] != "00" {
				t.Errorf("data authentication under the test authority: TVR %q", tvr)
			}

			s.acquirer.tell(`{"cmd":"decline","code":"51"}`)
			s.want(s.sale("k2", visa), "declined", "host.declined", "no")

			// The issuer's answer is not the issuer's: the card says no, the
			// approval is taken back.
			s.acquirer.tell(`{"cmd":"wrong_arpc"}`)
			s.want(s.sale("k3", master), "declined", "card.refused_after_approval", "no")

			// Pulled in the exchange: nothing is sent.
			id := s.begin("k4")
			s.reader.Do(virtual.Removed)
			s.reader.Insert(visa)
			s.want(s.ended(id), "failed", "card.removed", "no")

			s.want(s.sale("k5", master), "succeeded", "", "yes")
			b := s.books()
			if b["authorisations"] != 3.0 || b["net"].(map[string]any)["978"] != 2000.0 || b["double_charges"] != 0.0 || b["ksn_repeats"] != 0.0 || b["arqc_failed"] != 0.0 {
				t.Errorf("the acquirer's books: %v", b)
			}
			text, code := s.info()
			for _, w := range []string{"software encryption", "on this PC, not by the reader", "2 test authority key(s)", "not approved by anyone"} {
				if !strings.Contains(text, w) || code != "" {
					t.Errorf("devices info does not say %q: %s %s", w, text, code)
				}
			}
			for _, w := range []string{"P2PE", "certified", "compliant"} {
				if strings.Contains(text, w) {
					t.Errorf("devices info says %q: %s", w, text)
				}
			}
			s.end()
			if traces, err := filepath.Glob(s.path("agent/traces/*")); err != nil || len(traces) == 0 {
				t.Errorf("no trace was searched: %v", err)
			}
			s.noCard(visa.PAN(), master.PAN())
		})
	}
}

// A key that is not there, not the one that is meant, or used up: each says so,
// before the card has power, and a key that is loaded meanwhile is used.
func TestReaderWithoutItsKey(t *testing.T) {
	t.Parallel()
	s := openCounter(t, "dukpt")
	card := s.chipCard("visa-credit")
	s.start()
	refused := func(key, code string) {
		t.Helper()
		before, commands := s.authorisations(), len(s.reader.Executed())
		s.reader.Insert(card)
		a := s.pay(key, tenEuro)
		s.want(a, "failed", code, "no")
		if a.str("retry") != "safe" || !strings.Contains(a.Text, "keys import") {
			t.Errorf("%s: no next step: %s", code, a.Text)
		}
		if n := len(s.reader.Executed()) - commands; n != 0 || s.reader.Powered() {
			t.Errorf("%s: %d commands reached the card", code, n)
		}
		s.reader.Remove()
		if _, got := s.info(); got != code {
			t.Errorf("devices info says %q, not %q", got, code)
		}
		if n := s.authorisations() - before; n != 0 {
			t.Errorf("%s: %v authorisations", code, n)
		}
	}
	refused("none", "keys.none")
	s.load() // while the agent runs
	s.want(s.sale("loaded", card), "succeeded", "", "yes")
	s.end()
	// A copy of the disk from before a sale, put back after it.
	slots := filepath.Join(agent.KeyDir(s.parse()), "dukpt-"+ksnDevice+".slots")
	old, err := os.ReadFile(slots)
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.want(s.sale("before", card), "succeeded", "", "yes")
	s.end()
	now, err := os.ReadFile(slots)
	if err != nil {
		t.Fatal(err)
	}
	s.restore(slots, old)
	s.start()
	refused("rolled-back", "keys.rolled_back")
	s.end()
	s.restore(slots, now)
	s.key = `key = "0000000000000001"`
	s.start()
	refused("other", "keys.other")
	s.end()
	s.key = `key = "` + strings.ToLower(ksnDevice) + `"`
	s.start()
	s.want(s.sale("now", card), "succeeded", "", "yes")
	s.end()
	s.useUp()
	s.start()
	refused("used-up", "keys.exhausted")
	s.end()
	s.noCard(card.PAN())
}

func (s *counter) restore(path string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// useUp puts a journal in the place of the loaded one whose key set has no key
// left: the state of counter 0, as after FFFF0000.
func (s *counter) useUp() {
	s.t.Helper()
	c := s.parse()
	dir := agent.KeyDir(c)
	raw := append([]byte("TBDK\x01\x02\x10\x00"), make([]byte, 20)...)
	serial, err := hex.DecodeString(ksnDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	copy(raw[8:], serial)
	state, err := dukpt.Restore(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	sealer, err := seal.OpenSealer(s.t.Context(), dir, &seal.SealerOptions{Kind: c.Keys.Sealer, TPM: c.Keys.TPM})
	if err != nil {
		s.t.Fatal(err)
	}
	defer sealer.Close()
	anchor := seal.NewTPMAnchor(dir, c.Keys.TPM, nil)
	path := filepath.Join(dir, "dukpt-"+ksnDevice+".slots")
	for _, err := range []error{anchor.End(s.t.Context(), ksnDevice), os.Remove(path), seal.CreateJournal(s.t.Context(), path, state, sealer, anchor)} {
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// The agent is killed while the acquirer holds its answer: the next start
// reverses, charges nothing again and uses no key twice.
func TestReaderAgentKilledInAPayment(t *testing.T) {
	t.Parallel()
	s := openCounter(t, "dukpt")
	s.parse()
	s.load()
	card := s.chipCard("visa-credit")
	s.startChild()
	s.want(s.sale("k1", card), "succeeded", "", "yes")
	s.acquirer.tell(`{"cmd":"hold"}`)
	id := s.begin("k2")
	s.reader.Insert(card)
	s.until("the acquirer has booked", func() bool { return s.authorisations() == 2 })
	s.kill()
	s.acquirer.tell(`{"cmd":"release"}`)
	s.startChild()
	if a := s.ended(id); a.str("status") != "reversed" || a.str("money_moved") != "returned" {
		t.Errorf("%s", a.Text)
	}
	s.reader.Remove()
	s.want(s.sale("k3", card), "succeeded", "", "yes")
	b := s.books()
	if b["net"].(map[string]any)["978"] != 2000.0 || b["double_charges"] != 0.0 || b["ksn_repeats"] != 0.0 {
		t.Errorf("the acquirer's books: %v", b)
	}
	s.kill()
	s.noCard(card.PAN())
}

// The reader is unplugged while the acquirer holds its answer: the card cannot
// confirm the approval, so it is taken back, and the reader comes back alone.
func TestReaderUnpluggedAfterTheRequest(t *testing.T) {
	t.Parallel()
	s := openCounter(t, "jwe")
	card := s.chipCard("visa-credit")
	s.start()
	s.acquirer.tell(`{"cmd":"hold"}`)
	id := s.begin("k1")
	s.reader.Insert(card)
	s.until("the acquirer has booked", func() bool { return s.authorisations() == 1 })
	s.unplug()
	s.acquirer.tell(`{"cmd":"release"}`)
	s.want(s.ended(id), "declined", "card.refused_after_approval", "no")
	s.reader.Remove()
	s.want(s.sale("k2", card), "succeeded", "", "yes")
	if b := s.books(); b["net"].(map[string]any)["978"] != 1000.0 || b["reversals"] != 1.0 || b["double_charges"] != 0.0 {
		t.Errorf("the acquirer's books: %v", b)
	}
	s.end()
	s.noCard(card.PAN())
}

// The files that the two sections name are read at the start, and what is wrong
// with them is told with the line of the configuration.
func TestReaderFilesAreChecked(t *testing.T) {
	t.Parallel()
	s := openCounter(t, "jwe")
	c := s.parse()
	if notes, err := agent.CheckReaders(c, s.path("shop.toml")); err != nil || len(notes) != 2 || !strings.Contains(notes[1], "software, on this PC") {
		t.Errorf("%q %v", notes, err)
	}
	good, err := os.ReadFile(s.path("ca.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]struct{ file, text, key string }{
		"sum":         {"ca.json", strings.Replace(string(good), `"exponent":"03"`, `"exponent":"010001"`, 1), "kernel.ca_keys"},
		"environment": {"ca.json", strings.Replace(string(good), `"env":"test"`, `"env":"live"`, 1), "kernel.ca_keys"},
		"no file":     {"ca.json", "", "kernel.ca_keys"},
		"no key":      {"host.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "encryption.public_key"},
		"another key": {"host.pem", otherKey(t), "encryption.thumbprint"},
		"long RSA":    {"host.pem", longKey(t), "encryption.public_key"},
	} {
		old, err := os.ReadFile(s.path(d.file))
		if err != nil {
			t.Fatal(err)
		}
		s.write(d.file, d.text)
		for _, run := range []func() error{
			func() error { _, err := agent.CheckReaders(c, s.path("shop.toml")); return err },
			func() error { return agent.Run(t.Context(), agent.Options{Config: c, ConfigPath: s.path("shop.toml")}) },
		} {
			e, ok := errors.AsType[*config.Error](run())
			if !ok || e.Faults[0].Key != d.key || e.Faults[0].Line == 0 {
				t.Errorf("%s: %v", name, e)
			}
		}
		s.write(d.file, string(old))
	}
}

func otherKey(t *testing.T) string {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, key.PublicKey())
}

// longKey is an RSA key of 4096 bits, or what looks like one.
func longKey(t *testing.T) string {
	t.Helper()
	n := new(big.Int).SetBit(big.NewInt(1), 4095, 1)
	return pemOf(t, &rsa.PublicKey{N: n, E: 65537})
}

func pemOf(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
