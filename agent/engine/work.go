package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tillbridge/agent/payment"
	"tillbridge/queue"
)

// Names of index entries of records. Values are ids, or hashes where a till
// chose the text.
const (
	indexKind      = "kind"      // "payment" or "operation"
	indexOpen      = "open"      // "1" while not final
	indexOpenLane  = "open_lane" // register id, while not final
	indexLane      = "lane"      // register id, of every record
	indexRegister  = "register"  // register id, of payments
	indexStatus    = "status"    // of payments
	indexReference = "reference" // hash of the till's reference, of payments
	indexKey       = "key"       // hash of the idempotency key
	indexPayment   = "payment"   // payment id, of operations
)

const (
	kindPayment   = "payment"
	kindOperation = "operation"
)

// stored is the sealed form of a record. Mark names the write: after a commit
// whose outcome is unknown it tells whether this very write is there.
type stored struct {
	Form      int                `json:"form"`
	Mark      string             `json:"mark"`
	Payment   *payment.Payment   `json:"payment,omitempty"`
	Operation *payment.Operation `json:"operation,omitempty"`
	// Private is the engine's own, never shown.
	Private private `json:"private,omitzero"`
}

// private is what the engine keeps beside a record.
type private struct {
	// Before is the terminal's last transaction before this one began.
	Before *payment.TerminalRef `json:"before,omitempty"`
	// BeforeNone: the terminal said it had none.
	BeforeNone bool `json:"before_none,omitempty"`
	// OneTap: contactless or swiped; no second cryptogram is due.
	OneTap bool `json:"one_tap,omitempty"`
	// TerminalKind: the device authorises by itself.
	TerminalKind bool `json:"terminal_kind,omitempty"`
	// Answer is what the terminal said, stored before it was told that we have it.
	Answer *terminalWord `json:"answer,omitempty"`
	// Order is the key of the payment's events since its first doubt or end:
	// later ones must not overtake them, though the card becomes known meanwhile.
	Order string `json:"order,omitempty"`
	// TakenBack is what the terminal said of its last reversal of the payment,
	// stored before it was told that we have it.
	TakenBack *terminalWord `json:"taken_back,omitempty"`
	// Tries counts the reversals sent to a terminal.
	Tries int `json:"tries,omitempty"`
}

// held is a record inside one commit.
type held struct {
	stored
	id      string
	version uint64
	was     payment.State
	fresh   bool
}

// work is one commit.
type work struct {
	e    *Engine
	tx   *queue.Tx
	mark string
	at   time.Time
}

func hashIndex(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// get reads and unseals a record.
func (e *Engine) decode(r queue.Record) (*held, error) {
	plain, err := e.o.Sealer.Unseal(r.ID, r.Body)
	if err != nil {
		return nil, &Error{Err: ErrRecord, ID: r.ID, Detail: "it does not open with the store key", Moved: payment.MovedUnknown, Again: payment.RetryForbidden}
	}
	h := &held{id: r.ID, version: r.Version}
	if err := json.Unmarshal(plain, &h.stored); err != nil || h.Form != 1 || (h.Payment == nil) == (h.Operation == nil) {
		return nil, &Error{Err: ErrRecord, ID: r.ID, Detail: "its form is not known to this version", Moved: payment.MovedUnknown, Again: payment.RetryForbidden}
	}
	h.was = h.state()
	return h, nil
}

func (h *held) state() payment.State {
	if h.Payment != nil {
		return h.Payment.State
	}
	return h.Operation.State
}

func (w *work) get(id string) (*held, error) {
	r, err := w.tx.Get(id)
	if errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrInvalid) {
		return nil, refuse(ErrNotFound, "", "no record %.40q", id)
	}
	if err != nil {
		return nil, err
	}
	return w.e.decode(r)
}

func (w *work) payment(id string) (*held, *payment.Payment, error) {
	h, err := w.get(id)
	if err != nil {
		return nil, nil, err
	}
	if h.Payment == nil {
		return nil, nil, refuse(ErrNotFound, "", "%s is not a payment", id)
	}
	return h, h.Payment, nil
}

func (w *work) operation(id string) (*held, *payment.Operation, error) {
	h, err := w.get(id)
	if err != nil {
		return nil, nil, err
	}
	if h.Operation == nil {
		return nil, nil, refuse(ErrNotFound, "", "%s is not an operation", id)
	}
	return h, h.Operation, nil
}

// put seals and stores a record, and appends its event when its state changed:
// one commit holds both, or neither.
func (w *work) put(h *held) error {
	h.Form, h.Mark = 1, w.mark
	if p := h.Payment; p != nil && h.Private.Order == "" {
		switch p.State.Status {
		case payment.Pending, payment.InProgress, payment.RequiresConfirmation:
		default:
			h.Private.Order = p.OrderKey()
		}
	}
	plain, err := json.Marshal(h.stored)
	if err != nil {
		return fmt.Errorf("engine: encoding %s: %w", h.id, err)
	}
	body, err := w.e.o.Sealer.Seal(h.id, plain)
	if err != nil {
		return err
	}
	r, err := w.tx.Put(queue.Record{ID: h.id, Version: h.version, Body: body, Index: h.index()})
	if err != nil {
		return err
	}
	h.version = r.Version
	if h.state() == h.was && !h.fresh {
		return nil
	}
	if err := w.emit(h); err != nil {
		return err
	}
	h.was, h.fresh = h.state(), false
	return nil
}

func (h *held) index() map[string]string {
	if p := h.Payment; p != nil {
		m := map[string]string{indexKind: kindPayment, indexLane: p.Request.RegisterID, indexRegister: p.Request.RegisterID,
			indexStatus: string(p.State.Status), indexKey: hashIndex(p.Key)}
		if p.Request.Reference != "" {
			m[indexReference] = hashIndex(p.Request.Reference)
		}
		if p.State.Open() || p.Reversal != nil && p.Reversal.Again {
			m[indexOpen], m[indexOpenLane] = "1", p.Request.RegisterID
		}
		return m
	}
	o := h.Operation
	m := map[string]string{indexKind: kindOperation, indexLane: o.RegisterID, indexKey: hashIndex(o.Key)}
	if o.PaymentID != "" {
		m[indexPayment] = o.PaymentID
	}
	if o.State.Open() || o.Reversal != nil && o.Reversal.Again {
		m[indexOpen], m[indexOpenLane] = "1", o.RegisterID
	}
	return m
}

// order is the key under which a payment's events keep their order.
func (h *held) order() string {
	if h.Private.Order != "" {
		return h.Private.Order
	}
	return h.Payment.OrderKey()
}

// emit appends the event of a record's arrival in its state.
func (w *work) emit(h *held) error {
	id := w.e.newID("evt_", w.at)
	var ev payment.Event
	order := h.id
	if p := h.Payment; p != nil {
		t := payment.EventFor(p.State)
		switch {
		case h.fresh:
			t = payment.EventCreated
		case h.was.Status == p.State.Status:
			t = payment.EventUpdated // another stage of what was told already
		}
		ev, order = payment.EventOf(id, t, p, w.at), h.order()
	} else {
		o := h.Operation
		var p *payment.Payment
		if o.PaymentID != "" {
			hp, got, err := w.payment(o.PaymentID)
			if err != nil {
				return err
			}
			p, order = got, hp.order()
		}
		t := payment.OperationEventFor(o.Kind, o.State)
		if !h.fresh && h.was.Status == o.State.Status {
			t = payment.EventType(string(o.Kind) + ".updated")
		}
		ev = payment.OperationEventOf(id, t, o, p, w.at)
	}
	plain, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("engine: encoding an event: %w", err)
	}
	body, err := w.e.o.Sealer.Seal(payment.Topic, plain)
	if err != nil {
		return err
	}
	_, err = w.tx.Append(payment.Topic, order, body)
	return err
}

// DecodeEvent opens a message of the log [payment.Topic]. Its Seq is the
// message's. It is what the forwarder and other consumers of the log use.
func DecodeEvent(s Sealer, m queue.Message) (payment.Event, error) {
	plain, err := s.Unseal(payment.Topic, m.Body)
	if err != nil {
		return payment.Event{}, fmt.Errorf("engine: event %d: %w", m.Seq, err)
	}
	var ev payment.Event
	if err := json.Unmarshal(plain, &ev); err != nil {
		return payment.Event{}, fmt.Errorf("engine: event %d does not decode: %w", m.Seq, errors.Join(ErrRecord))
	}
	ev.Seq = m.Seq
	return ev, nil
}

// stan draws the next trace number of a terminal, 1 to 999999: it is stored in
// the commit that uses it and does not come again within 999999 requests.
func (w *work) stan(terminal string) (int, error) {
	n, err := w.tx.Add("stan/"+terminal, 1)
	if err != nil {
		return 0, err
	}
	return int((n-1)%999999) + 1, nil
}
