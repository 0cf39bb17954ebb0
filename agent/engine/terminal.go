package engine

import (
	"context"

	"tillbridge/agent/payment"
	"tillbridge/drivers"
)

func (e *Engine) payAtTerminal(ctx context.Context, l *lane, job *run, p payment.Payment, d drivers.PaymentTerminal) {
	e.end(l, p.ID, payment.State{Status: payment.Failed, Stage: payment.StageConfig}, 0, because("device.no_payments", "not built yet"))
}

func (e *Engine) runAtTerminal(l *lane, job *run, o payment.Operation) {}

func (e *Engine) resumeTerminal(l *lane, job *run, id string) {}
