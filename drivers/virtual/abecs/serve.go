package abecs

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
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

// Serve runs a pad as a process: it prints the ready line, takes commands from
// stdin and ends when stdin ends or ctx does. The package's comment lists the
// commands. An error means that the pad could not be set up.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
	sv := &server{pad: p, ctx: ctx, out: json.NewEncoder(stdout)}
	if err := sv.plug(p.o.Link); err != nil {
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

// server is the pad's process: the port and the commands.
type server struct {
	pad *Pad
	ctx context.Context

	outMu sync.Mutex
	out   *json.Encoder

	mu   sync.Mutex
	port *port // nil while unplugged
}

// port is one plugged-in life.
type port struct {
	addr   string // what the host opens
	device string // the pty, or the address again
	cancel context.CancelFunc
	done   chan struct{}
}

// plug opens the port under a name and runs the pad on it.
func (sv *server) plug(link string) error {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.port != nil {
		select {
		case <-sv.port.done: // a hang-up took it away
			sv.port.cancel()
			sv.port = nil
		default:
			return errors.New("plugged in already: unplug first")
		}
	}
	if link == "" {
		link = sv.pad.o.Link
	}
	if link != filepath.Base(link) {
		return errors.New("link is a name without a directory")
	}
	ctx, cancel := context.WithCancel(sv.ctx)
	p := &port{cancel: cancel, done: make(chan struct{})}
	if listen := sv.pad.o.Listen; listen != "" || !havePTY {
		if listen == "" {
			listen = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			cancel()
			return fmt.Errorf("listen for the host: %w", err)
		}
		p.addr = l.Addr().String()
		p.device = p.addr
		go sv.serveTCP(ctx, p, l)
		sv.port = p
		return nil
	}
	line, device, err := openPTY()
	if err != nil {
		cancel()
		return fmt.Errorf("open a pty: %w", err)
	}
	path := filepath.Join(sv.pad.o.Dir, link)
	os.Remove(path)
	if err := os.Symlink(device, path); err != nil {
		line.Close()
		cancel()
		return fmt.Errorf("link the pty: %w", err)
	}
	p.addr, p.device = path, device
	go func() {
		defer close(p.done)
		sv.pad.Run(ctx, line)
		os.Remove(path)
	}()
	sv.port = p
	return nil
}

// serveTCP serves one host after the other.
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
		sv.pad.Run(ctx, c)
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

func (sv *server) print(r reply) error {
	sv.outMu.Lock()
	defer sv.outMu.Unlock()
	return sv.out.Encode(r)
}

func (sv *server) ready() reply {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return reply{"ready": true, "addr": sv.port.addr, "pty": sv.port.device, "serial": sv.pad.o.Serial, "pid": os.Getpid()}
}

// do plays one command.
func (sv *server) do(line []byte) reply {
	var c Step
	if err := json.Unmarshal(line, &c); err != nil {
		return reply{"ok": false, "error": "not a command: one JSON object a line"}
	}
	var err error
	r := reply{"ok": true, "do": c.Do}
	switch c.Do {
	case "unplug":
		err = sv.unplug()
	case "replug", "plug":
		if err = sv.plug(c.Link); err == nil {
			ready := sv.ready()
			r["addr"], r["pty"] = ready["addr"], ready["pty"]
		}
	case "restart":
		sv.unplug()
		if err = sv.plug(c.Link); err == nil {
			ready := sv.ready()
			r["addr"], r["pty"] = ready["addr"], ready["pty"]
		}
	case "books":
		b := sv.pad.Books()
		if b == nil {
			b = []Payment{}
		}
		r["books"] = b
	case "status":
		r["waiting"], r["shown"] = sv.pad.Waiting(), sv.pad.Shown()
	case "cards":
		r["cards"] = sv.pad.CardNames()
	case "load-key":
		err = sv.pad.vault.load(InitialKey{Use: c.Use, Slot: c.Slot, KSN: c.KSN, Key: c.Key})
	default:
		err = sv.pad.Do(c)
	}
	if err != nil {
		return reply{"ok": false, "do": c.Do, "error": err.Error()}
	}
	return r
}
