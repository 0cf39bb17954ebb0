package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/queue"
)

// StartPayment starts a payment on its register, or returns the one that the
// same credential and key started before (replayed), in its current state. The
// record, the key and the first event are durable when it returns without an
// error. digest is the caller's fingerprint of the whole request, of any
// length.
//
// Errors: ErrInvalid, ErrRegister, ErrKeyMismatch, *BusyError, ErrClosedLane,
// ErrFull, ErrStopped, and ErrStore, after which the same key tells what
// happened.
func (e *Engine) StartPayment(ctx context.Context, credential, key, digest string, r payment.Request) (payment.Payment, bool, error) {
	if err := e.check(credential, key, &r); err != nil {
		return payment.Payment{}, false, err
	}
	l := e.lanes[r.RegisterID]
	if l == nil {
		return payment.Payment{}, false, refuse(ErrRegister, "", "no register %.40q is configured: see `tillbridge devices list`", r.RegisterID)
	}
	until, cancel := context.WithTimeout(ctx, e.o.StoreTimeout)
	defer cancel()
	if h, err := e.replay(until, credential, key, digest); err != nil || h != nil {
		return replayedPayment(h, err)
	}
	at := e.now()
	id := e.newID("pay_", at)
	job := &run{id: id, credential: credential, key: key, amount: r.Amount.Money(), started: make(chan struct{})}
	for {
		if !e.Ready() {
			return payment.Payment{}, false, refuse(ErrStopped, "", "the agent is starting or stopping: try again")
		}
		blocking, closed := l.reserve(job)
		if closed != nil {
			return payment.Payment{}, false, closed
		}
		if blocking == nil {
			break
		}
		if blocking.credential == credential && blocking.key == key {
			// the same request, sent twice at once
			select {
			case <-blocking.started:
			case <-until.Done():
				return payment.Payment{}, false, e.storeError("", until.Err())
			}
			freed := l.freed()
			if h, err := e.replay(until, credential, key, digest); err != nil || h != nil {
				return replayedPayment(h, err)
			}
			if l.holder() == blocking { // its record is not known to be there
				select {
				case <-freed:
				case <-until.Done():
					return payment.Payment{}, false, e.storeError("", until.Err())
				}
			}
			continue
		}
		freed := l.freed()
		if l.holder() != blocking {
			continue
		}
		if e.ended(until, blocking.id) {
			// Its result is known to the till already; the register follows at once.
			select {
			case <-freed:
				continue
			case <-until.Done():
			}
		}
		if !r.Supersede {
			return payment.Payment{}, false, e.busy(ctx, r.RegisterID, blocking)
		}
		if _, err := e.Cancel(ctx, credential, blocking.id); err != nil {
			return payment.Payment{}, false, e.busy(ctx, r.RegisterID, blocking)
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return payment.Payment{}, false, e.busy(context.WithoutCancel(ctx), r.RegisterID, blocking)
		case <-time.After(e.o.DeviceTimeout):
			return payment.Payment{}, false, e.busy(ctx, r.RegisterID, blocking)
		}
		if was, err := e.Payment(ctx, blocking.id); err != nil {
			return payment.Payment{}, false, err
		} else if m := was.MoneyMoved(); m == payment.MovedYes || m == payment.MovedHeld {
			// The terminal had approved before it could be stopped: the customer has paid.
			return payment.Payment{}, false, &Error{Err: ErrTooLate, ID: was.ID, Detail: "the payment to be replaced was approved before it could be cancelled: close the sale with it, or void it first", Moved: m, Again: was.Retry()}
		}
	}
	p, existing, err := e.create(until, l, job, digest, r, at)
	switch {
	case err == nil:
		close(job.started)
		if !e.spawn(func() { e.runPayment(l, job, p) }) {
			l.release(job)
			return p, false, nil // found and ended at the next start
		}
		return p, false, nil
	case errors.Is(err, errUnsettled):
		// Unknown whether the record is there: nobody waits for the card any
		// more, so it must not start later. The lane is kept until it is known.
		close(job.started)
		if !e.spawn(func() { e.adopt(l, job) }) {
			l.release(job)
		}
		return payment.Payment{}, false, e.storeError(id, err)
	}
	close(job.started)
	l.release(job)
	if existing != "" {
		h, rerr := e.replay(until, credential, key, digest)
		if rerr != nil || h != nil {
			return replayedPayment(h, rerr)
		}
	}
	return payment.Payment{}, false, err
}

// create stores record, key and first event in one commit (R4).
func (e *Engine) create(ctx context.Context, l *lane, job *run, digest string, r payment.Request, at time.Time) (p payment.Payment, existing string, err error) {
	err = e.keep(ctx, job.id, func(w *work) error {
		if err := w.tx.Admit(); err != nil {
			return refuse(ErrFull, "", "%v", err)
		}
		if h, gerr := w.get(job.id); gerr == nil { // the commit before was there after all
			p = *h.Payment
			return nil
		}
		existing, err = w.tx.Claim(job.credential, job.key, digestOf(digest), job.id)
		if err != nil {
			return err
		}
		p = payment.New(job.id, job.credential, job.key, digest, r, at)
		p.DeviceID, p.BusinessDate = l.DeviceID, at.In(l.Zone).Format(time.DateOnly)
		p.Host.TerminalID, p.Host.MerchantID = l.TerminalID, l.MerchantID
		if r.DeadlineS > 0 {
			p.Deadline = at.Add(time.Duration(r.DeadlineS) * time.Second)
		}
		return w.put(&held{id: job.id, fresh: true, stored: stored{Payment: &p}})
	})
	return p, existing, err
}

// adopt finds out whether a record exists whose commit had no answer in time,
// and ends it: nothing was sent.
func (e *Engine) adopt(l *lane, job *run) {
	defer l.release(job)
	_, err := e.change(e.hard, job.id, func(w *work, h *held, p *payment.Payment) error {
		if p.State.Status != payment.Pending {
			return nil
		}
		p.Reason, p.Code = "the store did not answer in time; nothing was started", "store.unknown"
		return p.Move(payment.State{Status: payment.Failed, Stage: payment.StageStore}, 0, w.at, "the store answered too late")
	})
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errUnsettled) {
		e.log.Error("a payment whose commit had no answer could not be ended", "payment", job.id, "err", err)
	}
}

func digestOf(digest string) []byte {
	sum := sha256.Sum256([]byte(digest))
	return sum[:]
}

// replay finds the record that a key was used for. nil means none.
func (e *Engine) replay(ctx context.Context, credential, key, digest string) (*held, error) {
	var found *held
	err := e.o.Store.View(ctx, func(tx *queue.Tx) error {
		id, was, err := tx.Claimed(credential, key)
		if errors.Is(err, queue.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if string(was) != string(digestOf(digest)) {
			return &Error{Err: ErrKeyMismatch, ID: id, Detail: "use one key per sale attempt of the customer, kept across retries", Moved: payment.MovedUnknown, Again: payment.RetryForbidden}
		}
		r, err := tx.Get(id)
		if err != nil {
			return err
		}
		found, err = e.decode(r)
		return err
	})
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			return nil, err
		}
		return nil, e.storeError("", err)
	}
	return found, nil
}

func replayedPayment(h *held, err error) (payment.Payment, bool, error) {
	switch {
	case err != nil:
		return payment.Payment{}, false, err
	case h.Payment == nil:
		return payment.Payment{}, false, refuse(ErrKeyMismatch, h.id, "the key belongs to an operation, not to a payment")
	}
	return *h.Payment, true, nil
}

func replayedOperation(h *held, err error) (payment.Operation, bool, error) {
	switch {
	case err != nil:
		return payment.Operation{}, false, err
	case h.Operation == nil:
		return payment.Operation{}, false, refuse(ErrKeyMismatch, h.id, "the key belongs to a payment, not to an operation")
	}
	return *h.Operation, true, nil
}

// storeError: the key may be that of a payment which was taken, so that nobody
// may believe that nothing moved.
func (e *Engine) storeError(id string, err error) error {
	return &Error{Err: ErrStore, ID: id, Detail: fmt.Sprintf("ask again with the same key (%v)", err), Moved: payment.MovedUnknown, Again: payment.RetryWait}
}

func (e *Engine) busy(ctx context.Context, register string, blocking *run) error {
	b := &BusyError{RegisterID: register}
	if p, err := e.Payment(ctx, blocking.id); err == nil {
		b.By = p
		return b
	}
	b.By = payment.Payment{ID: blocking.id, State: payment.State{Status: payment.InProgress, Stage: payment.StageAuthorizing},
		Request: payment.Request{RegisterID: register, Amount: payment.Amounts{Total: blocking.amount.Minor, Currency: blocking.amount.Currency}}}
	return b
}

// maxText bounds what a till may say in a free text, in bytes.
const maxText = 256

func (e *Engine) check(credential, key string, r *payment.Request) error {
	switch {
	case credential == "" || key == "" || len(credential) > 255 || len(key) > 255:
		return refuse(ErrInvalid, "", "credential and idempotency key have 1 to 255 bytes")
	case len(r.Reference) > maxText || len(r.SaleID) > maxText || len(r.Cashier) > maxText:
		return refuse(ErrInvalid, "", "reference, sale_id and cashier have at most %d bytes", maxText)
	case r.DeadlineS < 0 || r.DeadlineS > 600:
		return refuse(ErrInvalid, "", "deadline is 0 to 600 seconds")
	}
	if err := r.Amount.Check(); err != nil {
		return refuse(ErrInvalid, "", "amount: %v", err)
	}
	if r.Intent == "" {
		r.Intent = payment.IntentSale
	}
	switch r.Intent {
	case payment.IntentSale, payment.IntentAuth:
	default:
		return refuse(ErrInvalid, "", "intent %.20q: this version takes sale and auth", string(r.Intent))
	}
	if r.Capture != "" && r.Capture != "automatic" && r.Capture != "manual" {
		return refuse(ErrInvalid, "", "capture is automatic or manual")
	}
	if r.Capture == "manual" {
		r.Intent = payment.IntentAuth
	}
	switch r.Offline {
	case "", payment.OfflineForbid, payment.OfflineAllow:
	case payment.OfflineForce:
		return refuse(ErrInvalid, "", "offline: force is not offered: offline acceptance is off")
	default:
		return refuse(ErrInvalid, "", "offline is forbid, allow or force")
	}
	for _, entry := range r.Entry {
		switch entry {
		case "contact", "contactless", "swipe", "keyed":
		default:
			return refuse(ErrInvalid, "", "entry %.20q: use contact, contactless, swipe or keyed", entry)
		}
	}
	if t := r.Tender; t != nil && (t.Index < 1 || t.Of < t.Index) {
		return refuse(ErrInvalid, "", "tender: index is 1 to of")
	}
	return nil
}

// ended reports whether a record has come to its end.
func (e *Engine) ended(ctx context.Context, id string) bool {
	if p, err := e.Payment(ctx, id); err == nil {
		return p.State.Final()
	}
	o, err := e.Operation(ctx, id)
	return err == nil && o.State.Final()
}
