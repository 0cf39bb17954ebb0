package server

import (
	"context"

	"tillbridge/agent/api"
	"tillbridge/agent/payment"
)

// Claim is an idempotency key in its scope. The engine commits it together
// with the record (R4).
type Claim struct {
	Credential string // the scope
	Key        string
	Digest     string // SHA-256 of method, path and meaning of the body, hex
}

// Engine is what the handlers need of the side that takes payments. Its errors
// carry a dotted code of the catalogue by a method Code() string; an error that
// concerns a payment may also have PaymentID() string, and device.busy
// Blocking() payment.Payment; any may have MoneyMoved() payment.Moved. Known
// codes: payment.not_found, refund.not_found, request.invalid,
// request.key_reused, device.busy, payment.too_late_to_cancel,
// payment.not_allowed, refund.not_allowed, register.unknown, register.closed,
// store.full, store.unavailable, store.record_unreadable, engine.stopping. What has
// another code, or none, is answered as internal.
//
// A replay is the same claim again: the engine starts nothing and returns the
// record's present state with replayed true.
type Engine interface {
	// StartPayment makes record, claim and event durable, starts the payment
	// and returns at once.
	StartPayment(ctx context.Context, c Claim, r payment.Request) (p payment.Payment, replayed bool, err error)
	Payment(ctx context.Context, id string) (payment.Payment, error)
	// Payments lists newest first.
	Payments(ctx context.Context, f Filter) ([]payment.Payment, error)
	// CancelPayment asks for an end. Its answer is the state so far; cancelling
	// what is cancelled already is no error.
	CancelPayment(ctx context.Context, c Claim, id string) (payment.Payment, error)
	VoidPayment(ctx context.Context, c Claim, id, why string) (o payment.Operation, replayed bool, err error)
	ResolvePayment(ctx context.Context, c Claim, id string, outcome payment.Status, evidence string) (payment.Payment, error)
	// StartRefund is linked when r.PaymentID is set. A zero r.Amount.Minor
	// means all that may still go back.
	StartRefund(ctx context.Context, c Claim, r Refund) (o payment.Operation, replayed bool, err error)
	Operation(ctx context.Context, id string) (payment.Operation, error)
	// Events returns at most limit entries of the log with Seq above after, in
	// order.
	Events(ctx context.Context, after uint64, limit int) ([]payment.Event, error)
	// Changed returns a channel that is closed at the next change of any record
	// or the log. Get it before looking.
	Changed() <-chan struct{}
}

// Refund is what a till asks to give back.
type Refund struct {
	PaymentID  string
	RegisterID string
	Amount     payment.Money
	Reference  string
	Why        string
}

// Filter selects payments; empty fields select all.
type Filter struct {
	Reference  string
	Credential string // with Key: the scope in which it is looked for; empty means any
	Key        string
	RegisterID string
	Status     string // a status, or "open": what has not ended
	After      string // id: those older than it
	Limit      int
}

// Control is what the command line may ask of a running agent.
type Control interface {
	Status(ctx context.Context) (api.Status, error)
	Devices(ctx context.Context) ([]api.Device, error)
	// DeviceInfo is one device, and every port with why it was taken or not.
	DeviceInfo(ctx context.Context, id string) (api.DeviceInfo, error)
	// DeviceTest asks the device who it is and how it is, and lets it show a text.
	DeviceTest(ctx context.Context, id string) (api.DeviceTest, error)
	// Rescan looks for devices now.
	Rescan(ctx context.Context) error
	QueueSummary(ctx context.Context) (api.QueueSummary, error)
	// QueueItems lists what waits or was put aside ("waiting", "dead", "" for
	// both), oldest first.
	QueueItems(ctx context.Context, state string, limit int) ([]api.QueueItem, error)
	QueueItem(ctx context.Context, id uint64) (api.QueueItem, error)
	// ResumeSink ends a pause of the CRM sink.
	ResumeSink(ctx context.Context) error
	// Trace starts or stops the protocol trace; an empty action only looks.
	Trace(ctx context.Context, r api.TraceRequest) (api.Trace, error)
	// Operations of a payment, for its timeline.
	Operations(ctx context.Context, paymentID string) ([]payment.Operation, error)
}
