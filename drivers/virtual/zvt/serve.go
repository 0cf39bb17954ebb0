package zvt

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"tillbridge/drivers/virtual/port"
)

// Serve runs a terminal as a process: it prints the ready line, takes commands
// from stdin and ends when stdin ends or ctx does. The package's comment lists
// the commands. An error means that the terminal could not be set up.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	if o.Serial && !port.HavePTY {
		return fmt.Errorf("this system has no pty: leave Serial off, for TCP")
	}
	if o.Serial && o.Dir == "" {
		dir, err := os.MkdirTemp("", "tillbridge-terminal-")
		if err != nil {
			return fmt.Errorf("make the terminal's directory: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	t, err := New(o)
	if err != nil {
		return err
	}
	process := port.Process{
		Port: port.New(port.Options{
			Dir: t.o.Dir, Link: t.o.Link, Again: true, TCP: !t.o.Serial, Listen: t.o.Listen,
			Serve: func(ctx context.Context, line io.ReadWriteCloser) { _ = t.Run(ctx, line, t.o.Serial) },
		}),
		Ready:   port.Reply{"terminal_id": t.o.TerminalID},
		Restart: t.restart,
		Do:      t.command,
	}
	return process.Run(ctx, stdin, stdout)
}

// command plays one command of standard input.
func (t *Terminal) command(do string, line []byte) (port.Reply, error) {
	switch do {
	case "books":
		return port.Reply{"books": t.Books()}, nil
	case "status":
		return port.Reply{"waiting": t.Waiting(), "shown": t.Shown()}, nil
	}
	var s Step
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, err
	}
	return nil, t.Do(s)
}
