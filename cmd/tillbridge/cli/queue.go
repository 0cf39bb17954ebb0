package cli

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
)

func queueVerb(e *env) *cobra.Command {
	c := &cobra.Command{Use: "queue", Short: "Events on their way to the CRM"}
	c.AddCommand(queueSummary(e), queueList(e), queueShow(e), queueResume(e))
	return c
}

func queueSummary(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "summary",
		Short: "How much waits, since when, and why it does not go",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var q api.QueueSummary
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				q, err = cl.QueueSummary(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(q)
			}
			if q.Sink == "" {
				e.printf("no CRM is configured\n")
				return nil
			}
			e.table("", func(line func(string, ...any)) {
				line("sink\t%s", q.Sink)
				line("state\t%s", q.State)
				if q.Reason != "" {
					line("reason\t%s", q.Reason)
				}
				line("waiting\t%d", q.Count)
				if q.OldestAt != nil {
					line("oldest\t%s ago", age(*q.OldestAt))
				}
				if q.NextAt != nil && q.Count > 0 {
					line("next attempt\tin %s", until(*q.NextAt))
				}
				line("put aside\t%d", q.Dead)
			})
			return nil
		},
	}
}

func queueList(e *env) *cobra.Command {
	var state string
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List events that wait or were put aside, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if state != "" && state != "waiting" && state != "dead" {
				return fail(exitUsage, "cli.usage", "--state is waiting or dead, not %q", state)
			}
			var items []api.QueueItem
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				items, err = cl.QueueItems(ctx, state, limit)
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				if items == nil {
					items = []api.QueueItem{}
				}
				return e.object(map[string]any{"schema": "queue.list/1", "items": items})
			}
			if len(items) == 0 {
				e.printf("nothing waits\n")
				return nil
			}
			e.table("ID\tSTATE\tEVENT\tSUBJECT\tRECORDED\tATTEMPTS\tREASON", func(line func(string, ...any)) {
				for _, i := range items {
					line("%d\t%s\t%s\t%s\t%s\t%d\t%s", i.ID, i.State, i.Type, i.Subject, i.Recorded.Local().Format("2006-01-02 15:04:05"), i.Attempts, i.Reason)
				}
			})
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", "", "waiting or dead (default: both)")
	c.Flags().IntVar(&limit, "limit", 100, "how many, at most 1000")
	return c
}

func queueShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one event as it will be sent",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return fail(exitUsage, "cli.usage", "%q is not the number of an event: see `tillbridge queue list`", args[0])
			}
			var item api.QueueItem
			err = e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
				item, err = cl.QueueItem(ctx, id)
				return err
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "queue.show/1", "item": item})
			}
			e.table("", func(line func(string, ...any)) {
				line("event\t%d", item.ID)
				line("state\t%s", item.State)
				line("type\t%s", item.Type)
				line("subject\t%s", item.Subject)
				line("order key\t%s", item.OrderKey)
				line("recorded\t%s", item.Recorded.Local().Format(time.RFC3339))
				line("attempts\t%d", item.Attempts)
				if item.Reason != "" {
					line("reason\t%s", item.Reason)
				}
			})
			b, err := json.MarshalIndent(item.Event, "", "  ")
			if err != nil {
				return err
			}
			e.printf("%s\n", b)
			return nil
		},
	}
}

func queueResume(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End a pause of the CRM, after its cause was removed",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) error { return cl.ResumeSink(ctx) })
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "queue.resume/1", "resumed": true})
			}
			e.printf("resumed\n")
			return nil
		},
	}
}
