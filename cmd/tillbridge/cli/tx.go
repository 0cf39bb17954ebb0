package cli

import (
	"context"
	"crypto/rand"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
)

func txVerb(e *env) *cobra.Command {
	c := &cobra.Command{Use: "tx", Short: "Payments: list, show, timeline, resolve"}
	c.AddCommand(txList(e), txShow(e), txTimeline(e), txResolve(e))
	return c
}

func txList(e *env) *cobra.Command {
	var reference, register, status, after string
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List payments, newest first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{}
			for k, v := range map[string]string{"reference": reference, "register_id": register, "status": status, "after": after} {
				if v != "" {
					q.Set(k, v)
				}
			}
			q.Set("limit", strconv.Itoa(limit))
			var l api.PaymentList
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				l, err = cl.Payments(ctx, q)
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "tx.list/1", "payments": l.Payments, "next": l.Next})
			}
			if len(l.Payments) == 0 {
				e.printf("no payments\n")
				return nil
			}
			e.table("PAYMENT\tTIME\tREGISTER\tAMOUNT\tSTATE\tMONEY MOVED\tCARD\tREFERENCE", func(line func(string, ...any)) {
				for _, p := range l.Payments {
					line("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", p.ID, p.Created.Local().Format("2006-01-02 15:04:05"), p.RegisterID,
						minor(p.Amount.Total, p.Amount.Currency), stateText(p.Status, p.Stage), p.MoneyMoved, cardText(p.Card), p.Reference)
				}
			})
			if l.Next != "" {
				e.printf("more: tillbridge tx list --after %s\n", l.Next)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&reference, "reference", "", "the till's reference")
	f.StringVar(&register, "register", "", "register id")
	f.StringVar(&status, "status", "", "a status such as in_doubt, or open")
	f.StringVar(&after, "after", "", "payment id: older ones")
	f.IntVar(&limit, "limit", 20, "how many, at most 200")
	return c
}

func cardText(c *api.Card) string {
	if c == nil || c.Last4 == "" {
		return ""
	}
	return strings.TrimSpace(c.Brand + " ****" + c.Last4)
}

func txShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one payment",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var p api.Payment
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				p, err = cl.Payment(ctx, args[0], 0)
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "tx.show/1", "payment": p})
			}
			e.showPayment(p)
			return nil
		},
	}
}

func (e *env) showPayment(p api.Payment) {
	e.table("", func(line func(string, ...any)) {
		row := func(name, value string) {
			if value != "" {
				line("%s\t%s", name, value)
			}
		}
		row("payment", p.ID)
		row("state", stateText(p.Status, p.Stage))
		row("money moved", p.MoneyMoved)
		row("retry", p.Retry)
		row("amount", minor(p.Amount.Total, p.Amount.Currency))
		if p.AmountApproved != 0 {
			row("approved", minor(p.AmountApproved, p.Amount.Currency))
		}
		if p.AmountRefunded != 0 {
			row("given back", minor(p.AmountRefunded, p.Amount.Currency))
		}
		row("register", p.RegisterID)
		row("device", p.DeviceID)
		row("reference", p.Reference)
		row("card", cardText(p.Card))
		if p.Card != nil {
			row("entry", p.Card.Entry)
			row("token", p.Card.Token)
			row("PAR", p.Card.PAR)
		}
		if x := p.EMV; x != nil {
			row("AID", x.AID)
			row("TVR", x.TVR)
			row("TSI", x.TSI)
			row("CVM", x.CVM)
			row("ARC", x.ARC)
		}
		row("approval code", p.ApprovalCode)
		if h := p.HostRef; h != nil {
			row("STAN", h.STAN)
			row("RRN", h.RRN)
			row("response code", h.ResponseCode)
		}
		row("reason", p.Reason)
		row("code", p.Code)
		row("created", p.Created.Local().Format(time.RFC3339))
		row("updated", p.Updated.Local().Format(time.RFC3339))
		row("operations", strings.Join(p.Operations, " "))
	})
	if p.Status == "in_doubt" {
		e.printf("DO NOT run the card again. The agent is settling this payment; `tillbridge tx timeline %s` shows each step.\n", p.ID)
	}
}

func txTimeline(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "timeline ID",
		Short: "Show each step of a payment with its time",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var t api.Timeline
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				t, err = cl.Timeline(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				t.Schema = "tx.timeline/1"
				return e.object(t)
			}
			e.table("", func(line func(string, ...any)) {
				for _, s := range t.Steps {
					line("+%.3f\t%s\t%s\t%s\t%s", float64(s.OffsetMS)/1000, s.Where, stateText(s.Status, s.Stage), s.Note, s.Subject)
				}
			})
			return nil
		},
	}
}

func txResolve(e *env) *cobra.Command {
	var outcome, evidence string
	c := &cobra.Command{
		Use:   "resolve ID --outcome OUTCOME --evidence TEXT",
		Short: "Close a payment in doubt by a person's decision, with evidence",
		Long: `Close a payment in doubt by a person's decision. It is written into the payment's
record and cannot be taken back.

Outcome is succeeded, authorized, declined, failed or reversed; once a reversal
is on its way only reversed is accepted. Evidence is what you saw: a line of the
acquirer's portal, the terminal's receipt. It must hold no card number.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if outcome == "" || evidence == "" {
				return fail(exitUsage, "cli.usage", "both --outcome and --evidence are needed: see `tillbridge tx resolve --help`")
			}
			var p api.Payment
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				p, err = cl.Resolve(ctx, "cli-"+rand.Text(), args[0], api.ResolveRequest{Outcome: outcome, Evidence: evidence})
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "tx.resolve/1", "payment": p})
			}
			e.showPayment(p)
			return nil
		},
	}
	c.Flags().StringVar(&outcome, "outcome", "", "succeeded, authorized, declined, failed or reversed")
	c.Flags().StringVar(&evidence, "evidence", "", "what the decision rests on")
	return c
}
