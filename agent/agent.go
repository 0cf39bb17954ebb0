package agent

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/acquirer/iso8583"
	"tillbridge/agent/api"
	"tillbridge/agent/api/backend"
	"tillbridge/agent/api/local"
	"tillbridge/agent/api/server"
	"tillbridge/agent/config"
	"tillbridge/agent/crm"
	"tillbridge/agent/crm/webhook"
	"tillbridge/agent/engine"
	"tillbridge/agent/keyring"
	"tillbridge/agent/outbox"
	"tillbridge/agent/payment"
	"tillbridge/drivers"
	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
	"tillbridge/queue"
)

// crmConsumer is the name under which the CRM's place in the log is kept.
const crmConsumer = "crm"

// Options of [Run].
type Options struct {
	Config     *config.Config
	ConfigPath string // for people
	Version    string
	Log        *slog.Logger
	// Started is when the process began; zero means when Run was called.
	Started time.Time
	// Buses are further places where devices stand, beside this machine's serial
	// ports, its network and its USB.
	Buses []drivers.Bus
	// Ready, when set, is called once payments can be taken, with the address of
	// the till API.
	Ready func(listen string)
}

// running is an agent at work.
type running struct {
	o       Options
	log     *slog.Logger
	started time.Time
	ready   atomic.Int64 // nanoseconds from started until ready
	listen  string

	store     *queue.Store
	sealer    *engine.KeySealer
	engine    *engine.Engine
	link      *iso8583.Link
	fleet     *fleet
	terminal  *terminal   // for readers without a kernel, or nil
	encrypt   *encryption // for readers that do not encrypt, or nil
	forwarder *crm.Forwarder
	api       *server.Server
}

// Run runs the agent until ctx ends or a part of it fails for good. It returns
// nil after a clean end. Errors of the configuration, of the store and of ports
// say what to do next.
func Run(ctx context.Context, o Options) error {
	a := &running{o: o, log: o.Log, started: o.Started}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.started.IsZero() {
		a.started = time.Now()
	}
	if len(o.Config.Register) == 0 {
		return &config.Error{Path: o.ConfigPath, Faults: []config.Fault{{Key: "register", Text: "there is none: add a [[register]] with id, device and key for each till lane"}}}
	}
	if err := secret.NoDumps(); err != nil {
		a.log.Warn("core dumps stay on: card data could be in one", "error", err)
	}
	if err := keyring.SelfTest(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Config.Agent.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := a.open(ctx); err != nil {
		return errors.Join(err, a.close())
	}
	err = a.serve(ctx)
	return errors.Join(err, a.close())
}

// lockWait is how long an agent that is just ending may hold the directory.
const lockWait = 3 * time.Second

// lock takes the data directory: two agents that start at once on an empty one
// must not make two keys for one store.
func (a *running) lock(ctx context.Context) (*os.File, error) {
	dir := a.o.Config.Agent.Data
	f, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	for began := time.Now(); ; {
		err := seal.LockFile(f)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, seal.ErrInUse) || time.Since(began) > lockWait || ctx.Err() != nil {
			_ = f.Close()
			if errors.Is(err, seal.ErrInUse) {
				return nil, fmt.Errorf("another tillbridge uses %s: stop it first, or name another data directory: %w", dir, err)
			}
			return nil, fmt.Errorf("lock the data directory: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// open opens what the configuration names. What it opened is closed by close.
func (a *running) open(ctx context.Context) error {
	c := a.o.Config
	key, err := storeKey(ctx, c)
	if err != nil {
		return err
	}
	a.sealer, err = engine.NewKeySealer(key.Bytes())
	key.Destroy()
	if err != nil {
		return err
	}
	qo := &queue.Options{Logger: a.log}
	if c.CRM.Kind != "" {
		qo.Consumers, qo.Lease = []queue.Consumer{{Name: crmConsumer, Topic: payment.Topic}}, lease(c.CRM)
	}
	if a.store, err = queue.Open(c.StorePath(), qo); err != nil {
		if errors.Is(err, queue.ErrLocked) {
			return fmt.Errorf("another tillbridge uses %s: stop it first, or name another data directory: %w", c.StorePath(), err)
		}
		return err
	}
	if err := a.openAcquirer(); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if a.fleet, err = newFleet(c, a.o.Buses, a.log, registry); err != nil {
		return err
	}
	if err := a.openReaders(ctx); err != nil {
		return err
	}
	if err := a.openEngine(); err != nil {
		return err
	}
	if err := a.openCRM(); err != nil {
		return err
	}
	return a.openAPI(registry)
}

func (a *running) openAcquirer() error {
	c := a.o.Config.Acquirer
	if c.Kind == "" {
		return nil
	}
	roots, err := roots(c.CA)
	if err != nil {
		return fmt.Errorf("acquirer.ca: %w", err)
	}
	dialect, err := iso8583.Named(c.Dialect)
	if err != nil {
		return fmt.Errorf("acquirer.dialect: %w", err)
	}
	a.link, err = iso8583.Open(iso8583.Options{
		Addr: c.Addr, Dialect: dialect, Roots: roots, ServerName: c.ServerName,
		TerminalID: c.TerminalID, MerchantID: c.MerchantID, AnswerTimeout: c.Timeout.Duration, Logger: a.log, Late: a.lateAnswer,
	})
	return err
}

// lateAnswer writes an approval into its record that came after the engine had
// stopped waiting. Only the engine sends requests, so it is there by then.
func (a *running) lateAnswer(reference string, r acquirer.Result) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := a.engine.LateAnswer(ctx, reference, r); err != nil {
		a.log.Warn("a late answer of the acquirer could not be recorded", "reference", reference, "err", err)
	}
}

func roots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}

func (a *running) openEngine() (err error) {
	c := a.o.Config
	o := engine.Options{Store: a.store, Sealer: a.sealer, Log: a.log, HostTimeout: c.Acquirer.Timeout.Duration}
	if a.link != nil {
		o.Link = acquirer.Link(a.link)
	}
	if !c.Acquirer.Inquiry {
		o.Inquiries = -1
	}
	for i, r := range c.Register {
		l := engine.Lane{
			RegisterID: r.ID, DeviceID: r.Device, TerminalID: terminalID(c, i), MerchantID: c.Acquirer.MerchantID,
			Device: a.fleet.station(r.Device), Zone: time.Local,
		}
		if err := a.equip(&l); err != nil {
			return err
		}
		o.Lanes = append(o.Lanes, l)
	}
	a.engine, err = engine.Open(o)
	return err
}

// openReaders reads what readers without a kernel of their own need.
func (a *running) openReaders(ctx context.Context) (err error) {
	c := a.o.Config
	if !c.Kernel.Set() || c.Encryption.Kind == "" {
		return nil
	}
	if a.terminal, err = openTerminal(c, a.o.ConfigPath, time.Now()); err != nil {
		return err
	}
	if a.encrypt, err = openEncryption(c, a.o.ConfigPath); err != nil {
		return err
	}
	if fault := a.encrypt.Ready(ctx); fault != nil {
		a.log.Warn("readers that do not encrypt take no payments", "error", fault)
	}
	if k := a.terminal.keys; k != nil {
		a.log.Info("certification authority keys", "file", c.Kernel.CAKeys, "keys", k.Store.Len(), "expired", len(k.Expired), "revoked", k.Revoked)
		for _, name := range k.Expired {
			a.log.Warn("a certification authority key has expired and is not used: ask the acquirer for the present list", "key", name)
		}
	}
	return nil
}

// CheckReaders reads the files that the sections [kernel] and [encryption] name,
// as [Run] does, and returns what a person should know of them. path is for
// messages.
func CheckReaders(c *config.Config, path string) (notes []string, err error) {
	if c.Kernel.Set() {
		t, err := openTerminal(c, path, time.Now())
		if err != nil {
			return nil, err
		}
		notes = append(notes, "kernel: "+t.String())
	}
	if c.Encryption.Kind != "" {
		if _, err := openEncryption(c, path); err != nil {
			return nil, err
		}
		note := "encryption: software, on this PC"
		if c.Encryption.Kind == "dukpt" {
			note += "; see `tillbridge keys status` for its key"
		}
		notes = append(notes, note)
	}
	return notes, nil
}

// equip gives a lane our kernel and the encryption, for the case that its
// device has neither.
func (a *running) equip(l *engine.Lane) error {
	if a.terminal == nil {
		return nil
	}
	serial := a.fleet.config[l.DeviceID].Serial
	if serial == "" {
		serial = l.DeviceID
	}
	e, err := a.encrypt.encrypter(serial)
	if err != nil {
		return err
	}
	l.Kernel, l.Encryption = a.terminal.lane(l.TerminalID, l.MerchantID, serial, e), a.encrypt
	return nil
}

// terminalID is how the acquirer knows a register: its own, or the one of the
// acquirer's section for the only register.
func terminalID(c *config.Config, i int) string {
	if id := c.Register[i].TerminalID; id != "" {
		return id
	}
	return c.Acquirer.TerminalID
}

func (a *running) openCRM() error {
	c := a.o.Config.CRM
	if c.Kind == "" {
		return nil
	}
	secret, err := c.Secret.Value()
	if err != nil {
		return fmt.Errorf("crm.secret: %w", err)
	}
	key, err := webhook.ParseKey(secret)
	if err != nil {
		return fmt.Errorf("crm.secret: %w", err)
	}
	wo := webhook.Options{URL: c.URL, Keys: []webhook.Key{key}, Timeout: c.Timeout.Duration, UserAgent: "tillbridge/" + a.o.Version}
	if c.CA != "" {
		pool, err := roots(c.CA)
		if err != nil {
			return fmt.Errorf("crm.ca: %w", err)
		}
		wo.Transport = pinned(pool)
	}
	sink, err := webhook.New(wo)
	if err != nil {
		return err
	}
	a.forwarder = crm.NewForwarder(outbox.New(a.store, crmConsumer, a.event), sink, crm.MapPayment(crm.Identity{
		Source: "/" + name(a.o.Config.Agent.Merchant, "merchant") + "/" + name(a.o.Config.Agent.Store, "store"),
		TZ:     zoneName(), StoreID: a.o.Config.Agent.Store, AgentVersion: a.o.Version,
	}), &crm.ForwardOptions{Log: a.log, SendTimeout: sendTimeout(c)})
	return nil
}

// sendTimeout is longer than a request to the CRM may take; a message is lent
// for longer still, so that a slow delivery has no second one beside it.
func sendTimeout(c config.CRM) time.Duration { return c.Timeout.Duration + 5*time.Second }

// lease is how long the store lends a message.
func lease(c config.CRM) time.Duration { return sendTimeout(c) + 30*time.Second }

// event opens a message of the log as the JSON of its event.
func (a *running) event(m queue.Message) ([]byte, error) {
	e, err := engine.DecodeEvent(a.sealer, m)
	if err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

func (a *running) openAPI(registry *prometheus.Registry) error {
	c := a.o.Config
	var keys []server.Credential
	owner := map[server.Hash]string{}
	for _, r := range c.Register {
		key, err := r.Key.Value()
		if err != nil {
			return fmt.Errorf("key of register %s: %w", r.ID, err)
		}
		if len(key) < 16 {
			return fmt.Errorf("key of register %s has %d characters: use at least 16 random ones", r.ID, len(key))
		}
		hash := server.HashOf(key)
		if other, ok := owner[hash]; ok {
			return fmt.Errorf("registers %s and %s have the same key: a sale of one would wait at the pad of the other; make a key for each", other, r.ID)
		}
		owner[hash] = r.ID
		role := server.RolePOS
		if r.Manager {
			role = server.RoleManager
		}
		keys = append(keys, server.Credential{ID: r.ID, Register: r.ID, Role: role, Hash: hash})
	}
	var err error
	a.api, err = server.New(server.Options{
		Engine: backend.New(a.engine), Lane: a.lane, Keys: server.NewKeyring(keys...), Hosts: c.API.Hosts, Origins: c.API.Origins,
		Version: api.Version{Version: a.o.Version, API: "1"}, Ready: a.readiness, Control: control{a}, Registry: registry, Log: a.log,
	})
	return err
}

// lane is what the configuration says of a register.
func (a *running) lane(register string) (device, currency string) {
	for _, r := range a.o.Config.Register {
		if r.ID == register {
			return r.Device, r.Currency
		}
	}
	return "", ""
}

// serve runs the parts until ctx ends or one of them fails.
func (a *running) serve(ctx context.Context) error {
	tills, err := server.Listen(a.o.Config.API.Listen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("api.listen: another program has %s: stop it, or choose another port in the configuration and in the till: %w", a.o.Config.API.Listen, err)
		}
		return fmt.Errorf("api.listen: %w", err)
	}
	a.listen = tills.Addr().String()
	cli, err := local.Listen(a.o.Config.Agent.Control)
	if err != nil {
		return errors.Join(fmt.Errorf("agent.control: %w", err), tills.Close())
	}
	// Two lifetimes: tills stop first, then payments, and devices, link and
	// forwarder live until the payments have ended.
	front, stopFront := context.WithCancel(ctx)
	defer stopFront()
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()

	var frontDone, backDone sync.WaitGroup
	errs := make(chan error, 8)
	part := func(wg *sync.WaitGroup, ctx context.Context, name string, fn func(context.Context) error) {
		wg.Go(func() {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				errs <- fmt.Errorf("%s: %w", name, err)
				stopFront()
			}
		})
	}
	part(&backDone, back, "devices", a.fleet.run)
	if a.forwarder != nil {
		part(&backDone, back, "crm", a.forwarder.Run)
	}
	part(&frontDone, front, "payments", a.engine.Run)
	part(&frontDone, front, "api", func(ctx context.Context) error { return a.api.Serve(ctx, tills, a.api.Handler()) })
	part(&frontDone, front, "control", func(ctx context.Context) error { return a.api.Serve(ctx, cli, a.api.Local()) })
	part(&frontDone, front, "ready", a.announce)
	<-front.Done()
	a.log.Info("agent is stopping")
	frontDone.Wait()
	stopBack()
	backDone.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// announce waits until payments can be taken.
func (a *running) announce(ctx context.Context) error {
	for !a.engine.Ready() {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Millisecond):
		}
	}
	a.ready.Store(int64(time.Since(a.started)))
	a.log.Info("agent is ready", "listen", a.listen, "ms", a.startMS())
	if a.o.Ready != nil {
		a.o.Ready(a.listen)
	}
	return nil
}

// startMS is how long it took from the start to ready, in milliseconds.
func (a *running) startMS() int64 { return time.Duration(a.ready.Load()).Milliseconds() }

// readiness is what /readyz says.
func (a *running) readiness(ctx context.Context) api.Readiness {
	r := api.Readiness{Ready: a.engine.Ready()}
	r.Checks = append(r.Checks, api.Check{Name: "payments", OK: r.Ready})
	for _, d := range a.fleet.devices() {
		ok := d.State == "idle" || d.State == "busy"
		r.Checks = append(r.Checks, api.Check{Name: "device." + d.ID, OK: ok, Detail: d.State})
		if d.Encryption == "software" {
			c := api.Check{Name: "encryption." + d.ID, OK: true, Detail: "software, on this PC"}
			if fault := a.encrypt.Ready(ctx); fault != nil {
				c.OK, c.Detail = false, engine.Plain(fault)
			}
			r.Checks = append(r.Checks, c)
		}
	}
	if leg := a.acquirerLeg(); leg != nil {
		r.Checks = append(r.Checks, api.Check{Name: "path.host", OK: leg.State == "online", Detail: leg.Detail})
	}
	return r
}

// acquirerLeg is the connection to the acquirer, nil where there is none.
func (a *running) acquirerLeg() *api.Leg {
	if a.link == nil {
		return nil
	}
	st := a.link.Status()
	leg := &api.Leg{Name: "acquirer", State: "down", Detail: st.LastError}
	if st.Connected {
		leg.State = "online"
	}
	if !st.Since.IsZero() {
		leg.Since = &st.Since
	}
	return leg
}

// close releases what open opened, the store last.
func (a *running) close() error {
	var errs []error
	if a.link != nil {
		errs = append(errs, a.link.Close())
	}
	if a.encrypt != nil {
		a.encrypt.close()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}
