package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/contact"
	"tillbridge/p2pe"
	"tillbridge/p2pe/seal"
)

// A reader without a kernel takes payments through ours (emv/contact). Card
// data are clear in this process between the card's answer and the encrypter,
// so a lane without an encrypter refuses such a reader.

// SealedBy makes an encrypter of p2pe/seal (seal.NewDUKPT, seal.NewJWE) the
// kernel's. The card data go over without a copy and are erased by it.
func SealedBy(e interface {
	Encrypt(*seal.Clear) (p2pe.Envelope, error)
}) contact.Encrypter {
	return sealed{e}
}

type sealed struct {
	e interface {
		Encrypt(*seal.Clear) (p2pe.Envelope, error)
	}
}

func (s sealed) Encrypt(c *contact.Clear) (p2pe.Envelope, error) {
	defer c.Erase()
	e, err := s.e.Encrypt(&seal.Clear{PAN: c.PAN, Track2: c.Track2})
	if err != nil {
		return p2pe.Envelope{}, &encryptError{err}
	}
	return e, nil
}

// encryptError marks that it was the encrypter that failed.
type encryptError struct{ err error }

func (e *encryptError) Error() string { return e.err.Error() }
func (e *encryptError) Unwrap() error { return e.err }

// Encryption says before each payment on such a reader whether its card data
// can be encrypted. An error is told to the till with its code (Code() string)
// and text, and nothing of the card is read.
type Encryption interface {
	Ready(ctx context.Context) error
}

// kernelOf makes a pad of a reader without a kernel, or says why it must not
// take payments.
func (l *lane) kernelOf(ctx context.Context, d drivers.Device, ch drivers.APDUChannel) (*hostReader, *refusal) {
	switch {
	case l.Kernel == nil || l.Kernel.Encrypter == nil:
		return nil, &refusal{"device.no_encrypter", "this reader hands out card data in the clear and no encrypter is configured for it: add [kernel] and [encryption] to the configuration, or use a pad that encrypts"}
	case len(l.Kernel.Applications) == 0:
		return nil, &refusal{"device.no_encrypter", "this reader needs the card applications that the acquirer allows, and none is configured: add [[kernel.application]]"}
	}
	if l.Encryption != nil {
		if err := l.Encryption.Ready(ctx); err != nil {
			return nil, notEncrypted(err)
		}
	}
	return &hostReader{Device: d, card: ch, config: *l.Kernel}, nil
}

// refusal is why a payment fails, as the till hears it.
type refusal struct{ code, text string }

// notEncrypted is what the till hears of an error of the encrypter. Its text
// names keys by their serial numbers and holds no card data.
func notEncrypted(err error) *refusal {
	code := "device.no_encrypter"
	if c, ok := errors.AsType[interface {
		error
		Code() string
	}](err); ok {
		code = c.Code()
	}
	return &refusal{code, "the card data cannot be encrypted, so nothing was sent and nothing charged: " + safeText(Plain(err), 400)}
}

// Plain is an error's text without the package names that lead it.
func Plain(err error) string {
	text := err.Error()
	for _, name := range []string{"contact: ", "seal: ", "keyring: ", "dukpt: "} {
		text = strings.TrimPrefix(text, name)
	}
	return text
}

// hostReader is a plain reader with our kernel: a pad for the engine.
type hostReader struct {
	drivers.Device
	card   drivers.APDUChannel
	config contact.Config
}

var (
	_ drivers.CardSession = (*hostReader)(nil)
	_ drivers.CardRemover = (*hostReader)(nil)
	_ emv.Session         = (*hostSession)(nil)
)

// Begin prepares one payment; nothing reaches the card before Read.
func (h *hostReader) Begin(context.Context) (emv.Session, error) {
	return &hostSession{h: h, ended: make(chan struct{}, 1)}, nil
}

// RemoveCard takes the power off the card and waits until it is out. A plain
// reader shows no text.
func (h *hostReader) RemoveCard(ctx context.Context, _ string) error {
	if err := h.card.PowerOff(ctx); err != nil && !errors.Is(err, drivers.ErrCardGone) {
		return err
	}
	return h.card.WaitCard(ctx, false)
}

// hostSession is one payment: the kernel, and the slot before and after it.
type hostSession struct {
	h     *hostReader
	ended chan struct{} // held by the step that runs

	mu     sync.Mutex
	over   bool
	stop   context.CancelCauseFunc // of the step that runs
	kernel *contact.Session
}

// begin takes the session for one step.
func (s *hostSession) begin(ctx context.Context) (context.Context, func(), error) {
	select {
	case s.ended <- struct{}{}:
	default:
		return nil, nil, contact.ErrOrder
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		<-s.ended
		return nil, nil, emv.ErrCancelled
	}
	own, stop := context.WithCancelCause(ctx)
	s.stop = stop
	return own, func() { stop(nil); <-s.ended }, nil
}

// Read waits for a card, powers it and lets the kernel read it.
func (s *hostSession) Read(ctx context.Context, t emv.Terms) (emv.Card, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return emv.Card{}, err
	}
	defer end()
	if !allowsContact(t.Entries) {
		return emv.Card{}, errors.New("this reader takes chip cards in its slot alone, and the payment does not allow that entry")
	}
	if err := s.h.card.WaitCard(ctx, true); err != nil {
		return emv.Card{}, why(ctx, err)
	}
	if err := s.power(ctx); err != nil {
		return emv.Card{}, why(ctx, err)
	}
	kernel, err := contact.New(s.h.card, s.h.config)
	if err != nil {
		return emv.Card{}, err
	}
	s.mu.Lock()
	s.kernel = kernel
	s.mu.Unlock()
	card, err := kernel.Read(ctx, t)
	if err == nil && card.Data.Empty() {
		err = errors.New("the encrypter gave no ciphertext")
	}
	if err != nil {
		return emv.Card{}, why(ctx, err)
	}
	return card, nil
}

// power resets the card until its answer is one that EMV allows: once cold and
// once warm (Book 1 section 8.3).
func (s *hostSession) power(ctx context.Context) error {
	var last error
	for _, warm := range []bool{false, true} {
		raw, err := s.h.card.Power(ctx)
		if err != nil {
			if errors.Is(err, drivers.ErrUnplugged) || errors.Is(err, drivers.ErrCardGone) || ctx.Err() != nil {
				return err
			}
			last = err
			continue
		}
		atr, err := apdu.ParseATR(raw)
		if err == nil {
			err = atr.CheckEMV(warm)
		}
		if err == nil {
			return nil
		}
		last = err
	}
	return fmt.Errorf("%w: %w", emv.ErrCardUnusable, last)
}

func allowsContact(entries []emv.Entry) bool {
	if slices.Contains(entries, emv.EntryContact) {
		return true
	}
	return len(entries) == 0
}

// why turns the reader's words into those of a session.
func why(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), emv.ErrCancelled):
		return fmt.Errorf("%w: %w", emv.ErrCancelled, err)
	case errors.Is(err, drivers.ErrUnplugged):
		return drivers.ErrUnplugged // not the card alone: the whole reader
	case errors.Is(err, drivers.ErrCardGone):
		return fmt.Errorf("%w: %w", emv.ErrCardRemoved, err)
	}
	return err
}

// Authorize is the kernel's.
func (s *hostSession) Authorize(ctx context.Context, a emv.Amounts) (emv.Outcome, error) {
	return s.step(ctx, func(ctx context.Context, k *contact.Session) (emv.Outcome, error) { return k.Authorize(ctx, a) })
}

// Complete is the kernel's; the card then loses its power.
func (s *hostSession) Complete(ctx context.Context, r emv.HostResponse) (emv.Outcome, error) {
	out, err := s.step(ctx, func(ctx context.Context, k *contact.Session) (emv.Outcome, error) { return k.Complete(ctx, r) })
	if err != nil && out.Decision == "" { // the kernel was not asked
		out.Decision, out.ReversalNeeded = emv.Declined, r.Reached && r.Approved
	}
	s.powerOff(ctx)
	if s.kernel != nil {
		s.kernel.Erase()
	}
	return out, err
}

func (s *hostSession) step(ctx context.Context, f func(context.Context, *contact.Session) (emv.Outcome, error)) (emv.Outcome, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return emv.Outcome{}, err
	}
	defer end()
	if s.kernel == nil {
		return emv.Outcome{}, contact.ErrOrder
	}
	out, err := f(ctx, s.kernel)
	if err != nil {
		err = why(ctx, err)
	}
	return out, err
}

// Cancel ends the step that runs and takes the power off the card.
func (s *hostSession) Cancel(ctx context.Context) error {
	s.mu.Lock()
	s.over = true
	if s.stop != nil {
		s.stop(emv.ErrCancelled)
	}
	kernel := s.kernel
	s.mu.Unlock()
	if kernel != nil {
		if err := kernel.Cancel(ctx); err != nil {
			return err
		}
	}
	select {
	case s.ended <- struct{}{}: // the step is over
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.ended }()
	s.powerOff(ctx)
	if kernel != nil {
		kernel.Erase()
	}
	return nil
}

func (s *hostSession) powerOff(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = s.h.card.PowerOff(ctx) // a card that keeps its power does no harm; the next payment resets it
}
