package payment

import (
	"fmt"
	"sync"
	"testing"
)

// node is what the explorer visits.
type node struct {
	s State
	f Facts
}

// learnable lists the facts that the world can teach in a node: what is
// physically possible, whatever the table thinks of it.
func learnable(n node) []Facts {
	facts := []Facts{0}
	can := func(f Facts, ok bool) {
		if ok && !n.f.Has(f) {
			facts = append(facts, f)
		}
	}
	can(Armed, n.s.Status == InProgress)
	can(CardApproved, n.f.Has(Armed) && !n.f.Has(Sent))
	can(Sent, n.f.Has(Armed) && (n.s.Status == InProgress || n.s.Status == RequiresConfirmation || n.s.Status == AcceptedOffline))
	answered := n.f.Any(Approved | Denied | NotStarted)
	can(Approved, n.f.Has(Sent) && !answered)
	can(Denied, n.f.Has(Sent) && !answered)
	can(NotStarted, n.f.Has(Sent) && !answered)
	can(Refused, n.f.Has(Approved))
	can(ReversalDurable, n.f.Has(Armed) && !n.s.Final())
	can(ReversalAcked, n.f.Any(ReversalDurable|Changing) && n.s.Status == InDoubt)
	can(Changing, n.s.Status == Succeeded || n.s.Status == Authorized)
	can(LateApproval, n.f.Has(ReversalDurable|Sent))
	can(Decided, n.s.Status == InDoubt)
	return facts
}

var explore = sync.OnceValues(exploreAll)

func exploreAll() (map[node]bool, map[[2]Status]bool) {
	seen, pairs := map[node]bool{}, map[[2]Status]bool{}
	todo := []node{{State{Pending, StageQueued}, 0}}
	push := func(from node, to State, f Facts) {
		if Allowed(from.s, to, f) != nil {
			return
		}
		next := node{to, f}
		if from.s.Status != to.Status {
			pairs[[2]Status{from.s.Status, to.Status}] = true
		}
		if !seen[next] {
			seen[next] = true
			todo = append(todo, next)
		}
	}
	seen[todo[0]] = true
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, learn := range learnable(n) {
			for _, to := range States() {
				push(n, to, n.f|learn)
				// one more fact in the same commit
				for _, more := range learnable(node{n.s, n.f | learn}) {
					push(n, to, n.f|learn|more)
				}
				if n.f.Has(Changing) {
					push(n, to, (n.f|learn)&^Changing)
				}
			}
		}
	}
	return seen, pairs
}

func TestExplorerHoldsTheRules(t *testing.T) {
	seen, _ := explore()
	if len(seen) < 200 {
		t.Fatalf("the explorer visited %d nodes; it cannot have seen the machine", len(seen))
	}
	t.Logf("visited %d states with facts", len(seen))
	rules := []struct {
		name  string
		holds func(n node) bool
	}{
		{"R1: before the authorizing record nothing moved", func(n node) bool {
			return n.f.Has(Armed) || n.s.MoneyMoved() == MovedNo
		}},
		{"R1: past the authorizing record a running payment says unknown", func(n node) bool {
			return n.s.Status != InProgress || !n.f.Has(Armed) || n.s.MoneyMoved() == MovedUnknown
		}},
		{"failed only with proof that nothing was sent", func(n node) bool {
			return n.s.Status != Failed || !n.f.Has(Sent) || n.f.Any(NotStarted|Decided)
		}},
		{"R6: money_moved no is never said over an approval that was not returned", func(n node) bool {
			return n.s.MoneyMoved() != MovedNo || !n.f.Has(Approved) || n.f.Has(ReversalAcked) || n.s.Stage == StageAuthorizationLapsed
		}},
		{"canceled: nothing was sent, or the terminal said so", func(n node) bool {
			return n.s.Status != Canceled || !n.f.Has(Sent) || n.f.Any(Denied|NotStarted)
		}},
		{"succeeded rests on an approval or a person", func(n node) bool {
			return n.s.Status != Succeeded || n.f.Any(Approved|Decided)
		}},
		{"R3: a durable reversal leaves only reversing, held, reversed, and declined once acknowledged", func(n node) bool {
			if !n.f.Has(ReversalDurable) {
				return true
			}
			switch n.s.Status {
			case InDoubt:
				return n.s.Stage == StageReversing || n.s.Stage == StageHeld
			case Reversed:
				return true
			case Declined:
				return n.f.Has(ReversalAcked | Refused)
			}
			return false
		}},
		{"R3: a late approval is never honoured", func(n node) bool {
			return !n.f.Has(LateApproval) || (n.s.Status != Succeeded && n.s.Status != Authorized)
		}},
		{"R5: an offline acceptance is of a payment of which nothing was sent", func(n node) bool {
			return n.s.Status != AcceptedOffline || n.s.Stage == StageForwarding || n.s.Stage == StageHeld || !n.f.Has(Sent)
		}},
		{"reversed: acknowledged, decided, or never sent", func(n node) bool {
			return n.s.Status != Reversed || n.f.Any(ReversalAcked|Decided) || !n.f.Has(Sent)
		}},
		{"a safe retry never follows money that moved or may have moved", func(n node) bool {
			return n.s.Retry() != RetrySafe || n.s.MoneyMoved() == MovedNo || n.s.MoneyMoved() == MovedReturned
		}},
	}
	for _, r := range rules {
		for n := range seen {
			if !r.holds(n) {
				t.Errorf("%s: broken in %s [%s]", r.name, n.s, n.f)
				break
			}
		}
	}
}

func TestExplorerRestartsFromEveryState(t *testing.T) {
	seen, _ := explore()
	for n := range seen {
		to, change := AfterRestart(n.s, n.f)
		if n.s.Final() && change {
			t.Errorf("a restart changes the final %s to %s", n.s, to)
		}
		if !change {
			if n.s.Status == InProgress || n.s.Status == Pending {
				t.Errorf("R2: a restart leaves %s running", n.s)
			}
			continue
		}
		if n.f.Has(Armed) && to.Status != InDoubt {
			t.Errorf("R2: %s [%s] becomes %s after a restart, not in_doubt", n.s, n.f, to)
		}
		if err := Allowed(n.s, to, n.f); err != nil {
			t.Errorf("R2: the restart of %s [%s] is refused: %v", n.s, n.f, err)
		}
	}
}

// TestExplorerEveryDoubtCanEnd: from every node in doubt there is a way to a
// final state.
func TestExplorerEveryDoubtCanEnd(t *testing.T) {
	seen, _ := explore()
	for n := range seen {
		if n.s.Status != InDoubt {
			continue
		}
		ok := false
	search:
		for _, a := range learnable(n) {
			for _, b := range learnable(node{n.s, n.f | a}) {
				for _, to := range States() {
					f := n.f | a | b
					if to.Final() && (Allowed(n.s, to, f) == nil || Allowed(n.s, to, f&^Changing) == nil) {
						ok = true
						break search
					}
				}
			}
		}
		if !ok {
			t.Errorf("no way out of %s [%s]", n.s, n.f)
		}
	}
}

func TestTableIsTheOneOfTheDesign(t *testing.T) {
	_, pairs := explore()
	want := map[[2]Status]bool{}
	for from, tos := range map[Status][]Status{
		Pending:              {InProgress, Canceled, Failed},
		InProgress:           {RequiresConfirmation, Authorized, Succeeded, AcceptedOffline, Declined, Canceled, Failed, InDoubt},
		RequiresConfirmation: {InProgress, Succeeded, Authorized, AcceptedOffline, Declined, Canceled, Failed, InDoubt},
		Authorized:           {Succeeded, Reversed, Declined, InDoubt},
		AcceptedOffline:      {Succeeded, Declined, InDoubt, Reversed},
		InDoubt:              {Succeeded, Authorized, AcceptedOffline, Declined, Reversed, Failed},
		Succeeded:            {Reversed, InDoubt},
	} {
		for _, to := range tos {
			want[[2]Status{from, to}] = true
		}
	}
	for p := range want {
		if !pairs[p] {
			t.Errorf("the design lists %s to %s; no path of the table takes it", p[0], p[1])
		}
	}
	for p := range pairs {
		if !want[p] {
			t.Errorf("the table goes from %s to %s; the design does not list it", p[0], p[1])
		}
	}
}

func TestOperationTableIsTheOneOfTheDesign(t *testing.T) {
	want, got := map[string]bool{}, map[string]bool{}
	for from, tos := range map[Status][]Status{
		Pending:    {InProgress, Canceled, Failed}, // an operation that never began
		InProgress: {Succeeded, Declined, Canceled, Failed, InDoubt},
		InDoubt:    {Succeeded, Declined, Failed},
	} {
		for _, to := range tos {
			want[fmt.Sprint(from, to)] = true
		}
	}
	for _, r := range OperationTransitions {
		if !want[fmt.Sprint(r.From, r.To)] {
			t.Errorf("operation table goes from %s to %s; the design does not list it", r.From, r.To)
		}
		got[fmt.Sprint(r.From, r.To)] = true
	}
	for w := range want {
		if got[w] {
			continue
		}
		t.Errorf("operation table misses %s", w)
	}
	sent := Armed | Sent
	for _, c := range []struct {
		from, to State
		f        Facts
		ok       bool
	}{
		{State{InProgress, StageAuthorizing}, State{Canceled, StageByPOS}, sent, false},
		{State{InProgress, StageAuthorizing}, State{Failed, StageHost}, sent, false},
		{State{InProgress, StageAuthorizing}, State{Succeeded, StageNone}, sent, false},
		{State{InProgress, StageAuthorizing}, State{Succeeded, StageNone}, sent | Approved, true},
		{State{InDoubt, StageQueryingHost}, State{Succeeded, StageNone}, sent, false},
		{State{InDoubt, StageQueryingHost}, State{Declined, StageByIssuer}, sent, false},
		{State{InDoubt, StageReversing}, State{Succeeded, StageNone}, sent | Approved | ReversalDurable, false},
		{State{Succeeded, StageNone}, State{InDoubt, StageReversing}, sent | Approved, false},
	} {
		if err := OperationAllowed(c.from, c.to, c.f); (err == nil) != c.ok {
			t.Errorf("operation %s to %s [%s]: %v", c.from, c.to, c.f, err)
		}
	}
}
