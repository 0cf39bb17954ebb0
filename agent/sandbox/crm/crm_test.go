package crm

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the standard's example

// post signs as the standard says and sends.
func post(t *testing.T, url, id, body string, at time.Time, tamper func(http.Header)) int {
	t.Helper()
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(testSecret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	req, _ := http.NewRequest("POST", url, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", "v1a,AAAA v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	if tamper != nil {
		tamper(req.Header)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func body(id, kind, subject, customer string, seq, amount int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":%q,"time":"2026-11-30T10:00:00Z","subject":%q,"partitionkey":%q,"sequence":"%020d","data":{"payment_id":%q,"amount_minor":%d,"approved_minor":%d,"currency":"EUR"}}`,
		id, kind, subject, customer, seq, subject, amount, amount)
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Secret = testSecret
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSignaturesAreChecked(t *testing.T) {
	s := start(t, Options{})
	b := body("e1", "pos.payment.approved", "pay_1", "c", 1, 100)
	now := time.Now()
	for _, c := range []struct {
		name   string
		at     time.Time
		tamper func(http.Header)
		status int
	}{
		{"no signature", now, func(h http.Header) { h.Del("webhook-signature") }, 401},
		{"another's", now, func(h http.Header) { h.Set("webhook-signature", "v1,"+strings.Repeat("A", 43)+"=") }, 401},
		{"other id", now, func(h http.Header) { h.Set("webhook-id", "e2") }, 401},
		{"other time", now, func(h http.Header) { h.Set("webhook-timestamp", strconv.FormatInt(now.Unix()+1, 10)) }, 401},
		{"old", now.Add(-time.Hour), nil, 401},
		{"from the future", now.Add(time.Hour), nil, 401},
		{"no number", now, func(h http.Header) { h.Set("webhook-timestamp", "now") }, 401},
		{"other type of body", now, func(h http.Header) { h.Set("Content-Type", "application/json") }, 400},
		{"sound", now, nil, 200},
	} {
		if got := post(t, s.URL(), "e1", b, c.at, c.tamper); got != c.status {
			t.Errorf("%s: %d, want %d", c.name, got, c.status)
		}
	}
	if l := s.Ledger(); l.Delivered != 1 || l.Unauthorized != 7 {
		t.Errorf("books %+v", l)
	}
}

func TestBooks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.json")
	s := start(t, Options{Ledger: path})
	n := 0
	send := func(id, kind, subject, customer string, seq, amount int) int {
		n++
		return post(t, s.URL(), id, body(id, kind, subject, customer, seq, amount), time.Now(), nil)
	}
	send("e1", "pos.payment.approved", "pay_1", "a", 1, 1000)
	send("e2", "pos.payment.approved", "pay_2", "b", 2, 500)
	send("e4", "pos.payment.refunded", "ref_1", "a", 4, 300)
	if got := send("e4", "pos.payment.refunded", "ref_1", "a", 4, 300); got != 409 {
		t.Errorf("a known id: %d", got)
	}
	send("e3", "pos.payment.declined", "pay_3", "a", 3, 700)  // older than e4
	send("e5", "pos.payment.reversed", "pay_2", "b", 5, 500)  // gives back what it brought
	send("e6", "pos.payment.reversed", "pay_9", "b", 6, 500)  // brought nothing
	send("e7", "pos.payment.approved", "pay_1", "a", 7, 1000) // the same effect under another id
	want := Ledger{Delivered: 7, Redelivered: 1, Duplicates: 1, OutOfOrder: 1, Customers: 2, Net: map[string]int64{"EUR": 1000 + 500 - 300 - 500 + 1000}}
	if l := s.Ledger(); fmt.Sprint(l) != fmt.Sprint(want) {
		t.Errorf("books %+v, want %+v", l, want)
	}
	s.Close()
	again := start(t, Options{Ledger: path})
	if l := again.Ledger(); fmt.Sprint(l) != fmt.Sprint(want) {
		t.Errorf("books after a restart %+v", l)
	}
	if got := post(t, again.URL(), "e1", body("e1", "pos.payment.approved", "pay_1", "a", 1, 1000), time.Now(), nil); got != 409 {
		t.Errorf("an id known before the restart: %d", got)
	}
}

func TestMoods(t *testing.T) {
	var record bytes.Buffer
	s := start(t, Options{Record: &record})
	send := func(i int) int {
		id := fmt.Sprint("m", i)
		return post(t, s.URL(), id, body(id, "pos.payment.approved", "pay_"+id, "c", i, 1), time.Now(), nil)
	}
	for _, c := range []struct {
		cmd  string
		i    int
		want int
	}{
		{`{"cmd":"throttle","count":1}`, 1, 429}, {``, 1, 200},
		{`{"cmd":"error","status":502,"count":1}`, 2, 502}, {``, 2, 200},
		{`{"cmd":"error"}`, 3, 503}, {``, 3, 503}, {`{"cmd":"up"}`, 3, 200},
		{`{"cmd":"forgetful","count":1}`, 4, 0}, {``, 4, 409},
		{`{"cmd":"reject","match":"pay_m5"}`, 5, 422}, {``, 6, 200}, {`{"cmd":"up"}`, 5, 200},
		{`{"cmd":"unauthorized","count":1}`, 7, 401}, {``, 7, 200},
		{`{"cmd":"slow","ms":5,"count":1}`, 8, 200},
		{`{"cmd":"down"}`, 9, 0}, {`{"cmd":"up"}`, 9, 200},
	} {
		if c.cmd != "" {
			if b, _ := json.Marshal(s.Command([]byte(c.cmd))); !strings.Contains(string(b), `"ok":true`) {
				t.Errorf("%s: %s", c.cmd, b)
			}
		}
		if got := send(c.i); got != c.want {
			t.Errorf("after %s: event %d got %d, want %d", c.cmd, c.i, got, c.want)
		}
	}
	card := "4111111111111111" // published test number
	b := body("x", "pos.payment.approved", card, "c", 99, 1)
	if got := post(t, s.URL(), "x", b, time.Now(), nil); got != 422 || s.Ledger().CardData != 1 {
		t.Errorf("a card number: %d %+v", got, s.Ledger())
	}
	if !strings.Contains(record.String(), `"subject":"pay_m1"`) {
		t.Error("requests are not recorded")
	}
	for _, cmd := range []string{"", "{", "[]", `{"cmd":"dance"}`} {
		if b, _ := json.Marshal(s.Command([]byte(cmd))); !strings.Contains(string(b), `"ok":false`) {
			t.Errorf("%q: %s", cmd, b)
		}
	}
}

func TestServeIsAProcess(t *testing.T) {
	in, feed := io.Pipe()
	read, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(t.Context(), in, out, Options{Secret: testSecret})
		out.Close()
	}()
	lines := bufio.NewScanner(read)
	line := func() (m map[string]any) {
		if !lines.Scan() {
			t.Fatal("no line")
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	ready := line()
	if ready["ready"] != true || ready["addr"] == "" {
		t.Fatalf("first line %v", ready)
	}
	url := "http://" + ready["addr"].(string) + "/"
	if got := post(t, url, "e1", body("e1", "pos.payment.approved", "pay_1", "a", 1, 1000), time.Now(), nil); got != 200 {
		t.Errorf("event: %d", got)
	}
	io.WriteString(feed, "{\"cmd\":\"ledger\"}\n")
	m := line()
	for _, name := range []string{"delivered", "redelivered", "duplicates", "out_of_order", "net"} {
		if m[name] == nil {
			t.Errorf("the ledger has no %s: %v", name, m)
		}
	}
	io.WriteString(feed, "{\"cmd\":\"effects\"}\n")
	if list := line()["effects"].([]any); len(list) != 1 {
		t.Errorf("effects %v", list)
	}
	feed.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(body("e1", "pos.payment.approved", "pay_1", "a", 1, 1000)))
	f.Add([]byte(`{"specversion":"1.0","id":"e1","source":"s","type":"t","sequence":"-1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, problem := decodeEvent(http.Header{"Content-Type": {"application/cloudevents+json"}, "Webhook-Id": {"e1"}}, b)
		if problem == "" && (ev.ID != "e1" || ev.Source == "" || ev.Type == "") {
			t.Errorf("accepted %+v", ev)
		}
		looksLikeCard(b)
	})
}
