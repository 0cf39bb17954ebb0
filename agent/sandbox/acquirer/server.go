package acquirer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"time"
)

// Options of [Run] and [Serve]. The zero value listens on a free port of the
// loopback with a certificate of its own.
type Options struct {
	Addr string // host:port; "127.0.0.1:0" when empty
	// BooksPath is the file of the ledger; empty keeps it in memory.
	BooksPath string
	// Certificate is the host's; nil makes an authority and a certificate for
	// localhost and 127.0.0.1 that live as long as the process.
	Certificate *tls.Certificate
	// Keys are the base keys; all empty makes new ones with NewKeys.
	Keys        Keys
	IdleTimeout time.Duration // of a silent connection; 10 min when zero
	MaxConns    int           // 64 when zero
	Logger      *slog.Logger  // nil: nothing is logged
	// Events, when set, is called with each request, answer and connection. It
	// must return soon.
	Events func(Event)
	// Now is the host's clock; time.Now when nil.
	Now func() time.Time
}

// Server is a running host.
type Server struct {
	*Host
	Addr  string // where it listens
	CAPEM []byte // the authority to pin; empty when Options gave a certificate
	ln    net.Listener
	stop  context.CancelFunc
	wg    sync.WaitGroup
	idle  time.Duration
	slots chan struct{}
}

// Run starts a host. It stops when ctx ends or Close is called.
func Run(ctx context.Context, o Options) (*Server, error) {
	books, err := OpenBooks(o.BooksPath)
	if err != nil {
		return nil, err
	}
	if o.Keys == (Keys{}) {
		o.Keys = NewKeys()
	}
	ks, err := newKeys(o.Keys)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 10 * time.Minute
	}
	if o.MaxConns == 0 {
		o.MaxConns = 64
	}
	s := &Server{idle: o.IdleTimeout, slots: make(chan struct{}, o.MaxConns), Host: &Host{
		books: books, keys: ks, log: o.Logger, now: o.Now, events: o.Events,
		pins: map[string]string{}, gate: make(chan struct{}), conns: map[net.Conn]bool{}}}
	cert := o.Certificate
	if cert == nil {
		if cert, s.CAPEM, err = selfSigned(); err != nil {
			return nil, fmt.Errorf("sandbox: make a certificate: %w", err)
		}
	}
	ln, err := tls.Listen("tcp", o.Addr, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, fmt.Errorf("sandbox: listen: %w", err)
	}
	s.ln, s.Addr = ln, ln.Addr().String()
	ctx, s.stop = context.WithCancel(ctx)
	s.wg.Go(func() { s.accept(ctx) })
	s.wg.Go(func() {
		<-ctx.Done()
		ln.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.Close()
		}
	})
	return s, nil
}

// Roots returns a pool with the host's authority alone.
func (s *Server) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CAPEM)
	return pool
}

// Close stops the host and waits for its connections.
func (s *Server) Close() error {
	s.stop()
	s.wg.Wait()
	return nil
}

func (s *Server) accept(ctx context.Context) {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("sandbox: accept", "err", err)
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case s.slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		s.mu.Lock()
		down := s.down || ctx.Err() != nil
		if !down {
			s.conns[conn] = true
		}
		s.mu.Unlock()
		if down {
			conn.Close()
			<-s.slots
			continue
		}
		s.wg.Go(func() {
			s.serve(ctx, conn)
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			<-s.slots
		})
	}
}

// serve reads one connection. Each message is answered by a goroutine of its
// own, so that a held answer does not hold the others.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	s.events(Event{Event: "connected"})
	defer s.events(Event{Event: "disconnected"})
	var writing sync.Mutex
	var answers sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer answers.Wait()
	defer cancel()
	for {
		_ = conn.SetReadDeadline(time.Now().Add(s.idle))
		body, err := readFrame(conn)
		if err != nil {
			return
		}
		if len(body) == 0 {
			continue
		}
		m, err := formOf(body).decode(body)
		if err == nil {
			err = m.check()
		}
		if err != nil {
			s.log.Warn("sandbox: a message that cannot be read", "bytes", len(body), "err", err)
			continue
		}
		f, gate := s.next(m)
		ev := Event{Event: "request", MTI: m.mti, STAN: m.text(11), Terminal: m.text(41), Reference: m.text(62)}
		if f != nil {
			ev.Fault = f.Cmd
			switch f.Cmd {
			case "drop_before":
				s.events(ev)
				return
			case "lost":
				s.events(ev)
				continue
			}
		}
		a, _, err := s.handle(m, f)
		s.events(ev)
		if err != nil {
			s.log.Error("sandbox: a message that cannot be handled", "mti", m.mti, "err", err)
			return
		}
		if f != nil && f.Cmd == "drop_after" {
			return
		}
		answers.Go(func() {
			if f != nil && !pause(ctx, f, gate) {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if err := s.write(conn, body, a, f); err != nil {
				conn.Close()
				return
			}
		})
	}
}

// write sends the answer, or what a fault makes of it.
func (s *Server) write(conn net.Conn, request []byte, a message, f *Fault) error {
	cmd := ""
	if f != nil {
		cmd = f.Cmd
	}
	switch cmd {
	case "silent":
		return nil
	case "garbage":
		return send(conn, []byte{0xDE, 0xAD, 0xBE, 0xEF, 0x00, 0x01, 0x02})
	case "wrong_stan":
		n := 0
		fmt.Sscanf(a.text(11), "%d", &n)
		a.de[11] = fmt.Appendf(nil, "%06d", n%999999+1)
	case "wrong_terminal":
		a.de[41] = []byte("OTHER001")
	}
	raw, err := formOf(request).encode(a)
	if err != nil {
		return err
	}
	if cmd == "half" {
		frame := []byte{byte(len(raw) >> 8), byte(len(raw))}
		_, _ = conn.Write(append(frame, raw[:len(raw)/2]...))
		return io.ErrUnexpectedEOF
	}
	if err := send(conn, raw); err != nil {
		return err
	}
	s.events(Event{Event: "answer", MTI: a.mti, STAN: a.text(11), Terminal: a.text(41), Reference: a.text(62), Code: a.text(39), Fault: cmd})
	if cmd == "double" {
		return send(conn, raw)
	}
	return nil
}

func send(w io.Writer, body []byte) error {
	_, err := w.Write(append([]byte{byte(len(body) >> 8), byte(len(body))}, body...))
	return err
}

// readFrame reads a two-byte length and that many bytes, at most 8192.
func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0])<<8 | int(head[1])
	if n > 8192 {
		return nil, bad("a frame of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// selfSigned makes an authority and a certificate for the loopback. The
// authority's key is thrown away.
func selfSigned() (*tls.Certificate, []byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sandbox acquirer authority"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(3650 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "sandbox acquirer"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(3650 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}
