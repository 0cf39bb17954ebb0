package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// process is a child of the demo: a simulator or the agent. It runs this same
// program with another verb, prints one line when it is ready, takes one JSON
// command a line, answers each with one line, and ends at the end of its
// input.
type process struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan []byte // answers
	events chan []byte // what it tells by itself: lines with "event"
	ready  map[string]any
	done   chan struct{} // closed when the process has ended
	err    error         // of Wait, valid after done

	mu sync.Mutex // one command at a time
}

// launcher starts children and knows where their output goes.
type launcher struct {
	self string // path of this program
	logs string // folder of their standard error
	env  []string

	mu  sync.Mutex
	all []*process
}

// start runs `self args...` and waits for its ready line.
func (l *launcher) start(ctx context.Context, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(l.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(l.self, args...)
	cmd.Env = append(os.Environ(), l.env...)
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, in: in, lines: make(chan []byte, 64), events: make(chan []byte, 256), done: make(chan struct{})}
	go func() { // ends with the process, whose end close() waits for
		defer close(p.done)
		defer close(p.lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<24)
		for s.Scan() {
			to := p.lines
			if bytes.Contains(s.Bytes(), []byte(`"event":`)) {
				to = p.events
			}
			select {
			case to <- bytes.Clone(s.Bytes()):
			default: // a line that nobody asked for
			}
		}
		p.err = cmd.Wait()
	}()
	l.mu.Lock()
	l.all = append(l.all, p)
	l.mu.Unlock()
	line, err := p.line(ctx, 30*time.Second)
	if err != nil {
		return nil, fmt.Errorf("%s did not become ready: %w (its log is %s)", name, err, log.Name())
	}
	if err := json.Unmarshal(line, &p.ready); err != nil || p.ready["ready"] != true {
		return nil, fmt.Errorf("%s did not become ready: it said %s", name, line)
	}
	return p, nil
}

// text returns a text of the ready line.
func (p *process) text(key string) string {
	s, _ := p.ready[key].(string)
	return s
}

// line waits for the next line.
func (p *process) line(ctx context.Context, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case b, ok := <-p.lines:
		if !ok {
			<-p.done
			return nil, fmt.Errorf("%s ended: %v", p.name, p.err)
		}
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s is silent: %w", p.name, ctx.Err())
	}
}

// event waits for a line that match accepts; others are dropped.
func (p *process) event(ctx context.Context, limit time.Duration, match func(map[string]any) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		select {
		case b := <-p.events:
			var e map[string]any
			if json.Unmarshal(b, &e) == nil && match(e) {
				return nil
			}
		case <-p.done:
			return fmt.Errorf("%s ended: %v", p.name, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s did not tell what was waited for: %w", p.name, ctx.Err())
		}
	}
}

// command sends one command and decodes its answer into out, which may be nil.
func (p *process) command(ctx context.Context, cmd map[string]any, out any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := json.Marshal(cmd)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("tell %s: %w", p.name, err)
	}
	line, err := p.line(ctx, 20*time.Second)
	if err != nil {
		return fmt.Errorf("tell %s %s: %w", p.name, b, err)
	}
	var head struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return fmt.Errorf("%s answered %s: %w", p.name, line, err)
	}
	if !head.OK {
		return fmt.Errorf("%s refused %s: %s", p.name, b, head.Error)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(line, out)
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// close ends the process by the end of its input, and by force after a while.
func (p *process) close() error {
	_ = p.in.Close()
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.kill()
		return fmt.Errorf("%s did not end by itself", p.name)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && exit.ExitCode() > 0 {
		return fmt.Errorf("%s ended with exit code %d", p.name, exit.ExitCode())
	}
	return nil
}

// stop kills whatever still runs.
func (l *launcher) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.all {
		select {
		case <-p.done:
		default:
			p.kill()
		}
	}
}
