package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tillbridge/agent"
	"tillbridge/agent/api/client"
	"tillbridge/queue"
)

// TestHostFaultsNeverChargeTwiceNorUnknowingly lets the acquirer do each wrong
// thing once: whatever it was, the record and the acquirer's books end equal.
func TestHostFaultsNeverChargeTwiceNorUnknowingly(t *testing.T) {
	t.Parallel()
	s := open(t, "2s")
	faults := []string{"wrong_stan", "double", "drop_after", "half"}
	if os.Getenv("TILLBRIDGE_LARGE") != "" {
		faults = append(faults, "wrong_terminal", "garbage", "silent", "lost", "drop_before")
	}
	for i, fault := range faults {
		s.acquirer.tell(`{"cmd":"` + fault + `"}`)
		s.chip()
		first := s.pay("fault-"+fault, `{"amount":{"total":1000,"currency":"EUR"},"reference":"`+fault+`"}`)
		if first.Status != 200 && first.Status != 202 {
			t.Fatalf("%s: %d %s", fault, first.Status, first.Text)
		}
		var last answer
		s.until(fault+" is settled", func() bool {
			last = s.call("GET", "/v1/payments/"+first.str("id"), "")
			return last.str("status") != "in_doubt" && last.str("status") != "in_progress"
		})
		charged := 0.0
		for _, e := range s.books()["entries"].([]any) {
			e := e.(map[string]any)
			if e["reference"] == first.str("id") && e["code"] == "00" && e["reversed"] == nil {
				charged++
			}
		}
		want := map[string]float64{"yes": 1, "no": 0, "returned": 0}
		if n, ok := want[last.str("money_moved")]; !ok || n != charged {
			t.Errorf("%d %s: the till hears %s/%s money_moved=%s and the acquirer holds %v charges", i, fault, last.str("status"), last.str("stage"), last.str("money_moved"), charged)
		}
	}
	if b := s.books(); b["double_charges"] != 0.0 || b["ksn_repeats"] != 0.0 {
		t.Errorf("books: %v", b)
	}
	s.until("the link is back", func() bool { return s.call("GET", "/readyz", "").Status == 200 })
	s.chip()
	if a := s.pay("after", tenEuro); a.str("status") != "succeeded" {
		t.Errorf("a sale after all that: %d %s", a.Status, a.Text)
	}
}

// TestStopDuringAPayment: the agent is told to stop while the acquirer holds
// its answer; it waits for it, and the next start charges nothing again.
func TestStopDuringAPayment(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	s.acquirer.tell(`{"cmd":"hold"}`)
	s.chip()
	p := s.call("POST", "/v1/payments", tenEuro, "Idempotency-Key", "k")
	s.until("the acquirer holds it", func() bool { return s.authorisations() == 1 })
	stop := s.stop
	s.stop = nil
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	s.acquirer.tell(`{"cmd":"release"}`)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(2 * guard):
		t.Fatal("the agent does not stop")
	}
	s.start()
	var a answer
	s.until("it has ended", func() bool {
		a = s.call("GET", "/v1/payments/"+p.str("id"), "")
		return a.str("status") == "succeeded" || a.str("status") == "reversed"
	})
	net, want := s.books()["net"].(map[string]any)["978"], map[string]float64{"succeeded": 1000, "reversed": 0}[a.str("status")]
	if got, _ := net.(float64); got != want {
		t.Errorf("the till hears %s, the acquirer keeps %v", a.str("status"), net)
	}
}

// TestWaitingForACardEndsWithTheAgent: a payment that has not reached the card
// is cancelled by a stop, at once and with nothing charged.
func TestWaitingForACardEndsWithTheAgent(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	p := s.call("POST", "/v1/payments", tenEuro, "Idempotency-Key", "k")
	s.end()
	s.start()
	var a answer
	s.until("it has ended", func() bool {
		a = s.call("GET", "/v1/payments/"+p.str("id"), "")
		return a.str("status") == "canceled" || a.str("status") == "reversed"
	})
	if moved := a.str("money_moved"); moved != "no" && moved != "returned" {
		t.Errorf("%s", a.Text)
	}
	if n := s.authorisations(); n != 0 {
		t.Errorf("%v authorisations", n)
	}
}

// TestSecondAgentOnTheSameDataIsRefused, with words, and harms nothing.
func TestSecondAgentOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	err := agent.Run(ctx, agent.Options{Config: s.config(), Version: "test"})
	if err == nil || !strings.Contains(err.Error(), "another tillbridge uses") {
		t.Errorf("second agent: %v", err)
	}
	s.chip()
	if a := s.pay("k", tenEuro); a.str("status") != "succeeded" {
		t.Errorf("the first one: %d %s", a.Status, a.Text)
	}
	st, err := os.Stat(s.config().Agent.Control)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("control channel: %v %v", st.Mode(), err)
	}
	if st, err := os.Stat(s.path("agent")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v %v", st.Mode(), err)
	}
}

// TestPortOfAnotherProgramIsNamed: api.listen is taken.
func TestPortOfAnotherProgramIsNamed(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	s.end()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := s.config()
	c.API.Listen = l.Addr().String()
	err = agent.Run(t.Context(), agent.Options{Config: c, Version: "test"})
	if err == nil || !strings.Contains(err.Error(), "another program has "+c.API.Listen) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(c.Agent.Control); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control channel stayed: %v", err)
	}
}

// TestDeviceWordsSayWhatIsWrong: a device at a port that nobody serves, and one
// that another program babbles on.
func TestDeviceWordsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	s.end()
	babbler, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { babbler.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := babbler.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("\x16OPN\x17\x00\x00\x16half a frame\x00\xff\x15\x15 garbage\x06\x16"))
			c.Close()
		}
	}()
	for _, c := range []struct{ name, port, words string }{
		{"no such port", s.path("ttyNONE"), s.path("ttyNONE")}, {"no such glob", s.path("ttyNONE*"), "ttyNONE*"},
		{"nobody listens", "127.0.0.1:1", "connection refused"}, {"babbler", babbler.Addr().String(), "hung up"},
	} {
		cfg := s.config()
		cfg.Device[0].Ports = []string{c.port}
		ctx, cancel := context.WithCancel(t.Context())
		ended, ready := make(chan error, 1), make(chan string, 1)
		go func() {
			ended <- agent.Run(ctx, agent.Options{Config: cfg, Version: "test", Ready: func(a string) { ready <- a }})
		}()
		s.base = "http://" + <-ready
		cl := client.Local(cfg.Agent.Control)
		s.until(c.name+" is told", func() bool {
			list, err := cl.Devices(ctx)
			if err != nil || len(list) != 1 {
				t.Fatalf("%s: %v %v", c.name, list, err)
			}
			return list[0].State != "opening" && strings.Contains(list[0].Detail, c.words)
		})
		info, err := cl.DeviceInfo(ctx, "pad1")
		if err != nil || info.Device.ID != "pad1" || info.Device.Detail == "" {
			t.Errorf("%s: info %+v %v", c.name, info, err)
		}
		if os.Getenv("TILLBRIDGE_LARGE") != "" {
			a := s.pay("k-"+strings.ReplaceAll(c.name, " ", "-"), tenEuro)
			if a.str("money_moved") != "no" || a.str("code") != "device.absent" {
				t.Errorf("%s: a payment: %d %s", c.name, a.Status, a.Text)
			}
		}
		cl.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := s.authorisations(); n != 0 {
		t.Errorf("%v authorisations", n)
	}
}

// TestDamagedRecordHidesNoOther: one record cannot be opened after a restart.
// The till can still list, look up and take payments elsewhere in its books.
func TestDamagedRecordHidesNoOther(t *testing.T) {
	t.Parallel()
	s := open(t, "20s")
	var ids []string
	for _, key := range []string{"a", "b"} {
		s.chip()
		a := s.pay(key, tenEuro)
		if a.str("status") != "succeeded" {
			t.Fatalf("%d %s", a.Status, a.Text)
		}
		ids = append(ids, a.str("id"))
	}
	s.end()
	st, err := queue.Open(s.config().StorePath(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = st.Commit(t.Context(), func(tx *queue.Tx) error {
		r, err := tx.Get(ids[0])
		if err != nil {
			return err
		}
		r.Body = []byte("damaged")
		_, err = tx.Put(r)
		return err
	})
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	s.start()
	if a := s.call("GET", "/v1/payments/"+ids[0], ""); a.Status != 500 || a.str("code") != "store.record_unreadable" || a.str("money_moved") != "unknown" || a.str("retry") != "forbidden" {
		t.Errorf("the damaged one: %d %s", a.Status, a.Text)
	}
	if a := s.call("GET", "/v1/payments/"+ids[1], ""); a.str("status") != "succeeded" {
		t.Errorf("the other one: %d %s", a.Status, a.Text)
	}
	if a := s.pay("a", tenEuro); a.Status != 500 || a.str("money_moved") != "unknown" || a.str("retry") != "forbidden" {
		t.Errorf("the damaged one's key: %d %s", a.Status, a.Text)
	}
	if a := s.call("GET", "/v1/payments", ""); a.Status != 200 || !strings.Contains(a.Text, ids[1]) {
		t.Errorf("list: %d %s", a.Status, a.Text)
	}
	cl := client.Local(s.config().Agent.Control)
	defer cl.Close()
	if _, err := cl.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
	if n := s.authorisations(); n != 2 {
		t.Errorf("%v authorisations", n)
	}
}
