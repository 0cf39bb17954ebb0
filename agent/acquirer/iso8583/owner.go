package iso8583

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"tillbridge/agent/acquirer"
)

// owner is the state of the goroutine that owns the connection.
type owner struct {
	l       *Link
	conn    net.Conn
	frames  chan []byte
	broken  chan error // holds why the reader of conn ended, once frames is closed
	dialed  chan dialResult
	dialing bool
	waiting []*call
	pause   time.Duration
	retry   *time.Timer
	idle    *time.Timer
	echoed  bool // an echo is out and nothing came since
}

type dialResult struct {
	conn net.Conn
	err  error
}

func (l *Link) run() {
	w := &owner{l: l, dialed: make(chan dialResult, 1), retry: time.NewTimer(0), idle: time.NewTimer(time.Hour)}
	defer w.end()
	w.idle.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case c := <-l.calls:
			if w.conn == nil {
				w.waiting = append(w.waiting, c)
				w.connect()
				continue
			}
			w.send(c)
		case r := <-w.dialed:
			w.connected(r)
		case <-w.retry.C:
			w.connect()
		case body, ok := <-w.frames:
			if !ok {
				w.drop(<-w.broken)
				continue
			}
			w.heard()
			w.received(body)
		case <-w.idle.C:
			w.silence()
		}
	}
}

// connect starts an attempt unless one is under way.
func (w *owner) connect() {
	if w.dialing || w.conn != nil {
		return
	}
	w.dialing = true
	w.retry.Stop()
	w.l.wg.Go(func() {
		ctx, cancel := context.WithTimeout(w.l.ctx, w.l.o.DialTimeout)
		defer cancel()
		conn, err := w.l.o.Dial(ctx)
		w.dialed <- dialResult{conn, err}
	})
}

func (w *owner) connected(r dialResult) {
	w.dialing = false
	waiting := w.waiting
	w.waiting = nil
	if r.err != nil {
		err := dialError(r.err)
		w.note(false, err)
		for _, c := range waiting {
			c.done <- reply{err: err}
		}
		w.later()
		return
	}
	w.note(true, nil)
	w.conn, w.echoed = r.conn, false
	w.frames, w.broken = make(chan []byte), make(chan error, 1)
	w.read(r.conn, w.frames, w.broken)
	w.heard()
	for _, c := range waiting {
		if w.conn == nil {
			w.waiting = append(w.waiting, c)
			continue
		}
		w.send(c)
	}
}

// read starts the reader of one connection. It ends when the connection does.
func (w *owner) read(conn net.Conn, frames chan<- []byte, broken chan<- error) {
	o := w.l.o
	w.l.wg.Go(func() {
		defer close(frames)
		for {
			if o.EchoEvery > 0 { // the owner drops a silent connection first; this is the bound behind it
				_ = conn.SetReadDeadline(time.Now().Add(2 * (o.EchoEvery + o.EchoTimeout)))
			}
			body, err := o.Dialect.Length.read(conn, o.MaxMessage)
			if err != nil {
				broken <- err
				return
			}
			frames <- body // the owner takes all until frames is closed
		}
	})
}

// later plans the next attempt, with backoff and jitter.
func (w *owner) later() {
	o := w.l.o
	w.pause = min(max(2*w.pause, o.BackoffMin), o.BackoffMax)
	w.retry.Reset(w.pause/2 + rand.N(w.pause/2+1))
}

// send writes one call. From the first byte on its outcome is unknown until an
// answer comes.
func (w *owner) send(c *call) {
	l := w.l
	l.mu.Lock()
	if _, busy := l.pending[c.key]; busy {
		l.mu.Unlock()
		c.done <- reply{err: acquirer.ErrBusy}
		return
	}
	if !c.state.CompareAndSwap(queued, sent) { // its caller is gone
		l.mu.Unlock()
		return
	}
	l.pending[c.key] = c
	l.mu.Unlock()
	_ = w.conn.SetWriteDeadline(time.Now().Add(l.o.WriteTimeout))
	if _, err := w.conn.Write(c.frame); err != nil {
		w.drop(err)
	}
}

// drop ends the connection. Answers that were already read are still paired;
// what was sent and has no answer stays unanswered.
func (w *owner) drop(err error) {
	if w.conn == nil {
		return
	}
	w.conn.Close()
	for body := range w.frames { // the reader closes it when it ends
		w.received(body)
	}
	w.conn, w.frames, w.broken = nil, nil, nil
	w.idle.Stop()
	w.note(false, fmt.Errorf("%w: %s", acquirer.ErrDisconnected, cause(err)))
	w.fail(acquirer.ErrDisconnected)
	w.later()
}

// fail ends every request that is in flight.
func (w *owner) fail(err error) {
	w.l.mu.Lock()
	open := w.l.pending
	w.l.pending = map[string]*call{}
	w.l.mu.Unlock()
	for _, c := range open {
		c.done <- reply{err: err}
	}
}

// end leaves nothing running and nobody waiting.
func (w *owner) end() {
	w.retry.Stop()
	w.idle.Stop()
	if w.dialing {
		if r := <-w.dialed; r.conn != nil {
			r.conn.Close()
		}
	}
	if w.conn != nil {
		w.conn.Close()
		for body := range w.frames {
			w.received(body)
		}
	}
	w.fail(acquirer.ErrClosed)
	for _, c := range w.waiting {
		c.done <- reply{err: acquirer.ErrClosed}
	}
	w.l.mu.Lock()
	w.l.status.Connected = false
	w.l.mu.Unlock()
}

// heard restarts the watch over silence.
func (w *owner) heard() {
	w.echoed = false
	if w.l.o.EchoEvery > 0 {
		w.idle.Reset(w.l.o.EchoEvery)
	}
}

var errSilent = errors.New("no answer to the echo")

// silence sends an echo, or gives up a connection that did not answer one.
func (w *owner) silence() {
	if w.conn == nil {
		return
	}
	if w.echoed {
		w.drop(errSilent)
		return
	}
	m, op, err := w.l.newEcho()
	if err != nil {
		return
	}
	c, err := w.l.newCall("echo", m, op)
	if err != nil {
		return
	}
	w.echoed = true
	w.idle.Reset(w.l.o.EchoTimeout)
	w.send(c)
}

// received pairs one answer, or logs why it belongs to nobody.
func (w *owner) received(body []byte) {
	l, log := w.l, w.l.o.Logger
	if len(body) == 0 {
		return // a poll
	}
	m, err := l.o.Dialect.codec.Unpack(body)
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		log.Warn("acquirer: a message that cannot be read", "bytes", len(body), "err", err)
		return
	}
	w.pause = 0 // the host works: the next loss starts the backoff anew
	k := key(m.MTI, m)
	attrs := []any{"mti", m.MTI, "stan", m.Text(11), "terminal", m.Text(41), "code", m.Text(39)}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.pending[k]
	if c == nil {
		l.status.Late++
		i := slices.IndexFunc(l.late, func(c *call) bool { return c.key == k && fits(c.request, m) == "" })
		if i < 0 {
			log.Warn("acquirer: an answer that nobody asked for", attrs...)
			return
		}
		log.Warn("acquirer: an answer came too late and is not used", attrs...)
		w.tellLate(l.late[i], m)
		l.late = slices.Delete(l.late, i, i+1)
		return
	}
	if why := fits(c.request, m); why != "" {
		log.Warn("acquirer: an answer contradicts its request and is not used", append(attrs, "why", why)...)
		return
	}
	if acquirer.Classify(m.Text(39)) == acquirer.ClassWait {
		log.Info("acquirer: the host asks to wait", attrs...)
		return
	}
	delete(l.pending, k)
	c.done <- reply{m: m}
}

// tellLate reports the late answer to an authorisation.
func (w *owner) tellLate(c *call, m Message) {
	if w.l.o.Late == nil || c.op != "authorize" {
		return
	}
	amount, _ := strconv.ParseInt(c.request.Text(4), 10, 64)
	res, _ := result(m, amount, c.at)
	w.l.wg.Go(func() { w.l.o.Late(c.request.Text(62), res) })
}

func (w *owner) note(up bool, err error) {
	w.l.mu.Lock()
	s := &w.l.status
	if s.Connected != up || s.Since.IsZero() {
		s.Since = time.Now()
	}
	s.Connected, s.LastError = up, ""
	if err != nil {
		s.LastError = err.Error()
	}
	w.l.mu.Unlock()
	if err != nil {
		w.l.o.Logger.Warn("acquirer: not connected", "err", err)
		return
	}
	w.l.o.Logger.Info("acquirer: connected")
}

// dialError turns the cause of a failed attempt into a sentinel with a text.
func dialError(err error) error {
	if cv, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w: %v: check the pinned authority and the server name", acquirer.ErrUntrusted, cv.Err)
	}
	if ua, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: %v: check the pinned authority", acquirer.ErrUntrusted, ua)
	}
	return fmt.Errorf("%w: %s", acquirer.ErrUnreachable, cause(err))
}

// cause is a short safe text of a network error.
func cause(err error) string {
	switch {
	case err == nil:
		return "closed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the host closed the connection"
	case errors.Is(err, context.DeadlineExceeded):
		return "no connection in time"
	}
	return err.Error()
}
