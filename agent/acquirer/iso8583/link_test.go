package iso8583

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/emv"
)

// fakeHost is the other end of pipes, under the test's clock.
type fakeHost struct {
	t     *testing.T
	d     *Dialect
	conns chan net.Conn
	dials []time.Time
	err   error
	hang  bool
}

func (h *fakeHost) dial(ctx context.Context) (net.Conn, error) {
	h.dials = append(h.dials, time.Now())
	if h.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if h.err != nil {
		return nil, h.err
	}
	a, b := net.Pipe()
	h.conns <- b
	return a, nil
}

func (h *fakeHost) read(c net.Conn) Message {
	h.t.Helper()
	body, err := h.d.Length.read(c, 8192)
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := h.d.codec.Unpack(body)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *fakeHost) answer(c net.Conn, m Message, mti, code string, change func(Message)) {
	h.t.Helper()
	a := Message{Header: h.d.header, MTI: mti, Fields: map[int][]byte{39: []byte(code)}}
	for _, id := range []int{3, 4, 7, 11, 41} {
		if v, ok := m.Fields[id]; ok {
			a.Fields[id] = v
		}
	}
	if change != nil {
		change(a)
	}
	body, err := h.d.codec.Pack(a)
	if err != nil {
		h.t.Fatal(err)
	}
	frame, _ := h.d.Length.append(nil, len(body))
	if _, err := c.Write(append(frame, body...)); err != nil {
		h.t.Fatal(err)
	}
}

func fake(t *testing.T) (*fakeHost, *Link) {
	d, err := Named("ascii87")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{t: t, d: d, conns: make(chan net.Conn, 16)}
	l, err := Open(Options{Dialect: d, Dial: h.dial, TerminalID: "T1"})
	if err != nil {
		t.Fatal(err)
	}
	return h, l
}

func tokenSale(stan int) acquirer.Request {
	return acquirer.Request{Kind: acquirer.Sale, STAN: stan, Time: time.Now(), TerminalID: "T1", Token: "tok_1", PANSequence: -1,
		Amounts: emv.Amounts{Amount: 100, Currency: "EUR", CurrencyNumeric: 978}}
}

type outcome struct {
	res   acquirer.Result
	err   error
	after time.Duration
}

func begin(l *Link, r acquirer.Request) <-chan outcome {
	c := make(chan outcome, 1)
	start := time.Now()
	go func() {
		res, err := l.Authorize(context.Background(), r)
		c <- outcome{res, err, time.Since(start)}
	}()
	return c
}

func TestSilentConnectionIsEchoedAndThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := fake(t)
		defer l.Close()
		c := <-h.conns
		start := time.Now()
		m := h.read(c)
		if m.MTI != "0800" || time.Since(start) != time.Minute {
			t.Fatalf("%s after %v, want an echo after a minute", m.MTI, time.Since(start))
		}
		h.answer(c, m, "0810", "00", nil)
		h.read(c) // the next one stays unanswered
		start = time.Now()
		if _, err := h.d.Length.read(c, 8192); err == nil {
			t.Fatal("a message instead of the end")
		}
		if d := time.Since(start); d != 15*time.Second {
			t.Errorf("given up after %v, want 15 s", d)
		}
		<-h.conns // it connects again
		if len(h.dials) != 2 {
			t.Errorf("%d attempts", len(h.dials))
		}
	})
}

func TestSilenceEndsByTheAnswerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := fake(t)
		defer l.Close()
		c := <-h.conns
		got := begin(l, tokenSale(1))
		m := h.read(c)
		o := <-got
		if o.res.Outcome != acquirer.Unknown || !errors.Is(o.err, acquirer.ErrTimeout) || o.after != 30*time.Second {
			t.Errorf("%v, %v after %v", o.res, o.err, o.after)
		}
		h.answer(c, m, "0210", "00", nil)
		synctest.Wait()
		if l.Status().Late != 1 {
			t.Error("the late answer was not counted")
		}
	})
}

func TestHangingDialSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := Named("ascii87")
		h := &fakeHost{t: t, d: d, hang: true, conns: make(chan net.Conn, 16)}
		l, err := Open(Options{Dialect: d, Dial: h.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		o := <-begin(l, tokenSale(1))
		if o.res.Outcome != acquirer.NotSent || !errors.Is(o.err, acquirer.ErrUnreachable) || o.after > 10*time.Second {
			t.Errorf("%v, %v after %v", o.res, o.err, o.after)
		}
	})
}

func TestAttemptsBackOffAndACallTriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := Named("ascii87")
		h := &fakeHost{t: t, d: d, err: errors.New("refused"), conns: make(chan net.Conn, 16)}
		l, err := Open(Options{Dialect: d, Dial: h.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		n := len(h.dials)
		if n < 10 || n > 30 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		for i := 1; i < n; i++ {
			if gap := h.dials[i].Sub(h.dials[i-1]); gap < 500*time.Millisecond || gap > time.Minute {
				t.Errorf("attempt %d after %v", i, gap)
			}
		}
		o := <-begin(l, tokenSale(1))
		if o.res.Outcome != acquirer.NotSent || o.after != 0 || len(h.dials) != n+1 {
			t.Errorf("%v after %v, %d attempts more", o.res, o.after, len(h.dials)-n)
		}
	})
}

func TestCodeThatMeansWaitIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := fake(t)
		defer l.Close()
		c := <-h.conns
		got := begin(l, tokenSale(1))
		m := h.read(c)
		h.answer(c, m, "0210", "09", nil)
		time.Sleep(20 * time.Second)
		h.answer(c, m, "0210", "00", nil)
		if o := <-got; o.res.Outcome != acquirer.Approved {
			t.Errorf("%v, %v", o.res, o.err)
		}
	})
}

func TestAnswerThatContradictsTheRequestIsNotUsed(t *testing.T) {
	for name, change := range map[string]func(Message){
		"amount":            func(m Message) { m.Set(4, "000000000999") },
		"processing code":   func(m Message) { m.Set(3, "200000") },
		"transmission time": func(m Message) { m.Set(7, "0202000000") },
		"terminal":          func(m Message) { m.Set(41, "T2      ") },
		"STAN":              func(m Message) { m.Set(11, "000002") },
		"message type":      func(m Message) { m.MTI = "0110" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, l := fake(t)
				defer l.Close()
				c := <-h.conns
				got := begin(l, tokenSale(1))
				m := h.read(c)
				if name == "message type" {
					h.answer(c, m, "0110", "00", nil)
				} else {
					h.answer(c, m, "0210", "00", change)
				}
				h.answer(c, m, "0210", "05", nil) // its own answer
				if o := <-got; o.res.Outcome != acquirer.Declined {
					t.Errorf("%v, %v: the wrong answer was used", o.res, o.err)
				}
			})
		})
	}
}

func TestAnswerThatCameBeforeTheLineBrokeIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := fake(t)
		defer l.Close()
		c := <-h.conns
		got := begin(l, tokenSale(1))
		h.answer(c, h.read(c), "0210", "00", nil)
		c.Close()
		if o := <-got; o.res.Outcome != acquirer.Approved {
			t.Errorf("%v, %v", o.res, o.err)
		}
	})
}

func TestCloseFailsWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := fake(t)
		c := <-h.conns
		got := begin(l, tokenSale(1))
		h.read(c)
		l.Close()
		o := <-got
		if o.res.Outcome != acquirer.Unknown || !errors.Is(o.err, acquirer.ErrClosed) {
			t.Errorf("%v, %v", o.res, o.err)
		}
		if o := <-begin(l, tokenSale(2)); o.res.Outcome != acquirer.NotSent || !errors.Is(o.err, acquirer.ErrClosed) {
			t.Errorf("after Close: %v, %v", o.res, o.err)
		}
	})
}

func TestErrorsOfTheCodecShowNoValue(t *testing.T) {
	d, _ := Named("ascii87")
	const pan = "4761739001010010"
	for _, m := range []Message{
		{MTI: "0200", Fields: map[int][]byte{3: []byte(pan)}},
		{MTI: "0200", Fields: map[int][]byte{2: []byte(pan)}},
		{MTI: pan[:4] + "x", Fields: map[int][]byte{}},
	} {
		if _, err := d.codec.Pack(m); err == nil || strings.Contains(err.Error(), "4761") {
			t.Errorf("error %v", err)
		}
	}
	good, err := d.codec.Pack(Message{MTI: "0200", Fields: map[int][]byte{62: []byte(pan), 41: []byte("T1      ")}})
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		_, err := d.codec.Unpack(good[:n])
		if err == nil || !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), "4761") {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}
