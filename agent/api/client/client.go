// Package client speaks to an agent: over the control channel of this machine
// ([Local]) or over the till API with a register's key ([HTTP]).
//
// Every method ends by its context. An answer that is a problem document is
// returned as a [*api.Problem]; nobody listening as local.ErrNotRunning.
//
// A call that can move money takes an idempotency key: make it once for the
// customer's sale attempt, keep it, and send it again after any failure.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/api/local"
)

// Client is a connection to one agent. It is safe for concurrent use.
type Client struct {
	base string
	key  string
	http *http.Client
}

// Local returns a client on the control channel.
func Local(address string) *Client {
	return &Client{base: "http://127.0.0.1", http: &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return local.Dial(ctx, address) },
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     10 * time.Second,
	}}}
}

// HTTP returns a client of the till API at base, such as http://127.0.0.1:8710.
func HTTP(base, key string) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), key: key, http: &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     10 * time.Second,
	}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call is one request; the methods below are made of it.
type Call struct {
	Method, Path string
	Body         any           // nil: none
	Key          string        // Idempotency-Key
	Wait         time.Duration // Prefer: wait, whole seconds
}

// Do sends a call and decodes the answer into out (nil: dropped). replayed says
// that the agent knew the key and began nothing.
func (c *Client) Do(ctx context.Context, call Call, out any) (status int, replayed bool, err error) {
	resp, err := c.send(ctx, call, "application/json")
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return resp.StatusCode, false, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode >= 400 {
		if err := problem(resp, body); err != nil {
			return resp.StatusCode, false, err
		}
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			return resp.StatusCode, false, fmt.Errorf("answer of %s is no JSON of the expected form", call.Path)
		}
	}
	return resp.StatusCode, resp.Header.Get("Idempotency-Replayed") == "true", nil
}

func (c *Client) send(ctx context.Context, call Call, accept string) (*http.Response, error) {
	var body io.Reader
	if call.Body != nil {
		b, err := json.Marshal(call.Body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, c.base+call.Path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", accept)
	if call.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if call.Key != "" {
		req.Header.Set("Idempotency-Key", strconv.Quote(call.Key))
	}
	if s := int(call.Wait / time.Second); s > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(s))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, local.ErrNotRunning) || errors.Is(err, local.ErrRefused) {
			return nil, errors.Unwrap(err) // the url.Error around it names a made-up address
		}
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return nil, fmt.Errorf("%s: %w", c.base, local.ErrNotRunning)
		}
		return nil, err
	}
	return resp, nil
}

// problem reads a problem document; nil means that the body is an answer of
// its own (readyz with 503).
func problem(resp *http.Response, body []byte) error {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), api.ProblemType) {
		if resp.StatusCode == http.StatusServiceUnavailable && json.Valid(body) {
			return nil
		}
		return fmt.Errorf("answer %s without a problem document", resp.Status)
	}
	var p api.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("answer %s with an unreadable problem document", resp.Status)
	}
	return &p
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	_, _, err := c.Do(ctx, Call{Method: http.MethodGet, Path: path}, out)
	return err
}

// Pay starts a payment and waits up to wait for its end.
func (c *Client) Pay(ctx context.Context, key string, r api.PaymentRequest, wait time.Duration) (p api.Payment, replayed bool, err error) {
	_, replayed, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/v1/payments", Body: r, Key: key, Wait: wait}, &p)
	return p, replayed, err
}

// Payment reads a payment, and waits up to wait for its end.
func (c *Client) Payment(ctx context.Context, id string, wait time.Duration) (p api.Payment, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodGet, Path: "/v1/payments/" + url.PathEscape(id), Wait: wait}, &p)
	return p, err
}

// Payments lists; q holds the parameters of GET /v1/payments.
func (c *Client) Payments(ctx context.Context, q url.Values) (l api.PaymentList, err error) {
	return l, c.get(ctx, "/v1/payments?"+q.Encode(), &l)
}

// LastPayment reads the newest payment of a register.
func (c *Client) LastPayment(ctx context.Context, register string) (p api.Payment, err error) {
	return p, c.get(ctx, "/v1/registers/"+url.PathEscape(register)+"/last_payment", &p)
}

// Cancel asks to cancel a payment.
func (c *Client) Cancel(ctx context.Context, key, id string, wait time.Duration) (p api.Payment, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/v1/payments/" + url.PathEscape(id) + "/cancel", Key: key, Wait: wait}, &p)
	return p, err
}

// Void voids a payment.
func (c *Client) Void(ctx context.Context, key, id, reason string, wait time.Duration) (o api.Operation, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/v1/payments/" + url.PathEscape(id) + "/void", Body: api.VoidRequest{Reason: reason}, Key: key, Wait: wait}, &o)
	return o, err
}

// Resolve closes a payment in doubt.
func (c *Client) Resolve(ctx context.Context, key, id string, r api.ResolveRequest) (p api.Payment, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/v1/payments/" + url.PathEscape(id) + "/resolve", Body: r, Key: key}, &p)
	return p, err
}

// Refund gives money back.
func (c *Client) Refund(ctx context.Context, key string, r api.RefundRequest, wait time.Duration) (o api.Operation, replayed bool, err error) {
	_, replayed, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/v1/refunds", Body: r, Key: key, Wait: wait}, &o)
	return o, replayed, err
}

// RefundByID reads a refund or void.
func (c *Client) RefundByID(ctx context.Context, id string, wait time.Duration) (o api.Operation, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodGet, Path: "/v1/refunds/" + url.PathEscape(id), Wait: wait}, &o)
	return o, err
}

// Version reads /v1/version.
func (c *Client) Version(ctx context.Context) (v api.Version, err error) {
	return v, c.get(ctx, "/v1/version", &v)
}

// Ready reads /readyz; not being ready is no error.
func (c *Client) Ready(ctx context.Context) (r api.Readiness, err error) {
	return r, c.get(ctx, "/readyz", &r)
}

// Status reads the one screen. It and what follows need the control channel.
func (c *Client) Status(ctx context.Context) (s api.Status, err error) {
	return s, c.get(ctx, "/control/status", &s)
}

// Devices lists the pads.
func (c *Client) Devices(ctx context.Context) (list []api.Device, err error) {
	var body struct{ Devices []api.Device }
	err = c.get(ctx, "/control/devices", &body)
	return body.Devices, err
}

// DeviceInfo reads one device, and every port with why it was taken or not.
func (c *Client) DeviceInfo(ctx context.Context, id string) (d api.DeviceInfo, err error) {
	return d, c.get(ctx, "/control/devices/"+url.PathEscape(id), &d)
}

// DeviceTest lets the agent try a device.
func (c *Client) DeviceTest(ctx context.Context, id string) (t api.DeviceTest, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/control/devices/" + url.PathEscape(id) + "/test"}, &t)
	return t, err
}

// Rescan makes the agent look for devices now.
func (c *Client) Rescan(ctx context.Context) error {
	_, _, err := c.Do(ctx, Call{Method: http.MethodPost, Path: "/control/rescan"}, nil)
	return err
}

// QueueSummary says what waits for the CRM.
func (c *Client) QueueSummary(ctx context.Context) (q api.QueueSummary, err error) {
	return q, c.get(ctx, "/control/queue", &q)
}

// QueueItems lists what waits ("waiting"), was put aside ("dead"), or both ("").
func (c *Client) QueueItems(ctx context.Context, state string, limit int) (list []api.QueueItem, err error) {
	var body struct{ Items []api.QueueItem }
	q := url.Values{"state": {state}, "limit": {strconv.Itoa(limit)}}
	err = c.get(ctx, "/control/queue/items?"+q.Encode(), &body)
	return body.Items, err
}

// QueueItem reads one item with its event.
func (c *Client) QueueItem(ctx context.Context, id uint64) (i api.QueueItem, err error) {
	return i, c.get(ctx, "/control/queue/items/"+strconv.FormatUint(id, 10), &i)
}

// Timeline reads each step of a payment.
func (c *Client) Timeline(ctx context.Context, id string) (t api.Timeline, err error) {
	return t, c.get(ctx, "/control/tx/"+url.PathEscape(id)+"/timeline", &t)
}

// ResumeSink ends a pause of the CRM sink.
func (c *Client) ResumeSink(ctx context.Context) error {
	_, _, err := c.Do(ctx, Call{Method: http.MethodPost, Path: "/control/crm/resume"}, nil)
	return err
}

// Trace reads the state of the protocol trace.
func (c *Client) Trace(ctx context.Context) (t api.Trace, err error) {
	return t, c.get(ctx, "/control/trace", &t)
}

// SetTrace starts or stops the protocol trace.
func (c *Client) SetTrace(ctx context.Context, r api.TraceRequest) (t api.Trace, err error) {
	_, _, err = c.Do(ctx, Call{Method: http.MethodPost, Path: "/control/trace", Body: r}, &t)
	return t, err
}

// Events follows the log from the entry after seq and calls fn for each, until
// fn or the connection ends it. The error of fn is returned as it is. The
// caller connects again with the last seq it got.
func (c *Client) Events(ctx context.Context, seq uint64, fn func(api.Event) error) error {
	resp, err := c.send(ctx, Call{Method: http.MethodGet, Path: "/v1/events?after=" + strconv.FormatUint(seq, 10)}, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err := problem(resp, body); err != nil {
			return err
		}
		return fmt.Errorf("answer %s", resp.Status)
	}
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(make([]byte, 0, 64<<10), 4<<20)
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		var e api.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("event stream: an entry is no JSON")
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	return io.EOF
}
