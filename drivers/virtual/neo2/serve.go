package neo2

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tillbridge/drivers/virtual/port"
)

// Serve runs a reader as a process: it prints the ready line, takes commands from
// stdin and ends when stdin ends or ctx does. The package's comment lists the
// commands. An error means that the reader could not be set up.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "tillbridge-reader-")
		if err != nil {
			return fmt.Errorf("make the reader's directory: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	if o.State == "" {
		o.State = filepath.Join(o.Dir, "reader-state.json")
	}
	r, err := New(o)
	if err != nil {
		return err
	}
	if err := r.vault.own(); err != nil {
		return err
	}
	link := "serial"
	if r.o.HID {
		link = "hid"
	}
	process := port.Process{
		Port: port.New(port.Options{
			Dir: r.o.Dir, Link: r.o.Link, TCP: r.o.HID || r.o.Listen != "", Listen: r.o.Listen,
			Serve: func(ctx context.Context, line io.ReadWriteCloser) {
				if r.o.HID {
					line = wholeReports{line}
				}
				_ = r.Run(ctx, line)
			},
		}),
		Ready: port.Reply{"serial": r.o.Serial, "link": link},
		Do:    r.do,
	}
	return process.Run(ctx, stdin, stdout)
}

// wholeReports reads reports from a stream.
type wholeReports struct{ io.ReadWriteCloser }

func (w wholeReports) Read(p []byte) (int, error) { return io.ReadFull(w.ReadWriteCloser, p) }

// do plays one command of standard input.
func (r *Reader) do(do string, line []byte) (port.Reply, error) {
	switch do {
	case "books":
		b := r.Books()
		if b == nil {
			b = []Payment{}
		}
		return port.Reply{"books": b}, nil
	case "status":
		return port.Reply{"waiting": r.Waiting()}, nil
	case "cards":
		return port.Reply{"cards": r.CardNames()}, nil
	case "load-key":
		var k struct{ KSN, Key string }
		if err := json.Unmarshal(line, &k); err != nil {
			return nil, err
		}
		return nil, r.vault.load(InitialKey{KSN: k.KSN, Key: k.Key})
	}
	var s Step
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, err
	}
	return nil, r.Do(s)
}
