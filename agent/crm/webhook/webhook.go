// Package webhook is the crm sink for whatever can take an HTTP request: one
// CloudEvents 1.0.2 event in structured JSON mode a request, signed by the
// Standard Webhooks scheme.
//
// Start with [ParseKey] and [New]. The headers of a request are
//
//	webhook-id         the id of the event, the same over all attempts
//	webhook-timestamp  seconds since 1970 at the time of sending
//	webhook-signature  "v1," + base64(HMAC-SHA256(id.timestamp.body)), one per key
//
// The signature is made when the request is sent, not when the event was
// stored: receivers refuse timestamps that are more than some minutes old, and
// an event may wait for days.
//
// # What an answer means
//
//	2xx                       accepted; an HTML page is not (a captive portal)
//	409 that names the id     known already
//	429, 503 with Retry-After a pause for the whole sink
//	401, 403, 407             credentials refused: a pause, nothing is lost
//	410                       the receiver asks to stop
//	408, 425, 5xx, 3xx, 404, 405  later again: the address or the receiver is
//	                          at fault, not the event. Redirects are not followed
//	other 4xx                 rejected
//	no answer                 unknown: sent again under the same id
//
// It does not batch, and it reads nothing back: Lookup is not supported.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tillbridge/agent/crm"
	"tillbridge/p2pe/mask"
)

// Options of a [Sink].
type Options struct {
	URL  string // https, or http to this machine
	Keys []Key  // every request is signed with each: at least one, two while a key changes
	Name string // in status and metrics; "" means "webhook"
	// Timeout of one request, connection included; 0 means 15 s.
	Timeout   time.Duration
	UserAgent string            // "" means "tillbridge"
	Transport http.RoundTripper // nil means one of its own
	Now       func() time.Time  // nil means time.Now
}

// Sink sends events to one address. It satisfies [crm.Sink].
type Sink struct {
	o      Options
	client *http.Client
}

var _ crm.Sink = (*Sink)(nil)

// New checks the options and returns a Sink; it does not connect.
func New(o Options) (*Sink, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, &ConfigError{"url", "is no absolute http address; write for example https://crm.example/hooks/pos"}
	}
	switch {
	case u.User != nil:
		return nil, &ConfigError{"url", "holds a user or password; credentials belong in the key"}
	case u.Scheme == "https":
	case u.Scheme == "http" && loopback(u.Hostname()):
	default:
		return nil, &ConfigError{"url", "must be https, for it leaves this machine"}
	}
	if len(o.Keys) == 0 {
		return nil, &ConfigError{"key", "is missing; the receiver shows one that begins with whsec_"}
	}
	if o.Name == "" {
		o.Name = "webhook"
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	if o.UserAgent == "" {
		o.UserAgent = "tillbridge"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: o.Timeout,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConnsPerHost:   4,
			ForceAttemptHTTP2:     true,
		}
	}
	return &Sink{o: o, client: &http.Client{
		Transport:     o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ConfigError says which setting is wrong and what to write.
type ConfigError struct{ Field, Problem string }

func (e *ConfigError) Error() string { return "crm webhook " + e.Field + " " + e.Problem }

// Code is the code of the explain catalogue.
func (e *ConfigError) Code() string { return "config.crm_webhook" }

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Name implements [crm.Sink].
func (s *Sink) Name() string { return s.o.Name }

// Caps implements [crm.Sink]: one event a request, for a signature covers one id.
func (s *Sink) Caps() crm.Caps {
	return crm.Caps{MaxBatch: 1, MaxBytes: 256 << 10, NativeUpsert: true, PartialResults: true}
}

// Lookup implements [crm.Sink]; a webhook reads nothing back.
func (s *Sink) Lookup(context.Context, crm.CustomerKey) (crm.CustomerContext, error) {
	return crm.CustomerContext{}, crm.ErrUnsupported
}

// Deliver implements [crm.Sink].
func (s *Sink) Deliver(ctx context.Context, batch []crm.Event) ([]crm.Result, error) {
	results := make([]crm.Result, len(batch))
	for i, ev := range batch {
		results[i] = s.send(ctx, ev)
	}
	return results, nil
}

func (s *Sink) send(ctx context.Context, ev crm.Event) crm.Result {
	body, err := ev.AppendJSON(nil)
	if err != nil {
		return crm.Result{Class: crm.Rejected, Code: "crm.event_invalid", Reason: "the event cannot be written as JSON"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	req, err := s.request(ctx, http.MethodPost, ev.ID, body)
	if err != nil {
		return crm.Result{Class: crm.Rejected, Code: "crm.event_invalid", Reason: "the id cannot be sent in a header"}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fromError(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	return classify(resp, answer, ev.ID, s.o.Now())
}

// request makes a signed request.
func (s *Sink) request(ctx context.Context, method, id string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.o.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	at := s.o.Now().Unix()
	signatures := make([]string, len(s.o.Keys))
	for i, k := range s.o.Keys {
		signatures[i] = k.Sign(id, at, body)
	}
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", s.o.UserAgent)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at, 10))
	req.Header.Set("webhook-signature", strings.Join(signatures, " "))
	return req, nil
}

// ErrRefused is returned by Probe for an answer that no delivery would survive.
var ErrRefused = errors.New("receiver refuses the probe")

// Probe implements [crm.Sink] with the OPTIONS request of the CloudEvents
// webhook handshake, signed over an empty body. It writes nothing.
func (s *Sink) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	req, err := s.request(ctx, http.MethodOptions, "probe", nil)
	if err != nil {
		return err
	}
	req.Header.Set("WebHook-Request-Origin", "tillbridge")
	resp, err := s.client.Do(req)
	if err != nil {
		r := fromError(err)
		return fmt.Errorf("probe receiver: %s: %w", r.Code, ErrRefused)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 16<<10))
	// A receiver without the handshake answers 405 or 501: it is there.
	switch c := resp.StatusCode; {
	case c < 300, c == http.StatusMethodNotAllowed, c == http.StatusNotImplemented:
		return nil
	default:
		return fmt.Errorf("probe receiver: http.%d: %w", c, ErrRefused)
	}
}

// fromError tells what a failed request means: refused before a byte was sent
// is a plain "later", anything else may have been taken.
func fromError(err error) crm.Result {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return crm.Result{Class: crm.Retry, Code: "net.connect", Reason: "the receiver cannot be reached"}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return crm.Result{Class: crm.Retry, Code: "net.dns", Reason: "the receiver's name cannot be resolved"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return crm.Result{Class: crm.Unknown, Code: "net.timeout", Reason: "no answer in time"}
	}
	return crm.Result{Class: crm.Unknown, Code: "net.lost", Reason: "the connection was lost before the answer"}
}

func classify(resp *http.Response, body []byte, id string, now time.Time) crm.Result {
	c := resp.StatusCode
	r := crm.Result{Code: "http." + strconv.Itoa(c), Reason: reason(resp, body), RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now)}
	switch {
	case c >= 200 && c < 300:
		if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/html" {
			r.Class, r.Code, r.Reason = crm.Retry, "http.html", "a web page answered instead of the receiver (captive portal or proxy)"
			return r
		}
		r.Class, r.Reason = crm.Accepted, ""
		r.RemoteID = named(body).ref
	case c == http.StatusConflict:
		// Only a receiver that names this very event says "known already".
		if n := named(body); n.id == id {
			r.Class, r.RemoteID = crm.Duplicate, n.ref
		} else {
			r.Class = crm.Rejected
		}
	case c == http.StatusTooManyRequests:
		r.Class = crm.Throttled
	case c == http.StatusServiceUnavailable && r.RetryAfter > 0:
		r.Class = crm.Throttled
	case c == http.StatusUnauthorized, c == http.StatusForbidden, c == http.StatusProxyAuthRequired:
		r.Class = crm.AuthFailed
	case c == http.StatusGone:
		r.Class = crm.Stopped
	case c >= 500, c < 400, c == http.StatusRequestTimeout, c == http.StatusTooEarly, c == http.StatusNotFound, c == http.StatusMethodNotAllowed:
		r.Class = crm.Retry
	case c == http.StatusPreconditionFailed:
		r.Class = crm.Conflict
	default:
		r.Class = crm.Rejected
	}
	return r
}

type names struct{ id, ref string }

// named reads which event an answer is about and what the receiver calls it.
func named(body []byte) names {
	var a struct {
		ID      string `json:"id"`
		EventID string `json:"event_id"`
		Ref     string `json:"ref"`
	}
	if json.Unmarshal(body, &a) != nil {
		return names{}
	}
	if a.EventID != "" {
		a.ID = a.EventID
	}
	return names{a.ID, clean(a.Ref, 64)}
}

// reason is what the receiver says of a refusal: its code or title, never the
// whole body, for a body may echo what was sent.
func reason(resp *http.Response, body []byte) string {
	var a struct {
		Code  any    `json:"code"`
		Title string `json:"title"`
		Error any    `json:"error"`
	}
	if json.Unmarshal(body, &a) == nil {
		if s, ok := a.Code.(string); ok && s != "" {
			return clean(s, 100)
		}
		if a.Title != "" {
			return clean(a.Title, 100)
		}
		if s, ok := a.Error.(string); ok {
			return clean(s, 100)
		}
	}
	return http.StatusText(resp.StatusCode)
}

// clean bounds text from outside, drops what is not printable and hides card
// numbers.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, mask.Redact(s))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// maxRetryAfter bounds what a receiver may ask for: a day.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads RFC 9110 §10.2.3: seconds or a date. 0 means none.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		d = time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
