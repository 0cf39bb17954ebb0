package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"tillbridge/agent/crm"
	sandbox "tillbridge/agent/sandbox/crm"
)

const secret = "whsec_dGlsbGJyaWRnZSB0ZXN0IHNlY3JldCAwMDAwMDE=" // of this test

func key(t testing.TB, s string) Key {
	t.Helper()
	k, err := ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func event(id string) crm.Event {
	return crm.Event{ID: id, Source: "/s", Type: crm.TypeApproved, Time: time.Unix(1, 0), Subject: "pay_" + id, PartitionKey: "tok:1", Sequence: 1,
		Data: crm.Data{PaymentID: "pay_" + id, Kind: "sale", Outcome: "approved", Currency: "EUR", AmountMinor: 100, ApprovedMinor: 100}}
}

// TestSignatureOfTheStandard is the example that the Standard Webhooks
// documents and libraries share.
func TestSignatureOfTheStandard(t *testing.T) {
	k := key(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	got := k.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestKeyFormsAndSilence(t *testing.T) {
	for _, s := range []string{"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!", "whsec_c2hvcnQ="} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("%q was accepted", s)
		} else if len(s) > 8 && strings.Contains(err.Error(), s[6:]) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
	k := key(t, secret)
	b, _ := json.Marshal(k)
	if s := fmt.Sprintf("%v %+v %#v %s %x %s", k, k, k, k, k, b); strings.Contains(s, "tillbridge") || strings.Contains(s, "74696c6c") {
		t.Errorf("the key prints: %s", s)
	}
}

func TestAnswers(t *testing.T) {
	const naming, other = `{"id":"e1","ref":"R1"}`, `{"id":"e2"}`
	for _, c := range []struct {
		name   string
		status int
		header string
		body   string
		want   crm.Class
		after  time.Duration
	}{
		{"ok", 200, "", naming, crm.Accepted, 0},
		{"no content", 204, "", "", crm.Accepted, 0},
		{"a web page", 200, "Content-Type: text/html; charset=utf-8", "<html>log in", crm.Retry, 0},
		{"known, named", 409, "", naming, crm.Duplicate, 0},
		{"known, named as event_id", 409, "", `{"event_id":"e1","id":"77"}`, crm.Duplicate, 0},
		{"conflict about another event", 409, "", other, crm.Rejected, 0},
		{"conflict about nothing", 409, "", "", crm.Rejected, 0},
		{"throttled, seconds", 429, "Retry-After: 7", "", crm.Throttled, 7 * time.Second},
		{"throttled, date", 429, "Retry-After: Thu, 01 Jan 1970 00:02:00 GMT", "", crm.Throttled, 20 * time.Second},
		{"throttled, in the past", 429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", "", crm.Throttled, 0},
		{"throttled, for ever", 429, "Retry-After: 99999999999", "", crm.Throttled, 24 * time.Hour},
		{"throttled, nonsense", 429, "Retry-After: soon", "", crm.Throttled, 0},
		{"busy with a time", 503, "Retry-After: 3", "", crm.Throttled, 3 * time.Second},
		{"busy", 503, "", "", crm.Retry, 0},
		{"broken", 500, "", "", crm.Retry, 0},
		{"gateway", 502, "", "<html>", crm.Retry, 0},
		{"timeout of theirs", 408, "", "", crm.Retry, 0},
		{"moved", 302, "Location: http://other.example/", "", crm.Retry, 0},
		{"not there", 404, "", "", crm.Retry, 0},
		{"key refused", 401, "", "", crm.AuthFailed, 0},
		{"forbidden", 403, "", "", crm.AuthFailed, 0},
		{"gone", 410, "", "", crm.Stopped, 0},
		{"changed", 412, "", "", crm.Conflict, 0},
		{"bad event", 422, "", `{"error":"no such field"}`, crm.Rejected, 0},
		{"bad request", 400, "", "", crm.Rejected, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if name, value, ok := strings.Cut(c.header, ": "); ok {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer srv.Close()
			s, err := New(Options{URL: srv.URL, Keys: []Key{key(t, secret)}, Now: func() time.Time { return time.Unix(100, 0) }})
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Deliver(t.Context(), []crm.Event{event("e1")})
			if err != nil || len(r) != 1 {
				t.Fatalf("%v %v", r, err)
			}
			if r[0].Class != c.want || r[0].RetryAfter != c.after {
				t.Errorf("got %s after %v, want %s after %v", r[0].Class, r[0].RetryAfter, c.want, c.after)
			}
		})
	}
}

func TestReasonIsBoundedAndClean(t *testing.T) {
	card := "4111111111111111" // published test number
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(422)
		json.NewEncoder(w).Encode(map[string]string{"error": "bad\x1b[31m value " + card + strings.Repeat("x", 5000)})
	}))
	defer srv.Close()
	s, err := New(Options{URL: srv.URL, Keys: []Key{key(t, secret)}})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := s.Deliver(t.Context(), []crm.Event{event("e1")})
	if len(r[0].Reason) > 100 || strings.Contains(r[0].Reason, card) || strings.Contains(r[0].Reason, "\x1b") {
		t.Errorf("reason %q", r[0].Reason)
	}
}

// TestSignedWhenSentUnderOneID: the time in the signature is that of the
// attempt, the id that of the event.
func TestSignedWhenSentUnderOneID(t *testing.T) {
	type head struct{ id, stamp, signature, body string }
	var got []head
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = append(got, head{r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), string(b)})
	}))
	defer srv.Close()
	now := time.Unix(1000, 0)
	old, next := key(t, secret), key(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	s, err := New(Options{URL: srv.URL, Keys: []Key{old, next}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Deliver(t.Context(), []crm.Event{event("e1")})
		now = now.Add(72 * time.Hour)
	}
	if len(got) != 2 || got[0].id != "e1" || got[1].id != "e1" || got[0].body != got[1].body {
		t.Fatalf("got %+v", got)
	}
	for i, h := range got {
		at := int64(1000 + i*72*3600)
		want := old.Sign("e1", at, []byte(h.body)) + " " + next.Sign("e1", at, []byte(h.body))
		if h.stamp != strconv.FormatInt(at, 10) || h.signature != want {
			t.Errorf("attempt %d: stamp %s, signature %s", i+1, h.stamp, h.signature)
		}
	}
}

func TestAddressesAreChecked(t *testing.T) {
	keys := []Key{key(t, secret)}
	for _, u := range []string{"", "crm.example", "http://crm.example/x", "ftp://x/", "https://user:pw@crm.example/", "https://"} {
		if _, err := New(Options{URL: u, Keys: keys}); err == nil {
			t.Errorf("%q was accepted", u)
		} else if strings.Contains(err.Error(), "pw") {
			t.Error("the error repeats the password")
		}
	}
	if _, err := New(Options{URL: "https://crm.example/"}); err == nil {
		t.Error("no key was accepted")
	}
	for _, u := range []string{"https://crm.example/x", "http://127.0.0.1:1/", "http://localhost/", "http://[::1]:1/"} {
		if _, err := New(Options{URL: u, Keys: keys}); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
}

// TestAgainstTheSandbox: two programs that share no code agree.
func TestAgainstTheSandbox(t *testing.T) {
	var record bytes.Buffer
	srv, err := sandbox.Start(sandbox.Options{Secret: secret, Record: &record})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	deliver := func(k, id string) crm.Result {
		t.Helper()
		s, err := New(Options{URL: srv.URL(), Keys: []Key{key(t, k)}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Deliver(t.Context(), []crm.Event{event(id)})
		if err != nil {
			t.Fatal(err)
		}
		return r[0]
	}
	if r := deliver("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a"); r.Class != crm.AuthFailed {
		t.Errorf("wrong key: %+v", r)
	}
	if r := deliver(secret, "a"); r.Class != crm.Accepted || r.RemoteID == "" {
		t.Errorf("first: %+v", r)
	}
	if r := deliver(secret, "a"); r.Class != crm.Duplicate {
		t.Errorf("again: %+v", r)
	}
	srv.Command([]byte(`{"cmd":"forgetful","count":1}`))
	if r := deliver(secret, "b"); r.Class != crm.Unknown {
		t.Errorf("lost reply: %+v", r)
	}
	if r := deliver(secret, "b"); r.Class != crm.Duplicate {
		t.Errorf("after the lost reply: %+v", r)
	}
	srv.Command([]byte(`{"cmd":"throttle","retry_after":9,"count":1}`))
	if r := deliver(secret, "c"); r.Class != crm.Throttled || r.RetryAfter != 9*time.Second {
		t.Errorf("throttled: %+v", r)
	}
	srv.Command([]byte(`{"cmd":"down"}`))
	if r := deliver(secret, "c"); r.Class != crm.Retry || r.Code != "net.connect" {
		t.Errorf("down: %+v", r)
	}
	srv.Command([]byte(`{"cmd":"up"}`))
	if r := deliver(secret, "c"); r.Class != crm.Accepted {
		t.Errorf("up again: %+v", r)
	}
	s, _ := New(Options{URL: srv.URL(), Keys: []Key{key(t, secret)}})
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	bad, _ := New(Options{URL: srv.URL(), Keys: []Key{key(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}})
	if err := bad.Probe(t.Context()); err == nil {
		t.Error("the probe with a wrong key is content")
	}
	if l := srv.Ledger(); l.Delivered != 3 || l.Redelivered != 2 || l.Duplicates != 0 || l.Net["EUR"] != 300 {
		t.Errorf("books %+v", l)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(409, "", []byte(`{"id":"e1"}`))
	f.Add(429, "Thu, 01 Jan 1970 00:02:00 GMT", []byte("{"))
	f.Add(200, "-1", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		r := classify(&http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}}, body, "e1", time.Unix(100, 0))
		if r.RetryAfter < 0 || r.RetryAfter > maxRetryAfter {
			t.Errorf("pause %v", r.RetryAfter)
		}
		if len(r.Reason) > 100 || len(r.RemoteID) > 64 {
			t.Error("text from outside is not bounded")
		}
		if r.Class == crm.Accepted && (status < 200 || status > 299) {
			t.Errorf("status %d counts as accepted", status)
		}
	})
}
