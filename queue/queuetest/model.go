package queuetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
)

// The workload uses one consumer on one of two topics.
const (
	consumer = "crm"
	topic    = "events"
	other    = "audit"
)

// Rec is what the model knows of a record.
type Rec struct {
	Version uint64
	Body    string
	Status  string
}

// Msg is what the model knows of a message.
type Msg struct {
	Seq      uint64
	Topic    string
	Key      string
	Body     string
	Attempts int // failed ones
}

// Model is the store as a plain Go value.
type Model struct {
	Records map[string]Rec
	Order   []string          // record ids in order of creation
	Claims  map[string]string // key → record id
	Log     []Msg             // attempts unused
	Pending map[uint64]Msg
	Dead    map[uint64]Msg
	Count   int64
	acked   []uint64 // delivered, waiting for a commit
}

// NewModel returns the model of an empty store.
func NewModel() *Model {
	return &Model{Records: map[string]Rec{}, Claims: map[string]string{}, Pending: map[uint64]Msg{}, Dead: map[uint64]Msg{}}
}

// What an Op does.
const (
	opCreate  = iota // claim, new record, one or two messages, counter: one commit
	opUpdate         // record of that version, a message
	opReplay         // a claim that exists: nothing may change
	opAbandon        // writes everything and returns an error: nothing may change
	opAck
	opRetry
	opDead
	opRelease
	opFlush
	opCompact
)

// Op is one step of a workload.
type Op struct {
	Kind   int
	ID     string
	Claim  string
	Key    string // order key
	Status string
	Body   string
	Extra  bool // a message on the other topic as well
	Seq    uint64
}

func (o Op) String() string { return fmt.Sprintf("%+v", struct{ Op }{o}.Op.describe()) }

func (o Op) describe() string {
	names := []string{"create", "update", "replay", "abandon", "ack", "retry", "dead", "release", "flush", "compact"}
	return fmt.Sprintf("%s id=%s key=%q seq=%d body=%d bytes", names[o.Kind], o.ID, o.Key, o.Seq, len(o.Body))
}

var statuses = []string{"pending", "in_progress", "succeeded", "in_doubt"}

// heads are the messages that may be delivered: the first of each key, and all without a key.
func (m *Model) heads() (seqs []uint64) {
	seen := map[string]bool{}
	for _, seq := range slices.Sorted(maps.Keys(m.Pending)) {
		if slices.Contains(m.acked, seq) {
			continue
		}
		k := m.Pending[seq].Key
		if k == "" || !seen[k] {
			seqs = append(seqs, seq)
		}
		seen[k] = true
	}
	return seqs
}

// Next invents the next step. It depends on the model and rng only.
func (m *Model) Next(rng *rand.Rand, settle bool) Op {
	n := len(m.Order)
	body := func() string { return strings.Repeat(string(rune('a'+rng.IntN(26))), rng.IntN(900)) }
	key := []string{"", "c1", "c2", "customer-3"}[rng.IntN(4)]
	for {
		switch kind := rng.IntN(11); kind {
		case 8, 9, 10, opCreate:
			return Op{Kind: opCreate, ID: fmt.Sprint("pay_", n), Claim: fmt.Sprint("key-", n), Key: key, Body: body(),
				Status: statuses[0], Extra: rng.IntN(4) == 0}
		case opUpdate, opAbandon:
			if n > 0 {
				return Op{Kind: kind, ID: m.Order[rng.IntN(n)], Key: key, Body: body(), Status: statuses[rng.IntN(len(statuses))]}
			}
		case opReplay:
			if n > 0 {
				i := rng.IntN(n)
				return Op{Kind: opReplay, ID: m.Order[i], Claim: fmt.Sprint("key-", i)}
			}
		case opAck, opRetry, opDead:
			if heads := m.heads(); len(heads) > 0 && (settle || kind == opAck) {
				return Op{Kind: kind, Seq: heads[rng.IntN(len(heads))]}
			}
		case 7:
			switch rng.IntN(12) {
			case 0:
				return Op{Kind: opCompact}
			case 1:
				return Op{Kind: opFlush}
			}
			if dead := slices.Sorted(maps.Keys(m.Dead)); len(dead) > 0 && settle {
				return Op{Kind: opRelease, Seq: dead[rng.IntN(len(dead))]}
			}
		}
	}
}

// Apply does the step on the model.
func (m *Model) Apply(o Op) {
	if o.Kind != opAck && o.Kind != opReplay && o.Kind != opAbandon && o.Kind != opCompact {
		for _, seq := range m.acked {
			delete(m.Pending, seq)
		}
		m.acked = nil
	}
	post := func(topic string) {
		msg := Msg{Seq: uint64(len(m.Log) + 1), Topic: topic, Key: o.Key, Body: o.Body}
		m.Log = append(m.Log, msg)
		if topic == "events" {
			m.Pending[msg.Seq] = msg
		}
	}
	switch o.Kind {
	case opCreate:
		m.Records[o.ID] = Rec{Version: 1, Body: o.Body, Status: o.Status}
		m.Order = append(m.Order, o.ID)
		m.Claims[o.Claim] = o.ID
		post(topic)
		if o.Extra {
			post(other)
		}
		m.Count++
	case opUpdate:
		r := m.Records[o.ID]
		m.Records[o.ID] = Rec{Version: r.Version + 1, Body: o.Body, Status: o.Status}
		post(topic)
		m.Count++
	case opReplay, opAbandon:
		// The commit has nothing to write, so acknowledgements ride on it alone.
		for _, seq := range m.acked {
			delete(m.Pending, seq)
		}
		m.acked = nil
	case opAck:
		m.acked = append(m.acked, o.Seq)
	case opRetry:
		msg := m.Pending[o.Seq]
		msg.Attempts++
		m.Pending[o.Seq] = msg
	case opDead:
		msg := m.Pending[o.Seq]
		msg.Attempts++
		m.Dead[o.Seq] = msg
		delete(m.Pending, o.Seq)
	case opRelease:
		msg := m.Dead[o.Seq]
		msg.Attempts = 0
		m.Pending[o.Seq] = msg
		delete(m.Dead, o.Seq)
	}
}

// Snapshot is everything that is durable, in a form that compares as text.
func (m *Model) Snapshot() string {
	var b strings.Builder
	for _, id := range m.Order {
		r := m.Records[id]
		fmt.Fprintf(&b, "record %s v%d %s %s\n", id, r.Version, r.Status, digest(r.Body))
	}
	for _, k := range slices.Sorted(maps.Keys(m.Claims)) {
		fmt.Fprintf(&b, "claim %s %s\n", k, m.Claims[k])
	}
	for _, msg := range m.Log {
		fmt.Fprintf(&b, "message %d %s %q %s\n", msg.Seq, msg.Topic, msg.Key, digest(msg.Body))
	}
	line := func(kind string, of map[uint64]Msg) {
		for _, seq := range slices.Sorted(maps.Keys(of)) {
			fmt.Fprintf(&b, "%s %d %q %d\n", kind, seq, of[seq].Key, of[seq].Attempts)
		}
	}
	line("waiting", m.Pending)
	line("dead", m.Dead)
	fmt.Fprintf(&b, "count %d\n", m.Count)
	return b.String()
}

func digest(s string) string {
	if s == "" {
		return "-"
	}
	return fmt.Sprintf("%d%c", len(s), s[0])
}

// Differ returns the lines that only one of two snapshots has, at most ten.
func Differ(got, want string) string {
	count := map[string]int{}
	for l := range strings.SplitSeq(got, "\n") {
		count[l]++
	}
	for l := range strings.SplitSeq(want, "\n") {
		count[l]--
	}
	var out []string
	for l, n := range count {
		if n > 0 {
			out = append(out, "+ "+l)
		} else if n < 0 {
			out = append(out, "- "+l)
		}
	}
	sort.Strings(out)
	return strings.Join(out[:min(10, len(out))], "\n")
}
