package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Result is what the demo prints with --json, schema "demo/1".
type Result struct {
	Schema   string   `json:"schema"`
	Payments Payments `json:"payments"`
	Refunds  int      `json:"refunds"`
	Acquirer Acquirer `json:"acquirer"`
	Terminal Terminal `json:"terminal"`
	Reader   Reader   `json:"reader"`
	CRM      CRM      `json:"crm"`
	Agent    Agent    `json:"agent"`
	Pad      Pad      `json:"pad"`
	Leaks    Leaks    `json:"leaks"`
	// Books are the nets of each party's own books, minor units per currency.
	Books    Books    `json:"books"`
	Problems []string `json:"problems"` // what did not hold; empty when all did
	Elapsed  float64  `json:"elapsed_s"`
}

// Payments counts the till's payments by their last status. Total is the sum
// of the others.
type Payments struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Declined  int `json:"declined"`
	Canceled  int `json:"canceled"`
	Reversed  int `json:"reversed"`
	InDoubt   int `json:"in_doubt"`
}

// Acquirer is what the acquirer's own books say.
type Acquirer struct {
	Authorisations int `json:"authorisations"`
	Reversals      int `json:"reversals"`
	DoubleCharges  int `json:"double_charges"`
}

// Terminal is what the ZVT terminal's own books say.
type Terminal struct {
	Sales         int `json:"sales"`
	Reversals     int `json:"reversals"`
	DoubleCharges int `json:"double_charges"`
	Recovered     int `json:"recovered"` // sales whose answer was lost and asked for
}

// Reader is what happened at the plain chip reader.
type Reader struct {
	Payments int `json:"payments"`
}

// CRM is what the CRM's own ledger says.
type CRM struct {
	Delivered   int `json:"delivered"`
	Redelivered int `json:"redelivered"` // the same id seen again
	Duplicates  int `json:"duplicates"`  // effects applied twice
	OutOfOrder  int `json:"out_of_order"`
	Dead        int `json:"dead"`
}

// Agent is what was measured of the agent's process.
type Agent struct {
	Restarts int `json:"restarts"`
	// StartMS is the slowest start until ready, in milliseconds.
	StartMS int64 `json:"start_ms"`
	// RSSMB is the resident memory of the idle agent in MiB, 0 where the system
	// does not tell.
	RSSMB float64 `json:"rss_mb"`
}

// Pad is what happened to the pad.
type Pad struct {
	Replugs  int   `json:"replugs"`
	ReplugMS int64 `json:"replug_ms"` // from replugged to ready
}

// Leaks is what the scan of every file and request found.
type Leaks struct {
	Artefacts int   `json:"artefacts"`
	Bytes     int64 `json:"bytes"`
	Findings  int   `json:"findings"`
}

// Books are the nets of all parties.
type Books struct {
	Acquirer map[string]int64 `json:"acquirer"`
	Terminal map[string]int64 `json:"terminal"`
	CRM      map[string]int64 `json:"crm"`
}

// judge adds a problem for everything that did not hold.
func (r *Result) judge() {
	bad := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	p := r.Payments
	if p.Total != p.Succeeded+p.Declined+p.Canceled+p.Reversed+p.InDoubt {
		bad("the payments do not add up: %+v", p)
	}
	if p.InDoubt != 0 {
		bad("%d payment(s) in doubt", p.InDoubt)
	}
	if n := r.Acquirer.DoubleCharges + r.Terminal.DoubleCharges; n != 0 {
		bad("%d customer(s) charged twice", n)
	}
	if r.CRM.Duplicates != 0 {
		bad("%d effect(s) applied twice in the CRM", r.CRM.Duplicates)
	}
	if r.CRM.OutOfOrder != 0 {
		bad("%d event(s) out of order in the CRM", r.CRM.OutOfOrder)
	}
	if r.CRM.Dead != 0 {
		bad("%d event(s) given up", r.CRM.Dead)
	}
	if r.Leaks.Findings != 0 {
		bad("%d finding(s) of clear card data, PINs or keys", r.Leaks.Findings)
	}
	if r.Leaks.Artefacts == 0 {
		bad("nothing was searched for card data")
	}
	sum := map[string]int64{}
	for _, books := range []map[string]int64{r.Books.Acquirer, r.Books.Terminal} {
		for c, n := range books {
			sum[c] += n
		}
	}
	for c := range r.Books.CRM {
		sum[c] += 0
	}
	for c, n := range sum {
		if r.Books.CRM[c] != n {
			bad("the books differ in %s: acquirer and terminal hold %s, the CRM %s", c, amount(n), amount(r.Books.CRM[c]))
		}
	}
}

// OK reports whether everything held.
func (r *Result) OK() bool { return len(r.Problems) == 0 }

// Text is the summary for a person.
func (r *Result) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	p := r.Payments
	line("payments", "%d: %d succeeded, %d declined, %d cancelled, %d reversed, %d in doubt; %d refund(s)",
		p.Total, p.Succeeded, p.Declined, p.Canceled, p.Reversed, p.InDoubt, r.Refunds)
	line("acquirer", "%d authorisations, %d reversals, %d double charges; net %s",
		r.Acquirer.Authorisations, r.Acquirer.Reversals, r.Acquirer.DoubleCharges, amounts(r.Books.Acquirer))
	line("terminal", "%d sales, %d reversals, %d double charges, %d lost answer(s) recovered; net %s",
		r.Terminal.Sales, r.Terminal.Reversals, r.Terminal.DoubleCharges, r.Terminal.Recovered, amounts(r.Books.Terminal))
	line("reader", "%d payments with this program's own kernel and software encryption on the PC", r.Reader.Payments)
	line("CRM", "%d delivered, %d redelivered, %d applied twice, %d out of order, %d given up; net %s",
		r.CRM.Delivered, r.CRM.Redelivered, r.CRM.Duplicates, r.CRM.OutOfOrder, r.CRM.Dead, amounts(r.Books.CRM))
	mem := "memory not told by this system"
	if r.Agent.RSSMB > 0 {
		mem = fmt.Sprintf("%.0f MiB resident when idle", r.Agent.RSSMB)
	}
	line("agent", "killed %d time(s), ready in at most %d ms, %s", r.Agent.Restarts, r.Agent.StartMS, mem)
	line("pad", "replugged %d time(s), back in %.1f s", r.Pad.Replugs, float64(r.Pad.ReplugMS)/1000)
	line("leaks", "%d files and requests (%.1f MB) searched: %d findings", r.Leaks.Artefacts, float64(r.Leaks.Bytes)/1e6, r.Leaks.Findings)
	if r.OK() {
		fmt.Fprintf(&b, "Nobody was charged twice, nothing was lost, no card number was found. %.0f s.\n", r.Elapsed)
		return b.String()
	}
	b.WriteString("NOT as it should be:\n")
	for _, s := range r.Problems {
		fmt.Fprintf(&b, "  - %s\n", s)
	}
	return b.String()
}

func amounts(m map[string]int64) string {
	if len(m) == 0 {
		return "0.00"
	}
	var out []string
	for _, c := range sortedKeys(m) {
		out = append(out, amount(m[c])+" "+c)
	}
	return strings.Join(out, ", ")
}

// amount prints minor units of a currency with two digits.
func amount(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
}

func sortedKeys(m map[string]int64) []string { return slices.Sorted(maps.Keys(m)) }
