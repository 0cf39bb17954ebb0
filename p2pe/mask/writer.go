package mask

import (
	"bytes"
	"io"
	"sync"
)

// Writer passes lines on without card numbers. It holds the last, unfinished
// line back until its end is written, [Writer.Flush] or [Writer.Close], so
// that a number split over two writes is found. It is safe for concurrent use.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	held []byte
	out  []byte
}

// NewWriter returns a Writer in front of w. w is not closed by it.
func NewWriter(w io.Writer) *Writer { return &Writer{to: w} }

// A line longer than longestLine is passed on in pieces; keepBack bytes stay
// behind each time, more than any number or track is long.
const (
	longestLine = 64 << 10
	keepBack    = 4 << 10
)

// Write implements io.Writer. It reports len(p) once p is taken over, and the
// error of the writer behind it.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = append(w.held, p...)
	if end := bytes.LastIndexByte(w.held, '\n'); end >= 0 {
		if err := w.pass(w.safeCut(end + 1)); err != nil {
			return 0, err
		}
	}
	for len(w.held) > longestLine {
		if err := w.pass(w.safeCut(len(w.held) - keepBack)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// safeCut moves a cut forward to behind a finding that it would part. A number
// broken by the end of a line is found only when both lines are in hand.
func (w *Writer) safeCut(cut int) int {
	near := max(0, cut-keepBack)
	for _, f := range Scan(w.held[near:]) {
		if near+f.Start < cut && near+f.End > cut {
			cut = near + f.End
		}
	}
	return cut
}

// pass writes held[:cut] redacted and forgets it.
func (w *Writer) pass(cut int) error {
	w.out = AppendRedacted(w.out[:0], w.held[:cut])
	rest := copy(w.held, w.held[cut:])
	clear(w.held[rest:])
	w.held = w.held[:rest]
	_, err := w.to.Write(w.out)
	return err
}

// Flush passes on what is held back.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return nil
	}
	return w.pass(len(w.held))
}

// Close flushes. It does not close the writer behind it.
func (w *Writer) Close() error { return w.Flush() }
