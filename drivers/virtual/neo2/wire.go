package neo2

import (
	"bytes"
	"time"

	"tillbridge/drivers/frame"
)

const header = "ViVOtech2\x00"

// command is what the host sent. bad is a frame with a wrong checksum.
type command struct {
	cmd, sub byte
	data     []byte
	bad      bool
}

// answerBytes is an answer of the reader: checksum high byte first.
func answerBytes(cmd, status byte, data []byte) []byte {
	b := append([]byte(header), cmd, status, byte(len(data)>>8), byte(len(data)))
	b = append(b, data...)
	crc := frame.CCITTFalse.Sum(b)
	return append(b, byte(crc>>8), byte(crc))
}

// receiver collects the host's bytes.
type receiver struct {
	hid    bool
	buf    []byte
	report []byte // of a frame in several reports
	last   time.Time
}

// maxFrame bounds what the reader's memory holds.
const maxFrame = 4096

// take adds what one read brought and returns the frames that are whole.
func (r *receiver) take(p []byte, now time.Time) []command {
	if now.Sub(r.last) > 400*time.Millisecond && len(r.buf) > 0 && !r.hid {
		r.buf = r.buf[:0] // the host stopped within a frame
	}
	r.last = now
	if !r.hid {
		r.buf = append(r.buf, p...)
		return r.frames()
	}
	if len(p) != 64 {
		return nil
	}
	switch p[0] {
	case 1, 2:
		r.report = append([]byte(nil), p[1:]...)
	case 3, 4:
		if r.report == nil || len(r.report) > maxFrame {
			return nil
		}
		r.report = append(r.report, p[1:]...)
	default:
		return nil
	}
	if p[0] == 2 || p[0] == 3 {
		return nil
	}
	r.buf, r.report = r.report, nil
	out := r.frames()
	r.buf = nil
	if len(out) > 1 {
		out = out[:1] // one frame a message
	}
	return out
}

func (r *receiver) frames() (out []command) {
	for {
		i := bytes.Index(r.buf, []byte(header))
		if i < 0 {
			if n := len(r.buf); n > len(header) && !r.hid {
				r.buf = append(r.buf[:0], r.buf[n-len(header)+1:]...)
			}
			return out
		}
		b := r.buf[i:]
		r.buf = b
		if len(b) < 14 {
			return out
		}
		n := 16 + int(b[12])<<8 + int(b[13])
		if n > maxFrame {
			r.buf = b[1:]
			continue
		}
		if len(b) < n {
			return out
		}
		crc := frame.CCITTFalse.Sum(b[:n-2])
		c := command{cmd: b[10], sub: b[11], data: append([]byte(nil), b[14:n-2]...)}
		if b[n-2] != byte(crc) || b[n-1] != byte(crc>>8) {
			c.bad = true
			r.buf = b[1:]
		} else {
			r.buf = b[n:]
		}
		out = append(out, c)
	}
}

// reports cuts a message into HID reports.
func reports(wire []byte) (out [][]byte) {
	for first := true; ; first = false {
		p := make([]byte, 64)
		n := copy(p[1:], wire)
		wire = wire[n:]
		switch {
		case first && len(wire) == 0:
			p[0] = 1
		case first:
			p[0] = 2
		case len(wire) > 0:
			p[0] = 3
		default:
			p[0] = 4
		}
		if out = append(out, p); len(wire) == 0 {
			return out
		}
	}
}
