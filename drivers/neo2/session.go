package neo2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
)

// Errors of a payment that callers branch on.
var (
	// ErrAmount: the reader's cryptogram is over another amount, currency or
	// time than asked for, or does not say over which. Nothing may be sent to
	// the host; what was sent has to be reversed.
	ErrAmount = errors.New("neo2: the reader answered for another amount; do not take this as a payment")
	// ErrEntry: the card came by a way that the payment does not allow.
	ErrEntry = errors.New("neo2: this way to present the card is not allowed here; use another")
	// ErrOrder: the steps of a payment come in the order Read, Authorize,
	// Complete, and none after its end.
	ErrOrder = errors.New("neo2: this payment is over, or the step is out of order; begin a new one")
)

// stage is how far a payment came.
type stage int

const (
	begun stage = iota
	read
	authorized
	over
)

// session is one payment on the reader's kernel.
type session struct {
	d *device

	mu      sync.Mutex
	stop    context.CancelFunc // of the step that runs
	running chan struct{}      // closed when it ends
	ended   bool               // by Cancel

	// Used by the step that runs alone.
	stage stage
	terms emv.Terms
	entry emv.Entry
	atc   string // 9F36 of the first cryptogram
}

var _ emv.Session = (*session)(nil)

// Begin prepares a payment. A payment that was under way is over.
func (d *device) Begin(ctx context.Context) (emv.Session, error) {
	unlock, err := d.begin("begin")
	if err != nil {
		return nil, err
	}
	defer unlock()
	d.session = nil
	// Every payment begins with a cancel: the reader forgets an earlier card.
	if err := d.l.resync(ctx, tries); err != nil {
		d.l.dirty = true
		return nil, d.fail("begin", err)
	}
	if err := d.same(ctx); err != nil {
		return nil, d.fail("begin", err)
	}
	d.session = &session{d: d}
	return d.session, nil
}

// step runs one step of the payment: it takes the link and makes the step
// stoppable by Cancel.
func (s *session) step(ctx context.Context, o op, from stage, f func(ctx context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	unlock, err := s.d.begin(o.name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.ended || s.stage != from || s.d.session != s || from != begun && s.d.l.dirty {
		s.mu.Unlock()
		unlock()
		return s.d.fail(o.name, ErrOrder)
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
	if err := f(ctx); err != nil {
		s.d.l.dirty = true // the next command begins with a cancel
		s.mu.Lock()
		ended := s.ended
		s.mu.Unlock()
		if ended && errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%w: %w", emv.ErrCancelled, err)
		}
		return s.d.fail(o.name, err)
	}
	return nil
}

// Cancel ends the payment: a step that runs is stopped with 05-01, and an idle
// reader is told as well. It returns nil when the reader confirmed.
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
			return s.d.fail(opCancel.name, ctx.Err())
		}
	}
	unlock, err := s.d.begin(opCancel.name)
	if err != nil {
		return err
	}
	defer unlock()
	if s.d.session != s {
		return nil // the reader is at another payment
	}
	s.d.session = nil
	if err := s.d.l.resync(ctx, tries); err != nil {
		s.d.l.dirty = true
		return s.d.fail(opCancel.name, err)
	}
	return nil
}

// allows reports whether the payment may use an entry.
func (s *session) allows(e emv.Entry) bool { return allows(s.terms, e) }

func allows(t emv.Terms, e emv.Entry) bool {
	if len(t.Entries) == 0 {
		return e != emv.EntryKeyed
	}
	return slices.Contains(t.Entries, e)
}

func checkTerms(t emv.Terms) error {
	const limit = 999999999999 // twelve digits
	switch {
	case t.Amount < 0 || t.Amount > limit || t.Other < 0 || t.Other > t.Amount:
		return fmt.Errorf("neo2: the reader takes amounts from 0 to %d minor units", limit)
	case t.CurrencyNumeric < 1 || t.CurrencyNumeric > 999:
		return fmt.Errorf("neo2: currency number %d: it has three digits (ISO 4217)", t.CurrencyNumeric)
	}
	return nil
}

func bcd(dst []byte, t tlv.Tag, v uint64, n int) []byte {
	b, err := tlv.AppendNumeric(nil, v, n)
	if err != nil {
		b = make([]byte, n) // checkTerms came before
	}
	return tlv.Append(dst, t, b)
}

// objects are the terms as data objects.
func (s *session) objects(dst []byte) []byte {
	t := s.terms
	dst = bcd(dst, 0x9F02, uint64(t.Amount), 6)
	dst = bcd(dst, 0x9F03, uint64(t.Other), 6)
	dst = tlv.Append(dst, 0x9C, []byte{byte(t.Type)})
	dst = bcd(dst, 0x5F2A, uint64(t.CurrencyNumeric), 2)
	dst = bcd(dst, 0x5F36, uint64(t.Exponent), 1)
	dst = bcd(dst, 0x9A, date(t.Time), 3)
	return bcd(dst, 0x9F21, hour(t.Time), 3)
}

func date(t time.Time) uint64 {
	return uint64(t.Year()%100*10000 + int(t.Month())*100 + t.Day())
}

func hour(t time.Time) uint64 {
	return uint64(t.Hour()*10000 + t.Minute()*100 + t.Second())
}

// Read waits for a card and takes its data as ciphertext. With the slot alone
// it is 60-10; else 02-40, in which a tap runs to its cryptogram: `authorizing`
// has to be durable before (design/payments.md R1), and then Card.CryptogramMade
// is set and Card.Outcome is what the card said.
func (s *session) Read(ctx context.Context, t emv.Terms) (emv.Card, error) {
	var card emv.Card
	o := opActivate
	if !allows(t, emv.EntryContactless) && !allows(t, emv.EntrySwipe) {
		o = opStart
	}
	err := s.step(ctx, o, begun, func(ctx context.Context) error {
		s.terms = t
		if err := checkTerms(t); err != nil {
			return err
		}
		var err error
		if o == opStart {
			card, err = s.start(ctx)
		} else {
			card, err = s.activate(ctx)
		}
		if err != nil {
			return err
		}
		s.entry, s.stage = card.Entry, read
		if card.Outcome.Decision != "" {
			s.stage = authorized
		}
		return nil
	})
	if err != nil {
		return emv.Card{}, err
	}
	return card, nil
}

// start is the first phase by chip.
func (s *session) start(ctx context.Context) (emv.Card, error) {
	seconds := uint16(s.d.set.CustomerWait.Seconds())
	// First byte 0: no fallback to the stripe. This phase is used where a swipe is
	// not allowed; where it is, 02-40 offers every way at once.
	data := []byte{0, byte(seconds >> 8), byte(seconds), byte(seconds >> 8), byte(seconds)}
	f, err := s.d.l.exchange(ctx, opStart, s.objects(data), answerWait, 2*s.d.set.CustomerWait+margin, s.serve)
	if err != nil {
		return emv.Card{}, err
	}
	if Status(f.Code) != OK {
		return emv.Card{}, failure(f)
	}
	a, ok := find(f.Data, tagAttribution)
	if !ok || len(a) == 0 {
		return emv.Card{}, fmt.Errorf("%w (no attribution: the reader does not say whether it encrypts)", drivers.ErrRefused)
	}
	for w := Walk(f.Data); w.Next(); {
		if o := w.Object(); o.Tag == tagAttribution && !bytes.Equal(o.Value, a) {
			return emv.Card{}, fmt.Errorf("%w (two attributions)", drivers.ErrRefused)
		}
	}
	return s.card(Attribution(a[0]), f.Data)
}

// activate offers every way that is allowed.
func (s *session) activate(ctx context.Context) (emv.Card, error) {
	var offer byte
	for e, bit := range map[emv.Entry]byte{emv.EntrySwipe: offerSwipe, emv.EntryContactless: offerTap, emv.EntryContact: offerContact} {
		if s.allows(e) {
			offer |= bit
		}
	}
	data := s.objects([]byte{byte(s.d.set.CustomerWait.Seconds())})
	data = tlv.Append(data, tagInterfaces, []byte{offer})
	// This answer may come at once or after 63.
	f, err := s.d.l.exchange(ctx, opActivate, data, s.d.set.CustomerWait+cardWait, s.d.set.CustomerWait+cardWait, s.serve)
	if err != nil {
		return emv.Card{}, err
	}
	status := Status(f.Code)
	if status != OK && status != Online {
		return emv.Card{}, failure(f)
	}
	if len(f.Data) == 0 {
		return emv.Card{}, fmt.Errorf("%w (no attribution: the reader does not say whether it encrypts)", drivers.ErrRefused)
	}
	a, objects := Attribution(f.Data[0]), f.Data[1:]
	card, err := s.card(a, objects)
	if err != nil {
		return card, err
	}
	switch card.Entry {
	case emv.EntryContact:
		return card, nil // 60-11 goes on
	case emv.EntrySwipe:
		return card, nil // Authorize says that the host decides
	}
	card.CryptogramMade = true
	if a.stripeData() {
		if err := s.same(objects, false); err != nil {
			return emv.Card{}, err
		}
		card.Outcome = emv.Outcome{Decision: emv.OnlineRequest, CVMText: "no CVM",
			Reasons: []emv.Reason{{Step: "selection", Text: "contactless stripe data: the host decides", Ref: "02-40"}}}
		return card, nil
	}
	o, err := s.outcome(objects, true)
	if err != nil {
		return emv.Card{}, err
	}
	want := emv.OnlineRequest
	if status == OK {
		want = emv.Approved
	}
	o.Decision = agreed(&o, want)
	if o.Decision == "" {
		return emv.Card{}, fmt.Errorf("%w: status %02X and the cryptogram do not agree", ErrMalformed, byte(status))
	}
	s.atc = o.atc
	card.Outcome = o.Outcome
	return card, nil
}

// serve answers what the reader asks while a command runs. Its texts are for a
// display that this host does not have; of a menu it takes the first entry,
// and a PIN on the host's keypad it does not do.
func (s *session) serve(f Frame) Frame {
	s.d.log.Debug("the reader asks", "request", f.String())
	answer := Frame{Command: fromReader, Code: byte(OK)}
	switch f.Code {
	case readerDisplay:
		answer.Data = []byte{1} // [U] the first entry; without meaning for a text
	case readerPIN:
		answer.Code = byte(NotAllowed)
	default:
		answer.Code = byte(UnknownSub)
	}
	return answer
}

// card reads what is known of the card.
func (s *session) card(a Attribution, data []byte) (emv.Card, error) {
	c := emv.Card{PANSequence: -1}
	var ok bool
	if c.Entry, ok = a.Entry(); !ok {
		return c, fmt.Errorf("%w (attribution %02X is not known)", drivers.ErrRefused, byte(a))
	}
	if !s.allows(c.Entry) {
		return emv.Card{}, fmt.Errorf("%w: %w (attribution %02X)", ErrEntry, drivers.ErrRefused, byte(a))
	}
	got, err := readCard(a, data, s.d.set)
	if err != nil {
		return emv.Card{}, err
	}
	c.Data = got.envelope
	c.Data.DeviceSerial = s.d.id.Serial
	c.MaskedPAN, c.ServiceCode = got.masked, got.service
	c.BIN6, c.Last4 = ends(got.masked)
	c.Data.MaskedPAN, c.Data.BIN, c.Data.Last4, c.Data.ServiceCode = c.MaskedPAN, c.BIN6, c.Last4, c.ServiceCode
	if v, ok := find(data, 0x5F34); ok {
		if n, err := tlv.Numeric(v); err == nil && len(v) == 1 {
			c.PANSequence = int(n)
		}
	}
	for _, t := range []tlv.Tag{0x9F12, 0x50} {
		if v, ok := find(data, t); ok && c.Label == "" {
			c.Label = clean(v)
		}
	}
	for _, t := range []tlv.Tag{0x4F, 0x84, 0x9F06} {
		if v, ok := find(data, t); ok && len(v) >= 5 && len(v) <= 16 && c.AID == "" {
			c.AID = fmt.Sprintf("%X", v)
		}
	}
	if c.AID == "" && c.Entry != emv.EntrySwipe && !a.stripeData() {
		return emv.Card{}, fmt.Errorf("%w (attribution %02X: a chip without an application)", drivers.ErrRefused, byte(a))
	}
	if err := c.Data.Check(); err != nil {
		return emv.Card{}, fmt.Errorf("%w (%w)", drivers.ErrRefused, err)
	}
	if !s.d.fresh(c.Data.KSN) {
		return emv.Card{}, fmt.Errorf("%w (its KSN was used: this is the answer of an earlier payment)", drivers.ErrRefused)
	}
	return c, nil
}

// fresh reports whether a KSN comes after all that this reader used for card
// data: the counter of a DUKPT key only rises (X9.24-1, X9.24-3).
func (d *device) fresh(ksn p2pe.KSN) bool {
	n, _ := ksn.Counter()
	key := ksn.Device()
	if last, used := d.ksn[key]; used && n <= last {
		return false
	}
	d.ksn[key] = n
	return true
}

// find returns the value of the first unprotected object with a tag.
func find(data []byte, t tlv.Tag) ([]byte, bool) {
	w := Walk(data)
	for w.Next() {
		if o := w.Object(); o.Tag == t && o.Protection == Unmarked {
			return o.Value, true
		}
	}
	return nil, false
}

// ends are the first six and last four digits of a masked number.
func ends(masked string) (bin, last4 string) {
	if len(masked) < 13 {
		return "", ""
	}
	digits := func(s string) string {
		for i := range len(s) {
			if s[i] < '0' || s[i] > '9' {
				return ""
			}
		}
		return s
	}
	return digits(masked[:6]), digits(masked[len(masked)-4:])
}

// failure is the error of an answer that is none: the transaction's own code
// where there is one, else the status.
func failure(f Frame) error {
	for _, data := range [][]byte{f.Data, f.Data[min(1, len(f.Data)):]} {
		if v, ok := find(data, tagFailure); ok && len(v) > 0 {
			return fmt.Errorf("%w (%w)", Failure(v[0]), Status(f.Code))
		}
	}
	return Status(f.Code)
}
