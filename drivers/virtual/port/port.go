package port

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// Options describe a port.
type Options struct {
	// Dir holds the link to the pty, Link is its name there.
	Dir, Link string
	// TCP listens for hosts instead; so does a system without ptys. Listen is
	// the address, 127.0.0.1:0 when empty.
	TCP    bool
	Listen string
	// Again brings a pty that the device dropped back under its name, as a
	// listener takes the next host. Without it the port is gone until Plug.
	Again bool
	// Serve plays the device on a line until the line ends or ctx does, and
	// closes it.
	Serve func(ctx context.Context, line io.ReadWriteCloser)
}

// Port is where a host finds a device. It is safe for concurrent use, and
// unplugged at first.
type Port struct {
	o Options

	mu   sync.Mutex
	life *life // nil while unplugged
	addr string
	pty  string
}

// life is the time between a Plug and an Unplug.
type life struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// New makes a port.
func New(o Options) *Port {
	o.TCP = o.TCP || !HavePTY
	return &Port{o: o}
}

// Plug opens the port and serves hosts until Unplug or ctx. link is the name
// of a pty, that of the options when empty. A listener takes the address that
// it had before, or another one of its kind when that is taken by now.
func (p *Port) Plug(ctx context.Context, link string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		select {
		case <-p.life.done: // the device dropped the line itself
			p.life.cancel()
			p.life = nil
		default:
			return errors.New("plugged in already: unplug first")
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &life{cancel: cancel, done: make(chan struct{})}
	var err error
	if p.o.TCP {
		err = p.listen(ctx, l)
	} else {
		err = p.link(ctx, l, cmp.Or(link, p.o.Link))
	}
	if err != nil {
		cancel()
		return err
	}
	p.life = l
	return nil
}

// Unplug takes the port away and waits until nothing of it is left.
func (p *Port) Unplug() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return errors.New("not plugged in")
	}
	p.life.cancel()
	<-p.life.done
	p.life = nil
	return nil
}

// Where is what a host opens, the link or host:port, and the pty itself (the
// address again on TCP).
func (p *Port) Where() (addr, device string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr, p.pty
}

// link serves a pty under a name. The caller holds mu.
func (p *Port) link(ctx context.Context, l *life, name string) error {
	if name == "" || name != filepath.Base(name) {
		return errors.New("link is a name without a directory")
	}
	path := filepath.Join(p.o.Dir, name)
	line, device, err := linkPTY(path)
	if err != nil {
		return err
	}
	p.addr, p.pty = path, device
	go func() {
		defer close(l.done)
		defer os.Remove(path)
		for {
			p.o.Serve(ctx, line)
			if ctx.Err() != nil || !p.o.Again {
				return
			}
			if line, _, err = linkPTY(path); err != nil {
				return
			}
		}
	}()
	return nil
}

// linkPTY opens a pty and links its name.
func linkPTY(path string) (line io.ReadWriteCloser, device string, err error) {
	line, device, err = OpenPTY()
	if err != nil {
		return nil, "", fmt.Errorf("open a pty: %w", err)
	}
	os.Remove(path)
	if err := os.Symlink(device, path); err != nil {
		line.Close()
		return nil, "", fmt.Errorf("link the pty: %w", err)
	}
	return line, device, nil
}

// listen serves one host after the other. The caller holds mu.
func (p *Port) listen(ctx context.Context, l *life) error {
	listen := cmp.Or(p.o.Listen, "127.0.0.1:0")
	hosts, err := net.Listen("tcp", cmp.Or(p.addr, listen))
	if err != nil && p.addr != "" { // somebody took the port meanwhile
		hosts, err = net.Listen("tcp", listen)
	}
	if err != nil {
		return fmt.Errorf("listen for the host: %w", err)
	}
	p.addr = hosts.Addr().String()
	p.pty = p.addr
	go func() {
		defer close(l.done)
		stop := context.AfterFunc(ctx, func() { hosts.Close() })
		defer stop()
		defer hosts.Close()
		for {
			c, err := hosts.Accept()
			if err != nil {
				return
			}
			p.o.Serve(ctx, c)
		}
	}()
	return nil
}
