package zvt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tillbridge/drivers"
)

// exchange is one command of ours with everything that follows until we are
// master again.
type exchange struct {
	cmd  Command
	data []byte
	// money: the command may move money. It is never repeated without a NAK.
	money bool
	// short: the reply ends the exchange, no completion follows.
	short bool
	// status decides about a status information. The error breaks the line: the
	// terminal gets no answer. refuse answers negatively instead, which asks the
	// terminal to reverse.
	status func(data []byte) (refuse byte, err error)
	// progress gets the terminal's texts.
	progress func(text string)
}

// ended is how an exchange ended.
type ended struct {
	how        ending
	code       byte // of a negative reply or an abort
	completion []byte
	prints     []string
	err        error
}

type ending int

const (
	notSent   ending = iota // no byte of the command left us
	refused                 // negative reply: the terminal did not begin
	completed               // 06 0F
	aborted                 // 06 1E
	lost                    // the terminal may have the command, and no end is known
)

// failed turns an exchange without money into an error.
func (e ended) failed(op, device string) error {
	switch e.how {
	case completed:
		if e.err != nil {
			return &drivers.DeviceError{Op: op, Device: device, Err: e.err}
		}
		return nil
	case refused, aborted:
		return &drivers.DeviceError{Op: op, Device: device, Raw: fmt.Sprintf("%02X", e.code), Err: errors.New(ResultText(e.code))}
	}
	err := e.err
	if err == nil {
		err = errOutOfTurn
	}
	return &drivers.DeviceError{Op: op, Device: device, Err: err}
}

// run performs an exchange. The line is given up when its state is no longer
// known.
func (d *device) run(ctx context.Context, x exchange) (e ended) {
	if err := d.gone(); err != nil {
		return ended{how: notSent, err: err}
	}
	if err := ctx.Err(); err != nil {
		return ended{how: notSent, err: err}
	}
	if !d.begin() {
		return ended{how: notSent, err: drivers.ErrBusy}
	}
	defer d.finish()
	defer func() {
		switch {
		case e.how == lost:
			d.giveUp(fmt.Errorf("%w: the line was closed after a lost answer", drivers.ErrUnplugged))
		case e.err != nil: // the end is known, the line is not fit for a next command
			d.giveUp(fmt.Errorf("%w: the line was closed after an error", drivers.ErrUnplugged))
		case e.code == codeNotRegistered && (e.how == refused || e.how == aborted):
			// It was switched off while the line stayed up. Opening registers.
			d.giveUp(fmt.Errorf("%w: the terminal has forgotten its registration", drivers.ErrUnplugged))
		}
	}()
	if err := d.link.drain(ctx); err != nil {
		return ended{how: notSent, err: err}
	}
	acked, err := d.link.send(ctx, Append(nil, x.cmd, x.data), x.money)
	if err != nil {
		return ended{how: lost, err: err}
	}
	reply, err := d.reply(ctx)
	switch {
	case err != nil:
		return ended{how: lost, err: err}
	case reply.Command.Positive():
	case !acked:
		// Nobody acknowledged our command: this refusal may be an older one.
		return ended{how: lost, err: errOutOfTurn}
	case x.money && !d.silent(ctx):
		// It goes on although it refused: that was the refusal of something older.
		return ended{how: lost, err: errOutOfTurn}
	default:
		return ended{how: refused, code: reply.errorID()}
	}
	if x.short {
		return ended{how: completed}
	}
	e = d.follow(ctx, x)
	if e.how != lost && e.err == nil && d.owed > 0 {
		// The reply to an abort of ours is still to come: left on the line it
		// would be taken for the reply to the next command.
		if _, err := d.reply(ctx); err != nil {
			e.err = err
		}
	}
	return e
}

// reply waits for the answer to a command. Anything else that comes first
// belongs to an earlier operation: it must not be taken for this one's. An end
// that is told again means that the terminal did not get our answer, and
// without it takes no command.
func (d *device) reply(ctx context.Context) (APDU, error) {
	ctx, cancel := context.WithTimeout(ctx, timerT3)
	defer cancel()
	for {
		a, err := d.link.receive(ctx)
		switch {
		case err != nil:
			return APDU{}, err
		case a.Command.IsReply():
			return a, nil
		case a.Command != CmdCompletion && a.Command != CmdAborted:
			return APDU{}, fmt.Errorf("%w: %s where a reply was due", errOutOfTurn, a.Command)
		}
		if err := d.answer(ctx, ReplyPositive); err != nil {
			return APDU{}, err
		}
	}
}

// codeNotRegistered is the error id of a terminal that wants a registration.
const codeNotRegistered = 0x6B

// afterRefusal is how long a terminal has to be silent after it refused a
// command that moves money.
const afterRefusal = 150 * time.Millisecond

// silent reports whether nothing follows, on a line that is still there.
func (d *device) silent(ctx context.Context) bool {
	short, cancel := context.WithTimeout(ctx, afterRefusal)
	defer cancel()
	_, err := d.link.receive(short)
	return errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !d.link.partial()
}

// errorID is the error id of a negative reply. 84 1E carries it in its data.
func (a APDU) errorID() byte {
	if a.Command == Negative(0x1E) && len(a.Data) > 0 {
		return a.Data[0]
	}
	return byte(a.Command)
}

// follow answers the terminal while it is master.
func (d *device) follow(ctx context.Context, x exchange) ended {
	var e ended
	deadline := time.Now().Add(timerT4)
	for {
		a, err := d.next(ctx, deadline)
		if err != nil {
			e.how, e.err = lost, err
			return e
		}
		answer := ReplyPositive
		switch a.Command {
		case CmdIntermediateStatus:
			i, err := ParseIntermediate(a.Data, d.info.charset())
			limit := timerT4
			if err == nil && i.TimeoutMinutes > 0 {
				limit = time.Duration(i.TimeoutMinutes) * time.Minute
			}
			deadline = time.Now().Add(limit)
			if len(a.Data) > 0 && x.progress != nil {
				x.progress(safe(i.Words()))
			}
		case CmdStatusInformation:
			deadline = time.Now().Add(timerT4)
			if x.status == nil && approves(a.Data) {
				// Nobody stores it, and with an answer it would be final.
				e.how, e.err = lost, errOutOfTurn
				return e
			}
			if x.status != nil {
				refuse, err := x.status(a.Data)
				if err != nil {
					e.how, e.err = lost, err
					return e
				}
				if refuse != 0 {
					answer = Negative(refuse)
				}
			}
		case CmdPrintLine:
			if p, err := ParsePrintLine(a.Data, d.info.charset()); err == nil {
				e.print(p)
			}
		case CmdPrintBlock:
			if p, err := ParsePrintBlock(a.Data, d.info.charset()); err == nil {
				e.print(p)
			}
		case CmdCompletion:
			e.how, e.completion = completed, bytes.Clone(a.Data)
			e.err = d.answer(ctx, ReplyPositive)
			return e
		case CmdAborted:
			e.how = aborted
			if len(a.Data) > 0 {
				e.code = a.Data[0]
			}
			e.err = d.answer(ctx, ReplyPositive)
			return e
		default:
			if a.Command.IsReply() { // to an abort of ours, or doubled by the line
				d.owed = max(0, d.owed-1)
				continue
			}
			answer = Negative(0x83)
		}
		if err := d.answer(ctx, answer); err != nil {
			e.how, e.err = lost, err
			return e
		}
	}
}

// maxPrints bounds the lines that are kept of what one exchange prints.
const maxPrints = 1000

func (e *ended) print(p Print) {
	e.prints = append(e.prints, p.Lines[:min(len(p.Lines), maxPrints-len(e.prints))]...)
}

// approves reports whether a status information is the approval of a payment.
func approves(data []byte) bool {
	s, _ := ParseStatus(data, CP437)
	return s.HasResult && s.Result == 0 && s.HasAmount
}

func (d *device) answer(ctx context.Context, c Command) error {
	_, err := d.link.send(ctx, Append(nil, c, nil), false)
	return err
}

// next waits for the terminal's next command, and sends an abort that was
// asked for meanwhile.
func (d *device) next(ctx context.Context, deadline time.Time) (APDU, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for {
		wait, wake := context.WithCancel(ctx)
		if d.arm(wake) {
			if _, err := d.link.send(ctx, Append(nil, CmdAbort, nil), false); err != nil {
				wake()
				return APDU{}, err
			}
			d.owed++
		}
		a, err := d.link.receive(wait)
		woken := wait.Err() != nil && ctx.Err() == nil
		wake()
		if err != nil && woken {
			continue
		}
		return a, err
	}
}

// arm registers how to wake the wait and reports whether an abort is due.
func (d *device) arm(wake context.CancelFunc) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := d.abort
	d.abort = false
	d.wake = wake
	return due
}

// begin takes the terminal for one exchange; false means that another has it.
func (d *device) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside {
		return false
	}
	d.inside, d.abort, d.wake, d.owed = true, false, nil, 0
	return true
}

func (d *device) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside, d.abort, d.wake = false, false, nil
}

// Abort asks a running operation to stop (06 B0). The operation itself tells
// how it ended.
func (d *device) Abort(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.inside {
		return nil
	}
	d.abort = true
	if d.wake != nil {
		d.wake()
	}
	return nil
}

// charset returns what the terminal agreed to.
func (c Completion) charset() Charset {
	if c.Charset == 0 {
		return CP437
	}
	return c.Charset
}

// displayData codes lines for 06 E0: BMPs F1 to F8.
func displayData(text string, c Charset) ([]byte, error) {
	if c == 0 {
		c = CP437
	}
	var data []byte
	for i, line := range strings.Split(text, "\n") {
		if i == 8 {
			return nil, fmt.Errorf("zvt: the display has eight lines")
		}
		b := c.Append(nil, line)
		if len(b) > 99 {
			return nil, fmt.Errorf("zvt: a display line has at most 99 characters")
		}
		var err error
		if data, err = AppendField(data, byte(0xF1+i), b); err != nil {
			return nil, err
		}
	}
	return data, nil
}
