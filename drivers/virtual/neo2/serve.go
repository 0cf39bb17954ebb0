package neo2

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

// Serve runs a reader as a process: it prints the ready line, takes commands from
// stdin and ends when stdin ends or ctx does. The package's comment lists the
// commands. An error means that the reader could not be set up.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
	p, err := New(o)
	if err != nil {
		return err
	}
	if err := p.vault.own(); err != nil {
		return err
	}
	sv := &server{reader: p, ctx: ctx, out: json.NewEncoder(stdout)}
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

// server is the reader's process: the port and the commands.
type server struct {
	reader *Reader
	ctx    context.Context

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

// plug opens the port under a name and runs the reader on it.
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
		link = sv.reader.o.Link
	}
	if link != filepath.Base(link) {
		return errors.New("link is a name without a directory")
	}
	ctx, cancel := context.WithCancel(sv.ctx)
	p := &port{cancel: cancel, done: make(chan struct{})}
	if listen := sv.reader.o.Listen; listen != "" || !havePTY || sv.reader.o.HID {
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
	path := filepath.Join(sv.reader.o.Dir, link)
	os.Remove(path)
	if err := os.Symlink(device, path); err != nil {
		line.Close()
		cancel()
		return fmt.Errorf("link the pty: %w", err)
	}
	p.addr, p.device = path, device
	go func() {
		defer close(p.done)
		sv.reader.Run(ctx, line)
		os.Remove(path)
	}()
	sv.port = p
	return nil
}

// wholeReports reads reports from a stream.
type wholeReports struct{ net.Conn }

func (w wholeReports) Read(p []byte) (int, error) { return io.ReadFull(w.Conn, p) }

func linkName(hid bool) string {
	if hid {
		return "hid"
	}
	return "serial"
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
		var line io.ReadWriteCloser = c
		if sv.reader.o.HID {
			line = wholeReports{c}
		}
		sv.reader.Run(ctx, line)
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
	return reply{"ready": true, "addr": sv.port.addr, "pty": sv.port.device, "serial": sv.reader.o.Serial, "link": linkName(sv.reader.o.HID), "pid": os.Getpid()}
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
		b := sv.reader.Books()
		if b == nil {
			b = []Payment{}
		}
		r["books"] = b
	case "status":
		r["waiting"] = sv.reader.Waiting()
	case "cards":
		r["cards"] = sv.reader.CardNames()
	case "load-key":
		var k struct {
			KSN string `json:"ksn"`
			Key string `json:"key"`
		}
		if err = json.Unmarshal(line, &k); err == nil {
			err = sv.reader.vault.load(InitialKey{KSN: k.KSN, Key: k.Key})
		}
	default:
		err = sv.reader.Do(c)
	}
	if err != nil {
		return reply{"ok": false, "do": c.Do, "error": err.Error()}
	}
	return r
}
