package neo2

import (
	"context"
	"errors"
	"io"
	"tillbridge/drivers/virtual/port"
	"time"
)

var (
	errGone   = errors.New("neo2: the line is gone")
	errCancel = errors.New("neo2: the host cancelled")
)

// session is one power-on on one line. One goroutine runs it; a second one
// reads the line.
type session struct {
	r    *Reader
	ctx  context.Context
	line io.ReadWriteCloser
	in   <-chan command

	card    *presented // of the payment under way
	started bool       // 60-10 was done and 60-11 was not
	waits   bool       // 60-11 asked for an answer of the host
}

// Run plays the reader on a line until the line ends or ctx does: one
// power-on. It closes the line and waits for its own goroutine. With
// Options.HID each Read and Write is one report, or a stream of whole reports.
func (r *Reader) Run(ctx context.Context, line io.ReadWriteCloser) error {
	r.running.Lock()
	defer r.running.Unlock()
	rx := receiver{hid: r.o.HID, last: time.Now()}
	b := make([]byte, 4096)
	if r.o.HID {
		b = b[:64]
	}
	read := func() ([]command, error) {
		n, err := line.Read(b)
		return rx.take(b[:n], time.Now()), err
	}
	err := port.Play(ctx, line, read, func(ctx context.Context, in <-chan command) error {
		s := &session{r: r, ctx: ctx, line: line, in: in}
		return s.loop()
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

func (s *session) loop() error {
	for {
		select {
		case c, ok := <-s.in:
			if !ok {
				return errGone
			}
			if err := s.command(c); err != nil && !errors.Is(err, errCancel) {
				return err
			}
		case <-s.ctx.Done():
			return errGone
		}
	}
}

// pause is a time in which the reader does nothing.
func (s *session) pause(d time.Duration) error {
	if port.Pause(s.ctx, d) != nil {
		return errGone
	}
	return nil
}

// send sends an answer, with the faults that are due.
func (s *session) send(cmd, status byte, data []byte) error {
	f := s.r.faults
	wire := answerBytes(cmd, status, data)
	if d, ok := f.Play("late"); ok {
		if err := s.pause(d); err != nil {
			return err
		}
	}
	if _, ok := f.Play("drop-answer"); ok {
		return nil
	}
	if _, ok := f.Play("bad-crc"); ok {
		wire[len(wire)-1] ^= 0x10
	}
	pieces := [][]byte{wire}
	if s.r.o.HID {
		pieces = reports(wire)
	}
	if _, ok := f.Play("duplicate"); ok {
		pieces = append(pieces, pieces...)
	}
	if _, ok := f.Play("noise"); ok {
		noise := make([]byte, 64)
		for i := range noise {
			noise[i] = byte(0x80 + 7*i)
		}
		pieces = append([][]byte{noise}, pieces...)
	}
	if _, ok := f.Play("hang-up"); ok {
		if len(pieces) > 1 {
			pieces = pieces[:len(pieces)/2]
		} else if !s.r.o.HID {
			pieces[0] = pieces[0][:len(pieces[0])/2]
		} else {
			pieces = nil
		}
		for _, p := range pieces {
			s.line.Write(p)
		}
		return errGone
	}
	gap, split := f.Play("split")
	for _, p := range pieces {
		if split && !s.r.o.HID {
			for _, part := range [][]byte{p[:len(p)/2], p[len(p)/2:]} {
				if _, err := s.line.Write(part); err != nil {
					return errGone
				}
				if err := s.pause(gap); err != nil {
					return err
				}
			}
			continue
		}
		if _, err := s.line.Write(p); err != nil {
			return errGone
		}
		if split {
			if err := s.pause(gap); err != nil {
				return err
			}
		}
	}
	return nil
}

// busy answers what comes while a command waits for the customer: a cancel
// ends it, a ping is answered, everything else is not allowed.
func (s *session) busy(c command) error {
	switch {
	case c.bad:
		return s.send(c.cmd, statCRC, nil)
	case c.cmd == 0x05 && c.sub == 0x01:
		s.forget()
		if err := s.send(0x05, statOK, nil); err != nil {
			return err
		}
		return errCancel
	case c.cmd == 0x18:
		return s.send(0x18, statOK, nil)
	}
	return s.send(c.cmd, statNotAllowed, nil)
}

// ask waits for a step of the customer: a "timeout" step after limit without
// one, or errCancel when the host gave up.
func (s *session) ask(limit time.Duration) (Step, error) {
	s.r.setWaiting("card")
	defer s.r.setWaiting("")
	expired := time.NewTimer(limit)
	defer expired.Stop()
	var got *Step
	var thought <-chan time.Time
	for {
		var changed <-chan struct{}
		if got == nil {
			step, ok, ch := s.r.customer.take()
			changed = ch
			if ok && step.Do == "walk-away" {
				got = &step // nobody comes
			} else if ok {
				got = &step
				t := time.NewTimer(time.Duration(step.AfterMS) * time.Millisecond)
				defer t.Stop()
				thought = t.C
			}
		}
		select {
		case <-thought:
			return *got, nil
		case <-changed:
		case <-expired.C:
			return Step{Do: "timeout"}, nil
		case c, ok := <-s.in:
			if !ok {
				return Step{}, errGone
			}
			if err := s.busy(c); err != nil {
				return Step{}, err
			}
		case <-s.ctx.Done():
			return Step{}, errGone
		}
	}
}

// request asks the host for something and waits for its answer.
func (s *session) request(code byte, data []byte) (command, error) {
	if err := s.send(0x61, code, data); err != nil {
		return command{}, err
	}
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	for {
		select {
		case c, ok := <-s.in:
			if !ok {
				return command{}, errGone
			}
			if c.cmd == 0x61 && !c.bad {
				return c, nil
			}
			if err := s.busy(c); err != nil {
				return command{}, err
			}
		case <-t.C:
			return command{}, errSilent
		case <-s.ctx.Done():
			return command{}, errGone
		}
	}
}

var errSilent = errors.New("neo2: the host does not answer a request")

// forget ends the payment.
func (s *session) forget() { s.card, s.started, s.waits = nil, false, false }
