package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tillbridge/agent/payment"
	"tillbridge/queue"
)

// recover is R2: every record past R1 without a result becomes in doubt before
// anything else may run on its device, and is then settled in the background.
// A record that cannot be read closes its own register and no other.
func (e *Engine) recover(ctx context.Context) error {
	for id, l := range e.lanes {
		if damaged, err := e.damaged(ctx, id); err != nil {
			return err
		} else if damaged {
			l.close("an open record of this register is damaged in the store: keep a copy of the store for support; other registers work")
		}
	}
	records, err := e.listOpen(ctx, indexOpen, "1")
	if err != nil {
		return err
	}
	for _, r := range records {
		l := e.lanes[r.Index[indexLane]]
		h, err := e.decode(r)
		if err != nil {
			e.log.Error("an open record cannot be read; its register is closed", "id", r.ID, "register", r.Index[indexLane], "err", err)
			if l != nil {
				l.close(fmt.Sprintf("open record %s cannot be read (%v): nothing may run here until it is settled; other registers work", r.ID, err))
			}
			continue
		}
		if err := e.recoverRecord(ctx, l, h); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("engine: settling what was open: %w", err)
			}
			e.log.Error("an open record could not be settled at start; its register is closed", "id", r.ID, "err", err)
			if l != nil {
				l.close(fmt.Sprintf("open record %s could not be settled: %v", r.ID, err))
			}
		}
	}
	return nil
}

// listOpen pages through an index, and past records that are damaged.
func (e *Engine) listOpen(ctx context.Context, index, value string) ([]queue.Record, error) {
	var out []queue.Record
	q := queue.Query{Index: index, Value: value, Limit: 1}
	skipped := 0
	for {
		var page []queue.Record
		err := e.o.Store.View(ctx, func(tx *queue.Tx) (err error) {
			page, err = tx.List(q)
			return err
		})
		switch {
		case errors.Is(err, queue.ErrCorrupt) && skipped < 1_000_000:
			q.After++ // step over the damaged one
			skipped++
			continue
		case err != nil:
			return nil, fmt.Errorf("engine: listing open records: %w", err)
		case len(page) == 0:
			if skipped > 0 {
				e.log.Error("damaged open records were left as they are", "index", index)
			}
			return out, nil
		}
		out = append(out, page...)
		q.After = page[len(page)-1].Number
	}
}

func (e *Engine) damaged(ctx context.Context, register string) (bool, error) {
	err := e.o.Store.View(ctx, func(tx *queue.Tx) error {
		q := queue.Query{Index: indexOpenLane, Value: register}
		for {
			page, err := tx.List(q)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return nil
			}
			q.After = page[len(page)-1].Number
		}
	})
	if errors.Is(err, queue.ErrCorrupt) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("engine: reading open records: %w", err)
	}
	return false, nil
}

func (e *Engine) recoverRecord(ctx context.Context, l *lane, h *held) error {
	if r := h.reversal(); r != nil && r.Again {
		if e.o.Link != nil {
			e.spawn(func() { e.repeatReversal(h.id) })
		}
		return nil
	}
	if h.Operation != nil {
		return e.recoverOperation(ctx, l, h)
	}
	p, err := e.change(ctx, h.id, func(w *work, h *held, p *payment.Payment) error {
		to, change := payment.AfterRestart(p.State, p.Facts)
		if !change {
			return nil
		}
		if to.Status == payment.Failed {
			p.Code, p.Reason = "agent.restarted", "the agent stopped before anything was sent"
			return p.Move(to, 0, w.at, p.Reason)
		}
		if h.Private.TerminalKind && to.Stage == payment.StageQueryingHost {
			to.Stage = payment.StageQueryingDevice
		}
		p.Code, p.Reason = "agent.restarted", "the agent stopped while the payment was being authorised; it is being settled"
		if err := p.Move(to, 0, w.at, "found open at start"); err != nil {
			return err
		}
		if !p.Facts.Has(payment.Sent) {
			// The record of "sent" is durable before the first byte: without it
			// nothing that can approve has left.
			p.Reason = "the agent stopped before anything was sent"
			return p.Move(payment.State{Status: payment.Failed, Stage: payment.StageDevice}, 0, w.at, p.Reason)
		}
		return nil
	})
	if err != nil || p.State.Status != payment.InDoubt {
		return err
	}
	if p.Facts.Has(payment.Changing) && !p.Facts.Has(payment.ReversalDurable) {
		return nil // its void or capture is an open record of its own
	}
	job := &run{id: p.ID, credential: p.Credential, key: p.Key, amount: p.Request.Amount.Money(), started: make(chan struct{}), sent: true}
	close(job.started)
	switch {
	case p.State.Stage == payment.StageHeld && h.Private.TerminalKind:
		l.holdFor(p.ID)
	case p.State.Stage == payment.StageHeld:
	case h.Private.TerminalKind:
		e.resumeTerminal(l, job, h.id)
	case e.o.Link == nil:
		e.log.Error("no acquirer is configured, and a payment waits for its answer; its register is closed until a person resolves it", "id", p.ID)
		l.holdFor(p.ID)
	case p.State.Stage == payment.StageReversing:
		e.spawn(func() { e.repeatReversal(p.ID) })
	default:
		if l != nil {
			l.reserve(job)
		}
		e.spawn(func() {
			if l != nil {
				defer l.release(job)
			}
			e.settleHost(l, p.ID)
		})
	}
	return nil
}

func (e *Engine) recoverOperation(ctx context.Context, l *lane, h *held) error {
	o, err := e.changeOperation(ctx, h.id, func(w *work, o *payment.Operation, h *held, p *payment.Payment) error {
		to, change := payment.OperationAfterRestart(o.State, o.Facts)
		if !change {
			return nil
		}
		o.Code, o.Reason = "agent.restarted", "the agent stopped before anything was sent"
		if to.Status == payment.InDoubt {
			o.Reason = "the agent stopped while this was being authorised; it is being settled"
			if h.Private.TerminalKind {
				to.Stage = payment.StageQueryingDevice
			}
		}
		if err := o.Move(to, 0, w.at, o.Reason); err != nil {
			return err
		}
		if to.Status == payment.InDoubt {
			return mirror(o, p, to, w.at, "its "+string(o.Kind)+" was found open at start")
		}
		return book(o, p, w.at)
	})
	if err != nil || o.State.Status != payment.InDoubt {
		return err
	}
	job := &run{id: o.ID, credential: o.Credential, key: o.Key, amount: o.Amount, started: make(chan struct{}), sent: true}
	close(job.started)
	switch {
	case o.State.Stage == payment.StageHeld && h.Private.TerminalKind:
		l.holdFor(o.ID)
	case o.State.Stage == payment.StageHeld:
	case h.Private.TerminalKind:
		e.resumeTerminal(l, job, h.id)
	case e.o.Link == nil:
		e.log.Error("no acquirer is configured, and an operation waits for its answer; its register is closed until a person resolves it", "id", o.ID)
		l.holdFor(o.ID)
	case o.State.Stage == payment.StageReversing:
		e.spawn(func() { e.repeatReversal(o.ID) })
	default:
		e.spawn(func() { e.settleOperation(o.ID) })
	}
	return nil
}

// holdFor closes a lane until a person resolves a record.
func (l *lane) holdFor(id string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.heldBy, id) {
		l.heldBy = append(l.heldBy, id)
	}
}
