// Package crm is a customer relationship system for demonstrations and tests:
// an HTTP server that takes signed webhooks, believes nothing, and keeps books
// of its own of what it was told.
//
// [Serve] is the process: it prints {"ready":true,"addr":…}, takes one JSON
// command a line and ends at the end of its input. [Start] is the same inside
// a test.
//
// It is written from two documents, CloudEvents 1.0.2 (JSON event format, HTTP
// webhooks) and Standard Webhooks, and shares no code with the sender: a
// mistake in signing or naming shows here.
//
// # Commands
//
//	{"cmd":"up"}                              answer as a sound receiver does
//	{"cmd":"down"}                            close the port
//	{"cmd":"slow","ms":2000}                  wait before each answer
//	{"cmd":"throttle","retry_after":2,"count":3}   429
//	{"cmd":"error","status":503,"count":3}    that status; nothing is applied
//	{"cmd":"forgetful","count":2}             apply, then drop the connection
//	{"cmd":"reject","status":422,"count":1}   refuse for good
//	{"cmd":"reject","match":"pay_7"}          refuse what has this subject
//	{"cmd":"unauthorized","count":1}          401
//	{"cmd":"ledger"}                          print the books
//	{"cmd":"effects"}                         print each effect in order
//
// A count of 0 means until the next "up". Each command is answered by one
// line, {"ok":true,…} or {"ok":false,"error":…}.
//
// # Books
//
// An effect is what an event id does once. Delivered counts effects,
// redelivered the requests whose id was known, and duplicates those effects
// that were applied a second time under another id, which a sender that makes
// up ids causes. Out of order counts effects of one customer whose sequence is
// lower than one applied before.
//
// It keeps no card data: a body that holds a card number is refused and
// counted.
package crm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options of a server.
type Options struct {
	Addr   string // "" means 127.0.0.1:0
	Secret string // "whsec_…"; requests signed otherwise are refused
	Ledger string // file of the books; "" keeps them in memory
	// Tolerance is how far a timestamp may be off; 0 means 5 min.
	Tolerance time.Duration
	// Record, when set, receives every request (head and body), for a scan of
	// what reached the outside.
	Record io.Writer
}

// Server is a running receiver.
type Server struct {
	o      Options
	key    []byte
	books  *books
	addr   string
	recMu  sync.Mutex
	mu     sync.Mutex // guards addr, mood and http
	mood   mood
	http   *http.Server
	served sync.WaitGroup
}

// mood is how the server behaves.
type mood struct {
	Name       string
	Left       int // requests that it still covers; 0 means all
	Limited    bool
	Delay      time.Duration
	RetryAfter int
	Status     int
	Match      string
}

// Start listens and returns. Close ends it.
func Start(o Options) (*Server, error) {
	key, err := decodeSecret(o.Secret)
	if err != nil {
		return nil, err
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Tolerance <= 0 {
		o.Tolerance = 5 * time.Minute
	}
	b, err := openBooks(o.Ledger)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, key: key, books: b}
	s.addr = o.Addr
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// Addr returns host:port.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL returns the address for a sender.
func (s *Server) URL() string { return "http://" + s.Addr() + "/events" }

// open listens on the address; once known, always on the same port.
func (s *Server) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.addr = l.Addr().String()
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute}
	s.http = h
	s.served.Go(func() { h.Serve(l) })
	return nil
}

// shut closes the port and every connection.
func (s *Server) shut() {
	s.mu.Lock()
	h := s.http
	s.http = nil
	s.mu.Unlock()
	if h != nil {
		h.Close()
	}
}

// Close ends the server and waits for it.
func (s *Server) Close() error {
	s.shut()
	s.served.Wait()
	return nil
}

// Command runs one command line and returns what to print.
func (s *Server) Command(line []byte) any {
	var c struct {
		Cmd        string `json:"cmd"`
		MS         int    `json:"ms"`
		RetryAfter int    `json:"retry_after"`
		Status     int    `json:"status"`
		Count      int    `json:"count"`
		Match      string `json:"match"`
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return failed("not a JSON object with cmd")
	}
	m := mood{Name: c.Cmd, Left: c.Count, Limited: c.Count > 0, Status: c.Status, Match: c.Match, RetryAfter: c.RetryAfter, Delay: time.Duration(c.MS) * time.Millisecond}
	switch c.Cmd {
	case "up", "slow", "throttle", "error", "forgetful", "reject", "unauthorized":
		if err := s.open(); err != nil {
			return failed(err.Error())
		}
		if c.Cmd == "error" && m.Status == 0 {
			m.Status = 503
		}
		if c.Cmd == "reject" && m.Status == 0 {
			m.Status = 422
		}
		s.mu.Lock()
		s.mood = m
		s.mu.Unlock()
		return done{OK: true, Cmd: c.Cmd}
	case "down":
		s.shut()
		return done{OK: true, Cmd: c.Cmd}
	case "ledger":
		return ledgerAnswer{OK: true, Cmd: c.Cmd, Ledger: s.Ledger()}
	case "effects":
		return effectsAnswer{OK: true, Cmd: c.Cmd, Effects: s.books.list()}
	}
	return failed("unknown cmd " + fmt.Sprintf("%q", c.Cmd))
}

type done struct {
	OK  bool   `json:"ok"`
	Cmd string `json:"cmd"`
}

type ledgerAnswer struct {
	OK  bool   `json:"ok"`
	Cmd string `json:"cmd"`
	Ledger
}

type effectsAnswer struct {
	OK      bool     `json:"ok"`
	Cmd     string   `json:"cmd"`
	Effects []Effect `json:"effects"`
}

type failure struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

func failed(text string) failure { return failure{Error: text} }

// Ledger returns the books.
func (s *Server) Ledger() Ledger { return s.books.ledger() }

// Effects returns each effect in the order in which it was applied.
func (s *Server) Effects() []Effect { return s.books.list() }

// behave returns how to treat the next request, and counts it.
func (s *Server) behave() mood {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mood
	if s.mood.Limited {
		if s.mood.Left--; s.mood.Left <= 0 {
			s.mood = mood{}
		}
	}
	return m
}

// Serve runs a server as a process of its own: it prints the ready line to
// stdout, answers each command line of stdin by a line, and returns at the end
// of stdin or of ctx. The books are on disk by then, if they have a file.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	s, err := Start(o)
	if err != nil {
		return err
	}
	defer s.Close()
	out := json.NewEncoder(stdout)
	if err := out.Encode(map[string]any{"ready": true, "addr": s.Addr()}); err != nil {
		return fmt.Errorf("print ready line: %w", err)
	}
	lines := make(chan []byte)
	ended := make(chan error, 1)
	// A read of stdin cannot be interrupted; the process ends with Serve.
	go func() {
		sc := bufio.NewScanner(stdin)
		sc.Buffer(make([]byte, 0, 4096), 1<<20)
		for sc.Scan() {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-ctx.Done():
				return
			}
		}
		ended <- sc.Err()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read commands: %w", err)
			}
			return nil
		case line := <-lines:
			if len(line) == 0 {
				continue
			}
			if err := out.Encode(s.Command(line)); err != nil {
				return fmt.Errorf("answer command: %w", err)
			}
		}
	}
}
