package agent

import (
	"context"

	"tillbridge/agent/api/server"
	"tillbridge/agent/engine"
	"tillbridge/agent/payment"
)

// tillEngine is the engine as the API server wants it.
type tillEngine struct{ *engine.Engine }

var _ server.Engine = tillEngine{}

func (t tillEngine) StartPayment(ctx context.Context, c server.Claim, r payment.Request) (payment.Payment, bool, error) {
	return t.Engine.StartPayment(ctx, c.Credential, c.Key, c.Digest, r)
}

func (t tillEngine) Payments(ctx context.Context, f server.Filter) ([]payment.Payment, error) {
	return t.Engine.Payments(ctx, engine.Filter{
		Reference: f.Reference, Credential: f.Credential, Key: f.Key, RegisterID: f.RegisterID,
		Status: f.Status, After: f.After, Limit: f.Limit, Newest: true,
	})
}

func (t tillEngine) CancelPayment(ctx context.Context, c server.Claim, id string) (payment.Payment, error) {
	return t.Engine.Cancel(ctx, c.Credential, id)
}

func (t tillEngine) VoidPayment(ctx context.Context, c server.Claim, id, why string) (payment.Operation, bool, error) {
	return t.Engine.Void(ctx, c.Credential, c.Key, c.Digest, engine.OperationRequest{PaymentID: id, Why: why})
}

func (t tillEngine) ResolvePayment(ctx context.Context, c server.Claim, id string, outcome payment.Status, evidence string) (payment.Payment, error) {
	return t.Engine.Resolve(ctx, c.Credential, id, outcome, evidence)
}

func (t tillEngine) StartRefund(ctx context.Context, c server.Claim, r server.Refund) (payment.Operation, bool, error) {
	return t.Engine.Refund(ctx, c.Credential, c.Key, c.Digest, engine.OperationRequest{
		PaymentID: r.PaymentID, Amount: r.Amount.Minor, Currency: r.Amount.Currency, Reference: r.Reference, Why: r.Why,
	})
}
