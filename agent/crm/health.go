package crm

import "time"

// health is what the last results say about the sink as a whole. It has no
// clock and no lock: the forwarder gives it the time and guards it.
type health struct {
	pace                    Pace
	breakAfter, rejectLimit int
	authPause, stopPause    time.Duration

	pausedUntil  time.Time
	code, reason string
	failed       int    // failures in a row of the sink
	refused      int    // refused credentials in a row
	rejects      int    // rejections in a row with rejectCode
	rejectCode   string // of the last rejection

	delivered, known, failures, dead uint64
	lastDelivered                    time.Time
}

// How long the sink pauses between tries while it rejects everything, and how
// long an item that it rejected waits at most for its next turn.
const (
	rejectPause = 30 * time.Second
	rejectPark  = 6 * time.Hour
)

// verdict is what to tell the outbox of an item.
type verdict struct {
	ack, dead bool
	at        time.Time
	attempts  int
}

// suspect reports whether one delivery at a time should find out how the sink is.
func (h *health) suspect() bool {
	return h.failed >= h.breakAfter || h.refused > 0 || h.rejects >= h.rejectLimit
}

// pause stops the sink until then; an earlier end never replaces a later one.
func (h *health) pause(until time.Time, r Result) {
	if until.After(h.pausedUntil) {
		h.pausedUntil = until
	}
	h.code, h.reason = r.Code, r.Reason
}

func (h *health) resume() {
	h.pausedUntil = time.Time{}
}

// judge takes a result for an item with so many attempts, and says what to do.
func (h *health) judge(now time.Time, attempts int, r Result) verdict {
	if r.Class != Accepted && r.Class != Duplicate {
		h.failures++
	}
	switch r.Class {
	case Accepted, Duplicate:
		h.delivered++
		if r.Class == Duplicate {
			h.known++
		}
		h.lastDelivered = now
		h.failed, h.refused, h.rejects, h.rejectCode = 0, 0, 0, ""
		if !now.Before(h.pausedUntil) { // else another delivery was told to pause
			h.code, h.reason = "", ""
		}
		return verdict{ack: true}

	case Throttled:
		wait := r.RetryAfter
		if wait <= 0 {
			wait = h.pace.after(1)
		}
		h.pause(now.Add(wait), r)
		return verdict{at: now.Add(wait), attempts: attempts}

	case AuthFailed:
		h.refused++
		p := h.pace
		p.First = min(h.authPause, p.Max)
		wait := max(p.after(h.refused), r.RetryAfter)
		h.pause(now.Add(wait), r)
		return verdict{at: now.Add(wait), attempts: attempts}

	case Stopped:
		h.refused++
		h.pause(now.Add(h.stopPause), r)
		return verdict{at: now.Add(h.stopPause), attempts: attempts}

	case Rejected:
		if r.Code == h.rejectCode {
			h.rejects++
		} else {
			h.rejects, h.rejectCode = 1, r.Code
		}
		if h.rejects <= h.rejectLimit {
			return verdict{dead: true}
		}
		// A missing field or permission on the other side rejects everything.
		// Rather than drain the queue into the dead letters, keep the items
		// and try others, until one is taken or a person looks.
		// An item that was refused waits ever longer, so that each of the
		// others gets its turn however many are refused in a row.
		wait := min(h.pace.after(h.rejects-h.rejectLimit), rejectPause)
		h.pause(now.Add(wait), r)
		return verdict{at: now.Add(min(wait<<min(attempts+1, 16), rejectPark)), attempts: attempts + 1}

	case Conflict:
		return verdict{at: now.Add(max(h.pace.after(attempts+1), r.RetryAfter)), attempts: attempts + 1}
	}

	// Unknown, Retry.
	h.failed++
	wait := max(h.pace.after(attempts+1), r.RetryAfter)
	if h.failed >= h.breakAfter {
		// The sink, not the item: what waits is due when the sink is tried
		// again, so that a backlog drains at once when it is back.
		wait = max(h.pace.after(h.failed-h.breakAfter+1), r.RetryAfter)
		h.pause(now.Add(wait), r)
	}
	return verdict{at: now.Add(wait), attempts: attempts + 1}
}
