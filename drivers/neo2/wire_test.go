package neo2_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/neo2"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// ear stands between driver and line: it counts commands and slips frames in
// before the answer.
type ear struct {
	drivers.Transport
	sent  map[string]int    // commands by name
	got   map[string][]byte // last answer after a command, as one piece
	slip  map[string][]byte // what to slip in once a command was sent
	queue [][]byte
	now   string
}

func (e *ear) Write(ctx context.Context, p []byte) (int, error) {
	if f, err := neo2.Parse(neo2.ToReader, p); err == nil {
		e.now = strings.ToUpper(string([]byte{hexDigit(f.Command >> 4), hexDigit(f.Command), '-', hexDigit(f.Code >> 4), hexDigit(f.Code)}))
		e.sent[e.now]++
		if s := e.slip[e.now]; s != nil {
			e.queue = append(e.queue, s)
			delete(e.slip, e.now)
		}
	}
	return e.Transport.Write(ctx, p)
}

func hexDigit(b byte) byte { return "0123456789ABCDEF"[b&15] }

func (e *ear) Read(ctx context.Context, p []byte) (int, error) {
	if len(e.queue) > 0 {
		n := copy(p, e.queue[0])
		e.queue = e.queue[1:]
		return n, nil
	}
	n, err := e.Transport.Read(ctx, p)
	if n > 0 {
		e.got[e.now] = bytes.Clone(p[:n])
	}
	return n, err
}

func withEar(t *testing.T, play func(t *testing.T, e *ear, r *virtual.Reader, d drivers.Device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{})
		r, err := virtual.New(virtual.Options{Key: newKey(), Cards: map[string]*virtualcard.Card{"visa": theCard()}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); r.Run(context.Background(), device.Stream()) }()
		defer func() { host.Close(); <-done }()
		e := &ear{Transport: host, sent: map[string]int{}, got: map[string][]byte{}, slip: map[string][]byte{}}
		dev, err := neo2.New().Open(t.Context(), e, drivers.Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		play(t, e, r, dev)
	})
}

// The bytes after which money may move go out once, whatever is lost.
func TestMoneyCommandsAreSentOnce(t *testing.T) {
	for name, entries := range map[string][]emv.Entry{"60-11": {emv.EntryContact}, "02-40": nil, "60-10": {emv.EntryContact}, "60-12": {emv.EntryContact}} {
		for _, what := range []string{"drop-answer", "bad-crc"} {
			t.Run(name+" "+what, func(t *testing.T) {
				withEar(t, func(t *testing.T, e *ear, r *virtual.Reader, d drivers.Device) {
					steps(t, r, insert)
					s, err := d.(drivers.CardSession).Begin(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					lose := func(at string) {
						if at == name {
							steps(t, r, virtual.Step{Do: "fault", Fault: what, N: 1000})
						}
					}
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					lose("60-10")
					lose("02-40")
					_, err = s.Read(ctx, terms(1000, entries...))
					if err == nil {
						lose("60-11")
						_, err = s.Authorize(ctx, amounts(1000))
					}
					if err == nil {
						lose("60-12")
						_, err = s.Complete(ctx, approval)
					}
					if err == nil {
						t.Error("no error although every answer was lost")
					}
					s.Cancel(ctx)
					if e.sent[name] != 1 {
						t.Errorf("%s was sent %d times", name, e.sent[name])
					}
				})
			})
		}
	}
}

// Late answers of something earlier are not taken for the answer that is due.
func TestStaleAnswersAreNotPaired(t *testing.T) {
	t.Run("of another command", func(t *testing.T) {
		withEar(t, func(t *testing.T, e *ear, r *virtual.Reader, d drivers.Device) {
			for _, c := range []string{"60-10", "60-11", "60-12"} {
				e.slip[c] = mustAnswer(0x18, 0)
			}
			steps(t, r, insert)
			if _, o, err := pay(t.Context(), d, terms(1000, emv.EntryContact), approval); err != nil || o.Decision != emv.Approved {
				t.Errorf("%s %v", o.Decision, err)
			}
		})
	})
	t.Run("twice", func(t *testing.T) {
		withEar(t, func(t *testing.T, e *ear, r *virtual.Reader, d drivers.Device) {
			steps(t, r, insert)
			s, err := d.(drivers.CardSession).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Read(t.Context(), terms(1000, emv.EntryContact)); err != nil {
				t.Fatal(err)
			}
			e.slip["60-11"] = e.got["60-10"]
			if o, err := s.Authorize(t.Context(), amounts(1000)); err != nil || o.Decision != emv.OnlineRequest {
				t.Errorf("%s %v", o.Decision, err)
			}
			e.slip["60-12"] = e.got["60-11"]
			if o, err := s.Complete(t.Context(), approval); err != nil || o.Decision != emv.Approved {
				t.Errorf("%s %v", o.Decision, err)
			}
		})
	})
	t.Run("of the sale before", func(t *testing.T) {
		withEar(t, func(t *testing.T, e *ear, r *virtual.Reader, d drivers.Device) {
			steps(t, r, insert, insert, insert)
			if _, _, err := pay(t.Context(), d, terms(1000, emv.EntryContact), approval); err != nil {
				t.Fatal(err)
			}
			old := map[string][]byte{"60-11": e.got["60-11"], "60-12": e.got["60-12"]}
			for at, answer := range old {
				later := terms(1000, emv.EntryContact) // the same amount a minute later
				later.Time = later.Time.Add(time.Minute)
				e.slip[at] = answer
				if _, o, err := pay(t.Context(), d, later, approval); !errors.Is(err, neo2.ErrAmount) {
					t.Errorf("%s: %s %v", at, o.Decision, err)
				}
			}
		})
	})
}

// A line at another speed than the first is found by pings.
func TestSpeedIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{})
		r, err := virtual.New(virtual.Options{Key: newKey()})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); r.Run(context.Background(), device.Stream()) }()
		defer func() { host.Close(); <-done }()
		line := &speedLine{Transport: host, right: 19200}
		dev, err := neo2.New().Open(t.Context(), line, drivers.Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		dev.Close()
		if line.now != 19200 {
			t.Errorf("%d baud", line.now)
		}
	})
}

// speedLine loses what is sent at a wrong speed.
type speedLine struct {
	drivers.Transport
	now, right int
}

func (l *speedLine) SetLine(m drivers.LineMode) error { l.now = m.Baud; return nil }

func (l *speedLine) Write(ctx context.Context, p []byte) (int, error) {
	if l.now != l.right {
		return len(p), nil
	}
	return l.Transport.Write(ctx, p)
}
