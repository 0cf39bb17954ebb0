package zvt

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"tillbridge/drivers/frame"
	"tillbridge/drivers/virtual/port"
)

// Timers (PA00P016 sections 3.4 and 5.2), from the terminal's side.
const (
	interByte  = 200 * time.Millisecond
	waitACK    = 5 * time.Second
	waitReply  = 5 * time.Second
	sends      = 3
	askAgain   = 2 * time.Second // after 84 9C
	waitPerson = 90 * time.Second
)

var (
	errGone   = errors.New("zvt: the line is gone")
	errSilent = errors.New("zvt: the register does not answer")
	errDrop   = errors.New("zvt: the line drops") // a fault
)

// session is one life of a line. One goroutine runs it; a second one reads.
type session struct {
	t      *Terminal
	ctx    context.Context
	line   io.ReadWriteCloser
	framed bool
	in     <-chan []byte
	buf    []byte
	dec    frame.DLE
	got    []apdu // received and not looked at yet
	cmd    []byte // the command under way, to know its double
	abort  bool   // the register asked to stop
}

// write sends bytes as they are.
func (s *session) write(b []byte) error {
	if _, err := s.line.Write(b); err != nil {
		return errGone
	}
	return nil
}

// event waits for the next thing on a framed line and acknowledges messages.
// A frame that is damaged or stops is refused.
func (s *session) event(timeout <-chan time.Time) (frame.Event, error) {
	for {
		for len(s.buf) > 0 {
			n, ev, err := s.dec.Feed(s.buf)
			s.buf = s.buf[n:]
			switch {
			case err != nil:
				s.buf = nil // what follows on a broken line is asked for again
				s.dec.Reset()
				if err := s.write([]byte{frame.ByteNAK}); err != nil {
					return 0, err
				}
			case ev == frame.Message:
				if _, ok := s.t.faults.Play("nak"); ok {
					if err := s.write([]byte{frame.ByteNAK}); err != nil {
						return 0, err
					}
					continue
				}
				a, used := decode(s.dec.Payload())
				if used == 0 {
					if err := s.write([]byte{frame.ByteNAK}); err != nil {
						return 0, err
					}
					continue
				}
				if _, ok := s.t.faults.Play("drop-ack"); !ok {
					if err := s.write([]byte{frame.ByteACK}); err != nil {
						return 0, err
					}
				}
				s.got = append(s.got, a)
				return ev, nil
			case ev != frame.None:
				return ev, nil
			}
		}
		var gap <-chan time.Time
		if s.dec.Partial() {
			t := time.NewTimer(interByte)
			defer t.Stop()
			gap = t.C
		}
		select {
		case b, ok := <-s.in:
			if !ok {
				return 0, errGone
			}
			s.buf = b
		case <-gap:
			s.dec.Reset()
			if err := s.write([]byte{frame.ByteNAK}); err != nil {
				return 0, err
			}
		case <-timeout:
			return 0, errSilent
		case <-s.ctx.Done():
			return 0, errGone
		}
	}
}

// receive waits for the next APDU.
func (s *session) receive(timeout <-chan time.Time) (apdu, error) {
	for {
		if len(s.got) > 0 {
			a := s.got[0]
			s.got = s.got[1:]
			return a, nil
		}
		if s.framed {
			if _, err := s.event(timeout); err != nil {
				return apdu{}, err
			}
			continue
		}
		if a, used := decode(s.buf); used > 0 {
			s.buf = s.buf[used:]
			s.got = append(s.got, a)
			continue
		}
		select {
		case b, ok := <-s.in:
			if !ok {
				return apdu{}, errGone
			}
			s.buf = append(s.buf, b...)
		case <-timeout:
			return apdu{}, errSilent
		case <-s.ctx.Done():
			return apdu{}, errGone
		}
	}
}

// send puts an APDU on the line; on a framed one it waits for its ACK.
func (s *session) send(cmd uint16, data []byte) error {
	wire := encode(cmd, data)
	if s.framed {
		wire = frame.AppendDLE(nil, wire)
	}
	for range sends {
		if err := s.put(wire); err != nil {
			return err
		}
		if !s.framed {
			return nil
		}
		ok, err := s.acknowledged()
		if err != nil && !errors.Is(err, errSilent) {
			return err
		}
		if ok {
			return nil
		}
	}
	return errSilent
}

// acknowledged waits for ACK or NAK. A message instead shows that the frame
// was read.
func (s *session) acknowledged() (bool, error) {
	t := time.NewTimer(waitACK)
	defer t.Stop()
	have := len(s.got)
	for {
		ev, err := s.event(t.C)
		switch {
		case err != nil:
			return false, err
		case ev == frame.ACK || len(s.got) > have:
			return true, nil
		case ev == frame.NAK:
			return false, nil
		}
	}
}

// put writes a whole frame with the line's faults.
func (s *session) put(wire []byte) error {
	f := s.t.faults
	if d, ok := f.Play("stall"); ok {
		s.pause(d, 3*time.Second)
	}
	if _, ok := f.Play("garbage"); ok {
		if err := s.write([]byte{0xFE, 0x81, 0x10, 0x44, 0x99, 0xC3, 0x00, 0x7F}); err != nil {
			return err
		}
	}
	if _, ok := f.Play("bad-crc"); ok && s.framed {
		bad := append([]byte(nil), wire...)
		bad[len(bad)-1] ^= 0x5A
		return s.write(bad)
	}
	if d, ok := f.Play("split"); ok {
		cut := len(wire) / 2
		if err := s.write(wire[:cut]); err != nil {
			return err
		}
		s.pause(d, 50*time.Millisecond)
		wire = wire[cut:]
	}
	if _, ok := f.Play("duplicate"); ok {
		wire = append(append([]byte(nil), wire...), wire...)
	}
	return s.write(wire)
}

// pause does nothing for d, or for standard when d is not given.
func (s *session) pause(d, standard time.Duration) {
	_ = port.Pause(s.ctx, cmp.Or(d, standard))
}

// command sends a command while the terminal is master and waits for its
// reply. Replies that came before it was sent belong to something older.
func (s *session) command(cmd uint16, data []byte) (apdu, error) {
	for len(s.got) > 0 && s.got[0].reply() {
		s.got = s.got[1:]
	}
	if err := s.send(cmd, data); err != nil {
		return apdu{}, err
	}
	t := time.NewTimer(waitReply)
	defer t.Stop()
	for {
		a, err := s.receive(t.C)
		if err != nil {
			return apdu{}, err
		}
		if a.reply() {
			return a, nil
		}
		if again, err := s.interrupted(a); !again {
			return apdu{}, err
		}
	}
}

// interrupted judges a command of the register that comes while the terminal
// is master: an abort is noted, a double is ignored, and anything else shows
// that the register has given the operation up.
func (s *session) interrupted(a apdu) (again bool, err error) {
	switch {
	case a.cmd == cAbort:
		s.abort = true
		return true, s.send(cReply, nil)
	case string(encode(a.cmd, a.data)) == string(s.cmd):
		return true, nil
	}
	s.got = append([]apdu{a}, s.got...)
	return false, errSilent
}

// reply answers the register's command.
func (s *session) reply(cmd uint16, data ...byte) error {
	if _, ok := s.t.faults.Play("stale"); ok {
		if err := s.send(0x8483, nil); err != nil {
			return err
		}
		if err := s.send(cCompletion, nil); err != nil {
			return err
		}
	}
	if _, ok := s.t.faults.Play("lose-reply"); ok {
		return nil
	}
	return s.send(cmd, data)
}
