package abecs

import (
	"context"
	"errors"
	"io"
	"time"

	"tillbridge/drivers/frame"
	"tillbridge/drivers/virtual/port"
)

// Timers of the link, from the device's side.
const (
	interByte = 2 * time.Second        // a packet that stops for longer is dropped
	quiet     = 100 * time.Millisecond // after a broken packet: the line is looked at anew
)

var (
	errGone   = errors.New("abecs: the line is gone")
	errCancel = errors.New("abecs: the host cancelled")
)

// session is one power-on of the pad on one line. One goroutine runs it; a
// second one reads the line.
type session struct {
	pad  *Pad
	ctx  context.Context
	line io.ReadWriteCloser
	in   <-chan []byte
	buf  []byte // received, not yet decoded
	dec  frame.DC3
	last []byte // the last response, for a NAK
	naks int

	open   bool // OPN was done
	secure *channel
	card   *inserted // the card of the payment, or nil
	tables *tableLoad
}

// Run plays the pad on a line until the line ends or ctx does: one power-on.
// It closes the line and waits for its own reader.
func (p *Pad) Run(ctx context.Context, line io.ReadWriteCloser) error {
	p.running.Lock()
	defer p.running.Unlock()
	err := port.Play(ctx, line, port.Pieces(line), func(ctx context.Context, in <-chan []byte) error {
		s := &session{pad: p, ctx: ctx, line: line, in: in}
		return s.loop()
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// loop answers packet after packet.
func (s *session) loop() error {
	for {
		ev, err := s.next(nil)
		if err != nil {
			return err
		}
		switch ev {
		case frame.CAN:
			s.card = nil
			if err := s.write([]byte{frame.ByteEOT}); err != nil {
				return err
			}
		case frame.NAK:
			if s.last != nil && s.naks < 3 {
				s.naks++
				if err := s.write(s.last); err != nil {
					return err
				}
			}
		case frame.Message:
			payload := append([]byte(nil), s.dec.Payload()...)
			if err := s.command(payload); err != nil {
				if errors.Is(err, errCancel) {
					continue
				}
				return err
			}
		}
	}
}

// wake is why next returned without an event of the line.
const wake = frame.Event(-1)

// next returns the next event of the line, or wake when a channel of alarms
// fires. A broken packet is answered with NAK on the way.
func (s *session) next(alarm <-chan struct{}) (frame.Event, error) {
	for {
		for len(s.buf) > 0 {
			n, ev, err := s.dec.Feed(s.buf)
			s.buf = s.buf[n:]
			if err != nil {
				if err := s.write([]byte{frame.ByteNAK}); err != nil {
					return 0, err
				}
				continue
			}
			if ev != frame.None {
				return ev, nil
			}
		}
		var silent <-chan time.Time
		wait := quiet
		if s.dec.Partial() {
			wait = interByte
		}
		t := time.NewTimer(wait)
		silent = t.C
		select {
		case b, ok := <-s.in:
			t.Stop()
			if !ok {
				return 0, errGone
			}
			s.buf = append(s.buf, b...)
		case <-silent:
			s.dec.Reset()
			// Nothing is half read now: wait without a timer.
			select {
			case b, ok := <-s.in:
				if !ok {
					return 0, errGone
				}
				s.buf = append(s.buf, b...)
			case <-alarm:
				return wake, nil
			case <-s.ctx.Done():
				return 0, errGone
			}
		case <-alarm:
			t.Stop()
			return wake, nil
		case <-s.ctx.Done():
			t.Stop()
			return 0, errGone
		}
	}
}

// await is what a blocking command does: it waits for alarm, answers CAN with
// EOT and takes no other packet. It returns errCancel after a CAN.
func (s *session) await(alarm <-chan struct{}) error {
	for {
		ev, err := s.next(alarm)
		switch {
		case err != nil:
			return err
		case ev == wake:
			return nil
		case ev == frame.CAN:
			if err := s.write([]byte{frame.ByteEOT}); err != nil {
				return err
			}
			return errCancel
		}
	}
}

// sleep is a pause of the pad; the host may cancel it.
func (s *session) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	alarm := make(chan struct{})
	t := time.AfterFunc(d, func() { close(alarm) })
	defer t.Stop()
	return s.await(alarm)
}

func (s *session) write(p []byte) error {
	if _, err := s.line.Write(p); err != nil {
		return errGone
	}
	return nil
}

// acknowledge answers a good packet, with the faults of the line.
func (s *session) acknowledge() (refused bool, err error) {
	f := s.pad.faults
	if d, ok := f.Play("stall"); ok {
		if err := s.sleep(d); err != nil {
			return false, err
		}
	}
	if _, ok := f.Play("nak"); ok {
		return true, s.write([]byte{frame.ByteNAK})
	}
	if _, ok := f.Play("drop-ack"); ok {
		return false, nil
	}
	return false, s.write([]byte{frame.ByteACK})
}

// respond frames a response and sends it, with the faults of the line.
func (s *session) respond(payload []byte, clear bool) error {
	if s.secure != nil && !clear {
		payload = s.secure.seal(payload)
	}
	p := frame.AppendDC3(nil, payload)
	s.last, s.naks = p, 0
	f := s.pad.faults
	if d, ok := f.Play("late"); ok {
		if err := s.sleep(d); err != nil {
			return err
		}
	}
	if _, ok := f.Play("drop-response"); ok {
		return nil
	}
	out := append([]byte(nil), p...)
	if _, ok := f.Play("bad-crc"); ok {
		out[len(out)-1] ^= 0xFF
	}
	if _, ok := f.Play("noise"); ok {
		out = append([]byte{0x00, 0xFF, frame.ByteETB, 0x7E, frame.ByteSYN, 0x41, 0x99}, out...)
	}
	if _, ok := f.Play("duplicate"); ok {
		out = append(out, out...)
	}
	if _, ok := f.Play("hang-up"); ok {
		s.write(out[:len(out)/2])
		s.line.Close()
		return errGone
	}
	if d, ok := f.Play("split"); ok {
		for len(out) > 1 {
			n := min(1+len(out)/4, len(out))
			if err := s.write(out[:n]); err != nil {
				return err
			}
			if out = out[n:]; len(out) > 0 {
				if err := s.sleep(d); err != nil {
					return err
				}
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return s.write(out)
}
