package acquirer

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tillbridge/emv/tlv"
)

// Host judges messages and keeps the books. Its methods are the commands.
type Host struct {
	books *Books
	keys  *keys
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	faults []*Fault
	pins   map[string]string // by token: the card's PIN, for those that were told
	events func(Event)
	gate   chan struct{} // closed by Release
	conns  map[net.Conn]bool
	down   bool
}

// Event is something that a person or a script may wait for.
type Event struct {
	Event     string `json:"event"` // "request", "answer", "connected", "disconnected"
	MTI       string `json:"mti,omitempty"`
	STAN      string `json:"stan,omitempty"`
	Terminal  string `json:"terminal,omitempty"`
	Reference string `json:"reference,omitempty"`
	Code      string `json:"code,omitempty"`
	Fault     string `json:"fault,omitempty"`
}

// request is a decoded request with what the host needs of it.
type request struct {
	m        message
	t        tables
	kind     string
	repeat   bool
	amount   int64
	ref      string
	terminal string
	entry    *Entry   // the new entry, if one was made
	card     cardData // deciphered, in memory only
}

// class is the message class with the repeat digit taken off.
func class(mti string) string { return mti[:3] + "0" }

// handle judges one message and returns the answer. book is false when a fault
// wants the request lost before it was booked.
func (h *Host) handle(m message, f *Fault) (message, *request, error) {
	r := &request{m: m, ref: strings.TrimSpace(m.text(62)), terminal: strings.TrimSpace(m.text(41)), repeat: m.mti[3] == '1'}
	a := message{header: m.header, de: map[int][]byte{}}
	if len(m.header) == 5 { // destination and source of the TPDU change places
		a.header = append(slices.Clone(m.header[:1]), append(slices.Clone(m.header[3:5]), m.header[1:3]...)...)
	}
	var err error
	if r.t, err = parseTables(m.de[63]); err != nil {
		return a, r, err
	}
	if v := m.text(4); v != "" {
		if r.amount, err = strconv.ParseInt(v, 10, 64); err != nil {
			return a, r, bad("DE4 is not a number")
		}
	}
	mti := class(m.mti)
	a.mti = mti[:2] + string(mti[2]+1) + "0"
	for _, id := range []int{3, 4, 7, 11, 24, 41, 42, 49, 62, 70, 90} {
		if v, ok := m.de[id]; ok {
			a.de[id] = v
		}
	}
	now := h.now()
	a.de[12], a.de[13] = []byte(now.Format("150405")), []byte(now.Format("0102"))
	if !number(m.text(11)) || m.text(11) == "" || r.terminal == "" {
		a.de[39] = []byte("30")
		return a, r, nil
	}
	h.books.mu.Lock()
	defer h.books.mu.Unlock()
	switch mti {
	case "0100", "0200":
		h.financial(r, &a, f)
	case "0220":
		h.advice(r, &a, f)
	case "0400", "0420":
		h.reversal(r, &a)
	case "0600":
		h.inquiry(r, &a)
	case "0800":
		a.de[39] = []byte("00")
	default:
		a.de[39] = []byte("12")
	}
	if f != nil && f.Cmd == "decline" && mti != "0100" && mti != "0200" {
		a.de[39] = []byte(f.Code)
	}
	return a, r, h.books.save()
}

// fresh makes the entry of a request, not yet in the books.
func (h *Host) fresh(r *request) *Entry {
	m := r.m
	return &Entry{Kind: r.kind, MTI: m.mti, STAN: m.text(11), Terminal: r.terminal, Merchant: strings.TrimSpace(m.text(42)),
		Time: m.text(13) + m.text(12), UTC: m.text(7), Asked: r.amount, Currency: m.text(49), Reference: r.ref, RRN: h.books.number(), Code: "05"}
}

// known returns the entry of the same message sent before.
func (h *Host) known(r *request) *Entry {
	m := r.m
	return h.books.find(func(e *Entry) bool {
		return class(e.MTI) == class(m.mti) && e.STAN == m.text(11) && e.Terminal == r.terminal && e.Time == m.text(13)+m.text(12)
	})
}

// original finds the entry that a void, capture, refund or reversal names: by
// DE90 (message type, STAN, transmission time), else by DE37, else by the STAN
// and time that the message repeats.
func (h *Host) original(r *request) *Entry {
	m := r.m
	if v := m.text(90); len(v) == 42 && v[:4] != "0000" {
		return h.books.find(func(e *Entry) bool {
			return class(e.MTI) == class(v[:4]) && e.STAN == v[4:10] && e.UTC == v[10:20] && e.Terminal == r.terminal
		})
	}
	if v, ok := r.t["OS"]; ok && len(v) == 20 {
		return h.books.find(func(e *Entry) bool {
			return class(e.MTI) == class(string(v[:4])) && e.STAN == string(v[4:10]) && e.Time == string(v[10:]) && e.Terminal == r.terminal
		})
	}
	if class(m.mti) == "0400" {
		return h.books.find(func(e *Entry) bool {
			return e.STAN == m.text(11) && e.Terminal == r.terminal && e.Time == m.text(13)+m.text(12)
		})
	}
	if rrn := strings.TrimSpace(m.text(37)); rrn != "" {
		return h.books.find(func(e *Entry) bool { return e.RRN == rrn })
	}
	return nil
}

// undone is the name under which a reversal is remembered.
func undone(r *request) string {
	if v := r.m.text(90); len(v) == 42 {
		return r.terminal + "|" + v[4:20]
	}
	return r.terminal + "|" + r.m.text(11) + r.m.text(13) + r.m.text(12)
}

func (h *Host) financial(r *request, a *message, f *Fault) {
	m := r.m
	r.kind = map[string]string{"00": "sale", "09": "sale", "20": "refund", "02": "void", "38": "verify"}[m.text(3)[:min(2, len(m.text(3)))]]
	switch {
	case r.kind == "":
		a.de[39] = []byte("12")
		return
	case class(m.mti) == "0100" && r.kind == "sale":
		r.kind = "authorization"
	}
	if len(m.text(49)) != 3 || r.amount == 0 && r.kind != "verify" {
		a.de[39] = []byte("13")
		return
	}
	if h.known(r) != nil {
		h.books.d.Duplicates++
		a.de[39] = []byte("94")
		return
	}
	e := h.fresh(r)
	r.entry = e
	e.Code = h.judge(r, e, a, f)
	if _, gone := h.books.d.Reversals[r.terminal+"|"+e.STAN+keyTime(m)]; gone && e.stands() {
		e.Code = "12" // its reversal was here before it
	}
	h.book(r, e, a)
	if f != nil && f.Cmd == "wrong_arpc" {
		if v, ok := tlv.Find(a.de[55], 0x91); ok && len(v) > 0 { // v lies in the element
			v[0] ^= 0x80
		}
	}
}

// keyTime is the time under which a reversal of m would be remembered.
func keyTime(m message) string {
	if v := m.text(7); v != "" {
		return v
	}
	return m.text(13) + m.text(12)
}

// advice books what has already happened. A repeat is answered as the first.
func (h *Host) advice(r *request, a *message, f *Fault) {
	r.kind = "advice"
	if strings.TrimSpace(r.m.text(37)) != "" || r.m.text(90) != "" {
		r.kind = "capture"
	}
	if e := h.known(r); e != nil {
		a.de[39] = []byte(e.Code)
		a.de[37] = []byte(e.RRN)
		return
	}
	e := h.fresh(r)
	r.entry = e
	e.Code = h.judge(r, e, a, f)
	h.book(r, e, a)
}

// judge decides on a request and returns DE39.
func (h *Host) judge(r *request, e *Entry, a *message, f *Fault) string {
	card, code := h.card(r, e)
	if code != "" {
		return code
	}
	if card.pan != "" {
		e.Token, e.PAR = h.books.token(card.pan)
		e.Masked = mask(card.pan)
	} else {
		e.Token = string(r.t["TK"])
	}
	o := h.original(r)
	if o != nil && e.Token == "" {
		e.Token, e.PAR, e.Masked = o.Token, o.PAR, o.Masked
	}
	switch r.kind {
	case "void":
		if o == nil {
			return "25"
		}
		e.Original = o.RRN
		if !o.counts() {
			return "12"
		}
		if o.Amount != r.amount || o.Currency != e.Currency {
			return "13"
		}
	case "capture":
		if o == nil || o.Kind != "authorization" {
			return "25"
		}
		e.Original = o.RRN
		if !o.counts() || o.Currency != e.Currency {
			return "12"
		}
	case "refund":
		if o != nil {
			e.Original = o.RRN
			back := r.amount
			for _, x := range h.books.d.Entries {
				if x.Kind == "refund" && x.Original == o.RRN && x.counts() {
					back += x.Amount
				}
			}
			if !o.counts() || back > o.Amount || o.Currency != e.Currency {
				return "13"
			}
		} else if e.Token == "" {
			return "25"
		}
	default:
		if e.Token == "" {
			return "14"
		}
	}
	if f != nil && f.Cmd == "decline" {
		return f.Code
	}
	if f != nil && f.Cmd == "partial" && string(r.t["PT"]) == "1" && f.Amount > 0 && f.Amount < r.amount {
		e.Amount = f.Amount
		a.de[4] = fmt.Appendf(nil, "%0*d", len(r.m.text(4)), f.Amount)
		return "10"
	}
	return "00"
}

// card deciphers card data and PIN and verifies the cryptogram. A code is
// returned where the request must be declined.
func (h *Host) card(r *request, e *Entry) (cardData, string) {
	var c cardData
	e.ARQC, e.PIN = "none", "none"
	if ke, ok := r.t["KE"]; ok {
		env, err := parseEnvelope(string(ke), r.t)
		if err != nil {
			return c, "30"
		}
		if env.ksn != "" && !h.books.spend("data:", env.ksn) {
			return c, "63"
		}
		if env.profile == softwareProfile && env.scheme != "jwe" {
			if err := h.keys.checkMAC(env, r.t); err != nil {
				h.log.Warn("sandbox: card data are refused", "ksn", env.ksn, "err", err)
				return c, "63"
			}
		}
		if env.scheme == "jwe" {
			c, err = h.keys.openJWE(string(r.t["CJ"]))
		} else {
			c, err = h.keys.open(env)
		}
		if err != nil {
			h.log.Warn("sandbox: card data cannot be deciphered", "ksn", env.ksn, "err", err)
			return c, "63"
		}
	}
	if pk := string(r.t["PK"]); len(pk) > 1 {
		if !h.books.spend("pin:", pk[1:]) {
			return c, "63"
		}
		block := r.m.de[52]
		if b, ok := r.t["PB"]; ok {
			block = b
		}
		pin, err := h.keys.pin(pk[1:], int(pk[0]-'0'), block, c.pan)
		if err != nil {
			h.log.Warn("sandbox: the PIN cannot be deciphered", "ksn", pk[1:], "err", err)
			return c, "63"
		}
		e.PIN = "ok"
		token, _ := h.books.token(c.pan)
		h.mu.Lock()
		want, told := h.pins[token]
		h.mu.Unlock()
		if told && want != pin {
			e.PIN = "wrong"
			return c, "55"
		}
	}
	if chip := r.m.de[55]; len(chip) > 0 && c.pan != "" {
		if _, ok := tlv.Find(chip, 0x9F26); ok {
			e.ARQC = "verified"
			if err := h.keys.verify(chip, &c, r.m.text(23)); err != nil {
				h.log.Warn("sandbox: the cryptogram does not verify", "stan", e.STAN, "err", err)
				e.ARQC = "failed"
				return c, "05"
			}
		}
	}
	r.card = c
	return c, ""
}

// book writes the entry and fills the answer.
func (h *Host) book(r *request, e *Entry, a *message) {
	if e.stands() {
		if e.Amount == 0 {
			e.Amount = r.amount
		}
		e.Approval = e.RRN[6:]
		a.de[38] = []byte(e.Approval)
		if e.Kind == "void" {
			if o := h.books.find(func(x *Entry) bool { return x.RRN == e.Original }); o != nil {
				o.VoidedBy = e.RRN
			}
		}
	}
	h.books.d.Entries = append(h.books.d.Entries, e)
	a.de[39], a.de[37] = []byte(e.Code), []byte(e.RRN)
	if r.m.de[55] != nil && r.card.answer != nil {
		if v, err := r.card.answer(e.Code, e.stands()); err == nil {
			a.de[55] = tlv.Append(tlv.Append(nil, 0x8A, []byte(e.Code)), 0x91, v)
		}
	}
	a.addTable("TK", e.Token)
	a.addTable("PR", e.PAR)
	a.addTable("HR", "SBX"+e.RRN)
}

// reversal undoes an entry once and acknowledges it as often as it is told.
func (h *Host) reversal(r *request, a *message) {
	name := undone(r)
	rv := h.books.d.Reversals[name]
	if rv == nil {
		rv = &ReversalEntry{Terminal: r.terminal, Original: name, Reason: string(r.t["RS"])}
		h.books.d.Reversals[name] = rv
	}
	rv.Times++
	if r.repeat {
		rv.Repeats++
	}
	o := h.original(r)
	switch {
	case o == nil:
		rv.Code = "25"
	default:
		rv.Original, rv.Code = o.RRN, "00"
		a.de[37] = []byte(o.RRN)
		if o.stands() && !o.Reversed {
			o.Reversed = true
			if o.Kind == "void" {
				if v := h.books.find(func(x *Entry) bool { return x.VoidedBy == o.RRN }); v != nil {
					v.VoidedBy = ""
				}
			}
		}
	}
	a.de[39] = []byte(rv.Code)
}

// inquiry says what became of an entry.
func (h *Host) inquiry(r *request, a *message) {
	e := h.original(r)
	if e == nil {
		a.de[39] = []byte("25")
		return
	}
	a.de[39], a.de[37] = []byte("00"), []byte(e.RRN)
	state := "D"
	if e.stands() {
		state = "A"
		a.de[38] = []byte(e.Approval)
		if e.Code == "10" {
			a.de[4] = fmt.Appendf(nil, "%0*d", len(r.m.text(4)), e.Amount)
		}
		if !e.counts() {
			state = "R"
		}
	}
	a.addTable("ST", state+e.Code)
	a.addTable("TK", e.Token)
	a.addTable("PR", e.PAR)
	a.addTable("HR", "SBX"+e.RRN)
}
