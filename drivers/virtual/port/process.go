package port

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"sync"
)

// Reply is one line that a process prints.
type Reply map[string]any

// Process is a device as a program.
type Process struct {
	Port *Port
	// Ready is what the first line says besides "ready", "addr", "pty", "pid".
	Ready Reply
	// Restart, when set, is what the device loses with its power.
	Restart func()
	// Do carries out a command of the device: its name, and the whole line,
	// which is a JSON object. The reply may be nil; "ok" and "do" are added.
	Do func(do string, line []byte) (Reply, error)
}

// Run plugs the port in, prints the ready line, takes commands from stdin and
// ends when stdin ends or ctx does, with the port unplugged. A stdin that can
// be closed is closed, and its reader waited for. An error means that the port
// could not be opened, or stdout not be written.
func (p *Process) Run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := p.Port.Plug(ctx, ""); err != nil {
		return err
	}
	defer p.Port.Unplug()
	out := json.NewEncoder(stdout)
	ready := Reply{"ready": true, "pid": os.Getpid()}
	p.where(ready)
	maps.Copy(ready, p.Ready)
	if err := out.Encode(ready); err != nil {
		return err
	}
	lines := make(chan []byte)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(lines)
		s := bufio.NewScanner(stdin)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			select {
			case lines <- bytes.Clone(s.Bytes()):
			case <-ctx.Done():
				return
			}
		}
	})
	defer func() {
		cancel()
		if c, ok := stdin.(io.Closer); ok {
			c.Close()
			reader.Wait()
		}
	}()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if err := out.Encode(p.command(ctx, line)); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *Process) where(r Reply) { r["addr"], r["pty"] = p.Port.Where() }

// command plays one line.
func (p *Process) command(ctx context.Context, line []byte) Reply {
	var c struct{ Do, Link string }
	if err := json.Unmarshal(line, &c); err != nil {
		return Reply{"ok": false, "error": "not a command: one JSON object a line"}
	}
	r := Reply{}
	var err error
	switch c.Do {
	case "unplug":
		err = p.Port.Unplug()
	case "restart":
		_ = p.Port.Unplug() // it may be unplugged already
		if p.Restart != nil {
			p.Restart()
		}
		fallthrough
	case "replug", "plug":
		if err = p.Port.Plug(ctx, c.Link); err == nil {
			p.where(r)
		}
	default:
		var own Reply
		if own, err = p.Do(c.Do, line); own != nil {
			r = own
		}
	}
	if err != nil {
		return Reply{"ok": false, "do": c.Do, "error": err.Error()}
	}
	r["ok"], r["do"] = true, c.Do
	return r
}
