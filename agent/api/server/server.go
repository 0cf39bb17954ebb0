// Package server is the till's HTTP API: handlers over an [Engine] that it
// declares and does not know.
//
// Start with [New] and serve [Server.Handler] on a loopback address with
// [Server.Serve]. The control channel of the command line serves
// [Server.Local] on a socket whose peers the operating system names.
//
// # Who may ask
//
// Every request must name this machine in Host (a page that rebinds its own
// name to 127.0.0.1 does not), and a browser's Origin must be on the list;
// there is no "*". Each register has a key of its own, sent as "Authorization:
// Bearer …" and kept as a hash. What a key may see is its register's.
//
// # Once
//
// Every call that can move money needs Idempotency-Key. The key's scope is the
// credential; the engine keeps key and record in one commit (rule R4), so the
// handlers keep no state of their own and may be killed at any time.
//
// # Errors
//
// RFC 9457 documents with code, category, money_moved and retry. An error
// whose code the catalogue does not list is an internal one, and says that
// nobody knows whether money moved: ask again with the same key.
//
// Source: design/payments.md sections 1 and 3.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tillbridge/agent/api"
)

// Options of a [Server]. Engine and Keys are required.
type Options struct {
	Engine  Engine
	Keys    *Keyring
	Hosts   []string // beside 127.0.0.1, ::1 and localhost; without port
	Origins []string // allowed origins, "https://pos.example"; never "*"
	Version api.Version
	// Lane names the device and the currency of a register, empty where there is
	// none to hold a request to; nil means none.
	Lane func(register string) (device, currency string)
	// Ready says whether payments can be taken; nil means always.
	Ready func(context.Context) api.Readiness
	// Control serves the command line; nil leaves it out.
	Control Control
	// Registry gets the metrics and is shown by /metrics; nil means one of its own.
	Registry  *prometheus.Registry
	Log       *slog.Logger
	Heartbeat time.Duration // of event streams; 0 means 15 s
	MaxWait   time.Duration // longest Prefer: wait; 0 means 180 s
}

// Server holds the handlers.
type Server struct {
	o       Options
	hosts   map[string]bool
	origins map[string]bool
	metrics *metrics
	lastPOS atomic.Int64 // unix nanoseconds of the last request with a valid key

	base context.Context // ends streams and waits at shutdown
	stop context.CancelFunc
}

// New checks the options.
func New(o Options) (*Server, error) {
	if o.Engine == nil || o.Keys == nil {
		return nil, errors.New("api server: engine and keys are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 180 * time.Second
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Version.API == "" {
		o.Version.API = "1"
	}
	s := &Server{o: o, hosts: map[string]bool{"127.0.0.1": true, "::1": true, "localhost": true}, origins: map[string]bool{}}
	for _, h := range o.Hosts {
		s.hosts[h] = true
	}
	for _, origin := range o.Origins {
		if origin == "*" || origin == "null" {
			return nil, fmt.Errorf("api server: origin %q would let any web page use the pad; list the till's own origin", origin)
		}
		s.origins[origin] = true
	}
	var err error
	if s.metrics, err = newMetrics(o.Registry); err != nil {
		return nil, fmt.Errorf("api server: register metrics: %w", err)
	}
	s.base, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// LastPOS is when a till with a valid key last asked; zero when none did.
func (s *Server) LastPOS() time.Time {
	if n := s.lastPOS.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// route is one line of the API.
type route struct {
	pattern string // of http.ServeMux, with method
	role    need
	handle  func(*Server, *call) error
}

// need says which credentials a route takes.
type need int

const (
	open    need = iota // anybody on this machine
	read                // any credential
	take                // may take money: pos, pos_manager
	manager             // pos_manager
)

var routes = []route{
	{"POST /v1/payments", take, (*Server).createPayment},
	{"GET /v1/payments", read, (*Server).listPayments},
	{"GET /v1/payments/{id}", read, (*Server).getPayment},
	{"POST /v1/payments/{id}/cancel", take, (*Server).cancelPayment},
	{"POST /v1/payments/{id}/void", take, (*Server).voidPayment},
	{"POST /v1/payments/{id}/resolve", manager, (*Server).resolvePayment},
	{"POST /v1/refunds", take, (*Server).createRefund},
	{"GET /v1/refunds/{id}", read, (*Server).getRefund},
	{"GET /v1/registers/{id}/last_payment", read, (*Server).lastPayment},
	{"GET /v1/events", read, (*Server).events},
	{"GET /v1/version", open, (*Server).version},
	{"GET /healthz", open, (*Server).healthz},
	{"GET /readyz", open, (*Server).readyz},
	{"GET /metrics", open, (*Server).showMetrics},
}

// Handler is the API for tills: Host, Origin and key are checked.
func (s *Server) Handler() http.Handler {
	return s.guardHost(s.guardOrigin(s.mux(routes, s.authenticate)))
}

// Local is the same API and the control routes for a channel whose peers the
// operating system has let in: the caller acts as manager and technician.
func (s *Server) Local() http.Handler {
	all := append(append([]route{}, routes...), controlRoutes...)
	return s.mux(all, func(*http.Request, need) (Credential, error) {
		return Credential{ID: "local", Role: RoleLocal}, nil
	})
}

// call is one request on its way through a handler.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	cred Credential
}

func (s *Server) mux(list []route, authenticate func(*http.Request, need) (Credential, error)) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range list {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			sw := &statusWriter{ResponseWriter: w}
			cred, err := authenticate(r, rt.role)
			if err == nil {
				err = rt.handle(s, &call{sw, r, cred})
			}
			if err != nil && !sw.wrote {
				s.fail(sw, r, err)
			}
			s.metrics.request(rt.pattern, sw.status, time.Since(began))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, notRouted(mux, r))
	})
	return mux
}

// notRouted tells a wrong method from a wrong path.
func notRouted(mux *http.ServeMux, r *http.Request) error {
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := mux.Handler(probe); pattern != "/" && m != r.Method {
			return &Error{ErrorCode: "request.method", Detail: "this path takes " + m}
		}
	}
	return &Error{ErrorCode: "request.path", Detail: "no such path; the API begins at /v1/payments"}
}

// statusWriter remembers the status for metrics.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(code int) {
	if !w.wrote {
		w.status, w.wrote = code, true
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ErrNotLoopback is matched when an address would open the API to others.
var ErrNotLoopback = errors.New("api server: the till API listens on loopback addresses only")

// Listen opens a loopback address such as 127.0.0.1:8710.
func Listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("api server: listen address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%w: %q is not one; write 127.0.0.1:8710", ErrNotLoopback, addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("api server: %w", err)
	}
	return l, nil
}

// Serve answers on l until ctx ends, then ends streams and waits, lets other
// requests finish for five seconds, and returns nil. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.base },
	}
	var ended sync.WaitGroup
	defer ended.Wait()
	served := make(chan struct{})
	defer close(served)
	ended.Go(func() {
		select {
		case <-ctx.Done():
		case <-served:
			return
		}
		s.stop()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api server: %w", err)
	}
	return nil
}
