package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent"
	"tillbridge/drivers"
	"tillbridge/p2pe/mask"
)

func runVerb(e *env) *cobra.Command {
	var readyLine bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the agent in the foreground, or under the service manager",
		Long: `Run the agent until it is interrupted (Ctrl-C, SIGTERM) or the service manager
stops it. It writes its log to standard error.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return e.run(c.Context(), readyLine, nil) },
	}
	c.Flags().BoolVar(&readyLine, "ready-line", false, "print one line of JSON when ready, and end with the input (for programs that start this one)")
	return c
}

// run runs the agent until ctx ends. With readyLine it prints one line of JSON
// when it is ready and ends with the input. buses are beside the machine's own.
func (e *env) run(ctx context.Context, readyLine bool, buses []drivers.Bus) error {
	started := time.Now()
	cfg, err := e.load()
	if err != nil {
		return err
	}
	path, err := filepath.Abs(e.config)
	if err != nil {
		path = e.config
	}
	log := agentLog(e.err, cfg.Agent.Log)
	ready := func(listen string) {
		switch {
		case readyLine:
			_ = e.object(map[string]any{"ready": true, "addr": listen, "control": cfg.Agent.Control, "start_ms": time.Since(started).Milliseconds()})
		case !e.quiet && !e.json:
			e.printf("tillbridge %s is ready: tills call http://%s, technicians `tillbridge status`\n", e.version, listen)
		}
	}
	if readyLine {
		// As a child of a demo or a test: the end of the input is the end.
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, e.in)
			cancel()
		}()
	}
	err = agent.Service(ctx, func(ctx context.Context) error {
		return agent.Run(ctx, agent.Options{Config: cfg, ConfigPath: path, Version: e.version, Log: log, Started: started, Ready: ready, Buses: buses})
	})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if e.json && !readyLine {
		return e.object(map[string]any{"schema": "run/1", "stopped": true})
	}
	return nil
}

// agentLog writes JSON lines with card numbers cut out.
func agentLog(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // checked with the configuration
	if w == nil {
		w = os.Stderr
	}
	return slog.New(mask.NewHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})))
}
