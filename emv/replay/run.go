package replay

import (
	"context"
	"errors"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/contact"
	"tillbridge/emv/oda"
)

// Options of [Run]. The zero value and nil are valid.
type Options struct {
	// Strict takes the recording's commands in their order, byte for byte.
	Strict bool
	// Terminal are further data objects of the terminal as TLV, below what the
	// recording itself shows.
	Terminal []byte
	// Keys are the certification authorities' keys; nil means none, and data
	// authentication then fails.
	Keys *oda.Store
}

// Outcomes of a [Report] beside those of [emv.Decision].
const (
	// OutcomeEnded: the recording ends (or goes another way) before the kernel
	// comes to a decision.
	OutcomeEnded = "recording_ended"
	// OutcomeUnusable: the card cannot be used, for the reason given.
	OutcomeUnusable = "card_unusable"
	// OutcomeAnswered: a command outside the flow, sent as it was recorded.
	OutcomeAnswered = "answered"
	// OutcomeError: the card broke off, or the recording is damaged.
	OutcomeError = "error"
)

// Report is what a replay found. Commands are shown without data wherever a
// secret could be in them.
type Report struct {
	Name    string `json:"name"`
	Entry   string `json:"entry_step"`
	Outcome string `json:"outcome"`
	// Step is where it ended.
	Step string `json:"ended_at"`
	// LastCommand is the last one that the recording answered, at its level.
	LastCommand string `json:"last_command"`
	Sent        int    `json:"commands_sent"`
	Unmatched   int    `json:"commands_unmatched"`
	// Missing are the commands that the recording does not hold.
	Missing []string `json:"missing,omitempty"`
	// Unused is how many recorded exchanges the kernel never asked for.
	Unused      int          `json:"exchanges_unused"`
	Records     int          `json:"records_read"`
	Application string       `json:"application,omitempty"`
	TVR         string       `json:"tvr,omitempty"`
	TSI         string       `json:"tsi,omitempty"`
	CVM         string       `json:"cvm,omitempty"`
	CID         string       `json:"cid,omitempty"`
	ARC         string       `json:"arc,omitempty"`
	Reversal    bool         `json:"reversal_needed,omitempty"`
	Error       string       `json:"error,omitempty"`
	Reasons     []emv.Reason `json:"reasons"`
}

// Run replays one recording. It always ends: the card answers at once and no
// exchange is used twice.
func Run(ctx context.Context, r Recording, o *Options) Report {
	if o == nil {
		o = &Options{}
	}
	rep := Report{Name: r.Name}
	logical := r.commands()
	p := &player{list: r.Exchanges, used: make([]bool, len(r.Exchanges)), strict: o.Strict, tpdu: r.TPDU, secret: learn(logical)}
	var card emv.Transceiver = p
	if r.TPDU {
		card = apdu.T0{Card: apdu.T0Bytes{Line: p}}
	}
	run := &replay{plan: newPlan(r, logical, o), player: p, card: card, report: &rep}
	run.do(ctx)
	rep.LastCommand, rep.Sent, rep.Unmatched, rep.Missing = p.last, p.sent, p.unmatched, p.missing
	for _, used := range p.used {
		if !used {
			rep.Unused++
		}
	}
	if rep.Reasons == nil {
		rep.Reasons = []emv.Reason{}
	}
	return rep
}

type replay struct {
	plan   *plan
	player *player
	card   emv.Transceiver
	report *Report
}

func (r *replay) do(ctx context.Context) {
	rep, plan := r.report, r.plan
	rep.Entry = plan.entryName()
	// What stands before the first step of the flow is sent as it was recorded.
	status := apdu.Status(0)
	follow := apdu.Follow{Card: r.card}
	for _, raw := range plan.before {
		answer, err := follow.Transmit(ctx, raw)
		if errors.Is(err, apdu.ErrCommand) || errors.Is(err, apdu.ErrTooLong) {
			answer, err = r.player.Transmit(ctx, raw) // no APDU: as it is
		}
		if err != nil {
			r.fail("transport", err)
			if plan.fragment == nil {
				return
			}
			continue
		}
		if a, err := apdu.ParseResponse(answer); err == nil {
			status = a.Status
		}
	}
	if plan.fragment == nil {
		if rep.Outcome == "" {
			rep.Outcome, rep.Step = OutcomeAnswered, "transport"
			rep.Reasons = append(rep.Reasons, emv.Reason{Step: "transport", Text: "the card answered with status " + status.String(), Ref: "B1 9, 11"})
		}
		return
	}
	rep.Outcome, rep.Step, rep.Error = "", "", ""
	s, err := contact.New(r.card, plan.config(r))
	if err != nil {
		r.fail("configuration", err)
		return
	}
	defer func() {
		rep.Reasons = append(rep.Reasons, s.Reasons()...)
		rep.Records = s.Records()
		if aid := s.Application().AID; aid != nil {
			rep.Application = hexText(aid)
		}
	}()
	_, out, err := s.Enter(ctx, plan.terms, *plan.fragment)
	if err != nil {
		r.fail("", err)
		return
	}
	if plan.fragment.Entry == contact.EntryAC {
		r.take(out, string(plan.fragment.Entry))
		return
	}
	if out, err = s.Authorize(ctx, plan.terms.Amounts); err != nil {
		r.fail("", err)
		return
	}
	r.take(out, "generate ac")
	if out.Decision != emv.OnlineRequest || plan.host == nil {
		return
	}
	last, err := s.Complete(ctx, *plan.host)
	if err != nil {
		r.fail("", err)
		rep.Reversal = last.ReversalNeeded
		return
	}
	r.take(last, "issuer")
}

// take puts an outcome into the report.
func (r *replay) take(out emv.Outcome, step string) {
	rep := r.report
	rep.Outcome, rep.Step = string(out.Decision), step
	rep.TVR, rep.TSI, rep.CVM, rep.CID, rep.ARC, rep.Reversal = out.TVR, out.TSI, out.CVMText, out.CID, out.ARC, out.ReversalNeeded
}

// fail puts an error into the report.
func (r *replay) fail(step string, err error) {
	rep := r.report
	rep.Outcome, rep.Step, rep.Error = OutcomeError, step, "the exchange cannot be read"
	if e, ok := errors.AsType[*contact.Error](err); ok {
		rep.Step, rep.Error = e.Step, e.Error()
	}
	switch {
	case errors.Is(err, contact.ErrNotForwarded):
		rep.Outcome, rep.Error = OutcomeEnded, ""
	case errors.Is(err, emv.ErrCardUnusable):
		rep.Outcome = OutcomeUnusable
	case errors.Is(err, apdu.ErrResponse), errors.Is(err, apdu.ErrLoop), errors.Is(err, apdu.ErrProcedure):
		rep.Outcome, rep.Error = OutcomeUnusable, "the card's answer is malformed"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		rep.Error = "the replay was stopped"
	}
}

// day is the date of recordings that show none.
var day = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
