package ccid

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/apdu"
)

// card is the powered card.
type card struct {
	atr      apdu.ATR
	protocol int      // 0 or 1
	t1       *apdu.T1 // TPDU level and T=1
}

// Power resets the card and returns its answer to reset. The protocol is the
// first that the card offers and the reader has.
func (r *Reader) Power(ctx context.Context) ([]byte, error) {
	release, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer release()
	if r.card, err = r.power(ctx); err != nil {
		return nil, r.fault("power", err)
	}
	return append([]byte(nil), r.card.atr.Raw...), nil
}

func (r *Reader) power(ctx context.Context) (*card, error) {
	r.card, r.gone = nil, false
	atr, err := r.reset(ctx)
	if err != nil {
		return nil, err
	}
	c := &card{atr: atr}
	if err := r.negotiate(ctx, c); err != nil {
		return nil, err
	}
	if r.level == LevelTPDU && c.protocol == 1 {
		o := &apdu.T1Options{IFSC: atr.IFSC(), CRC: atr.CRC(), IFSD: min(int(r.descriptor.MaxIFSD), 254)}
		o.NoIFS = r.descriptor.Features&AutoIFSD != 0
		c.t1 = apdu.NewT1(o)
	}
	return c, nil
}

// reset powers the card, at one voltage after the other where the reader does
// not choose, and once more when the answer cannot be read.
func (r *Reader) reset(ctx context.Context) (apdu.ATR, error) {
	voltages := []byte{0}
	if r.descriptor.Features&AutoVoltage == 0 {
		voltages = voltages[:0]
		for i := range byte(3) { // EMV cards are of class A: 5 V first
			if r.descriptor.Voltages&(1<<i) != 0 {
				voltages = append(voltages, i+1)
			}
		}
		if len(voltages) == 0 {
			voltages = []byte{1}
		}
	}
	var last error
	for i, v := range voltages {
		if i > 0 {
			if _, err := r.link.exchange(ctx, Message{Type: IccPowerOff}, SlotStatus, waitAnswer); err != nil {
				return apdu.ATR{}, err
			}
		}
		for range 2 {
			m, err := r.link.exchange(ctx, Message{Type: IccPowerOn, P1: v}, DataBlock, waitAnswer)
			if err != nil {
				f, ok := errors.AsType[*failure](err)
				if !ok || f.icc == Absent {
					return apdu.ATR{}, err
				}
				last = err
				break // the next voltage
			}
			atr, err := apdu.ParseATR(m.Data)
			if err == nil {
				return atr, nil
			}
			last = err
		}
	}
	return apdu.ATR{}, last
}

// negotiate settles the protocol. EMV stays with what the card offers first
// and with its default speed, or with the one that the card is at already
// (Book 1 section 8.3.3); another protocol is asked
// for only when the reader does not have the first.
func (r *Reader) negotiate(ctx context.Context, c *card) error {
	c.protocol = -1
	first := c.atr.Protocol()
	only, _, specific := c.atr.Specific()
	if specific {
		first = only
	}
	for _, t := range []int{first, 0, 1} {
		if (!specific || t == only) && (t == 0 || t == 1) && c.atr.Offers(t) && r.descriptor.Protocols&(1<<t) != 0 {
			c.protocol = t
			break
		}
	}
	if c.protocol < 0 {
		return fmt.Errorf("%w: the reader and the card have no protocol in common", apdu.ErrATR)
	}
	features := r.descriptor.Features
	if c.protocol != first && features&(AutoPPS|AutoNegotiate) == 0 && r.level == LevelTPDU {
		if err := r.pps(ctx, c.protocol); err != nil {
			return err
		}
	}
	if features&AutoParameters != 0 && c.protocol == first {
		return nil
	}
	_, err := r.link.exchange(ctx, Message{Type: SetParameters, P1: byte(c.protocol), Data: cardParameters(c.atr, c.protocol)}, Parameters, waitAnswer)
	if f, ok := errors.AsType[*failure](err); ok && f.code == 0 && c.protocol == first {
		return nil // the reader does it by itself and does not know the command
	}
	return err
}

// pps asks the card for another protocol at the default speed (ISO/IEC 7816-3
// section 9).
func (r *Reader) pps(ctx context.Context, protocol int) error {
	ask := []byte{0xFF, byte(protocol), 0}
	ask[2] = ask[0] ^ ask[1]
	m, err := r.link.exchange(ctx, Message{Type: XfrBlock, Data: ask}, DataBlock, waitAnswer)
	if err != nil {
		return err
	}
	if string(m.Data) != string(ask) {
		return fmt.Errorf("%w: the card does not take T=%d", apdu.ErrATR, protocol)
	}
	return nil
}

// cardParameters is the structure of SetParameters (section 6.1.7) for a card
// at its default speed, or at that of its specific mode.
func cardParameters(a apdu.ATR, protocol int) []byte {
	_, speed, specific := a.Specific()
	if !specific {
		speed = 0x11 // Fi 372, Di 1
	}
	guard, inverse := byte(0), byte(0)
	if len(a.TC) > 0 && a.TC[0] != nil {
		guard = *a.TC[0]
	}
	if a.Inverse {
		inverse = 0x02
	}
	if protocol == 0 {
		wi := byte(10)
		if len(a.TC) > 1 && a.TC[1] != nil {
			wi = *a.TC[1]
		}
		return []byte{speed, inverse, guard, wi, 0}
	}
	check := byte(0x10)
	if a.CRC() {
		check = 0x11
	}
	return []byte{speed, check | inverse, guard, byte(a.BWI()<<4 | a.CWI()), 0, byte(a.IFSC()), 0}
}

// PowerOff takes the power off the card.
func (r *Reader) PowerOff(ctx context.Context) error {
	release, err := r.enter()
	if err != nil {
		return err
	}
	defer release()
	r.card = nil
	if _, err := r.link.exchange(ctx, Message{Type: IccPowerOff}, SlotStatus, waitAnswer); err != nil {
		f, ok := errors.AsType[*failure](err)
		if !ok || f.icc != Absent {
			return r.fault("power off", err)
		}
	}
	return nil
}

// Transmit sends one command APDU and returns the whole response, with answers
// that wait (61xx) fetched and Le corrected (6Cxx). When it fails the card may
// have acted; every further call is [ErrPower] until the card is powered anew,
// so that a late answer is never taken for another command's.
func (r *Reader) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if err := guard(command); err != nil {
		return nil, r.fault("transmit", err)
	}
	release, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer release()
	c := r.card
	if c == nil && r.gone {
		return nil, r.fault("transmit", fmt.Errorf("%w: %w", drivers.ErrCardGone, ErrPower))
	}
	if c == nil {
		return nil, r.fault("transmit", ErrPower)
	}
	var response []byte
	switch {
	case c.t1 != nil:
		response, err = apdu.Follow{Card: exchanger(func(ctx context.Context, b []byte) ([]byte, error) { return r.blocks(ctx, c, b) })}.Transmit(ctx, command)
	case r.level == LevelTPDU:
		response, err = apdu.T0{Card: exchanger(r.single)}.Transmit(ctx, command)
	case r.level == LevelShort:
		response, err = apdu.Follow{Card: exchanger(r.single)}.Transmit(ctx, command)
	default:
		response, err = apdu.Follow{Card: exchanger(r.chain)}.Transmit(ctx, command)
	}
	switch {
	case err == nil:
		return response, nil
	case errors.Is(err, ErrTooLong), errors.Is(err, apdu.ErrTooLong), errors.Is(err, apdu.ErrCommand):
		// Nothing was sent.
	default:
		r.card = nil
	}
	return nil, r.fault("transmit", err)
}

// ErrTooLong says that a command does not fit the reader's messages.
var ErrTooLong = errors.New("ccid: the command is longer than the reader takes")

// exchanger is a function as an apdu.Exchanger.
type exchanger func(ctx context.Context, b []byte) ([]byte, error)

func (f exchanger) Transmit(ctx context.Context, b []byte) ([]byte, error) { return f(ctx, b) }

// shortest and longest command of the short level: header, Lc, 255 bytes, Le.
const maxShort = 261

// single exchanges one block: a TPDU, or an APDU of the short level.
func (r *Reader) single(ctx context.Context, b []byte) ([]byte, error) {
	if len(b) > maxShort || len(b)+headerLen > int(r.descriptor.MaxMessage) {
		return nil, ErrTooLong
	}
	m, err := r.link.exchange(ctx, Message{Type: XfrBlock, Data: b}, DataBlock, waitAnswer)
	if err != nil {
		return nil, err
	}
	if m.P3 != ChainWhole {
		return nil, fmt.Errorf("%w: a chain at a level that has none", ErrMessage)
	}
	return append([]byte(nil), m.Data...), nil
}

// blockUnit is the block waiting time of BWI 0 at the slowest clock of a card,
// 1 MHz (ISO/IEC 7816-3 section 11.4.3): 960 times 372 cycles.
const blockUnit = 357 * time.Millisecond

// blocks exchanges one APDU over T=1. A card that asks for time is waited for
// as long as it asks, and for maxWait in all.
func (r *Reader) blocks(ctx context.Context, c *card, command []byte) ([]byte, error) {
	t1, end := c.t1, time.Now().Add(maxWait)
	step, err := t1.Begin(command)
	for {
		if err == nil && time.Now().After(end) {
			return nil, ErrNoAnswer
		}
		if err != nil && !errors.Is(err, apdu.ErrAborted) || step.Send == nil {
			if err == nil && step.Done {
				return step.Response, nil
			}
			return nil, err
		}
		aborted := err
		wtx := max(step.WTX, 1)
		wait := max(waitAnswer, time.Duration(wtx)*blockUnit<<c.atr.BWI()+time.Second)
		m, xerr := r.link.exchange(ctx, Message{Type: XfrBlock, P1: byte(wtx), Data: step.Send}, DataBlock, wait)
		f, failed := errors.AsType[*failure](xerr)
		switch {
		case aborted != nil: // the polite answer is out; the exchange is over
			return nil, aborted
		case failed && f.icc != Absent && (f.code == 0xFE || f.code == 0xFD):
			step, err = t1.Receive(nil) // nothing came from the card, or damaged
		case xerr != nil:
			return nil, xerr
		default:
			step, err = t1.Receive(append([]byte{}, m.Data...))
		}
	}
}

// chain exchanges one APDU of any length at the extended level (section 6.1.4).
func (r *Reader) chain(ctx context.Context, command []byte) ([]byte, error) {
	room := int(min(r.descriptor.MaxMessage, MaxMessage)) - headerLen
	rest, first := command, true
	var m Message
	for {
		piece := rest[:min(room, len(rest))]
		rest = rest[len(piece):]
		level := byte(ChainMiddle)
		switch {
		case first && len(rest) == 0:
			level = ChainWhole
		case first:
			level = ChainBegin
		case len(rest) == 0:
			level = ChainEnd
		}
		first = false
		var err error
		if m, err = r.link.exchange(ctx, Message{Type: XfrBlock, P2: level, Data: piece}, DataBlock, waitAnswer); err != nil {
			return nil, err
		}
		if len(rest) == 0 {
			break
		}
		if m.P3 != ChainContinue || len(m.Data) != 0 {
			return nil, fmt.Errorf("%w: the reader answers inside our chain", ErrMessage)
		}
	}
	out := append([]byte(nil), m.Data...)
	for n := 0; ; n++ {
		switch m.P3 {
		case ChainWhole, ChainEnd:
			if (m.P3 == ChainWhole) != (n == 0) {
				return nil, fmt.Errorf("%w: a chain out of order", ErrMessage)
			}
			return out, nil
		case ChainBegin, ChainMiddle:
			if (m.P3 == ChainBegin) != (n == 0) || n > 0 && len(m.Data) == 0 || len(out) > apdu.LeExtended+2 {
				return nil, fmt.Errorf("%w: a chain out of order or without end", ErrMessage)
			}
		default:
			return nil, fmt.Errorf("%w: chain parameter %02X", ErrMessage, m.P3)
		}
		var err error
		if m, err = r.link.exchange(ctx, Message{Type: XfrBlock, P2: ChainContinue}, DataBlock, waitAnswer); err != nil {
			return nil, err
		}
		out = append(out, m.Data...)
	}
}

var _ emv.Transceiver = exchanger(nil)
