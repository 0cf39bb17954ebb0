package crm

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// maxBody is the largest event that is read.
const maxBody = 1 << 20

// ServeHTTP takes a webhook at any path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	s.record(r, body)
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, refusal{Error: "body too large"})
		return
	}
	if r.Method == http.MethodOptions {
		s.handshake(w, r, body)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		answer(w, http.StatusMethodNotAllowed, refusal{Error: "events are posted"})
		return
	}
	m := s.behave()
	if m.Delay > 0 {
		t := time.NewTimer(m.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		}
	}
	switch m.Name {
	case "throttle":
		w.Header().Set("Retry-After", strconv.Itoa(max(m.RetryAfter, 1)))
		s.books.count(func(l *Ledger) { l.Throttled++ })
		answer(w, http.StatusTooManyRequests, refusal{Error: "too many requests"})
		return
	case "error":
		s.books.count(func(l *Ledger) { l.Errors++ })
		answer(w, m.Status, refusal{Error: "out of order"})
		return
	case "unauthorized":
		s.books.count(func(l *Ledger) { l.Unauthorized++ })
		answer(w, http.StatusUnauthorized, refusal{Error: "key revoked"})
		return
	}
	if problem := s.authentic(r.Header, body, time.Now()); problem != "" {
		s.books.count(func(l *Ledger) { l.Unauthorized++ })
		answer(w, http.StatusUnauthorized, refusal{Error: problem})
		return
	}
	ev, problem := decodeEvent(r.Header, body)
	if problem != "" {
		s.books.count(func(l *Ledger) { l.Rejected++ })
		answer(w, http.StatusBadRequest, refusal{Error: problem})
		return
	}
	if looksLikeCard(body) {
		s.books.count(func(l *Ledger) { l.CardData++; l.Rejected++ })
		answer(w, http.StatusUnprocessableEntity, refusal{Error: "the event holds a card number", ID: ev.ID})
		return
	}
	if m.Name == "reject" && (m.Match == "" || m.Match == ev.Subject) {
		s.books.count(func(l *Ledger) { l.Rejected++ })
		answer(w, m.Status, refusal{Error: "refused by rule", ID: ev.ID})
		return
	}
	known, err := s.books.apply(ev)
	if err != nil {
		answer(w, http.StatusInternalServerError, refusal{Error: "the books cannot be written"})
		return
	}
	if m.Name == "forgetful" {
		// Applied, and the sender never hears of it.
		panic(http.ErrAbortHandler)
	}
	if known {
		answer(w, http.StatusConflict, refusal{Error: "known already", ID: ev.ID})
		return
	}
	answer(w, http.StatusOK, accepted{ID: ev.ID, Ref: "act_" + strconv.Itoa(s.books.ledger().Delivered)})
}

type refusal struct {
	Error string `json:"error"`
	ID    string `json:"id,omitempty"`
}

type accepted struct {
	ID  string `json:"id"`
	Ref string `json:"ref"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// handshake answers OPTIONS as the CloudEvents webhook document says.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, body []byte) {
	if problem := s.authentic(r.Header, body, time.Now()); problem != "" {
		answer(w, http.StatusUnauthorized, refusal{Error: problem})
		return
	}
	if origin := r.Header.Get("WebHook-Request-Origin"); origin != "" {
		w.Header().Set("WebHook-Allowed-Origin", origin)
		w.Header().Set("WebHook-Allowed-Rate", "600")
	}
	w.Header().Set("Allow", "POST, OPTIONS")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) record(r *http.Request, body []byte) {
	if s.o.Record == nil {
		return
	}
	s.recMu.Lock()
	defer s.recMu.Unlock()
	fmt.Fprintf(s.o.Record, "%s %s\n", r.Method, r.URL)
	r.Header.Write(s.o.Record)
	fmt.Fprintf(s.o.Record, "\n%s\n\n", body)
}

// event is what this receiver reads of a CloudEvent.
type event struct {
	SpecVersion  string `json:"specversion"`
	ID           string `json:"id"`
	Source       string `json:"source"`
	Type         string `json:"type"`
	Time         string `json:"time"`
	Subject      string `json:"subject"`
	PartitionKey string `json:"partitionkey"`
	Sequence     string `json:"sequence"`
	Data         struct {
		PaymentID         string `json:"payment_id"`
		OriginalPaymentID string `json:"original_payment_id"`
		AdjustmentSeq     int    `json:"adjustment_seq"`
		Amount            *int64 `json:"amount_minor"`
		Approved          *int64 `json:"approved_minor"`
		Currency          string `json:"currency"`
	} `json:"data"`
}

// decodeEvent reads structured-mode JSON. The text is empty when it is sound.
func decodeEvent(h http.Header, body []byte) (event, string) {
	var ev event
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/cloudevents+json" {
		return ev, "content type is not application/cloudevents+json"
	}
	if err := json.Unmarshal(body, &ev); err != nil {
		return ev, "body is no CloudEvent in JSON"
	}
	switch {
	case ev.SpecVersion != "1.0":
		return ev, "specversion is not 1.0"
	case ev.ID == "" || ev.Source == "" || ev.Type == "":
		return ev, "id, source and type must be there"
	case ev.ID != h.Get("webhook-id"):
		return ev, "webhook-id is not the id of the event"
	}
	if _, err := time.Parse(time.RFC3339Nano, ev.Time); ev.Time != "" && err != nil {
		return ev, "time is not RFC 3339"
	}
	if ev.Sequence != "" {
		if _, err := strconv.ParseUint(ev.Sequence, 10, 64); err != nil {
			return ev, "sequence is no number"
		}
	}
	return ev, ""
}

// looksLikeCard looks for a digit string of 13 to 19 that passes the check
// digit of ISO/IEC 7812-1. It is meant to be simpler than the sender's guard.
func looksLikeCard(b []byte) bool {
	for i := 0; i < len(b); {
		if b[i] < '0' || b[i] > '9' {
			i++
			continue
		}
		j := i
		for j < len(b) && b[j] >= '0' && b[j] <= '9' {
			j++
		}
		if n := j - i; n >= 13 && n <= 19 && b[i] >= '2' && b[i] <= '6' && checkDigit(b[i:j]) {
			return true
		}
		i = j
	}
	return false
}

func checkDigit(digits []byte) bool {
	sum := 0
	for i, c := range digits {
		v := int(c - '0')
		if (len(digits)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}
