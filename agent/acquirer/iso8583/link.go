package iso8583

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"tillbridge/agent/acquirer"
)

// Options of [Open]. Addr, Roots and Dialect are needed; zero durations mean
// the defaults named here.
type Options struct {
	Addr    string   // host:port
	Dialect *Dialect // see [Named] and [ParseDialect]
	// Roots are the only authorities that may have signed the host's
	// certificate. The system's are never used.
	Roots *x509.CertPool
	// ServerName is the name in the certificate; the host of Addr when empty.
	ServerName string
	// Certificates are shown to a host that wants the client to prove itself.
	Certificates []tls.Certificate
	TerminalID   string // of echo messages (DE41)
	MerchantID   string // of echo messages (DE42)

	DialTimeout   time.Duration // TCP and TLS together; 10 s
	WriteTimeout  time.Duration // 10 s
	AnswerTimeout time.Duration // the longest wait for an answer; 30 s
	EchoEvery     time.Duration // silence after which an echo is sent; 60 s; negative: never
	EchoTimeout   time.Duration // 15 s
	BackoffMin    time.Duration // first pause between connection attempts; 1 s
	BackoffMax    time.Duration // 60 s
	MaxMessage    int           // bytes; 8192

	Logger *slog.Logger // nil: nothing is logged
	// Late, when set, is told of an answer to Authorize that came after the
	// caller had given up: a late approval is recorded, never honoured
	// (design/payments.md R3). It runs on a goroutine that Close waits for.
	Late func(reference string, r acquirer.Result)
	// Dial replaces TCP and TLS, for a host behind another transport. The
	// connection must be private and authenticated by other means.
	Dial func(ctx context.Context) (net.Conn, error)
}

func (o *Options) defaults() error {
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&o.DialTimeout, 10 * time.Second}, {&o.WriteTimeout, 10 * time.Second}, {&o.AnswerTimeout, 30 * time.Second},
		{&o.EchoEvery, time.Minute}, {&o.EchoTimeout, 15 * time.Second}, {&o.BackoffMin, time.Second}, {&o.BackoffMax, time.Minute}} {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = 8192
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dialect == nil || o.Dialect.codec == nil {
		return errors.New("iso8583: no dialect: use Named or ParseDialect")
	}
	if o.TerminalID == "" {
		o.TerminalID = "00000000"
	}
	if o.Dial != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("iso8583: address %q: use host:port", o.Addr)
	}
	if o.Roots == nil {
		return errors.New("iso8583: no certificate authority is pinned: give the acquirer's in Roots")
	}
	name := o.ServerName
	if name == "" {
		name = host
	}
	config := &tls.Config{RootCAs: o.Roots, ServerName: name, Certificates: o.Certificates, MinVersion: tls.VersionTLS12}
	addr := o.Addr
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	}
	return nil
}

// Link is an acquirer.Link. One goroutine owns its connection, a second reads
// from it, a third connects; Close waits for all.
type Link struct {
	o     Options
	calls chan *call
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	stan  atomic.Int32

	mu      sync.Mutex
	pending map[string]*call
	late    []*call // requests that were given up, oldest first
	status  Status
}

var _ acquirer.Link = (*Link)(nil)

// Status is the state of the connection, for health and doctor.
type Status struct {
	Connected bool
	Since     time.Time // of the present connection, or of its loss
	LastError string    // safe text of the last failed attempt, "" after success
	Late      int       // answers that nobody was waiting for
}

const (
	queued int32 = iota
	sent
	abandoned
)

// call is one request on its way.
type call struct {
	op      string
	request Message
	frame   []byte
	key     string
	at      time.Time // of the request at the terminal, zero for echoes
	state   atomic.Int32
	done    chan reply // capacity 1; the owner writes at most once
}

type reply struct {
	m   Message
	err error
}

// Open starts a link and begins to connect. It returns at once; a host that is
// not there shows in the first call and in [Link.Status].
func Open(o Options) (*Link, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Link{o: o, calls: make(chan *call), ctx: ctx, stop: stop, pending: map[string]*call{}}
	l.wg.Go(l.run)
	return l, nil
}

// Close ends the connection and fails what is open. It waits for the link's
// goroutines.
func (l *Link) Close() error {
	l.stop()
	l.wg.Wait()
	return nil
}

// Status returns the state of the connection.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Authorize implements acquirer.Link.
func (l *Link) Authorize(ctx context.Context, r acquirer.Request) (acquirer.Result, error) {
	m, op, err := l.o.Dialect.authorize(r, string(r.Kind), 0, "")
	answer, err := l.exchange(ctx, "authorize", r.Time, m, op, err)
	if err != nil {
		return acquirer.Result{Outcome: unanswered(err)}, err
	}
	res, err := result(answer, r.Amounts.Amount, r.Time)
	return res, unusable("authorize", err)
}

// Advise implements acquirer.Link.
func (l *Link) Advise(ctx context.Context, a acquirer.Advice) (acquirer.Ack, error) {
	m, op, err := l.o.Dialect.authorize(a.Request, "advice", a.Attempt, a.ApprovalCode)
	return l.acknowledged(ctx, "advise", m, op, err)
}

// Reverse implements acquirer.Link.
func (l *Link) Reverse(ctx context.Context, r acquirer.Reversal) (acquirer.Ack, error) {
	m, op, err := l.o.Dialect.reverse(r)
	return l.acknowledged(ctx, "reverse", m, op, err)
}

func (l *Link) acknowledged(ctx context.Context, name string, m Message, op Operation, err error) (acquirer.Ack, error) {
	answer, err := l.exchange(ctx, name, time.Time{}, m, op, err)
	if err != nil {
		state := acquirer.AckUnknown
		if !unanswered(err).Sent() {
			state = acquirer.AckNotSent
		}
		return acquirer.Ack{State: state}, err
	}
	code := answer.Text(39)
	return acquirer.Ack{State: acquirer.AckOf(code), ResponseCode: code, RRN: answer.Text(37)}, nil
}

// Inquire implements acquirer.Link.
func (l *Link) Inquire(ctx context.Context, q acquirer.Inquiry) (acquirer.Finding, error) {
	m, op, err := l.o.Dialect.inquire(q)
	answer, err := l.exchange(ctx, "inquire", q.Time, m, op, err)
	if err != nil {
		return acquirer.Finding{}, err
	}
	f, err := finding(answer, q.Original.Amounts.Amount, q.Original.Time)
	return f, unusable("inquire", err)
}

// Echo implements acquirer.Link.
func (l *Link) Echo(ctx context.Context) error {
	m, op, err := l.newEcho()
	answer, err := l.exchange(ctx, "echo", time.Time{}, m, op, err)
	if err != nil {
		return err
	}
	if code := answer.Text(39); acquirer.Classify(code) != acquirer.ClassApproved {
		return unusable("echo", fmt.Errorf("%w: response code %q", acquirer.ErrUnusable, code))
	}
	return nil
}

// newEcho builds an echo. Its STAN counts on its own: pairing looks at the
// message type too, so it cannot meet a payment's.
func (l *Link) newEcho() (Message, Operation, error) {
	stan := int(l.stan.Add(1)-1)%999999 + 1
	return l.o.Dialect.echo(stan, time.Now(), l.o.TerminalID, l.o.MerchantID)
}

// unanswered returns Unknown or NotSent for an error of exchange.
func unanswered(err error) acquirer.Outcome {
	if e, ok := errors.AsType[*acquirer.Error](err); ok && !e.Sent {
		return acquirer.NotSent
	}
	return acquirer.Unknown
}

func unusable(op string, err error) error {
	if err == nil {
		return nil
	}
	return &acquirer.Error{Op: op, Sent: true, Err: err}
}

// exchange sends one request and waits for its answer. Its error is an
// *acquirer.Error.
func (l *Link) exchange(ctx context.Context, name string, at time.Time, m Message, op Operation, err error) (Message, error) {
	if err != nil {
		return Message{}, &acquirer.Error{Op: name, Err: err}
	}
	c, err := l.newCall(name, m, op)
	if err != nil {
		return Message{}, &acquirer.Error{Op: name, Err: err}
	}
	c.at = at
	ctx, cancel := context.WithTimeout(ctx, l.o.AnswerTimeout)
	defer cancel()
	select {
	case l.calls <- c:
	case <-ctx.Done():
		return Message{}, &acquirer.Error{Op: name, Err: timeout(ctx)}
	case <-l.ctx.Done():
		return Message{}, &acquirer.Error{Op: name, Err: acquirer.ErrClosed}
	}
	select {
	case r := <-c.done:
		return l.replied(c, r)
	case <-ctx.Done():
	}
	if c.state.CompareAndSwap(queued, abandoned) {
		return Message{}, &acquirer.Error{Op: name, Err: timeout(ctx)}
	}
	l.giveUp(c)
	select {
	case r := <-c.done: // it came in the same moment
		return l.replied(c, r)
	default:
		return Message{}, &acquirer.Error{Op: name, Sent: true, Err: timeout(ctx)}
	}
}

func (l *Link) replied(c *call, r reply) (Message, error) {
	if r.err != nil {
		return Message{}, &acquirer.Error{Op: c.op, Sent: c.state.Load() == sent, Err: r.err}
	}
	return r.m, nil
}

func timeout(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return acquirer.ErrTimeout
	}
	return acquirer.ErrCanceled
}

func (l *Link) newCall(name string, m Message, op Operation) (*call, error) {
	body, err := l.o.Dialect.codec.Pack(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", acquirer.ErrInvalid, err)
	}
	frame, err := l.o.Dialect.Length.append(make([]byte, 0, len(body)+4), len(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", acquirer.ErrInvalid, err)
	}
	return &call{op: name, request: m, frame: append(frame, body...), key: key(op.Response, m), done: make(chan reply, 1)}, nil
}

// key is what an answer must share with its request: message type, terminal
// and STAN. What else it must share is in fits.
func key(responseMTI string, m Message) string {
	return responseMTI + "|" + m.Text(41) + "|" + m.Text(11)
}

// giveUp takes a sent call out of the table, so that nothing is delivered to
// it afterwards.
func (l *Link) giveUp(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[c.key] == c {
		delete(l.pending, c.key)
		// What is kept to know a late answer holds no card data and no PIN block.
		short := Message{MTI: c.request.MTI, Fields: map[int][]byte{}}
		for _, id := range []int{3, 4, 7, 11, 41, 49, 62, 90} {
			if v, ok := c.request.Fields[id]; ok {
				short.Fields[id] = v
			}
		}
		l.late = append(l.late, &call{op: c.op, key: c.key, at: c.at, request: short})
		if len(l.late) > 64 {
			l.late = l.late[1:]
		}
	}
}
