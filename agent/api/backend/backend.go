// Package backend is the engine as the till API sees it: it joins
// [engine.Engine] to the interface that package server declares.
//
// [New] is all there is. The engine's errors pass as they are: their codes are
// those that package server knows.
package backend

import (
	"context"

	"tillbridge/agent/api/server"
	"tillbridge/agent/engine"
	"tillbridge/agent/payment"
)

// Backend satisfies [server.Engine].
type Backend struct{ e *engine.Engine }

var _ server.Engine = Backend{}

// New joins an engine.
func New(e *engine.Engine) Backend { return Backend{e} }

// StartPayment implements [server.Engine].
func (b Backend) StartPayment(ctx context.Context, c server.Claim, r payment.Request) (payment.Payment, bool, error) {
	return b.e.StartPayment(ctx, c.Credential, c.Key, c.Digest, r)
}

// Payment implements [server.Engine].
func (b Backend) Payment(ctx context.Context, id string) (payment.Payment, error) {
	return b.e.Payment(ctx, id)
}

// Payments implements [server.Engine]. A key without a scope is looked for in
// that of the control channel, for the engine finds keys in their scope only.
func (b Backend) Payments(ctx context.Context, f server.Filter) ([]payment.Payment, error) {
	if f.Key != "" && f.Credential == "" {
		f.Credential = "local"
	}
	return b.e.Payments(ctx, engine.Filter{Reference: f.Reference, Credential: f.Credential, Key: f.Key, RegisterID: f.RegisterID, Status: f.Status, After: f.After, Limit: f.Limit, Newest: true})
}

// CancelPayment implements [server.Engine]. A cancel moves no money and is
// idempotent by itself, so that its key is not kept.
func (b Backend) CancelPayment(ctx context.Context, c server.Claim, id string) (payment.Payment, error) {
	return b.e.Cancel(ctx, c.Credential, id)
}

// VoidPayment implements [server.Engine].
func (b Backend) VoidPayment(ctx context.Context, c server.Claim, id, why string) (payment.Operation, bool, error) {
	return b.e.Void(ctx, c.Credential, c.Key, c.Digest, engine.OperationRequest{PaymentID: id, Why: why})
}

// ResolvePayment implements [server.Engine]. Only a payment in doubt can be
// resolved, and then it no longer is: the decision cannot be taken twice.
func (b Backend) ResolvePayment(ctx context.Context, c server.Claim, id string, outcome payment.Status, evidence string) (payment.Payment, error) {
	return b.e.Resolve(ctx, c.Credential, id, outcome, evidence)
}

// StartRefund implements [server.Engine].
func (b Backend) StartRefund(ctx context.Context, c server.Claim, r server.Refund) (payment.Operation, bool, error) {
	return b.e.Refund(ctx, c.Credential, c.Key, c.Digest, engine.OperationRequest{PaymentID: r.PaymentID, Amount: r.Amount.Minor, Currency: r.Amount.Currency, Reference: r.Reference, Why: r.Why})
}

// Operation implements [server.Engine].
func (b Backend) Operation(ctx context.Context, id string) (payment.Operation, error) {
	return b.e.Operation(ctx, id)
}

// Events implements [server.Engine].
func (b Backend) Events(ctx context.Context, after uint64, limit int) ([]payment.Event, error) {
	return b.e.Events(ctx, after, limit)
}

// Changed implements [server.Engine].
func (b Backend) Changed() <-chan struct{} { return b.e.Changed() }
