package demo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"tillbridge/agent/api/client"
	"tillbridge/emv/virtualcard"
)

// morning: chip, tap, a decline, a customer who walks off.
func (s *shop) morning(ctx context.Context) (err error) {
	s.tell.chapter("Morning")
	if err = s.chip(ctx, "visa-debit"); err != nil {
		return err
	}
	if s.first, err = s.sale(ctx, s.lane1, 1250, "C-1001", "succeeded", "chip and PIN"); err != nil {
		return err
	}
	if err = s.customer(ctx, do("tap", "mastercard-credit")); err != nil {
		return err
	}
	if _, err = s.sale(ctx, s.lane1, 420, "C-1002", "succeeded", "tap"); err != nil {
		return err
	}
	if err = s.acquirer.command(ctx, map[string]any{"cmd": "decline", "code": "51"}, nil); err != nil {
		return err
	}
	if err = s.chip(ctx, "visa-credit"); err != nil {
		return err
	}
	if _, err = s.sale(ctx, s.lane1, 8900, "C-1003", "declined", "the issuer says no: too little money"); err != nil {
		return err
	}
	if err = s.customer(ctx, do("cancel", "")); err != nil {
		return err
	}
	if _, err = s.sale(ctx, s.lane1, 1999, "", "canceled", "the customer pressed the red key"); err != nil {
		return err
	}
	// The cashier cancels while the pad waits.
	p, err := s.lane1.begin(ctx, s.lane1.newKey(), 2599, "")
	if err != nil {
		return err
	}
	if p, err = s.lane1.until(ctx, p.ID, 30*time.Second, func(p payment) bool {
		// A pad that takes taps may move money as soon as it waits for a card.
		return p.Stage == "waiting_card" || p.Stage == "authorizing" || p.settled()
	}); err != nil {
		return err
	}
	if _, err = s.lane1.cancel(ctx, p.ID); err != nil {
		return err
	}
	if p, err = s.lane1.until(ctx, p.ID, 30*time.Second, payment.settled); err != nil {
		return err
	}
	s.payment(p, "the cashier cancelled")
	return expect("the cancelled payment", p.Status, "canceled")
}

// corrections: a void and a partial refund.
func (s *shop) corrections(ctx context.Context) (err error) {
	if err = s.chip(ctx, "visa-debit"); err != nil {
		return err
	}
	p, err := s.sale(ctx, s.lane1, 3333, "C-1001", "succeeded", "a sale over the wrong amount")
	if err != nil {
		return err
	}
	o, err := s.lane1.void(ctx, p.ID)
	if err != nil {
		return err
	}
	if p, err = s.lane1.until(ctx, p.ID, 60*time.Second, func(p payment) bool { return p.Status == "reversed" }); err != nil {
		return fmt.Errorf("void %s is %s (%s): %w", o.ID, o.Status, o.Reason, err)
	}
	s.payment(p, "voided by the cashier")
	if o, err = s.lane1.refund(ctx, s.first.ID, 250); err != nil {
		return err
	}
	if err = expect("refund "+o.ID+" ("+o.Reason+")", o.Status, "succeeded"); err != nil {
		return err
	}
	s.result.Refunds++
	s.tell.say("ok", "refunded  2.50 EUR of the first sale")
	return nil
}

// terminal: the second lane has a terminal that authorises by itself.
func (s *shop) terminal(ctx context.Context) error {
	s.tell.chapter("Lane 2: a terminal that authorises by itself")
	auto := func(m map[string]any) error { return s.zvt.command(ctx, m, nil) }
	if err := auto(map[string]any{"do": "tap"}); err != nil {
		return err
	}
	if _, err := s.sale(ctx, s.lane2, 1000, "C-2001", "succeeded", "tap at the terminal"); err != nil {
		return err
	}
	// The answer is lost between terminal and agent.
	if err := auto(map[string]any{"do": "fault", "fault": "lose-status"}); err != nil {
		return err
	}
	if err := auto(map[string]any{"do": "insert"}); err != nil {
		return err
	}
	if _, err := s.sale(ctx, s.lane2, 2240, "C-2002", "succeeded", "its answer was lost; the terminal was asked"); err != nil {
		return err
	}
	s.result.Terminal.Recovered++
	if err := auto(map[string]any{"do": "decline"}); err != nil {
		return err
	}
	_, err := s.sale(ctx, s.lane2, 5000, "", "declined", "the terminal says no")
	return err
}

// crmDown: sales go on while the CRM is away.
func (s *shop) crmDown(ctx context.Context) error {
	s.tell.chapter("The CRM goes down; sales go on")
	if err := s.crm.command(ctx, map[string]any{"cmd": "down"}, nil); err != nil {
		return err
	}
	for i, card := range []string{"visa-debit", "mastercard-credit", "visa-debit"} {
		if err := s.customer(ctx, do("tap", card)); err != nil {
			return err
		}
		if _, err := s.sale(ctx, s.lane1, int64(700+100*i), fmt.Sprintf("C-100%d", 1+i%2), "succeeded", "without a CRM"); err != nil {
			return err
		}
	}
	n, err := s.waiting(ctx)
	if err != nil {
		return err
	}
	s.tell.say("!", "%d event(s) wait for the CRM", n)
	return nil
}

func (s *shop) waiting(ctx context.Context) (int64, error) {
	cl := client.Local(s.control)
	defer cl.Close()
	q, err := cl.QueueSummary(ctx)
	return q.Count, err
}

// powerCut: the agent is killed while the acquirer holds its answer.
func (s *shop) powerCut(ctx context.Context) error {
	s.tell.chapter("The agent is killed in the middle of a payment")
	if err := s.acquirer.command(ctx, map[string]any{"cmd": "hold"}, nil); err != nil {
		return err
	}
	if err := s.chip(ctx, "visa-credit"); err != nil {
		return err
	}
	key := s.lane1.newKey()
	p, err := s.lane1.begin(ctx, key, 4200, "C-1003")
	if err != nil {
		return err
	}
	err = s.acquirer.event(ctx, 60*time.Second, func(e map[string]any) bool {
		return e["event"] == "request" && e["reference"] == p.ID
	})
	if err != nil {
		return err
	}
	s.agent.kill()
	s.tell.say("!", "SIGKILL: the acquirer has the request, nobody has its answer")
	if err := s.acquirer.command(ctx, map[string]any{"cmd": "release"}, nil); err != nil {
		return err
	}
	s.result.Agent.Restarts++
	if err := s.pad.command(ctx, do("forget", ""), nil); err != nil {
		return err
	}
	if err := s.startAgent(ctx); err != nil {
		return err
	}
	if p, err = s.lane1.until(ctx, p.ID, 60*time.Second, payment.settled); err != nil {
		return err
	}
	s.payment(p, "settled by the restarted agent")
	if err := expect("the interrupted payment", p.Status, "reversed"); err != nil {
		return err
	}
	// The till asks again with the same key: nothing new begins.
	again, err := s.lane1.begin(ctx, key, 4200, "C-1003")
	if err != nil {
		return err
	}
	if err := expect("the payment of the same key", again.ID, p.ID); err != nil {
		return err
	}
	s.tell.say("ok", "the till repeats its request: the same payment, no second charge")
	// A card that was left in the slot is asked for first: it must not be read as
	// the next customer's. This customer does whatever the pad asks for.
	if err := s.pad.command(ctx, do("auto", "visa-credit"), nil); err != nil {
		return err
	}
	if _, err = s.sale(ctx, s.lane1, 4200, "C-1003", "succeeded", "the customer pays again"); err != nil {
		return err
	}
	if err := s.padIdle(ctx); err != nil {
		return err
	}
	return s.pad.command(ctx, do("auto", ""), nil)
}

// padIdle waits until the pad asks for nothing any more.
func (s *shop) padIdle(ctx context.Context) error {
	return s.padState(ctx, 30*time.Second, func(state string) bool { return state == "idle" })
}

// replug: the pad is pulled and comes back on another port.
func (s *shop) replug(ctx context.Context) error {
	s.tell.chapter("The pad is unplugged and comes back on another port")
	if err := s.pad.command(ctx, map[string]any{"do": "unplug"}, nil); err != nil {
		return err
	}
	if err := s.padState(ctx, 30*time.Second, func(state string) bool { return state != "idle" && state != "busy" }); err != nil {
		return err
	}
	s.tell.say("!", "unplugged: the agent reports it")
	start := time.Now()
	if err := s.pad.command(ctx, map[string]any{"do": "replug", "link": "pad7"}, nil); err != nil {
		return err
	}
	if err := s.padState(ctx, 30*time.Second, func(state string) bool { return state == "idle" }); err != nil {
		return err
	}
	s.result.Pad.Replugs++
	s.result.Pad.ReplugMS = time.Since(start).Milliseconds()
	s.tell.say("ok", "back on another port after %.1f s", time.Since(start).Seconds())
	if err := s.chip(ctx, "mastercard-credit"); err != nil {
		return err
	}
	_, err := s.sale(ctx, s.lane1, 610, "C-1002", "succeeded", "on the new port")
	return err
}

func (s *shop) padState(ctx context.Context, limit time.Duration, wanted func(string) bool) error {
	cl := client.Local(s.control)
	defer cl.Close()
	deadline := time.Now().Add(limit)
	for {
		list, err := cl.Devices(ctx)
		state := ""
		for _, d := range list {
			if d.ID == "pad1" {
				state = d.State
			}
		}
		if err == nil && wanted(state) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the pad is still %q after %s: %v", state, limit, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// crmBack: the backlog drains in order; one answer of the CRM is lost.
func (s *shop) crmBack(ctx context.Context) error {
	s.tell.chapter("The CRM returns")
	if err := s.crm.command(ctx, map[string]any{"cmd": "up"}, nil); err != nil {
		return err
	}
	if err := s.crm.command(ctx, map[string]any{"cmd": "forgetful", "count": 1}, nil); err != nil {
		return err
	}
	before, err := s.waiting(ctx)
	if err != nil {
		return err
	}
	cl := client.Local(s.control)
	defer cl.Close()
	_ = cl.ResumeSink(ctx)
	deadline := time.Now().Add(90 * time.Second)
	for {
		n, err := s.waiting(ctx)
		if err == nil && n == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d event(s) still wait for the CRM: %v", n, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.tell.say("ok", "%d event(s) drained in order; one answer of the CRM was lost and its event sent again", before)
	return nil
}

// closing: the books are compared and everything is searched.
func (s *shop) closing(ctx context.Context) error {
	s.tell.chapter("Closing")
	if err := s.count(ctx); err != nil {
		return err
	}
	cl := client.Local(s.control)
	st, err := cl.Status(ctx)
	cl.Close()
	if err != nil {
		return err
	}
	s.result.Agent.RSSMB = st.RSSMB
	s.result.CRM.Dead = int(st.Queue.Dead)
	if err := s.books(ctx); err != nil {
		return err
	}
	for _, p := range []*process{s.counter, s.reader, s.agent, s.pad, s.zvt, s.acquirer, s.crm} {
		if err := p.close(); err != nil {
			return err
		}
	}
	leaks, found, err := search(s.dir, s.canaries, func(path string) bool {
		// The pad's own state holds its keys, as a pad does.
		return strings.HasPrefix(path, s.path("pad")+string(os.PathSeparator))
	}, func(path string) bool { return path == s.path("books", "terminal.json") })
	if err != nil {
		return err
	}
	s.result.Leaks = leaks
	s.result.Problems = append(s.result.Problems, found...)
	return nil
}

func (s *shop) count(ctx context.Context) error {
	list, err := s.lane1.all(ctx)
	if err != nil {
		return err
	}
	other, err := s.lane2.all(ctx)
	if err != nil {
		return err
	}
	third, err := s.lane3.all(ctx)
	if err != nil {
		return err
	}
	c := &s.result.Payments
	for _, p := range slices.Concat(list, other, third) {
		c.Total++
		switch p.Status {
		case "succeeded":
			c.Succeeded++
		case "declined":
			c.Declined++
		case "canceled":
			c.Canceled++
		case "reversed":
			c.Reversed++
		case "in_doubt":
			c.InDoubt++
		}
	}
	return nil
}

// books asks acquirer, terminal and CRM for what they hold.
func (s *shop) books(ctx context.Context) error {
	var a struct {
		Books struct {
			Authorisations int              `json:"authorisations"`
			Reversals      int              `json:"reversals"`
			DoubleCharges  int              `json:"double_charges"`
			DoubleRefunds  int              `json:"double_refunds"`
			KSNRepeats     int              `json:"ksn_repeats"`
			ARQCFailed     int              `json:"arqc_failed"`
			Net            map[string]int64 `json:"net"`
		} `json:"books"`
	}
	if err := s.acquirer.command(ctx, map[string]any{"cmd": "books"}, &a); err != nil {
		return err
	}
	s.result.Acquirer = Acquirer{a.Books.Authorisations, a.Books.Reversals, a.Books.DoubleCharges + a.Books.DoubleRefunds}
	if a.Books.KSNRepeats != 0 || a.Books.ARQCFailed != 0 {
		s.result.Problems = append(s.result.Problems, fmt.Sprintf("the acquirer saw %d repeated KSNs and %d wrong cryptograms", a.Books.KSNRepeats, a.Books.ARQCFailed))
	}
	var z struct {
		Books struct {
			Sales         int              `json:"sales"`
			Reversals     int              `json:"reversals"`
			DoubleCharges int              `json:"double_charges"`
			Net           map[string]int64 `json:"net"`
		} `json:"books"`
	}
	if err := s.zvt.command(ctx, map[string]any{"do": "books"}, &z); err != nil {
		return err
	}
	s.result.Terminal.Sales, s.result.Terminal.Reversals, s.result.Terminal.DoubleCharges = z.Books.Sales, z.Books.Reversals, z.Books.DoubleCharges
	var c struct {
		CRM
		Net map[string]int64 `json:"net"`
	}
	if err := s.crm.command(ctx, map[string]any{"cmd": "ledger"}, &c); err != nil {
		return err
	}
	dead := s.result.CRM.Dead
	s.result.CRM = c.CRM
	s.result.CRM.Dead = dead
	s.result.Books = Books{Acquirer: byLetters(a.Books.Net), Terminal: byLetters(z.Books.Net), CRM: byLetters(c.Net)}
	return nil
}

// byLetters renames currencies given by number.
func byLetters(m map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for c, n := range m {
		if c == "978" {
			c = "EUR"
		}
		out[c] += n
	}
	return out
}

// cardNumbers are the published test numbers of all virtual cards.
func cardNumbers() ([]string, error) {
	var out []string
	for _, p := range virtualcard.Profiles() {
		c, err := virtualcard.New(&virtualcard.Options{Seed: 1}, p)
		if err != nil {
			return nil, err
		}
		out = append(out, c.PAN())
	}
	return out, nil
}
