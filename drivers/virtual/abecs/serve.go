package abecs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tillbridge/drivers/virtual/port"
)

// Serve runs a pad as a process: it prints the ready line, takes commands from
// stdin and ends when stdin ends or ctx does. The package's comment lists the
// commands. An error means that the pad could not be set up.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "tillbridge-pad-")
		if err != nil {
			return fmt.Errorf("make the pad's directory: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	if o.State == "" {
		o.State = filepath.Join(o.Dir, "pad-state.json")
	}
	p, err := New(o)
	if err != nil {
		return err
	}
	if err := p.ownKeys(); err != nil {
		return err
	}
	process := port.Process{
		Port: port.New(port.Options{
			Dir: p.o.Dir, Link: p.o.Link, TCP: p.o.Listen != "", Listen: p.o.Listen,
			Serve: func(ctx context.Context, line io.ReadWriteCloser) { _ = p.Run(ctx, line) },
		}),
		Ready: port.Reply{"serial": p.o.Serial},
		Do:    p.command,
	}
	return process.Run(ctx, stdin, stdout)
}

// ownKeys makes random keys where there are none: a pad that stands alone.
func (p *Pad) ownKeys() error {
	p.vault.mu.Lock()
	n := len(p.vault.st.Keys)
	p.vault.mu.Unlock()
	if n > 0 {
		return nil
	}
	for _, use := range []string{"pin", "data"} {
		b := make([]byte, 16+4)
		rand.Read(b)
		ksn := append([]byte{0xFF, 0xFF}, b[16:]...)
		ksn = append(ksn, 0, 0, 0, 0)
		if err := p.vault.load(InitialKey{Use: use, KSN: hex.EncodeToString(ksn), Key: hex.EncodeToString(b[:16])}); err != nil {
			return err
		}
	}
	return nil
}

// command plays one command of standard input.
func (p *Pad) command(do string, line []byte) (port.Reply, error) {
	var s Step
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, err
	}
	switch do {
	case "books":
		b := p.Books()
		if b == nil {
			b = []Payment{}
		}
		return port.Reply{"books": b}, nil
	case "status":
		return port.Reply{"waiting": p.Waiting(), "shown": p.Shown()}, nil
	case "cards":
		return port.Reply{"cards": p.CardNames()}, nil
	case "load-key":
		return nil, p.vault.load(InitialKey{Use: s.Use, Slot: s.Slot, KSN: s.KSN, Key: s.Key})
	}
	return nil, p.Do(s)
}
