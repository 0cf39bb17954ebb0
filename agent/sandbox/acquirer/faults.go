package acquirer

import (
	"context"
	"fmt"
	"time"
)

// Fault is something that the host does wrong, or late, on command. It holds
// for Count messages of the class On, then is gone.
type Fault struct {
	// Cmd is one of:
	//
	//	late        answer after MS milliseconds
	//	hold        answer when Release is called
	//	silent      book, and answer nothing
	//	lost        neither book nor answer
	//	double      answer twice
	//	wrong_stan  answer with another STAN
	//	wrong_terminal  answer for another terminal
	//	wrong_arpc  answer the card's cryptogram with one of another key
	//	decline     answer Code, book a decline
	//	partial     approve Amount, if the request allows it
	//	drop_before close the connection before booking
	//	drop_after  close the connection after booking, without an answer
	//	garbage     book, and answer bytes that are no message
	//	half        book, and close in the middle of the answer
	Cmd string `json:"cmd"`
	// On is "financial" (01xx, 02xx; the default), "reversal", "inquiry", "echo"
	// or "any".
	On     string `json:"on,omitempty"`
	Count  int    `json:"count,omitempty"` // 1 when zero; below zero: until Clear
	MS     int    `json:"ms,omitempty"`
	Code   string `json:"code,omitempty"`
	Amount int64  `json:"amount,omitempty"` // minor units
}

var faultNames = map[string]bool{"late": true, "hold": true, "silent": true, "lost": true, "double": true, "wrong_stan": true,
	"wrong_terminal": true, "wrong_arpc": true, "decline": true, "partial": true, "drop_before": true, "drop_after": true, "garbage": true, "half": true}

// Inject arms a fault. Faults of one class are used in the order given.
func (h *Host) Inject(f Fault) error {
	if !faultNames[f.Cmd] {
		return fmt.Errorf("sandbox: no fault is called %q", f.Cmd)
	}
	switch f.On {
	case "":
		f.On = "financial"
	case "financial", "reversal", "inquiry", "echo", "any":
	default:
		return fmt.Errorf("sandbox: a fault cannot be on %q: use financial, reversal, inquiry, echo or any", f.On)
	}
	switch {
	case f.Cmd == "decline" && len(f.Code) != 2:
		return fmt.Errorf("sandbox: decline needs a code of two characters")
	case f.Cmd == "partial" && f.Amount <= 0:
		return fmt.Errorf("sandbox: partial needs an amount")
	case f.MS < 0 || f.MS > 600000:
		return fmt.Errorf("sandbox: late takes 0 to 600000 ms")
	}
	if f.Count == 0 {
		f.Count = 1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, &f)
	return nil
}

// Clear forgets all faults and releases what is held.
func (h *Host) Clear() {
	h.mu.Lock()
	h.faults = nil
	h.mu.Unlock()
	h.Release()
}

// Release lets held answers go. Their connections may be gone.
func (h *Host) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.gate)
	h.gate = make(chan struct{})
}

// SetDown closes all connections and refuses new ones while down is true.
func (h *Host) SetDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
	if down {
		for c := range h.conns {
			c.Close()
		}
	}
}

// SetPIN tells the host the PIN of a card; a card that it was not told of may
// use any. The number must be a published test number.
func (h *Host) SetPIN(pan, pin string) {
	h.books.mu.Lock()
	token, _ := h.books.token(pan)
	h.books.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins[token] = pin
}

// Books returns the ledger.
func (h *Host) Books() *Books { return h.books }

// next takes the fault for a message, or nil, with the gate of a held answer.
func (h *Host) next(m message) (*Fault, <-chan struct{}) {
	on := map[string]string{"01": "financial", "02": "financial", "04": "reversal", "06": "inquiry", "08": "echo"}[m.mti[:2]]
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range h.faults {
		if f.On != on && f.On != "any" {
			continue
		}
		if f.Count--; f.Count == 0 {
			h.faults = append(h.faults[:i:i], h.faults[i+1:]...)
		}
		got := *f
		return &got, h.gate
	}
	return nil, nil
}

// pause waits as the fault says; false means that the host is stopping.
func pause(ctx context.Context, f *Fault, gate <-chan struct{}) bool {
	switch f.Cmd {
	case "late":
		t := time.NewTimer(time.Duration(f.MS) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	case "hold":
		select {
		case <-gate:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
