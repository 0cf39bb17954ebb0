package zvt

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Kinds of a [Record].
const (
	KindSale        = "sale"
	KindReversal    = "reversal"
	KindRefund      = "refund"
	KindReservation = "reservation"
	KindCapture     = "capture"
	KindRelease     = "release"
	KindEndOfDay    = "end of day"
)

// Record is one line of the terminal's books. Amounts are minor units.
type Record struct {
	Kind     string `json:"kind"`
	Receipt  int    `json:"receipt"`
	Trace    int    `json:"trace"`
	Original int    `json:"original,omitempty"` // trace of what it is about
	Asked    int64  `json:"asked,omitempty"`
	// Amount is what moved, or is held by a reservation.
	Amount   int64     `json:"amount"`
	Currency int       `json:"currency"` // ISO 4217 number
	Result   int       `json:"result"`   // 0 approved
	Card     string    `json:"card,omitempty"`
	Last4    string    `json:"last4,omitempty"`
	Entry    string    `json:"entry,omitempty"`
	Visit    int       `json:"visit,omitempty"` // of a customer
	At       time.Time `json:"at"`
	// Undone: the terminal reversed it by itself. Reversed: a reversal did.
	Undone   bool `json:"undone,omitempty"`
	Reversed bool `json:"reversed,omitempty"`
	Closed   bool `json:"closed,omitempty"` // by an end of day, or a reservation's end

	status  []byte // its 04 0F, as it was sent
	receipt []string
}

// Books is the terminal's own account, judged without the register's word.
type Books struct {
	Sales         int `json:"sales"`     // approved and not undone by the terminal itself
	Reversals     int `json:"reversals"` // commanded by the register
	Undone        int `json:"undone"`    // by the terminal itself
	Refunds       int `json:"refunds"`
	Captures      int `json:"captures"`
	Declined      int `json:"declined"`
	DoubleCharges int `json:"double_charges"` // payments kept beyond the first of a customer's visit
	// Net is what the merchant gets for each currency number, minor units.
	Net     map[string]int64 `json:"net"`
	Records []Record         `json:"records"`
}

// ledger keeps the records, in a file when it has a path.
type ledger struct {
	mu      sync.Mutex
	path    string
	records []*Record
	trace   int
	receipt int
	last    *Record // what a repeated receipt shows
}

type ledgerFile struct {
	Trace, Receipt int
	Records        []*Record
	Statuses       map[int][]byte // by trace
}

func openLedger(path string) (*ledger, error) {
	l := &ledger{path: path}
	if path == "" {
		return l, nil
	}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return l, os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	var f ledgerFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	l.trace, l.receipt, l.records = f.Trace, f.Receipt, f.Records
	for _, r := range l.records {
		r.status = f.Statuses[r.Trace]
		l.last = r
	}
	return l, nil
}

// save writes the file as a whole. The caller holds mu.
func (l *ledger) save() {
	if l.path == "" {
		return
	}
	f := ledgerFile{l.trace, l.receipt, l.records, map[int][]byte{}}
	for _, r := range l.records {
		f.Statuses[r.Trace] = r.status
	}
	data, err := json.Marshal(f)
	if err != nil {
		return
	}
	tmp := l.path + ".new"
	if os.WriteFile(tmp, data, 0o600) == nil {
		_ = os.Rename(tmp, l.path)
	}
}

// add books a record under the next numbers.
func (l *ledger) add(r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trace = l.trace%999999 + 1
	l.receipt = l.receipt%9999 + 1
	r.Trace, r.Receipt = l.trace, l.receipt
	l.records = append(l.records, r)
	l.last = r
	l.save()
}

// change changes records under the lock.
func (l *ledger) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.save()
}

// find returns the latest approved record with a receipt number and a kind.
func (l *ledger) find(receipt int, kinds ...string) *Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.records) - 1; i >= 0; i-- {
		r := l.records[i]
		if r.Receipt != receipt || r.Result != 0 || r.Undone {
			continue
		}
		if slices.Contains(kinds, r.Kind) {
			return r
		}
	}
	return nil
}

// open lists the receipts of open reservations.
func (l *ledger) open() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []int
	for _, r := range l.records {
		if r.Kind == KindReservation && r.Result == 0 && !r.Undone && !r.Closed {
			out = append(out, r.Receipt)
		}
	}
	return out
}

// booked reports whether a record moves money now.
func (r *Record) booked() bool { return r.Result == 0 && !r.Undone }

// books adds the records up.
func (l *ledger) books() Books {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := Books{Net: map[string]int64{}, Records: []Record{}}
	kept := map[int]int{}
	for _, r := range l.records {
		b.Records = append(b.Records, *r)
		switch {
		case r.Undone:
			b.Undone++
			continue
		case r.Result != 0:
			b.Declined++
			continue
		}
		net := func(n int64) { b.Net[strconv.Itoa(r.Currency)] += n }
		switch r.Kind {
		case KindSale:
			b.Sales++
			net(r.Amount)
		case KindCapture:
			b.Captures++
			net(r.Amount)
		case KindReversal:
			b.Reversals++
			net(-r.Amount)
		case KindRefund:
			b.Refunds++
			net(-r.Amount)
		}
		if r.Visit > 0 && !r.Reversed && (r.Kind == KindSale || r.Kind == KindCapture || r.Kind == KindRefund) {
			if kept[r.Visit]++; kept[r.Visit] > 1 {
				b.DoubleCharges++
			}
		}
	}
	return b
}
