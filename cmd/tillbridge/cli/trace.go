package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent"
	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
	"tillbridge/drivers/transcript"
)

func traceVerb(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "trace",
		Short: "Record what passes between agent and devices, with card data cut out",
	}
	c.AddCommand(traceStart(e), traceStop(e), traceShow(e), traceReplay(e))
	return c
}

func traceStart(e *env) *cobra.Command {
	var device string
	var length time.Duration
	c := &cobra.Command{
		Use:   "start",
		Short: "Start a trace; it ends by itself",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if length < time.Second || length > 2*time.Hour {
				return fail(exitUsage, "cli.usage", "--for is between 1s and 2h, not %s", length)
			}
			return e.trace(c.Context(), api.TraceRequest{Action: "start", Seconds: int(length / time.Second), Device: device})
		},
	}
	c.Flags().DurationVar(&length, "for", 10*time.Minute, "how long")
	c.Flags().StringVar(&device, "device", "", "one device (default: all)")
	return c
}

func traceStop(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the trace",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.trace(c.Context(), api.TraceRequest{Action: "stop"})
		},
	}
}

func (e *env) trace(ctx context.Context, r api.TraceRequest) error {
	var t api.Trace
	err := e.ask(ctx, func(ctx context.Context, cl *client.Client) (err error) {
		if r.Action == "" {
			t, err = cl.Trace(ctx)
			return err
		}
		t, err = cl.SetTrace(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	if e.json {
		return e.object(t)
	}
	switch {
	case t.On && t.Until != nil:
		e.printf("tracing, ends in %s\n", until(*t.Until))
	default:
		e.printf("not tracing\n")
	}
	if t.File != "" {
		e.printf("file: %s\n", t.File)
	}
	entries, err := transcript.ParseTranscript(strings.NewReader(strings.Join(t.Lines, "\n")))
	e.showEntries(entries)
	return err
}

func traceShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the state of the trace and its last lines, or a file",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return e.trace(c.Context(), api.TraceRequest{})
			}
			entries, err := readTranscript(args[0])
			if e.json {
				if entries == nil {
					entries = []transcript.Entry{}
				}
				return errors.Join(err, e.object(map[string]any{"schema": "trace.show/1", "file": args[0], "entries": entries}))
			}
			e.showEntries(entries)
			return err
		},
	}
}

func traceReplay(e *env) *cobra.Command {
	var protocol string
	c := &cobra.Command{
		Use:   "replay FILE --protocol PROTOCOL",
		Short: "Feed a trace to the protocol's decoder and show what it reads",
		Long: `Feed a trace to the protocol's decoder and show what it reads, frame by frame.
Bytes that were cut out of the trace stand as '*', so a frame with card data
fails its checksum here; the rest is decoded as the driver does.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			describe, ok := agent.Describer(protocol)
			if !ok {
				return fail(exitUsage, "cli.usage", "--protocol is one of %s", strings.Join(agent.Protocols(), ", "))
			}
			entries, err := readTranscript(args[0])
			if err != nil && len(entries) == 0 {
				return err
			}
			type step struct {
				AtMS int64    `json:"at_ms"`
				From string   `json:"from"` // agent, device
				Says []string `json:"says"`
			}
			steps := []step{}
			for _, t := range entries {
				s := step{AtMS: t.At.Milliseconds(), From: "agent"}
				switch t.Dir {
				case transcript.Ended:
					s.From, s.Says = "line", []string{t.Text}
				case transcript.Read:
					s.From = "device"
					fallthrough
				default:
					s.Says = describe(t.Dir == transcript.Read, t.Data)
				}
				steps = append(steps, s)
			}
			if e.json {
				return errors.Join(err, e.object(map[string]any{"schema": "trace.replay/1", "file": args[0], "protocol": protocol, "steps": steps}))
			}
			for _, s := range steps {
				for _, says := range s.Says {
					e.printf("+%.3f  %-6s  %s\n", float64(s.AtMS)/1000, s.From, says)
				}
			}
			return err
		},
	}
	c.Flags().StringVar(&protocol, "protocol", "", "abecs, zvt, neo2 or ccid")
	return c
}

func readTranscript(path string) ([]transcript.Entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fail(exitNotFound, "trace.not_found", "there is no file %s", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := transcript.ParseTranscript(f)
	if err != nil {
		err = fail(exitFailed, "trace.damaged", "%w; %d turn(s) before it can be read", err, len(entries))
	}
	return entries, err
}

// showEntries prints turns as hex and text.
func (e *env) showEntries(entries []transcript.Entry) {
	for _, t := range entries {
		arrow := map[transcript.Direction]string{transcript.Read: "<-", transcript.Wrote: "->", transcript.Ended: "--"}[t.Dir]
		if t.Dir == transcript.Ended {
			e.printf("+%.3f %s %s\n", t.At.Seconds(), arrow, t.Text)
			continue
		}
		for at := 0; at < len(t.Data); at += 16 {
			row := t.Data[at:min(at+16, len(t.Data))]
			text := strings.Map(func(r rune) rune {
				if r < 0x20 || r > 0x7E {
					return '.'
				}
				return r
			}, latin(row))
			e.printf("+%.3f %s %-48s %s\n", t.At.Seconds(), arrow, fmt.Sprintf("% X", row), text)
		}
	}
}

func latin(b []byte) string {
	r := make([]rune, len(b))
	for i, x := range b {
		r[i] = rune(x)
	}
	return string(r)
}
