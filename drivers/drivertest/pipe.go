package drivertest

import (
	"context"
	"io"
	"os"
	"sync"

	"tillbridge/drivers"
)

// PipeOptions describe a line in memory. The zero value is valid.
type PipeOptions struct {
	// Port is what Info of the host's end returns. An empty Kind becomes
	// KindSerial, an empty Path "pipe".
	Port drivers.Port
	// Room is how many bytes a direction holds before a Write waits. Zero means
	// 64 KiB.
	Room int
	// Merge lets one Read return bytes of several Writes, as a serial port
	// does. Without it a Read never crosses the border of two Writes, so that
	// a test can count them (and a HID report stays one report).
	Merge bool
}

// Pipe returns the two ends of a line: host is a drivers.Transport, device is
// for the device's side (see [End.Stream]). Both ends only use channels and
// mutexes and may be used inside one synctest bubble.
func Pipe(o PipeOptions) (host, device *End) {
	if o.Port.Kind == "" {
		o.Port.Kind = drivers.KindSerial
	}
	if o.Port.Path == "" {
		o.Port.Path = "pipe"
	}
	if o.Room == 0 {
		o.Room = 64 << 10
	}
	ab, ba := newLane(o), newLane(o)
	gone := make(chan struct{})
	once := new(sync.Once)
	host = &End{port: o.Port, in: ba, out: ab, gone: gone, unplug: once, closed: make(chan struct{})}
	device = &End{port: o.Port, in: ab, out: ba, gone: gone, unplug: once, closed: make(chan struct{})}
	return host, device
}

// End is one end of a [Pipe]. It implements drivers.Transport.
type End struct {
	port    drivers.Port
	in, out *lane
	gone    chan struct{} // closed by Unplug and by the other end's Close
	unplug  *sync.Once
	closed  chan struct{} // closed by own Close
	once    sync.Once
}

// Read returns the next bytes. After Unplug, or when the other end is closed,
// it returns what was under way and then drivers.ErrUnplugged; after Close an
// error that matches os.ErrClosed.
func (e *End) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, wait := e.in.take(p)
		if e.isClosed() {
			return 0, os.ErrClosed
		}
		if n > 0 {
			return n, nil
		}
		select {
		case <-e.gone:
			return 0, drivers.ErrUnplugged
		default:
		}
		select {
		case <-wait:
		case <-e.gone:
		case <-e.closed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Write queues p. It waits while the direction holds more than Room bytes.
func (e *End) Write(ctx context.Context, p []byte) (int, error) {
	for {
		if e.isClosed() {
			return 0, os.ErrClosed
		}
		select {
		case <-e.gone:
			return 0, drivers.ErrUnplugged
		default:
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		ok, wait := e.out.put(p)
		if ok {
			return len(p), nil
		}
		select {
		case <-wait:
		case <-e.gone:
		case <-e.closed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Close releases this end; the other end sees an unplug.
func (e *End) Close() error {
	e.once.Do(func() { close(e.closed) })
	e.Unplug()
	return nil
}

// Unplug pulls the cable: both ends get drivers.ErrUnplugged.
func (e *End) Unplug() { e.unplug.Do(func() { close(e.gone) }) }

// Info returns the port of the line.
func (e *End) Info() drivers.Port { return e.port }

// Stream returns the end as a plain stream for the device's side: reads wait
// without limit and end with io.EOF when the line is gone.
func (e *End) Stream() io.ReadWriteCloser { return stream{e} }

func (e *End) isClosed() bool {
	select {
	case <-e.closed:
		return true
	default:
		return false
	}
}

type stream struct{ e *End }

func (s stream) Read(p []byte) (int, error) {
	n, err := s.e.Read(context.Background(), p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

func (s stream) Write(p []byte) (int, error) {
	n, err := s.e.Write(context.Background(), p)
	if err != nil {
		err = io.ErrClosedPipe
	}
	return n, err
}

func (s stream) Close() error { return s.e.Close() }

// lane is one direction.
type lane struct {
	mu      sync.Mutex
	chunks  [][]byte
	held    int
	room    int
	merge   bool
	changed chan struct{} // closed and replaced whenever chunks change
}

func newLane(o PipeOptions) *lane {
	return &lane{room: o.Room, merge: o.Merge, changed: make(chan struct{})}
}

func (l *lane) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *lane) take(p []byte) (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for len(l.chunks) > 0 && n < len(p) {
		k := copy(p[n:], l.chunks[0])
		n += k
		if k < len(l.chunks[0]) {
			l.chunks[0] = l.chunks[0][k:]
		} else {
			l.chunks = l.chunks[1:]
		}
		if !l.merge {
			break
		}
	}
	if n > 0 {
		l.held -= n
		l.signal()
	}
	return n, l.changed
}

func (l *lane) put(p []byte) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held > 0 && l.held+len(p) > l.room {
		return false, l.changed
	}
	if len(p) > 0 {
		l.chunks = append(l.chunks, append([]byte(nil), p...))
		l.held += len(p)
		l.signal()
	}
	return true, l.changed
}

var _ drivers.Transport = (*End)(nil)
