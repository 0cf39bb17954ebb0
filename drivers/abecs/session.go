package abecs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/p2pe"
)

// Errors of a payment that callers branch on.
var (
	// ErrAmount: the pad's cryptogram is over another amount or currency than
	// the one asked for, or does not say over which. Nothing may be sent to the
	// host; what was sent has to be reversed.
	ErrAmount = errors.New("abecs: the pad answered for another amount; do not take this as a payment")
	// ErrEntry: the card came by a way that the payment does not allow.
	ErrEntry = errors.New("abecs: this way to present the card is not allowed here; use another")
	// ErrUseChip: the stripe of a card with a chip.
	ErrUseChip = errors.New("abecs: this card has a chip; insert it")
	// ErrOrder: the steps of a payment come in the order Read, Authorize,
	// Complete, and none after its end.
	ErrOrder = errors.New("abecs: this payment is over, or the step is out of order; begin a new one")
)

// stage is how far a payment came.
type stage int

const (
	begun stage = iota
	read
	authorized
	over
)

// session is one payment on the pad's kernel.
type session struct {
	d *device

	mu      sync.Mutex
	stop    context.CancelFunc // of the step that runs
	running chan struct{}      // closed when it ends
	ended   bool               // by Cancel, or by the next Begin

	// Used by the step that runs alone.
	stage    stage
	terms    emv.Terms
	entry    emv.Entry
	tapKind  string // CARDTYPE of a tap: "05" stripe data, "06" EMV
	acquirer string
	pin      p2pe.PINBlock // of a swipe
	fallback bool
}

var _ emv.Session = (*session)(nil)

// Begin prepares a payment. A payment that was under way is over.
func (d *device) Begin(ctx context.Context) (emv.Session, error) {
	unlock, err := d.begin(ctx, "begin")
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Every payment begins with CAN: the pad forgets an earlier card.
	if _, err := d.l.resync(ctx, tries, eotWait, nil); err != nil {
		d.l.dirty = true
		return nil, d.fail("begin", err)
	}
	d.session = &session{d: d}
	return d.session, nil
}

// step runs one step of the payment: it takes the link and makes the step
// stoppable by Cancel.
func (s *session) step(ctx context.Context, op string, from stage, f func(ctx context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	unlock, err := s.d.begin(ctx, op)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.ended || s.stage != from || s.d.session != s {
		s.mu.Unlock()
		unlock()
		return s.d.fail(op, ErrOrder)
	}
	running := make(chan struct{})
	s.stop, s.running = stop, running
	s.mu.Unlock()
	defer func() {
		// The link first: a Cancel that waits for this step takes it next, and one
		// that comes meanwhile still finds a step to wait for.
		unlock()
		s.mu.Lock()
		if s.running == running {
			s.stop, s.running = nil, nil
		}
		s.mu.Unlock()
		close(running)
	}()
	s.stage = over // until f says otherwise: a failed step ends the payment
	return f(ctx)
}

// Cancel ends the payment: a step that runs is stopped with CAN, and an idle
// pad is told as well. It returns nil when the pad confirmed.
func (s *session) Cancel(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	stop, running := s.stop, s.running
	s.mu.Unlock()
	if stop != nil {
		stop()
		select {
		case <-running:
		case <-ctx.Done():
			return s.d.fail("cancel", ctx.Err())
		}
	}
	unlock, err := s.d.begin(ctx, "cancel")
	if err != nil {
		return err
	}
	defer unlock()
	if s.d.session != s {
		return nil // the pad is at another payment, or was opened anew
	}
	s.d.session = nil
	if stop != nil && !s.d.l.dirty {
		return nil // the step's own CAN was confirmed
	}
	if _, err := s.d.l.resync(ctx, tries, eotWait, nil); err != nil {
		s.d.l.dirty = true
		return s.d.fail("cancel", err)
	}
	return nil
}

// allows reports whether the payment may use an entry.
func (s *session) allows(e emv.Entry) bool {
	if len(s.terms.Entries) == 0 {
		return e != emv.EntryKeyed
	}
	return slices.Contains(s.terms.Entries, e)
}

func checkAmounts(a emv.Amounts) error {
	const limit = 999999999999 // twelve digits
	switch {
	case a.Amount < 0 || a.Amount > limit || a.Other < 0 || a.Other > a.Amount:
		return fmt.Errorf("abecs: the pad takes amounts from 0 to %d minor units", limit)
	case a.CurrencyNumeric < 1 || a.CurrencyNumeric > 999:
		return fmt.Errorf("abecs: currency number %d: it has three digits (ISO 4217)", a.CurrencyNumeric)
	}
	return nil
}

// Read waits for a card (GCX) and takes its data as ciphertext (GTK). With
// contactless allowed GCX runs the whole card exchange: `authorizing` has to
// be durable before (design/payments.md R1), and Card.CryptogramMade is set
// when it was a tap; the card's decision comes from Authorize (GOX).
func (s *session) Read(ctx context.Context, t emv.Terms) (emv.Card, error) {
	var card emv.Card
	err := s.step(ctx, "GCX", begun, func(ctx context.Context) error {
		if err := checkAmounts(t.Amounts); err != nil {
			return s.d.fail("GCX", err)
		}
		s.terms = t
		r, err := s.present(ctx)
		if err != nil {
			return err
		}
		if card, err = s.cardOf(r); err != nil {
			return err
		}
		if s.entry == emv.EntrySwipe {
			if err := s.swiped(ctx, card.ServiceCode); err != nil {
				return err
			}
		}
		if card.Data, err = s.d.cardData(ctx, card); err != nil {
			return err
		}
		s.stage = read
		return nil
	})
	if err != nil {
		return emv.Card{}, err
	}
	return card, nil
}

// gcx are the parameters of GCX, with contactless or without.
func (s *session) gcx(tap bool) []Param {
	t := s.terms
	options := "00000"
	if tap {
		options = "10000"
	}
	return []Param{
		{Acquirer, []byte(s.d.set.Acquirer)},
		{Amount, fmt.Appendf(nil, "%012d", t.Amount)},
		{Cashback, fmt.Appendf(nil, "%012d", t.Other)},
		{Date, []byte(t.Time.Format("060102"))},
		{Time, []byte(t.Time.Format("150405"))},
		{GCXOptions, []byte(options)},
		{Type, []byte{byte(t.Type)}},
		{Currency, fmt.Appendf(nil, "%03d", t.CurrencyNumeric)},
		{PANMask, []byte("0604")},
		{Timeout, []byte{byte(s.d.set.CustomerWait.Seconds())}},
		{TagList, gcxTags},
	}
}

// present asks for a card until one was read, and turns contactless off where
// the pad says that the card needs another way.
func (s *session) present(ctx context.Context) (Response, error) {
	tap := s.allows(emv.EntryContactless)
	other := s.allows(emv.EntryContact) || s.allows(emv.EntrySwipe)
	taps, phones := 0, 0
	for {
		r, err := s.d.params(ctx, "GCX", true, s.gcx(tap)...)
		status, ok := errors.AsType[Status](err)
		if err == nil || !ok {
			return r, err
		}
		switch status {
		case TapInvalidated, TapProblem, TapNoApp, TapUnusable, OtherInterface:
			if !tap || !other {
				return r, err
			}
			tap = false
		case TapError:
			if taps++; taps >= 2 {
				if !tap || !other {
					return r, err
				}
				tap = false
			}
		case SeePhone:
			if phones++; phones > 2 {
				return r, err
			}
			packet, perr := AppendCommand(nil, "DSP", s32("SEE PHONE\nTHEN TAP AGAIN"))
			if perr != nil {
				return r, s.d.fail("DSP", perr)
			}
			if _, err := s.d.send(ctx, packet, false); err != nil {
				return Response{}, err
			}
		case Fallback:
			if s.fallback || !s.allows(emv.EntrySwipe) {
				return r, err
			}
			s.fallback, tap = true, false
		default:
			return r, err
		}
	}
}

// cardOf reads the answer to GCX.
func (s *session) cardOf(r Response) (emv.Card, error) {
	c := emv.Card{PANSequence: -1, Label: r.text(Label)}
	switch kind := r.text(CardType); kind {
	case "00":
		c.Entry = emv.EntrySwipe
	case "03":
		c.Entry = emv.EntryContact
	case "05", "06":
		c.Entry, c.CryptogramMade, s.tapKind = emv.EntryContactless, true, kind
	default:
		return c, s.d.fail("GCX", fmt.Errorf("%w: kind of card", ErrMalformed))
	}
	s.entry = c.Entry
	if !s.allows(c.Entry) {
		return c, s.d.fail("GCX", ErrEntry)
	}
	pan := r.text(PAN)
	if pan == "" { // a stripe: only its truncated track shows the number
		pan, _, _ = strings.Cut(r.text(Track2Cut), "=")
	}
	c.MaskedPAN, c.BIN6, c.Last4 = maskedPAN(pan)
	if n, ok := number([]byte(r.text(PANSequence))); ok && c.Entry != emv.EntrySwipe {
		c.PANSequence = n
	}
	c.ServiceCode = serviceCode(r.text(Track2Cut))
	if c.Entry == emv.EntrySwipe && r.text(ChipStatus) != "" && r.text(ChipStatus) != "0" {
		s.fallback = true // the chip of this card was tried and failed
	}
	if data, ok := r.Find(EMVDataOut); ok {
		c.AID = aidOf(data)
	}
	s.acquirer = s.d.set.Acquirer
	if info := r.text(AIDInfo); s.acquirer == "00" && len(info) >= 2 {
		s.acquirer = info[:2] // the first that fits: acquirer, record, type
	}
	return c, nil
}

// swiped checks a swipe and asks for its PIN. GPN takes the card number that
// the pad read, and only before GTK.
func (s *session) swiped(ctx context.Context, service string) error {
	if service == "" {
		return s.d.fail("GCX", fmt.Errorf("%w: the stripe shows no service code", ErrUseChip))
	}
	if (service[0] == '2' || service[0] == '6') && !s.fallback {
		return s.d.fail("GCX", ErrUseChip)
	}
	if !s.d.set.SwipePIN || !strings.ContainsRune("03567", rune(service[2])) {
		return nil
	}
	var err error
	s.pin, err = s.d.askPIN(ctx)
	return err
}

// ReadCard reads a stripe or a chip without a payment. A tap would make a
// cryptogram and is not offered. Only Terms' entries, time and currency count.
func (d *device) ReadCard(ctx context.Context, t emv.Terms) (emv.Card, error) {
	s, err := d.Begin(ctx)
	if err != nil {
		return emv.Card{}, err
	}
	var entries []emv.Entry
	for _, e := range []emv.Entry{emv.EntryContact, emv.EntrySwipe} {
		if (&session{terms: t}).allows(e) {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return emv.Card{}, d.fail("GCX", ErrEntry)
	}
	t.Entries, t.Amount, t.Other = entries, 0, 0
	pins := d.set.SwipePIN
	own := s.(*session)
	var card emv.Card
	err = own.step(ctx, "GCX", begun, func(ctx context.Context) error {
		d.set.SwipePIN = false
		defer func() { d.set.SwipePIN = pins }()
		own.terms = t
		if err := checkAmounts(t.Amounts); err != nil {
			return d.fail("GCX", err)
		}
		r, err := own.present(ctx)
		if err != nil {
			return err
		}
		if card, err = own.cardOf(r); err != nil {
			return err
		}
		if own.entry == emv.EntrySwipe {
			if err := own.swiped(ctx, card.ServiceCode); err != nil {
				return err
			}
		}
		card.Data, err = d.cardData(ctx, card)
		return err
	})
	if err != nil {
		return emv.Card{}, err
	}
	return card, nil
}

var _ drivers.SecureReader = (*device)(nil)
