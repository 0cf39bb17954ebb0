package transcript

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"tillbridge/drivers"
	"tillbridge/p2pe/mask"
)

// MaxTurn is the longest turn that is held back; a longer one is written in
// parts, and the parts are redacted with what lies around them.
const MaxTurn = 64 << 10

// overlap is how much of a long turn is kept for the next part, so that no
// card number lies across the border (a track has 79 characters, twice that in
// hex).
const overlap = 512

// RecordOptions say how a recording is redacted.
type RecordOptions struct {
	// Fields returns what the protocol knows to be card data in a turn: whole
	// frames as they stood on the wire, perhaps with control bytes between
	// them. The driver supplies it. Nil leaves the leak scanner alone.
	Fields func(d Direction, turn []byte) []Span
}

// Record returns a transport that passes everything to t and writes a
// transcript to w, one line of JSON for each turn. A turn is written when the
// other side speaks, or at Close; clear bytes are never written, and an error
// of w is returned by Close only: the recorded device goes on.
func Record(t drivers.Transport, w io.Writer, o RecordOptions) *Recorder {
	r := &Recorder{t: t, w: w, o: o, key: make([]byte, 32), began: time.Now()}
	rand.Read(r.key)
	return r
}

// Recorder is a transport that writes a transcript. See [Record].
type Recorder struct {
	t     drivers.Transport
	w     io.Writer
	o     RecordOptions
	key   []byte
	began time.Time

	mu     sync.Mutex
	turn   Entry
	err    error
	closed bool
}

// Read reads from the transport.
func (r *Recorder) Read(ctx context.Context, p []byte) (int, error) {
	n, err := r.t.Read(ctx, p)
	if n > 0 {
		r.add(Read, p[:n])
	}
	return n, err
}

// Write writes to the transport.
func (r *Recorder) Write(ctx context.Context, p []byte) (int, error) {
	n, err := r.t.Write(ctx, p)
	if n > 0 {
		r.add(Wrote, p[:n])
	}
	return n, err
}

// Info returns the port of the transport.
func (r *Recorder) Info() drivers.Port { return r.t.Info() }

// Close closes the transport and ends the transcript.
func (r *Recorder) Close() error {
	err := r.t.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return err
	}
	r.closed = true
	r.flush(len(r.turn.Data))
	r.write(Entry{Dir: Ended, At: time.Since(r.began), Text: "closed"})
	if err == nil && r.err != nil {
		return fmt.Errorf("write the transcript: %w", r.err)
	}
	return err
}

func (r *Recorder) add(d Direction, p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn.Dir != d {
		r.flush(len(r.turn.Data))
		r.turn = Entry{Dir: d, At: time.Since(r.began)}
	}
	r.turn.Data = append(r.turn.Data, p...)
	r.turn.Pieces = append(r.turn.Pieces, len(p))
	if len(r.turn.Data) > MaxTurn {
		r.flush(len(r.turn.Data) - overlap)
	}
}

// flush writes the first n bytes of the turn and keeps the rest. What is cut
// out is decided over the whole, and stays cut in the rest.
func (r *Recorder) flush(n int) {
	if len(r.turn.Data) == 0 {
		return
	}
	all := r.turn
	cuts := r.cuts(all.Dir, all.Data)
	for _, c := range cuts {
		for i := c.At; i < c.At+c.Len; i++ {
			all.Data[i] = '*'
		}
	}
	out := Entry{Dir: all.Dir, At: all.At, Data: all.Data[:n]}
	for _, c := range cuts {
		if c.At < n {
			c.Len = min(c.Len, n-c.At)
			out.Cut = append(out.Cut, c)
		}
	}
	out.Pieces, r.turn.Pieces = split(all.Pieces, n)
	r.turn.Data = append([]byte(nil), all.Data[n:]...)
	r.write(out)
}

// split divides lengths at byte n.
func split(pieces []int, n int) (head, tail []int) {
	for i, k := range pieces {
		if k <= n {
			head = append(head, k)
			n -= k
			continue
		}
		if n > 0 {
			head = append(head, n)
		}
		return head, append([]int{k - n}, pieces[i+1:]...)
	}
	return head, nil
}

// cuts are the fields of the protocol, and then what the leak scanner still
// finds.
func (r *Recorder) cuts(d Direction, turn []byte) []Cut {
	var cuts []Cut
	rest := append([]byte(nil), turn...)
	take := func(start, end int, why string) {
		start, end = max(start, 0), min(end, len(turn))
		if start >= end {
			return
		}
		m := hmac.New(sha256.New, r.key)
		m.Write(turn[start:end])
		cuts = append(cuts, Cut{At: start, Len: end - start, Why: why, Mark: hex.EncodeToString(m.Sum(nil)[:6])})
		for i := start; i < end; i++ {
			rest[i] = '*'
		}
	}
	if r.o.Fields != nil {
		for _, s := range r.o.Fields(d, turn) {
			take(s.Start, s.End, "field")
		}
	}
	for _, f := range mask.Scan(rest) {
		take(f.Start, f.End, "leak scanner")
	}
	sort.Slice(cuts, func(i, j int) bool { return cuts[i].At < cuts[j].At })
	return cuts
}

func (r *Recorder) write(e Entry) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.w.Write(append(line, '\n'))
	}
	if err != nil && r.err == nil {
		r.err = err
	}
}

var _ drivers.Transport = (*Recorder)(nil)
