//go:build unix

package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/api/local"
	"tillbridge/agent/api/server"
	"tillbridge/agent/payment"
)

// still is an Engine with one payment and two events, and a Control.
type still struct {
	server.Engine // panics for what a test does not expect
	pay           payment.Payment
}

func (s *still) StartPayment(_ context.Context, c server.Claim, r payment.Request) (payment.Payment, bool, error) {
	s.pay = payment.New("pay_1", c.Credential, c.Key, c.Digest, r, time.Unix(1, 0))
	s.pay.State, s.pay.Approved = payment.State{Status: payment.Succeeded}, r.Amount.Total
	return s.pay, false, nil
}
func (s *still) Payment(_ context.Context, id string) (payment.Payment, error) {
	if id != s.pay.ID {
		return payment.Payment{}, &server.Error{ErrorCode: "payment.not_found", Detail: "none"}
	}
	return s.pay, nil
}
func (s *still) Payments(context.Context, server.Filter) ([]payment.Payment, error) {
	return []payment.Payment{s.pay}, nil
}
func (s *still) Events(_ context.Context, after uint64, _ int) ([]payment.Event, error) {
	if after >= 2 {
		return nil, nil
	}
	return []payment.Event{{ID: "e", Seq: after + 1, Type: payment.EventUpdated}}, nil
}
func (s *still) Changed() <-chan struct{} { return make(chan struct{}) }

func (s *still) Status(context.Context) (api.Status, error) {
	return api.Status{Schema: "status/1", Online: true}, nil
}
func (s *still) Devices(context.Context) ([]api.Device, error) {
	return []api.Device{{ID: "dev_1", State: "idle"}}, nil
}
func (s *still) QueueSummary(context.Context) (api.QueueSummary, error) {
	return api.QueueSummary{Schema: "queue.summary/1", Count: 3}, nil
}
func (s *still) QueueItems(_ context.Context, state string, limit int) ([]api.QueueItem, error) {
	return []api.QueueItem{{ID: uint64(limit), State: state}}, nil
}
func (s *still) QueueItem(_ context.Context, id uint64) (api.QueueItem, error) {
	return api.QueueItem{ID: id}, nil
}
func (s *still) ResumeSink(context.Context) error { return nil }
func (s *still) Trace(_ context.Context, r api.TraceRequest) (api.Trace, error) {
	return api.Trace{Schema: "trace/1", On: r.Action == "start"}, nil
}
func (s *still) Operations(context.Context, string) ([]payment.Operation, error) { return nil, nil }

func TestOverTheControlChannel(t *testing.T) {
	dir := t.TempDir()
	address := local.Address(dir)
	if len(address) > 100 {
		dir, err := os.MkdirTemp("/tmp", "tb")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = local.Address(dir)
	}
	ctx := t.Context()
	c := Local(address)
	defer c.Close()
	if _, err := c.Status(ctx); !errors.Is(err, local.ErrNotRunning) {
		t.Fatalf("nobody listens: %v", err)
	}
	l, err := local.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(address); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", st.Mode(), err)
	}
	if _, err := local.Listen(address); !errors.Is(err, local.ErrInUse) {
		t.Errorf("a second agent: %v", err)
	}
	e := &still{}
	srv, err := server.New(server.Options{Engine: e, Keys: server.NewKeyring(), Control: e})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(run, l, srv.Local()); err != nil {
			t.Error(err)
		}
	})
	p, replayed, err := c.Pay(ctx, "k1", api.PaymentRequest{RegisterID: "lane1", Amount: api.Amount{Total: 5, Currency: "EUR"}}, time.Second)
	if err != nil || replayed || p.ID != "pay_1" || p.Status != "succeeded" {
		t.Errorf("pay: %+v %v", p, err)
	}
	if p, err := c.Payment(ctx, "pay_1", 0); err != nil || p.AmountApproved != 5 {
		t.Errorf("payment: %+v %v", p, err)
	}
	_, err = c.Payment(ctx, "pay_2", 0)
	if pr, ok := errors.AsType[*api.Problem](err); !ok || pr.Status != http.StatusNotFound || pr.Code() != "payment.not_found" {
		t.Errorf("not found: %v", err)
	}
	if s, err := c.Status(ctx); err != nil || !s.Online {
		t.Errorf("status: %+v %v", s, err)
	}
	if d, err := c.Devices(ctx); err != nil || len(d) != 1 || d[0].ID != "dev_1" {
		t.Errorf("devices: %+v %v", d, err)
	}
	if q, err := c.QueueSummary(ctx); err != nil || q.Count != 3 {
		t.Errorf("queue: %+v %v", q, err)
	}
	if q, err := c.QueueItems(ctx, "dead", 7); err != nil || len(q) != 1 || q[0].ID != 7 || q[0].State != "dead" {
		t.Errorf("items: %+v %v", q, err)
	}
	if q, err := c.QueueItem(ctx, 1<<60); err != nil || q.ID != 1<<60 {
		t.Errorf("item: %+v %v", q, err)
	}
	if tl, err := c.Timeline(ctx, "pay_1"); err != nil || len(tl.Steps) != 1 {
		t.Errorf("timeline: %+v %v", tl, err)
	}
	if tr, err := c.SetTrace(ctx, api.TraceRequest{Action: "start", Seconds: 60}); err != nil || !tr.On {
		t.Errorf("trace: %+v %v", tr, err)
	}
	if tr, err := c.Trace(ctx); err != nil || tr.On {
		t.Errorf("trace: %+v %v", tr, err)
	}
	if err := c.ResumeSink(ctx); err != nil {
		t.Errorf("resume: %v", err)
	}
	if r, err := c.Ready(ctx); err != nil || !r.Ready {
		t.Errorf("ready: %+v %v", r, err)
	}
	var seqs []uint64
	err = c.Events(ctx, 0, func(e api.Event) error {
		if seqs = append(seqs, e.Seq); len(seqs) == 2 {
			return io.ErrClosedPipe
		}
		return nil
	})
	if !errors.Is(err, io.ErrClosedPipe) || len(seqs) != 2 || seqs[1] != 2 {
		t.Errorf("events: %v %v", seqs, err)
	}
	stop()
	wg.Wait()
	// what a kill leaves behind is replaced; what is no socket is not
	if err := os.WriteFile(address, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Listen(address); err == nil {
		t.Error("a file in the way was replaced")
	}
	if _, err := local.Listen(filepath.Join(dir, string(make([]byte, 200)))); err == nil {
		t.Error("a path that the system does not take was accepted")
	}
}

func TestControlIsNotOnTheTillAPI(t *testing.T) {
	e := &still{}
	k, hash := server.NewKey()
	srv, err := server.New(server.Options{Engine: e, Control: e, Keys: server.NewKeyring(server.Credential{ID: "boss", Role: server.RoleManager, Hash: hash})})
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(ctx, l, srv.Handler()) })
	c := HTTP("http://"+l.Addr().String(), k.Reveal())
	if _, err := c.Version(ctx); err != nil {
		t.Error(err)
	}
	_, err = c.Status(ctx)
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Status != http.StatusNotFound {
		t.Errorf("/control over the till API: %v", err)
	}
	c.Close()
	stop()
	wg.Wait()
}

func (*still) DeviceInfo(context.Context, string) (api.DeviceInfo, error) {
	return api.DeviceInfo{Schema: "devices.info/1"}, nil
}

func (*still) DeviceTest(context.Context, string) (api.DeviceTest, error) {
	return api.DeviceTest{Schema: "devices.test/1", OK: true}, nil
}

func (*still) Rescan(context.Context) error { return nil }
