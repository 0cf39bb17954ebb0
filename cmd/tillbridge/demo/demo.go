// Package demo plays a shop's day without any hardware: a virtual pad, a
// virtual terminal, a virtual reader, a virtual acquirer and a virtual CRM run
// as processes of their own, the agent is this program's own `run` (for the
// reader, which stands on USB, `sim counter`), and a till calls its API. The
// agent does not know that it is a demo.
//
// [Run] is the whole of it. What the day showed is judged by the books of
// acquirer, terminal and CRM, never by the agent's.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options of [Run].
type Options struct {
	// Self is the path of this program.
	Self string
	// Out gets the story; nil for none.
	Out    io.Writer
	Colour bool
	// Keep leaves the working directory behind and tells where it is.
	Keep bool
	// Hurry leaves out the pauses that are there for the person who watches.
	Hurry bool
}

// Run plays the day. The result is judged ([Result.OK]); an error means that
// the day could not be played to its end.
func Run(ctx context.Context, o Options) (*Result, error) {
	dir, err := os.MkdirTemp("", "tb-demo-")
	if err != nil {
		return nil, err
	}
	s := &shop{o: o, dir: dir, result: &Result{Schema: "demo/1", Problems: []string{}},
		tell: &narrator{out: o.Out, colour: o.Colour, start: time.Now()}}
	s.launch = &launcher{self: o.Self, logs: filepath.Join(dir, "logs")}
	defer func() {
		s.launch.stop()
		if o.Keep {
			s.tell.say("", "everything is left in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	if err := s.day(ctx); err != nil {
		return s.result, fmt.Errorf("the day ended early: %w%s", err, s.lastWords())
	}
	s.result.Elapsed = time.Since(s.tell.start).Seconds()
	s.result.judge()
	return s.result, nil
}

// day is the story in order.
func (s *shop) day(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.open, s.morning, s.corrections, s.terminal, s.crmDown, s.powerCut, s.replug, s.crmBack, s.plainReader, s.closing,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lastWords are the last lines of the agent's log, for an error.
func (s *shop) lastWords() string {
	data, err := os.ReadFile(filepath.Join(s.dir, "logs", "agent.log"))
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\nthe agent's last words:\n" + string(data[max(0, len(data)-2000):])
}

var errStory = errors.New("the story went another way")

// expect compares what happened with what the story says.
func expect(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%w: %s is %s, not %s", errStory, what, got, want)
	}
	return nil
}
