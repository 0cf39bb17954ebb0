package acquirer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Entry is one request that the host judged. It holds no card number.
type Entry struct {
	RRN       string `json:"rrn"`  // this host's own, twelve digits
	Kind      string `json:"kind"` // sale, authorization, refund, void, capture, verify, advice
	MTI       string `json:"mti"`
	STAN      string `json:"stan"`
	Terminal  string `json:"terminal"`
	Merchant  string `json:"merchant,omitempty"`
	Time      string `json:"time"`          // MMDDhhmmss at the terminal (DE13, DE12)
	UTC       string `json:"utc,omitempty"` // DE7
	Asked     int64  `json:"asked"`         // minor units
	Amount    int64  `json:"amount"`        // approved, minor units; 0 when declined
	Currency  string `json:"currency"`      // ISO 4217 number, three digits
	Reference string `json:"reference,omitempty"`
	Token     string `json:"token,omitempty"`
	PAR       string `json:"par,omitempty"`
	Masked    string `json:"masked,omitempty"` // first six, last four
	Code      string `json:"code"`             // DE39
	Approval  string `json:"approval,omitempty"`
	// Original is the RRN of the entry that a void, capture or refund is about.
	Original string `json:"original,omitempty"`
	Reversed bool   `json:"reversed,omitempty"`
	VoidedBy string `json:"voided_by,omitempty"` // RRN of a void that stands
	ARQC     string `json:"arqc,omitempty"`      // "verified", "failed", "none"
	PIN      string `json:"pin,omitempty"`       // "ok", "wrong", "none"
}

// stands reports whether money moved, or is held, by e.
func (e *Entry) stands() bool { return e.Code == "00" || e.Code == "10" }

func (e *Entry) counts() bool { return e.stands() && !e.Reversed && e.VoidedBy == "" }

// ReversalEntry is one reversal, however often it was sent.
type ReversalEntry struct {
	Terminal string `json:"terminal"`
	Original string `json:"original"` // RRN, or the name of what was not found
	Code     string `json:"code"`
	Times    int    `json:"times"` // messages received about it
	Repeats  int    `json:"repeats"`
	Reason   string `json:"reason,omitempty"`
}

// Summary is what the books say. It is the judge of the demo: not the agent.
type Summary struct {
	Schema string `json:"schema"`
	// Authorisations counts approved sales, authorisations and advices, also
	// those reversed since; Declined the others.
	Authorisations int `json:"authorisations"`
	Declined       int `json:"declined"`
	Reversals      int `json:"reversals"` // entries reversed
	Voids          int `json:"voids"`
	Refunds        int `json:"refunds"`
	// DoubleCharges counts every charge beyond the first that stands (approved,
	// neither reversed nor voided) for the same reference, card, amount and
	// currency, and every capture of an authorisation beyond the first.
	DoubleCharges int `json:"double_charges"`
	// DoubleRefunds counts the same for refunds.
	DoubleRefunds int              `json:"double_refunds"`
	Net           map[string]int64 `json:"net"`  // by ISO 4217 number: charges less refunds
	Held          map[string]int64 `json:"held"` // authorised and not captured
	KSNRepeats    int              `json:"ksn_repeats"`
	ARQCFailed    int              `json:"arqc_failed"`
	Duplicates    int              `json:"duplicate_requests"` // same STAN and time again: not booked
	Entries       []Entry          `json:"entries"`
	Undone        []ReversalEntry  `json:"reversal_entries"`
}

// Books is the ledger. With a path it is written before an answer leaves, and
// a restart reads it again.
type Books struct {
	mu   sync.Mutex
	path string
	d    ledger
}

type ledger struct {
	TokenKey   []byte                    `json:"token_key"`
	Next       int                       `json:"next"`
	Entries    []*Entry                  `json:"entries"`
	Reversals  map[string]*ReversalEntry `json:"reversals"`
	KSNs       map[string]bool           `json:"ksns"`
	KSNRepeats int                       `json:"ksn_repeats"`
	Duplicates int                       `json:"duplicates"`
}

// OpenBooks reads the ledger at path, or begins one there; an empty path keeps
// it in memory.
func OpenBooks(path string) (*Books, error) {
	b := &Books{path: path, d: ledger{Next: 1, Reversals: map[string]*ReversalEntry{}, KSNs: map[string]bool{}}}
	if path != "" {
		raw, err := os.ReadFile(path)
		if err == nil {
			if err := json.Unmarshal(raw, &b.d); err != nil {
				return nil, fmt.Errorf("sandbox: read books %s: %w", path, err)
			}
			return b, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("sandbox: read books: %w", err)
		}
	}
	b.d.TokenKey = make([]byte, 32)
	if _, err := rand.Read(b.d.TokenKey); err != nil {
		return nil, err
	}
	return b, b.save()
}

// save writes the ledger beside itself and renames it. The caller holds mu.
func (b *Books) save() error {
	if b.path == "" {
		return nil
	}
	raw, err := json.Marshal(&b.d)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(b.path), ".books-*")
	if err != nil {
		return fmt.Errorf("sandbox: write books: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), b.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("sandbox: write books: %w", err)
	}
	return nil
}

// token returns the token and payment account reference of a card number.
func (b *Books) token(pan string) (token, par string) {
	m := hmac.New(sha256.New, b.d.TokenKey)
	m.Write([]byte(pan))
	sum := m.Sum(nil)
	return "tok_" + hex.EncodeToString(sum[:12]), "V001" + base32.StdEncoding.EncodeToString(sum)[:25]
}

// spend notes the use of a key serial number and reports whether it is new.
func (b *Books) spend(use, ksn string) bool {
	if k := use + ksn; !b.d.KSNs[k] {
		b.d.KSNs[k] = true
		return true
	}
	b.d.KSNRepeats++
	return false
}

// number allots a retrieval reference number.
func (b *Books) number() string {
	n := b.d.Next
	b.d.Next++
	return fmt.Sprintf("%012d", 700000000000+n)
}

// find returns the last entry for which ok is true.
func (b *Books) find(ok func(*Entry) bool) *Entry {
	for i := len(b.d.Entries) - 1; i >= 0; i-- {
		if ok(b.d.Entries[i]) {
			return b.d.Entries[i]
		}
	}
	return nil
}

// Summary judges the books.
func (b *Books) Summary() Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Summary{Schema: "sandbox-acquirer-books/1", Net: map[string]int64{}, Held: map[string]int64{},
		KSNRepeats: b.d.KSNRepeats, Duplicates: b.d.Duplicates, Entries: []Entry{}, Undone: []ReversalEntry{}}
	charges, refunds, captures := map[string]int{}, map[string]int{}, map[string]int{}
	captured := map[string]int64{}
	for _, e := range b.d.Entries {
		if e.Kind == "capture" && e.counts() {
			captured[e.Original] += e.Amount
		}
	}
	for _, e := range b.d.Entries {
		s.Entries = append(s.Entries, *e)
		if e.ARQC == "failed" {
			s.ARQCFailed++
		}
		if !e.stands() {
			s.Declined++
			continue
		}
		if e.Reversed {
			s.Reversals++
		}
		same := e.Reference + "|" + e.Token + "|" + strconv.FormatInt(e.Asked, 10) + "|" + e.Currency
		switch e.Kind {
		case "sale", "authorization", "advice":
			s.Authorisations++
			if !e.counts() {
				continue
			}
			if e.Reference != "" {
				charges[same]++
			}
			if e.Kind == "authorization" {
				if held := e.Amount - captured[e.RRN]; held > 0 {
					s.Held[e.Currency] += held
				}
				continue
			}
			s.Net[e.Currency] += e.Amount
		case "capture":
			if e.counts() {
				captures[e.Original]++
				s.Net[e.Currency] += e.Amount
			}
		case "refund":
			s.Refunds++
			if e.counts() {
				if e.Reference != "" {
					refunds[same]++
				}
				s.Net[e.Currency] -= e.Amount
			}
		case "void":
			if !e.Reversed {
				s.Voids++
			}
		}
	}
	for _, n := range charges {
		s.DoubleCharges += n - 1
	}
	for _, n := range captures {
		s.DoubleCharges += n - 1
	}
	for _, n := range refunds {
		s.DoubleRefunds += n - 1
	}
	for _, r := range b.d.Reversals {
		s.Undone = append(s.Undone, *r)
	}
	return s
}

func mask(pan string) string {
	if len(pan) < 13 {
		return "***"
	}
	out := []byte(pan)
	for i := 6; i < len(out)-4; i++ {
		out[i] = '*'
	}
	return string(out)
}
