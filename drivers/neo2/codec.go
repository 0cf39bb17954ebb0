package neo2

import (
	"bytes"
	"errors"
	"fmt"

	"tillbridge/drivers/frame"
)

// tag begins every frame.
const tag = "ViVOtech2\x00"

const (
	headSize = len(tag) + 4 // tag, command, code, length
	tailSize = 2
)

// MaxData is the longest data of a frame that is taken, in bytes. A longer
// length field is taken for damage.
const MaxData = 16 << 10

// Errors of the codec.
var (
	// ErrFrame: the bytes are no frame.
	ErrFrame = errors.New("neo2: not a frame")
	// ErrChecksum: a frame whose checksum differs.
	ErrChecksum = errors.New("neo2: the checksum of a frame differs")
	// ErrTooLong: more data than a frame is allowed here.
	ErrTooLong = errors.New("neo2: too much data for a frame")
	// ErrMalformed: the data of a frame do not have the form of its command.
	ErrMalformed = errors.New("neo2: the reader's answer has a form that is not known")
)

// Direction is who sends a frame. It decides the order of the checksum's bytes
// and what Frame.Code means.
type Direction int

// Directions.
const (
	ToReader   Direction = iota // checksum low byte first, Code is the sub-command
	FromReader                  // checksum high byte first, Code is the status
)

// Frame is one message of the protocol (protocol 2). It prints without its
// data.
type Frame struct {
	Command byte
	// Code is the sub-command towards the reader and the status from it.
	Code byte
	Data []byte
}

// String names command, code and length, never the data.
func (f Frame) String() string {
	return fmt.Sprintf("%02X-%02X (%d bytes)", f.Command, f.Code, len(f.Data))
}

// GoString is String.
func (f Frame) GoString() string { return f.String() }

// Format prints String for every verb.
func (f Frame) Format(s fmt.State, _ rune) { fmt.Fprint(s, f.String()) }

// Append appends the bytes of a frame. Data beyond MaxData is an error.
func Append(dst []byte, dir Direction, f Frame) ([]byte, error) {
	if len(f.Data) > MaxData {
		return dst, ErrTooLong
	}
	from := len(dst)
	dst = append(dst, tag...)
	dst = append(dst, f.Command, f.Code, byte(len(f.Data)>>8), byte(len(f.Data)))
	dst = append(dst, f.Data...)
	crc := frame.CCITTFalse.Sum(dst[from:])
	if dir == ToReader {
		return append(dst, byte(crc), byte(crc>>8)), nil
	}
	return append(dst, byte(crc>>8), byte(crc)), nil
}

// Parse reads exactly one frame. Data is a slice of wire.
func Parse(dir Direction, wire []byte) (Frame, error) {
	n, err := size(wire)
	if err != nil {
		return Frame{}, err
	}
	if n == 0 || n != len(wire) {
		return Frame{}, fmt.Errorf("%w: %d bytes", ErrFrame, len(wire))
	}
	body := wire[:n-tailSize]
	crc := frame.CCITTFalse.Sum(body)
	high, low := wire[n-2], wire[n-1]
	if dir == ToReader {
		high, low = low, high
	}
	if high != byte(crc>>8) || low != byte(crc) {
		return Frame{}, ErrChecksum
	}
	return Frame{Command: wire[10], Code: wire[11], Data: body[headSize:]}, nil
}

// size is the length of the frame that head begins, 0 while head is too short
// to tell.
func size(head []byte) (int, error) {
	if k := min(len(head), len(tag)); string(head[:k]) != tag[:k] {
		return 0, ErrFrame
	}
	n, _ := frame.SizeNEO2(head)
	if n > headSize+MaxData+tailSize {
		return 0, ErrTooLong
	}
	return n, nil
}

// Decoder finds frames in a stream of bytes. Bytes between frames are skipped;
// after a broken frame it goes on behind that frame's tag, so that a frame
// within the damage is found. The zero Decoder reads what the host sends; set
// Dir for the other side.
type Decoder struct {
	Dir Direction
	buf []byte
	at  int
}

// Feed takes bytes. Frames that Next returned before become invalid.
func (d *Decoder) Feed(p []byte) {
	if d.at > 0 {
		d.buf = d.buf[:copy(d.buf, d.buf[d.at:])]
		d.at = 0
	}
	d.buf = append(d.buf, p...)
}

// Next returns the next frame, or ok = false when more bytes are needed. An
// error is a frame that was broken and is skipped; call Next again.
func (d *Decoder) Next() (f Frame, ok bool, err error) {
	d.skip()
	rest := d.buf[d.at:]
	n, err := size(rest)
	if err != nil {
		d.at++
		return Frame{}, false, err
	}
	if n == 0 || len(rest) < n {
		return Frame{}, false, nil
	}
	f, err = Parse(d.Dir, rest[:n])
	if err != nil {
		d.at++
		return Frame{}, false, err
	}
	d.at += n
	return f, true, nil
}

// skip goes to the next tag, or to what may be the beginning of one.
func (d *Decoder) skip() {
	rest := d.buf[d.at:]
	if i := bytes.Index(rest, []byte(tag)); i >= 0 {
		d.at += i
		return
	}
	for k := min(len(rest), len(tag)-1); k > 0; k-- {
		if string(rest[len(rest)-k:]) == tag[:k] {
			d.at += len(rest) - k
			return
		}
	}
	d.at = len(d.buf)
}

// Partial reports whether the beginning of a frame was seen and its end not.
func (d *Decoder) Partial() bool { return len(d.buf) > d.at }

// Drop gives the half frame up: its sender stopped. What follows within it is
// looked at anew.
func (d *Decoder) Drop() {
	if d.Partial() {
		d.at++
	}
}

// Reset forgets everything.
func (d *Decoder) Reset() { d.buf, d.at = d.buf[:0], 0 }
