package crm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Ledger is the sum of the books.
type Ledger struct {
	Delivered    int              `json:"delivered"`    // effects
	Redelivered  int              `json:"redelivered"`  // requests whose id was known
	Duplicates   int              `json:"duplicates"`   // effects applied twice, under two ids
	OutOfOrder   int              `json:"out_of_order"` // effects older than one of the same customer
	Rejected     int              `json:"rejected"`
	Unauthorized int              `json:"unauthorized"`
	Throttled    int              `json:"throttled"`
	Errors       int              `json:"errors"`
	CardData     int              `json:"card_data"` // bodies that held a card number
	Customers    int              `json:"customers"`
	Net          map[string]int64 `json:"net"` // minor units per currency: taken less given back
}

// Effect is what one event did.
type Effect struct {
	ID       string    `json:"id"`
	Source   string    `json:"source"`
	Type     string    `json:"type"`
	Subject  string    `json:"subject,omitempty"`
	Customer string    `json:"customer,omitempty"`
	Sequence uint64    `json:"sequence,omitempty"`
	Currency string    `json:"currency,omitempty"`
	Change   int64     `json:"change"` // minor units
	Received time.Time `json:"received"`
}

// books is the ledger, its effects and their file.
type books struct {
	path string

	mu      sync.Mutex
	sum     Ledger
	effects []Effect
	ids     map[string]bool
	done    map[string]bool   // what happened, by meaning instead of id
	last    map[string]uint64 // highest sequence by source and customer
	taken   map[string]int64  // what a payment brought, for a void
}

func openBooks(path string) (*books, error) {
	b := &books{path: path, sum: Ledger{Net: map[string]int64{}}, ids: map[string]bool{}, done: map[string]bool{}, last: map[string]uint64{}, taken: map[string]int64{}}
	if path == "" {
		return b, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read books: %w", err)
	}
	var file bookFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read books: %w", err)
	}
	for _, e := range file.Effects {
		b.enter(e)
	}
	b.sum = file.Ledger
	if b.sum.Net == nil {
		b.sum.Net = map[string]int64{}
	}
	return b, nil
}

type bookFile struct {
	Ledger  Ledger   `json:"ledger"`
	Effects []Effect `json:"effects"`
}

// apply enters an event once. It reports whether its id was known.
func (b *books) apply(ev event) (known bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ids[ev.Source+"\x00"+ev.ID] {
		b.sum.Redelivered++
		return true, b.save()
	}
	seq, _ := strconv.ParseUint(ev.Sequence, 10, 64) // checked when decoded
	e := Effect{ID: ev.ID, Source: ev.Source, Type: ev.Type, Subject: ev.Subject, Customer: ev.PartitionKey, Sequence: seq, Currency: ev.Data.Currency, Change: b.change(ev), Received: time.Now().UTC()}
	b.enter(e)
	return false, b.save()
}

// change is what an event does to the till's takings. A void gives back what
// the payment brought, as far as these books know of it.
func (b *books) change(ev event) int64 {
	amount := int64(0)
	if ev.Data.Amount != nil {
		amount = *ev.Data.Amount
	}
	if ev.Data.Approved != nil && *ev.Data.Approved != 0 {
		amount = *ev.Data.Approved
	}
	switch ev.Type {
	case "pos.payment.approved":
		return amount
	case "pos.payment.refunded":
		return -amount
	case "pos.payment.voided", "pos.payment.reversed":
		payment := ev.Data.OriginalPaymentID
		if payment == "" {
			payment = ev.Data.PaymentID
		}
		if payment == "" {
			payment = ev.Subject
		}
		return -b.taken[ev.Source+"\x00"+payment]
	}
	return 0
}

// enter adds an effect to every index and sum.
func (b *books) enter(e Effect) {
	b.ids[e.Source+"\x00"+e.ID] = true
	b.effects = append(b.effects, e)
	b.sum.Delivered++
	meaning := e.Source + "\x00" + e.Type + "\x00" + e.Subject
	if b.done[meaning] {
		b.sum.Duplicates++
	}
	b.done[meaning] = true
	who := e.Source + "\x00" + e.Customer
	if e.Customer != "" && e.Sequence != 0 {
		if _, seen := b.last[who]; !seen {
			b.sum.Customers++
		}
		if e.Sequence < b.last[who] {
			b.sum.OutOfOrder++
		}
		b.last[who] = max(b.last[who], e.Sequence)
	}
	switch e.Type {
	case "pos.payment.approved":
		b.taken[e.Source+"\x00"+e.Subject] = e.Change
	case "pos.payment.voided", "pos.payment.reversed":
		b.taken[e.Source+"\x00"+e.Subject] = 0
	}
	if e.Currency != "" && e.Change != 0 {
		b.sum.Net[e.Currency] += e.Change
	}
}

// save replaces the file as a whole.
func (b *books) save() error {
	if b.path == "" {
		return nil
	}
	text, err := json.MarshalIndent(bookFile{b.sum, b.effects}, "", " ")
	if err != nil {
		return fmt.Errorf("write books: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(b.path), ".books-*")
	if err != nil {
		return fmt.Errorf("write books: %w", err)
	}
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), b.path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("write books: %w", err)
	}
	return nil
}

func (b *books) count(f func(*Ledger)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.sum)
}

func (b *books) ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.sum
	l.Net = make(map[string]int64, len(b.sum.Net))
	maps.Copy(l.Net, b.sum.Net)
	return l
}

func (b *books) list() []Effect {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Effect(nil), b.effects...)
}
