package zvt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Serve runs a terminal as a process: it prints the ready line, takes commands
// from stdin and ends when stdin ends or ctx does. The package's comment lists
// the commands. An error means that the terminal could not be set up.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
	sv := &server{t: t, ctx: ctx, out: json.NewEncoder(stdout)}
	if err := sv.plug(t.o.Link); err != nil {
		return err
	}
	defer sv.unplug()
	if err := sv.print(sv.ready()); err != nil {
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
			case lines <- append([]byte(nil), s.Bytes()...):
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
			if len(strings.TrimSpace(string(line))) == 0 {
				continue
			}
			if err := sv.print(sv.do(line)); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// server is the terminal's process: the port and the commands.
type server struct {
	t   *Terminal
	ctx context.Context
	out *json.Encoder

	mu   sync.Mutex
	port *port // nil while unplugged
	addr string
}

// port is one plugged-in life.
type port struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// plug opens the port and runs the terminal on it.
func (sv *server) plug(link string) error {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.port != nil {
		return errors.New("plugged in already: unplug first")
	}
	ctx, cancel := context.WithCancel(sv.ctx)
	p := &port{cancel: cancel, done: make(chan struct{})}
	if sv.t.o.Serial {
		if link == "" {
			link = sv.t.o.Link
		}
		if link != filepath.Base(link) {
			cancel()
			return errors.New("link is a name without a directory")
		}
		path := filepath.Join(sv.t.o.Dir, link)
		line, err := linkPTY(path)
		if err != nil {
			cancel()
			return err
		}
		sv.addr, sv.port = path, p
		go sv.serveSerial(ctx, p, line, path)
		return nil
	}
	listen := sv.t.o.Listen
	if sv.addr != "" {
		listen = sv.addr // the same address after a replug
	}
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		cancel()
		return fmt.Errorf("listen for the register: %w", err)
	}
	sv.addr, sv.port = l.Addr().String(), p
	go sv.serveTCP(ctx, p, l)
	return nil
}

// linkPTY opens a pty and links its name.
func linkPTY(path string) (io.ReadWriteCloser, error) {
	line, device, err := openPTY()
	if err != nil {
		return nil, fmt.Errorf("open a pty: %w", err)
	}
	os.Remove(path)
	if err := os.Symlink(device, path); err != nil {
		line.Close()
		return nil, fmt.Errorf("link the pty: %w", err)
	}
	return line, nil
}

// serveSerial serves one pty after the other: a fault that drops the line
// brings a new one under the same name.
func (sv *server) serveSerial(ctx context.Context, p *port, line io.ReadWriteCloser, path string) {
	defer close(p.done)
	defer os.Remove(path)
	for {
		_ = sv.t.Run(ctx, line, true)
		if ctx.Err() != nil {
			return
		}
		var err error
		if line, err = linkPTY(path); err != nil {
			return
		}
	}
}

// serveTCP serves one register after the other.
func (sv *server) serveTCP(ctx context.Context, p *port, l net.Listener) {
	defer close(p.done)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = sv.t.Run(ctx, c, false)
	}
}

// unplug takes the port away and waits until nothing of it is left.
func (sv *server) unplug() error {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.port == nil {
		return errors.New("not plugged in")
	}
	sv.port.cancel()
	<-sv.port.done
	sv.port = nil
	return nil
}

type reply map[string]any

func (sv *server) print(r reply) error { return sv.out.Encode(r) }

func (sv *server) ready() reply {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return reply{"ready": true, "addr": sv.addr, "terminal_id": sv.t.o.TerminalID, "pid": os.Getpid()}
}

// do plays one command.
func (sv *server) do(line []byte) reply {
	var c Step
	if err := json.Unmarshal(line, &c); err != nil {
		return reply{"ok": false, "error": "not a command: one JSON object a line"}
	}
	r := reply{"ok": true, "do": c.Do}
	var err error
	switch c.Do {
	case "unplug":
		err = sv.unplug()
	case "replug":
		err = sv.plug(c.Link)
		r["addr"] = sv.ready()["addr"]
	case "restart":
		_ = sv.unplug()
		sv.t.restart()
		err = sv.plug(c.Link)
		r["addr"] = sv.ready()["addr"]
	case "books":
		r["books"] = sv.t.Books()
	case "status":
		r["waiting"], r["shown"] = sv.t.Waiting(), sv.t.Shown()
	default:
		err = sv.t.Do(c)
	}
	if err != nil {
		return reply{"ok": false, "do": c.Do, "error": err.Error()}
	}
	return r
}
