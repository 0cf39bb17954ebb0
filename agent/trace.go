package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tillbridge/agent/api"
	"tillbridge/agent/api/server"
	"tillbridge/drivers"
	"tillbridge/drivers/transcript"
)

// Limits of a trace.
const (
	traceDefault = 10 * time.Minute
	traceLongest = 2 * time.Hour
	traceBytes   = 16 << 20 // of one device's file; what comes later is left out
	traceFiles   = 32       // that are kept: a port that flaps opens one each time
	traceShown   = 200      // lines of show
)

// tracer records what passes on the ports of the devices while a trace is on.
// It ends by itself. Card data is cut out as it is captured.
type tracer struct {
	dir       string
	redactors map[string]drivers.Redactor // by device

	mu     sync.Mutex
	on     bool
	device string // "" means all
	until  time.Time
	timer  *time.Timer
	file   string // of the last device that was opened
	taps   map[*tap]bool
}

func newTracer(dir string) *tracer {
	return &tracer{dir: dir, redactors: map[string]drivers.Redactor{}, taps: map[*tap]bool{}}
}

// wrap puts a tap around a device's transport, which keeps what the port can do
// beyond reading and writing: drivers ask for it.
func (t *tracer) wrap(device string, inner drivers.Transport) drivers.Transport {
	p := &tap{t: t, device: device, inner: inner}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taps[p] = true
	if t.covers(device) {
		p.start()
	}
	switch port := inner.(type) {
	case usbPort:
		return usbTap{p, port}
	case drivers.LineSetter:
		return serialTap{p, port}
	}
	return p
}

// usbPort is what a USB port has beside its endpoints.
type usbPort interface {
	Control(ctx context.Context, requestType, request byte, value, index uint16, data []byte) (int, error)
	InterfaceNumber() int
}

// usbTap and serialTap are taps of ports that can do more.
type usbTap struct {
	*tap
	usbPort
}

type serialTap struct {
	*tap
	drivers.LineSetter
}

// covers reports whether a trace is on for a device. The caller holds mu.
func (t *tracer) covers(device string) bool {
	return t.on && (t.device == "" || t.device == device)
}

// start begins a trace, or begins it anew.
func (t *tracer) start(device string, d time.Duration) error {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on, t.device, t.until, t.file = true, device, time.Now().Add(d), ""
	t.timer = time.AfterFunc(d, t.stop)
	for p := range t.taps {
		if t.covers(p.device) {
			p.start()
		}
	}
	return nil
}

// stop ends a trace; what is recorded stays.
func (t *tracer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
	t.on = false
	for p := range t.taps {
		p.stop()
	}
}

// tap is a transport that can be recorded.
type tap struct {
	t      *tracer
	device string
	inner  drivers.Transport

	mu   sync.Mutex
	rec  *transcript.Recorder
	file *os.File
}

// start opens a file and records into it. The caller holds the tracer's mu. A
// trace that cannot be written is left out: the payment goes on.
func (p *tap) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rec != nil {
		return
	}
	prune(p.t.dir, traceFiles-1)
	path := filepath.Join(p.t.dir, fmt.Sprintf("%s-%s.jsonl", p.device, time.Now().UTC().Format("20060102T150405.000")))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	o := transcript.RecordOptions{}
	if r := p.t.redactors[p.device]; r != nil {
		o.Fields = func(d transcript.Direction, turn []byte) []drivers.Span {
			return r.CardData(d == transcript.Read, turn)
		}
	}
	p.file, p.t.file = f, path
	p.rec = transcript.Record(open{p.inner}, &limited{w: f, left: traceBytes}, o)
}

// prune removes the oldest traces of a directory until n are left.
func prune(dir string, n int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	type aged struct {
		name string
		at   time.Time
	}
	var files []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && filepath.Ext(e.Name()) == ".jsonl" {
			files = append(files, aged{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b aged) int { return a.at.Compare(b.at) })
	for ; len(files) > n; files = files[1:] {
		_ = os.Remove(filepath.Join(dir, files[0].name)) // it is tried again next time
	}
}

func (p *tap) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rec == nil {
		return
	}
	_ = p.rec.Close() // writes the last turn; the port stays open
	_ = p.file.Close()
	p.rec, p.file = nil, nil
}

// line is where bytes go now.
func (p *tap) line() drivers.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rec != nil {
		return p.rec
	}
	return p.inner
}

func (p *tap) Read(ctx context.Context, b []byte) (int, error)  { return p.line().Read(ctx, b) }
func (p *tap) Write(ctx context.Context, b []byte) (int, error) { return p.line().Write(ctx, b) }
func (p *tap) Info() drivers.Port                               { return p.inner.Info() }

// Close closes the port and the recording.
func (p *tap) Close() error {
	err := p.inner.Close()
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	delete(p.t.taps, p)
	p.stop()
	return err
}

// open is a transport whose Close does nothing: the end of a recording is not
// the end of the port.
type open struct{ drivers.Transport }

func (open) Close() error { return nil }

// limited drops what exceeds its limit.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return len(b), nil
	}
	return l.w.Write(b)
}

// Trace starts, stops or shows the protocol trace.
func (c control) Trace(_ context.Context, r api.TraceRequest) (api.Trace, error) {
	t := c.a.fleet.trace
	switch r.Action {
	case "start":
		if _, ok := c.a.fleet.config[r.Device]; r.Device != "" && !ok {
			return api.Trace{}, &server.Error{ErrorCode: "control.not_found", Detail: fmt.Sprintf("no device is named %.40q", r.Device)}
		}
		d := time.Duration(r.Seconds) * time.Second
		if d <= 0 {
			d = traceDefault
		}
		if err := t.start(r.Device, min(d, traceLongest)); err != nil {
			return api.Trace{}, err
		}
	case "stop":
		t.stop()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out := api.Trace{Schema: "trace/1", On: t.on, Device: t.device, File: t.file}
	if t.on {
		until := t.until
		out.Until = &until
	}
	if r.Action == "" && t.file != "" {
		out.Lines = lastLines(t.file, traceShown)
	}
	return out, nil
}

// lastLines returns the last n lines of a file, or none.
func lastLines(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var lines []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, traceBytes)
	for s.Scan() {
		if lines = append(lines, s.Text()); len(lines) > n {
			lines = lines[1:]
		}
	}
	return lines
}
