package acquirer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// command is one line of standard input.
type command struct {
	Fault
	PAN  string `json:"pan,omitempty"`
	PIN  string `json:"pin,omitempty"`
	Keys *Keys  `json:"keys,omitempty"`
	KSN  string `json:"ksn,omitempty"`
}

// ready is the first line of standard output.
type ready struct {
	Ready bool   `json:"ready"`
	Addr  string `json:"addr"`
	CA    string `json:"ca,omitempty"` // PEM, to be pinned
	JWE   jwe    `json:"jwe"`
}

// jwe is the host's public key for card data, and how it is pinned.
type jwe struct {
	PublicKey  string `json:"public_key"` // PEM
	KeyID      string `json:"key_id"`
	Thumbprint string `json:"thumbprint"`
}

// reply answers a command.
type reply struct {
	OK    bool     `json:"ok"`
	Cmd   string   `json:"cmd"`
	Error string   `json:"error,omitempty"`
	Books *Summary `json:"books,omitempty"`
	Key   string   `json:"key,omitempty"` // of initial_key, hex

	KeyBlock *KeyBlock `json:"key_block,omitempty"`
}

// Serve runs a host behind a command line. It prints one JSON object a line:
// first {"ready":true,"addr":…,"ca":…,"jwe":…}, then a reply to each command and the
// events. It returns when stdin ends or ctx does; a reader that blocks for
// ever keeps it no longer than its last line.
//
// Commands are the faults of [Fault] and: release, clear, down, up, books,
// pin {pan, pin}, keys {keys}, initial_key {ksn}, key_block {ksn}. Keys come by standard input
// so that they stand in no list of processes; the answer to initial_key is to
// be loaded into a virtual pad, that to key_block by `tillbridge keys import`,
// and neither is ever logged.
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer, o Options) error {
	var mu sync.Mutex
	enc := json.NewEncoder(stdout)
	print := func(v any) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(v) // a reader that is gone ends us by EOF on stdin
	}
	given := o.Events
	o.Events = func(e Event) {
		print(e)
		if given != nil {
			given(e)
		}
	}
	s, err := Run(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	print(ready{true, s.Addr, string(s.CAPEM), jwe{s.keys.jwe.public, s.keys.jwe.id, s.keys.jwe.thumbprint}})
	lines := make(chan []byte)
	ended := make(chan error, 1)
	gone := make(chan struct{})
	defer close(gone)
	go func() { // ends with stdin, or with the process: a Read cannot be interrupted
		sc := bufio.NewScanner(stdin)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-gone:
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
			return err
		case line := <-lines:
			if len(line) == 0 {
				continue
			}
			var c command
			if err := json.Unmarshal(line, &c); err != nil {
				print(reply{Error: "not a command in JSON"})
				continue
			}
			r := reply{OK: true, Cmd: c.Cmd}
			if err := s.command(c, &r); err != nil {
				r.OK, r.Error = false, err.Error()
			}
			print(r)
		}
	}
}

func (s *Server) command(c command, r *reply) error {
	switch c.Cmd {
	case "release":
		s.Release()
	case "clear":
		s.Clear()
	case "down", "up":
		s.SetDown(c.Cmd == "down")
	case "books":
		sum := s.Books().Summary()
		r.Books = &sum
	case "pin":
		if c.PAN == "" || c.PIN == "" {
			return fmt.Errorf("sandbox: pin needs pan and pin")
		}
		s.SetPIN(c.PAN, c.PIN)
	case "keys":
		if c.Keys == nil {
			return fmt.Errorf("sandbox: keys needs keys")
		}
		return s.SetKeys(*c.Keys)
	case "initial_key":
		key, err := s.InitialKey(c.KSN)
		if err != nil {
			return err
		}
		r.Key = key
	case "key_block":
		b, err := s.InitialKeyBlock(c.KSN)
		if err != nil {
			return err
		}
		r.KeyBlock = &b
	default:
		return s.Inject(c.Fault)
	}
	return nil
}
