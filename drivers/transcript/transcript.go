package transcript

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"tillbridge/drivers"
)

// Direction is who sent the bytes of an [Entry].
type Direction string

// Directions, from the host's point of view, and the end of a line.
const (
	Read  Direction = "read"  // device to host
	Wrote Direction = "wrote" // host to device
	Ended Direction = "ended" // Text says why
)

// Entry is one turn of a transcript: what one side sent until the other side
// spoke. In a file it is one line of JSON.
type Entry struct {
	Dir Direction
	At  time.Duration // since the recording began
	// Data holds '*' where bytes were cut out.
	Data []byte
	// Pieces are the lengths of the single reads or writes, in order.
	Pieces []int
	Cut    []Cut
	Text   string
}

// Cut is where bytes of a turn were taken out before it was written.
type Cut struct {
	At  int    `json:"at"`
	Len int    `json:"len"`
	Why string `json:"why"` // "field" or "leak scanner"
	// Mark is equal for equal bytes of one recording and says nothing else: the
	// first bytes of an HMAC under a key that is thrown away.
	Mark string `json:"mark"`
}

// Span is a range [Start, End) of a turn.
type Span = drivers.Span

type entryJSON struct {
	Dir    Direction `json:"dir"`
	AtUS   int64     `json:"at_us"`
	Data   string    `json:"data,omitempty"`
	Pieces []int     `json:"pieces,omitempty"`
	Cut    []Cut     `json:"cut,omitempty"`
	Text   string    `json:"text,omitempty"`
}

// MarshalJSON writes data as hex and the time in microseconds.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(entryJSON{e.Dir, e.At.Microseconds(), hex.EncodeToString(e.Data), e.Pieces, e.Cut, e.Text})
}

// ErrTranscript is matched by the errors of [ParseTranscript].
var ErrTranscript = errors.New("transcript: not a transcript")

// ParseTranscript reads what [Record] wrote. A last line that was torn off is
// an error; the entries before it are returned with it.
func ParseTranscript(r io.Reader) ([]Entry, error) {
	var all []Entry
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64*MaxTurn) // hex, pieces and cuts of a turn
	for n := 1; s.Scan(); n++ {
		var j entryJSON
		if err := json.Unmarshal(s.Bytes(), &j); err != nil {
			return all, fmt.Errorf("%w: line %d is not an entry", ErrTranscript, n)
		}
		data, err := hex.DecodeString(j.Data)
		if err != nil {
			return all, fmt.Errorf("%w: line %d: data is not hex", ErrTranscript, n)
		}
		switch j.Dir {
		case Read, Wrote, Ended:
		default:
			return all, fmt.Errorf("%w: line %d: direction is neither read, wrote nor ended", ErrTranscript, n)
		}
		sum := 0
		for _, k := range j.Pieces {
			if k <= 0 || k > len(data)-sum {
				return all, fmt.Errorf("%w: line %d: pieces do not add up", ErrTranscript, n)
			}
			sum += k
		}
		if sum != len(data) {
			return all, fmt.Errorf("%w: line %d: pieces do not add up", ErrTranscript, n)
		}
		for _, c := range j.Cut {
			if c.At < 0 || c.Len < 0 || c.At > len(data) || c.Len > len(data)-c.At {
				return all, fmt.Errorf("%w: line %d: a cut lies outside of the data", ErrTranscript, n)
			}
		}
		all = append(all, Entry{j.Dir, time.Duration(j.AtUS) * time.Microsecond, data, j.Pieces, j.Cut, j.Text})
	}
	if err := s.Err(); err != nil {
		return all, fmt.Errorf("%w: %v", ErrTranscript, err)
	}
	return all, nil
}
